"""From what the model sent to the `Action` the policy sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agents import FunctionTool
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.defaults import fill_defaults
from aegis_otel.model import Action
from aegis_otel.runtime.call import Origin
from aegis_otel.runtime.refusal import NOT_AN_OBJECT, Refusal


class ActionFactory:
    """Makes the Action of each call of one tool: arguments parsed as the SDK does, defaults filled in."""

    def __init__(self, tool: FunctionTool, action_type: str, action_target: str, description: str) -> None:
        self._type = action_type
        self._target = action_target
        self._description = description
        self._schema: Mapping[str, Any] = tool.params_json_schema
        # Most tools have none, and walking a schema on each call costs more than deciding.
        self._has_defaults = '"default"' in json.dumps(self._schema, default=str)

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


def origin_of(context: ToolContext[Any], arguments: str) -> Origin:
    """What the SDK knows of the call."""
    run_config = context.run_config
    return Origin(
        tool_name=context.tool_name,
        tool_call_id=context.tool_call_id,
        conversation_id=None if run_config is None else run_config.group_id,
        size=len(arguments),
    )
