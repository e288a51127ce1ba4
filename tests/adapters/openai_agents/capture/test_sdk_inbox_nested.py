"""Agents as tools that pause inside: whoever resumes the run around them finds the answers in the inbox."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, Runner, RunState
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import acting_for
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from tests.support.inbox import an_answer
from tests.support.machines import ANN, Desk, Machine, Machines

CALL = function_call("act", {"x": 1}, call_id="in1")


def boss(machine: Machine, *calls: Any, depth: int = 1) -> Agent[Any]:
    """Agents that are tools of each other; the innermost makes these calls, or goes on from them."""
    turns = [[*calls]] if calls else []
    model = ScriptedModel([*turns, [assistant_message("inner done")]])
    agent: Agent[Any] = Agent(name="Clerk", model=model, tools=[machine.tool])
    for level in range(depth):
        ask = [[function_call(f"ask_{level}", {"input": "go"}, call_id=f"out{level}")]] if calls else []
        model = ScriptedModel([*ask, [assistant_message(f"boss {level} done")]])
        agent = Agent(name=f"Boss {level}", model=model, tools=[agent.as_tool(f"ask_{level}", "Asks.")])
    return agent


async def pause(machine: Machine, *calls: Any, depth: int = 1) -> str:
    result = await Runner.run(boss(machine, *calls or [CALL], depth=depth), "go")
    assert result.interruptions, "nobody was asked"
    return result.to_state().to_string()


async def resume(machine: Machine, saved: str, depth: int = 1, *, streamed: bool = False) -> Any:
    agent = boss(machine, depth=depth)
    state = await RunState.from_string(agent, saved)
    if not streamed:
        return await Runner.run(agent, state)
    result = Runner.run_streamed(agent, state)
    async for _ in result.stream_events():
        pass
    return result


def answer(desk: Desk, state: QuestionState) -> None:
    said = an_answer(state, ANN)
    desk.inbox.answer(desk.signer.sign(said), said)


def outputs(machine: Machine) -> list[tuple[Any, Any, Any]]:
    rows = sorted(machine.rows(), key=lambda row: row["tool_name"])
    return [(row["tool_name"], row["result_status"], row["human_decision"]) for row in rows]


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "streamed"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("where", ["a", "c"])
async def test_a_yes_inside(where: str, depth: int, streamed: bool, machine: Machines, desk: Desk) -> None:
    """It is found on the machine that paused the run, and on another one."""
    with machine("a") as a:
        saved = await pause(a, depth=depth)
    asked = desk.say()
    with machine(where) as c:
        result = await resume(c, saved, depth, streamed=streamed)
        assert (result.interruptions, c.ran, result.final_output) == ([], [1], f"boss {depth - 1} done")
    assert desk.status(asked) is QuestionStatus.USED
    assert outputs(c)[0] == ("act", "success", "approved")
    (row,) = [each for each in c.rows() if each["tool_name"] == "act"]
    assert (row["decision_id"], row["approver"]) == (asked.question.decision_id, ANN)


@pytest.mark.parametrize("where", ["a", "c"])
async def test_a_no_inside(where: str, machine: Machines, desk: Desk) -> None:
    with machine("a") as a:
        saved = await pause(a)
    asked = desk.say(approved=False)
    with machine(where) as c:
        result = await resume(c, saved)
        assert (result.interruptions, c.ran, result.final_output) == ([], [], "boss 0 done")
    assert outputs(c)[0] == ("act", "denied", "denied")
    assert desk.status(asked) is QuestionStatus.DENIED


@pytest.mark.parametrize("where", ["a", "c"])
async def test_it_waits_inside_until_all_are_answered(where: str, machine: Machines, desk: Desk) -> None:
    """As the SDK does with its own answers; nothing is asked a second time."""
    with machine("a") as a:
        saved = await pause(a, CALL, function_call("act", {"x": 2}, call_id="in2"))
    first, second = desk.inbox.listing()
    for many in (0, 1, 2):
        with machine(where) as c:
            result = await resume(c, saved)
            if many < 2:
                assert (len(result.interruptions), c.ran) == (2, [])
                assert len(desk.inbox.listing(tuple(QuestionStatus))) == 2
                answer(desk, (first, second)[many])
                saved = result.to_state().to_string()
    assert (result.final_output, sorted(c.ran)) == ("boss 0 done", [1, 2])
    assert [desk.status(each) for each in (first, second)] == [QuestionStatus.USED] * 2


async def test_a_yes_inside_is_used_once(machine: Machines, desk: Desk) -> None:
    """Another process resumes the same saved run later."""
    with machine("a") as a:
        saved = await pause(a)
    desk.say()
    with machine("c") as c:
        await resume(c, saved)
    with machine("d") as d:
        result = await resume(d, saved)
        assert (c.ran, d.ran, len(result.interruptions)) == ([1], [], 1)


async def test_what_nobody_entitled_said_runs_nothing_inside(machine: Machines, desk: Desk) -> None:
    rule = {"approvers": {"users": ["bob@ops"]}}
    with acting_for(user="carl@ops"):
        with machine("a", **rule) as a:
            saved = await pause(a)
        (state,) = desk.inbox.listing()
        answer(desk, state)
        with machine("c", **rule) as c:
            result = await resume(c, saved)
            assert (len(result.interruptions), c.ran) == (1, [])


@pytest.mark.parametrize("saves", [True, False], ids=["saved anew", "the first state again"])
async def test_an_outer_call_that_asks_is_asked_about_again_elsewhere(
    saves: bool, machine: Machines, desk: Desk
) -> None:
    """Its body has begun, but only the saved state says so where the audit is another one."""
    both = {"match": {"type": ["act", "ask_0"]}}
    with machine("a", **both) as a:
        outer = await Runner.run(boss(a, CALL), "go")
        saved = outer.to_state().to_string()
        desk.say()
        agent = boss(a)
        agent.model = ScriptedModel([[assistant_message("boss 0 done")]])
        clerk = ScriptedModel([[CALL], [assistant_message("inner done")]])
        agent.tools = [Agent(name="Clerk", model=clerk, tools=[a.tool]).as_tool("ask_0", "Asks.")]
        result = await Runner.run(agent, await RunState.from_string(agent, saved))
        assert [each.tool_name for each in result.interruptions] == ["act"]
        saved = result.to_state().to_string()
    desk.say()
    with machine("c", **both) as c:
        result = await resume(c, saved)
        assert ([each.tool_name for each in result.interruptions], c.ran) == (["ask_0"], [])
    asked = desk.say()
    assert asked.question.question.tool_name == "ask_0"
    with machine("c", **both) as c:
        result = await resume(c, result.to_state().to_string() if saves else saved)
        assert (result.interruptions, c.ran, result.final_output) == ([], [1], "boss 0 done")
        assert outputs(c) == [("act", "success", "approved"), ("ask_0", "success", "approved")]
