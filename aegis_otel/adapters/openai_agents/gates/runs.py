"""The id of a run of the SDK, which goes with the run when it is saved and resumed.

The SDK has none: a trace may hold many runs, tracing may be off, and some providers number the ids of calls
anew in each conversation. So a run is given one with its first call. It is kept with the run's context,
shared with the contexts that the SDK derives from it, and written into the saved state of a run that waits
for a human.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

RUN_ATTRIBUTE = "_aegis_run"
"""The attribute of a context that holds its `Run`."""
_LONGEST_ID = 64
_MOST_MARKS = 10_000


class Run:
    """One run, across its pauses."""

    def __init__(self, run_id: str | None = None, marks: set[str] | None = None) -> None:
        self.id = run_id or uuid4().hex
        self.restored = marks is not None
        """True where the run comes from a saved text, which somebody may have changed."""
        self.marks = marks if marks is not None else set()
        """Keyed digests of facts about the calls of the run; they are saved with it. Whoever changes the
        saved text can take one away, and is asked again, but cannot make one."""
        self.paused: set[str] = set()
        """Ids of calls that were put to a human in this process."""

    def saved(self) -> dict[str, Any]:
        """Return the run as it stands in a saved state."""
        return {"run": self.id, "marks": sorted(self.marks)}

    @classmethod
    def restore(cls, saved: object) -> Run:
        """Return the run of a saved state; a new one where the text cannot be read."""
        run_id = saved.get("run") if isinstance(saved, dict) else None
        marks = saved.get("marks") if isinstance(saved, dict) else None
        if not isinstance(run_id, str) or not 0 < len(run_id) <= _LONGEST_ID:
            return cls(marks=set())
        if not isinstance(marks, list) or len(marks) > _MOST_MARKS:
            marks = []
        return cls(run_id, {mark for mark in marks if isinstance(mark, str)})


def run_of(context: object) -> Run:
    """Return the run of a context, and begin one where there is none."""
    kept = vars(context)
    run: Run | None = kept.get(RUN_ATTRIBUTE)
    if run is None:
        run = kept[RUN_ATTRIBUTE] = Run()
    return run


def run_id_of(context: object) -> str | None:
    """Return the id of the run of a context, if it has one."""
    run: Run | None = getattr(context, RUN_ATTRIBUTE, None)
    return None if run is None else run.id
