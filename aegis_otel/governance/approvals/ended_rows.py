"""Close rows that wait for a human, where their question is over by the inbox, or not in it any more.

The process that asked may be gone, and whoever resumed the run may have another audit. So each audit closes
its own rows: the row says what was answered, and where the call went on.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting
from aegis_otel.errors import AuditError
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.inbox import (
    DEFAULT_EXPIRES_S,
    CheckAnswer,
    QuestionState,
    QuestionStatus,
)
from aegis_otel.governance.approvals.inbox_proofs import as_approval_answer, proven_answers
from aegis_otel.governance.approvals.paused.paused_rows import (
    ANSWER,
    APPROVED,
    YES_LASTS_S,
    is_too_old,
    requester_of_row,
    terms_of,
)
from aegis_otel.governance.approvals.question import judge_answers, record_answers
from aegis_otel.governance.call import Journal
from aegis_otel.governance.error_text import safe_text
from aegis_otel.governance.recording import timestamp, unix_ns
from aegis_otel.model import Outcome

GRACE_S = 60.0
"""Seconds after the end of a question in which its row is left to the process that asked, or ended it."""
_YES_LASTS_DAYS = round(YES_LASTS_S / 86_400)
_ENDED = {
    QuestionStatus.USED: "yes",
    QuestionStatus.DENIED: "no",
    QuestionStatus.EXPIRED: None,
    QuestionStatus.WITHDRAWN: None,
}
"""What the proven answers come to, where they do, for a question that is over."""


def is_over(state: QuestionState, grace_s: float = GRACE_S) -> bool:
    """Return whether a question has been over for so many seconds, by the clock of the inbox.

    One that has expired is over since its time was, however late somebody noticed: a process that waits for
    it closes its row by its own clock. Where the clock was ahead for a while, that is later than it says.
    """
    ended_ns, expires_ns = state.ended_ns, state.question.expires_ns
    if ended_ns is None:
        return False
    if state.status is QuestionStatus.EXPIRED and expires_ns is not None:
        ended_ns = min(ended_ns, expires_ns)
    return state.read_ns - ended_ns >= grace_s * 1e9


def closes_row(waiting: Waiting, state: QuestionState) -> bool:
    """Return whether a row is closed because its question is over: one with a yes may still go on by that."""
    if waiting.started or not state.status.is_over:
        return False
    return waiting.answer is None or state.status in (QuestionStatus.USED, QuestionStatus.DENIED)


def close_row(
    journal: Journal,
    waiting: Waiting,
    state: QuestionState,
    check: CheckAnswer,
    now_ns: int,
    *,
    is_current: Callable[[], bool] = lambda: True,
) -> bool:
    """Write the last line of a row whose question is over; return whether the row waited for it.

    A row with a yes is closed only where the call went on elsewhere, where a no in the inbox is proven, or
    where the yes is too old to count.

    Args:
        journal: Has the row.
        waiting: The row.
        state: Its question.
        check: Checks signatures.
        now_ns: The time, in Unix nanoseconds.
        is_current: Returns whether its question is still as `state` has it. It is asked when nobody else can
            answer or close the row: whoever resumes the run may have asked anew meanwhile.

    Raises:
        AegisError: the journal cannot be read or written, or there is no key to check or prove answers with.
    """
    if not state.status.is_over or waiting.started:
        return False
    if not closes_row(waiting, state):
        return is_too_old(waiting, now_ns) and close_old_row(journal, waiting, now_ns)

    def last_line(now: Waiting) -> AuditRecord | None:
        return _last_line(journal, now, state, check, now_ns) if is_current() else None

    return _close(journal, waiting, last_line)


def close_used_row(journal: Journal, waiting: Waiting, now_ns: int) -> bool:
    """Write the last line of a row with a yes, whose call has gone on by another one; see `close_row`."""

    def last_line(now: Waiting) -> AuditRecord:
        line = _line(now, now_ns)
        line.result_status, line.outcome = RecordStatus.SKIPPED.value, Outcome.APPROVED.value
        line.result_error = "The call has gone on by another yes: whether it ran by that is not known here"
        return line

    return _close(journal, waiting, last_line)


def close_old_row(journal: Journal, waiting: Waiting, now_ns: int) -> bool:
    """Write the last line of a row with a yes that is too old to count; see `close_row`."""
    why = f"It was approved, and the question is more than {_YES_LASTS_DAYS} days old"
    return _close(journal, waiting, lambda now: _expired(now, now_ns, why))


def close_lost_row(journal: Journal, waiting: Waiting, grace_s: float, now_ns: int) -> bool:
    """Write the last line of a row whose question is not in the inbox, where its own time is over.

    The question was never put, or it was removed long after its end. A yes in the row has a time of its own.
    So has a call whose body has begun, such as that of an agent as a tool: its run may be in another audit.

    Args:
        journal: Has the row.
        waiting: The row.
        grace_s: Seconds that are left to the process that asked.
        now_ns: The time, in Unix nanoseconds.

    Returns:
        Whether the row waited, and is closed.

    Raises:
        AegisError: the journal cannot be read or written, or the row does not say how long it waits.
    """
    if waiting.started:
        return is_too_old(waiting, now_ns) and _close_started_row(journal, waiting, now_ns)
    if waiting.answer is not None:
        return is_too_old(waiting, now_ns) and close_old_row(journal, waiting, now_ns)
    seconds = terms_of(waiting.row).expires_s or DEFAULT_EXPIRES_S
    if now_ns < unix_ns(waiting.asked) + (seconds + grace_s) * 1e9:
        return False
    why = "Its time is over, and its question is not in the inbox"
    return _close(journal, waiting, lambda now: _expired(now, now_ns, why))


def _close_started_row(journal: Journal, waiting: Waiting, now_ns: int) -> bool:
    """Write the last line of a row whose body has begun, and has not come back for too long."""
    same_id = waiting.row.decision_id
    claimed = journal.take_over(waiting.row, inside=True, only=lambda now: now.row.decision_id == same_id)
    if claimed is None:
        return False  # its run goes on after all
    line = _line(claimed, now_ns)
    line.stage, line.result_status = "completed", RecordStatus.UNKNOWN.value
    line.result_error = f"Its body began, and its run did not go on in this audit for {_YES_LASTS_DAYS} days"
    journal.append(line)
    return True


def _close(journal: Journal, waiting: Waiting, last_line: Callable[[Waiting], AuditRecord | None]) -> bool:
    """Write the last line of a row, where nobody else can answer or close it; return whether it waited.

    Args:
        journal: Has the row.
        waiting: The row.
        last_line: Returns the line; None where the row waits on.
    """
    try:
        with journal.answering(waiting) as now:
            if now.answer == waiting.answer and (line := last_line(now)) is not None:
                journal.append(line)
                return True
    except AuditError:
        if journal.waiting_row(waiting.row.decision_id) is not None:
            raise
    return False  # somebody has answered or closed it meanwhile


def _line(waiting: Waiting, now_ns: int) -> AuditRecord:
    return AuditRecord(
        stage="resolved",
        decision_id=waiting.row.decision_id,
        timestamp=timestamp(max(now_ns, unix_ns(waiting.last) + 1_000)),
    )


def _expired(waiting: Waiting, now_ns: int, why: str, ended_ns: int | None = None) -> AuditRecord:
    """Return the last line of a row that nobody has answered in time.

    Args:
        waiting: The row.
        now_ns: The time, in Unix nanoseconds: people were asked no longer.
        why: What the line says.
        ended_ns: When its question ended by the inbox, if that says it.
    """
    line = _line(waiting, now_ns)
    if waiting.answer is None:
        asked_ns, expires_s = unix_ns(waiting.asked), terms_of(waiting.row).expires_s or DEFAULT_EXPIRES_S
        until_ns = min(now_ns, asked_ns + round(expires_s * 1e9), now_ns if ended_ns is None else ended_ns)
        line.approval_wait_s = round(max(0, until_ns - asked_ns) / 1e9, 6)
    line.human_decision, line.outcome = "expired", Outcome.EXPIRED.value
    line.result_status, line.result_error = RecordStatus.DENIED.value, why
    return line


def _last_line(
    journal: Journal, waiting: Waiting, state: QuestionState, check: CheckAnswer, now_ns: int
) -> AuditRecord | None:
    row, line = msgspec.structs.replace(waiting.row), _line(waiting, now_ns)
    proven, _ = proven_answers(state, check)
    answers = [as_approval_answer(each) for each in proven]
    judged = judge_answers(answers, terms_of(row).approvers, requester_of_row(row, answers, journal.digest))
    # Without a proven yes, whoever can write to the inbox may have made up that it was taken, and by whom.
    taken_by = safe_text(state.used_by) if state.used_by and judged.outcome == "yes" else "another process"
    taken = f"Its yes was taken by {taken_by}: whether the call ran there is not known here"
    if waiting.answer == APPROVED and state.status is QuestionStatus.USED:
        line.result_status, line.outcome = RecordStatus.SKIPPED.value, Outcome.APPROVED.value
        line.result_error = taken
        return line
    wanted = _ENDED[state.status]
    if wanted is not None and judged.outcome == wanted:
        record_answers(row, judged, answers)
        seconds = (max(each.answered_ns for each in proven) - unix_ns(waiting.asked)) / 1e9
        row.approval_wait_s = round(max(0.0, seconds), 6)
        for name in ANSWER:
            setattr(line, name, getattr(row, name))
        is_yes = wanted == "yes"
        line.result_status = (RecordStatus.SKIPPED if is_yes else RecordStatus.DENIED).value
        line.outcome = (Outcome.APPROVED if is_yes else Outcome.DENIED).value
        line.result_error = taken if is_yes else refusal.DENIED.error
        line.proof = journal.prove(row, line)
        return line
    if waiting.answer is not None:
        return None  # that it was denied is only written in the inbox
    why = {
        QuestionStatus.USED: "Its question was ended as used, and no yes to it is proven here",
        QuestionStatus.DENIED: "Its question was ended, and no no to it is proven here",
        QuestionStatus.WITHDRAWN: "Its question was withdrawn",
    }
    ended_ns = state.ended_ns
    if judged.outcome == "yes":
        ended_ns = max(each.answered_ns for each in proven)
        why[QuestionStatus.EXPIRED] = "It was approved, and nobody used the yes in its time"
    return _expired(waiting, now_ns, why.get(state.status, refusal.EXPIRED.error), ended_ns)
