"""Runs of the SDK, told apart: an id that goes with a run when it is saved and resumed.

The SDK has none: a trace may hold many runs, and tracing may be off. So a run is given one with its first
call. It is kept with the run's context, shared with the contexts that the SDK derives from it, and written
into the saved state of a run that waits for a human.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from agents import RunContextWrapper, RunState, run_state

from aegis_otel.adapters.openai_agents.patches import Patches

SAVED = "aegis"
"""The member of a saved state that is ours."""
_KEPT = "_aegis_run"
_LONGEST_ID = 64
_MOST_MARKS = 10_000


class Run:
    """One run, across its pauses."""

    def __init__(self, run_id: str | None = None, marks: set[str] | None = None) -> None:
        self.id = run_id or uuid4().hex
        self.restored = marks is not None
        """True where it comes from a text, which somebody may have changed."""
        self.marks = marks if marks is not None else set()
        """Keyed digests of what is known of its calls; they are saved with it."""
        self.paused: set[str] = set()
        """Ids of calls that were put to a human in this process."""

    def saved(self) -> dict[str, Any]:
        """Return what is saved of the run."""
        return {"run": self.id, "marks": sorted(self.marks)}

    @classmethod
    def restore(cls, saved: object) -> Run:
        """Return the run of a saved state; a new one where the text says nothing that can be read."""
        run_id = saved.get("run") if isinstance(saved, dict) else None
        marks = saved.get("marks") if isinstance(saved, dict) else None
        if not isinstance(run_id, str) or not 0 < len(run_id) <= _LONGEST_ID:
            return cls(marks=set())
        if not isinstance(marks, list) or len(marks) > _MOST_MARKS:
            marks = []
        return cls(run_id, {mark for mark in marks if isinstance(mark, str)})


def run_of(context: object) -> Run:
    """Return the run of a context; it begins here where there is none yet."""
    kept = vars(context)
    run: Run | None = kept.get(_KEPT)
    if run is None:
        run = kept[_KEPT] = Run()
    return run


def run_id_of(context: object) -> str | None:
    """Return the id of the run of a context, if it has one."""
    run: Run | None = getattr(context, _KEPT, None)
    return None if run is None else run.id


def install(patches: Patches) -> None:
    """Have the id of a run go where the SDK takes the run."""
    for owner, name, made in (
        (RunContextWrapper, "_share_tool_state_with", _share),
        (RunState, "to_json", _save),
        (run_state, "_build_run_state_from_json", _restore),
    ):
        original = getattr(owner, name)
        patches.set(owner, name, functools.wraps(original)(made(original)))


def _share(original: Callable[..., None]) -> Callable[..., None]:
    def share(self: RunContextWrapper[Any], target: RunContextWrapper[Any]) -> None:
        original(self, target)
        vars(target)[_KEPT] = run_of(self)

    return share


def _save(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def to_json(self: Any, **how: Any) -> dict[str, Any]:
        saved = original(self, **how)
        run: Run | None = getattr(self._context, _KEPT, None)
        if run is not None and (run.marks or self.get_interruptions()):
            saved[SAVED] = run.saved()
        return saved

    return to_json


def _restore(original: Callable[..., Any]) -> Callable[..., Any]:
    async def build(*values: Any, **named: Any) -> Any:
        state = await original(*values, **named)
        saved = named["state_json"] if "state_json" in named else values[1]
        if state._context is not None:
            vars(state._context)[_KEPT] = Run.restore(saved.get(SAVED))
        return state

    return build
