"""The id of a run of the SDK, and marks on its calls; both go with the run when it is saved and resumed.

The SDK has no such id: a trace may hold many runs, tracing may be off, and some providers number the ids of
calls anew in each conversation. So a run is given one with its first call. It is kept with the run's context,
shared with the contexts that the SDK derives from it, and written into the saved state of a run that waits
for a human. Where no class of the SDK is changed, it is kept with the run's usage, and in no saved state.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import uuid4

from aegis_otel.governance.approvals.paused.paused_calls import PausedCalls, ShownCall
from aegis_otel.governance.call import Origin

RUN_ATTRIBUTE = "_aegis_run"
"""The attribute of a context that holds its `Run`; of a run's usage, that holds its id."""
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


class _OuterRun(NamedTuple):
    """The run that a body runs in, for the runs that begin inside of the body, such as that of an agent."""

    id: str
    """The id of the outermost run, where runs are nested."""
    tokens_id: str
    """The id of the run whose tokens `usage` counts."""
    usage: object
    """The SDK's object that counts the tokens. The run of an agent as a tool has the same one."""


_outer_run: ContextVar[_OuterRun | None] = ContextVar("aegis_otel_outer_run", default=None)


class BodyOfRun:
    """The context of the body of a call: runs that begin inside of it are parts of the call's run.

    A class, as `contextlib.contextmanager` would take a microsecond of every call.
    """

    __slots__ = ("_outer", "_token")

    def __init__(self, origin: Origin, context: object) -> None:
        """
        Args:
            origin: Where the call comes from.
            context: The SDK's context of the call.
        """
        self._outer: _OuterRun | None = None
        self._token: Token[_OuterRun | None] | None = None
        if origin.run_id is not None:
            ids = origin.whole_run_id or origin.run_id, origin.tokens_run_id or origin.run_id
            self._outer = _OuterRun(*ids, getattr(context, "usage", None))

    def __enter__(self) -> None:
        if self._outer is not None:
            self._token = _outer_run.set(self._outer)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _outer_run.reset(self._token)


def whole_run_id() -> str | None:
    """Return the id of the outermost run that this context is inside of; None outside of every body."""
    outer = _outer_run.get()
    return None if outer is None else outer.id


def tokens_run_id(context: object) -> str | None:
    """Return the id of the run with whose tokens those of a context are counted; None where it is its own."""
    outer, usage = _outer_run.get(), getattr(context, "usage", None)
    return outer.tokens_id if outer is not None and usage is not None and usage is outer.usage else None


def run_of(context: object) -> Run:
    """Return the run of a context, and begin one where there is none."""
    fields = vars(context)
    run: Run | None = fields.get(RUN_ATTRIBUTE)
    if run is None:
        run = fields[RUN_ATTRIBUTE] = Run()
    return run


def run_id_of(context: object) -> str | None:
    """Return the id of the run of a context, if it has one.

    Where no class of the SDK is changed, nothing carries a `Run` from one context to the next. There a run is
    known by what the SDK counts its tokens in, which its contexts share, also with an agent as a tool.
    """
    run: Run | None = getattr(context, RUN_ATTRIBUTE, None)
    if run is not None:
        return run.id
    usage: Any = getattr(context, "usage", None)
    fields: dict[str, Any] | None = getattr(usage, "__dict__", None)
    if fields is None:
        return None
    if RUN_ATTRIBUTE not in fields:
        # A program may make a context for one call. A run of its own for each would never reach a limit.
        has_requests = bool(getattr(usage, "requests", None))
        if not has_requests and getattr(context, "run_config", None) is None:
            return None
    run_id: str = fields.setdefault(RUN_ATTRIBUTE, uuid4().hex)
    return run_id
