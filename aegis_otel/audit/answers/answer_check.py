"""Check that processes wrote the lines of each call, and that who has the approval key took its answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from aegis_otel.audit.answers.answer_proof import Proofs, load_approval_key
from aegis_otel.audit.answers.call_history import HUMAN, SAID, UNPROVEN, Holds, Plain, Wrong, find_wrong
from aegis_otel.audit.answers.pending_calls import in_order
from aegis_otel.audit.answers.usable_lines import Lines
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.location import JOURNAL
from aegis_otel.audit.record import AuditRecord
from aegis_otel.config import APPROVAL_KEY
from aegis_otel.errors import AegisError

_SINCE = 2
"""The version of the row since which answers are proven."""

_Named = tuple[str, AuditRecord]
"""A line, after the name of its file."""


def check_calls(proof: Proof) -> dict[str, str]:
    """Check the calls that are not sealed yet; what is wrong is added to the proof.

    Returns:
        The name of a file with the first line of each of them, by its decision.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(proof.directory)
    begun: dict[str, str] = {}
    calls = _calls(lines, begun)
    for name in sorted(lines.foreign):
        if f"{JOURNAL}/{name}" not in proof.unfinished:
            proof.found(f"{JOURNAL}/{name}", "has lines that belong to no writer of this audit")
    judges = _Judges(proof.directory, lines, calls.values())
    if judges.old:
        proof.unproven.append(f"who gave the answers of {judges.old} calls that an older version wrote")
    if judges.no_key:
        proof.unproven.append(
            f"who gave the answers of {judges.answered} call{'s' * (judges.answered != 1)} not sealed yet: "
            f"{judges.no_key}"
        )
    for decision_id, named in calls.items():
        wrong = judges.find_wrong(named)
        if wrong is not None and wrong.unproven:
            proof.found(
                JOURNAL,
                f"has an answer to decision `{decision_id}` that nobody has proven{_other_key(named)}",
            )
        elif wrong is not None:
            files = ", ".join(f"`{name}`" for name in sorted(_names(named, wrong)))
            proof.found(JOURNAL, f"the call `{decision_id}` {wrong.what} ({files})")
    return begun


def unsealable_files(directory: Path, held: Mapping[str, bytes]) -> dict[str, str]:
    """Return what is wrong with the files that have lines which nobody can have written, by their names.

    They are not to be sealed: the row of a sealed call is all that is left of its lines.

    Args:
        held: What the files that are to be sealed hold, by their names.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(directory, held)
    calls = _calls(lines, {})
    judges = _Judges(directory, lines, calls.values())
    said: dict[str, str] = {}
    for decision_id, named in calls.items():
        wrong = judges.find_wrong(named)
        if wrong is None and not (judges.no_key and judges.is_answered(named)):
            continue
        if wrong is None:
            said |= dict.fromkeys(_answering(named), f"has answers that cannot be checked ({judges.no_key})")
        elif wrong.unproven:
            said |= dict.fromkeys(_names(named, wrong), f"{UNPROVEN}{_other_key(named)}")
        else:
            said |= dict.fromkeys(_names(named, wrong), f"has a line of `{decision_id}`, which {wrong.what}")
    return said


def unproven_answers(directory: Path) -> frozenset[str]:
    """Return the decisions whose rows show an answer of a human that nobody has proven.

    Only lines that no seal covers are searched. An answer in a file that does not hold is never proven; one
    in a file that holds is checked with the approval key; without the key, one that has a proof is not among
    the decisions returned, nor is one that an older version wrote.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(directory)
    shown = set(lines.answers_anywhere())
    if not shown:
        return frozenset()
    calls = _of(lines, {decision_id for decision_id, _ in shown})
    held = {(each, line.human_decision) for each, named in calls.items() for _, line in named}
    judges = _Judges(directory, lines, calls.values())
    unproven = {decision_id for decision_id, _ in shown - held}
    unproven |= {each for each, named in calls.items() if judges.find_wrong(named) is not None}
    return frozenset(unproven)


class _Judges:
    """Finds what is wrong with calls, with the approval key where it is there."""

    def __init__(self, directory: Path, lines: Lines, calls: Iterable[list[_Named]]) -> None:
        self._lines = lines
        self._proofs = Proofs(directory)
        self.old = self.answered = 0
        """The number of calls that were answered when answers had no proof, and of those answered since."""
        self.no_key = ""
        """Why proofs cannot be checked; empty where they can, and where there are none."""
        for named in calls:
            self.old += self._is_old(named)
            self.answered += self.is_answered(named)
        if self.answered:
            try:
                load_approval_key(directory, make=False)
            except AegisError as error:
                self.no_key = str(error)

    def find_wrong(self, named: list[_Named]) -> Wrong | None:
        """Return what is wrong with a call; without the key, proofs are taken for what they look like."""
        holds: Holds = self._proofs.holds
        if self._is_old(named):
            holds = lambda _, line: line.human_decision is not None  # noqa: E731
        elif self.no_key:
            holds = lambda _, line: line.proof is not None  # noqa: E731
        return find_wrong([line for _, line in named], holds)

    def is_answered(self, named: list[_Named]) -> bool:
        """Return whether a human answered, in a version that proves it."""
        return any(line.human_decision in HUMAN for _, line in named) and not self._is_old(named)

    def _is_old(self, named: list[_Named]) -> bool:
        """Return whether a call was answered when answers had no proof."""
        if not any(line.human_decision in HUMAN for _, line in named):
            return False
        first = in_order(line for _, line in named)[0]
        return (first.schema_version or 0) < _SINCE and all(map(self._lines.older, _answering(named)))


def _calls(lines: Lines, begun: dict[str, str]) -> dict[str, list[_Named]]:
    """Return the lines of every call that is not plain, by its decision.

    Args:
        lines: Of the journal.
        begun: Gets the name of the file with the first line of each call.
    """
    plain = Plain()
    for name, line in lines.every():
        plain.add(line)
        if line.stage == "decided" or line.action_type is not None:  # as `fold.BEGUN`: readers show it
            begun[line.decision_id] = name
    return _of(lines, plain.others())


def _of(lines: Lines, decisions: set[str]) -> dict[str, list[_Named]]:
    """Return the lines of some decisions; nothing of one that has none in files that hold."""
    calls: dict[str, list[_Named]] = {}
    for name, line in lines.every() if decisions else ():
        if line.decision_id in decisions:
            calls.setdefault(line.decision_id, []).append((name, line))
    return calls


def _names(named: list[_Named], wrong: Wrong) -> set[str]:
    """Return the files of the line that is wrong, of that before it and of those after it: one is planted."""
    ordered = in_order(line for _, line in named)
    suspects = {id(line) for line in ordered[max(wrong.place - 1, 0) :]}  # a record has no hash
    return {name for name, line in named if id(line) in suspects}


def _other_key(named: Iterable[_Named]) -> str:
    """Return what to try where an answer has a proof and this process's key does not check it."""
    if all(line.proof is None for _, line in named):
        return ""
    return f" with this approval key (if it was taken with another one, set `{APPROVAL_KEY.env}` to that)"


def _answering(named: Iterable[_Named]) -> set[str]:
    """Return the names of files with something that a human is said to have said."""
    return {name for name, line in named if any(getattr(line, member) is not None for member in SAID)}
