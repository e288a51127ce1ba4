"""Whom a call is made for, on every way to put a tool under a policy; the SDK and its runs are real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import Policy, Runtime, RuntimeHooks, Subject, acting_for, govern_agent, instrument
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.guardrail import governance_guardrail
from aegis_otel.adapters.openai_agents.instrument import AegisTracingProcessor
from aegis_otel.runtime.audit import AuditLogger
from tests.adapters.openai_agents.local_kinds import KINDS, Body, Kind, a_call, an_agent
from tests.support.kit import Bench

INSTALL = Callable[..., Bench]
ALICE = Subject("alice", "acme", ("clerk",))
ALLOW = Policy.from_dict({"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}})


class Seen:
    """The subject of each decision, in order."""

    def __init__(self) -> None:
        self.subjects: list[Subject | None] = []
        self.hooks = RuntimeHooks(on_decision=lambda each: self.subjects.append(each.action.subject))

    def runtime(self, tmp_path: Path, **settings: Any) -> Runtime:
        audit = AuditLogger(tmp_path / "audit")
        return Runtime(policy=ALLOW, audit_logger=audit, hooks=self.hooks, **settings)


@function_tool
def look() -> str:
    return "seen"


def agent(*tools: Any, name: str = "Clerk", calls: list[Any] | None = None) -> Agent[Any]:
    calls = [function_call(each.name, {}, call_id=each.name) for each in tools] if calls is None else calls
    model = ScriptedModel([calls, [assistant_message("done")]])
    return Agent(name=name, model=model, tools=list(tools))


def from_context(context: Any) -> dict[str, Any]:
    return dict(context.context)


WAYS = ("governed_tool", "govern_agent", "guardrail", "instrument", "processor")


def governed_by(
    way: str, seen: Seen, tmp_path: Path, subject: Any
) -> tuple[Agent[Any], Callable[[], object]]:
    """Return an agent whose tool is governed that way, and what takes the governance away."""
    if way == "instrument":
        there = instrument(ALLOW, audit_dir=tmp_path / "audit", hooks=seen.hooks, subject=subject)
        return agent(look), there.shutdown
    if way == "processor":
        processor = AegisTracingProcessor(
            ALLOW, audit_dir=tmp_path / "audit", hooks=seen.hooks, subject=subject
        )
        return agent(look), processor.instrumentation.shutdown
    runtime = seen.runtime(tmp_path, subject=subject)
    if way == "govern_agent":
        return govern_agent(agent(look), runtime=runtime), runtime.audit.close
    if way == "governed_tool":
        return agent(governed_tool(runtime=runtime)(look)), runtime.audit.close

    @function_tool(tool_input_guardrails=[governance_guardrail(runtime)])
    def guarded() -> str:
        return "seen"

    return agent(guarded), runtime.audit.close


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("said_by", ["acting_for", "context", "nobody"])
async def test_every_way_knows_the_subject(way: str, said_by: str, tmp_path: Path) -> None:
    seen = Seen()
    subject = from_context if said_by == "context" else None
    governed, end = governed_by(way, seen, tmp_path, subject)
    context = {"user": "alice", "tenant": "acme", "roles": ["clerk"]} if said_by == "context" else None
    try:
        if said_by == "acting_for":
            with acting_for(user="alice", tenant="acme", roles=["clerk"]):
                await Runner.run(governed, "go")
        else:
            await Runner.run(governed, "go", context=context)
    finally:
        end()
    assert seen.subjects == [None if said_by == "nobody" else ALICE]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("installs", [True, False])
async def test_local_tools_know_the_subject(kind: Kind, installs: bool, tmp_path: Path) -> None:
    seen, body = Seen(), Body()
    runtime = seen.runtime(tmp_path, subject=from_context if installs else None)
    there = instrument(runtime=runtime) if installs else None
    made, _ = an_agent(kind.make(body), calls=[a_call(kind)])
    context = {"user": "alice", "tenant": "acme", "roles": ["clerk"]}
    try:
        if installs:
            await Runner.run(made, "go", context=context)
        else:
            with acting_for(user="alice", tenant="acme", roles=["clerk"]):
                await Runner.run(govern_agent(made, runtime=runtime), "go")
    finally:
        if there is not None:
            there.shutdown()
        runtime.audit.close()
    assert seen.subjects
    assert set(seen.subjects) == {ALICE}
