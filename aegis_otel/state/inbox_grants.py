"""Keep grants in shared state, and find those that hold; the statements are as in `inbox`.

What a grant covers is not decided here: see `governance.approvals.inbox_proofs.granting_answers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aegis_otel.governance.approvals.inbox import Grant, SharedQuestion
from aegis_otel.state.engine import Transaction
from aegis_otel.state.inbox_rows import (
    CALL_BYTES,
    LONGEST,
    PAGE_BYTES,
    execute,
    have_types,
    read_states,
    within,
)

_MOST_OF_A_CALL = 100
"""The most grants for one call that are read."""
_GRANTS = """
SELECT its.decision_id, its.conversation_key IS NOT NULL, its.until_ns, NULL, length(question.body)
FROM aegis.approval_grant AS its JOIN aegis.question ON question.decision_id = its.decision_id
WHERE its.grant_key = :key AND its.until_ns > :now AND its.revoked_by IS NULL
AND (its.conversation_key IS NULL OR its.conversation_key = :conversation)
AND length(question.body) <= :largest AND length(its.decision_id) <= :longest
ORDER BY its.decision_id LIMIT :limit
"""
_ALL_GRANTS = """
SELECT its.decision_id, its.conversation_key IS NOT NULL, its.until_ns,
    substr(its.revoked_by, 1, :longest), length(question.body)
FROM aegis.approval_grant AS its JOIN aegis.question ON question.decision_id = its.decision_id
WHERE its.until_ns > :now AND (:after IS NULL OR its.decision_id > :after)
AND length(question.body) <= :largest AND length(its.decision_id) <= :longest
ORDER BY its.decision_id LIMIT :limit
"""
_COUNT = "SELECT count(*) FROM aegis.approval_grant WHERE until_ns > :now AND revoked_by IS NULL"
_DOES_HOLD = """
SELECT 1 FROM aegis.approval_grant WHERE decision_id = :id AND until_ns > :now AND revoked_by IS NULL
"""
_ADD_GRANT = """
INSERT INTO aegis.approval_grant (decision_id, grant_key, conversation_key, until_ns)
VALUES (:id, :key, :conversation, :until)
"""
_REVOKE = """
UPDATE aegis.approval_grant SET revoked_by = :by
WHERE decision_id = :id AND until_ns > :now AND revoked_by IS NULL RETURNING until_ns
"""


def add_grant(store: Transaction, question: SharedQuestion, until_ns: int, is_bound: bool) -> None:
    """Keep what the yes to a question grants.

    Args:
        store: A transaction that writes.
        question: The question, which is approved.
        until_ns: The end of the grant, by the clock of the inbox.
        is_bound: Whether it holds in the question's conversation only.
    """
    execute(
        store,
        _ADD_GRANT,
        id=question.decision_id,
        key=question.grant_key,
        conversation=question.conversation_key if is_bound else None,
        until=until_ns,
    )


def find_grants(store: Transaction, grant_key: str, conversation_key: str) -> tuple[Grant, ...]:
    """Return the grants that hold for a call now, the oldest first."""
    about = {"key": grant_key, "conversation": conversation_key, "now": store.now_ns()}
    rows = execute(store, _GRANTS, **about, limit=_MOST_OF_A_CALL)
    return _read_grants(store, within([(row[:4], row[4]) for row in rows], CALL_BYTES))


def count_grants(store: Transaction) -> int:
    """Return how many grants hold now."""
    ((count,),) = execute(store, _COUNT, now=store.now_ns())
    assert isinstance(count, int)
    return count


def does_hold(store: Transaction, grant_id: str) -> bool:
    """Return whether a grant holds now."""
    return bool(execute(store, _DOES_HOLD, id=grant_id, now=store.now_ns()))


def list_grants(store: Transaction, limit: int, after: str | None) -> tuple[Grant, ...]:
    """Return grants whose time is not over; see `governance.approvals.inbox.Inbox.all_grants`."""
    last: object = None
    now = store.now_ns()
    while rows := execute(store, _ALL_GRANTS, now=now, after=after, limit=limit):
        some = within([(row[:4], row[4]) for row in rows], PAGE_BYTES) or [rows[0][:4]]
        if (found := _read_grants(store, some)) or some[-1][0] == last:
            return found
        last = after = some[-1][0]
    return ()


def revoke_grant(store: Transaction, grant_id: str, by: str) -> bool:
    """End a grant; return whether it did hold."""
    return bool(execute(store, _REVOKE, id=grant_id, by=by[:LONGEST], now=store.now_ns()))


def _read_grants(store: Transaction, rows: Sequence[tuple[Any, ...]]) -> tuple[Grant, ...]:
    states = read_states(store, [row[0] for row in rows])
    return tuple(
        Grant(row[0], states[row[0]], bool(row[1]), *row[2:])
        for row in rows
        if have_types(row, str, int, int, str | None) and row[0] in states
    )
