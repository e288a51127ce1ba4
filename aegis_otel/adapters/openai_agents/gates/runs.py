"""The id of a run of the SDK, and marks on its calls; both go with the run when it is saved and resumed.

The SDK has no such id: a trace may hold many runs, tracing may be off, and some providers number the ids of
calls anew in each conversation. So a run is given one with its first call. It is kept with the run's context,
shared with the contexts that the SDK derives from it, and written into the saved state of a run that waits
for a human.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import uuid4

from aegis_otel.governance.paused_calls import PausedCalls, ShownCall

RUN_ATTRIBUTE = "_aegis_run"
"""The attribute of a context that holds its `Run`."""
_LONGEST_ID = 64
_MOST_MARKS = 10_000


class Mark(StrEnum):
    """A fact about a call, by which a yes out of a saved run counts for a tool's own question."""

    PAUSED = "call"
    """The run was paused for the call, in a governed process."""
    PAUSED_AGAIN = "asked"
    """The run was paused again, for a call out of a saved text, which counts only with a yes of its own."""
    APPROVED = "yes"
    """A human said yes to the call, in a governed process."""
    ALWAYS_APPROVED = "always"
    """A human said yes to every call of the tool by that agent, in a governed process."""


class Run:
    """One run, across its pauses."""

    def __init__(
        self, run_id: str | None = None, marks: set[str] | None = None, subject: str | None = None
    ) -> None:
        self.id = run_id or uuid4().hex
        self.restored = marks is not None
        """True where the run comes from a saved text, which somebody may have changed."""
        self.marks = marks if marks is not None else set()
        """Keyed digests of the marks on calls. Whoever changes the saved text can take one away, and is
        asked again, but cannot make one."""
        self.subject = subject
        """A keyed digest of whom it was paused for last; None where that was not known."""
        self.paused: set[str] = set()
        """Ids of calls that were put to a human in this process."""

    def add(self, mark: Mark, call: ShownCall, paused_calls: PausedCalls) -> None:
        """Mark a call; without a key nothing is marked, and a saved yes is asked for again."""
        if (digest := self._digest(mark, call, paused_calls)) is not None:
            self.marks.add(digest)

    def has(self, mark: Mark, call: ShownCall, paused_calls: PausedCalls) -> bool:
        """Return whether a call has a mark."""
        return self._digest(mark, call, paused_calls) in self.marks

    def _digest(self, mark: Mark, call: ShownCall, paused_calls: PausedCalls) -> str | None:
        about = (call.tool, call.agent) if mark is Mark.ALWAYS_APPROVED else call
        return paused_calls.run_digest(self.id, mark.value, *about)

    def saved(self) -> dict[str, Any]:
        """Return the run as it stands in a saved state."""
        saved = {"run": self.id, "marks": sorted(self.marks)}
        return saved if self.subject is None else {**saved, "subject": self.subject}

    @classmethod
    def restore(cls, saved: object) -> Run:
        """Return the run of a saved state; a new one where what is saved is not usable."""
        run_id = saved.get("run") if isinstance(saved, dict) else None
        marks = saved.get("marks") if isinstance(saved, dict) else None
        if not isinstance(run_id, str) or not 0 < len(run_id) <= _LONGEST_ID:
            return cls(marks=set())
        if not isinstance(marks, list) or len(marks) > _MOST_MARKS:
            marks = []
        subject = saved.get("subject") if isinstance(saved, dict) else None
        marks = {mark for mark in marks if isinstance(mark, str)}
        return cls(run_id, marks, subject if isinstance(subject, str) else None)


def run_of(context: object) -> Run:
    """Return the run of a context, and begin one where there is none."""
    fields = vars(context)
    run: Run | None = fields.get(RUN_ATTRIBUTE)
    if run is None:
        run = fields[RUN_ATTRIBUTE] = Run()
    return run


def run_id_of(context: object) -> str | None:
    """Return the id of the run of a context, if it has one."""
    run: Run | None = getattr(context, RUN_ATTRIBUTE, None)
    return None if run is None else run.id
