"""Walk over everything that an agent can do: its tools, its handoffs, and what brings tools unseen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from agents.agent import AgentBase
from agents.sandbox import SandboxAgent

from aegis_otel.adapters.openai_agents.coverage import tool_kinds
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import Kind, kind_of, name_of, target_of_handoff

ALL_TOOLS = "get_all_tools"
GOVERNED_MODE = "_aegis_mode"
"""The attribute of a governed agent's class that holds the mode in which its tools are governed."""

_TOOL_FIELDS = frozenset(
    (
        *("tools", "functions", "functiondeclarations", "toolresources", "mcp", "mcpservers", "connectors"),
        *("plugins", "websearch", "websearchoptions", "enablesearch", "searchparameters", "searchoptions"),
        *("googlesearch", "googlesearchretrieval", "codeexecution", "codeinterpreter", "datasources"),
    )
)
"""Names of request fields, without case and separators, by which services take tools of their own."""
_TOP_FIELDS = frozenset(("prompt", "assistantid", "agentid"))
"""Names of request fields that bring tools at the top of a request only."""
_MAX_DEPTH = 8


class Ability(NamedTuple):
    """Something that an agent can do, or that brings tools to it."""

    agent: str
    name: str
    kind: Kind
    tool: object = None
    """The tool, where it is one."""


def reachable_agents(agent: object) -> Iterator[object]:
    """Yield `agent`, then every agent that it reaches by handoffs and agents as tools, each one once."""
    waiting: list[object] = [agent]
    seen: dict[int, object] = {}
    while waiting:
        agent = waiting.pop(0)
        if id(agent) in seen:
            continue
        seen[id(agent)] = agent
        yield agent
        tools = items(agent, "tools")
        inside = (
            getattr(tool, "_agent_instance", None) for tool in tools if kind_of(tool) is tool_kinds.AGENT
        )
        handed = map(target_of_handoff, items(agent, "handoffs"))
        waiting += [each for each in (*inside, *handed) if each is not None]


def declared_abilities(agent: object) -> Iterator[Ability]:
    """Yield everything that `agent` is declared to have; MCP servers and capabilities as a whole."""
    name = name_of(agent)
    for attribute, error in unreadable(agent):
        yield Ability(name, attribute, tool_kinds.unknown(error))
    yield from abilities(agent, items(agent, "tools"))
    for server in items(agent, "mcp_servers"):
        yield Ability(name, f"every tool of `{name_of(server)}`", tool_kinds.MCP_SERVER)
    capabilities = items(agent, "capabilities")
    if capabilities:
        yield Ability(name, "every tool of its capabilities", tool_kinds.SANDBOX)
    for kind in map(type, capabilities):
        if not kind.__module__.startswith("agents.sandbox."):  # those make function and custom tools only
            yield Ability(name, f"what `{kind.__name__}` adds", tool_kinds.CAPABILITY_CLASS)


def abilities(agent: object, tools: Iterable[object]) -> Iterator[Ability]:
    """Yield what `agent` can do in a turn in which it has `tools`."""
    name = name_of(agent)
    for tool in tools:
        yield Ability(name, name_of(tool), kind_of(tool), tool)
        if _read(tool, "_is_codex_tool") is True:
            yield Ability(name, f"what `{name_of(tool)}` does", tool_kinds.CODEX_AGENT)
    if _read(agent, "prompt") is not None:
        yield Ability(name, "prompt", tool_kinds.STORED_PROMPT)
    settings = _read(agent, "model_settings")
    if isinstance(settings, Exception):
        yield Ability(name, "?", tool_kinds.unknown(settings))
    else:
        yield from request_fields(name, settings)
    if _makes_tools(agent):
        yield Ability(name, f"what `{type(agent).__name__}` adds", tool_kinds.AGENT_CLASS)
    for handoff in items(agent, "handoffs"):
        target = target_of_handoff(handoff)
        known = name_of(target) if target is not None else str(getattr(handoff, "agent_name", "?"))
        yield Ability(name, f"to `{known}`", tool_kinds.kind_of_handoff(handoff))


def request_fields(agent: str, settings: object) -> Iterator[Ability]:
    """Yield the fields that model settings add to a request and that are known to bring tools."""
    try:
        for attribute in ("extra_body", "extra_args"):
            added = getattr(settings, attribute, None)
            if added is not None:
                paths = _tool_fields(added, (attribute,)) if isinstance(added, Mapping) else [(attribute,)]
                for path in paths:
                    yield Ability(agent, ".".join(path), tool_kinds.REQUEST_FIELD)
    except Exception as error:
        yield Ability(agent, "?", tool_kinds.unknown(error))


def _tool_fields(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if len(path) > _MAX_DEPTH:
        yield path  # too deep for an honest request
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            name = str(key)
            plain = name.replace("_", "").replace("-", "").lower()
            if inner is None or inner is False:
                continue
            if plain in _TOOL_FIELDS or (plain in _TOP_FIELDS and len(path) == 1):
                yield (*path, name)
            else:
                yield from _tool_fields(inner, (*path, name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tool_fields(inner, path)


def _makes_tools(agent: object) -> bool:
    """Return whether code of the user's, an own `get_all_tools`, brings tools that this walk cannot see."""
    if not isinstance(agent, AgentBase):
        return False
    asked = next(each for each in type(agent).__mro__ if ALL_TOOLS in vars(each))
    known = asked in (AgentBase, SandboxAgent) or GOVERNED_MODE in vars(asked)
    return not known or ALL_TOOLS in vars(agent)


def items(agent: object, attribute: str) -> list[Any]:
    """Return what is in a list of an agent; nothing where there is no such list. Never raises."""
    try:
        value = getattr(agent, attribute, None)
        return list(value) if isinstance(value, Iterable) else []
    except Exception:
        return []


def unreadable(agent: object) -> list[tuple[str, Exception]]:
    """Return the lists of an agent that cannot be read, and why; what is in them is unknown."""
    found = ((attribute, _read(agent, attribute)) for attribute in ("tools", "mcp_servers", "handoffs"))
    return [(attribute, value) for attribute, value in found if isinstance(value, Exception)]


def _read(thing: object, attribute: str) -> Any:
    try:
        return getattr(thing, attribute, None)
    except Exception as error:  # code of the user's
        return error
