"""One governed call, the end of its body, and the ports through which the governor reaches the world.

The governor is part of the pure core: it knows a clock, a journal, an approver and signals only as the
protocols below; `runtime.audit`, `telemetry.recorder`, `runtime.approval` and `runtime.system` are these.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Outcome, PolicyDecision


class Failure(NamedTuple):
    """Why a body did not succeed, although it returned."""

    kind: str
    """Low in cardinality: `error.type`."""
    text: str
    """For the row's `result_error`; not yet redacted."""


class Cancelled(Enum):
    """The states that a body may be in when it is cancelled."""

    NOT_BEGUN = auto()
    """It never will: it waited for a thread."""
    STOPPED = auto()
    """It ran on the event loop, which has stopped it."""
    GOES_ON = auto()
    """It runs in a thread, and is reported when it ends."""


OnEnd = Callable[[BaseException | None, object], None]
"""Called once with the exception of the body, or None, and with what it returned."""


class Ending:
    """Follows one call's body in threads to its end, also where nobody waits for it. Safe in any thread.

    Cancelling a coroutine does not stop the thread that it waits for: the work goes on and takes effect. Who
    runs such a body reports here when it begins and ends, and the governor asks when it is cancelled.

    Args:
        whole: Whether what runs in a thread is the whole body. Else part of it is on the event loop, and the
            end of a thread is not the end of the body.
        tells_begin: Whether the body is sure to report that it begins.
    """

    __slots__ = ("_begun", "_given_up", "_last", "_lock", "_on_end", "_running", "_tells_begin", "_whole")

    def __init__(self, *, whole: bool, tells_begin: bool) -> None:
        self._whole = whole
        self._tells_begin = tells_begin
        self._lock = threading.Lock()
        self._running = 0
        self._begun = False
        self._given_up = False
        self._last: tuple[BaseException | None, object] = (None, None)
        self._on_end: OnEnd | None = None

    def begin(self) -> bool:
        """Report that the body begins; return False where it no longer may."""
        with self._lock:
            if self._given_up:
                return False
            self._begun = True
            self._running += 1
            return True

    def begin_on_loop(self) -> None:
        """Report that the body begins on the event loop, where nobody has to ask how it goes on."""
        self._begun = True

    def give_up(self) -> bool:
        """Return whether the body has not begun, and see to it that it does not: its call has failed."""
        with self._lock:
            if self._begun or not self._tells_begin:
                return False
            self._given_up = True
            return True

    def end(self, error: BaseException | None, value: object) -> None:
        """Report that the body has ended."""
        on_end = None
        with self._lock:
            self._running -= 1
            self._last = (error, value)
            if not self._running:
                on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(error, value)

    def cancel(self, on_end: OnEnd) -> Cancelled:
        """Return what a body that is cancelled now was doing.

        Args:
            on_end: Called from its thread when it ends, or at once where it just has.
        """
        with self._lock:
            if self._running:
                self._on_end = on_end
                return Cancelled.GOES_ON
            if not self._begun:
                self._given_up = True
                return Cancelled.NOT_BEGUN if self._whole else Cancelled.STOPPED
            last = self._last
        if not self._whole:
            return Cancelled.STOPPED
        on_end(*last)
        return Cancelled.GOES_ON


T = TypeVar("T")


class Origin(msgspec.Struct, frozen=True):
    """Where a call comes from: what the SDK knows of it."""

    tool_name: str | None = None
    """As the model calls it."""
    tool_call_id: str | None = None
    conversation_id: str | None = None
    size: int = 0
    """Length of the arguments as text; large ones are prepared off the event loop."""
    run_id: str | None = None
    """The id of the run that the call belongs to; a run that is saved and resumed keeps it."""
    tool_original_name: str | None = None
    """The tool's own name, where the model calls it by another."""
    tokens: int | None = None
    """The tokens that the run has used so far."""
    whole_run_id: str | None = None
    """The id of the outermost run around this one, which began in a tool of it; None: `run_id`."""
    tokens_run_id: str | None = None
    """The id of the run whose `tokens` these are; None: `run_id`."""


NOWHERE = Origin()
"""The origin of an action that no SDK called."""


@dataclass(slots=True, eq=False)
class Call:
    """The state of one call while it lives. Made and changed by the governor only."""

    decision: PolicyDecision
    origin: Origin
    started_ns: int
    """Unix time in nanoseconds at which the call reached us; spans start here."""
    record: AuditRecord
    """The folded row so far, redacted: the only source for signals and journal lines."""
    arguments: bytes
    """The encoded, unredacted arguments, to be digested again before the body runs."""
    shown: bytes = b"{}"
    """The redacted arguments as JSON, whole, where the row may have them cut: what a human is asked about."""
    stamped_ns: int = 0
    """Unix time in nanoseconds of its last journal line."""
    evaluation_s: float = 0.0
    """Seconds the policy took, the first time it was asked."""
    outcome: Outcome | None = None
    """None until the decision is final."""
    status: RecordStatus = RecordStatus.PENDING
    refusal: str | None = None
    """What the model reads when the body must not run; None when it may."""
    refused_for: str | None = None
    """What a refused call's `Result` says: as what the model reads, without the tag."""
    error_type: str | None = None
    """Low-cardinality cause, where the outcome is an error or the body failed."""
    failure: Failure | None = None
    """What went wrong in a body that returned."""
    goes_on: bool = False
    """Whether its body runs on in a thread, though the call was cancelled."""
    channel: str | None = None
    """Where a human was asked; None when nobody was."""
    announced: bool = False
    """Whether the final decision was reported to the signals, which happens once."""
    fault: Refusal | None = None
    """Why it must be refused, whatever the policy says, where that was found while it was decided."""
    is_marked: bool = False
    """Whether the call has left marks for later ones, and how it ends is not kept with them yet."""
    is_end_known: bool = True
    """Whether later calls may be decided by how it ended: somebody saw the whole of it."""
    outer: Call | None = None
    """The call of a wrapper around the same body, decided before; its marks are not counted for this one."""
    settling: Future[None] | None = None
    """Ends when how the call ended is kept with its marks."""
    is_begun: bool = False
    """Whether its first line was given to the journal, and what follows says only what has changed."""
    is_written: bool = False
    """Whether the last line is in the journal, also where a change of policy before it is not."""
    prior: Waiting | None = None
    """The waiting call that this one continues, under the same id; None where no human was waited for."""
    signal: Any = field(default=None, repr=False)
    """What telemetry keeps with the call: its span."""

    def stamp(self, now_ns: int) -> int:
        """Return the time of the next journal line, later than the last one's whatever the clock does."""
        self.stamped_ns = max(now_ns, self.stamped_ns + 1_000)
        return self.stamped_ns

    @property
    def had_begun(self) -> bool:
        """Return whether its body began before it was paused, and so has done what it did until then."""
        return self.prior is not None and self.prior.started

    @property
    def tool(self) -> str:
        """Return the tool's name for signals."""
        return tool_of(self.record)


def tool_of(record: AuditRecord) -> str:
    """Return the tool's name for signals: the SDK's, or the action type outside of the SDK; redacted."""
    return record.tool_name or record.action_type or ""


class System(Protocol):
    """The clock, ids and facts of the process."""

    @property
    def host(self) -> str:
        """Return the name of this machine, redacted."""

    @property
    def service(self) -> str | None:
        """Return `service.name` of OpenTelemetry's resource, redacted."""

    def pid(self) -> int:
        """Return the id of this process."""

    def now_ns(self) -> int:
        """Return the Unix time in nanoseconds."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""

    def new_id(self) -> str:
        """Return a new decision id; ids sort by time."""

    def off_loop(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run `work` where it does not hold the event loop."""

    def with_state(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run `work` in threads for nothing but what may wait for the state that processes share."""

    def in_background(self, work: Callable[[], None]) -> Future[None]:
        """Run `work` in a thread, after all that was given to it before; without an event loop, too."""


class Approver(Protocol):
    """Asks a human. See `runtime.approval.ApprovalHandler`."""

    @property
    def channel(self) -> str:
        """Return where the human is asked, as signals name it."""

    @property
    def approver(self) -> str | None:
        """Return who answers, where an answer does not say it."""

    @property
    def asks_one_person(self) -> bool:
        """Return whether `approver` is the only person that it asks, by a yes or a no."""

    @property
    def asks_in_inbox(self) -> bool:
        """Return whether it asks in the inbox, where people also give grants."""

    async def request_approval(self, decision: PolicyDecision) -> object:
        """Return the answer: a bool, an `ApprovalAnswer`, or a list of those of several persons.

        Anything else counts as no.
        """


class Journal(Protocol):
    """Makes records durable."""

    def append(self, record: AuditRecord) -> None:
        """Write one line. On return it survives the death of the process.

        Raises:
            ChangeNotWritten: the line was written, and a change of policy before it was not.
            AuditError: nothing, or nothing readable, was written.
        """

    def mark(self) -> int | None:
        """Return the argument of `sync`, before lines are appended; None where nobody waits for a line."""

    def sync(self, mark: int) -> Awaitable[None]:
        """Wait until what was appended since `mark` survives what the user asked for.

        Raises:
            AuditError: it may not.
        """

    def digest(self, payload: bytes) -> str:
        """Return the keyed digest of `payload` (`hmac-sha256:` and hex).

        Raises:
            AuditError: there is no key.
        """

    def prove(self, row: AuditRecord, line: AuditRecord) -> str:
        """Return the proof of the answer on `line` to the question of `row`.

        Raises:
            AegisError: there is no key.
        """

    def keyed(self, kind: str, *parts: str | None) -> str:
        """Return a digest of `parts` that only a process with the key can make.

        Raises:
            AegisError: there is no key.
        """

    def waiting(self, call_id: str) -> list[Waiting]:
        """Return the calls with this id, as records have it, that wait for a human. Raises AuditError."""

    def waiting_row(self, decision_id: str) -> Waiting | None:
        """Return the row of a decision; None where it waits for no human. Raises AuditError."""

    def knows(self, decision_id: str) -> bool:
        """Return whether there is a row with this id, sealed or not. Raises AuditError."""

    def take_over(
        self,
        record: AuditRecord,
        *,
        inside: bool = False,
        only: Callable[[Waiting], bool] | None = None,
    ) -> Waiting | None:
        """Claim the waiting call that matches `record` and may go on: nobody else can claim it then.

        Args:
            record: The record of the call that comes back.
            inside: Whether it continues a body that has begun; else only an approved call can be claimed.
            only: Returns which calls may be claimed; None: all of them.

        Raises:
            AuditError: the journal cannot be read, or the claim not be written.
        """

    def take(self, found: Waiting, record: AuditRecord) -> Waiting:
        """Claim a waiting call for the call of `record`, inside of `answering`; raises AuditError."""

    def answering(self, asked: Waiting) -> AbstractContextManager[Waiting]:
        """Return a context with the waiting call as it is now, in which only the caller can answer it.

        Raises:
            AuditError: it waits no more, or the journal cannot be read.
        """


class Signals(Protocol):
    """Reports calls to telemetry, in the order in which things happen. The governor isolates its failures."""

    def opened(self, call: Call) -> None:
        """Start `govern_tool`, now that the verdict is known; put its trace and span id on the record."""

    def awaiting(self, call: Call) -> AbstractContextManager[None]:
        """Return a context that lasts for as long as a human is asked."""

    def decided(self, call: Call) -> None:
        """Emit the one event and count the decision, which is final now."""

    def suspended(self, call: Call) -> None:
        """Report a question to a human whose answer no process waits for."""

    def answered(self, call: Call) -> None:
        """Report the answer to such a question; it is on the record."""

    def executing(self, call: Call) -> AbstractContextManager[None]:
        """Return a context that lasts for as long as the body runs; our span is current in it."""

    def closed(self, call: Call) -> None:
        """End `govern_tool`: the call has its last status."""

    def recorded(self) -> None:
        """Count that the journal took the first line of a call."""

    def write_failed(self, call: Call, error: BaseException) -> None:
        """Report that the journal refused a line of this call."""

    def hook_failed(self) -> None:
        """Count that a user's hook raised."""

    def candidate_failed(self) -> None:
        """Count that the candidate policy could not be asked about a call."""

    def limit_used(self, rule: str, share: float) -> None:
        """Measure how much of a rule's limit is used with a call; 1 is all of it."""

    def state_failed(self) -> None:
        """Count that the shared state could not be used."""

    def grant_used(self, call: Call, grant_id: str) -> None:
        """Report that a grant covers a call; the yes is on its record."""


async def finished(work: Awaitable[T]) -> tuple[asyncio.Future[T], asyncio.CancelledError | None]:
    """Wait for work to end, also where the one who waits is cancelled meanwhile.

    For work in a thread, which no cancellation stops, and whose effects are to be known.

    Returns:
        The work, which has ended, and the cancellation, which is left to be raised.
    """
    future, cut = asyncio.ensure_future(work), None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cut = error
    if not future.cancelled():
        future.exception()  # else asyncio would log it where nobody asks for the result
    return future, cut


LARGE_ARGUMENTS = 4_096
"""Characters of arguments from which on they are read, judged, encoded, redacted and digested in a thread,
because the event loop must not be held. Plain text takes 1 ms per 300 kB; text that is nothing but secrets,
1 ms per 2 kB (`benchmarks/loop_stall.py`)."""


MANY_RULES = 100
"""Rules for one type of action from which on it is decided in a thread, too: where the schema of a tool says
nothing, each takes up to 20 us."""


async def off_loop_if_large(system: System, size: int, work: Callable[[], T], rules: int = 0) -> T:
    """Do work that takes longer the more arguments and rules there are: in a thread where they are many.

    Args:
        system: Has the threads.
        size: Of the arguments, in characters.
        work: What to do.
        rules: That it compares the arguments with.
    """
    return await system.off_loop(work) if is_large(size, rules) else work()


def is_large(size: int, rules: int = 0) -> bool:
    """Return whether work on arguments of `size` characters, compared by `rules`, belongs in a thread."""
    return size >= LARGE_ARGUMENTS or rules >= MANY_RULES
