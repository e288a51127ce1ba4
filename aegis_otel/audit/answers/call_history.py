"""What the lines of one call may say after one another. Pure.

Who can write to the audit directory can chain a line to any call. So a line counts only where a process could
have written it there: what a call was is said once, a call ends once, and what a human said, and to which
question, is changed only by a line with the proof of who took the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from aegis_otel.audit.answers.pending_calls import in_order, with_line
from aegis_otel.audit.record import DESCRIBES, AuditRecord, RecordStatus
from aegis_otel.model import Approval, Mode, Outcome

HUMAN = ("approved", "denied")
SAID = ("human_decision", "approver", "approval_reason")
"""What a human is said to have said."""
_VERDICT = ("approval", "risk_level", "matched_rule", "reason", "policy_digest")
_OUTCOME = ("result_status", "result_error", "error_type", "duration_s")
_OF_THE_LINE = ("stage", "decision_id", "timestamp", "proof")

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?\+00:00", re.ASCII)
"""A time whose text has the order of its moment, as readers that parse it find it."""

_PENDING, _OPEN, _DENIED = RecordStatus.PENDING.value, RecordStatus.OPEN.value, RecordStatus.DENIED.value
_BLOCKED_STATUS = RecordStatus.BLOCKED.value
_STOPPED = tuple(
    each.value
    for each in (RecordStatus.BLOCKED, RecordStatus.DENIED, RecordStatus.SKIPPED, RecordStatus.CANCELLED)
)
"""Those of a call whose body did not run, or not to its end."""
_ENDS = tuple(each.value for each in RecordStatus if each.value not in (_PENDING, _OPEN))
_LET_THROUGH = (_OPEN, RecordStatus.SUCCESS.value, RecordStatus.FAILED.value)
_EXPIRED = "expired"

_COMPLETION = frozenset((*_OF_THE_LINE, *_OUTCOME))
_BEYOND = tuple(name for name in AuditRecord.__struct_fields__ if name not in _COMPLETION)

Holds = Callable[[AuditRecord, AuditRecord], bool]
"""Whether a line carries the proof of its answer; the first argument is the call as it then is."""


class Wrong(NamedTuple):
    """What is wrong with the lines of a call."""

    what: str
    place: int
    """The index of the line that cannot follow those before it, in the order of `pending.in_order`."""

    @property
    def unproven(self) -> bool:
        """Whether it is the answer."""
        return self.what is UNPROVEN


UNPROVEN = "has an answer that nobody has proven"
_AGAIN = "begins a second time"
_ONE_TIME = "has two lines of one time, and nothing says which of them counts"
_NO_TIME = "has a line without a time, and nothing says when it counts"
_ENDED = "goes on after it has ended"
_NO_END = "is completed and has not ended"
_NO_ANSWER = "ran, and no answer to its question is there"
_NO_PAUSE = "waits for an answer after it was let through, and its body had not begun"
_NO_QUESTION = "has a question that expired, and did not wait for an answer"
_BLOCKED = "was blocked by policy, and was let through"
_STATED = "says an outcome that contradicts its result or its answer"
_REFUSED = "was refused by a human, and was let through"


class Plain:
    """Tells calls that need no look at their lines together, which are most, line by line in any order."""

    _FIRST, _FINAL, _LAST, _OTHER = 1, 2, 4, 8

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def add(self, line: AuditRecord) -> None:
        """Take in one line of a call."""
        seen = self._seen.get(line.decision_id, 0)
        kind = self._kind(line)
        self._seen[line.decision_id] = seen | (self._OTHER if seen & kind else kind)

    def others(self) -> set[str]:
        """Return the calls that are more than a first line and, where they were let through, a last one."""
        plain = (self._FIRST, self._FINAL, self._LAST, self._FIRST | self._LAST)
        return {decision_id for decision_id, seen in self._seen.items() if seen not in plain}

    def _kind(self, line: AuditRecord) -> int:
        if not _is_moment(line.timestamp):
            return self._OTHER
        stops = line.result_status in (_BLOCKED_STATUS, _DENIED)
        if line.stage == "completed" and line.result_status in _ENDS and not (stops or _beyond(line)):
            return self._LAST
        if (
            line.stage == "decided"
            and all(getattr(line, name) is None for name in SAID)
            and _contradiction(line, begun=True) is None
        ):
            return self._FIRST if line.result_status in (_OPEN, None) else self._FINAL
        return self._OTHER


def find_wrong(lines: Sequence[AuditRecord], holds: Holds) -> Wrong | None:
    """Return what no process can have written of a call; None where each line may follow those before it.

    Args:
        lines: Of one call, all that are there.
        holds: Whether a line carries the proof of its answer.
    """
    first, *later = in_order(lines)
    if _unproven(first, AuditRecord(stage="decided", decision_id="", timestamp=""), first, holds):
        return Wrong(UNPROVEN, 0)
    if later and not all(_is_moment(line.timestamp) for line in (first, *later)):
        return Wrong(_NO_TIME, 0)
    row, before, approved = msgspec.structs.replace(first), first, _is_yes(first, first, holds)
    for place, line in enumerate(later, 1):
        what = _wrong(row, before, line, holds, approved)
        if what is not None:
            return Wrong(what, place)
        approved = _approved_after(row, line, holds, approved)
        row, before = with_line(row, line), line
    what = _contradiction(row, begun=first.stage == "decided")
    return None if what is None else Wrong(what, len(later))


def _contradiction(row: AuditRecord, *, begun: bool) -> str | None:
    """Return what cannot be of a row; once it is sealed, `verify.rows.CONTRADICTIONS` finds it for ever.

    Args:
        row: The lines of a call, folded.
        begun: Whether its first line is there. One that could not be written has left out the mode, and so
            nobody can tell what the outcome should be.
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
        return _BLOCKED
    return _REFUSED if row.human_decision in ("denied", _EXPIRED) else None


def _wrong(
    row: AuditRecord, before: AuditRecord, line: AuditRecord, holds: Holds, approved: bool
) -> str | None:
    """Return why a line cannot follow."""
    if line.stage == "decided":
        return _AGAIN
    if line.stage == before.stage and _moment(line) == _moment(before):
        return _ONE_TIME
    after = with_line(row, line)
    if _unproven(line, row, after, holds):
        return UNPROVEN
    proven = _proves(after, line, holds)
    changed = {name for name in _BEYOND if getattr(after, name) != getattr(row, name)}
    may = _may_change(row, line, proven=proven)
    if not changed <= may:
        return f"has a line that changes `{min(changed - may)}`"
    what = _wrong_status(row, before, line, proven=proven)
    status = line.result_status
    runs = row.result_status == _PENDING and status is not None and status not in (_PENDING, *_STOPPED)
    if (
        what is None
        and runs
        and not (_approved_after(row, line, holds, approved) or row.duration_s is not None)
    ):
        return _NO_ANSWER
    return what


def _wrong_status(row: AuditRecord, before: AuditRecord, line: AuditRecord, *, proven: bool) -> str | None:
    """Return why a line cannot follow with what it says has become of the call."""
    was, status = row.result_status, line.result_status
    if line.stage == "completed":
        if before.stage == "completed" or was in _STOPPED:
            return _ENDED
        return None if status in _ENDS else _NO_END
    if status in _ENDS and status not in _STOPPED:
        return _NO_END
    expired = line.human_decision == _EXPIRED
    if was in _ENDS and not (proven or (expired and row.human_decision == _EXPIRED and status == was)):
        return _ENDED
    asked = was == _DENIED or (was == _PENDING and row.duration_s is None)  # and not inside of its body
    if expired and (status != _DENIED or not asked):
        return _NO_QUESTION
    if (was, status) == (_OPEN, _PENDING):  # inside of its body
        return _NO_PAUSE if line.duration_s is None else None
    early = _said_too_early(line, proven=proven)
    return None if early is None else f"has a line that changes `{early}`"


def _said_too_early(line: AuditRecord, *, proven: bool) -> str | None:
    """Return the member of a resolved line that says how a body ended, which only the last line does."""
    names = ["duration_s"]
    if not proven and line.result_status not in (_PENDING, *_STOPPED):
        names += ["result_error", "error_type"]
    return next((name for name in names if getattr(line, name) is not None), None)


def _may_change(row: AuditRecord, line: AuditRecord, *, proven: bool) -> set[str]:
    """Return the members beside the outcome that may be others after a line."""
    if line.stage == "completed":
        return {"outcome"} if row.outcome is None else set()
    waits = row.result_status == _PENDING
    may = set(SAID)  # `_unproven` judges these
    if row.outcome is None or line.result_status != _PENDING:  # `_contradiction` judges it
        may.add("outcome")
    if proven or (waits and line.result_status == _PENDING):  # answered, or asked again
        may.update(_ELSEWHERE, _VERDICT, ("approval_wait_s",))
    if row.duration_s is not None:  # the body has begun, and goes on in another process
        may.update(_ELSEWHERE)
    if line.result_status in _STOPPED:
        may.update(("reason", "approval_wait_s"))
    return may


_ELSEWHERE = tuple(name for name in _BEYOND if name not in (*DESCRIBES, *_VERDICT, *SAID, "approval_wait_s"))
"""What another process says of itself that goes on with a call."""


def _approved_after(row: AuditRecord, line: AuditRecord, holds: Holds, approved: bool) -> bool:
    """Return whether, after a line, a human has said yes to what the call then is."""
    after = with_line(row, line)
    if _proves(after, line, holds):
        return line.human_decision == "approved"
    asked_again = any(getattr(after, name) != getattr(row, name) for name in _VERDICT)
    return approved and line.human_decision != _EXPIRED and not asked_again


def _is_yes(row: AuditRecord, line: AuditRecord, holds: Holds) -> bool:
    return line.human_decision == "approved" and _proves(row, line, holds)


def _proves(row: AuditRecord, line: AuditRecord, holds: Holds) -> bool:
    return line.human_decision in HUMAN and holds(row, line)


def _unproven(line: AuditRecord, row: AuditRecord, after: AuditRecord, holds: Holds) -> bool:
    """Return whether a line has something that a human is said to have said, and nobody has proven.

    What was proven before may be said again, and that nobody answered in time needs no proof.
    """
    said = {name for name in SAID if getattr(line, name) not in (None, getattr(row, name))}
    if line.human_decision == _EXPIRED:
        said.discard("human_decision")
    return bool(said) and not _proves(after, line, holds)


def _beyond(line: AuditRecord) -> bool:
    """Return whether a line says more than how a call ended."""
    return any(getattr(line, name) is not None for name in _BEYOND)


def _moment(line: AuditRecord) -> datetime:
    return datetime.fromisoformat(line.timestamp)


def _is_moment(text: str) -> bool:
    try:
        return _MOMENT.fullmatch(text) is not None and datetime.fromisoformat(text) is not None
    except ValueError:
        return False
