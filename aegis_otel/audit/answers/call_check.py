"""Check that processes wrote the lines of each call, and took its answers with the approval key."""

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

_Call = list[tuple[str, AuditRecord]]
"""The lines of a call, each with the name of its file."""


def check_calls(proof: Proof) -> dict[str, str]:
    """Check the calls that are not sealed yet, and add what is wrong to the proof.

    Returns:
        The name of the file with the first line of each of these calls, by decision.

    Raises:
        AuditError: the journal cannot be read.
    """
    checker = _Checker(proof.directory, Lines(proof.directory))
    for name in sorted(checker.lines.foreign):
        if f"{JOURNAL}/{name}" not in proof.unfinished:
            proof.found(f"{JOURNAL}/{name}", "has lines that belong to no writer of this audit")
    if checker.old:
        proof.unproven.append(f"who gave the answers of {checker.old} calls that an older version wrote")
    if checker.no_key:
        proof.unproven.append(
            f"who gave the answers of {checker.answered} call{'s' * (checker.answered != 1)} not sealed yet: "
            f"{checker.no_key}"
        )
    for decision_id, call in checker.calls.items():
        wrong = checker.find_wrong(call)
        if wrong is not None and wrong.unproven:
            proof.found(
                JOURNAL,
                f"has an answer to decision `{decision_id}` that nobody has proven{_other_key(call)}",
            )
        elif wrong is not None:
            files = ", ".join(f"`{name}`" for name in sorted(_suspects(call, wrong)))
            proof.found(JOURNAL, f"the call `{decision_id}` {wrong.what} ({files})")
    return checker.begun


def unsealable_files(directory: Path, held: Mapping[str, bytes]) -> dict[str, str]:
    """Return what is wrong with the files that have lines which no process can have written, by name.

    Such files must not be sealed: of a sealed call, only the row is left.

    Args:
        held: The content of the files that are to be sealed, by name.

    Raises:
        AuditError: the journal cannot be read.
    """
    checker = _Checker(directory, Lines(directory, held))
    unsealable: dict[str, str] = {}
    for decision_id, call in checker.calls.items():
        wrong = checker.find_wrong(call)
        if wrong is None and checker.no_key and checker.is_answered(call):
            what = f"has answers that cannot be checked ({checker.no_key})"
            unsealable |= dict.fromkeys(_answering(call), what)
        elif wrong is not None:
            what = f"has a line of `{decision_id}`, which {wrong.what}"
            if wrong.unproven:
                what = f"{UNPROVEN}{_other_key(call)}"
            unsealable |= dict.fromkeys(_suspects(call, wrong), what)
    return unsealable


def unproven_answers(directory: Path) -> frozenset[str]:
    """Return the decisions whose rows show an answer of a human that nobody has proven.

    Only lines that no seal covers are searched. An answer in a file that does not hold is never proven; one
    in a file that holds is checked with the approval key. Without the key, a decision whose answer has some
    proof is not returned, and neither is one that an older version wrote.

    Raises:
        AuditError: the journal cannot be read.
    """
    lines = Lines(directory)
    shown = set(lines.answers_anywhere())
    if not shown:
        return frozenset()
    checker = _Checker(directory, lines, decisions={decision_id for decision_id, _ in shown})
    calls = checker.calls.items()
    held = {(each, line.human_decision) for each, call in calls for _, line in call}
    unproven = {decision_id for decision_id, _ in shown - held}
    return frozenset(unproven | {each for each, call in calls if checker.find_wrong(call) is not None})


class _Checker:
    """Finds what is wrong with calls, with the approval key if it is there."""

    def __init__(self, directory: Path, lines: Lines, decisions: set[str] | None = None) -> None:
        """
        Args:
            decisions: The calls to check. Default: all that are not plain.
        """
        self.lines = lines
        self._proofs = Proofs(directory)
        self.begun: dict[str, str] = {}
        """The name of the file with the first line of each call, by decision; empty with `decisions`."""
        if decisions is None:
            plain = Plain()
            for name, line in lines.every():
                plain.add(line)
                if (
                    line.stage == "decided" or line.action_type is not None
                ):  # as `fold.BEGUN`: readers show it
                    self.begun[line.decision_id] = name
            decisions = plain.others()
        self.calls: dict[str, _Call] = {}
        """The lines of the calls, by decision, for the calls that have lines in files that hold."""
        for name, line in lines.every() if decisions else ():
            if line.decision_id in decisions:
                self.calls.setdefault(line.decision_id, []).append((name, line))
        self.old = sum(map(self._is_old, self.calls.values()))
        """The number of calls that were answered when answers had no proof."""
        self.answered = sum(map(self.is_answered, self.calls.values()))
        """The number of calls that were answered since."""
        self.no_key = ""
        """Why proofs cannot be checked; empty if they can, and if there are none."""
        if self.answered:
            try:
                load_approval_key(directory, make=False)
            except AegisError as error:
                self.no_key = str(error)

    def find_wrong(self, call: _Call) -> Wrong | None:
        """Return what is wrong with a call; without the key, whatever looks like a proof counts as one."""
        holds: Holds = self._proofs.holds
        if self._is_old(call):
            holds = lambda _, line: line.human_decision is not None  # noqa: E731
        elif self.no_key:
            holds = lambda _, line: line.proof is not None  # noqa: E731
        return find_wrong([line for _, line in call], holds)

    def is_answered(self, call: _Call) -> bool:
        """Return whether a human answered, in a version that proves answers."""
        return any(line.human_decision in HUMAN for _, line in call) and not self._is_old(call)

    def _is_old(self, call: _Call) -> bool:
        """Return whether a call was answered when answers had no proof."""
        if not any(line.human_decision in HUMAN for _, line in call):
            return False
        first = in_order(line for _, line in call)[0]
        return (first.schema_version or 0) < _SINCE and all(map(self.lines.older, _answering(call)))


def _suspects(call: _Call, wrong: Wrong) -> set[str]:
    """Return the files of the line that is wrong, of that before it and of those after it: one is planted."""
    ordered = in_order(line for _, line in call)
    suspects = {id(line) for line in ordered[max(wrong.place - 1, 0) :]}  # a record has no hash
    return {name for name, line in call if id(line) in suspects}


def _other_key(call: _Call) -> str:
    """Return a hint for an answer whose proof was made with another key than that of this process."""
    if all(line.proof is None for _, line in call):
        return ""
    return f" with this approval key (if it was taken with another one, set `{APPROVAL_KEY.env}` to that)"


def _answering(call: Iterable[tuple[str, AuditRecord]]) -> set[str]:
    """Return the names of the files that say what a human answered."""
    return {name for name, line in call if any(getattr(line, member) is not None for member in SAID)}
