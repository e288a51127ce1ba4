"""Keep the answers to a question in shared state, refused ones too, and which calls have gone on by a yes.

A yes can also be given to an audit, where it counts for a year. So that it does not run a call that has run
by the question of another process, a small row says when the last yes to a call was used. It stays for longer
than the questions about the call do. The statements are as in `inbox`.
"""

from __future__ import annotations

from collections.abc import Iterable

from aegis_otel.governance.approvals.entitlement import same_person
from aegis_otel.governance.approvals.inbox import (
    MOST_REFUSED,
    Answer,
    QuestionState,
    QuestionStatus,
    RefusedAnswer,
    SignedAnswer,
)
from aegis_otel.governance.approvals.inbox_codec import decode_answer
from aegis_otel.governance.approvals.inbox_proofs import LATE_NS
from aegis_otel.state.engine import Transaction
from aegis_otel.state.inbox_rows import LONGEST, execute, have_types, storable

_MOST_OF_ONE = 3
"""The refused answers of one person to one question that are recorded."""
_REFUSED_OF_ONE = """
SELECT decision_id, substr(approver, 1, :longest), substr(why, 1, :longest), refused_ns
FROM aegis.refused_answer WHERE decision_id = :id ORDER BY place LIMIT :limit
"""
_NEWEST_REFUSED = """
SELECT decision_id, substr(approver, 1, :longest), substr(why, 1, :longest), refused_ns
FROM aegis.refused_answer WHERE length(decision_id) <= :longest
ORDER BY refused_ns DESC, decision_id, place LIMIT :limit
"""
_ADD_REFUSED = """
WITH known AS (
    SELECT substr(approver, 1, :longest) AS approver, substr(why, 1, :longest) AS why
    FROM aegis.refused_answer WHERE decision_id = :id ORDER BY place LIMIT :most
)
INSERT INTO aegis.refused_answer (decision_id, place, approver, why, refused_ns)
SELECT :id, :change, :approver, :why, :now WHERE (SELECT count(*) FROM known) < :most
AND EXISTS (SELECT 1 FROM aegis.question WHERE decision_id = :id)
AND NOT EXISTS (SELECT 1 FROM known WHERE approver = :approver AND why = :why)
AND (SELECT count(*) FROM known WHERE approver = :approver) < :most_of_one
ON CONFLICT DO NOTHING RETURNING place
"""
_ADD_ANSWER = """
INSERT INTO aegis.answer (decision_id, person, place, body, signature, signed_by)
VALUES (:id, :person, :change, :body, :signature, :key) ON CONFLICT DO NOTHING RETURNING place
"""
_TAKE_BACK = """
UPDATE aegis.answer SET place = :change, body = :body, signature = :signature, signed_by = :key
WHERE decision_id = :id AND person = :person RETURNING place
"""

KEEP_USED_S = 400 * 86_400
"""Seconds for which such a row is kept: a month longer than a yes in an audit counts (`paused_rows`)."""

_USED_SINCE = "SELECT 1 FROM aegis.used_call WHERE call_digest = :call AND used_ns >= :latest"
_REMEMBER_USE = """
INSERT INTO aegis.used_call AS its (call_digest, used_ns) VALUES (:call, :now)
ON CONFLICT (call_digest) DO UPDATE SET used_ns = excluded.used_ns WHERE its.used_ns < excluded.used_ns
"""
_OWN = """
SELECT substr(status, 1, 20), EXISTS (
    SELECT 1 FROM aegis.used_call AS its
    WHERE its.call_digest = question.call_digest AND its.used_ns >= question.asked_ns
) FROM aegis.question WHERE decision_id = :id AND call_digest = :call
"""
_USE_QUESTION = """
UPDATE aegis.question SET status = 'used', ended_ns = :now, used_by = :by, change = :change
WHERE decision_id = :id AND call_digest = :call AND status IN ('waiting', 'approved')
"""
_OLD = "SELECT 1 FROM aegis.used_call WHERE used_ns < :before LIMIT 1"
_REMOVE_OLD = """
DELETE FROM aegis.used_call WHERE call_digest IN (
    SELECT call_digest FROM aegis.used_call WHERE used_ns < :before ORDER BY used_ns LIMIT :limit
) RETURNING used_ns
"""


def keep_answer(
    store: Transaction, state: QuestionState, signed: SignedAnswer, answer: Answer, change: int
) -> bool:
    """Keep an answer; return False where this person has answered.

    A no takes the place of a yes of the same person, so whoever has said yes can take it back.
    """
    person = same_person(answer.approver)
    row = {
        "id": answer.decision_id,
        "person": person[:LONGEST],
        "change": change,
        "body": signed.body,
        "signature": signed.signature,
        "key": signed.key,
    }
    if execute(store, _ADD_ANSWER, **row):
        return True
    known = [each for each in readable(state.answers) if same_person(each.approver) == person]
    takes_back = not answer.approved and all(each.approved for each in known)
    return takes_back and bool(execute(store, _TAKE_BACK, **row))


def readable(signed: Iterable[SignedAnswer]) -> list[Answer]:
    """Return the answers that can be read, whoever has written them."""
    answers = []
    for each in signed:
        try:
            answers.append(decode_answer(each.body))
        except (ValueError, TypeError):
            continue
    return answers


def is_recorded(store: Transaction, decision_id: str, approver: str, why: str) -> bool:
    """Return whether a refused answer needs no record: it has one, or there are enough of it.

    One person is recorded a few times with a question, so that nobody takes the places of all.
    """
    known = [each for _, each in read_refused(store, MOST_REFUSED, decision_id)]
    person, reason = storable(approver[:LONGEST]), storable(why[:LONGEST])
    own = [each.why for each in known if each.approver == person]
    return len(known) >= MOST_REFUSED or len(own) >= _MOST_OF_ONE or reason in own


def keep_refused(store: Transaction, decision_id: str, approver: str, why: str, change: int) -> bool:
    """Record an answer that counts for nothing, unless `is_recorded`; return whether it was."""
    row = {"id": decision_id, "approver": approver[:LONGEST], "why": why[:LONGEST], "change": change}
    bounds = {"most": MOST_REFUSED, "most_of_one": _MOST_OF_ONE}
    return bool(execute(store, _ADD_REFUSED, **row, **bounds, now=store.now_ns()))


def read_refused(
    store: Transaction, limit: int, decision_id: str | None
) -> tuple[tuple[str, RefusedAnswer], ...]:
    """Return refused answers; see `governance.approvals.inbox.Inbox.refused_answers`."""
    if decision_id is None:
        rows = execute(store, _NEWEST_REFUSED, limit=limit)
    else:
        rows = execute(store, _REFUSED_OF_ONE, limit=limit, id=decision_id)
    return tuple((row[0], RefusedAnswer(*row[1:])) for row in rows if have_types(row, str, str, str, int))


def remember_use(store: Transaction, call_digest: str) -> None:
    """Remember that a yes to a call is used now."""
    execute(store, _REMEMBER_USE, call=call_digest, now=store.now_ns())


def used_since(store: Transaction, call_digest: str, decision_id: str, asked_ns: int) -> bool:
    """Return whether a yes to a call was used since the question of a decision about it was asked.

    Where that question is in the inbox, its time there counts, and while it is open none was: the others
    about a call end as a yes to one is used. Else the clock of who asked may be a minute ahead of this one.
    """
    for status, is_used in execute(store, _OWN, id=decision_id, call=call_digest):
        is_open = status in (QuestionStatus.WAITING, QuestionStatus.APPROVED)
        return not is_open and (status == QuestionStatus.USED or bool(is_used))
    # A text, as SQLite takes it for a time, is greater than each number: then the call does not run.
    return bool(execute(store, _USED_SINCE, call=call_digest, latest=asked_ns - LATE_NS))


def use_question(store: Transaction, call_digest: str, decision_id: str, by: str, change: int) -> None:
    """Give the question of a decision the status `used`, if it is open."""
    execute(
        store,
        _USE_QUESTION,
        id=decision_id,
        call=call_digest,
        by=by[:LONGEST],
        change=change,
        now=store.now_ns(),
    )


def has_old_uses(store: Transaction, now: int) -> bool:
    """Return whether there is a row to remove."""
    return bool(execute(store, _OLD, before=_before(now)))


def remove_old_uses(store: Transaction, now: int, limit: int) -> int:
    """Remove rows that nobody asks about any more, and return how many they were."""
    return len(execute(store, _REMOVE_OLD, before=_before(now), limit=limit))


def _before(now: int) -> int:
    return now - KEEP_USED_S * 1_000_000_000
