"""Carry the id of a run along with the run: into contexts that the SDK derives, and into saved states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents import RunContextWrapper, RunState, run_state

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.gates.runs import RUN_ATTRIBUTE, Run, run_of

SAVED = "aegis"
"""The member of a saved state that holds the run."""


def install(patches: Patches) -> None:
    """Carry the id of each run along from now on."""
    # Every context that the SDK derives from that of a run passes here: of a fork, a hook, a call.
    patches.wrap(RunContextWrapper, "_share_tool_state_with", _share)
    # `to_string` ends here, too; and the reading of either ends in the second.
    patches.wrap(RunState, "to_json", _save)
    patches.wrap(run_state, "_build_run_state_from_json", _restore)


def _share(original: Callable[..., None], context: RunContextWrapper[Any], target: Any) -> None:
    original(context, target)
    vars(target)[RUN_ATTRIBUTE] = run_of(context)


def _save(original: Callable[..., dict[str, Any]], state: Any, **how: Any) -> dict[str, Any]:
    saved = original(state, **how)
    run: Run | None = getattr(state._context, RUN_ATTRIBUTE, None)
    if run is not None and (run.marks or state.get_interruptions()):
        saved[SAVED] = run.saved()
    return saved


async def _restore(original: Callable[..., Any], *values: Any, **named: Any) -> Any:
    state = await original(*values, **named)
    saved = named["state_json"] if "state_json" in named else values[1]
    if state._context is not None:
        vars(state._context)[RUN_ATTRIBUTE] = Run.restore(saved.get(SAVED))
    return state
