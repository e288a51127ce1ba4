"""Every kind of tool and handoff of the SDK, and whether its calls can be governed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

from agents import (
    CodeInterpreterTool,
    FileSearchTool,
    FunctionTool,
    Handoff,
    HostedMCPTool,
    ImageGenerationTool,
    ProgrammaticToolCallingTool,
    ShellTool,
    ToolSearchTool,
    WebSearchTool,
)
from agents.tool import ToolOriginType, get_function_tool_origin

from aegis_otel.adapters.openai_agents.capture.function_tools import INVOKER
from aegis_otel.adapters.openai_agents.gates.local_tool_kinds import LOCAL_TOOL_KINDS, ComputerProxy
from aegis_otel.runtime.placement import can_write_files

GOVERNED_HANDOFF = "_aegis_original"
"""The attribute of a governed copy's `on_invoke_handoff` that holds the one of the user's own handoff."""
_HOSTED_REASON = "runs in the model's service and has ended before this process sees it: "


class Kind(NamedTuple):
    """What a tool is, and why it cannot be governed or needs no governing, where that is so."""

    name: str
    ungovernable: str | None = None
    harmless: str | None = None


FUNCTION, MCP, AGENT = Kind("function"), Kind("MCP"), Kind("agent as tool")
LOCAL = {kind.tool: Kind(kind.name) for kind in LOCAL_TOOL_KINDS}
MCP_SERVER, SANDBOX = Kind("MCP server"), Kind("sandbox")
AGENT_CLASS = Kind(
    "agent class",
    "comes from an overridden `get_all_tools` and cannot be listed here: function tools are governed all the "
    "same, others may not be: put them in `tools`, or use `govern_agent`",
)
HANDOFF = Kind("handoff", harmless="does nothing itself: the tools of the agent it leads to are governed")
HANDOFF_CODE = Kind(
    "handoff with code",
    "runs your code (`on_handoff`, `on_invoke_handoff`) without a decision of the policy: "
    "move that code to a function tool",
)
SEARCH = {
    ToolSearchTool: Kind("tool search", harmless="only finds tools: the calls of what it finds are governed"),
    ProgrammaticToolCallingTool: Kind(
        "programmatic tool calling", harmless="can only call the agent's tools: each call is governed"
    ),
}
HOSTED = {
    WebSearchTool: Kind("web search", _HOSTED_REASON + "limit it with its `filters`, or remove it"),
    FileSearchTool: Kind("file search", _HOSTED_REASON + "limit its `vector_store_ids`, or remove it"),
    CodeInterpreterTool: Kind(
        "code interpreter", _HOSTED_REASON + "use a `ShellTool` with an executor of your own, or remove it"
    ),
    ImageGenerationTool: Kind("image generation", _HOSTED_REASON + "use a function tool, or remove it"),
    HostedMCPTool: Kind(
        "hosted MCP",
        "the model's service calls the server itself: connect to it from here with `mcp_servers=[...]`, or "
        "answer its approval requests yourself (`require_approval`, `on_approval_request`)",
    ),
}
HOSTED_SHELL = Kind(
    "hosted shell",
    "its commands run in a container of the model's service: give it an `executor` to run them here",
)
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
    "the call that starts it is decided, but its commands and edits are not: limit them with its "
    "`sandbox_mode` and `approval_policy`",
)
CAPABILITY_CLASS = Kind(
    "capability class",
    "makes its tools only during a run: function tools are governed all the same, others may not be",
)


def unknown(error: Exception) -> Kind:
    """Return the kind of what raised `error` when it was inspected."""
    return Kind("unknown", f"it cannot be looked at ({type(error).__name__})")


def kind_of(tool: object) -> Kind:
    """Return the kind of `tool`. Never raises: a tool of an unknown kind cannot be governed."""
    try:
        return _kind_of(tool)
    except Exception as error:
        return unknown(error)


def is_hosted(tool: object) -> bool:
    """Return whether calls of `tool` are carried out by the model's service, where no policy is asked."""
    return kind_of(tool) in (*HOSTED.values(), *SEARCH.values(), HOSTED_SHELL)


def _kind_of(tool: object) -> Kind:
    if isinstance(tool, FunctionTool):
        origin = get_function_tool_origin(tool)
        kinds = {ToolOriginType.MCP: MCP, ToolOriginType.AGENT_AS_TOOL: AGENT}
        made = FUNCTION if origin is None else kinds.get(origin.type, FUNCTION)
        return _custom_class(tool, FunctionTool, INVOKER) or made
    if isinstance(tool, ShellTool) and tool.environment is not None and tool.environment["type"] != "local":
        return HOSTED_SHELL
    for local in LOCAL_TOOL_KINDS:
        if isinstance(tool, local.tool):
            on_class = local.proxy is not ComputerProxy
            overrides = _custom_class(tool, local.tool, local.attribute) if on_class else None
            return overrides or LOCAL[local.tool]
    for known, kind in (*HOSTED.items(), *SEARCH.items()):
        if isinstance(tool, known):
            return kind
    return Kind("unknown", f"`{type(tool).__name__}` is no kind of tool that aegis-otel knows")


def _custom_class(tool: object, owner: type, attribute: str) -> Kind | None:
    """Return the kind of a tool whose class overrides the attribute by which its calls are governed."""
    if inspect.getattr_static(type(tool), attribute, None) is vars(owner).get(attribute):
        return None
    return Kind(
        "custom class",
        f"`{type(tool).__name__}` overrides `{attribute}`, where its calls would be governed: "
        "set it on the instance instead",
    )


def kind_of_handoff(handoff: object) -> Kind:
    """Return the kind of a handoff: only one of the SDK without `on_handoff` is known to run no code."""
    if not isinstance(handoff, Handoff):
        return HANDOFF  # an agent
    try:
        invoke: Any = handoff.on_invoke_handoff
        invoke = getattr(invoke, GOVERNED_HANDOFF, invoke)
        parts = (invoke.func, *invoke.args) if isinstance(invoke, functools.partial) else (invoke,)
        made_by_sdk = all(
            part.__module__ in ("agents.handoffs", "agents.realtime.handoffs") for part in parts
        )
        runs_code = inspect.getclosurevars(parts[-1]).nonlocals["on_handoff"] is not None
        return HANDOFF if made_by_sdk and not runs_code else HANDOFF_CODE
    except Exception:  # made in a way not known here
        return HANDOFF_CODE


def target_of_handoff(handoff: object) -> object:
    """Return the agent that a handoff leads to; None where that is known only when it is invoked."""
    if not isinstance(handoff, Handoff):
        return handoff
    reference = getattr(handoff, "_agent_ref", None)
    return None if reference is None else reference()


def name_of(thing: Any) -> str:
    """Return the name of a tool or an agent, or else of its class. Never raises."""
    try:
        name = thing.name
    except Exception:
        name = None
    return name if isinstance(name, str) else f"<{type(thing).__name__}>"


def writing_tools(tools: Iterable[Any]) -> list[str]:
    """Return the names of the tools that run in this process and can write files."""
    writers = tuple(kind.tool for kind in LOCAL_TOOL_KINDS if kind.writes_files)
    return [
        name
        for tool, name in ((tool, name_of(tool).replace("`", "'")) for tool in tools)
        if isinstance(tool, writers)
        or (isinstance(tool, FunctionTool) and can_write_files(name, tool.params_json_schema))
    ]
