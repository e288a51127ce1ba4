"""Tool calls whose body is another agent's run, which can stop for a human in the middle of it.

The SDK then has the body return, keeps the inner run beside the call, and later calls the body again,
without the guardrails: one call, in parts.
"""

from __future__ import annotations

from typing import Any

from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.tool_context import ToolContext


def waits_inside(context: ToolContext[Any]) -> bool:
    """Whether the inner run of this call has stopped for a human.

    So it is before a body that goes on with it, and after a body that has returned and not ended.
    """
    call = getattr(context, "tool_call", None)
    inner = call and peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))
    return bool(getattr(inner, "interruptions", None))
