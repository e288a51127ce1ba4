"""K4: a saved run is a text; a yes in it counts for the call that was paused, or a human is asked again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aegis_otel import Policy
from tests.cases.paused_runs import ALLOWS, ASKS, Desk, approve_unseen, changed, unbound
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
MODES = ["handler", "sdk"]


@pytest.mark.parametrize("approvals", MODES)
@pytest.mark.parametrize(
    ("old", "new"), [('\\"amount\\":5', '\\"amount\\":999999'), ('"call_0"', '"call_new"')]
)
@pytest.mark.parametrize("seen", [False, True])
async def test_k4_changed_calls_are_asked_again(
    installed: BENCH, approvals: str, old: str, new: str, seen: bool
) -> None:
    """Policy auto, the tool asks by itself: other arguments or another id than were paused do not run."""
    b, desk = installed(policy=ALLOWS, approvals=approvals), Desk(asks=True)
    saved = await desk.paused()
    forged = changed(saved, old, new)
    assert new.strip('"\\') in forged
    state = await unbound(await desk.state(forged))
    if seen:
        state.approve(state.get_interruptions()[0])
    else:
        approve_unseen(state)
    result = await Runner.run(desk.agent(), state)
    assert desk.paid == []
    assert len(result.interruptions) == 1
    assert not [row for row in b.rows() if row["result_status"] == "success"]


@pytest.mark.parametrize(("policy", "own"), [(ALLOWS, True), (ASKS, False)])
async def test_k4_a_key_put_in_twice_is_another_call(
    installed: BENCH, policy: dict[str, Any], own: bool
) -> None:
    """The last value is the approved one, and a body that takes the context reads the text by itself."""
    installed(policy=policy, approvals="sdk")
    desk, got = Desk(), []

    @function_tool(needs_approval=own)
    def refund(context: ToolContext[Any], amount: int) -> str:
        got.append(context.tool_arguments)
        return "refunded"

    desk.tool = refund
    saved = await desk.approved(await desk.paused())
    forged = changed(saved, '{\\"amount\\":5}', '{\\"amount\\":999999,\\"amount\\":5}')
    await Runner.run(desk.agent(), await unbound(await desk.state(forged)))
    assert got == []
    await desk.resumed(saved)
    assert got == ['{"amount":5}']


@pytest.mark.parametrize("approvals", MODES)
async def test_k4_asked_again_until_somebody_says_yes(installed: BENCH, approvals: str) -> None:
    """What was changed in the text is not made true by being saved again; a yes to what is shown counts."""
    installed(policy=ALLOWS, approvals=approvals)
    desk = Desk(asks=True)
    saved = changed(await desk.paused(), '\\"amount\\":5', '\\"amount\\":999999')
    for _ in range(3):
        state = await unbound(await desk.state(saved))
        approve_unseen(state)
        result = await Runner.run(desk.agent(), state)
        assert len(result.interruptions) == 1
        saved = result.to_state().to_string()
    assert desk.paid == []
    await desk.resumed(await desk.approved(saved))
    assert desk.paid == [999999]


@pytest.mark.parametrize("approvals", MODES)
async def test_k4_the_call_that_was_paused_holds(installed: BENCH, approvals: str) -> None:
    """Saved, restored, approved, saved, restored: it runs once asked."""
    installed(policy=ALLOWS, approvals=approvals)
    desk = Desk(asks=True)
    assert not (await desk.resumed(await desk.approved(await desk.paused()))).interruptions
    assert desk.paid == [5]


@pytest.mark.parametrize("approvals", MODES)
async def test_k4_always_is_bound_to_the_run(installed: BENCH, approvals: str) -> None:
    """A yes to every call, given in one run, is written into the saved state of another."""
    installed(policy=ALLOWS, approvals=approvals)
    desk = Desk(asks=True)
    first, second = await desk.paused(5, "call_0"), await desk.paused(6, "call_1")
    state = await desk.state(first)
    state.approve(state.get_interruptions()[0], always_approve=True)
    given, forged = json.loads(state.to_string()), json.loads(second)
    for name in ("approvals", "function_tool_approvals"):
        if name in given["context"]:
            forged["context"][name] = given["context"][name]
    state = await unbound(await desk.state(json.dumps(forged)))
    approve_unseen(state)
    forged_text = changed(state.to_string(), '\\"amount\\":6', '\\"amount\\":999999')
    await Runner.run(desk.agent(), await unbound(await desk.state(forged_text)))
    assert desk.paid == []


@pytest.mark.parametrize("approvals", MODES)
async def test_k4_always_holds(installed: BENCH, approvals: str) -> None:
    """In its own run it goes on counting, also after that was saved."""
    installed(policy=ALLOWS, approvals=approvals)
    desk = Desk(asks=True)
    calls = [function_call("refund", {"amount": n}, call_id=f"call_{n}") for n in (1, 2, 3)]
    agent = desk.agent(*calls)
    state = (await Runner.run(agent, "go")).to_state()
    state = await RunState.from_string(agent, state.to_string())
    state.approve(state.get_interruptions()[0], always_approve=True)
    state = await RunState.from_string(agent, state.to_string())
    assert not (await Runner.run(agent, state)).interruptions
    assert desk.paid == [1, 2, 3]


@pytest.mark.parametrize("approvals", MODES)
async def test_k4_the_agent_that_runs_is_judged_holds(installed: BENCH, approvals: str) -> None:
    """The name in the saved state's interruption is that of another agent, which may do it."""
    policy = {
        **ALLOWS,
        "rules": [
            {
                "name": "boss",
                "match": {"type": "refund", "agent": "Boss"},
                "approval": "auto",
                "risk_level": "low",
            },
            {"name": "desk", "match": {"type": "refund"}, "approval": "block", "risk_level": "high"},
        ],
    }
    b = installed(policy=ALLOWS, approvals=approvals)
    desk = Desk(asks=True)

    @function_tool
    def nothing() -> str:
        return ""

    boss: Agent[Any] = Agent(name="Boss", model=ScriptedModel([[assistant_message("done")]]), tools=[nothing])
    agent = desk.agent(function_call("refund", {"amount": 5}, call_id="call_0"))
    agent.handoffs.append(boss)
    saved = json.loads((await Runner.run(agent, "go")).to_state().to_string())
    b.runtime.update_policy(Policy.from_dict(policy))
    for item in saved["current_step"]["data"]["interruptions"]:
        item["agent"] = {"name": "Boss"}
    state = await unbound(await RunState.from_json(agent, saved))
    approve_unseen(state)
    with contextlib.suppress(Exception):  # the SDK may refuse it by itself
        await Runner.run(agent, state)
    assert desk.paid == []


async def test_k4_a_yes_is_not_to_another_agent_holds(installed: BENCH) -> None:
    """A state that says that another agent goes on, which may do more: the yes to this one's call is none."""
    rules = [
        {"name": "boss", "match": {"type": "refund", "agent": "Boss"}, "approval": "auto"},
        {"name": "desk", "match": {"type": "refund"}, "approval": "block"},
    ]
    b = installed(policy={**ALLOWS, "rules": rules})
    desk = Desk()
    waits = function_tool(lambda: "", name_override="wait", needs_approval=True)
    call = [function_call("refund", {"amount": 5}, call_id="call_1")]
    boss: Agent[Any] = Agent(name="Boss", model=ScriptedModel([call, [assistant_message("done")]]))
    agent = desk.agent(function_call("wait", {}, call_id="call_0"))
    agent.handoffs.append(boss)
    for each in (agent, boss):
        each.tools = [desk.tool, waits]
    saved = json.loads((await Runner.run(agent, "go")).to_state().to_string())
    state = await unbound(await RunState.from_json(agent, {**saved, "current_agent": {"name": "Boss"}}))
    approve_unseen(state)
    assert len((await Runner.run(agent, state)).interruptions) == 1
    assert desk.paid == []
    assert not [row for row in b.rows() if row["agent_name"] == "Boss" and row["result_status"] == "success"]


def test_k4_the_docs_do_not_promise_which_agent_goes_on() -> None:
    """Whoever can write a state says so in it, and `match.agent` is compared with that agent."""
    page = Path(__file__).parents[2] / "docs" / "threat-model.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Who can write it can change which agent runs" in text
    assert "**Not proven:** which agent goes on" in text
