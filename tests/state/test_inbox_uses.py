"""A call of a saved run is taken once for each time that it is asked about, by whatever yes it goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from aegis_otel.errors import StateError
from aegis_otel.governance.approvals.inbox import (
    YES_WAITS_S,
    QuestionState,
    QuestionStatus,
    SharedQuestion,
)
from aegis_otel.model import Approvers
from aegis_otel.state.inbox_answers import KEEP_USED_S
from aegis_otel.state.inbox_expiry import KEEP_S
from tests.state.test_inbox import Inbox
from tests.support.inbox import run_sql, shared_question
from tests.support.state import Store

WAITING, APPROVED, DENIED, EXPIRED, USED, WITHDRAWN = QuestionStatus
CALL = "one call"


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def of_the_call(decision_id: str | None = None, **shown: str) -> SharedQuestion:
    return replace(shared_question(decision_id, **shown), call_digest=CALL)


def use(inbox: Inbox, state: QuestionState) -> bool:
    return inbox.use(state.question.decision_id, state.digest, "host")


def take(inbox: Inbox, decision_id: str, asked_ns: int) -> bool:
    is_used = inbox.used_since(CALL, decision_id, asked_ns)
    is_taken = inbox.take_call(CALL, decision_id, asked_ns, "audit")
    assert is_taken is not is_used
    return is_taken


@pytest.mark.parametrize("status", [WAITING, APPROVED, DENIED, EXPIRED, WITHDRAWN, None])
def test_a_call_is_taken_by_a_yes_in_an_audit(inbox: Inbox, status: QuestionStatus | None) -> None:
    """Whatever has become of its question meanwhile; the others about the call end."""
    own, others = of_the_call(), [inbox.put(of_the_call(reason="another")), inbox.put(shared_question())]
    asked_ns = others[0].question.asked_ns
    if status is not None:
        state = inbox.put(own)
        if status is not WAITING:
            assert inbox.end(own.decision_id, state.digest, status)
    assert take(inbox, own.decision_id, asked_ns)
    assert [inbox.one(each).status for each in others] == [WITHDRAWN, WAITING]
    if status is not None:
        is_open = status in (WAITING, APPROVED)
        now = inbox.one(own)
        assert (now.status, now.used_by) == ((USED, "audit") if is_open else (status, None))
    assert not take(inbox, own.decision_id, asked_ns)


@pytest.mark.parametrize("status", [EXPIRED, WITHDRAWN, None])
def test_a_call_that_was_used_by_another_question_is_taken_no_more(
    inbox: Inbox, status: QuestionStatus | None
) -> None:
    """Its own is over, or was never in the inbox: for as long as a yes in an audit can wait."""
    own, other = of_the_call(), of_the_call(reason="another")
    asked_ns = inbox.put(other).question.asked_ns
    if status is not None:
        inbox.end(own.decision_id, inbox.put(own).digest, status)
    assert use(inbox, inbox.one(other))
    assert not take(inbox, own.decision_id, asked_ns)
    inbox.clock.pass_time(KEEP_S + 1)
    inbox.expire()
    assert inbox.find(CALL) == ()
    assert not take(inbox, own.decision_id, asked_ns)
    inbox.clock.pass_time(365 * 86_400 - KEEP_S)
    inbox.expire()
    assert not take(inbox, own.decision_id, asked_ns)
    inbox.clock.pass_time(KEEP_USED_S - 365 * 86_400)
    assert inbox.expire() == ()
    assert run_sql(inbox.clock.state, "SELECT count(*) FROM aegis.used_call") == [(0,)]


def test_a_question_that_is_asked_after_a_use_can_be_taken(inbox: Inbox) -> None:
    """The saved run was resumed a second time, and somebody has said yes to that, too."""
    first = inbox.put(of_the_call())
    assert use(inbox, first)
    second = inbox.put(of_the_call())
    assert take(inbox, second.question.decision_id, first.question.asked_ns)
    third = inbox.put(of_the_call())
    assert inbox.end(third.question.decision_id, third.digest, EXPIRED)
    assert take(inbox, third.question.decision_id, first.question.asked_ns)
    never_put = third.question.asked_ns + 61 * 10**9
    assert take(inbox, "never put", never_put)
    assert not take(inbox, "never put either", third.question.asked_ns + 59 * 10**9)


def test_a_call_is_taken_by_one_of_many(inbox: Inbox) -> None:
    """At once, by yeses in audits and in the inbox."""
    own = [of_the_call(reason=f"reason {number}") for number in range(6)]
    asked = [inbox.put(each) for each in own]

    def go(number: int) -> bool:
        state = asked[number % 6]
        if number % 2:
            return use(inbox, state)
        return inbox.take_call(CALL, state.question.decision_id, state.question.asked_ns, "audit")

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(go, range(12))) == 1


def test_a_yes_in_an_audit_ends_the_question_for_people(inbox: Inbox) -> None:
    """It waits for whoever uses that yes, and ends if nobody does."""
    state = inbox.put(shared_question(expires_s=60.0))
    assert inbox.end(state.question.decision_id, state.digest, APPROVED)
    assert not inbox.end(state.question.decision_id, state.digest, APPROVED)
    inbox.clock.pass_time(61)
    assert inbox.expire() == ()
    assert inbox.one(state).status is APPROVED
    inbox.clock.pass_time(KEEP_S)
    assert inbox.expire() == (state.question.decision_id,)


@pytest.mark.parametrize("status", [APPROVED, DENIED])
def test_who_asks_says_which_answers_are_none(inbox: Inbox, status: QuestionStatus) -> None:
    """A question that was answered so is asked anew, in its place or under another id."""
    first = inbox.put(of_the_call())
    inbox.end(first.question.decision_id, first.digest, status)
    unproven = {first.question.decision_id}
    assert inbox.put(of_the_call()).digest == first.digest
    other = inbox.put(of_the_call(), unproven)
    assert (other.status, other.question.decision_id != first.question.decision_id) == (WAITING, True)
    assert inbox.put(first.question).digest == first.digest
    assert use(inbox, other)
    again = inbox.put(first.question, unproven)
    assert (again.status, again.digest != first.digest) == (WAITING, True)


def test_what_is_no_time_says_nothing(inbox: Inbox) -> None:
    """Somebody has written a text where the time of a use is, as SQLite takes it: the call does not run."""
    if "Sqlite" not in type(inbox.clock.state).__name__:
        with pytest.raises(StateError):
            run_sql(inbox.clock.state, "INSERT INTO aegis.used_call VALUES ('one call', 'never')")
        return
    run_sql(inbox.clock.state, "INSERT INTO aegis.used_call VALUES ('one call', 'never')")
    assert not take(inbox, "a decision", 1 << 61)


@pytest.mark.parametrize("kind", ["inbox", "sdk"])
def test_a_yes_whose_time_is_over_is_used_by_nobody(inbox: Inbox, kind: str) -> None:
    """Also where no process has run `expire` since; and the same question is asked anew."""
    in_time, late = (inbox.put(shared_question(expires_s=60.0, kind=kind)) for _ in range(2))
    for each in (in_time, late):
        assert inbox.say(each) is APPROVED
    inbox.clock.pass_time(60 + YES_WAITS_S[kind] - 2)
    assert inbox.one(in_time).is_answered
    assert use(inbox, in_time)
    inbox.clock.pass_time(3)
    assert not inbox.one(late).is_answered
    assert not use(inbox, late)
    assert inbox.one(late).status is APPROVED
    again = inbox.put(late.question)
    assert (again.status, again.digest != late.digest) == (WAITING, True)


def test_a_question_whose_time_is_over_is_used_by_nobody(inbox: Inbox) -> None:
    """It was answered so that it counts for who asks, though the inbox does not call it approved."""
    state = inbox.put(shared_question(expires_s=60.0, approvers=Approvers(count=2)))
    assert inbox.say(state) is WAITING
    inbox.clock.pass_time(61)
    assert not use(inbox, state)
    assert inbox.end(state.question.decision_id, state.digest, WITHDRAWN)


def test_a_no_has_no_end(inbox: Inbox) -> None:
    state = inbox.put(shared_question(expires_s=60.0))
    assert inbox.say(state, approved=False) is DENIED
    inbox.clock.pass_time(60 + YES_WAITS_S["sdk"] + 1)
    assert inbox.one(state).is_answered
    assert inbox.put(state.question).status is DENIED
