"""Numbers of changes that somebody has written straight into the store stop nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.state.inbox_expiry import KEEP_S
from tests.state.test_inbox import Inbox
from tests.support.inbox import run_sql, shared_question
from tests.support.state import SqliteStore, Store

WAITING, APPROVED, DENIED, EXPIRED, USED, WITHDRAWN = QuestionStatus
LATEST = (1 << 63) - 1


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def give_change(inbox: Inbox, state: QuestionState, change: str) -> None:
    """Give a question another number, an expression of SQL."""
    statement = f"UPDATE aegis.question SET change = {change} WHERE decision_id = :id"
    run_sql(inbox.clock.state, statement, id=state.question.decision_id)


def count(inbox: Inbox) -> int:
    ((number,),) = run_sql(inbox.clock.state, "SELECT number FROM aegis.inbox_change")
    return int(number)


def do_all(inbox: Inbox) -> None:
    """Write in every way that there is."""
    states = [inbox.put(shared_question(expires_s=600.0)) for _ in range(5)]
    assert inbox.say(states[0]) is APPROVED
    assert inbox.use(states[0].question.decision_id, states[0].digest, "host")
    assert inbox.end(states[1].question.decision_id, states[1].digest, WITHDRAWN)
    assert inbox.say(states[2], approved=False) is DENIED
    inbox.refuse(states[3].question.decision_id, "ann", "no")
    assert [inbox.one(each).status for each in states] == [USED, WITHDRAWN, DENIED, WAITING, WAITING]
    inbox.inspect()
    inbox.clock.pass_time(601)
    assert {each.question.decision_id for each in states[3:]} <= set(inbox.expire())


@pytest.mark.parametrize("many", [1, 22, 600])
@pytest.mark.parametrize("above", ["(SELECT number FROM aegis.inbox_change)", str((1 << 62) - 1000)])
def test_rows_with_the_next_numbers_stop_nobody(inbox: Inbox, many: int, above: str) -> None:
    """They may have the very numbers that the next changes would get, or very high ones."""
    planted = [inbox.put(shared_question(expires_s=9000.0)) for _ in range(many)]
    for number, each in enumerate(planted, 1):
        give_change(inbox, each, f"{above} + {number}")
    do_all(inbox)
    do_all(inbox)


def test_rows_with_the_last_numbers_stop_nobody(inbox: Inbox) -> None:
    """No number is left above theirs, so it is not gone on from them."""
    planted = [inbox.put(shared_question(expires_s=9000.0)) for _ in range(3)]
    for number, each in enumerate(planted):
        give_change(inbox, each, str(LATEST - number))
    do_all(inbox)
    assert count(inbox) < 10_000


def test_a_number_that_many_have_is_no_name(inbox: Inbox) -> None:
    """Rows with one number: only those end, or are removed, whose time it is."""
    waits, lapsed, ended = [inbox.put(shared_question(expires_s=each)) for each in (9e6, 60.0, 9e6)]
    assert inbox.end(ended.question.decision_id, ended.digest, WITHDRAWN)
    for each in (waits, lapsed, ended):
        give_change(inbox, each, "7")
    inbox.clock.pass_time(61)
    assert inbox.expire() == (lapsed.question.decision_id,)
    assert [inbox.one(each).status for each in (waits, ended)] == [WAITING, WITHDRAWN]
    for each in (waits, lapsed, ended):
        give_change(inbox, each, "7")
    inbox.clock.pass_time(KEEP_S + 1)
    inbox.expire()
    assert [each.digest for each in inbox.listing(tuple(QuestionStatus))] == [waits.digest]


def test_a_count_that_is_set_back_goes_on_where_it_was(inbox: Inbox) -> None:
    """So who follows the changes hears of the next one."""
    state = inbox.put(shared_question())
    other = inbox.put(shared_question())
    run_sql(inbox.clock.state, "UPDATE aegis.inbox_change SET number = 0")
    inbox.say(state)
    assert [each.digest for each in inbox.changes(other.change)] == [state.digest]
    assert inbox.one(state).change > other.change


@pytest.mark.parametrize("change", ["'text'", "x'ff'", "9e300", "-9e300", "1.5", "1e12 + 0.5"])
def test_numbers_of_other_types_stop_nobody(tmp_path: Path, change: str) -> None:
    """SQLite keeps them."""
    inbox = Inbox(SqliteStore(tmp_path / "state.sqlite3"))
    give_change(inbox, inbox.put(shared_question(expires_s=9000.0)), change)
    do_all(inbox)
