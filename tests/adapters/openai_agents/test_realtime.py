"""Realtime sessions: their function tools are of the same class, and governed by the same capture point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import FunctionTool, ToolGuardrailFunctionOutput, ToolInputGuardrail, function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_events import RealtimeModelToolCallEvent
from agents.realtime.model_inputs import RealtimeModelSendToolOutput
from agents.realtime.testing import ScriptedRealtimeModel

from aegis_otel import ConfigError, govern_agent
from tests.adapters.openai_agents.capture.test_tool_kinds import policy
from tests.adapters.openai_agents.local_kinds import Body
from tests.adapters.openai_agents.test_call_table import assert_one_id
from tests.support.kit import Bench

MAKE = Callable[..., Bench]


def greet(body: Body, **options: Any) -> FunctionTool:
    @function_tool(name_override="greet", **options)
    async def greet(name: str) -> str:
        return await body.run(name)

    return greet


async def call(agent: RealtimeAgent[Any], *, until: asyncio.Event | None = None) -> list[str]:
    """One call of `greet` in a session of the agent: what the model was sent back."""
    model = ScriptedRealtimeModel(strict=False)
    session = await RealtimeRunner(agent, model=model).run()
    async with session, asyncio.timeout(10):
        await model.emit(RealtimeModelToolCallEvent("greet", "call_1", '{"name": "Ann"}'))
        if until is not None:
            await until.wait()
            return []
        while session._tool_call_tasks:
            await asyncio.sleep(0)
        return [each.output for each in model.sent_events if isinstance(each, RealtimeModelSendToolOutput)]


def voice(*tools: Any) -> RealtimeAgent[Any]:
    return RealtimeAgent(name="Voice", tools=list(tools))


CASES = {
    "auto": ("auto", [], "did it", "success", "allowed"),
    "approved": ("approve", [True], "did it", "success", "approved"),
    "denied": ("approve", [False], "[AEGIS DENIED] Action denied by human operator", "denied", "denied"),
    "blocked": (
        "block",
        [],
        "[AEGIS BLOCKED] Action blocked by policy rule: the_rule",
        "blocked",
        "blocked",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("way", ["instrument", "govern_agent"])
async def test_each_verdict(case: Any, way: str, installed: MAKE, bench: MAKE) -> None:
    """Body, text, row, event, count and id are those of a Runner's run."""
    approval, answers, text, status, outcome = case
    b = (installed if way == "instrument" else bench)(*answers, policy=policy(approval))
    body = Body()
    agent = voice(greet(body))
    sent = await call(agent if way == "instrument" else govern_agent(agent, runtime=b.runtime))
    assert sent == [text]
    assert body.seen == (["Ann"] if status == "success" else [])
    row = b.row()
    assert (row["result_status"], row["agent_name"], row["tool_call_id"]) == (status, "Voice", "call_1")
    assert_one_id(b, outcome)


async def test_a_body_that_raises(installed: MAKE) -> None:
    """Recorded as failed, whether the SDK makes a text of it or not."""
    b = installed(policy=policy("auto"))
    (text,) = await call(voice(greet(Body(fails=LookupError("gone")))))
    assert "error" in text
    await call(voice(greet(Body(fails=LookupError("gone")), failure_error_function=None)))
    assert [(row["result_status"], row["result_error"]) for row in b.rows()] == [
        ("failed", "LookupError: gone")
    ] * 2


async def test_another_guardrail_rejects_after_us(installed: MAKE) -> None:
    """The row closes as skipped, with the session's task for the call."""
    b = installed(policy=policy("auto"))
    no = ToolInputGuardrail(lambda data: ToolGuardrailFunctionOutput.reject_content("theirs"))
    body = Body()
    assert await call(voice(greet(body, tool_input_guardrails=[no]))) == ["theirs"]
    async with asyncio.timeout(10):
        while b.row()["result_status"] == "open":
            await asyncio.sleep(0)
    assert (body.seen, b.row()["result_status"]) == ([], "skipped")
    assert_one_id(b, "allowed")


async def test_a_session_that_is_closed_while_the_body_runs(installed: MAKE) -> None:
    """The body is cancelled, and the row says so."""
    b = installed(policy=policy("auto"))
    body = Body(hangs=True)
    await call(voice(greet(body)), until=body.started)
    async with asyncio.timeout(10):
        while b.row()["result_status"] == "open":
            await asyncio.sleep(0)
    assert b.row()["result_status"] == "cancelled"


async def test_tools_that_cannot_be_governed_refuse_the_session(installed: MAKE) -> None:
    """`on_ungoverned="refuse"` holds for realtime agents: the session does not begin."""
    installed(policy=policy("auto"), on_ungoverned="refuse")
    with pytest.raises(ConfigError, match="`odd` of agent `Voice`"):
        await call(voice(type("Odd", (), {"name": "odd"})()))
