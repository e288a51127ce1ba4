"""Close the rows of an audit whose questions in the inbox are over, so that no row waits for ever."""

from __future__ import annotations

import logging
from typing import NamedTuple

from aegis_otel.audit.record import Waiting
from aegis_otel.errors import AuditError
from aegis_otel.governance.approvals.ended_rows import GRACE_S, close_lost_row, close_row, closes_row, is_over
from aegis_otel.governance.approvals.inbox import CheckAnswer, Inbox, QuestionState
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.system import RealSystem

_log = logging.getLogger("aegis_otel")
_AT_ONCE = 500


class ClosedRows(NamedTuple):
    """The decision ids of rows whose questions are over."""

    closed: tuple[str, ...] = ()
    """These were closed."""
    left: tuple[str, ...] = ()
    """These are closed `grace_s` after the end of their questions: until then by the process that asked."""


def close_ended_rows(
    audit: AuditLogger, inbox: Inbox, check: CheckAnswer, grace_s: float = GRACE_S
) -> ClosedRows:
    """Close the rows that wait for an answer which can come no more, and return which ones.

    The process that asked is gone, or the call went on in another audit. Questions whose time is over are
    ended before. A row whose question is not in the inbox ends after its own time. Where no row waits, the
    inbox is not opened.

    Args:
        audit: Has the rows.
        inbox: Has their questions.
        check: Checks the signatures of answers.
        grace_s: How long a question must have been over; see `ended_rows.is_over`.

    Raises:
        AegisError: the inbox cannot be read or written, or the audit cannot be read.
    """
    if not audit.path.exists():
        return ClosedRows()
    rows = audit.every_waiting()
    if not rows:
        return ClosedRows()
    inbox.expire()
    closed, left = [], []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        states = inbox.look([each.row.decision_id for each in some if not each.started])
        for each in some:
            state = states.get(each.row.decision_id)
            try:
                if state is None:
                    is_closed = close_lost_row(audit, each, grace_s, RealSystem.now_ns())
                else:
                    is_closed = is_over(state, grace_s) and _close(audit, each, state, inbox, check)
            except AuditError as error:  # as of a row that cannot be read: the others are closed
                _log.warning("the row of decision %s stays as it is: %s", each.row.decision_id, error)
                continue
            if is_closed:
                closed.append(each.row.decision_id)
            elif state is not None and closes_row(each, state) and not is_over(state, grace_s):
                left.append(each.row.decision_id)
    return ClosedRows(tuple(closed), tuple(left))


def _close(audit: AuditLogger, row: Waiting, state: QuestionState, inbox: Inbox, check: CheckAnswer) -> bool:
    decision_id = row.row.decision_id

    def is_current() -> bool:
        return inbox.look([decision_id]).get(decision_id, state).change == state.change

    return close_row(audit, row, state, check, RealSystem.now_ns(), is_current=is_current)
