"""Find answers in the inbox to questions inside of agents as tools, before the SDK looks for its own.

Where a run is resumed that was paused inside of an agent as a tool, the SDK runs the call of that agent again
once each question inside has an answer in the saved state. Of an answer in the inbox it knows nothing, so it
would ask no check of ours. Here it is told that such a question is answered, for no more than this: the run
inside is resumed then, and its own check of the call decides, as in any other run.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result

from aegis_otel.adapters.openai_agents.gates.runs import RUN_ATTRIBUTE, run_of
from aegis_otel.governance.error_text import traced

_log = logging.getLogger("aegis_otel")
_answered: ContextVar[frozenset[tuple[str, str]]] = ContextVar(
    "aegis_otel_answered_inside", default=frozenset()
)
"""Ids of run and call of the questions inside of the run that is being resumed here which are answered."""


class NestedCall(NamedTuple):
    """A call inside of an agent as a tool, for which its run was paused."""

    tool: Any
    tool_call: Any
    agent: object
    context: Any
    """The context of the run inside, with the program's own object of the run around it."""


async def resume(
    is_answered: Callable[[NestedCall], Awaitable[bool]], original: Callable[..., Awaitable[Any]], **how: Any
) -> Any:
    """Do what the SDK does with a run that is resumed, and say meanwhile which questions inside are answered.

    Args:
        is_answered: Whether the inbox has an answer to the question of a call.
        original: What the SDK does, with what it is given.
    """
    token = _answered.set(frozenset())  # what a run around this one has found is not meant for it
    try:
        found: set[tuple[str, str]] = set()
        try:
            for run in how["processed_response"].functions:
                waiting = list(_waiting_inside(run.tool_call, how["context_wrapper"]))
                if all([await is_answered(call) for call in waiting]):  # each is asked anew, if it must be
                    found.update((run_of(call.context).id, call.tool_call.call_id) for call in waiting)
        except Exception as error:  # the answers that the SDK has count all the same
            _log.error("answers inside of an agent as a tool were not looked up: %s", traced(error))
        _answered.set(frozenset(found))
        return await original(**how)
    finally:
        _answered.reset(token)


def is_answered_inside(context: Any, call_id: str) -> bool:
    """Return whether the question about a call of the run with this context was found answered."""
    found = _answered.get()
    run = getattr(context, RUN_ATTRIBUTE, None) if found else None
    return run is not None and (run.id, call_id) in found


def _waiting_inside(tool_call: Any, context: Any) -> Iterator[NestedCall]:
    """Return the calls inside of one that wait for an answer which the SDK does not have, at any depth."""
    inner: Any = peek_agent_tool_run_result(tool_call, scope_id=get_agent_tool_state_scope(context))
    items = getattr(inner, "interruptions", None) or []
    state: Any = inner.to_state() if items else None
    for item in items:
        its_state, its_item = state._find_nested_approval_state(item) or (state, item)
        named = its_item.tool_name, its_item.call_id
        if its_state._context.get_approval_status(*named, existing_pending=its_item) is not None:
            continue
        for each in its_state._last_processed_response.functions:
            if (each.function_tool.name, each.tool_call.call_id) == named:
                its_context = copy.copy(its_state._context)
                its_context.context = context.context  # so does the SDK where it resumes the run inside
                yield NestedCall(each.function_tool, each.tool_call, its_item.agent, its_context)
