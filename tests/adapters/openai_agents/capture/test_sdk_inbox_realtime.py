"""Realtime sessions beside an inbox: they go on at once, so nobody looks there for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from agents.realtime.model_events import RealtimeModelToolCallEvent
from agents.realtime.model_inputs import RealtimeModelSendToolOutput
from agents.realtime.testing import ScriptedRealtimeModel

from aegis_otel import acting_for
from aegis_otel.adapters.openai_agents import answered_by
from aegis_otel.governance.approvals.inbox import GrantTerms, QuestionStatus
from tests.support.machines import ANN, Desk, Machine, Machines

DENIED = "[AEGIS DENIED] Action denied by human operator"


@asynccontextmanager
async def called(machine: Machine) -> AsyncIterator[tuple[RealtimeSession, ScriptedRealtimeModel]]:
    """A session in which the model has called the tool."""
    model = ScriptedRealtimeModel(strict=False)
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Voice", tools=[machine.tool])
    session = await RealtimeRunner(agent, model=model).run()
    async with session, asyncio.timeout(20):
        await model.emit(RealtimeModelToolCallEvent("act", "c1", '{"x": 1}'))
        while session._tool_call_tasks:
            await asyncio.sleep(0.01)
        yield session, model


async def sent(session: RealtimeSession, model: ScriptedRealtimeModel) -> list[str]:
    while session._tool_call_tasks:
        await asyncio.sleep(0.01)
    return [each.output for each in model.sent_events if isinstance(each, RealtimeModelSendToolOutput)]


@pytest.mark.parametrize("approved", [True, False])
async def test_a_session_puts_no_question_into_the_inbox(
    approved: bool, machine: Machines, desk: Desk
) -> None:
    """Nobody is asked in vain there; the program answers."""
    with machine("a") as a:
        async with called(a) as (session, model):
            assert a.row()["result_status"] == "pending"
            assert desk.inbox.listing(tuple(QuestionStatus)) == ()
            with answered_by("carol"):
                await (session.approve_tool_call if approved else session.reject_tool_call)("c1")
            assert await sent(session, model) == ["acted 1" if approved else DENIED]
        assert a.ran == ([1] if approved else [])
        row = a.row()
    assert (row["result_status"], row["human_decision"], row["approver"]) == (
        *(("success", "approved") if approved else ("denied", "denied")),
        "carol",
    )
    assert desk.inbox.listing(tuple(QuestionStatus)) == ()


async def test_a_grant_counts_in_a_session(machine: Machines, desk: Desk) -> None:
    with acting_for(user="carl@ops"), machine("a") as a:
        await a.pause(7)
        desk.say(ANN, grant=GrantTerms(3600.0, "time"))
        async with called(a) as (session, model):
            assert await sent(session, model) == ["acted 1"]
