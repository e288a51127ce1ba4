"""Tool calls whose body is another agent's run, which can stop for a human in the middle of it.

The SDK then has the body return, keeps the inner run beside the call, and later calls the body again,
without the guardrails: one call, in parts.
"""

from __future__ import annotations

from typing import Any

from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.tool_context import ToolContext
from openai.types.responses import ResponseFunctionToolCall


def waits_inside(context: ToolContext[Any]) -> bool:
    """Whether the inner run of this call has stopped for a human.

    So it is before a body that goes on with it, and after a body that has returned and not ended.
    """
    return runs_inside(getattr(context, "tool_call", None), context)


def runs_inside(call: Any, context: Any) -> bool:
    """Whether the inner run of a call has stopped for a human.

    Args:
        call: As the model made it.
        context: Of the run that the call belongs to, or of the call.
    """
    if not isinstance(call, ResponseFunctionToolCall):
        return False  # of a realtime session, where nothing stops inside
    inner = peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))
    return bool(getattr(inner, "interruptions", None))
