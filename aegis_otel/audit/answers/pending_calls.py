"""Calls that wait for a human, found in the journal by the id under which the SDK knows them.

A run that is paused for an approval is resumed in any process, perhaps after days; what they share is the
audit directory. Pending calls stay in the journal, so its lines are all that is read, without DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from aegis_otel.audit.answers.answer_proof import Proofs
from aegis_otel.audit.answers.usable_lines import Lines
from aegis_otel.audit.location import JOURNAL, alone
from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting

_STEPS = {"decided": 0, "resolved": 1, "completed": 2}
_PENDING = RecordStatus.PENDING.value
_PATIENCE_S = 10.0
"""Seconds to wait for whoever else takes calls over: it takes milliseconds, and may be on an event loop."""


def waiting(directory: Path, call_id: str, proofs: Proofs) -> list[Waiting]:
    """Return the calls of that id that wait, oldest first.

    The SDK does not wait when it hands on an answer, so this may run on an event loop: what is not sealed,
    which is some 4 MB for each busy process, is searched as bytes, and only lines of the call are parsed.

    Args:
        directory: The audit directory.
        call_id: As the audit has it, which is redacted.
        proofs: Of this audit; an answer without its proof is none.

    Raises:
        AuditError: the journal, or the key of the proofs, cannot be read.
        ConfigError: that key is unusable.
    """
    lines = Lines(directory)
    known: dict[str, list[AuditRecord]] = {
        line.decision_id: [] for line in lines.with_text([call_id]) if line.tool_call_id == call_id
    }
    return _waiting(lines, known, proofs) if known else []


def every_waiting(directory: Path, proofs: Proofs) -> list[Waiting]:
    """Return all calls that wait, oldest first; arguments and errors as for `waiting`."""
    lines = Lines(directory)
    known: dict[str, list[AuditRecord]] = {
        line.decision_id: [] for line in lines.with_text([_PENDING]) if line.result_status == _PENDING
    }
    return _waiting(lines, known, proofs) if known else []


def taking_over(directory: Path) -> AbstractContextManager[None]:
    """Hold the lock of the journal, so that of two processes that resume one call, one finds it taken.

    Raises:
        AuditError: there is no journal, or it cannot be locked.
    """
    return alone(directory, JOURNAL, _PATIENCE_S)


def _waiting(lines: Lines, known: dict[str, list[AuditRecord]], proofs: Proofs) -> list[Waiting]:
    for line in lines.with_text(list(known)):
        if line.decision_id in known:
            known[line.decision_id].append(line)
    folded = [_fold(each, proofs) for each in known.values() if each]
    pending = [each for each in folded if each is not None and each.row.result_status == _PENDING]
    return sorted(pending, key=lambda each: each.row.timestamp)


def in_order(lines: Iterable[AuditRecord]) -> list[AuditRecord]:
    """Return the lines of a call, as they count."""
    return sorted(lines, key=lambda line: (_STEPS[line.stage], line.timestamp))


def _fold(lines: Iterable[AuditRecord], proofs: Proofs) -> Waiting | None:
    """Return the row that lines make, without unproven answers; None where its first line is missing."""
    first, *later = in_order(lines)
    if first.stage != "decided":
        return None
    row, answer, last = msgspec.structs.replace(first), None, first.timestamp
    for line in later:
        folded = with_line(row, line)
        if line.human_decision is not None and line.result_status in (_PENDING, None):
            # An answer is to a question that was there before, and as it was then.
            if line.timestamp <= first.timestamp or not proofs.holds(folded, line):
                continue
            answer = line.human_decision
        else:
            answer = None
        row, last = folded, max(last, line.timestamp)
    return Waiting(row, answer, last)


def with_line(row: AuditRecord, line: AuditRecord) -> AuditRecord:
    """Return the row after one more line; `proof` stays with the line."""
    changed = {
        name: value
        for name in AuditRecord.__struct_fields__
        if name not in _OF_THE_LINE and (value := getattr(line, name)) is not None
    }
    return msgspec.structs.replace(row, **changed)


_OF_THE_LINE = ("timestamp", "stage", "proof")
