"""Runs that are paused on one machine, answered on another and resumed on a third: each has its own audit."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agents import Runner, RunState
from agents.testing import function_call
from msgspec.structs import replace

from aegis_otel import Action, Policy, acting_for
from aegis_otel.adapters.openai_agents import answered_by
from aegis_otel.audit.query.timeline import timeline
from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import AnswerRefused, AuditError
from aegis_otel.governance.approvals.inbox import GrantTerms, QuestionState, QuestionStatus, SharedQuestion
from aegis_otel.governance.approvals.paused.paused_calls import PausedCalls
from aegis_otel.governance.approvals.paused.paused_in_inbox import PausedInInbox
from aegis_otel.governance.approvals.paused.paused_rows import NextStep, Step
from aegis_otel.governance.call import Origin
from aegis_otel.runtime.approval import AutoApprovalHandler
from aegis_otel.runtime.approval.answer_signature import load_answer_signer
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.state.inbox import StateInbox
from tests.runtime.approval.test_answer_signature import make_pair
from tests.support.inbox import an_answer, run_sql
from tests.support.kit import Bench, make_bench
from tests.support.machines import ANN, BOB, Desk, Machines, away, policy, rewrite


async def test_pause_on_a_answer_on_b_resume_on_c(machine: Machines, desk: Desk) -> None:
    """One decision id, and a first line that says everything in the audit of the one that resumes."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.say(reason="ticket 7")
    with machine("c") as c:
        result = await c.resume(saved)
        assert (result.final_output, c.ran) == ("done", [1])
    row = c.row()
    assert row["decision_id"] == asked.question.decision_id == a.row()["decision_id"]
    assert (row["result_status"], row["outcome"]) == ("success", "approved")
    assert (row["human_decision"], row["approver"], row["approval_reason"]) == ("approved", ANN, "ticket 7")
    assert desk.status(asked) is QuestionStatus.USED


async def test_a_run_that_is_resumed_after_the_keys_were_replaced(
    machine: Machines, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again, once, so that people can answer with the new key."""
    (_, old), (private, new) = make_pair(tmp_path, "old"), make_pair(tmp_path, "new")
    both = tmp_path / "both.pem"
    both.write_bytes(old.read_bytes() + new.read_bytes())
    desk.signer = load_answer_signer(tmp_path / "desk", str(private))
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(old))
    with machine("a") as a:
        saved = await a.pause()
    first = desk.waiting()
    assert len(first.question.trusted_keys) == 1
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(both))
    for where in ("a", "b", "b"):
        with machine(where) as again:
            assert (await again.resume(saved)).interruptions
        assert desk.signer.key_id in desk.waiting().question.trusted_keys
    desk.say()
    with machine("a") as again:
        await again.resume(saved)
        assert again.ran == [1]


async def test_machines_that_trust_other_keys_ask_one_question(
    machine: Machines, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a key is replaced, machine after machine, a question is not lost to each resume."""
    (private, old), (_, new) = make_pair(tmp_path, "old"), make_pair(tmp_path, "new")
    both = tmp_path / "both.pem"
    both.write_bytes(old.read_bytes() + new.read_bytes())
    desk.signer = load_answer_signer(tmp_path / "desk", str(private))
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(old))
    with machine("a") as a:
        saved = await a.pause()
    asked = [desk.waiting().digest]
    for where, keys in 2 * [("b", both), ("a", old)]:
        monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(keys))
        with machine(where) as again:
            assert (await again.resume(saved)).interruptions
        asked.append(desk.waiting().digest)
    assert len(set(asked[1:])) == 1
    assert asked[0] != asked[1]
    assert len(desk.waiting().question.trusted_keys) == 2
    desk.say()
    with machine("a") as again:
        await again.resume(saved)
        assert again.ran == [1]


@pytest.mark.parametrize("approved", [True, False])
async def test_the_row_of_who_resumes_begins_when_a_human_was_asked(
    approved: bool, machine: Machines, desk: Desk
) -> None:
    """So that its time and its wait together are when it went on, and not as long again after that."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.say(approved=approved)
    await asyncio.sleep(1.1)
    with machine("c") as c:
        await c.resume(saved)
    row, ended = c.row(), datetime.now(UTC)
    assert row["timestamp"] == a.row()["timestamp"] == asked.question.row.timestamp
    assert row["approval_wait_s"] >= 1.1
    times = [each.at for each in timeline(row)]
    assert times == sorted(times)
    assert times[0] == datetime.fromisoformat(asked.question.row.timestamp)
    assert times[-1] is not None
    assert times[-1] <= ended


@pytest.mark.parametrize(("forged", "days"), [("1971-01-01", 60.0), ("9000-01-01", 0.0)])
async def test_the_time_that_a_question_says_is_believed_within_bounds(
    forged: str, days: float, machine: Machines, desk: Desk
) -> None:
    """Whoever can write to the inbox must not date a call so that it is removed with old rows."""
    with machine("a") as a:
        saved = await a.pause()
    question = desk.waiting().question
    row = replace(question.row, timestamp=f"{forged}T00:00:00.000000+00:00")
    rewrite(desk, question.decision_id, replace(question, row=row))
    desk.say()
    with machine("c") as c:
        await c.resume(saved)
        assert c.ran == [1]
    found = c.row()
    age = datetime.now(UTC) - datetime.fromisoformat(found["timestamp"])
    assert age.total_seconds() == pytest.approx(days * 86_400, abs=60)
    assert found["approval_wait_s"] == pytest.approx(days * 86_400, abs=60)


async def test_it_is_resumed_where_it_was_paused(machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        saved = await a.pause()
    desk.say()
    with machine("a") as again:
        await again.resume(saved)
        assert again.ran == [1]
    row = again.row()
    assert (row["result_status"], row["human_decision"], row["approver"]) == ("success", "approved", ANN)


@pytest.mark.parametrize("where", ["a", "c"])
async def test_a_no(where: str, machine: Machines, desk: Desk) -> None:
    """The run goes on without the call; the no is recorded once, however often the run is resumed."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.say(approved=False, reason="no")
    for _ in range(2):
        with machine(where) as c:
            result = await c.resume(saved)
            assert (result.final_output, c.ran) == ("done", [])
            (read,) = [each["output"] for each in result.to_input_list() if "output" in each]
            assert read == "[AEGIS DENIED] Action denied by human operator"
    row = c.row()
    assert row["decision_id"] == asked.question.decision_id
    assert (row["result_status"], row["human_decision"], row["approver"]) == ("denied", "denied", ANN)


async def test_it_waits_until_somebody_answers(machine: Machines, desk: Desk) -> None:
    """Two of three have to: who resumes the run before that leaves it as it is."""
    approvers = {"approvers": {"users": ["*@ops"], "count": 2}}
    with acting_for(user="carl@ops"):
        with machine("a", **approvers) as a:
            saved = await a.pause()
        desk.say()
        with machine("c", **approvers) as c:
            result = await c.resume(saved)
            assert len(result.interruptions) == 1
            saved = result.to_state().to_string()
        desk.say(BOB)
        with machine("c", **approvers) as c:
            await c.resume(saved)
            assert c.ran == [1]
    assert c.row()["approver"] == f"{ANN}, {BOB}"


@pytest.mark.parametrize("second", ["a", "c", "d"])
async def test_a_yes_is_used_once(
    second: str, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved run that is resumed twice is asked about anew, as a new call."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.say()
    with machine("c") as c:
        await c.resume(saved)
    desk.pass_time(monkeypatch, 3 / 1_440)
    with machine(second) as again:
        result = await again.resume(saved)
        assert len(result.interruptions) == 1
        assert again.ran == []
    assert desk.waiting().question.decision_id != asked.question.decision_id
    if second == "a":
        row = a.rows()[0]
        assert (row["result_status"], row["outcome"], row["approver"]) == ("skipped", "approved", ANN)
        assert row["result_error"].startswith("Its yes was taken by ")


@pytest.mark.parametrize("approve", [True, False])
async def test_an_answer_to_the_audit_counts_as_before(approve: bool, machine: Machines, desk: Desk) -> None:
    """It ends the question in the inbox, which nobody else can use then."""
    with machine("a") as a:
        saved = await a.pause()
        asked = desk.waiting()

        def answer(state: Any) -> None:
            (interruption,) = state.get_interruptions()
            with answered_by(BOB):
                state.approve(interruption) if approve else state.reject(interruption)

        await a.resume(saved, answer)
        assert a.ran == ([1] if approve else [])
    assert (a.row()["approver"], a.row()["outcome"]) == (BOB, "approved" if approve else "denied")
    assert desk.status(asked) is (QuestionStatus.USED if approve else QuestionStatus.DENIED)
    late = an_answer(asked)
    with pytest.raises(AnswerRefused):
        desk.inbox.answer(desk.signer.sign(late), late)


async def test_two_yeses_run_it_once(machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the inbox, used on another machine, and one in the audit of the first, which was killed then."""
    with machine("a") as a, monkeypatch.context() as patch:
        patch.setattr(PausedInInbox, "end_later", lambda *_: None)
        saved = await a.pause()
        agent = a.agent()
        state = await RunState.from_string(agent, saved)
        with answered_by(BOB):
            state.approve(state.get_interruptions()[0])
    desk.say()
    with machine("c") as c:
        await c.resume(saved)
        assert c.ran == [1]
    with machine("a") as a:
        await Runner.run(a.agent(), state)
        assert a.ran == []


async def test_an_approval_in_a_saved_run_counts_if_the_inbox_has_it(machine: Machines, desk: Desk) -> None:
    """Given in a process that does not have the row; where the inbox has none, the same question waits."""

    def approve(state: Any) -> None:
        state.approve(state.get_interruptions()[0])

    with machine("a") as a:
        saved = await a.pause()
    with machine("c") as c:
        result = await c.resume(saved, approve)
        assert (len(result.interruptions), c.ran) == (1, [])
    desk.say()
    with machine("d") as d:
        await d.resume(saved, approve)
        assert d.ran == [1]


async def test_a_rule_that_has_changed_asks_anew(machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.say()
    with machine("c", risk_level="critical") as c:
        result = await c.resume(saved)
        assert (len(result.interruptions), c.ran) == (1, [])
        again = result.to_state().to_string()
    assert desk.status(asked) is QuestionStatus.WITHDRAWN
    desk.say(BOB)
    with machine("c", risk_level="critical") as c:
        await c.resume(again)
        assert c.ran == [1]


async def test_a_policy_that_blocks_now(machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        saved = await a.pause()
    desk.say()
    with machine("c", approval="block") as c:
        await c.resume(saved)
        assert c.ran == []
    row = c.row()
    assert (row["result_status"], row["human_decision"]) == ("blocked", "approved")


@pytest.mark.parametrize("where", ["a", "c"])
@pytest.mark.parametrize("answered", [True, False])
async def test_a_policy_that_blocks_what_has_no_yes(
    where: str, answered: bool, machine: Machines, desk: Desk
) -> None:
    """No yes, or one that is used: the call is refused at once, and nobody is asked about it any more."""
    with machine("a") as a:
        saved = await a.pause()
    asked = desk.waiting()
    if answered:
        desk.say()
        with machine("a") as first:
            await first.resume(saved)
            assert first.ran == [1]
    with machine(where, approval="block") as again:
        result = await again.resume(saved)
    assert (again.ran, result.interruptions, result.final_output) == ([], [], "done")
    (said,) = [each.output for each in result.new_items if each.type == "tool_call_output_item"]
    assert said.startswith("[AEGIS BLOCKED]")
    row = again.rows()[-1]
    assert (row["result_status"], row["human_decision"], row["matched_rule"]) == ("blocked", None, "r")
    assert desk.inbox.listing() == ()
    if not answered:
        assert desk.status(asked) is QuestionStatus.WITHDRAWN
        desk.close_rows(a)
    assert [each["result_status"] for each in a.rows() if each["result_status"] == "pending"] == []


@pytest.mark.parametrize("lie", [{"reason": "Approved by the board already"}, {"approval": "auto"}])
async def test_a_yes_to_what_would_not_be_shown_here(
    lie: dict[str, str], machine: Machines, desk: Desk
) -> None:
    """Somebody who can write to the inbox changes what people see of a call, and not the call."""
    with machine("a") as a:
        saved = await a.pause()
    kept = desk.waiting().question
    about = {"question": replace(kept.question, **lie), "row": replace(kept.row, **lie)}
    rewrite(desk, kept.decision_id, replace(kept, **about))
    desk.say()
    with machine("c") as c:
        result = await c.resume(saved)
        assert (bool(result.interruptions), c.ran) == (True, [])


@pytest.mark.parametrize("group", ["chat", "another", None])
async def test_who_resumes_need_not_name_the_conversation(
    group: str | None, machine: Machines, desk: Desk
) -> None:
    with machine("a") as a:
        saved = await a.pause(group="chat")
    desk.say()
    with machine("c") as c:
        await c.resume(saved, group=group)
        assert c.ran == [1]


async def test_what_is_written_into_the_inbox_is_no_answer(machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        saved = await a.pause()
    run_sql(desk.state, "UPDATE aegis.question SET status = 'approved'")
    with machine("c") as c:
        result = await c.resume(saved)
        assert (len(result.interruptions), c.ran) == (1, [])


async def test_the_inbox_is_away(machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is paused all the same, and stays paused; the question is put when it is back."""

    with monkeypatch.context() as patch:
        for name in ("put", "find", "use", "grants"):
            patch.setattr(StateInbox, name, away)
        with machine("a") as a:
            saved = await a.pause()
            assert a.row()["result_status"] == "pending"
            result = await a.resume(saved)
            assert len(result.interruptions) == 1
    assert desk.inbox.listing() == ()
    with machine("a") as a:
        result = await a.resume(saved)
        assert len(result.interruptions) == 1
        asked = desk.say()
        await a.resume(saved)
        assert a.ran == [1]
    assert a.row()["decision_id"] == asked.question.decision_id


@pytest.mark.parametrize("status", [None, True])
async def test_a_no_that_cannot_be_recorded_stands(
    status: bool | None, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stays paused until it can be: nobody else is asked about the call meanwhile."""

    def answer(state: Any) -> None:
        if status:
            state.approve(state.get_interruptions()[0])

    with machine("a") as a:
        saved = await a.pause()
    desk.say(approved=False)
    with machine("c", AutoApprovalHandler()) as c:
        with monkeypatch.context() as patch:
            patch.setattr(StateInbox, "take_no", away)
            result = await c.resume(saved, answer)
            assert (len(result.interruptions), c.ran) == (1, [])
        result = await c.resume(saved, answer)
        assert (result.final_output, c.ran) == ("done", [])
    assert (c.row()["human_decision"], c.row()["approver"]) == ("denied", ANN)


@pytest.mark.parametrize(
    "change",
    [
        {"risk_level": "EXTREME"},
        {"expires_s": 1e308},
        {"timestamp": "never"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_question_that_nobody_can_have_asked(
    change: dict[str, Any], machine: Machines, desk: Desk
) -> None:
    """It is none; the run stays paused, and the handler of the process is not asked."""
    with machine("a") as a:
        saved = await a.pause()
    put = desk.waiting().question
    inner = {name: value for name, value in change.items() if hasattr(put.row, name)}
    shown = {name: value for name, value in inner.items() if hasattr(put.question, name)}
    changed = replace(
        put,
        row=replace(put.row, **inner),
        question=replace(put.question, **shown),
        **{name: value for name, value in change.items() if name not in inner},
    )
    rewrite(desk, put.decision_id, changed)
    with machine("a", AutoApprovalHandler()) as a:
        result = await a.resume(saved)
        assert (len(result.interruptions), a.ran) == (1, [])


@pytest.mark.parametrize("waited", [True, False])
async def test_nobody_else_is_asked_where_it_cannot_be_found_out(
    waited: bool, machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was paused stays so; a call that is new is refused."""

    async def fails(*_: object, **__: object) -> Any:
        raise RuntimeError("a bug")

    with machine("a") as a:
        saved = await a.pause()
    monkeypatch.setattr(PausedCalls, "next_step", fails)
    with machine("c", AutoApprovalHandler()) as c:
        if waited:
            result = await c.resume(saved)
            assert len(result.interruptions) == 1
        else:
            result = await Runner.run(c.agent([function_call("act", {"x": 2}, call_id="c9")]), "go")
            assert result.final_output == "done"
            assert c.row()["result_error"] == "Action not run: governance is unavailable"
        assert c.ran == []


async def test_a_grant_needs_no_pause(machine: Machines, desk: Desk) -> None:
    with machine("a") as a, acting_for(user="carl"):
        saved = await a.pause()
    asked = desk.say(grant=GrantTerms(3600.0, "time"))
    with machine("c") as c, acting_for(user="carl"):
        await c.resume(saved)
        result = await Runner.run(c.agent([function_call("act", {"x": 2}, call_id="c9")]), "go")
        assert (result.interruptions, c.ran) == ([], [1, 2])
        assert asked.question.decision_id in c.rows()[1]["approval_reason"]
        desk.inbox.revoke(asked.question.decision_id, ANN)
        await c.pause(3)


async def test_two_machines_resume_at_once(machine: Machines, desk: Desk) -> None:
    """One of the two resumptions runs the call; the other is refused or asks anew."""
    with machine("a") as a:
        saved = await a.pause()
    desk.say()
    with machine("c") as c:
        await asyncio.gather(c.resume(saved), c.resume(saved))
        assert c.ran == [1]


@pytest.mark.parametrize("first", [0, 1])
async def test_two_machines_ask_about_a_call_once(
    first: int, machine: Machines, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inbox was away when the run was paused, so both put its question, in the same moment."""
    benches = [make_bench(tmp_path / name, policy=policy()) for name in "bc"]
    action = Action("act", params={"x": 1}, agent="Clerk")
    origin = Origin(tool_name="act", tool_call_id="c1", run_id="run")
    about = {"tool_asks": False, "trusted": False, "waited": True, "inside": False}
    barrier, put_it = asyncio.Barrier(2), PausedInInbox.put

    async def put(self: PausedInInbox, call: Any) -> bool:
        await asyncio.wait_for(barrier.wait(), 5.0)  # both have found none
        return await put_it(self, call)

    async def next_step(bench: Bench) -> NextStep:
        paused_calls = bench.runtime.governor.paused_calls
        paused_calls.use_inbox(True)
        step = await paused_calls.next_step(action, origin, '{"x":1}', None, **about)
        if step.step is Step.PAUSE:
            paused_calls.pause(step.question)
        return step

    with monkeypatch.context() as patch:
        patch.setattr(PausedInInbox, "put", put)
        await asyncio.gather(*map(next_step, benches))
    desk.say()
    refused = []
    for bench in (benches[first], benches[1 - first]):
        step = await next_step(bench)
        if step.step is Step.PROCEED:
            call = await bench.runtime.governor.authorize(
                action, origin, resumed=True, answered=step.by_answer
            )
            refused.append(call.refusal)
            bench.runtime.governor.abandon(call, RecordStatus.SKIPPED, None, never_ran=True)
    assert refused == [None]
    for bench in benches:
        bench.runtime.audit.close()
        bench.telemetry.close()


async def test_a_yes_to_a_call_withdraws_what_others_ask_about_it(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was given to the audit of a question that could not be put; another machine has put its own."""
    with machine("a") as a, monkeypatch.context() as patch:
        patch.setattr(StateInbox, "put", away)
        saved = await a.pause()
    with machine("c") as c:
        await c.resume(saved)
    asked = desk.say()
    with machine("a") as a:
        agent = a.agent()
        state = await RunState.from_string(agent, saved)
        with answered_by(BOB):
            state.approve(state.get_interruptions()[0])
        await Runner.run(agent, state)
        assert (a.ran, a.row()["approver"]) == ([1], BOB)
    assert desk.status(asked) is QuestionStatus.WITHDRAWN
    with machine("c") as c:
        await c.resume(saved)
        assert c.ran == []


@pytest.mark.parametrize("approved", [True, False])
async def test_a_question_under_the_id_of_another_decision(
    approved: bool, machine: Machines, desk: Desk
) -> None:
    """Nothing goes on under the id of a call that has ended in this audit; the call is asked about anew."""
    with machine("a") as a:
        other = await a.pause(7, "c0")
    ended = desk.say().question.decision_id
    with machine("a") as a:
        await a.resume(other)
    with machine("a") as a:
        saved = await a.pause()
    put = desk.waiting().question
    about = {"decision_id": ended, "args_digest": "hmac-sha256:00"}
    changed = replace(put, row=replace(put.row, **about), question=replace(put.question, **about))
    run_sql(desk.state, "DELETE FROM aegis.answer")
    run_sql(desk.state, "DELETE FROM aegis.question WHERE decision_id = :id", id=ended)
    rewrite(desk, put.decision_id, changed)
    desk.say(approved=approved)
    with machine("a") as a:
        result = await a.resume(saved)
        assert a.ran == []
        if approved:
            assert len(result.interruptions) == 1
            assert desk.waiting().question.decision_id == put.decision_id
            desk.say()
            await a.resume(saved)
            assert a.ran == [1]
    assert {row["decision_id"] for row in a.rows()} == {ended, put.decision_id}


async def test_a_policy_that_never_asks_opens_nothing(machine: Machines, tmp_path: Path) -> None:
    with machine("a", approval="auto") as a:
        await Runner.run(a.agent([function_call("act", {"x": 2}, call_id="c9")]), "go")
        assert a.ran == [2]
    assert not (tmp_path / "state.sqlite3").exists()
    assert Policy.from_dict(policy())


# --- questions whose call is over, though nobody resumes the run ---


def ended(desk: Desk) -> QuestionStatus:
    """Wait until the one question is over; return its status."""
    for _ in range(200):
        if states := desk.inbox.changes(0):
            (state,) = states
            if state.status is not QuestionStatus.WAITING:
                return state.status
        time.sleep(0.02)
    raise AssertionError("the question waits")


async def test_a_no_to_the_audit_ends_the_question(machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        saved = await a.pause()
        state = await RunState.from_string(a.agent(), saved)
        with answered_by(BOB):
            state.reject(state.get_interruptions()[0])
        assert ended(desk) is QuestionStatus.DENIED
    assert a.row()["approver"] == BOB


async def test_a_question_whose_row_cannot_be_written_is_withdrawn(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate refuses the call."""
    with machine("a") as a:
        append = AuditLogger.append

        def full(self: AuditLogger, record: Any) -> None:
            if record.result_status == "pending":
                raise AuditError("No space left on device")
            append(self, record)

        monkeypatch.setattr(AuditLogger, "append", full)
        result = await Runner.run(a.agent([function_call("act", {"x": 1}, call_id="c1")]), "go")
        assert (result.interruptions, a.ran) == ([], [])
        assert ended(desk) is QuestionStatus.WITHDRAWN


async def test_a_question_that_the_sdk_settles_otherwise_is_withdrawn(machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        paused_calls = a.bench.runtime.governor.paused_calls
        action, origin = (
            Action("act", params={"x": 5}),
            Origin(tool_name="act", tool_call_id="c9", run_id="r"),
        )
        about = {"tool_asks": False, "trusted": False, "waited": False, "inside": False}
        step = await paused_calls.next_step(action, origin, '{"x":5}', None, **about)
        assert paused_calls.pause(step.question)
        paused_calls.withdraw(step.question)
        assert ended(desk) is QuestionStatus.WITHDRAWN
    assert a.row()["result_status"] == "skipped"


async def test_a_question_is_withdrawn_where_the_run_is_cancelled_while_it_is_put(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_put, put = asyncio.Event(), StateInbox.put
    loop = asyncio.get_running_loop()

    def slow(self: StateInbox, question: SharedQuestion, *given: Any) -> QuestionState:
        state = put(self, question, *given)
        loop.call_soon_threadsafe(is_put.set)
        time.sleep(0.2)
        return state

    monkeypatch.setattr(StateInbox, "put", slow)
    with machine("a") as a:
        run = asyncio.ensure_future(a.pause())
        await asyncio.wait_for(is_put.wait(), 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await asyncio.to_thread(ended, desk) is QuestionStatus.WITHDRAWN


# --- rows that wait, and whose question is over ---


async def test_a_row_whose_call_went_on_elsewhere_is_closed(machine: Machines, desk: Desk) -> None:
    """It says who said yes, and which process has used it."""
    with machine("a") as a:
        saved = await a.pause()
    desk.say(reason="ticket 7")
    with machine("c") as c:
        await c.resume(saved)
    assert desk.close_rows(a, grace_s=60) == ()
    assert desk.close_rows(a) == (a.row()["decision_id"],)
    row = a.row()
    assert (row["result_status"], row["outcome"], row["human_decision"]) == (
        "skipped",
        "approved",
        "approved",
    )
    assert (row["approver"], row["approval_reason"]) == (ANN, "ticket 7")
    assert row["result_error"].startswith("Its yes was taken by ")
    assert desk.close_rows(a) == ()


async def test_a_yes_that_is_taken_and_cannot_be_written(
    machine: Machines, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call does not run, also later; the row does not say that it went on somewhere."""
    with machine("a") as a:
        saved = await a.pause()
    desk.say()
    append = AuditLogger.append

    def full(self: AuditLogger, record: Any) -> None:
        if record.human_decision == "approved":
            raise AuditError("No space left on device")
        append(self, record)

    with machine("a") as a, monkeypatch.context() as patch:
        patch.setattr(AuditLogger, "append", full)
        await a.resume(saved)
    desk.pass_time(monkeypatch, 3 / 1_440)
    with machine("a") as a:
        result = await a.resume(saved)
        assert (len(result.interruptions), a.ran) == (1, [])
    row = next(row for row in a.rows() if row["human_decision"] == "approved")
    assert (row["result_status"], row["approver"]) == ("skipped", ANN)
    assert row["result_error"].startswith("Its yes was taken by ")
    assert row["result_error"].endswith(": whether the call ran there is not known here")


@pytest.mark.parametrize("what", ["denied", "expired", "withdrawn", "forged no", "forged use", "unused yes"])
async def test_a_row_whose_question_is_over_is_closed(what: str, machine: Machines, desk: Desk) -> None:
    """What is only written in the inbox ends the row, and is no answer in it."""
    rule = {"expires": "1s"} if what == "expired" else {}
    with machine("a", **rule) as a:
        await a.pause()
    state = desk.waiting()
    assert desk.close_rows(a) == ()
    if what == "denied":
        desk.say(approved=False)
    elif what == "expired":
        await asyncio.sleep(1.1)
    elif what == "withdrawn":
        desk.inbox.end(state.question.decision_id, state.digest, QuestionStatus.WITHDRAWN)
    elif what == "forged no":
        desk.inbox.end(state.question.decision_id, state.digest, QuestionStatus.DENIED)
    elif what == "unused yes":
        desk.say()
        run_sql(desk.state, "UPDATE aegis.question SET expires_ns = 1")  # as after a long time
    else:
        desk.inbox.use(state.question.decision_id, state.digest, "mallory")
    assert desk.close_rows(a) == (state.question.decision_id,)
    row = a.row()
    said = "denied" if what == "denied" else "expired"
    assert (row["result_status"], row["human_decision"], row["outcome"]) == ("denied", said, said)
    assert row["approver"] == (ANN if what == "denied" else None)
    waited = 1.0 if what == "expired" else 0.0  # how long people were asked
    assert row["approval_wait_s"] == pytest.approx(waited, abs=0.9 if waited == 0 else 1e-6)
    if what == "forged use":
        assert row["result_error"] == "Its question was ended as used, and no yes to it is proven here"
    if what == "unused yes":
        assert row["result_error"] == "It was approved, and nobody used the yes in its time"


async def test_a_yes_of_the_requester_is_none_in_a_closed_row(machine: Machines, desk: Desk) -> None:
    """Also where the row has their name masked."""
    carl = "4111111111111111"
    with machine("a", approvers={"users": ["*"]}) as a, acting_for(user=carl):
        await a.pause()
    state = desk.say(carl)
    desk.inbox.use(state.question.decision_id, state.digest, "mallory")
    assert desk.close_rows(a) == (state.question.decision_id,)
    row = a.row()
    assert (row["user_id"] != carl, row["human_decision"], row["approver"]) == (True, "expired", None)


async def test_a_row_that_is_answered_here_is_left(machine: Machines, desk: Desk) -> None:
    """Whoever resumes the run finds the yes, though its question is over."""
    with machine("a", expires="1s") as a:
        saved = await a.pause()
        agent = a.agent()
        state = await RunState.from_string(agent, saved)
        with answered_by(BOB):
            state.approve(state.get_interruptions()[0])
        await asyncio.sleep(1.1)
        assert desk.close_rows(a) == ()
        await Runner.run(agent, state)
        assert a.ran == [1]


async def test_nothing_is_opened_where_no_row_waits(machine: Machines, tmp_path: Path) -> None:
    with machine("a", approval="auto") as a:
        await Runner.run(a.agent([function_call("act", {"x": 2}, call_id="c9")]), "go")
        a.bench.runtime._close_ended_rows()
    assert not (tmp_path / "state.sqlite3").exists()


async def test_whatever_fails_there_ends_nothing_else(
    machine: Machines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are closed in the thread that seals, and in the one of the background."""
    with machine("a") as a:
        await a.pause()
        monkeypatch.setattr(StateInbox, "expire", lambda _: 1 / 0)
        a.bench.runtime._close_ended_rows()
    assert "could not be closed" in caplog.text
