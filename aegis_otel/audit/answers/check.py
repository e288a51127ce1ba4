"""Check that the answers in the journal are those of processes that have the approval key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from aegis_otel.audit.answers.journal_lines import Lines
from aegis_otel.audit.answers.proof import Proofs, load_approval_key
from aegis_otel.audit.location import JOURNAL
from aegis_otel.audit.pending import in_order, with_line
from aegis_otel.audit.proof import Proof
from aegis_otel.audit.record import AuditRecord
from aegis_otel.errors import AegisError

_HUMAN = ("approved", "denied")
_SAID = ("human_decision", "approver", "approval_reason")
_SINCE = 2
"""The version of the row since which answers are proven."""
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?\+00:00", re.ASCII)
"""A time whose text has the order of its moment, as readers that parse it find it."""

_Named = tuple[str, AuditRecord]
"""A line, after the name of its file."""


def check_answers(proof: Proof) -> None:
    """Check the answers of calls that are not sealed yet; what is wrong is added to the proof.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(proof.directory)
    calls = _answered(lines)
    if not calls:
        return
    old = {decision_id for decision_id, named in calls.items() if _is_old(lines, named)}
    if old:
        proof.unproven.append(f"who gave the answers of {len(old)} calls that an older version wrote")
    ours = {decision_id: named for decision_id, named in calls.items() if decision_id not in old}
    if not ours:
        return
    proofs: Proofs | None = Proofs(proof.directory)
    try:
        load_approval_key(proof.directory, make=False)
    except AegisError as error:
        proof.unproven.append(f"who gave the answers of {len(ours)} calls that are not sealed yet: {error}")
        proofs = None
    for decision_id, named in ours.items():
        if not _proven((line for _, line in named), proofs):
            proof.found(JOURNAL, f"has an answer to decision `{decision_id}` that nobody has proven")


def unproven_files(directory: Path) -> dict[str, str]:
    """Return what is wrong with the files that have answers without proof, by their names.

    They are not to be sealed: the row of a sealed call has no proof any more.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(directory)
    calls = [named for named in _answered(lines).values() if not _is_old(lines, named)]
    if not calls:
        return {}
    try:
        load_approval_key(directory, make=False)
    except AegisError as error:
        what = f"has answers that cannot be checked ({error})"
        return {name: what for named in calls for name in _answering(named)}
    proofs, what = Proofs(directory), "has an answer that nobody has proven"
    wrong = (named for named in calls if not _proven((line for _, line in named), proofs))
    return {name: what for named in wrong for name in _answering(named)}


def unproven_answers(directory: Path) -> frozenset[str]:
    """Return the decisions whose rows show an answer of a human that nobody has proven.

    Only lines that no seal covers are searched. An answer in a file that does not hold is never proven; one
    in a file that holds is checked with the approval key. Without the key, and for answers that an older
    version wrote, nothing is known, and they are not among the decisions returned.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(directory)
    shown = {
        (line.decision_id, line.human_decision)
        for line in lines.anywhere("human_decision")
        if line.human_decision in _HUMAN
    }
    if not shown:
        return frozenset()
    calls = _answered(lines)
    held = {(each, line.human_decision) for each, named in calls.items() for _, line in named}
    unproven = {decision_id for decision_id, _ in shown - held}
    try:
        load_approval_key(directory, make=False)
    except AegisError:
        return frozenset(unproven)
    proofs = Proofs(directory)
    unproven |= {
        each
        for each, named in calls.items()
        if not (_is_old(lines, named) or _proven((line for _, line in named), proofs))
    }
    return frozenset(unproven)


def _answered(lines: Lines) -> dict[str, list[_Named]]:
    """Return the lines of every call that a human has answered, by its decision."""
    known: dict[str, list[_Named]] = {
        line.decision_id: [] for line in lines.with_text(["human_decision"]) if line.human_decision in _HUMAN
    }
    for name, line in lines.named(list(known)) if known else ():
        if line.decision_id in known:
            known[line.decision_id].append((name, line))
    return {decision_id: found for decision_id, found in known.items() if found}


def _answering(named: Iterable[_Named]) -> set[str]:
    """Return the names of files with something that a human is said to have said."""
    return {name for name, line in named if any(getattr(line, member) is not None for member in _SAID)}


def _is_old(lines: Lines, named: list[_Named]) -> bool:
    """Return whether a call was answered when answers had no proof."""
    first = in_order(line for _, line in named)[0]
    return (first.schema_version or 0) < _SINCE and all(map(lines.older, _answering(named)))


def _proven(lines: Iterable[AuditRecord], proofs: Proofs | None) -> bool:
    """Return whether the lines of a row prove all that it says of its answer.

    Without the key, whether there are proofs, which nobody can check here.
    """
    ordered = in_order(lines)
    proven: set[tuple[str, str | None]] = set()
    row: AuditRecord | None = None
    for line in ordered:
        row = line if row is None else with_line(row, line)
        holds = line.proof is not None and (proofs is None or proofs.holds(row, line))
        if line.human_decision is not None and holds:
            proven.update((member, getattr(line, member)) for member in _SAID)
    if row is None or row.human_decision not in _HUMAN:
        return True
    said = {(member, value) for member in _SAID if (value := getattr(row, member)) is not None}
    return said <= proven and all(_is_moment(line.timestamp) for line in ordered)


def _is_moment(text: str) -> bool:
    try:
        return _MOMENT.fullmatch(text) is not None and datetime.fromisoformat(text) is not None
    except ValueError:
        return False
