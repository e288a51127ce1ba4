"""A call runs once for each time that it is asked about, whatever yeses there are."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from agents import RunState

from aegis_otel.adapters.openai_agents import answered_by
from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.governance.approvals.paused.paused_in_inbox import PausedInInbox
from aegis_otel.governance.approvals.paused.paused_questions import PausedQuestions
from aegis_otel.state.inbox import StateInbox
from tests.support.inbox import run_sql
from tests.support.machines import ANN, BOB, Desk, Machine, Machines, away

APPROVED, DENIED, EXPIRED, USED, WITHDRAWN = (
    QuestionStatus.APPROVED,
    QuestionStatus.DENIED,
    QuestionStatus.EXPIRED,
    QuestionStatus.USED,
    QuestionStatus.WITHDRAWN,
)


async def answered(machine: Machine, saved: str, *, approve: bool = True) -> str:
    """Answer in the program, and not resume the run; return its state."""
    state = await RunState.from_string(machine.agent(), saved)
    with answered_by(BOB):
        (interruption,) = state.get_interruptions()
        state.approve(interruption) if approve else state.reject(interruption)
    return state.to_string()


def outputs(result: Any) -> list[str]:
    return [each["output"] for each in result.to_input_list() if "output" in each]


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it has not become so")


@pytest.mark.parametrize("status", [WITHDRAWN, EXPIRED, USED])
async def test_a_yes_that_ends_before_it_is_taken_runs_nothing(
    status: QuestionStatus, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process withdraws the question or uses the yes, or its time is over, after it was looked up."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.say()
    about = asked.question.decision_id, asked.digest
    find = PausedQuestions.find

    def end_then(self: PausedQuestions, *given: Any) -> Any:
        found = find(self, *given)
        if status is WITHDRAWN:
            desk.inbox.end(*about, WITHDRAWN)
        elif status is USED:
            desk.inbox.use(*about, "another")
        else:
            run_sql(desk.state, "UPDATE aegis.question SET expires_ns = 1")
            desk.inbox.expire()
        return found

    claim = PausedInInbox.claim

    async def late(self: PausedInInbox, *given: Any) -> Any:
        monkeypatch.setattr(PausedQuestions, "find", end_then)
        return await claim(self, *given)

    monkeypatch.setattr(PausedInInbox, "claim", late)
    with machine("a") as a:
        result = await a.resume(saved)
        assert a.ran == []
        assert outputs(result)[0].startswith("[AEGIS ERROR] Action not run: its approval was used")
    assert desk.status(asked) is status


async def test_a_yes_to_an_older_question_runs_nothing_after_a_newer_one_has(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling deploy: the second machine has a newer text of the rule, asks anew, and runs the call."""
    with machine("a") as a:
        saved = await a.pause()
        approved = await answered(a, saved)
    with machine("b", risk_level="critical") as b:
        again = (await b.resume(saved)).to_state().to_string()
        desk.say()
        await b.resume(again)
        assert b.ran == [1]
    desk.pass_time(monkeypatch, 3 / 1_440)
    with machine("a") as a:
        result = await a.resume(approved)
        assert (a.ran, len(result.interruptions)) == ([], 1)
    row = a.rows()[0]
    assert (row["result_status"], row["outcome"], row["approver"]) == ("skipped", "approved", BOB)
    assert row["result_error"].startswith("The call has gone on by another yes")


@pytest.mark.parametrize("days", [3 / 1_440, 31, 364])
async def test_a_yes_to_a_question_that_could_not_be_put(
    days: float, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs nothing where the call has run by the question of another machine, also long ago."""
    with machine("a") as a, monkeypatch.context() as patch:
        patch.setattr(StateInbox, "put", away)
        saved = await a.pause()
        approved = await answered(a, saved)
    with machine("b") as b:
        await b.resume(saved)
        desk.say()
        await b.resume(saved)
        assert b.ran == [1]
    desk.pass_time(monkeypatch, days)
    with machine("a") as a:
        result = await a.resume(approved)
        assert (a.ran, len(result.interruptions)) == ([], 1)
        assert a.rows()[0]["result_error"].startswith("The call has gone on by another yes")


async def test_a_yes_whose_question_was_used_long_ago(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is removed from the inbox by then."""
    with machine("a") as a:
        saved = await a.pause()
        asked = desk.waiting()
        approved = await answered(a, saved)
        eventually(lambda: desk.status(asked) is APPROVED)
        # as where another machine has read the yes of somebody before this one was written
        assert desk.inbox.use(asked.question.decision_id, asked.digest, "another")
    desk.pass_time(monkeypatch, 31)
    assert desk.inbox.look([asked.question.decision_id]) == {}
    with machine("a") as a:
        result = await a.resume(approved)
        assert (a.ran, len(result.interruptions)) == ([], 1)


async def test_a_yes_of_last_year_is_over(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then nobody can know any more whether the call has run: the run is paused again."""
    with machine("a") as a:
        saved = await a.pause()
        approved = await answered(a, saved)
    desk.pass_time(monkeypatch, 366)
    with machine("a") as a:
        result = await a.resume(approved)
        assert (a.ran, len(result.interruptions)) == ([], 1)
    row = a.rows()[0]
    assert (row["result_status"], row["human_decision"]) == ("denied", "expired")
    assert row["result_error"] == "It was approved, and the question is more than 365 days old"


async def test_a_call_that_is_asked_about_again_runs_again(machine: Machines, desk: Desk) -> None:
    """The same saved run, resumed a second time: a new question, and a new yes."""
    with machine("a") as a:
        saved = await a.pause()
        for number in range(1, 4):
            if number == 2:
                desk.say()
                await a.resume(saved)
            else:
                await a.resume(await answered(a, saved))
            assert a.ran == [1] * number
            result = await a.resume(saved)
            assert len(result.interruptions) == 1
            saved = result.to_state().to_string()
    assert len(a.rows()) == 4


async def test_a_yes_is_not_forgotten_by_who_resumes_the_run_without_it(
    machine: Machines, desk: Desk
) -> None:
    """An older copy of the saved run is resumed: it stays paused, and the one with the yes goes on."""
    with machine("a") as a:
        saved = await a.pause()
        approved = await answered(a, saved)
        result = await a.resume(saved)
        assert (a.ran, len(result.interruptions)) == ([], 1)
        await a.resume(approved)
        assert (a.ran, len(a.rows())) == ([1], 1)


async def test_a_yes_in_the_program_while_the_inbox_is_away_as_it_is_taken(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is refused, and the yes is there when the run is resumed later."""
    with machine("a") as a:
        saved = await a.pause()
        approved = await answered(a, saved)
        with monkeypatch.context() as patch:
            patch.setattr(StateInbox, "take_call", away)
            await a.resume(approved)
            assert a.ran == []
        await a.resume(approved)
        assert a.ran == [1]


@pytest.mark.parametrize("names", [("look", "find", "take_call"), ("find", "take_call"), ("look",)])
async def test_a_run_with_a_yes_in_the_program_is_paused_while_the_inbox_is_away(
    names: tuple[str, ...], machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its saved state stays good: no program takes the run for done."""
    with machine("a") as a:
        approved = await answered(a, await a.pause())
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(StateInbox, name, away)
            result = await a.resume(approved)
        assert (a.ran, len(result.interruptions)) == ([], 1)
        assert (len(a.rows()), a.row()["result_status"]) == (1, "pending")
        await a.resume(result.to_state().to_string())
        assert (a.ran, len(a.rows())) == ([1], 1)


# --- two resumptions at once ---


@pytest.mark.parametrize("given", ["in the program", "on the page", "in the program, about no question"])
async def test_of_two_resumptions_at_once_one_runs_the_call(
    given: str, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes when the first has taken the yes in the inbox, and not yet the row in the audit."""
    with machine("a") as a, monkeypatch.context() as patch:
        if given.endswith("no question"):
            patch.setattr(StateInbox, "put", away)
        saved = await a.pause()
        if given == "on the page":
            desk.say()
        else:
            saved = await answered(a, saved)
    name = "use" if given == "on the page" else "take_call"
    take, is_taken, goes_on = getattr(StateInbox, name), threading.Event(), threading.Event()

    def slow(self: StateInbox, *about: Any) -> bool:
        result: bool = take(self, *about)
        is_taken.set()
        assert goes_on.wait(20)
        return result

    with machine("a") as a:
        with monkeypatch.context() as patch:
            patch.setattr(StateInbox, name, slow)
            first = asyncio.ensure_future(a.resume(saved))
            await asyncio.to_thread(is_taken.wait, 20)
        second = await a.resume(saved)
        assert (a.ran, len(second.interruptions)) == ([], 1)
        goes_on.set()
        await first
        assert a.ran == [1]
        assert [row["result_status"] for row in a.rows()] == ["success", "pending"]


@pytest.mark.parametrize("given", ["in the program", "on the page"])
async def test_a_new_yes_counts_while_the_row_of_the_taken_one_still_waits(
    given: str, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ended between the inbox and the audit; the row is closed a minute later."""
    with machine("a") as a:
        saved = await a.pause()
        if given == "on the page":
            desk.say()
        else:
            saved = await answered(a, saved)
    name = "use" if given == "on the page" else "take_call"
    take = getattr(StateInbox, name)

    def ended(self: StateInbox, *about: Any) -> bool:
        take(self, *about)
        return bool(away())

    with machine("a") as a:
        with monkeypatch.context() as patch:
            patch.setattr(StateInbox, name, ended)
            await a.resume(saved)
        result = await a.resume(saved)
        assert (a.ran, len(result.interruptions)) == ([], 1)
        desk.say()
        await a.resume(result.to_state().to_string())
        assert a.ran == [1]
    assert [row["result_status"] for row in a.rows()] == ["pending", "blocked", "success"]
    assert desk.close_rows(a) == (a.rows()[0]["decision_id"],)
    assert a.rows()[0]["result_error"].startswith("Its yes was taken by ")


# --- a yes in the program, and the inbox ---


async def test_a_yes_in_the_program_ends_the_question_in_the_inbox(machine: Machines, desk: Desk) -> None:
    """So that nobody is asked in vain."""
    with machine("a") as a:
        saved = await a.pause()
        asked = desk.waiting()
        approved = await answered(a, saved)
        eventually(lambda: desk.status(asked) is APPROVED)
        assert desk.inbox.listing() == ()
        await a.resume(approved)
        assert a.ran == [1]
    assert desk.status(asked) is USED


@contextmanager
def unended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that is killed before the question in the inbox is ended."""
    with monkeypatch.context() as patch:
        patch.setattr(PausedInInbox, "end_later", lambda *_: None)
        yield


@pytest.mark.parametrize("where", ["its question", "another question"])
async def test_a_no_in_the_inbox_wins_over_a_yes_in_the_program(
    where: str, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine("a") as a, unended(monkeypatch):
        saved = await a.pause()
        approved = await answered(a, saved)
    if where == "another question":
        with machine("b", risk_level="critical") as b:
            await b.resume(saved)
    asked = desk.say(approved=False)
    for _ in range(2):
        with machine("a") as a:
            result = await a.resume(approved)
            assert (a.ran, result.interruptions) == ([], [])
            assert outputs(result) == ["[AEGIS DENIED] Action denied by human operator"]
    row = a.row()
    assert (row["result_status"], row["human_decision"], row["approver"]) == ("denied", "denied", ANN)
    assert desk.status(asked) is DENIED


async def test_a_no_that_comes_as_the_yes_in_the_program_is_taken(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine("a") as a, unended(monkeypatch):
        saved = await a.pause()
        approved = await answered(a, saved)
    take_call = StateInbox.take_call

    def late(self: StateInbox, *given: Any) -> bool:
        desk.say(approved=False)
        return take_call(self, *given)

    with machine("a") as a:
        with monkeypatch.context() as patch:
            patch.setattr(StateInbox, "take_call", late)
            await a.resume(approved)
            assert a.ran == []
        result = await a.resume(approved)
        assert (a.ran, outputs(result)) == ([], ["[AEGIS DENIED] Action denied by human operator"])


async def test_a_row_with_a_yes_is_closed_by_a_no_in_the_inbox(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine("a") as a, unended(monkeypatch):
        await answered(a, await a.pause())
    asked = desk.say(approved=False, reason="no")
    assert desk.close_rows(a) == (asked.question.decision_id,)
    row = a.row()
    assert (row["result_status"], row["outcome"], row["human_decision"]) == ("denied", "denied", "denied")
    assert (row["approver"], row["approval_reason"]) == (ANN, "no")


async def test_a_row_with_a_yes_is_not_closed_by_what_is_no_no(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who can write to the inbox has written that the question was denied: the call goes on."""
    with machine("a") as a, unended(monkeypatch):
        approved = await answered(a, await a.pause())
    asked = desk.waiting()
    desk.inbox.end(asked.question.decision_id, asked.digest, DENIED)
    assert desk.close_rows(a) == ()
    with machine("a") as a:
        await a.resume(approved)
        assert a.ran == [1]


# --- answers that are none here ---


@pytest.mark.parametrize("where", ["a", "b"])
async def test_a_no_in_the_program_that_becomes_a_yes_is_asked_about_anew(
    where: str, machine: Machines, desk: Desk
) -> None:
    """The question of the no has ended as denied, without an answer that another audit could check."""
    with machine("a") as a:
        saved = await a.pause()
        asked = desk.waiting()
        await answered(a, saved, approve=False)
        eventually(lambda: desk.status(asked) is DENIED)
    with machine(where) as b:
        again = saved
        if where == "a":
            state = await RunState.from_string(b.agent(), saved)
            state.approve(state.get_interruptions()[0])
            again = state.to_string()
        result = await b.resume(again)
        assert (b.ran, len(result.interruptions)) == ([], 1)
        assert desk.waiting().question.decision_id != asked.question.decision_id
        assert b.rows()[-1]["result_status"] == "pending"
        desk.say()
        await b.resume(result.to_state().to_string())
        assert b.ran == [1]
    assert desk.status(asked) is DENIED


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("status", [APPROVED, DENIED])
async def test_a_question_whose_answers_are_none_here_is_asked_anew(
    status: QuestionStatus, where: str, machine: Machines, desk: Desk
) -> None:
    """They are signed with a key that is not trusted any more, or somebody has only written the status."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.waiting()
    run_sql(desk.state, "UPDATE aegis.question SET status = :status, ended_ns = 1", status=status.value)
    with machine(where) as b:
        result = await b.resume(saved)
        assert (b.ran, len(result.interruptions)) == ([], 1)
        new = desk.waiting()
        assert new.digest != asked.digest
        desk.say()
        await b.resume(result.to_state().to_string())
        assert b.ran == [1]
    assert len(b.rows()) == 1


async def test_a_yes_of_the_program_elsewhere_is_none_here(machine: Machines, desk: Desk) -> None:
    """Two audits: whoever goes on first runs it, and the other is paused."""
    with machine("a") as a:
        saved = await a.pause()
        asked = desk.waiting()
        approved = await answered(a, saved)
        eventually(lambda: desk.status(asked) is APPROVED)
    with machine("b") as b:
        result = await b.resume(saved)
        assert (b.ran, len(result.interruptions)) == ([], 1)
    other = desk.waiting()
    with machine("a") as a:
        await a.resume(approved)
        assert a.ran == [1]
    assert [desk.status(each) for each in (asked, other)] == [USED, WITHDRAWN]


@pytest.mark.parametrize("minutes", [55, 65])
async def test_a_question_that_is_put_late_has_the_time_of_its_row(
    minutes: int, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People are shown no time in which a yes would count for nothing; after it, the call is asked anew."""
    with machine("a", expires="1h") as a, monkeypatch.context() as patch:
        patch.setattr(StateInbox, "put", away)
        saved = await a.pause()
    desk.pass_time(monkeypatch, 50 / 1440)
    with machine("a", expires="1h") as a:
        assert (await a.resume(saved)).interruptions
    late = desk.waiting()
    assert late.left_s == pytest.approx(600, abs=60)
    desk.pass_time(monkeypatch, minutes / 1440)
    if minutes == 65:
        assert desk.status(late) is EXPIRED
        with machine("a", expires="1h") as a:
            saved = (await a.resume(saved)).to_state().to_string()
        assert desk.waiting().left_s == pytest.approx(3600, abs=60)
    desk.say()
    with machine("a", expires="1h") as a:
        await a.resume(saved)
        assert a.ran == [1]


async def test_a_question_that_is_put_late_to_a_rule_with_less_time_is_asked_anew(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine("a", expires="1h") as a, monkeypatch.context() as patch:
        patch.setattr(StateInbox, "put", away)
        saved = await a.pause()
    desk.pass_time(monkeypatch, 50 / 1440)
    with machine("a", expires="10m") as a:
        assert (await a.resume(saved)).interruptions
        assert desk.waiting().left_s == pytest.approx(600, abs=60)
        desk.say()
        await a.resume(saved)
        assert a.ran == [1]


@pytest.mark.parametrize("rule", [{"expires": "1h"}, {}], ids=["with expires", "without"])
async def test_a_yes_that_nobody_has_used_in_its_time(
    rule: dict[str, Any], machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process has run `expire` since; whoever resumes the run is paused, and the call is asked anew."""
    with machine("a", **rule) as a:
        saved = await a.pause()
    asked = desk.say()
    with monkeypatch.context() as patch:
        patch.setattr(StateInbox, "expire", lambda _: ())
        desk.pass_time(monkeypatch, 61)
    run_sql(desk.state, "UPDATE aegis.question SET expires_ns = 9000000000000000000")
    with machine("c", **rule) as c:
        result = await c.resume(saved)
        assert (c.ran, len(result.interruptions)) == ([], 1)
        assert desk.waiting().question.decision_id != asked.question.decision_id
        again = result.to_state().to_string()
        desk.say(BOB)
        await c.resume(again)
        assert c.ran == [1]
    assert c.row()["approver"] == BOB


@pytest.mark.parametrize("goes_on_by", ["its yes", "the older copy"])
async def test_a_yes_in_the_program_to_less_is_not_taken_for_the_one_in_the_inbox(
    goes_on_by: str, machine: Machines, desk: Desk
) -> None:
    """A rolling deploy: the rule has a higher risk now, and the question of the newer machine is approved."""
    with machine("a") as a:
        saved = await a.pause()
        asked = desk.waiting()
        approved = await answered(a, saved)
        eventually(lambda: desk.status(asked) is APPROVED)
    with machine("b", risk_level="critical") as b:
        await b.resume(saved)
        newer = desk.say()
    with machine("a", risk_level="critical") as a:
        await a.resume(approved if goes_on_by == "its yes" else saved)
        assert a.ran == [1]
    assert desk.status(newer) is USED
    old, row = a.rows()
    assert (row["decision_id"], row["result_status"], row["approver"]) == (
        newer.question.decision_id,
        "success",
        ANN,
    )
    assert (old["decision_id"], old["result_status"]) == (asked.question.decision_id, "skipped")
    assert (old["human_decision"], old["approver"]) == ("approved", BOB)
    assert old["result_error"].startswith("The call has gone on by another yes")
