"""End the questions of the inbox whose time is over, and remove those that ended long ago.

Rows are named in SQL alone, because anybody who can write to an SQLite file can give a question an id that no
program can name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from aegis_otel.governance.approvals.inbox import DEFAULT_EXPIRES_S, YES_WAITS_S, SharedQuestion
from aegis_otel.state.engine import Transaction
from aegis_otel.state.inbox_answers import has_old_uses, remove_old_uses

KEEP_S = 30 * 86_400
"""Seconds for which a question is kept after its end."""
AT_A_TIME = 500
"""The most questions that are looked for, ended or removed in one transaction."""

_LAPSED = (
    "SELECT 1 FROM aegis.question WHERE status IN ('waiting', 'approved') AND expires_ns <= :now LIMIT 1"
)
_OLD = "SELECT 1 FROM aegis.question WHERE ended_ns < :before LIMIT 1"
_END = """
UPDATE aegis.question AS its SET status = 'expired', ended_ns = :now, change = :change + lapsed.place
FROM (
    SELECT decision_id AS id, row_number() OVER (ORDER BY expires_ns) AS place FROM aegis.question
    WHERE status IN ('waiting', 'approved') AND expires_ns <= :now ORDER BY expires_ns LIMIT :limit
) AS lapsed
WHERE its.decision_id = lapsed.id RETURNING decision_id
"""
_KEEP_YES = "UPDATE aegis.question SET expires_ns = :ends WHERE decision_id = :id AND status = 'approved'"
_REMOVE_OLD = """
DELETE FROM aegis.question WHERE decision_id IN (
    SELECT decision_id FROM aegis.question WHERE ended_ns < :before ORDER BY ended_ns LIMIT :limit
) RETURNING decision_id
"""
_REMOVALS = (
    "DELETE FROM aegis.answer WHERE decision_id IN (SELECT value FROM json_each(:ids))",
    "DELETE FROM aegis.refused_answer WHERE decision_id IN (SELECT value FROM json_each(:ids))",
    "DELETE FROM aegis.approval_grant WHERE decision_id IN (SELECT value FROM json_each(:ids))",
    "DELETE FROM aegis.question WHERE decision_id IN (SELECT value FROM json_each(:ids))",
)


def is_due(store: Transaction) -> bool:
    """Return whether there is a question to end or to remove."""
    now = store.now_ns()
    return bool(
        store.run(_LAPSED, {"now": now})
        or store.run(_OLD, {"before": _before(now)})
        or has_old_uses(store, now)
    )


def end_due(store: Transaction, last: int) -> tuple[list[str], bool]:
    """End and remove up to `AT_A_TIME` questions.

    Args:
        store: A transaction that has begun `AT_A_TIME` changes.
        last: The number of the last one.

    Returns:
        The ids of those that were ended, and whether there may be more to do.
    """
    now = store.now_ns()
    ended = store.run(_END, {"now": now, "change": last - AT_A_TIME, "limit": AT_A_TIME})
    old = store.run(_REMOVE_OLD, {"before": _before(now), "limit": AT_A_TIME})
    remove(store, _texts(old))
    forgotten = remove_old_uses(store, now, AT_A_TIME)
    return _texts(ended), AT_A_TIME in (len(ended), len(old), forgotten)


def with_end(question: SharedQuestion) -> SharedQuestion:
    """Return the question with the default expiry where it has none."""
    if question.expires_s is not None:
        return question
    return msgspec.structs.replace(question, expires_s=DEFAULT_EXPIRES_S)


def keep_yes(store: Transaction, question: SharedQuestion) -> None:
    """Extend the expiry of an approved question by the time in which its yes can be used."""
    if question.expires_ns is not None:
        ends = question.expires_ns + YES_WAITS_S[question.kind] * 1_000_000_000
        store.run(_KEEP_YES, {"id": question.decision_id, "ends": ends})


def remove(store: Transaction, decision_ids: Sequence[str]) -> None:
    """Remove questions with all that belongs to them."""
    if decision_ids:
        for statement in _REMOVALS:
            store.run(statement, {"ids": json.dumps(decision_ids)})


def _before(now: int) -> int:
    return now - KEEP_S * 1_000_000_000


def _texts(rows: Sequence[tuple[object, ...]]) -> list[str]:
    return [each for (each,) in rows if isinstance(each, str)]
