"""Calls that wait for a human, found in the journal by the id under which the SDK knows them.

A run that is paused for an approval is resumed in any process, perhaps after days; the processes share the
audit directory. The lines of pending calls stay in the journal, so they are found without DuckDB. Retention
ends the calls that nobody answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from aegis_otel.audit.answers.answer_proof import Proofs
from aegis_otel.audit.answers.usable_lines import Lines
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.location import JOURNAL, alone
from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting
from aegis_otel.model import Outcome

_STEPS = {"decided": 0, "resolved": 1, "completed": 2}
_PENDING = RecordStatus.PENDING.value
_PATIENCE_S = 10.0
"""Seconds to wait for another process that takes over a call: it takes milliseconds, and the wait may be on
an event loop."""
_OF_THE_LINE = ("timestamp", "stage", "proof")
"""The members of a line that are not folded into the row."""


def waiting(directory: Path, call_id: str, proofs: Proofs) -> list[Waiting]:
    """Return the waiting calls with an id, oldest first.

    The SDK does not wait when it hands on an answer, so this may run on an event loop: the lines that are not
    sealed, some 4 MB for each busy process, are searched as bytes, and only lines of the call are parsed.

    Args:
        call_id: The id as the audit has it: redacted.
        proofs: The proofs of this audit; an answer without its proof does not count.

    Raises:
        AuditError: the journal, or the key of the proofs, cannot be read.
        ConfigError: that key is unusable.
    """
    lines = Lines(directory)
    known = {line.decision_id for line in lines.with_text([call_id]) if line.tool_call_id == call_id}
    return _waiting(lines, known, proofs)


def waiting_row(directory: Path, decision_id: str, proofs: Proofs) -> Waiting | None:
    """Return the row of a decision; None where it waits no more. Arguments and errors as for `waiting`."""
    return next(iter(_waiting(Lines(directory), {decision_id}, proofs)), None)


def every_waiting(directory: Path, proofs: Proofs) -> list[Waiting]:
    """Return all waiting calls, oldest first; arguments and errors as for `waiting`."""
    lines = Lines(directory)
    known = {line.decision_id for line in lines.with_text([_PENDING]) if line.result_status == _PENDING}
    return _waiting(lines, known, proofs)


def taking_over(directory: Path) -> AbstractContextManager[None]:
    """Hold the lock of the journal: of two processes that resume one call, the second finds it taken.

    Raises:
        AuditError: there is no journal, or it cannot be locked.
    """
    return alone(directory, JOURNAL, _PATIENCE_S)


def end_questions(directory: Path, keep: timedelta) -> int:
    """End the calls that have waited for a human for longer than `keep`, and return how many they were.

    A row that waits is never sealed, and would stay in the journal for ever.

    Raises:
        AuditError: the journal cannot be read or written.
        ConfigError: the approval key is unusable.
    """
    now = datetime.now(UTC)
    before = (now - keep).isoformat(timespec="microseconds")
    journal = Journal(directory)
    try:
        with taking_over(directory):
            old = [
                each for each in every_waiting(directory, Proofs(directory)) if each.row.timestamp < before
            ]
            for each in old:
                journal.append(_last_line(each, now))
    finally:
        journal.close()
    return len(old)


def in_order(lines: Iterable[AuditRecord]) -> list[AuditRecord]:
    """Return the lines of a call in the order in which they are folded."""
    return sorted(lines, key=lambda line: (_STEPS[line.stage], line.timestamp))


def with_line(row: AuditRecord, line: AuditRecord) -> AuditRecord:
    """Return the row after one more line."""
    changed = {
        name: value
        for name in AuditRecord.__struct_fields__
        if name not in _OF_THE_LINE and (value := getattr(line, name)) is not None
    }
    return msgspec.structs.replace(row, **changed)


def _waiting(lines: Lines, decisions: set[str], proofs: Proofs) -> list[Waiting]:
    calls: dict[str, list[AuditRecord]] = {}
    for line in lines.with_text(list(decisions)) if decisions else ():
        if line.decision_id in decisions:
            calls.setdefault(line.decision_id, []).append(line)
    folded = (_fold(each, proofs) for each in calls.values())
    pending = [each for each in folded if each is not None and each.row.result_status == _PENDING]
    return sorted(pending, key=lambda each: each.row.timestamp)


def _fold(lines: Iterable[AuditRecord], proofs: Proofs) -> Waiting | None:
    """Return the row of a call without unproven answers; None if its first line is missing."""
    first, *later = in_order(lines)
    if first.stage != "decided":
        return None
    row, answer, last = msgspec.structs.replace(first), None, first.timestamp
    asked = last
    for line in later:
        folded = with_line(row, line)
        if line.human_decision is not None and line.result_status in (_PENDING, None):
            # An answer is to a question that was there before, and as it was then.
            if line.timestamp <= first.timestamp or not proofs.holds(folded, line):
                continue
            answer = line.human_decision
        else:
            answer, asked = None, line.timestamp
        row, last = folded, max(last, line.timestamp)
    return Waiting(row, answer, last, asked)


def _last_line(waiting: Waiting, now: datetime) -> AuditRecord:
    """Return the last line of a call that waited; it is later than the others, whatever the clock says."""
    later = datetime.fromisoformat(waiting.last) + timedelta(microseconds=1)
    begun = waiting.started
    return AuditRecord(
        stage="completed" if begun else "resolved",
        decision_id=waiting.row.decision_id,
        timestamp=max(now, later).isoformat(timespec="microseconds"),
        human_decision=None if begun else "expired",
        outcome=None if begun else Outcome.EXPIRED.value,
        result_status=(RecordStatus.CANCELLED if begun else RecordStatus.DENIED).value,
        result_error=(
            "Given up: nobody answered the question inside of it"
            if begun
            else "Nobody answered before its time in the audit was over"
        ),
    )
