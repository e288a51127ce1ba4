"""What the lines of one call may say after one another. Pure.

Whoever can write to the audit directory can chain a line to any call. So a line counts only if a process
could have written it there: the first line says what the call is, a call ends once, and only a line with the
proof of an answer changes what a human said, and to which question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from aegis_otel.audit.answers.pending_calls import in_order, with_line
from aegis_otel.audit.record import DESCRIBES, MOMENT, AuditRecord, RecordStatus
from aegis_otel.model import Approval, Mode, Outcome

HUMAN = ("approved", "denied")
SAID = ("human_decision", "approver", "approval_reason")
"""The members that say what a human answered."""
_VERDICT = ("approval", "risk_level", "matched_rule", "reason", "policy_digest", "approval_terms")
_COMPLETION = (
    *("stage", "decision_id", "timestamp", "proof"),
    *("result_status", "result_error", "error_type", "duration_s"),
)
"""The members of a line that only says how a call ended."""
_BEYOND = tuple(name for name in AuditRecord.__struct_fields__ if name not in _COMPLETION)
_PROCESS = tuple(name for name in _BEYOND if name not in (*DESCRIBES, *_VERDICT, *SAID, "approval_wait_s"))
"""The members in which a process that goes on with a call describes itself."""

_PENDING, _OPEN, _DENIED = RecordStatus.PENDING.value, RecordStatus.OPEN.value, RecordStatus.DENIED.value
_BLOCKED_STATUS = RecordStatus.BLOCKED.value
_STOPPED = (_BLOCKED_STATUS, _DENIED, RecordStatus.SKIPPED.value, RecordStatus.CANCELLED.value)
"""The statuses of a call whose body did not run, or not to its end."""
_ENDS = tuple(each.value for each in RecordStatus if each.value not in (_PENDING, _OPEN))
_LET_THROUGH = (_OPEN, RecordStatus.SUCCESS.value, RecordStatus.FAILED.value)
_EXPIRED = "expired"

Holds = Callable[[AuditRecord, AuditRecord], bool]
"""Returns whether a line has the proof of its answer; the first argument is the call as it then is."""

UNPROVEN = "has an answer that nobody has proven"
_ENDED = "goes on after it has ended"
_NO_END = "is completed and has not ended"
_STATED = "says an outcome that contradicts its result or its answer"
_CHANGED = "has a line that changes `{}`"


class Wrong(NamedTuple):
    """What is wrong with the lines of a call."""

    what: str
    place: int
    """The index of the line that cannot follow those before it, in the order of `in_order`."""

    @property
    def unproven(self) -> bool:
        """Whether it is the answer that is wrong."""
        return self.what is UNPROVEN


class Plain:
    """Finds the calls whose lines have to be checked together, by one pass over all lines in any order.

    Most calls are plain: a first line and, if the call was let through, one last line.
    """

    _FIRST, _FINAL, _LAST, _OTHER = 1, 2, 4, 8

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def add(self, line: AuditRecord) -> None:
        """Take in one line of a call."""
        seen = self._seen.get(line.decision_id, 0)
        kind = self._kind(line)
        self._seen[line.decision_id] = seen | (self._OTHER if seen & kind else kind)

    def others(self) -> set[str]:
        """Return the calls that are not plain."""
        plain = (self._FIRST, self._FINAL, self._LAST, self._FIRST | self._LAST)
        return {decision_id for decision_id, seen in self._seen.items() if seen not in plain}

    def _kind(self, line: AuditRecord) -> int:
        if not _has_moment(line):
            return self._OTHER
        stopped = line.result_status in (_BLOCKED_STATUS, _DENIED)
        if line.stage == "completed" and line.result_status in _ENDS and not stopped:
            return self._OTHER if any(getattr(line, name) is not None for name in _BEYOND) else self._LAST
        answered = any(getattr(line, name) is not None for name in SAID)
        if line.stage == "decided" and not answered and _contradiction(line, begun=True) is None:
            return self._FIRST if line.result_status in (_OPEN, None) else self._FINAL
        return self._OTHER


def find_wrong(lines: Sequence[AuditRecord], holds: Holds) -> Wrong | None:
    """Return what no process can have written of a call; None if each line may follow those before it.

    Args:
        lines: All lines of one call that are there.
        holds: Returns whether a line has the proof of its answer.
    """

    def proves(after: AuditRecord, line: AuditRecord) -> bool:
        return line.human_decision in HUMAN and holds(after, line)

    first, *later = in_order(lines)
    proven = proves(first, first)
    if not proven and _new_answer(first, AuditRecord(stage="decided", decision_id="", timestamp="")):
        return Wrong(UNPROVEN, 0)
    if later and not all(map(_has_moment, (first, *later))):
        return Wrong("has a line without a time, and nothing says when it counts", 0)
    row, before = msgspec.structs.replace(first), first
    approved = proven and first.human_decision == "approved"
    for place, line in enumerate(later, 1):
        after = with_line(row, line)
        if line.stage == "decided":
            return Wrong("begins a second time", place)
        if line.stage == before.stage and _moment(line) == _moment(before):
            return Wrong("has two lines of one time, and nothing says which of them counts", place)
        proven = proves(after, line)
        if not proven and _new_answer(line, row):
            return Wrong(UNPROVEN, place)
        changed = {name for name in _BEYOND if getattr(after, name) != getattr(row, name)}
        if proven:
            approved = line.human_decision == "approved"
        elif line.human_decision == _EXPIRED or not changed.isdisjoint(_VERDICT):
            approved = False  # the question expired, or another one was asked
        if wrong := changed - _may_change(row, line, proven=proven):
            return Wrong(_CHANGED.format(min(wrong)), place)
        what = _wrong_status(row, before, line, proven=proven, approved=approved)
        if what is not None:
            return Wrong(what, place)
        row, before = after, line
    what = _contradiction(row, begun=first.stage == "decided")
    return None if what is None else Wrong(what, len(later))


def _contradiction(row: AuditRecord, *, begun: bool) -> str | None:
    """Return what cannot be true of a row; `verify.rows.CONTRADICTIONS` finds the same in sealed rows.

    Args:
        row: The lines of a call, folded.
        begun: Whether the first line is there. Without it the mode is unknown, and so is what the outcome
            should be.
    """
    if row.mode == Mode.MONITOR.value:
        return None
    if begun:
        if row.outcome in (Outcome.ALLOWED, Outcome.APPROVED):
            if row.result_status in (_BLOCKED_STATUS, _DENIED):
                return _STATED
            if (row.outcome == Outcome.APPROVED) != (row.human_decision == "approved"):
                return _STATED
        elif row.outcome is not None and row.result_status in _LET_THROUGH:
            return _STATED
    if row.result_status not in _LET_THROUGH:
        return None
    if row.approval == Approval.BLOCK.value:
        return "was blocked by policy, and was let through"
    refused = row.human_decision in ("denied", _EXPIRED)
    return "was refused by a human, and was let through" if refused else None


def _wrong_status(
    row: AuditRecord, before: AuditRecord, line: AuditRecord, *, proven: bool, approved: bool
) -> str | None:
    """Return why a line cannot follow `before`, by what it says has become of the call.

    Args:
        row: The call before the line.
        before: The last line before it.
        proven: Whether it has an answer with its proof.
        approved: Whether, after the line, a human has approved the call as it then is.
    """
    was, status = row.result_status, line.result_status
    if line.stage == "completed":
        if before.stage == "completed" or was in _STOPPED:
            return _ENDED
        if status not in _ENDS:
            return _NO_END
    else:
        if status in _ENDS and status not in _STOPPED:
            return _NO_END
        expired = line.human_decision == _EXPIRED
        if was in _ENDS and not (proven or (expired and row.human_decision == _EXPIRED and status == was)):
            return _ENDED
        asked = was == _DENIED or (was == _PENDING and row.duration_s is None)  # and not inside of its body
        if expired and (status != _DENIED or not asked):
            return "has a question that expired, and did not wait for an answer"
        if (was, status) == (_OPEN, _PENDING):  # asked inside of its body
            if line.duration_s is None:
                return "waits for an answer after it was let through, and its body had not begun"
        else:
            # Only the last line says how the body ended.
            early = ["duration_s"]
            if not proven and status not in (_PENDING, *_STOPPED):
                early += ["result_error", "error_type"]
            if stated := [name for name in early if getattr(line, name) is not None]:
                return _CHANGED.format(stated[0])
    runs = was == _PENDING and status is not None and status not in (_PENDING, *_STOPPED)
    return (
        "ran, and no answer to its question is there"
        if runs and not approved and row.duration_s is None
        else None
    )


def _may_change(row: AuditRecord, line: AuditRecord, *, proven: bool) -> set[str]:
    """Return the members that a line may change, beside those of every completion."""
    if line.stage == "completed":
        return {"outcome"} if row.outcome is None else set()
    may = set(SAID)  # `find_wrong` has checked their proof
    if row.outcome is None or line.result_status != _PENDING:  # `_contradiction` checks it
        may.add("outcome")
    if proven or row.result_status == line.result_status == _PENDING:  # answered, or asked again
        may.update(_PROCESS, _VERDICT, ("approval_wait_s",))
    if row.duration_s is not None:  # the body has begun, and goes on in another process
        may.update(_PROCESS)
    if line.result_status in _STOPPED:
        may.update(("reason", "approval_wait_s"))
    return may


def _new_answer(line: AuditRecord, row: AuditRecord) -> bool:
    """Return whether a line says of a human's answer what the row does not say, and so needs a proof.

    What was proven before may be repeated, and that nobody answered in time needs no proof.
    """
    said = {name for name in SAID if getattr(line, name) not in (None, getattr(row, name))}
    return bool(said - ({"human_decision"} if line.human_decision == _EXPIRED else set()))


def _moment(line: AuditRecord) -> datetime:
    return datetime.fromisoformat(line.timestamp)


def _has_moment(line: AuditRecord) -> bool:
    try:
        return MOMENT.fullmatch(line.timestamp) is not None and _moment(line) is not None
    except ValueError:
        return False
