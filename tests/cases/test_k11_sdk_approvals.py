"""K11: with `approvals="sdk"` a program and its humans meet the SDK's approvals as they are without us."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, RunConfig, RunContextWrapper, Runner, RunState, function_tool
from agents.items import ToolApprovalItem
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_events import RealtimeModelToolCallEvent
from agents.realtime.model_inputs import RealtimeModelSendToolOutput
from agents.realtime.testing import ScriptedRealtimeModel
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel.runtime.audit import AuditLogger
from tests.cases.paused_runs import ALLOWS, ASKS, Desk
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
NOT_APPROVED = "Tool execution was not approved."


@pytest.fixture
def asking(installed: BENCH) -> BENCH:
    """A bench whose approvals are the SDK's, by default under a policy that allows everything."""
    return lambda **options: installed(approvals="sdk", **{"policy": ALLOWS} | options)


def read(agent: Agent[Any]) -> list[Any]:
    """What the model read of its calls in the end."""
    model: Any = agent.model
    return [
        item["output"]
        for item in model.calls[-1].input
        if isinstance(item, dict) and item.get("type") == "function_call_output"
    ]


@pytest.mark.parametrize("policy", [ALLOWS, ASKS], ids=["allows", "asks"])
async def test_k11_a_rejection_that_comes_meanwhile_wins_in_a_session(
    asking: BENCH, policy: dict[str, Any]
) -> None:
    """A sticky no to one call comes while the tool still asks itself about another: that one is not run."""
    b = asking(policy=policy)
    ran: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def maybe(context: Any, params: dict[str, Any], call_id: str) -> bool:
        if params["amount"] == 2:
            begun.set()
            await go_on.wait()
            return False
        return True

    @function_tool(needs_approval=maybe)
    def refund(amount: int) -> str:
        ran.append(amount)
        return "refunded"

    model = ScriptedRealtimeModel(strict=False)
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Voice", tools=[refund])
    session = await RealtimeRunner(agent, model=model).run()
    async with session, asyncio.timeout(20):
        await model.emit(RealtimeModelToolCallEvent("refund", "c1", '{"amount": 1}'))
        while "c1" not in session._pending_tool_calls:
            await asyncio.sleep(0.01)
        await model.emit(RealtimeModelToolCallEvent("refund", "c2", '{"amount": 2}'))
        await begun.wait()
        await session.reject_tool_call("c1", always=True)
        go_on.set()
        while session._tool_call_tasks:
            await asyncio.sleep(0.01)
        sent = [each for each in model.sent_events if isinstance(each, RealtimeModelSendToolOutput)]
    assert ran == []
    assert len(sent) == 2
    assert sorted(row["result_status"] for row in b.rows()) == ["denied", "denied"]


@pytest.mark.parametrize("policy", [ALLOWS, ASKS], ids=["allows", "asks"])
async def test_k11_a_rejection_that_comes_meanwhile_wins_in_a_run(
    asking: BENCH, policy: dict[str, Any]
) -> None:
    """The same in a run, where a callable rejects for good while it is asked."""
    b = asking(policy=policy)
    ran: list[int] = []
    agents: list[Agent[Any]] = []

    async def maybe(context: RunContextWrapper[Any], params: dict[str, Any], call_id: str) -> bool:
        raw = {"type": "function_call", "name": "refund", "call_id": "c0", "arguments": "{}"}
        item = ToolApprovalItem(agent=agents[0], raw_item=raw, tool_name="refund")
        context.reject_tool(item, always_reject=True)
        return False

    @function_tool(needs_approval=maybe)
    def refund(amount: int) -> str:
        ran.append(amount)
        return "refunded"

    turns = [[function_call("refund", {"amount": 1}, call_id="c1")], [assistant_message("done")]]
    agents.append(Agent(name="Desk", model=ScriptedModel(turns), tools=[refund]))
    await Runner.run(agents[0], "go")
    assert ran == []
    assert read(agents[0]) == [NOT_APPROVED]
    assert [row["result_status"] for row in b.rows()] == ["denied"]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("policy", [ALLOWS, ASKS], ids=["allows", "asks"])
def test_k11_needs_approval_is_what_the_user_set(asking: BENCH, own: bool, policy: dict[str, Any]) -> None:
    """A real bool, for models that test `is not False`, for JSON, and for copies."""
    asking(policy=policy)
    tool = Desk(asks=own).tool
    assert tool.needs_approval is own
    assert json.dumps(tool.needs_approval) == json.dumps(own)
    for each in (copy.copy(tool), dataclasses.replace(tool)):
        assert each.needs_approval is own
    assert type(tool).needs_approval is False


async def test_k11_a_rejection_is_in_the_words_of_the_program(asking: BENCH) -> None:
    """Where the tool asked: its `tool_error_formatter` is asked, and without one the SDK's text is read."""
    for formatter, text in ((None, NOT_APPROVED), (lambda args: f"no, {args.tool_name}", "no, refund")):
        desk = Desk(asks=True)
        config = RunConfig(tool_error_formatter=formatter)
        agent = desk.agent(function_call("refund", {"amount": 1}, call_id="c1"))
        if formatter is None:
            asking()
        state = (await Runner.run(agent, "go", run_config=config)).to_state()
        state.reject(state.get_interruptions()[0])
        await Runner.run(agent, state, run_config=config)
        assert read(agent) == [text]
        assert desk.paid == []


async def test_k11_arguments_that_cannot_be_read_still_pause(asking: BENCH) -> None:
    """A callable cannot be asked about them, so the SDK pauses: with us as without."""
    b = asking()

    @function_tool(needs_approval=lambda context, params, call_id: False)
    def refund(amount: int) -> str:
        return "refunded"

    turns = [[function_call("refund", "{broken", call_id="c1")], [assistant_message("done")]]
    agent: Agent[Any] = Agent(name="Desk", model=ScriptedModel(turns), tools=[refund])
    result = await Runner.run(agent, "go")
    assert [each.call_id for each in result.interruptions] == ["c1"]
    assert [row["result_status"] for row in b.rows()] == ["pending"]


async def test_k11_the_status_is_the_sdks(asking: BENCH) -> None:
    """Whoever asks for it outside of the SDK's own look is told what the SDK has."""
    asking()
    desk = Desk(asks=True)
    agent = desk.agent(function_call("refund", {"amount": 1}, call_id="c1"))
    state = (await Runner.run(agent, "go")).to_state()
    (item,) = state.get_interruptions()
    context = state._context
    state.approve(item)
    for _ in range(2):
        assert context.get_approval_status("refund", "c1", current_invocation=copy.copy(item)) is True


async def test_k11_a_reused_call_id_leaves_sticky_approvals_alone(asking: BENCH) -> None:
    """Another conversation waits with the same call id and the same arguments: what was approved goes on."""
    asking()
    desk = Desk(asks=True)
    calls = [function_call("refund", {"amount": n}, call_id=f"call_{n}") for n in (1, 2)]
    agent = desk.agent(*calls)
    state = (await Runner.run(agent, "go")).to_state()
    state.approve(state.get_interruptions()[0], always_approve=True)
    other = desk.agent(calls[1])
    assert len((await Runner.run(other, "go")).interruptions) == 1
    assert not (await Runner.run(agent, state)).interruptions
    assert desk.paid == [1, 2]


async def test_k11_an_allowed_tool_is_not_looked_up(asking: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the policy can only allow it, the journal is not read, and nothing is judged twice."""
    b = asking()
    desk = Desk()

    def waiting(self: AuditLogger, call_id: str) -> Any:
        pytest.fail("the journal was read")

    monkeypatch.setattr(AuditLogger, "waiting", waiting)
    judged: list[Any] = []
    evaluate = type(b.runtime.governor.policy).evaluate

    def counted(self: Any, action: Any, **how: Any) -> Any:
        judged.append(action.type)
        return evaluate(self, action, **how)

    monkeypatch.setattr(type(b.runtime.governor.policy), "evaluate", counted)
    await Runner.run(desk.agent(function_call("refund", {"amount": 1}, call_id="c1")), "go")
    assert desk.paid == [1]
    assert judged == ["refund"]


async def test_k11_rejected_calls_have_a_row_holds(asking: BENCH) -> None:
    """A sticky no to a tool that the policy allows and that does not ask: each call has its row."""
    b = asking()
    desk = Desk(asks=True)
    agent = desk.agent(*(function_call("refund", {"amount": n}, call_id=f"c{n}") for n in (1, 2)))
    state = (await Runner.run(agent, "go")).to_state()
    state.reject(state.get_interruptions()[0], always_reject=True)
    state = await RunState.from_string(agent, state.to_string())
    desk.tool.needs_approval = False
    await Runner.run(agent, state)
    assert desk.paid == []
    assert [row["result_status"] for row in b.rows()] == ["denied", "denied"]
