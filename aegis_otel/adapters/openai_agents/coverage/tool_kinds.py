"""Every kind of tool the SDK has, and whether a call of it can be governed."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from agents import (
    CodeInterpreterTool,
    ComputerTool,
    FileSearchTool,
    FunctionTool,
    HostedMCPTool,
    ImageGenerationTool,
    ProgrammaticToolCallingTool,
    ShellTool,
    ToolSearchTool,
    WebSearchTool,
)
from agents.tool import ToolOriginType, get_function_tool_origin

from aegis_otel.adapters.openai_agents.capture.function_tools import INVOKER
from aegis_otel.adapters.openai_agents.capture.local_tools import LOCAL

_BEFORE_WE_HEAR = "runs in the model's service, and is over when this process hears of it: "


class Kind(NamedTuple):
    """What a tool is, and why it cannot be governed or needs no governing, where that is so."""

    name: str
    ungovernable: str | None = None
    harmless: str | None = None


COMPUTER = Kind("computer")
LOCAL_KINDS = {
    owner: Kind(name)
    for owner, name in zip(LOCAL, ("shell", "local shell", "apply_patch", "custom"), strict=True)
}
FUNCTION, MCP, AGENT = Kind("function"), Kind("MCP"), Kind("agent as tool")
HOSTED = {
    WebSearchTool: Kind("web search", _BEFORE_WE_HEAR + "limit it with its `filters`, or remove it"),
    FileSearchTool: Kind("file search", _BEFORE_WE_HEAR + "limit its `vector_store_ids`, or remove it"),
    CodeInterpreterTool: Kind(
        "code interpreter", _BEFORE_WE_HEAR + "use a `ShellTool` with an executor of your own, or remove it"
    ),
    ImageGenerationTool: Kind("image generation", _BEFORE_WE_HEAR + "use a function tool, or remove it"),
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
SEARCH = {
    ToolSearchTool: Kind("tool search", harmless="only finds tools: the calls of what it finds are governed"),
    ProgrammaticToolCallingTool: Kind(
        "programmatic tool calling", harmless="can only call the agent's tools: each call is governed"
    ),
}


def kind_of(tool: object) -> Kind:
    """What `tool` is. Never raises: what is not known here cannot be governed."""
    try:
        return _kind_of(tool)
    except Exception as error:
        return Kind("unknown", f"it cannot be looked at ({type(error).__name__})")


def _kind_of(tool: object) -> Kind:
    if isinstance(tool, FunctionTool):
        return _overridden(tool, FunctionTool, INVOKER) or _origin(tool)
    if isinstance(tool, ShellTool) and tool.environment is not None and tool.environment["type"] != "local":
        return HOSTED_SHELL
    if isinstance(tool, ComputerTool):
        return COMPUTER
    for owner, local in LOCAL.items():
        if isinstance(tool, owner):
            return _overridden(tool, owner, local.attribute) or LOCAL_KINDS[owner]
    for known, kind in (*HOSTED.items(), *SEARCH.items()):
        if isinstance(tool, known):
            return kind
    return Kind("unknown", f"`{type(tool).__name__}` is no kind of tool that aegis-otel knows")


def _origin(tool: FunctionTool) -> Kind:
    origin = get_function_tool_origin(tool)
    if origin is None:
        return FUNCTION
    return {ToolOriginType.MCP: MCP, ToolOriginType.AGENT_AS_TOOL: AGENT}.get(origin.type, FUNCTION)


def _overridden(tool: object, owner: type, *attributes: str) -> Kind | None:
    """A class of the user's that answers in the SDK's place is asked past the capture point."""
    for name in attributes:
        if inspect.getattr_static(type(tool), name, None) is not vars(owner).get(name):
            return Kind(
                "custom class",
                f"`{type(tool).__name__}` overrides `{name}`, where its calls would be governed: "
                "set it on the instance instead",
            )
    return None


def name_of(tool: Any) -> str:
    """What a tool calls itself; never raises."""
    try:
        name = tool.name
    except Exception:
        name = None
    return name if isinstance(name, str) else f"<{type(tool).__name__}>"
