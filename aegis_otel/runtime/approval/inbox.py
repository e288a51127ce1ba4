"""Ask in the inbox: the question waits in shared state, and people answer it in other processes.

All questions of a process that wait are polled together, by one thread: at the same pace for as long as any
waits, so that an answer is found as soon after four hours as after a minute. A poll is one short transaction,
however many questions wait: two queries, by the number of the last change, and the questions that have
changed. It takes 0.03 ms on SQLite and 0.4 ms on PostgreSQL where nothing has changed, and up to 4 ms where
thousands of questions of others have.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary, ref

from aegis_otel.errors import AegisError, StateError
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.governance.approvals.question import ApprovalAnswer, Asked, NobodyToAsk, current_asked
from aegis_otel.governance.approvals.shared_questions import CHANNEL, Answered, SharedQuestions
from aegis_otel.governance.error_text import describe
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval.handler import ApprovalHandler
from aegis_otel.runtime.threads import Threads

_log = logging.getLogger("aegis_otel")
_POLL_S = 0.5
"""Seconds between polls: an answer is found in about half of it, and acted on within a second."""
_AGAIN_S = 0.5
"""Seconds until a state that could not be reached is tried again."""
_judging = Threads("aegis-answers", 2, linger_s=1.0)
"""Check signatures: whoever can write answers into the inbox makes work here, where nothing else waits."""


class InboxApprovalHandler(ApprovalHandler):
    """Asks in the inbox of the Runtime's shared state (docs/approvals.md, "Ask in the inbox").

    A person answers by `aegis approvals`. The answer counts if it is signed with a trusted key, is to this
    very question, and is of somebody who may give it by the policy in force here.
    """

    channel = CHANNEL
    asks_in_inbox = True

    async def request_approval(self, decision: PolicyDecision) -> Sequence[ApprovalAnswer]:  # noqa: ARG002
        asked = current_asked()
        shared = asked.shared
        if shared is None:
            raise NobodyToAsk("this program has no shared state with an inbox")
        until = time.monotonic() + asked.question.timeout
        with _poller(shared).followed(asked.question.decision_id) as changes:
            state = await _put(shared, asked, until)
            changes.seen = state.change
            try:
                return await _answers(shared, asked, state, changes)
            except asyncio.CancelledError:
                over = QuestionStatus.EXPIRED if asked.is_over else QuestionStatus.WITHDRAWN
                shared.end_later(state, over)
                raise
            except Exception:
                shared.end_later(state, QuestionStatus.WITHDRAWN)
                raise


async def _put(shared: SharedQuestions, asked: Asked, until: float) -> QuestionState:
    """Put the question into the inbox, as soon as that can be reached."""

    given_up = threading.Event()
    put_so_far: list[QuestionState] = []

    def put() -> QuestionState:
        left = max(0.001, until - time.monotonic())
        state = shared.put(shared.question(asked.call, "inbox", left))
        put_so_far.append(state)  # before it is asked whether somebody has given up: one of the two sees it
        if given_up.is_set():
            shared.end(state, QuestionStatus.WITHDRAWN)
        return state

    try:
        while True:
            try:
                state = await shared.system.with_state(put)
            except StateError as error:
                asked.out_of_reach = f"nobody could be asked: {describe(error)}"
                await asyncio.sleep(_AGAIN_S)
            else:
                asked.out_of_reach = None
                return state
    except asyncio.CancelledError:
        given_up.set()
        for state in put_so_far:
            shared.end_later(state, QuestionStatus.WITHDRAWN)
        raise


async def _answers(
    shared: SharedQuestions, asked: Asked, state: QuestionState, changes: _Changes
) -> Sequence[ApprovalAnswer]:
    """Return the answers that make a yes, which is then used, or a no; wait until there are such."""
    digest, by = state.digest, shared.new_taker_name()
    while True:
        if state.digest != digest:
            raise NobodyToAsk("its question was replaced in the inbox")
        answered = await _judged(shared, asked, state)
        if answered.judged.outcome == "no":
            shared.end_later(state, QuestionStatus.DENIED)
            return answered.counted
        if answered.judged.outcome == "yes":
            if await _used(shared, asked, state, by):
                return answered.counted
            raise NobodyToAsk("its question has ended, or its yes was used, before it could be used here")
        if state.status.is_answered:
            raise NobodyToAsk(f"its answers do not count here: {answered.why_open}")
        if state.status in (QuestionStatus.WITHDRAWN, QuestionStatus.USED):
            raise NobodyToAsk("somebody has ended its question in the inbox")
        if state.status is QuestionStatus.EXPIRED:
            await asyncio.get_running_loop().create_future()  # until the time is over here, too
        state = await changes.next(asked)


async def _judged(shared: SharedQuestions, asked: Asked, state: QuestionState) -> Answered:
    if not state.answers:
        return shared.judge(state, asked.call)
    try:
        return await _judging.run(lambda: shared.judge(state, asked.call))
    except AegisError as error:
        raise NobodyToAsk(f"its answers cannot be checked: {describe(error)}") from error


async def _used(shared: SharedQuestions, asked: Asked, state: QuestionState, by: str) -> bool:
    while True:
        try:
            used = await shared.system.with_state(lambda: shared.use(state, by))
        except StateError as error:
            asked.out_of_reach = f"it was answered, and the answer could not be used: {describe(error)}"
            await asyncio.sleep(_AGAIN_S)
        else:
            asked.out_of_reach = None
            return used


class _Changes:
    """What becomes of one question; made and read on an event loop, notified by the thread that polls."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._notified = asyncio.Event()
        self._state: QuestionState | None = None
        self._failure: str | None = None
        self.seen = 0
        """The number of the change that was read last; 0 before the question is in the inbox."""
        self.polled = 0
        """The change up to which the thread that polls has seen all of this question."""

    async def next(self, asked: Asked) -> QuestionState:
        """Return the question after its next change; say on `asked` while it cannot be read."""
        while True:
            await self._notified.wait()
            self._notified.clear()
            asked.out_of_reach = self._failure
            state, self._state = self._state, None
            if state is not None:
                return state

    def notify(self, state: QuestionState | None, failure: str | None) -> None:
        with suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._take, state, failure)

    def _take(self, state: QuestionState | None, failure: str | None) -> None:
        self._failure = failure
        if state is not None and state.change > self.seen:
            self.seen, self._state = state.change, state
        self._notified.set()


class _Poller:
    """Polls the waiting questions of one process, for as long as there are any."""

    def __init__(self, shared: SharedQuestions) -> None:
        self._shared = ref(shared)  # which everybody has who follows a question
        self._threads = Threads("aegis-inbox", 1)
        self._lock = threading.Lock()
        self._changes: dict[str, _Changes] = {}
        self._runs = False
        self.pid = os.getpid()

    @contextmanager
    def followed(self, decision_id: str) -> Iterator[_Changes]:
        """Follow a question, which is to be put into the inbox after this has begun."""
        changes = _Changes()
        with self._lock:
            self._changes[decision_id] = changes
            starts, self._runs = not self._runs, True
        try:
            if starts:
                self._start()
            yield changes
        finally:
            with self._lock:
                if self._changes.get(decision_id) is changes:
                    del self._changes[decision_id]

    def _start(self) -> None:
        try:
            self._threads.submit(self._poll)
        except RuntimeError:
            self._runs = False
            raise

    def _poll(self) -> None:
        failed = False
        while True:
            with self._lock:
                followed = dict(self._changes)
                if not followed:
                    self._runs = False
                    return
            try:
                failed = self._notify_all({key: each for key, each in followed.items() if each.seen}, failed)
            except Exception:  # else nothing would be polled any more
                _log.exception("the inbox could not be polled")
            except BaseException:
                with self._lock:
                    self._runs = False
                raise
            time.sleep(_POLL_S)

    def _notify_all(self, followed: dict[str, _Changes], failed: bool) -> bool:
        """Tell those who follow a question what has become of it; return whether that could not be read.

        Args:
            followed: The questions, which are in the inbox.
            failed: Whether they could not be read the last time.
        """
        if not followed:
            return failed
        # A question that is followed since the last poll can have changed before what that has read.
        after = min(max(changes.seen, changes.polled) for changes in followed.values())
        states, failure = self._look(list(followed), after)
        for decision_id, changes in followed.items():
            state = states.get(decision_id)
            if state is not None or failure is not None or failed:
                changes.notify(state, failure)
        if failure is None:
            up_to = max((after, *(state.change for state in states.values())))
            for changes in followed.values():
                changes.polled = max(changes.polled, up_to)
        return failure is not None

    def _look(self, decision_ids: list[str], after: int) -> tuple[dict[str, QuestionState], str | None]:
        shared = self._shared()
        if shared is None:
            return {}, None
        try:
            return shared.reached(lambda: shared.inbox.look(decision_ids, after)), None
        except StateError as error:
            return {}, f"the inbox could not be reached: {describe(error)}"
        except Exception as error:  # else nothing would be polled any more
            _log.exception("the inbox could not be polled")
            return {}, f"the inbox could not be read: {describe(error)}"


_pollers: WeakKeyDictionary[SharedQuestions, _Poller] = WeakKeyDictionary()


def _poller(shared: SharedQuestions) -> _Poller:
    poller = _pollers.get(shared)
    if poller is None or poller.pid != os.getpid():  # what waits in the parent of a fork is the parent's
        poller = _pollers[shared] = _Poller(shared)
    return poller
