"""What is read of an inbox is bounded, whatever somebody has written into the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.inbox import GrantTerms, QuestionStatus
from aegis_otel.governance.approvals.inbox_codec import LARGEST_BYTES
from aegis_otel.model import Approvers
from aegis_otel.state.engine import Salt, SharedState, Transaction
from aegis_otel.state.inbox import StateInbox
from tests.support.inbox import an_answer, shared_question, unsigned
from tests.support.state import PostgresStore, SqliteStore, Store

REFUSED, ANSWERS = 300_000, 5_000
LARGE, LONG = LARGEST_BYTES + 1, 300_000
"""A body and a text that nobody of ours writes."""
MOST_ROWS, MOST_BYTES = 1_000, 8 << 20
"""What one statement of the inbox returns at most."""


@dataclass
class Measured:
    """A state that knows how much each statement of the inbox has returned."""

    state: SharedState
    rows: int = 0
    bytes: int = 0

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[Transaction]:
        with self.state.transaction(writes=writes) as transaction:
            yield _Statements(transaction, self)

    def note(self, found: list[tuple[Any, ...]]) -> None:
        self.rows = max(self.rows, len(found))
        self.bytes = max(
            self.bytes, sum(len(value) for row in found for value in row if isinstance(value, (str, bytes)))
        )


@dataclass
class _Statements:
    transaction: Transaction
    measured: Measured
    salt: Salt = field(init=False)

    def __post_init__(self) -> None:
        self.salt = self.transaction.salt
        self.now_ns = self.transaction.now_ns

    def run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        found = self.transaction.run(statement, values)
        self.measured.note(found)
        return found


@pytest.fixture
def write(store: Store) -> Iterator[Callable[[str], None]]:
    """Run statements without a limit of time, as somebody does who has hours for it."""
    if isinstance(store, PostgresStore):
        yield store.server.run
        return
    assert isinstance(store, SqliteStore)
    store.state.read([])
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.create_function("repeat", 2, lambda text, times: text * times)
    yield (
        lambda statement: (
            connection.execute(statement.replace("aegis.", "").replace("bytea", "blob")).fetchall() and None
        )
    )
    connection.close()


ANSWER = "INSERT INTO aegis.answer (decision_id, person, place, body, signature, signed_by) "
NUMBERS = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) "


def test_what_is_read_is_bounded(store: Store, write: Callable[[str], None]) -> None:
    """Very many rows and very large ones: all is still answered, and nothing large leaves the engine."""
    measured = Measured(store.state)
    inbox = StateInbox(measured)  # type: ignore[arg-type]  # it has all that is needed
    good = inbox.put(shared_question(approvers=Approvers(count=2)))
    its = good.question.decision_id
    first = an_answer(good, "ann", grant=GrantTerms())
    inbox.answer(unsigned(first), first)
    for table in ("question", "answer", "refused_answer", "approval_grant"):
        write(f"DELETE FROM aegis.{table} WHERE decision_id <> '{its}'")
    refused = "INSERT INTO aegis.refused_answer (decision_id, place, approver, why, refused_ns) "
    write(f"{refused}{NUMBERS.format(REFUSED)}SELECT '{its}', n + 1000, 'm' || n, 'no', 1 FROM c")
    long = f"repeat('m', {LONG}), repeat('w', {LONG})"
    write(f"{refused}{NUMBERS.format(20)}SELECT '{its}', -n, {long}, 2 FROM c")
    small, large = "CAST('x' AS bytea)", f"CAST(repeat('x', {LARGE}) AS bytea)"
    write(
        f"{ANSWER}{NUMBERS.format(ANSWERS)}SELECT '{its}', 'm' || n, n + 1000, {small}, {small}, "
        f"CASE WHEN n < 5 THEN repeat('k', {LONG}) ELSE 'k' END FROM c"
    )
    write(f"{ANSWER}{NUMBERS.format(3)}SELECT '{its}', 'a' || n, -n, {large}, {small}, 'k' FROM c")
    write(f"{ANSWER}{NUMBERS.format(3)}SELECT '{its}', 'b' || n, -n, {small}, {large}, 'k' FROM c")
    question = (
        "INSERT INTO aegis.question "
        "(decision_id, digest, call_digest, status, asked_ns, expires_ns, used_by, change, body) "
    )
    for prefix, change in (("a", 10), ("z", 20)):
        write(
            f"{question}{NUMBERS.format(4)}SELECT '{prefix}' || n, 'x', '{good.question.call_digest}', "
            f"'waiting', 1, NULL, NULL, -n - {change}, {large} FROM c"
        )
    write(
        "INSERT INTO aegis.approval_grant (decision_id, grant_key, conversation_key, until_ns, revoked_by) "
        f"SELECT decision_id, '{good.question.grant_key}', NULL, {1 << 62}, repeat('r', {LONG}) "
        "FROM aegis.question"
    )
    write(f"UPDATE aegis.question SET used_by = repeat('u', {LONG}) WHERE decision_id = '{its}'")

    (listed,) = inbox.listing(tuple(QuestionStatus))
    assert listed.digest == good.digest
    assert listed.used_by == "u" * 500
    assert len(listed.answers) <= 200
    assert unsigned(first) in listed.answers
    assert [each.digest for each in inbox.listing(newest_first=True)] == [good.digest]
    assert [each.digest for each in inbox.changes(0)] == [good.digest]
    assert set(inbox.look([its, "a1", "z1"])) == {its}
    assert [each.digest for each in inbox.find(good.question.call_digest)] == [good.digest]
    assert inbox.grants(good.question.grant_key, "") == ()
    assert [each.revoked_by for each in inbox.all_grants()] == ["r" * 500]
    assert {len(each.why) for _, each in inbox.refused_answers(20, its)} == {500}
    assert {len(each.approver) for _, each in inbox.refused_answers(5)} == {500}
    assert inbox.counts().by_status[QuestionStatus.WAITING] == 9
    assert inbox.figures(None).waiting == 9
    inbox.refuse(its, "mallory", "no")
    late = an_answer(good, "bob")
    assert inbox.answer(unsigned(late), late) is not None
    with pytest.raises(AnswerRefused):
        inbox.answer(unsigned(late), late)
    assert inbox.grant_count() == 0
    assert measured.rows <= MOST_ROWS
    assert measured.bytes <= MOST_BYTES


def test_answers_to_many_questions_are_read_whole(store: Store, write: Callable[[str], None]) -> None:
    """Of each question up to a bound, however many rows others have, and in the order in which they came."""
    inbox = StateInbox(store.state)
    asked = [inbox.put(shared_question(approvers=Approvers(count=20))) for _ in range(40)]
    for number, state in enumerate(asked):
        many = 3_000 if number % 7 == 3 else 40
        row = f"'{state.question.decision_id}', 'm' || n, {many} - n, CAST('x' AS bytea), CAST('x' AS bytea)"
        write(f"{ANSWER}{NUMBERS.format(many)}SELECT {row}, 'k' || n FROM c")
    found = inbox.look([each.question.decision_id for each in asked])
    for number, state in enumerate(asked):
        answers = found[state.question.decision_id].answers
        assert len(answers) == (200 if number % 7 == 3 else 40)
        if number % 7 != 3:
            assert [each.key for each in answers] == [f"k{n}" for n in range(40, 0, -1)]
