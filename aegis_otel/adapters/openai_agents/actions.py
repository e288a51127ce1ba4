"""From what the model sent to the `Action` the policy sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from agents import FunctionTool, get_current_trace
from agents.tool import get_function_tool_origin
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.approvals.runs import run_id_of
from aegis_otel.adapters.openai_agents.defaults import fill_defaults
from aegis_otel.model import Action
from aegis_otel.policy.globs import compile_glob
from aegis_otel.runtime.call import Origin
from aegis_otel.runtime.refusal import NOT_AN_OBJECT, Refusal

Targets = Mapping[str, str]
"""By tool name, or a pattern with `*` and `?`: what rules match as `match.target`. The first match counts."""

DEFAULT_TARGET = "default"


class ActionFactory:
    """Makes the Action of each call of one tool: arguments parsed as the SDK does, defaults filled in."""

    def __init__(
        self, schema: Mapping[str, Any], action_type: str, action_target: str, description: str
    ) -> None:
        self._type = action_type
        self._target = action_target
        self._description = description
        self._schema = schema
        # Most tools have none, and walking a schema on each call costs more than deciding.
        self._has_defaults = '"default"' in json.dumps(schema, default=str)

    def make(self, arguments: str, agent: str | None) -> tuple[Action, Refusal | None]:
        """The action, and why it must be refused if its arguments are no JSON object.

        Arguments that cannot be read are kept as they came, for the audit row only.
        """
        try:
            # The json module, as in the SDK: what is judged here is what the body is given.
            params = json.loads(arguments) if arguments else {}
            if not isinstance(params, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            return self._action({"": arguments}, agent), NOT_AN_OBJECT
        if self._has_defaults:
            fill_defaults(params, self._schema, self._schema)
        return self._action(params, agent), None

    def _action(self, params: dict[str, Any], agent: str | None) -> Action:
        return Action(self._type, self._target, params, self._description, agent=agent, schema=self._schema)


class LiveTool(Protocol):
    """A way to a tool that keeps it from nobody's garbage collector."""

    def __call__(self) -> FunctionTool | None: ...


class LiveActions:
    """The actions of a tool as it is when it is called: it may be renamed, its schema replaced."""

    def __init__(self, tool: LiveTool, targets: Targets) -> None:
        self.tool = tool
        self._targets = targets
        self._made_for: tuple[str, int] | None = None
        self._factory: ActionFactory | None = None

    def make(self, arguments: str, agent: str | None) -> tuple[Action, Refusal | None]:
        """As `ActionFactory.make`; type is the tool's name, target as `target_of` says."""
        tool = self.tool()
        if tool is not None:
            now = (tool.name, id(tool.params_json_schema))
            if self._factory is None or self._made_for != now:
                target = target_of(tool, self._targets)
                self._factory = ActionFactory(tool.params_json_schema, tool.name, target, tool.description)
                self._made_for = now
        if self._factory is None:
            raise LookupError("the tool is gone")
        return self._factory.make(arguments, agent)


def target_of(tool: FunctionTool, targets: Targets) -> str:
    """What rules match as `match.target`: by `targets`, else the tool's namespace, MCP server or agent."""
    named = named_target(tool.name, targets)
    if named is not None:
        return named
    if tool.qualified_name != tool.name:
        return tool.qualified_name.removesuffix(f".{tool.name}")
    origin = get_function_tool_origin(tool)
    if origin is None:
        return DEFAULT_TARGET
    return origin.mcp_server_name or origin.agent_name or DEFAULT_TARGET


def named_target(name: str, targets: Targets) -> str | None:
    """What `targets` says of a tool of that name."""
    return next((target for glob, target in targets.items() if compile_glob(glob).matches(name)), None)


def origin_of(context: ToolContext[Any], arguments: str) -> Origin:
    """What the SDK knows of the call."""
    return Origin(
        tool_name=getattr(context, "tool_name", None),
        tool_call_id=getattr(context, "tool_call_id", None),
        conversation_id=conversation_of(getattr(context, "run_config", None)),
        size=len(arguments),
        run_id=run_id_of(context),
    )


def conversation_of(run_config: Any) -> str | None:
    """The group of the run: of its configuration, or of the trace it runs in."""
    group = getattr(run_config, "group_id", None)
    if group is None:
        group = getattr(get_current_trace(), "group_id", None)
    return group if isinstance(group, str) else None
