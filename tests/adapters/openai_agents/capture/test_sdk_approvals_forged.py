"""Approvals by the SDK's interruptions, against saved runs that somebody else wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, FunctionTool, RunContextWrapper, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import AuditError, Policy
from aegis_otel.adapters.openai_agents import answered_by
from aegis_otel.governance.approvals.paused.paused_calls import ShownCall
from aegis_otel.governance.approvals.question import ApprovalAnswer
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
ASKS: dict[str, Any] = {"version": "1", "defaults": {"approval": "approve", "risk_level": "high"}}
ALLOWS: dict[str, Any] = {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}}
BLOCKED = "[AEGIS BLOCKED] Action blocked by policy rule: never"


@pytest.fixture
def asking(installed: BENCH) -> BENCH:
    """A bench whose approvals are the SDK's."""
    return lambda policy: installed(approvals="sdk", policy=policy)


class Desk:
    """Tools, what ran of them, and agents that call one of them."""

    def __init__(self, *, asks: bool = False) -> None:
        self.ran: list[str] = []

        @function_tool(needs_approval=asks)
        def pay(to: str, amount: int = 1) -> str:
            self.ran.append(f"pay {to} {amount}")
            return "paid"

        @function_tool(needs_approval=asks)
        def check(to: str, amount: int = 1) -> str:
            self.ran.append(f"check {to} {amount}")
            return "checked"

        self.tools: list[Any] = [pay, check]

    def agent(self, *calls: Any) -> Agent[Any]:
        turns = [[call] for call in calls]
        return Agent(
            name="Desk", model=ScriptedModel([*turns, [assistant_message("done")]]), tools=self.tools
        )

    async def paused(self, tool: str, call_id: str = "c1", **arguments: Any) -> str:
        """A run that waits for a human, saved."""
        agent = self.agent(function_call(tool, arguments, call_id=call_id))
        return (await Runner.run(agent, "go")).to_state().to_string()

    async def state(self, saved: str) -> Any:
        return await RunState.from_string(self.agent(), saved)

    async def resumed(self, state: Any) -> Any:
        return await Runner.run(
            self.agent(), state if isinstance(state, RunState) else await self.state(state)
        )


def approve_unseen(state: Any) -> None:
    """As in a process that is not governed: the saved run says yes, and the audit knows nothing of it."""
    RunContextWrapper.approve_tool.__wrapped__(state._context, state.get_interruptions()[0])  # type: ignore[attr-defined]


SHOWN = [
    ("pay", {"to": "mom"}),
    ("pay", {"to": "mallory", "amount": 2}),
    ("pay", {"to": "mallory", "amount": 1}),
    ("check", {"to": "mallory"}),
]


@pytest.mark.parametrize(("tool", "arguments"), SHOWN)
async def test_a_yes_is_to_what_the_human_saw(asking: BENCH, tool: str, arguments: dict[str, Any]) -> None:
    """One id, one agent; the human is shown another call than the one that waits."""
    desk, elsewhere = Desk(), Desk()
    b = asking(ASKS)
    true = await desk.paused("pay", to="mallory")
    shown = await elsewhere.paused(tool, "c2", **arguments)
    forged = shown.replace('"c2"', '"c1"')
    assert forged != shown
    state = await desk.state(forged)
    with answered_by("alice"):
        state.approve(state.get_interruptions()[0])
    rows = {row["decision_id"]: row for row in b.rows() if row["tool_call_id"] == "c1"}
    assert [(row["human_decision"], row["approver"]) for row in rows.values()] == [(None, None)]
    again = await desk.resumed(true)
    assert [each.call_id for each in again.interruptions] == ["c1"]
    assert desk.ran == []


async def test_a_default_that_was_left_out(asking: BENCH) -> None:
    """Two runs use one call id. The yes is to the one that was shown, and only that one runs."""
    desk = Desk()
    b = asking(ASKS)
    first, second = await desk.paused("pay", to="a"), await desk.paused("pay", to="b")
    state = await desk.state(second)
    with answered_by("alice"):
        state.approve(state.get_interruptions()[0])
    answers = {row["action_params"]["to"]: row["approver"] for row in b.rows()}
    assert answers == {"a": None, "b": "alice"}
    assert not (await desk.resumed(state)).interruptions
    assert desk.ran == ["pay b 1"]
    assert (await desk.resumed(first)).interruptions
    assert desk.ran == ["pay b 1"]


async def test_another_tool_under_the_id_of_a_body_that_has_begun(asking: BENCH) -> None:
    """That a call waits inside lets it go on, and no other tool of that id past the policy."""
    never = {"name": "never", "match": {"type": "erase"}, "approval": "block", "risk_level": "critical"}
    asks = {"name": "asks", "match": {"type": "pay"}, "approval": "approve", "risk_level": "high"}
    strict = {**ALLOWS, "rules": [asks, never]}
    b = asking(strict)
    desk, erased = Desk(), []

    @function_tool(needs_approval=True)
    def erase(input: str) -> str:
        erased.append(input)
        return "gone"

    def boss(tool: str, tools: list[Any]) -> Agent[Any]:
        turns = [[function_call(tool, {"input": "x"}, call_id="c1")], [assistant_message("done")]]
        return Agent(name="Boss", model=ScriptedModel(turns), tools=tools)

    inner = desk.agent(function_call("pay", {"to": "a"}, call_id="inner"))
    paused = await Runner.run(boss("ask", [inner.as_tool("ask", "Asks.")]), "go")
    assert [each.tool_name for each in paused.interruptions] == ["pay"]

    b.runtime.update_policy(Policy.from_dict(ALLOWS))
    forger = boss("erase", [erase])
    state = (await Runner.run(forger, "go")).to_state()
    approve_unseen(state)
    b.runtime.update_policy(Policy.from_dict(strict))
    result = await Runner.run(forger, state)
    assert [item.output for item in result.new_items if item.type == "tool_call_output_item"] == [BLOCKED]
    assert erased == []
    statuses = sorted((row["tool_name"], row["result_status"]) for row in b.rows())
    assert ("ask", "pending") in statuses
    assert ("erase", "blocked") in statuses


@pytest.mark.parametrize("audited", [True, False])
async def test_the_tools_own_question_under_auto(asking: BENCH, audited: bool) -> None:
    """Only an answer that is in the audit counts; and the call is one row."""
    desk = Desk(asks=True)
    b = asking(ALLOWS)
    saved = await desk.paused("pay", to="a")
    state = await desk.state(saved)
    if audited:
        state.approve(state.get_interruptions()[0])
    else:
        approve_unseen(state)
    result = await desk.resumed(state)
    assert [each.call_id for each in result.interruptions] == ([] if audited else ["c1"])
    assert desk.ran == (["pay a 1"] if audited else [])
    (row,) = b.rows()
    assert (row["result_status"], row["human_decision"]) == (
        ("success", "approved") if audited else ("pending", None)
    )


@pytest.mark.parametrize("late", [True, False])
async def test_an_answer_after_the_call_has_run(asking: BENCH, late: bool) -> None:
    """It is refused, and changes nothing of the row."""
    desk = Desk()
    b = asking(ASKS)
    state = await desk.state(await desk.paused("pay", to="a"))
    item = state.get_interruptions()[0]
    paused_calls = b.runtime.governor.paused_calls
    seen = paused_calls.find(ShownCall("c1", "pay", "Desk", item.arguments), b.row()["run_id"])
    assert seen is not None
    state.approve(item)
    await desk.resumed(state)
    before = b.rows()
    with pytest.raises(AuditError, match="`c1` is already answered"):
        paused_calls.answer(seen, item.arguments, [ApprovalAnswer(late, "bob")])
    assert b.rows() == before
    assert (before[0]["result_status"], before[0]["approver"]) == ("success", None)


@pytest.mark.parametrize("own", [True, False])
async def test_what_the_user_set_is_what_is_read(asking: BENCH, own: bool) -> None:
    asking(ALLOWS)
    tool: FunctionTool = Desk(asks=own).tools[0]
    assert bool(tool.needs_approval) is own
    assert tool.needs_approval == own
    assert tool.needs_approval != (not own)
