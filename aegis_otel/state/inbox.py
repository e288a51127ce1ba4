"""Questions and answers in shared state, for both engines; the port is in `governance.approvals.inbox`.

What writes begins with the number of its change, in the one row of `inbox_change`. That row is locked until
the end of the transaction, so all that write do so one after the other, in PostgreSQL as in SQLite, and
numbers become visible in their order: who has read the changes up to one misses none before it. A question is
asked for a person, so there are few of them a second, however many wait.

The statements are alike for both engines: names are `:name`, tables are in the schema `aegis`, and
`json_each(:ids)` gives the members of a JSON list. No clock of an engine is in them.

Whoever can write to the store can write millions of rows, and rows of hundreds of megabytes. So each
statement bounds both before a row leaves the engine: rows by a limit, texts by `substr`, and bodies by their
length, which the engines know without reading them. `inbox_rows.execute` gives the values of these bounds.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from aegis_otel.errors import AnswerRefused, StateError
from aegis_otel.governance.approvals.entitlement import GIVEN_TWICE, GivenAnswer, judge
from aegis_otel.governance.approvals.inbox import (
    Answer,
    Grant,
    InboxCounts,
    InboxFigures,
    QuestionState,
    QuestionStatus,
    RefusedAnswer,
    SharedQuestion,
    SignedAnswer,
)
from aegis_otel.governance.approvals.inbox_codec import (
    LARGEST_BYTES,
    check_bounds,
    encode_answer,
    encode_question,
    question_digest,
)
from aegis_otel.governance.approvals.inbox_proofs import (
    granted,
    has_scope,
    requester_among,
    shows_the_same,
    why_over,
)
from aegis_otel.state.engine import SharedState, Transaction
from aegis_otel.state.inbox_answers import (
    is_recorded,
    keep_answer,
    keep_refused,
    read_refused,
    readable,
    remember_use,
    use_question,
    used_since,
)
from aegis_otel.state.inbox_expiry import AT_A_TIME, end_due, is_due, keep_yes, remove, with_end
from aegis_otel.state.inbox_figures import id_of, read_counts, read_figures
from aegis_otel.state.inbox_grants import (
    add_grant,
    count_grants,
    does_hold,
    find_grants,
    list_grants,
    revoke_grant,
)
from aegis_otel.state.inbox_rows import (
    ANSWER_BYTES,
    BOUNDS,
    CALL_BYTES,
    LONGEST,
    PAGE_BYTES,
    execute,
    read_states,
    storable,
    within,
)

_OF_ONE_CALL = 20
"""The most questions about one call that end when its yes is used."""

_NEXT = """
UPDATE aegis.inbox_change SET number = :many + coalesce((
    SELECT CAST(max(change) AS bigint) FROM aegis.question WHERE change > number AND change < :most
), number) RETURNING number
"""
"""The count goes on above what is in the table, so it can be set back without harm."""
_HIGHEST = 1 << 52
"""No inbox makes so many changes: higher numbers are forged, and counting does not go on from them."""
_OF_A_CALL = """
SELECT decision_id, length(body) FROM aegis.question WHERE call_digest = :digest
AND length(body) <= :largest AND length(decision_id) <= :longest ORDER BY decision_id LIMIT :limit
"""
_PUT = """
INSERT INTO aegis.question
(decision_id, digest, call_digest, status, asked_ns, expires_ns, ended_ns, used_by, change, body)
VALUES (:id, :digest, :call, 'waiting', :asked, :expires, NULL, NULL, :change, :body)
"""
_TOUCH = "UPDATE aegis.question SET change = :change WHERE decision_id = :id"
_END = """
UPDATE aegis.question SET status = :status, ended_ns = :ended, used_by = :by, change = :change
WHERE decision_id = :id AND digest = :digest AND status IN (SELECT value FROM json_each(:ids))
AND (:status <> 'used' OR expires_ns IS NULL OR expires_ns > :now)
RETURNING change
"""
"""A yes whose time is over is none, also where nobody has called `expire` since."""
_TAKE_NO = """
UPDATE aegis.question SET used_by = :by, change = :change
WHERE decision_id = :id AND digest = :digest AND status = 'denied' AND used_by IS NULL RETURNING change
"""
_OLDEST_FIRST = """
SELECT decision_id, decision_id, length(body) FROM aegis.question
WHERE status IN (SELECT value FROM json_each(:ids)) AND (:after IS NULL OR decision_id > :after)
AND length(body) <= :largest AND length(decision_id) <= :longest
ORDER BY decision_id LIMIT :limit
"""
_NEWEST_FIRST = """
SELECT decision_id, decision_id, length(body) FROM aegis.question
WHERE status IN (SELECT value FROM json_each(:ids)) AND (:after IS NULL OR decision_id < :after)
AND length(body) <= :largest AND length(decision_id) <= :longest
ORDER BY decision_id DESC LIMIT :limit
"""
_CHANGED = """
SELECT change, decision_id, length(body) FROM aegis.question
WHERE change > :after AND change <= (SELECT max(number) FROM aegis.inbox_change)
AND length(body) <= :largest AND length(decision_id) <= :longest
ORDER BY change LIMIT :limit
"""
"""A row with a higher number is not by this code, and would hide all that changes later."""
_REACHED = "SELECT 1 FROM aegis.inbox_change WHERE number >= :after"
_NO_SCOPE = {
    "conversation": "the question is part of no conversation that it could be granted for",
    "time": "it is not known for which user the agent acts, so nothing can be granted in all conversations",
}
_NO_GRANT = "its rule asks about each call that may be a repetition, so no yes can be for later ones"
_STATUSES = {"yes": QuestionStatus.APPROVED, "no": QuestionStatus.DENIED, "open": QuestionStatus.WAITING}


class StateInbox:
    """The inbox in a state; see `governance.approvals.inbox.Inbox`."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def keyed(self, payload: bytes) -> str:
        with self._reading() as store:
            return store.salt.keyed(payload)

    def put(self, question: SharedQuestion, unproven: Collection[str] = ()) -> QuestionState:
        if (size := len(encode_question(question))) > LARGEST_BYTES:
            raise StateError(f"a question of {size:,} bytes cannot be asked: it may have {LARGEST_BYTES:,}")
        try:
            check_bounds(question)
        except ValueError as error:
            raise StateError(f"this question cannot be asked: {error}") from error
        question = with_end(question)
        with self._writing() as (store, change):
            now = store.now_ns()
            kept = read_states(store, (question.decision_id,), now).get(question.decision_id)
            if kept is not None and question.decision_id not in unproven and _still_counts(kept, question):
                return kept
            if question.kind == "sdk":
                if kept is not None and kept.status is QuestionStatus.USED:
                    raise StateError(
                        "the yes to this question was used: its call is asked about as a new one"
                    )
                about = question.call_digest, question.decision_id
                for other in _about_call(store, *about, now):
                    if other.question.decision_id not in unproven and _still_counts(other, question):
                        return other
            asked = msgspec.structs.replace(question, asked_ns=now, nonce=secrets.token_hex(16))
            body = encode_question(asked)
            remove(store, [question.decision_id])
            digest = question_digest(body)
            execute(
                store,
                _PUT,
                id=question.decision_id,
                digest=digest,
                call=question.call_digest,
                asked=now,
                expires=asked.expires_ns,
                change=change,
                body=body,
            )
            return QuestionState(asked, digest, QuestionStatus.WAITING, (), change, now)

    def look(self, decision_ids: Collection[str], after: int = 0) -> dict[str, QuestionState]:
        if not decision_ids:
            return {}
        with self._reading() as store:
            if after <= 0 or not execute(store, _REACHED, after=after):  # it was brought back from a copy
                return read_states(store, decision_ids)
            # As a rule few have changed, so it is not asked about each of the ids.
            changed = [each for _, each, _ in execute(store, _CHANGED, after=after, limit=AT_A_TIME)]
            if len(changed) < AT_A_TIME:
                decision_ids = set(decision_ids).intersection(changed)
            return read_states(store, decision_ids, after=after)

    def find(self, call_digest: str) -> tuple[QuestionState, ...]:
        with self._reading() as store:
            found = execute(store, _OF_A_CALL, digest=call_digest, limit=AT_A_TIME)
            return tuple(read_states(store, within(found, CALL_BYTES)).values())

    def answer(self, signed: SignedAnswer, answer: Answer) -> QuestionStatus:
        if len(signed.body) > ANSWER_BYTES or encode_answer(answer) != signed.body:
            raise AnswerRefused("what is signed is not the answer, or has more than 64 kB")
        with self._writing() as (store, change):
            now = store.now_ns()
            state = read_states(store, (answer.decision_id,), now).get(answer.decision_id)
            why = "there is no such question" if state is None else _objection(state, answer)
            if state is not None and why is None:
                if keep_answer(store, state, signed, answer, change):
                    return _settle(store, state, answer, signed, change)
                why = GIVEN_TWICE
        assert why is not None
        self.refuse(answer.decision_id, answer.approver, why)
        raise AnswerRefused(why)

    def refuse(self, decision_id: str, approver: str, why: str) -> bool:
        with self._reading() as store:  # most of the time there is nothing to write, so nobody waits for it
            if not read_states(store, (decision_id,)) or is_recorded(store, decision_id, approver, why):
                return False
        with self._writing() as (store, change):
            is_new = keep_refused(store, decision_id, approver, why, change)
            if is_new:
                execute(store, _TOUCH, id=decision_id, change=change)
            return is_new

    def use(self, decision_id: str, question_digest: str, by: str) -> bool:
        with self._writing(_OF_ONE_CALL) as (store, last):
            if not _end(store, (decision_id, question_digest), QuestionStatus.USED, last, by):
                return False
            used = read_states(store, (decision_id,)).get(decision_id)
            if used is not None and used.question.kind == "sdk":
                _withdraw_others(store, used.question.call_digest, decision_id, last)
            return True

    def take_call(self, call_digest: str, decision_id: str, asked_ns: int, by: str) -> bool:
        with self._writing(_OF_ONE_CALL) as (store, last):
            if used_since(store, call_digest, decision_id, asked_ns):
                return False
            use_question(store, call_digest, decision_id, by, last)
            _withdraw_others(store, call_digest, decision_id, last)
            return True

    def used_since(self, call_digest: str, decision_id: str, asked_ns: int) -> bool:
        with self._reading() as store:
            return used_since(store, call_digest, decision_id, asked_ns)

    def take_no(self, decision_id: str, question_digest: str, by: str) -> bool:
        with self._writing() as (store, change):
            about = {"id": decision_id, "digest": question_digest, "by": by[:LONGEST], "change": change}
            return bool(execute(store, _TAKE_NO, **about))

    def end(self, decision_id: str, question_digest: str, status: QuestionStatus) -> bool:
        with self._writing() as (store, change):
            if not _end(store, (decision_id, question_digest), status, change):
                return False
            if status is QuestionStatus.APPROVED:
                for state in read_states(store, (decision_id,)).values():
                    keep_yes(store, state.question)
            return True

    def expire(self) -> tuple[str, ...]:
        ended: list[str] = []
        is_more = True
        while is_more:
            with self._reading() as store:
                if not is_due(store):
                    break
            with self._writing(AT_A_TIME) as (store, last):
                some, is_more = end_due(store, last)
            ended += some
        return tuple(ended)

    def listing(
        self,
        statuses: Collection[QuestionStatus] = (QuestionStatus.WAITING,),
        limit: int = 50,
        after: str | None = None,
        *,
        newest_first: bool = False,
    ) -> tuple[QuestionState, ...]:
        words = json.dumps([status.value for status in statuses])
        statement = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
        return self._page(statement, after=after, ids=words, limit=limit)

    def counts(self) -> InboxCounts:
        with self._reading() as store:
            counts = read_counts(store)
        _check_count([counts.change])
        return counts

    def inbox_id(self) -> str:
        """Return the id by which signals name the inbox."""
        with self._reading() as store:
            return id_of(store.salt)

    def figures(self, after_ns: int | None) -> InboxFigures:
        with self._reading() as store:
            return read_figures(store, after_ns)

    def refused_answers(
        self, limit: int, decision_id: str | None = None
    ) -> tuple[tuple[str, RefusedAnswer], ...]:
        with self._reading() as store:
            return read_refused(store, limit, decision_id)

    def inspect(self) -> InboxCounts:
        """Return how much there is, after a check that questions can be read and written."""
        with self._writing() as (store, change):
            execute(store, _TOUCH, id="", change=change)
            remove(store, [""])
        return self.counts()

    def has_grant(self, grant_id: str) -> bool:
        """Return whether a grant holds now."""
        with self._reading() as store:
            return does_hold(store, grant_id)

    def grants(self, grant_key: str, conversation_key: str) -> tuple[Grant, ...]:
        with self._reading() as store:
            return find_grants(store, grant_key, conversation_key)

    def grant_count(self) -> int:
        with self._reading() as store:
            return count_grants(store)

    def all_grants(self, limit: int = 50, after: str | None = None) -> tuple[Grant, ...]:
        with self._reading() as store:
            return list_grants(store, limit, after)

    def revoke(self, grant_id: str, by: str) -> bool:
        with self._writing() as (store, change):
            if not revoke_grant(store, grant_id, by):
                return False
            execute(store, _TOUCH, id=grant_id, change=change)
            return True

    def changes(self, after: int, limit: int = 100) -> tuple[QuestionState, ...]:
        found = self._page(_CHANGED, after=after, limit=limit)
        return tuple(sorted(found, key=lambda state: state.change))

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        with self._state.transaction(writes=False) as store:
            yield store

    @contextmanager
    def _writing(self, many: int = 1) -> Iterator[tuple[Transaction, int]]:
        """Begin `many` changes, alone among those that write, and yield the number of the last one."""
        with self._state.transaction() as store:
            found = execute(store, _NEXT, many=many, most=_HIGHEST)
            _check_count([number for (number,) in found])
            yield store, found[0][0]

    def _page(
        self, statement: str, *, after: object, limit: int, **values: object
    ) -> tuple[QuestionState, ...]:
        """Return questions in the order of a statement, until they are many or large.

        Args:
            statement: Gives places, ids and sizes.
            after: The place after which it begins.
            limit: The most.
            values: Others of the statement.
        """
        with self._reading() as store:
            after = storable(after)
            while rows := store.run(statement, {**BOUNDS, **values, "after": after, "limit": limit}):
                ids: list[str] = []
                size = 0
                last = after
                for place, decision_id, length in rows:
                    if isinstance(place, bytes):  # no text, and it cannot be named as a place
                        continue
                    size += length
                    if ids and size > PAGE_BYTES:
                        break
                    ids.append(decision_id)
                    after = place
                states = read_states(store, ids)
                if states:  # else somebody has written rows that are no questions, and there may be others
                    return tuple(states[each] for each in ids if each in states)
                if after == last:
                    if len(rows) < limit:
                        break
                    limit *= 2
        return ()


def _check_count(numbers: Sequence[object]) -> None:
    """Check what was read of the one number in `inbox_change`."""
    if len(numbers) != 1 or not isinstance(numbers[0], int):
        raise StateError("the table `inbox_change` has not one row with a number: restore it from a copy")


def _withdraw_others(store: Transaction, call_digest: str, decision_id: str, last: int) -> None:
    """Remember that a call goes on by the question of a decision, and withdraw the others about it.

    Args:
        last: The last of `_OF_ONE_CALL` changes, which is that of the question.
    """
    remember_use(store, call_digest)
    others = _about_call(store, call_digest, decision_id, store.now_ns())[: _OF_ONE_CALL - 1]
    for number, other in enumerate(others, last - _OF_ONE_CALL + 1):
        _end(store, (other.question.decision_id, other.digest), QuestionStatus.WITHDRAWN, number)


def _about_call(store: Transaction, call_digest: str, decision_id: str, now: int) -> list[QuestionState]:
    """Return the other questions about the call of a saved run that are not over, the newest first."""
    found = execute(store, _OF_A_CALL, digest=call_digest, limit=AT_A_TIME)
    states = read_states(store, within(found, CALL_BYTES), now)
    return [
        state
        for other, state in reversed(states.items())
        if other != decision_id and state.question.kind == "sdk"
        if state.status is QuestionStatus.WAITING or state.status.is_answered
    ]


def _still_counts(kept: QuestionState, question: SharedQuestion) -> bool:
    """Return whether a question is in the inbox already, and can be answered or is."""
    own = kept.question
    return (
        (kept.can_be_answered or kept.is_answered)
        and shows_the_same(own, question)
        and (own.kind, own.approvers, own.expires_s)
        == (question.kind, question.approvers, question.expires_s)
        and own.grant_key == question.grant_key
        and own.names_keys(question.trusted_keys)
    )


def _objection(state: QuestionState, answer: Answer) -> str | None:
    """Return why an answer cannot be kept; None where it can."""
    if state.digest != answer.question_digest:
        return "the question has changed: read it again"
    if (over := why_over(state)) is not None:
        return over
    grant = answer.grant
    if grant is not None and not has_scope(state.question, grant.scope):
        return _NO_SCOPE[grant.scope] if state.question.grant_key else _NO_GRANT
    return None


def _settle(
    store: Transaction, state: QuestionState, answer: Answer, signed: SignedAnswer, change: int
) -> QuestionStatus:
    """Return where a question stands after one more answer, and keep that.

    It is judged for people only, so answers whose signature nobody has checked are enough.
    """
    answers = readable((*state.answers, signed))
    given = [GivenAnswer(each.approved, each.approver, each.roles) for each in answers]
    asked = state.question
    names = [each.approver for each in answers]
    requester = requester_among(asked.user_key, asked.question.user_id, names, store.salt.keyed)
    judged = judge(asked.approvers, given, requester)
    status = _STATUSES[judged.outcome]
    if status is QuestionStatus.WAITING:
        execute(store, _TOUCH, id=answer.decision_id, change=change)
        return status
    _end(store, (answer.decision_id, state.digest), status, change)
    keep_yes(store, state.question)
    counted = [each for each, its in zip(answers, given, strict=True) if its in judged.counted]
    terms = granted(counted)
    if status is QuestionStatus.APPROVED and terms is not None:
        add_grant(store, asked, *terms)
    return status


def _end(
    store: Transaction, key: tuple[str, str], status: QuestionStatus, change: int, by: str | None = None
) -> bool:
    """Give a question that waits, or is approved, another status; return whether it was one.

    Args:
        key: Its id and digest.
    """
    now = store.now_ns()
    may_be = [QuestionStatus.WAITING.value]
    if status not in (QuestionStatus.EXPIRED, QuestionStatus.APPROVED):
        may_be.append(QuestionStatus.APPROVED.value)
    return bool(
        execute(
            store,
            _END,
            id=key[0],
            digest=key[1],
            status=status.value,
            ended=None if status is QuestionStatus.APPROVED else now,
            now=now,
            by=None if by is None else by[:LONGEST],
            change=change,
            ids=json.dumps(may_be),
        )
    )
