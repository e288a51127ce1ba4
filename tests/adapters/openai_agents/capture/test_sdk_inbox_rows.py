"""Rows that wait for an answer, and the time that they have, whatever the inbox says of their questions."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from agents import Agent, Runner, RunState
from agents.testing import ScriptedModel, assistant_message, function_call
from msgspec.structs import replace

from aegis_otel.adapters.openai_agents import answered_by
from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.approvals.inbox_codec import encode_question, question_digest
from aegis_otel.state.inbox import StateInbox
from tests.support.inbox import run_sql
from tests.support.machines import BOB, Desk, Machines, away

MINUTE_NS = 60 * 10**9
LOST = "Its time is over, and its question is not in the inbox"


@pytest.mark.parametrize(("rule", "days"), [({"expires": "1h"}, 1 / 24), ({}, 30.0)])
async def test_a_row_whose_question_was_never_put_is_closed(
    rule: dict[str, Any], days: float, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ended before that, or the inbox could not be reached; then its own time counts."""
    with machine("a", **rule) as a, monkeypatch.context() as patch:
        patch.setattr(StateInbox, "put", away)
        await a.pause()
    desk.pass_time(monkeypatch, days - 0.01)
    assert desk.close_rows(a) == ()
    desk.pass_time(monkeypatch, days + 0.01)
    assert desk.close_rows(a) == (a.row()["decision_id"],)
    row = a.row()
    assert (row["result_status"], row["human_decision"], row["outcome"]) == ("denied", "expired", "expired")
    assert row["result_error"] == LOST
    assert (
        row["approval_wait_s"] == days * 86_400
    )  # people were asked for so long, and not until it was closed


@pytest.mark.parametrize("what", ["used", "denied", "expired"])
async def test_a_row_whose_question_was_removed_is_closed(
    what: str, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process of its audit has run in the 30 days for which the question was kept."""
    with machine("a") as a:
        saved = await a.pause()
    if what != "expired":
        desk.say(approved=what == "used")
    with machine("b") as b:
        await b.resume(saved)
    desk.pass_time(monkeypatch, 31)
    desk.pass_time(monkeypatch, 62)
    assert desk.inbox.listing() == ()
    assert desk.close_rows(a) == (a.row()["decision_id"],)
    assert a.row()["result_error"] == LOST


@pytest.mark.parametrize("has_yes", [False, True])
async def test_only_rows_that_are_closed_soon_are_left_for_that(
    has_yes: bool, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a yes in its own audit goes on by that, and is closed after a year."""
    with machine("a") as a:
        state = await RunState.from_string(a.agent(), await a.pause())
        if has_yes:
            with answered_by(BOB):
                state.approve(state.get_interruptions()[0])
    desk.pass_time(monkeypatch, 30 + 30 / 86_400)
    assert desk.end_rows(a, 60.0) == ((), () if has_yes else (a.row()["decision_id"],))
    desk.pass_time(monkeypatch, 30 + 65 / 86_400)
    assert desk.end_rows(a, 60.0) == (() if has_yes else (a.row()["decision_id"],), ())


async def test_a_row_whose_time_was_over_before_somebody_noticed_is_closed_at_once(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One start is enough, where the process that asked is gone and none has run since."""
    with machine("a", expires="1h") as a:
        await a.pause()
    with monkeypatch.context() as patch:
        patch.setattr(StateInbox, "expire", lambda _: ())
        desk.pass_time(monkeypatch, 1 / 24 + 90 / 86_400)
    (row,) = a.rows()
    with machine("a", expires="1h") as a:
        a.bench.runtime._close_ended_rows()
    assert (row["result_status"], a.row()["human_decision"]) == ("pending", "expired")
    assert a.row()["approval_wait_s"] == 3600


async def test_a_row_is_left_until_its_time_is_over_by_a_clock_that_was_set_back(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was two hours ahead as somebody ended the question: the process that asked may still run."""
    with machine("a", expires="1h") as a:
        await a.pause()
    desk.pass_time(monkeypatch, 2 / 24)
    assert desk.inbox.listing() == ()
    desk.pass_time(monkeypatch, 0)
    left = (), (a.row()["decision_id"],)
    assert desk.end_rows(a, 60.0) == left
    desk.pass_time(monkeypatch, 1 / 24 + 30 / 86_400)
    assert desk.end_rows(a, 60.0) == left
    desk.pass_time(monkeypatch, 1 / 24 + 65 / 86_400)
    assert desk.end_rows(a, 60.0) == left[::-1]


async def test_a_row_is_not_closed_whose_run_is_resumed_just_then(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who closes rows has read that the question is over, and then the same row is asked about anew."""
    with machine("a", expires="1h") as a:
        saved = await a.pause()
    desk.pass_time(monkeypatch, 1)
    look, has_read, goes_on = desk.inbox.look, threading.Event(), threading.Event()

    def slow(*given: Any) -> Any:
        states = look(*given)
        if not has_read.is_set():
            has_read.set()
            goes_on.wait(10)
        return states

    monkeypatch.setattr(desk.inbox, "look", slow)
    closing = asyncio.create_task(asyncio.to_thread(desk.close_rows, a))
    await asyncio.to_thread(has_read.wait, 10)
    with machine("a", expires="1h") as b:
        saved = (await b.resume(saved)).to_state().to_string()
        goes_on.set()
        assert await closing == ()
        desk.say()
        await b.resume(saved)
        assert b.ran == [1]
    assert len(b.rows()) == 1


async def test_a_run_that_is_resumed_while_its_row_is_closed_is_asked_about_anew(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that resumes it has just found the row: nothing is asked under the id of a closed one."""
    with machine("a", expires="1h") as a:
        saved = await a.pause()
    desk.pass_time(monkeypatch, 1)
    put, closed = StateInbox.put, []

    def late(self: StateInbox, *given: Any) -> Any:
        closed.append(desk.close_rows(a))
        return put(self, *given)

    with machine("a", expires="1h") as b:
        with monkeypatch.context() as patch:
            patch.setattr(StateInbox, "put", late)
            saved = (await b.resume(saved)).to_state().to_string()
        first, second = b.rows()
        assert closed[0] == (first["decision_id"],)
        assert desk.waiting().question.decision_id == second["decision_id"]
        assert (first["result_status"], second["result_status"]) == ("denied", "pending")
        desk.say()
        await b.resume(saved)
        assert b.ran == [1]
    assert len(b.rows()) == 2


async def test_a_row_with_a_yes_waits_for_a_year(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine("a") as a:
        state = await RunState.from_string(a.agent(), await a.pause())
        with answered_by(BOB):
            state.approve(state.get_interruptions()[0])
    desk.pass_time(monkeypatch, 364)
    assert desk.close_rows(a) == ()
    desk.pass_time(monkeypatch, 366)
    assert desk.close_rows(a) == (a.row()["decision_id"],)
    row = a.row()
    assert row["result_error"] == "It was approved, and the question is more than 365 days old"
    assert (row["approver"], row["approval_wait_s"] < 60) == (BOB, True)


async def test_a_row_whose_body_has_begun_is_closed_after_a_year(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent as a tool, whose run went on in another audit, or nowhere."""
    with machine("a") as a:
        clerk = a.agent([function_call("act", {"x": 1}, call_id="inner")])
        call = function_call("ask", {"input": "go"}, call_id="outer")
        model = ScriptedModel([[call], [assistant_message("done")]])
        boss = Agent(name="Boss", model=model, tools=[clerk.as_tool("ask", "Asks.")])
        assert (await Runner.run(boss, "go")).interruptions
    outer, inner = (row["decision_id"] for row in a.rows())
    desk.pass_time(monkeypatch, 364)
    assert desk.close_rows(a) == (inner,)
    desk.pass_time(monkeypatch, 366)
    assert desk.close_rows(a) == (outer,)
    row = a.rows()[0]
    assert row["result_status"] == "unknown"
    assert row["result_error"] == "Its body began, and its run did not go on in this audit for 365 days"


async def test_a_row_that_cannot_be_read_keeps_no_other_open(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with machine("a") as a:
        await a.pause(call_id="c1")
        await a.pause(call_id="c2")
        first, second = a.rows()
        line = AuditRecord(stage="resolved", decision_id=first["decision_id"], timestamp=first["timestamp"])
        a.bench.runtime.audit.append(replace(line, result_status="pending", approval_terms="{"))
    desk.pass_time(monkeypatch, 70)
    desk.pass_time(monkeypatch, 140)
    assert desk.close_rows(a) == (second["decision_id"],)
    assert f"the row of decision {first['decision_id']} stays as it is" in caplog.text


# --- the time in which a yes counts ---


@pytest.mark.parametrize("lie", ["asked_ns", "expires_s"])
@pytest.mark.parametrize("where", ["a", "c"])
@pytest.mark.parametrize("after_s", [59, 121])
async def test_a_question_whose_time_was_made_longer(
    where: str, lie: str, after_s: int, machine: Machines, desk: Desk
) -> None:
    """Whoever can write to the inbox does so: the yes counts until the end that row and rule have, and then
    the call is asked about anew."""
    rule = {"expires": "1s"}
    with machine("a", **rule) as a:
        saved = await a.pause()
    asked = desk.waiting().question
    longer = {"asked_ns": asked.asked_ns + 3_600 * 10**9} if lie == "asked_ns" else {"expires_s": 3_600.0}
    question = replace(asked, **longer)
    body = encode_question(question)
    run_sql(
        desk.state,
        "UPDATE aegis.question SET body = :body, digest = :digest, expires_ns = :ends",
        body=body,
        digest=question_digest(body),
        ends=question.expires_ns,
    )
    old = desk.say(answered_ns=asked.asked_ns + after_s * 10**9)
    with machine(where, **rule) as c:
        result = await c.resume(saved)
        if after_s < 60:
            assert c.ran == [1]
            return
        assert (c.ran, len(result.interruptions)) == ([], 1)
        assert desk.waiting().digest != old.digest
        desk.say()
        await c.resume(result.to_state().to_string())
        assert c.ran == [1]
