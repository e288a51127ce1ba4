"""K4: providers number calls per conversation; an answer is to a call of one run, and to one decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agents import RunConfig, Runner, RunState, ToolExecutionConfig, function_tool, trace
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import AuditError
from aegis_otel.adapters.openai_agents import answered_by
from tests.cases.paused_runs import ASKS, Desk, approve_unseen
from tests.support.kit import Bench

BENCH = Callable[..., Bench]


@pytest.fixture
def asking(installed: BENCH) -> BENCH:
    """A bench whose approvals are the SDK's."""
    return lambda **options: installed(approvals="sdk", **{"policy": ASKS} | options)


async def test_k4_a_yes_is_to_one_run(asking: BENCH) -> None:
    """Two conversations, one call id, the same call: the yes to one is not used by the other."""
    b, desk = asking(), Desk()
    one, other = await desk.paused(), await desk.paused()
    approved = await desk.approved(one)
    state = await desk.state(other)
    approve_unseen(state)
    assert len((await Runner.run(desk.agent(), state)).interruptions) == 1
    assert desk.paid == []
    assert not (await desk.resumed(approved)).interruptions
    assert desk.paid == [5]
    assert sorted(row["result_status"] for row in b.rows()) == ["pending", "success"]


async def test_k4_an_answer_lands_on_its_own_row(asking: BENCH) -> None:
    """Whichever conversation is answered, the approver stands on its row: the run says which."""
    b, desk = asking(), Desk()
    saved = [await desk.paused() for _ in range(3)]
    waiting = b.rows()
    assert len({row["run_id"] for row in waiting}) == 3
    with answered_by("alice"):
        await desk.approved(saved[2])
    assert [row["approver"] for row in b.rows()] == [None, None, "alice"]


async def test_k4_one_trace_may_hold_two_runs(asking: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a run is not that of its trace."""
    monkeypatch.delenv("OPENAI_AGENTS_DISABLE_TRACING")
    b, desk = asking(), Desk()
    with trace("workflow"):
        one, other = await desk.paused(), await desk.paused()
    await desk.approved(one)
    state = await desk.state(other)
    approve_unseen(state)
    assert len((await Runner.run(desk.agent(), state)).interruptions) == 1
    assert desk.paid == []
    assert len({row["run_id"] for row in b.rows()}) == 2


async def test_k4_answered_by_decision_id(asking: BENCH) -> None:
    """Whoever shows rows of the audit says which is answered; an answer to another call does not count."""
    b, desk = asking(), Desk()
    one, other = await desk.paused(), await desk.paused()
    first, second = (row["decision_id"] for row in b.rows())
    state = await desk.state(one)
    with answered_by("alice", decision_id=second), pytest.raises(AuditError, match="does not count"):
        state.approve(state.get_interruptions()[0])
    assert {row["approver"] for row in b.rows()} == {None}
    with answered_by("alice", decision_id=first):
        state.approve(state.get_interruptions()[0])
    await desk.resumed(state.to_string())
    assert desk.paid == [5]
    assert {row["decision_id"]: row["approver"] for row in b.rows()} == {first: "alice", second: None}
    assert len((await desk.resumed(other)).interruptions) == 1


async def test_k4_every_call_of_a_run_has_its_id(asking: BENCH) -> None:
    """Before the pause, behind it and after it was saved: one run, one id; another run, another."""
    policy = {
        **ASKS,
        "rules": [{"name": "a", "match": {"type": "look"}, "approval": "auto", "risk_level": "low"}],
    }
    b, desk = asking(policy=policy), Desk()
    agent = desk.agent(function_call("refund", {"amount": 5}, call_id="call_0"))
    agent.tools.append(_look())
    agent.model = _script("look", "refund", "look")
    state = (await Runner.run(agent, "go")).to_state()
    state = await RunState.from_string(agent, state.to_string())
    state.approve(state.get_interruptions()[0])
    await Runner.run(agent, state)
    agent.model = _script("look")
    await Runner.run(agent, "go")
    ids = [row["run_id"] for row in b.rows()]
    assert ids[0] is not None
    assert (len(set(ids[:3])), len(set(ids))) == (1, 2)


def _look() -> Any:
    @function_tool
    def look() -> str:
        return "looked"

    return look


def _script(*names: str) -> Any:
    calls = [
        [function_call(name, {"amount": 5} if name == "refund" else {}, call_id=f"call_{n}")]
        for n, name in enumerate(names)
    ]
    return ScriptedModel([*calls, [assistant_message("done")]])


async def test_k4_what_was_read_of_a_call_is_not_taken_for_another_agents(asking: BENCH) -> None:
    """One run was shown to its guardrails and waits; another agent's run has a call of the same id."""
    b, desk = asking(), Desk()
    early = RunConfig(tool_execution=ToolExecutionConfig(pre_approval_tool_input_guardrails=True))
    call = function_call("refund", {"amount": 5}, call_id="call_0")
    for name in ("Desk", "Boss"):
        result = await Runner.run(desk.agent(call, name=name), "go", run_config=early)
        assert len(result.interruptions) == 1
    assert [row["agent_name"] for row in b.rows()] == ["Desk", "Boss"]
