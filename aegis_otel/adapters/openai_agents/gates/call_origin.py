"""Make the `Origin` of a call of what the SDK knows of it, for every kind of tool."""

from __future__ import annotations

from typing import Any

from agents import get_current_trace

from aegis_otel.adapters.openai_agents.gates.runs import run_id_of
from aegis_otel.governance.call import Origin


def origin_of(
    tool: str | None,
    call_id: str | None,
    size: int,
    *,
    context: object = None,
    run_config: object = None,
    original_name: str | None = None,
) -> Origin:
    """Return the origin of a call.

    Args:
        tool: What the model calls the tool.
        call_id: The SDK's id of the call.
        size: Of the arguments, in characters.
        context: The context of the run or of the call, where it is known: it has the id of the run.
        run_config: The configuration of the run, where it is known.
        original_name: The tool's own name, where the model calls it by another.
    """
    return Origin(
        tool_name=tool,
        tool_call_id=call_id,
        conversation_id=_conversation_of(run_config),
        size=size,
        run_id=run_id_of(context),
        tool_original_name=original_name,
    )


def _conversation_of(run_config: Any) -> str | None:
    """Return the group of the run: of its configuration, or of the trace it runs in."""
    group = getattr(run_config, "group_id", None)
    if group is None:
        group = getattr(get_current_trace(), "group_id", None)
    return group if isinstance(group, str) else None
