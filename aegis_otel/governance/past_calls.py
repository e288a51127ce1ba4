"""Look up what went before a call, decide by it, and leave the call's marks, where the policy asks for it.

The state is shared by processes and may be far away or gone, so nothing here runs on the event loop. A series
that was asked about stays as it is until the marks of the call are in it. A call that has to leave marks and
cannot is refused: else the limit after it would not hold. Limits that are only monitored do not count here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol, TypeVar

from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import StateError
from aegis_otel.governance.call import Call, Origin, Signals, System, finished, off_loop_if_large
from aegis_otel.governance.error_text import describe
from aegis_otel.governance.evaluation import decide
from aegis_otel.governance.recording import utc
from aegis_otel.model import Action, Mark, Past, PolicyDecision, SeriesQuery, Tally, Where
from aegis_otel.policy import Policy
from aegis_otel.policy.evaluation.precedence import takes_precedence
from aegis_otel.policy.history.series_queries import marks_of, queries_of, usage_of

_log = logging.getLogger("aegis_otel")
_NOT_ASKED = "what went before is not looked up for a call that does not run"
_NO_STATE = "this program has no shared state"
_UNREACHABLE = "the state that limits are kept in cannot be reached"
_TURN_S = 2.0
"""Seconds that a call waits for its turn to ask the state; then it is decided without."""
_LATE_S = _TURN_S + 0.5
"""Seconds after which a call that has not had its turn does not wait for it any more."""
_SETTLED_S = 2.0
"""Seconds that the answer of a tool waits until how its call ended is kept."""
_OUTCOMES = {RecordStatus.SUCCESS: "success", RecordStatus.FAILED: "failed"}
"""How a body that ran has ended, for its marks; of one that is not here it is not known."""


T = TypeVar("T")


class MarkStore(Protocol):
    """Keeps marks for all processes; see `aegis_otel.state`. Every method may wait, and raises StateError."""

    def judge(
        self,
        decision_id: str,
        queries: Sequence[SeriesQuery],
        decide: Callable[[Mapping[SeriesQuery, Tally]], Sequence[Mark]],
        without: Sequence[str] = (),
    ) -> None:
        """Answer the queries, call `decide` with the answers, and keep the marks that it returns.

        Until they are kept, nobody else can ask about these series. In the answers, marks of the decisions in
        `without` do not count.
        """

    def read(
        self, queries: Sequence[SeriesQuery], without: Sequence[str] = ()
    ) -> Mapping[SeriesQuery, Tally]:
        """Return the answers to the queries."""

    def settle(self, decision_id: str, outcome: str | None) -> None:
        """Keep how the body of a call ended, `success` or `failed`; None removes its marks: it never ran."""


class Decided(NamedTuple):
    """A decision by what went before."""

    decision: PolicyDecision
    is_marked: bool = False
    """Whether the call has left marks."""
    failure: str | None = None
    """Why a call that the decision permits could not leave its marks, and must not run."""


def reads_history(policies: Iterable[Policy | None], action: Action) -> bool:
    """Return whether a policy asks what went before such an action, or marks it for later ones."""
    for policy in policies:
        if policy is None or not policy.has_history:
            continue
        if policy.reads_history(action.type, *[each.type for each in action.forms]):
            return True
    return False


class PastCalls:
    """What went before, for the calls of one governor.

    Args:
        state: Has the marks; None where there is none.
        session_id: Of the program.
        system: Has the thread in which marks are settled.
        signals: Are told how much of each limit is used, and of each failure of the state.
    """

    def __init__(self, state: MarkStore | None, session_id: str, system: System, signals: Signals) -> None:
        self._signals = signals
        self._state = state
        self._session_id = session_id
        self._system = system
        self._turn = threading.local()
        """Until when the thread's work may ask the state; see `with_state`."""

    def with_state(self, work: Callable[[], T]) -> Awaitable[T]:
        """Return what `work` returns, which may ask the state, and so runs in threads for that.

        Where it waited long for one of them, the state counts as out of reach: it cannot be asked as often as
        it is wanted. That is so also while none of them ends, as where all wait for a network or a disk.
        """
        until, is_begun = self._system.monotonic() + _TURN_S, threading.Lock()

        def work_by_turn(until: float) -> tuple[T] | None:
            if not is_begun.acquire(blocking=False):
                return None  # another thread does it
            self._turn.until = until
            try:
                return (work(),)
            finally:
                del self._turn.until

        return _first_result(
            self._system.with_state(lambda: work_by_turn(until)),
            lambda: self._system.off_loop(lambda: work_by_turn(-math.inf)),
        )

    def _ask(self, ask: Callable[[MarkStore], T]) -> tuple[T | None, str | None]:
        """Return what the state answers, or why it does not, in words that a model may read.

        The log has the details, such as the address of the state. Work that was not given to `with_state` may
        hold the event loop: it records a call that does not run, and gets no answer.
        """
        if self._state is None:
            return None, _NO_STATE
        until = getattr(self._turn, "until", None)
        if until is None:
            return None, _NOT_ASKED
        try:
            if self._system.monotonic() > until:
                raise StateError(f"it waited for more than {_TURN_S:g} seconds for others that ask the state")
            return ask(self._state), None
        except StateError as error:
            self._signals.state_failed()
            _log.error("a call is decided without what went before it: %s", describe(error))
            return None, _UNREACHABLE

    def read(
        self,
        policy: Policy,
        action: Action,
        origin: Origin,
        marked_by: Policy | None = None,
        outer: Call | None = None,
    ) -> Action:
        """Return the action with what `policy` wants to know of the calls before it. Never raises StateError.

        Args:
            policy: Asks.
            action: What is about to be done.
            origin: Where the call comes from.
            marked_by: The policy in force, where `policy` is another: of what that one does not count,
                nothing is known.
            outer: A call that was decided before, and is the same.
        """
        if not policy.has_history:
            return action
        where = self._where(origin)
        queries = queries_of(policy, action, where)
        if marked_by is not None:
            known = {each.series for each in queries_of(marked_by, action, where)}
            queries = tuple(each for each in queries if each.series in known)
        if not queries:
            return action.with_past(Past(where, {}))
        tallies, failure = self._ask(lambda state: state.read(queries, _ids(outer)))
        return action.with_past(Past(where, tallies or {}, failure))

    def decide(
        self,
        policy: Policy,
        action: Action,
        origin: Origin,
        now_ns: int,
        *,
        decision_id: str,
        runs_next: Callable[[PolicyDecision], bool],
        outer: Call | None = None,
    ) -> Decided:
        """Return what a policy decides about an action with its past. Never raises StateError.

        Nobody else asks about the same past before the marks of the call are kept.

        Args:
            policy: Decides.
            action: What is about to be done.
            origin: Where the call comes from.
            now_ns: The time of the call, in Unix nanoseconds.
            decision_id: Of the call, under which its marks are kept.
            runs_next: Whether the body runs by a decision, so that the call leaves its marks.
            outer: A call that was decided before, and is the same: its marks are not counted, and the call
                leaves none where that one has left as much.
        """
        where, now = self._where(origin), utc(now_ns)
        queries, marks = queries_of(policy, action, where), marks_of(policy, action, where, now)
        for each in _and_outer(outer):
            if each.is_marked:
                there = {mark.series: mark for mark in marks_of(policy, each.decision.action, where, now)}
                marks = tuple(
                    mark
                    for mark in marks
                    if mark.series not in there or mark.run or mark.amount > there[mark.series].amount
                )
        if not queries and not marks:
            return Decided(decide(policy, action.with_past(Past(where, {})), now_ns))
        decided: Decided | None = None

        def judge(tallies: Mapping[SeriesQuery, Tally]) -> Sequence[Mark]:
            nonlocal decided
            decision = decide(policy, action.with_past(Past(where, tallies)), now_ns)
            decided = Decided(decision, is_marked=bool(marks) and runs_next(decision))
            return marks if decided.is_marked else marks_of(policy, action, where, now, is_permitted=False)

        _, failure = self._ask(lambda state: state.judge(decision_id, queries, judge, _ids(outer)))
        if failure is None:
            assert decided is not None, "the state has called back"
            for rule, share in usage_of(policy, decided.decision.action).items():
                self._signals.limit_used(rule, share)
            return decided
        decision = decide(policy, action.with_past(Past(where, {}, failure)), now_ns)
        # A rule that is only monitored stops no call, so its count goes without this one.
        enforced = {each.series for each in marks_of(policy, action, where, now, enforced_only=True)}
        is_needed = any(mark.series in enforced for mark in marks)
        return Decided(decision, failure=failure if is_needed and runs_next(decision) else None)

    def mark(self, policy: Policy, action: Action, origin: Origin, now_ns: int, decision_id: str) -> bool:
        """Leave in a thread the marks of a call that runs without a decision; return whether that may be.

        Only monitor mode runs such a call, so it suffices that later ones know of it. A failure is logged.
        """
        state, where = self._state, self._where(origin)
        if state is None or not reads_history([policy], action):
            return False

        def keep() -> None:
            state.judge(decision_id, (), lambda _: marks_of(policy, action, where, utc(now_ns)))

        return (
            self._in_background(keep, f"that decision {decision_id} runs is not known to later calls")
            is not None
        )

    async def covers(self, outer: Call, policy: Policy, action: Action, origin: Origin) -> bool:
        """Return whether what was decided about a call also is about how it looks behind a wrapper.

        Then that leaves its marks as well, as those of `outer`.

        Args:
            outer: The call of the wrapper, whose body runs.
            policy: Decides about the other.
            action: The same call, as it is seen behind the wrapper.
            origin: Where it comes from.
        """

        def is_covered(decision: PolicyDecision) -> bool:
            return not takes_precedence(decision.verdict, over=outer.decision.verdict)

        def judge() -> bool:
            decided = self.decide(
                policy,
                action,
                origin,
                self._system.now_ns(),
                decision_id=outer.record.decision_id,
                # A body that goes on has left its marks when it began.
                runs_next=lambda decision: is_covered(decision) and not outer.had_begun,
                outer=outer,
            )
            outer.is_marked = outer.is_marked or decided.is_marked
            return decided.failure is None and is_covered(decided.decision)

        if reads_history([policy], action):
            work, cut = await finished(self.with_state(judge))
            if cut is not None:
                raise cut
            return work.result()
        rules = policy.rules_asked(action)
        return await off_loop_if_large(
            self._system, origin.size, lambda: is_covered(policy.evaluate(action)), rules
        )

    def settle(self, decision_id: str, status: RecordStatus, *, never_ran: bool) -> Future[None] | None:
        """Keep in a thread how a marked call has ended; return what ends when it is kept.

        A failure is logged: the outcome of the call is not known then.
        """
        outcome = None if never_ran else _OUTCOMES.get(status)
        state = self._state
        if state is None or (outcome is None and not never_ran):
            return None  # how it ends is not known

        return self._in_background(
            lambda: state.settle(decision_id, outcome),
            f"how decision {decision_id} ended is not known to later calls yet",
        )

    def _in_background(self, keep: Callable[[], None], problem: str) -> Future[None] | None:
        def keep_or_log() -> None:
            try:
                keep()
            except Exception as error:  # whatever it is, the tool has its answer
                self._signals.state_failed()
                _log.error("%s: %s", problem, describe(error))

        try:
            return self._system.in_background(keep_or_log)
        except RuntimeError as error:
            _log.error("%s: %s", problem, describe(error))
            return None

    @staticmethod
    async def settled(settling: Future[None]) -> None:
        """Wait until how a call ended is kept, but not for long: the answer of the tool is there."""
        await asyncio.wait([asyncio.wrap_future(settling)], timeout=_SETTLED_S)

    def _where(self, origin: Origin) -> Where:
        names = origin.conversation_id, origin.whole_run_id or origin.run_id, origin.tool_name
        tokens_run = origin.tokens_run_id or origin.run_id
        return Where(self._session_id, *names, tokens=origin.tokens, tokens_run=tokens_run)


def _first_result(
    first: Awaitable[tuple[T] | None], late: Callable[[], Awaitable[tuple[T] | None]]
) -> Awaitable[T]:
    """Return the result of `first`, or of `late`, which is begun as well where `first` takes long.

    One of them has it, and the other returns None.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    attempts: list[asyncio.Future[tuple[T] | None]] = []

    def add(attempt: Awaitable[tuple[T] | None]) -> None:
        future = asyncio.ensure_future(attempt)
        attempts.append(future)
        future.add_done_callback(pass_on)

    def pass_on(done: asyncio.Future[tuple[T] | None]) -> None:
        error = None if done.cancelled() else done.exception()
        if answer.done():
            return
        if done.cancelled():
            answer.cancel()
        elif error is not None:
            answer.set_exception(error)
        elif (result := done.result()) is not None:
            answer.set_result(result[0])

    def add_late() -> None:
        if answer.done():
            return
        try:
            add(late())
        except RuntimeError as error:  # the process can have no more threads
            answer.set_exception(error)

    def clean_up(answer: asyncio.Future[T]) -> None:
        timer.cancel()
        if answer.cancelled():
            for attempt in attempts:
                attempt.cancel()

    add(first)
    timer = loop.call_later(_LATE_S, add_late)
    answer.add_done_callback(clean_up)
    return answer


def _and_outer(call: Call | None) -> Iterator[Call]:
    while call is not None:
        yield call
        call = call.outer


def _ids(call: Call | None) -> list[str]:
    return [each.record.decision_id for each in _and_outer(call)]
