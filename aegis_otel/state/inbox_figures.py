"""Read from an inbox what metrics and reports say of it; the statements are as in `inbox`."""

from __future__ import annotations

import json

from aegis_otel.governance.approvals.inbox import InboxCounts, InboxFigures, QuestionStatus
from aegis_otel.state.engine import Salt, Transaction

_SECOND = 1_000_000_000
_SETTLED_NS = 5 * _SECOND
"""What has a time so long ago is committed: a transaction takes less, or it fails."""
_NAMED, _ID_DIGITS = b"inbox id", 16
"""The text whose digest is the id of an inbox, and the number of its hex digits."""
_LARGEST = (1 << 63) - 1
"""The largest integer that both engines keep. In SQLite, any text is greater."""
_STATUSES = json.dumps([status.value for status in QuestionStatus])
"""Others are by nobody of ours, and can be a million."""
_BY_STATUS = """
SELECT status, count(*) FROM aegis.question WHERE status IN (SELECT value FROM json_each(:ids))
GROUP BY status
"""
_CHANGE = "SELECT (SELECT number FROM aegis.inbox_change)"
_FIGURES = """
SELECT (SELECT count(*) FROM aegis.question WHERE status = 'waiting')
    - (SELECT count(*) FROM aegis.question WHERE status = 'waiting' AND expires_ns <= :now),
    (SELECT asked_ns FROM aegis.question WHERE status = 'waiting' AND asked_ns BETWEEN 0 AND :most
    AND (expires_ns IS NULL OR expires_ns > :now) ORDER BY decision_id LIMIT 1),
    (SELECT count(*) FROM aegis.approval_grant WHERE until_ns > :now AND revoked_by IS NULL),
    (SELECT count(*) FROM aegis.refused_answer WHERE refused_ns > :after AND refused_ns <= :until)
"""
_ENDED = """
SELECT status, count(*) FROM aegis.question
WHERE ended_ns > :after AND ended_ns <= :until AND status IN (SELECT value FROM json_each(:ids))
GROUP BY status
"""


def id_of(salt: Salt) -> str:
    """Return the id by which signals name the inbox of a store with this salt."""
    return salt.keyed(_NAMED)[:_ID_DIGITS]


def read_counts(store: Transaction) -> InboxCounts:
    """Return how much there is."""
    by_status = {QuestionStatus(word): many for word, many in store.run(_BY_STATUS, {"ids": _STATUSES})}
    ((change,),) = store.run(_CHANGE, {})
    return InboxCounts(by_status, change)


def read_figures(store: Transaction, after_ns: int | None) -> InboxFigures:
    """Return what metrics say; see `governance.approvals.inbox.Inbox.figures`."""
    now = store.now_ns()
    until = now - _SETTLED_NS
    about = {"now": now, "most": _LARGEST, "after": until if after_ns is None else after_ns, "until": until}
    ((waiting, oldest, grants, refused),) = store.run(_FIGURES, about)
    ended = {QuestionStatus(word): many for word, many in store.run(_ENDED, {**about, "ids": _STATUSES})}
    wait_s = max(0.0, (now - oldest) / _SECOND) if isinstance(oldest, int) else 0.0
    return InboxFigures(id_of(store.salt), max(0, waiting), wait_s, grants, ended, refused, until)
