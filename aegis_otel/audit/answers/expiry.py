"""The end of questions that nobody answers: a row that waits is never sealed, and would stay for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegis_otel.audit.answers.answer_proof import Proofs
from aegis_otel.audit.answers.pending_calls import every_waiting, taking_over
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting
from aegis_otel.model import Outcome

_EXPIRED = "Nobody answered before its time in the audit was over"
_GIVEN_UP = "Given up: nobody answered the question inside of it"


def end_questions(directory: Path, keep: timedelta) -> int:
    """End the calls that have waited for a human for longer than `keep`, and return how many they were.

    Raises:
        AuditError: the journal cannot be read or written.
        ConfigError: the approval key is unusable.
    """
    now = datetime.now(UTC)
    before = _text(now - keep)
    journal = Journal(directory)
    try:
        with taking_over(directory):
            old = [
                each for each in every_waiting(directory, Proofs(directory)) if each.row.timestamp < before
            ]
            for each in old:
                journal.append(_end(each, now))
    finally:
        journal.close()
    return len(old)


def _end(waiting: Waiting, now: datetime) -> AuditRecord:
    """Return the last line of a call that waited: later than all others, whatever the clock says."""
    later = datetime.fromisoformat(waiting.last) + timedelta(microseconds=1)
    begun = waiting.started
    return AuditRecord(
        stage="completed" if begun else "resolved",
        decision_id=waiting.row.decision_id,
        timestamp=_text(max(now, later)),
        human_decision=None if begun else "expired",
        outcome=None if begun else Outcome.EXPIRED.value,
        result_status=(RecordStatus.CANCELLED if begun else RecordStatus.DENIED).value,
        result_error=_GIVEN_UP if begun else _EXPIRED,
    )


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}+00:00"
