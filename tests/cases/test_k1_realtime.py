"""K1: in a realtime session, too, a rule is asked about what the body gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_events import RealtimeModelToolCallEvent
from agents.realtime.model_inputs import RealtimeModelSendToolOutput
from agents.realtime.testing import ScriptedRealtimeModel

from aegis_otel import govern_agent
from tests.cases.test_k1_judged_arguments import (
    BLOCKED,
    before,
    choice,
    flag,
    held,
    keyed,
    named,
    number,
    order,
    policy,
    stripped,
    typed,
    url,
)
from tests.support.kit import Bench

MAKE = Callable[..., Bench]


async def said(body: Any, sent: Any, b: Bench, way: str) -> str:
    """What the model of a session is sent back for one call."""
    tool = function_tool(strict_mode=False)(body)
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Voice", tools=[tool])
    if way == "govern_agent":
        agent = govern_agent(agent, runtime=b.runtime)
    model = ScriptedRealtimeModel(strict=False)
    session = await RealtimeRunner(agent, model=model).run()
    text = sent if isinstance(sent, str) else json.dumps(sent)
    async with session, asyncio.timeout(30):
        await model.emit(RealtimeModelToolCallEvent(tool.name, "call_1", text))
        while session._tool_call_tasks:
            await asyncio.sleep(0)
        outputs = [e.output for e in model.sent_events if isinstance(e, RealtimeModelSendToolOutput)]
    (output,) = outputs
    return str(output)


@pytest.mark.parametrize("way", ["instrument", "govern_agent"])
@pytest.mark.parametrize(
    "hidden",
    [
        (number, "gt", "value", 100, {"value": "5000"}),
        (number, "gt", "value", 100, {"value": 5000.0}),
        (number, "gt", "value", 100, '{"value": 5, "value": 5000}'),
        (flag, "eq", "value", True, {"value": "yes"}),
        (order, "gt", "value.totalAmount", 100, {"value": {"total_amount": 5000}}),
        (choice, "gt", "value.total", 100, {"value": {"sum": 5000}}),
        (before, "gt", "value.total", 100, {"value": {"packed": 5000}}),
        (stripped, "eq", "value.text", "root", {"value": {"text": " ROOT\n"}}),
        (url, "matches", "value", r"^https?://evil\.example/", {"value": "http://ev%69l.example/x"}),
        (keyed, "gt", "value.x.totalAmount", 100, {"value": {"x": {"total_amount": 5000}}}),
        (typed, "gt", "value.total", 100, {"value": {"sum": 5000}}),
        (held, "gt", "value.total", 100, {"value": {"sum": 5000}}),
    ],
    ids=named,
)
async def test_k1_a_realtime_call_is_judged_by_what_the_body_gets_holds(
    way: str, hidden: tuple[Any, ...], installed: MAKE, bench: MAKE
) -> None:
    body, operator, path, expected, sent = hidden
    b = (installed if way == "instrument" else bench)(policy=policy(operator, path, expected))
    assert (await said(body, sent, b, way)).startswith(BLOCKED)
    assert b.row()["result_status"] == "blocked"


@pytest.mark.parametrize("way", ["instrument", "govern_agent"])
@pytest.mark.parametrize(
    "below",
    [
        (number, "value", {"value": 5}, "ran 5"),
        (before, "value.total", {"value": {"packed": 5}}, "ran total=5.0"),
        (order, "value.totalAmount", {"value": {"total_amount": 5}}, "ran total_amount=5.0 note=None"),
    ],
    ids=named,
)
async def test_k1_a_realtime_call_below_the_limit_runs_holds(
    way: str, below: tuple[Any, ...], installed: MAKE, bench: MAKE
) -> None:
    body, path, sent, ran = below
    b = (installed if way == "instrument" else bench)(policy=policy("gt", path, 100))
    assert await said(body, sent, b, way) == ran


@pytest.mark.parametrize("way", ["instrument", "govern_agent"])
async def test_k8_a_realtime_call_of_megabytes_fails_closed_holds(
    way: str, installed: MAKE, bench: MAKE
) -> None:
    """Whatever its size, a value that cannot be compared is unknown, and the row is bounded."""
    b = (installed if way == "instrument" else bench)(policy=policy("gt", "value", 100))
    assert (await said(number, {"value": "5" * 4_000_000}, b, way)).startswith(BLOCKED)
    row = b.row()
    assert row["result_status"] == "blocked"
    assert len(json.dumps(row["action_params"])) < 100_000
