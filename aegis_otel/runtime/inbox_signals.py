"""Report what happens in an inbox: events of what this process does there, metrics of what all do.

Several processes share an inbox, and each of them reports all of it. So nobody has to run for that alone, and
the questions of saved runs, for which no process waits, are counted as well.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from weakref import ref

from aegis_otel.errors import StateError
from aegis_otel.governance.approvals.inbox import Answer, QuestionStatus, SignedAnswer
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.engine import SharedState
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from aegis_otel.telemetry.instruments import InboxReadings
from aegis_otel.telemetry.recorder import Recorder

_log = logging.getLogger("aegis_otel")
_READ_EVERY_S = 15.0
_FINAL = tuple(status for status in QuestionStatus if status.is_over)


class ReportedInbox(StateInbox):
    """An inbox whose metrics are reported by this process, and whose events are where this process acts.

    Args:
        state: Has the inbox.
        recorder: Reports it.
    """

    def __init__(self, state: SharedState, recorder: Recorder) -> None:
        super().__init__(state)
        self._recorder = recorder
        self._meter = InboxMeter(self, recorder)
        recorder.watch_inbox(self._meter)

    def answer(self, signed: SignedAnswer, answer: Answer) -> QuestionStatus:
        recorder, decision_id = self._recorder, answer.decision_id
        status = super().answer(signed, answer)  # what is refused comes to `refuse`
        with suppress(StateError):  # it is in the inbox, whatever is reported
            recorder.answer_given(self.inbox_id(), decision_id, approved=answer.approved)
            if answer.grant is not None and self.has_grant(decision_id):
                recorder.grant_given(self.inbox_id(), decision_id)
        return status

    def refuse(self, decision_id: str, approver: str, why: str) -> bool:
        is_new = super().refuse(decision_id, approver, why)
        if is_new:  # else whoever sends a form again and again would report as often
            with suppress(StateError):
                self._recorder.answer_refused(self.inbox_id(), decision_id, why)
        return is_new

    def expire(self) -> tuple[str, ...]:
        ended = super().expire()
        with suppress(StateError):
            for decision_id in ended:
                self._recorder.question_expired(self.inbox_id(), decision_id)
        return ended

    def revoke(self, grant_id: str, by: str) -> bool:
        held = super().revoke(grant_id, by)
        if held:
            with suppress(StateError):
                self._recorder.grant_revoked(self.inbox_id(), grant_id)
        return held


class InboxMeter:
    """Reads an inbox when its metrics are collected, at most every 15 seconds, in a thread of the state.

    A collection never waits for the state: it gets what was read after the one before. Without a
    MeterProvider nothing is ever read.
    """

    def __init__(self, inbox: StateInbox, recorder: Recorder) -> None:
        self._inbox = ref(inbox)  # which keeps this
        self._recorder = recorder
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._is_read = False
        """Whether it is being read: two at once would count what ended twice."""
        self._read_at = float("-inf")
        self._after_ns: int | None = None
        self._ended: Counter[str] = Counter({status.value: 0 for status in _FINAL})
        self._refused = 0
        self._latest: InboxReadings | None = None

    def latest(self) -> InboxReadings | None:
        """Return what was read last, at once, and see that it is read again; None where it is not known."""
        if self._inbox() is None:  # a thread may keep this a while longer
            return None
        if self._pid != os.getpid():  # what was counted before the fork is reported by the parent
            self._begin()
        with self._lock:
            is_due = not self._is_read and time.monotonic() >= self._read_at + _READ_EVERY_S
            if is_due:
                self._is_read, self._read_at = True, time.monotonic()
        if is_due:
            try:
                RealSystem.in_state_thread(self._read)
            except RuntimeError as error:
                self._is_read = False
                _log.warning("the inbox is not measured: %s", error)
        return self._latest

    def _read(self) -> None:
        try:
            if (inbox := self._inbox()) is not None:
                self._read_from(inbox)
        finally:
            self._is_read = False

    def _read_from(self, inbox: StateInbox) -> None:
        try:
            inbox.expire()  # else a question would wait on where no process of its agent is left
            figures = inbox.figures(self._after_ns)
        except StateError:
            self._recorder.state_failed()
            self._latest = None
            return
        self._after_ns = figures.until_ns
        self._ended.update({status.value: many for status, many in figures.ended.items() if status.is_over})
        self._refused += figures.refused
        self._latest = InboxReadings(figures, dict(self._ended), self._refused)


def open_reported_inbox(directory: Path) -> ReportedInbox:
    """Return the inbox that the settings name, which is reported to OpenTelemetry's global providers.

    Args:
        directory: The local directory of the audit, beside which it is unless `AEGIS_STATE` says where.

    Raises:
        ConfigError: a setting cannot work.
    """
    return ReportedInbox(open_state(directory=directory), Recorder())
