"""No call is taken for another subject's, however many run at once and whatever way a run goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import pytest
from agents import Agent, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import Policy, Runtime, Subject, acting_for, instrument, semconv
from aegis_otel.runtime.approval import CallbackApprovalHandler, Question, current_question
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.telemetry.in_memory import Signals

SUBJECTS = 100
HANDED, STREAMED, NESTED, RESUMED = 35, 30, 25, 10
"""The calls of the four runs of each subject. The SDK takes longest to resume a run."""
POLICY = Policy.from_dict(
    {
        "rules": [
            {"name": "asked", "match": {"type": "ask_first"}, "approval": "approve"},
            {"name": "own", "match": {"user": "user-*", "role": "role-*"}, "approval": "auto"},
            {"name": "nobody", "approval": "block"},
        ]
    }
)


class Caller(NamedTuple):
    """One of the subjects, and how the program says who it is."""

    subject: Subject
    context: dict[str, Any] | None
    """What the run's context says; None where `acting_for` says it."""

    def around(self) -> AbstractContextManager[Any]:
        subject = self.subject
        if self.context is not None:
            return nullcontext()
        return acting_for(user=subject.user, tenant=subject.tenant, roles=subject.roles)


def caller(number: int) -> Caller:
    subject = Subject(f"user-{number}", f"tenant-{number}", (f"role-{number}",))
    context = {"user": subject.user, "tenant": subject.tenant, "roles": list(subject.roles or ())}
    return Caller(subject, context if number % 2 else None)


@function_tool
async def note(owner: str) -> str:
    await asyncio.sleep(0)
    return owner


@function_tool
def note_in_thread(owner: str) -> str:
    return owner


@function_tool
async def ask_first(owner: str) -> str:
    return owner


@function_tool(needs_approval=True)
async def ask_by_itself(owner: str) -> str:
    return owner


TOOLS = [note, note_in_thread, ask_first, ask_by_itself]


def calls(owner: str, *tools: Any) -> list[Any]:
    return [
        function_call(tool.name, {"owner": owner}, call_id=f"{owner}-{tool.name}-{number}")
        for number, tool in enumerate(tools)
    ]


def agent(name: str, *turns: list[Any], **more: Any) -> Agent[Any]:
    return Agent(name=name, model=ScriptedModel([*turns, [assistant_message("done")]]), **more)


async def hand_off(who: Caller, owner: str) -> None:
    back = agent("Back", calls(owner, *[note] * HANDED), tools=TOOLS)
    front = agent("Front", [function_call("transfer_to_back", {}, call_id="handoff")], handoffs=[back])
    with who.around():
        await Runner.run(front, "go", context=who.context)


async def stream(who: Caller, owner: str) -> None:
    """It begins inside of `acting_for`, and is read outside of it."""
    with who.around():
        running = Runner.run_streamed(
            agent("Stream", calls(owner, *[note_in_thread] * STREAMED), tools=TOOLS),
            "go",
            context=who.context,
        )
    with acting_for(user="user-of-the-reader") if who.context is None else nullcontext():
        async for _ in running.stream_events():
            await asyncio.sleep(0)


async def nest(who: Caller, owner: str) -> None:
    inner = agent("Inner", calls(owner, *[note] * (NESTED - 1)), tools=TOOLS)
    call = function_call("ask_inner", {"input": owner}, call_id=f"{owner}-inner")
    outer = agent("Outer", [call], tools=[inner.as_tool("ask_inner", "Asks.")])
    with who.around():
        await Runner.run(outer, "go", context=who.context)


async def resume(who: Caller, owner: str) -> None:
    """It is paused by the tool's own questions, saved, and resumed; the policy's are put to a handler."""
    tools = [note] * (RESUMED - 6) + [ask_first] * 3 + [ask_by_itself] * 3
    first = agent("Resumed", calls(owner, *tools), tools=TOOLS)
    with who.around():
        paused = await Runner.run(first, "go", context=who.context)
    assert len(paused.interruptions) == 3
    again = agent("Resumed", tools=TOOLS)
    state = await RunState.from_string(again, paused.to_state().to_string())
    for item in state.get_interruptions():
        state.approve(item)
    with who.around():
        await Runner.run(again, state, context=who.context)


@pytest.mark.timeout(300)
async def test_10_000_calls_of_100_subjects(tmp_path: Any) -> None:
    """Row, event and question of each call name the subject whose call it is: its arguments say whose."""
    questions: list[Question] = []

    async def ask(_decision: Any) -> bool:
        questions.append(current_question())
        await asyncio.sleep(0)
        return True

    signals = Signals()
    runtime = Runtime(
        policy=POLICY,
        audit_logger=AuditLogger(tmp_path / "audit"),
        approval_handler=CallbackApprovalHandler(ask),
        recorder=signals.recorder(),
        subject=lambda run: run.context or None,
    )
    there = instrument(runtime=runtime)
    try:
        callers = [caller(number) for number in range(SUBJECTS)]
        ways: tuple[Callable[[Caller, str], Any], ...] = (hand_off, stream, nest, resume)
        await asyncio.gather(*[way(each, str(each.subject.user)) for way in ways for each in callers])
    finally:
        there.shutdown()

    rows = AuditLogger(tmp_path / "audit").get_log()
    assert len(rows) == SUBJECTS * (HANDED + STREAMED + NESTED + RESUMED) == 10_000
    wrong = []
    tenants = {}
    for row in rows:
        params = row["action_params"]
        owner = params.get("owner") or params["input"]
        number = owner.removeprefix("user-")
        tenants[row["decision_id"]] = f"tenant-{number}"
        named = (row["user_id"], row["tenant_id"], json.loads(row["user_roles"] or "[]"))
        if named != (owner, f"tenant-{number}", [f"role-{number}"]) or row["result_status"] != "success":
            wrong.append(row)
    assert wrong == []
    assert len(questions) == SUBJECTS * 3
    assert [
        each
        for each in questions
        if json.loads(each.action_params)["owner"] != each.user_id or not each.user_id
    ] == []
    events = signals.events(semconv.EVENT_DECISION)
    assert {event[semconv.DECISION_ID]: event[semconv.TENANT_ID] for event in events} == tenants
    assert len({event[semconv.USER_HASH] for event in events}) == SUBJECTS
    assert len(events) == len(rows)
    signals.close()
