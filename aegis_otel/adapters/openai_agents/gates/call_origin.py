"""Make the `Origin` of a call of what the SDK knows of it, for every kind of tool."""

from __future__ import annotations

from typing import Any

from agents import get_current_trace

from aegis_otel.adapters.openai_agents.gates.runs import run_id_of, tokens_run_id, whole_run_id
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
        tokens=_tokens_of(context),
        whole_run_id=whole_run_id(),
        tokens_run_id=tokens_run_id(context),
    )


def _tokens_of(context: object) -> int | None:
    """Return the tokens that the run has used, as the SDK counts them after each answer of the model.

    A call comes out of such an answer, so none at all means that the model's provider does not count them.
    """
    tokens = getattr(getattr(context, "usage", None), "total_tokens", None)
    return tokens if isinstance(tokens, int) and tokens > 0 else None


def _conversation_of(run_config: Any) -> str | None:
    """Return the group of the run: of its configuration, or of the trace it runs in."""
    group = getattr(run_config, "group_id", None)
    if group is None:
        group = getattr(get_current_trace(), "group_id", None)
    return group if isinstance(group, str) else None
