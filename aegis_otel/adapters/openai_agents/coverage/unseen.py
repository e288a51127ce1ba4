"""Find what brings tools to a model past an agent's `tools`: only the model's service sees what those are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aegis_otel.adapters.openai_agents.coverage.tool_kinds import Kind, name_of

STORED_PROMPT = Kind(
    "stored prompt",
    "may bring tools of its own, which run in the model's service: give its text as `instructions` and its "
    "tools as `tools`",
)
REQUEST_FIELD = Kind(
    "request field",
    "is sent to the model's service as it is, and may bring tools that run there: give them as `tools`",
)
CODEX_AGENT = Kind(
    "codex agent",
    "the call that starts it is decided, and its commands and edits are not: limit them with its "
    "`sandbox_mode` and `approval_policy`",
)
CAPABILITY_CLASS = Kind(
    "capability class",
    "makes its tools only for a run: function tools are governed all the same, others may not be",
)

_FIELDS = (
    "tools functions functiondeclarations toolresources mcp mcpservers connectors plugins "
    "websearch websearchoptions enablesearch searchparameters searchoptions googlesearch "
    "googlesearchretrieval codeexecution codeinterpreter datasources"
)
_BRING_TOOLS = frozenset(_FIELDS.split())
"""Names, without case and separators, by which services take tools of their own."""
_ONLY_ON_TOP = frozenset(("prompt", "assistantid", "agentid"))
_MAX_DEPTH = 8
_SDK_CAPABILITIES = "agents.sandbox."

Unseen = tuple[str, Kind]
"""A name, and the kind of thing that has it."""


def of_agent(agent: object) -> Iterator[Unseen]:
    """Yield what the agent itself sends beside its tools."""
    if getattr(agent, "prompt", None) is not None:
        yield "prompt", STORED_PROMPT
    yield from of_settings(getattr(agent, "model_settings", None))


def of_settings(settings: object) -> Iterator[Unseen]:
    """Yield what model settings add to a request, by the names that are known to bring tools."""
    for attribute in ("extra_body", "extra_args"):
        added = getattr(settings, attribute, None)
        if added is None:
            continue
        if not isinstance(added, Mapping):
            yield attribute, REQUEST_FIELD
            continue
        for path in _found(added, (attribute,)):
            yield ".".join(path), REQUEST_FIELD


def of_tool(tool: object) -> Iterator[Unseen]:
    """Yield what a tool starts that calls nothing here."""
    if getattr(tool, "_is_codex_tool", False) is True:
        yield f"what `{name_of(tool)}` does", CODEX_AGENT


def of_capability(capability: object) -> Iterator[Unseen]:
    """Yield a capability that is not the SDK's own: those make function tools and custom tools only."""
    kind = type(capability)
    if not kind.__module__.startswith(_SDK_CAPABILITIES):
        yield f"what `{kind.__name__}` adds", CAPABILITY_CLASS


def _found(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if len(path) > _MAX_DEPTH:
        yield path  # nobody nests so deep who has nothing to hide
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = str(key)
            plain = name.replace("_", "").replace("-", "").lower()
            if inner is None or inner is False:
                continue
            if plain in _BRING_TOOLS or (plain in _ONLY_ON_TOP and len(path) == 1):
                yield (*path, name)
            else:
                yield from _found(inner, (*path, name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _found(inner, path)
