"""Questions that are asked in the inbox: people answer them in other processes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from aegis_otel import Action, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.query.timeline import grant_of
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AnswerRefused, StateError
from aegis_otel.governance.approvals.inbox import GrantTerms, QuestionState, QuestionStatus, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import encode_answer
from aegis_otel.governance.call import Origin
from aegis_otel.governance.subject import acting_for
from aegis_otel.runtime.approval import InboxApprovalHandler
from aegis_otel.runtime.approval.answer_desk import Person, open_answer_desk
from aegis_otel.runtime.approval.answer_signature import load_answer_signer
from aegis_otel.runtime.approval.inbox import _Changes
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from tests.runtime.approval.test_answer_signature import make_pair
from tests.support.approvals_page import make_desk
from tests.support.inbox import an_answer, run_sql
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
DENIED = "Action denied by human operator"


class Runs(BaseExecutor):
    def __init__(self) -> None:
        self.ran: list[Any] = []

    async def execute(self, action: Action) -> Result:
        self.ran.append(action.params)
        return Result(action=action, status=ResultStatus.SUCCESS)


def policy(**rule: Any) -> dict[str, Any]:
    asks = {"name": "pay_asks", "match": {"type": "pay"}, "approval": "approve", "risk_level": "high"}
    return {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}, "rules": [asks | rule]}


class Desk:
    """The people who answer, in a process of their own as far as the state knows."""

    def __init__(self, audit: Path) -> None:
        self.audit = audit
        self.state = open_state(directory=audit)
        self.inbox = StateInbox(self.state)
        self.signer = load_answer_signer(audit)

    async def question(self, many: int = 1) -> QuestionState:
        """The one question that waits, once it does."""
        return (await self.questions(many))[0]

    async def questions(self, many: int = 1) -> tuple[QuestionState, ...]:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if len(found := self.inbox.listing(limit=1000)) >= many:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError("nobody asks")

    def say(self, state: QuestionState, who: str = "bob", **about: Any) -> QuestionStatus:
        answer = an_answer(state, who, **about)
        return self.inbox.answer(self.signer.sign(answer), answer)

    def now(self, state: QuestionState) -> QuestionState:
        return self.inbox.look([state.question.decision_id])[state.question.decision_id]

    async def ended(self, state: QuestionState) -> QuestionStatus:
        """The status of the question, once it is over."""
        until = time.monotonic() + 5
        while (now := self.now(state)).ended_ns is None and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return now.status


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "audit")


@pytest.fixture
def asking(bench: BENCH) -> BENCH:
    def make(**options: Any) -> Bench:
        defaults = {
            "policy": policy(),
            "approver": InboxApprovalHandler(),
            "executor": Runs(),
            "timeout": 20.0,
        }
        return bench(**defaults | options)

    return make


def ran(b: Bench) -> list[Any]:
    assert isinstance(b.runtime.executor, Runs)
    return b.runtime.executor.ran


def pay(b: Bench, amount: int = 50, **about: Any) -> asyncio.Task[Result]:
    return asyncio.ensure_future(b.runtime.run_one(Action("pay", params={"amount": amount}, **about)))


async def test_a_yes_from_the_inbox(asking: BENCH, desk: Desk) -> None:
    """The call runs, its row has who said yes, and the yes is used."""
    b = asking()
    call = pay(b)
    state = await desk.question()
    shown = state.question.question
    assert (shown.action_type, shown.action_params, shown.matched_rule) == (
        "pay",
        '{"amount":50}',
        "pay_asks",
    )
    assert 0 < (state.left_s or 0) <= 20
    desk.say(state, "bob@ops", reason="ticket 7")
    began = time.monotonic()
    assert (await call).ok
    assert time.monotonic() - began < 2
    assert ran(b) == [{"amount": 50}]
    row = b.row()
    assert row["decision_id"] == state.question.decision_id
    assert (row["human_decision"], row["approver"], row["approval_reason"]) == (
        "approved",
        "bob@ops",
        "ticket 7",
    )
    used = desk.now(state)
    assert used.status is QuestionStatus.USED
    assert f"process {row['pid']}" in (used.used_by or "")
    assert verify(b.audit).findings == []


async def test_a_no_from_the_inbox(asking: BENCH, desk: Desk) -> None:
    b = asking()
    call = pay(b)
    desk.say(await desk.question(), approved=False, reason="not today")
    result = await call
    assert (result.status, result.error) == (ResultStatus.DENIED, DENIED)
    assert (b.row()["human_decision"], b.row()["approver"], ran(b)) == ("denied", "bob", [])


async def test_two_of_the_right_persons(asking: BENCH, desk: Desk) -> None:
    """By the policy of the process that asks, whatever the inbox makes of the answers."""
    b = asking(policy=policy(approvers={"users": ["*@ops"], "count": 2}))
    with acting_for(user="ann@ops"):
        call = pay(b)
        state = await desk.question()
        assert desk.say(state, "eve@elsewhere") is QuestionStatus.WAITING
        assert desk.say(state, "ann@ops") is QuestionStatus.WAITING
        assert desk.say(state, "bob@ops") is QuestionStatus.WAITING
        await asyncio.sleep(1.2)
        assert not call.done()
        assert desk.say(state, "cid@ops", reason="seen") is QuestionStatus.APPROVED
        assert (await call).ok
    assert b.row()["approver"] == "bob@ops, cid@ops"


async def test_what_is_written_into_the_inbox_is_no_answer(asking: BENCH, desk: Desk) -> None:
    """Neither a status nor an answer that is not signed with a trusted key."""
    b = asking()
    call = pay(b)
    state = await desk.question()
    answer = an_answer(state)
    forged = SignedAnswer(encode_answer(answer), b"x" * 64, desk.signer.key_id)
    assert desk.inbox.answer(forged, answer) is QuestionStatus.APPROVED
    result = await call
    assert (result.status, ran(b)) == (ResultStatus.DENIED, [])
    assert "its answers do not count here" in b.row()["result_error"]
    assert "another signature" in b.row()["result_error"]
    call = pay(b)
    state = (await desk.questions())[0]
    run_sql(desk.state, "UPDATE aegis.question SET status = 'approved', change = change + 100")
    assert (await call).status is ResultStatus.DENIED
    assert ran(b) == []


async def test_answers_are_judged_in_threads_that_no_call_needs(asking: BENCH, desk: Desk) -> None:
    """Whoever writes many answers holds up no call with large arguments, nor is held up by such calls."""
    b = asking()
    go_on = threading.Event()
    large = [asyncio.ensure_future(RealSystem.off_loop(lambda: go_on.wait(10))) for _ in range(4)]
    try:
        call = pay(b)
        desk.say(await desk.question())
        assert (await asyncio.wait_for(call, 5)).ok
    finally:
        go_on.set()
        await asyncio.gather(*large)


async def test_the_requester_may_not_answer_though_their_name_is_hidden(asking: BENCH, desk: Desk) -> None:
    """Neither at the desk nor past it: the question waits on for those who may."""
    carl = "4111111111111111"
    b = asking(policy=policy(approvers={"users": ["*"]}))
    with acting_for(user=carl):
        call = pay(b)
    state = await desk.question()
    assert carl not in (state.question.question.user_id or "")
    people = make_desk(b.audit)
    about = state.question.decision_id, state.digest
    with pytest.raises(AnswerRefused, match="the user that the agent acts for"):
        people.give(*about, Person(carl, (), "service"), approved=True)
    assert desk.say(state, carl) is QuestionStatus.WAITING
    assert people.give(*about, Person("bob", (), "service"), approved=True) is QuestionStatus.APPROVED
    assert (await call).ok
    assert b.row()["approver"] == "bob"


async def test_a_key_that_the_agent_does_not_trust_ends_no_question(
    asking: BENCH, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who answers is told so, and others can still answer."""
    b = asking(policy=policy(approvers={"count": 2}))
    with acting_for(user="ann"):
        call = pay(b)
    state = await desk.question()
    assert state.question.trusted_keys == (desk.signer.key_id,)
    right, (private, _) = make_desk(b.audit), make_pair(tmp_path)
    about = state.question.decision_id, state.digest
    with monkeypatch.context() as env:
        env.setenv("AEGIS_ANSWER_KEY", str(private))
        wrong = open_answer_desk(str(b.audit))
        for approved in (True, False):
            with pytest.raises(AnswerRefused, match=f"trusts {desk.signer.key_id}"):
                wrong.give(*about, Person("eve", (), "local"), approved=approved)
    assert desk.now(state).change == state.change
    assert right.give(*about, Person("bob", (), "local"), approved=True) is QuestionStatus.WAITING
    assert right.give(*about, Person("carl", (), "local"), approved=True) is QuestionStatus.APPROVED
    assert (await call).ok
    assert b.row()["approver"] == "bob, carl"


async def test_nobody_answers(asking: BENCH, desk: Desk) -> None:
    """The question ends with the time of the rule, here and in the inbox."""
    b = asking(policy=policy(expires="1s"))
    call = pay(b)
    state = await desk.question()
    result = await call
    assert result.error == "Approval timed out"
    assert b.row()["human_decision"] == "expired"
    assert await desk.ended(state) is QuestionStatus.EXPIRED


async def test_a_call_that_is_cancelled_asks_no_more(asking: BENCH, desk: Desk) -> None:
    b = asking()
    call = pay(b)
    state = await desk.question()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await desk.ended(state) is QuestionStatus.WITHDRAWN
    assert b.row()["result_status"] == "cancelled"


async def test_a_call_that_is_cancelled_while_its_question_is_put_asks_no_more(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its question is in the inbox, and the loop has not heard of that yet."""
    b, with_state, is_put = asking(), RealSystem.with_state, asyncio.Event()

    async def slow(work: Callable[[], Any]) -> Any:
        result = await with_state(work)
        if isinstance(result, QuestionState):
            is_put.set()
            await asyncio.sleep(60)
        return result

    monkeypatch.setattr(RealSystem, "with_state", staticmethod(slow))
    task = pay(b)
    await asyncio.wait_for(is_put.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (state,) = desk.inbox.changes(0)
    assert await desk.ended(state) is QuestionStatus.WITHDRAWN


async def test_many_wait_at_once(asking: BENCH, desk: Desk) -> None:
    """Each gets the answer to its own question; an answer is seen at once after many others."""
    b = asking()
    calls = {amount: pay(b, amount) for amount in range(200)}
    for state in await desk.questions(200):
        amount = msgspec.json.decode(state.question.question.action_params)["amount"]
        desk.say(state, approved=amount % 2 == 0)
    results = await asyncio.gather(*calls.values())
    assert [each.ok for each in results] == [amount % 2 == 0 for amount in calls]
    assert sorted(each["amount"] for each in ran(b)) == list(range(0, 200, 2))


async def test_the_inbox_is_away_for_a_while(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is put, found and used as soon as that can be done again."""
    b = asking()
    real, fails = (
        {name: getattr(StateInbox, name) for name in ("put", "look", "use")},
        {"put", "look", "use"},
    )

    def break_once(name: str) -> None:
        def call(self: StateInbox, *args: Any, **options: Any) -> Any:
            if name in fails:
                fails.discard(name)
                raise StateError("away")
            return real[name](self, *args, **options)

        monkeypatch.setattr(StateInbox, name, call)

    for name in real:
        break_once(name)
    call = pay(b)
    desk.say(await desk.question())
    assert (await call).ok
    assert fails == set()


async def test_the_inbox_is_away_until_the_end(
    asking: BENCH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says that nobody could be asked, and not that nobody answered."""
    path = tmp_path / "broken.sqlite3"
    path.write_bytes(b"no database, and nobody's")
    path.chmod(0o600)
    monkeypatch.setenv("AEGIS_STATE", f"sqlite:///{path}")
    b = asking(timeout=1.0)
    result = await pay(b)
    assert (result.status, result.error) == (ResultStatus.DENIED, "Approval could not be obtained")
    assert "nobody could be asked" in b.row()["result_error"]
    assert b.row()["human_decision"] is None


async def test_it_is_used_once_also_where_the_answer_of_the_store_is_lost(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose answer never came is found by the name that it was made under."""
    real, calls = StateInbox.use, []

    def use(self: StateInbox, *about: str) -> bool:
        calls.append(about)
        used = real(self, *about)
        if len(calls) == 1:
            raise StateError("the connection is lost")
        return used

    monkeypatch.setattr(StateInbox, "use", use)
    b = asking()
    call = pay(b)
    desk.say(await desk.question())
    assert (await call).ok
    assert len(calls) == 2
    assert len(ran(b)) == 1


async def test_a_yes_that_is_gone_is_none(asking: BENCH, desk: Desk) -> None:
    b = asking()
    call = pay(b)
    state = await desk.question()
    answer = an_answer(state)
    desk.inbox.answer(desk.signer.sign(answer), answer)
    assert desk.inbox.use(state.question.decision_id, state.digest, "somebody else")
    result = await call
    assert (result.status, ran(b)) == (ResultStatus.DENIED, [])


async def test_an_answer_that_comes_while_another_question_is_read(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found, though the poll that was under way has seen a later change and not this question."""
    real, read, go = StateInbox.look, threading.Event(), threading.Event()
    is_armed = False

    def look(self: StateInbox, *about: Any) -> Any:
        if is_armed and threading.current_thread().name.startswith("aegis-inbox") and not go.is_set():
            read.set()
            assert go.wait(10)
        return real(self, *about)

    monkeypatch.setattr(StateInbox, "look", look)
    b = asking()
    first = pay(b, 1)
    early = await desk.question()
    desk.inbox.refuse(early.question.decision_id, "mallory", "no approver")
    await asyncio.sleep(1)
    is_armed = True
    assert await asyncio.to_thread(read.wait, 10)
    second = pay(b, 2)
    late = next(each for each in await desk.questions(2) if each.digest != early.digest)
    desk.say(late)
    desk.inbox.refuse(early.question.decision_id, "mallory", "no approver")
    go.set()
    assert (await asyncio.wait_for(second, 5)).ok
    desk.say(early)
    assert (await asyncio.wait_for(first, 5)).ok


async def test_an_old_question_is_looked_for_as_often_as_a_new_one(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent goes on less than a second after the click, however long people have thought."""
    pauses: list[float] = []
    passed_s = 0.0
    is_old = threading.Event()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if passed_s and len(pauses) > 3:
            is_old.set()
        time.sleep(0.02)

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed_s, sleep=pause)
    monkeypatch.setattr("aegis_otel.runtime.approval.inbox.time", clock)
    b = asking()
    call = pay(b)
    state = await desk.question()
    pauses.clear()
    passed_s = 4 * 3600.0
    assert await asyncio.to_thread(is_old.wait, 10)
    desk.say(state)
    assert (await asyncio.wait_for(call, 5)).ok
    assert max(pauses) <= 0.5, "a second has room for that and for the answer to be checked and used"


async def test_a_row_that_breaks_one_poll_ends_no_other(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes a text where a number belongs, as SQLite lets them, and something fails unforeseen."""
    b = asking()
    first = pay(b, 1)
    state = await desk.question()
    is_text = "UPDATE aegis.question SET change = 'text'"
    run_sql(desk.state, is_text)
    await asyncio.sleep(1.2)
    run_sql(desk.state, "UPDATE aegis.question SET change = :change", change=state.change)
    monkeypatch.setattr(_Changes, "notify", lambda *_: 1 / 0)
    desk.inbox.refuse(state.question.decision_id, "mallory", "no approver")
    await asyncio.sleep(1.2)
    monkeypatch.undo()
    second = pay(b, 2)
    for each in await desk.questions(2):
        desk.say(each)
    assert (await asyncio.wait_for(second, 5)).ok
    assert (await asyncio.wait_for(first, 5)).ok


async def test_a_policy_that_changes_asks_anew(asking: BENCH, desk: Desk) -> None:
    """A yes to what the rule asked before is none; the new question has the same id."""
    b = asking()
    call = pay(b)
    first = await desk.question()
    b.runtime.update_policy(Policy.from_dict(policy(name="another_rule")))
    desk.say(first)
    while (second := await desk.question()).digest == first.digest:
        await asyncio.sleep(0.05)
    assert second.question.decision_id == first.question.decision_id
    assert second.question.question.matched_rule == "another_rule"
    desk.say(second)
    assert (await call).ok
    assert verify(b.audit).findings == []


async def test_nothing_is_opened_where_nobody_is_asked(asking: BENCH, tmp_path: Path) -> None:
    b = asking(policy=policy(approval="auto"))
    assert (await pay(b)).ok
    assert not (b.audit / "state.sqlite3").exists()


# --- grants ---


async def granted(b: Bench, desk: Desk, terms: GrantTerms, amount: int = 1) -> QuestionState:
    """Run a call whose yes is a grant as well."""
    call = pay(b, amount)
    state = await desk.question()
    desk.say(state, grant=terms, reason="all of them")
    assert (await call).ok
    return state


async def test_what_waits_is_measured_by_who_asks(asking: BENCH, desk: Desk) -> None:
    """Once the process has used the inbox; it is not opened for the metrics alone."""
    b = asking()
    assert not b.telemetry.points("aegis.inbox.waiting")
    assert not (desk.audit / "state.sqlite3").exists()
    call = pay(b)
    state = await desk.question()
    until = time.monotonic() + 20
    while not (points := b.telemetry.points("aegis.inbox.waiting")) and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert list(points.values()) == [1]
    desk.say(state)
    assert (await call).ok


async def test_a_grant_approves_the_next_call(asking: BENCH, desk: Desk) -> None:
    """Whatever its arguments; the row names who gave it, by which decision, and until when."""
    b = asking()
    with acting_for(user="ann"):
        state = await granted(b, desk, GrantTerms(3600.0, "time"))
        assert (await pay(b, 2)).ok
    assert ran(b) == [{"amount": 1}, {"amount": 2}]
    row = b.rows()[1]
    assert (row["human_decision"], row["approver"], row["outcome"]) == ("approved", "bob", "approved")
    assert row["approval_reason"].startswith(f"granted with decision {state.question.decision_id} until 20")
    assert row["approval_reason"].endswith("; all of them")
    found = grant_of(row)
    assert found is not None
    assert found[0] == state.question.decision_id
    assert datetime.fromisoformat(found[1]) > datetime.now(UTC)
    assert verify(b.audit).findings == []
    (used,) = b.telemetry.events("aegis.inbox.grant_used")
    assert used["aegis.approval.grant.id"] == state.question.decision_id
    assert used["aegis.decision.id"] == row["decision_id"]


@pytest.mark.parametrize(
    "what", ["rule", "target", "user", "revoked", "over", "risk", "approvers", "forged", "policy"]
)
async def test_a_grant_covers_nothing_else(what: str, asking: BENCH, desk: Desk) -> None:
    b = asking()
    with acting_for(user="ann"):
        state = await granted(b, desk, GrantTerms(1.0 if what == "over" else 3600.0, "time"))
    about: dict[str, Any] = {"target": "elsewhere"} if what == "target" else {}
    changed = {
        "rule": {"name": "other_rule"},
        "risk": {"risk_level": "critical"},
        "approvers": {"approvers": {"users": ["cid"]}},
        "policy": {"match": {"type": "p*"}},
    }
    if what in changed:
        b.runtime.update_policy(Policy.from_dict(policy(**changed[what])))
    if what == "revoked":
        assert desk.inbox.revoke(state.question.decision_id, "bob")
    if what == "over":
        await asyncio.sleep(1.1)
    if what == "forged":
        run_sql(desk.state, "UPDATE aegis.answer SET signature = :none", none=b"x" * 64)
    with acting_for(user="eve" if what == "user" else "ann"):
        call = pay(b, 2, **about)
        again = await desk.question()
        desk.say(again, "cid", approved=False)
        assert (await call).status is ResultStatus.DENIED
    assert len(ran(b)) == 1


async def test_a_grant_is_looked_up_in_vain_where_the_state_is_away(
    asking: BENCH, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a human is asked."""
    b = asking()

    def away(*_: object) -> Any:
        raise StateError("away")

    with acting_for(user="ann"):
        await granted(b, desk, GrantTerms(3600.0, "time"))
        monkeypatch.setattr(StateInbox, "grants", away)
        call = pay(b, 2)
    desk.say(await desk.question())
    assert (await call).ok


def authorize(b: Bench, conversation: str, number: int) -> asyncio.Task[Any]:
    """Ask whether a call of a conversation may run."""
    action = Action("pay", params={"amount": number})
    origin = Origin("pay", tool_call_id=f"call_{number}", run_id="run", conversation_id=conversation)
    return asyncio.ensure_future(b.runtime.governor.authorize(action, origin))


async def test_a_grant_holds_in_its_own_conversation(asking: BENCH, desk: Desk) -> None:
    """Though what people see of the ids is redacted, and so is alike in both."""
    b = asking()
    first = authorize(b, "4111111111111111", 1)
    state = await desk.question()
    assert "REDACTED" in (state.question.question.conversation_id or "")
    desk.say(state, grant=GrantTerms())
    assert (await first).refusal is None
    assert (await authorize(b, "4111111111111111", 2)).refusal is None
    other = authorize(b, "5555555555554444", 3)
    again = await desk.question()
    assert again.question.question.conversation_id == state.question.question.conversation_id
    desk.say(again, approved=False)
    assert (await other).refusal is not None


async def test_no_grant_for_all_users(asking: BENCH, desk: Desk) -> None:
    """Where the user is not known, a grant in all conversations would be one for everybody."""
    b = asking()
    call = pay(b)
    state = await desk.question()
    with pytest.raises(AnswerRefused, match="not known for which user"):
        desk.say(state, grant=GrantTerms(3600.0, "time"))
    desk.say(state)
    assert (await call).ok


async def test_no_grant_for_repetitions(asking: BENCH, desk: Desk) -> None:
    """At most once, but for what a human says: each repetition is asked about."""
    b = asking(policy=policy(conditions={"repeats": {"by": ["amount"], "within": "7d"}}))
    with acting_for(user="ann"):
        assert (await pay(b)).ok
        for _ in range(2):
            call = pay(b)
            state = await desk.question()
            with pytest.raises(AnswerRefused, match="asks about each call that may be a repetition"):
                desk.say(state, grant=GrantTerms(3600.0, "time"))
            desk.say(state)
            assert (await call).ok


async def test_a_grant_lets_calls_pass_a_limit(asking: BENCH, desk: Desk) -> None:
    b = asking(policy=policy(conditions={"calls_over": {"limit": 1, "within": "1d"}}))
    with acting_for(user="ann"):
        assert (await pay(b)).ok
        await granted(b, desk, GrantTerms(3600.0, "time"))
        assert (await pay(b)).ok
    assert [row["human_decision"] for row in b.rows()] == [None, "approved", "approved"]


async def test_a_rule_that_takes_the_number_of_another_has_no_grant(asking: BENCH, desk: Desk) -> None:
    small = {
        "match": {"type": "pay"},
        "conditions": {"param_lte": {"amount": 100}},
        "approval": "approve",
    }
    large = {"match": {"type": "pay"}, "approval": "approve"}
    b = asking(policy={"version": "1", "rules": [small, large]})
    with acting_for(user="ann"):
        state = await granted(b, desk, GrantTerms(3600.0, "time"))
        b.runtime.update_policy(Policy.from_dict({"version": "1", "rules": [large]}))
        call = pay(b, 10**6)
        again = await desk.question()
    assert again.question.question.matched_rule == state.question.question.matched_rule == "rule_0"
    desk.say(again, approved=False)
    assert (await call).status is ResultStatus.DENIED
