"""Whether the answers in the journal are those of processes that have the approval key."""

from __future__ import annotations

from collections.abc import Iterable

from aegis_otel.audit.answers.journal_lines import Lines
from aegis_otel.audit.answers.proof import Proofs, load_approval_key
from aegis_otel.audit.location import JOURNAL
from aegis_otel.audit.pending import in_order, with_line
from aegis_otel.audit.proof import Proof
from aegis_otel.audit.record import AuditRecord
from aegis_otel.errors import AegisError

_HUMAN = ("approved", "denied")
_SINCE = 2
"""The version of the row since which answers are proven."""


def check_answers(proof: Proof) -> None:
    """Check the answers of calls that are not sealed yet; what is wrong is added to the proof.

    Raises:
        AuditError: the journal cannot be read.
    """
    calls = _answered(Lines(proof.directory))
    if not calls:
        return
    try:
        load_approval_key(proof.directory, make=False)
    except AegisError as error:
        proof.unproven.append(f"who gave the answers of {len(calls)} calls that are not sealed yet: {error}")
        return
    proofs, old = Proofs(proof.directory), 0
    for decision_id, lines in calls.items():
        if (in_order(lines)[0].schema_version or 0) < _SINCE:
            old += 1
        elif not _proven(lines, proofs):
            proof.found(JOURNAL, f"has an answer to decision `{decision_id}` that nobody has proven")
    if old:
        proof.unproven.append(f"who gave the answers of {old} calls that an older version wrote")


def _answered(lines: Lines) -> dict[str, list[AuditRecord]]:
    """The lines of every call that a human has answered, by its decision."""
    known: dict[str, list[AuditRecord]] = {
        line.decision_id: [] for line in lines.with_text(["human_decision"]) if line.human_decision in _HUMAN
    }
    for line in lines.with_text(list(known)) if known else ():
        if line.decision_id in known:
            known[line.decision_id].append(line)
    return {decision_id: found for decision_id, found in known.items() if found}


def _proven(lines: Iterable[AuditRecord], proofs: Proofs) -> bool:
    """Whether the answer that the row ends up with is proven by one of its lines."""
    proven: set[str] = set()
    row: AuditRecord | None = None
    for line in in_order(lines):
        row = line if row is None else with_line(row, line)
        if line.human_decision is not None and proofs.holds(row, line):
            proven.add(line.human_decision)
    return row is None or row.human_decision not in _HUMAN or row.human_decision in proven
