"""Whom a call is made for, on every way to put a tool under a policy; the SDK and its runs are real."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import Action, Policy, Runtime, RuntimeHooks, Subject, acting_for, govern_agent, instrument
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.guardrail import governance_guardrail
from aegis_otel.adapters.openai_agents.instrument import AegisTracingProcessor
from aegis_otel.runtime.approval import CallbackApprovalHandler, current_question
from aegis_otel.runtime.approval.screen import Screen, question_layout
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


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("stale", [False, True])
async def test_local_tools_of_a_governed_agent_read_the_context_of_their_run(
    kind: Kind, stale: bool, tmp_path: Path
) -> None:
    seen, body = Seen(), Body()
    runtime = seen.runtime(tmp_path, subject=from_context)
    made, _ = an_agent(kind.make(body), calls=[a_call(kind)])
    context = {"user": "alice", "tenant": "acme", "roles": ["clerk"]}
    with acting_for(user="mallory") if stale else nullcontext():
        await Runner.run(govern_agent(made, runtime=runtime), "go", context=context)
    runtime.audit.close()
    # A computer is not given the context, so what is stated around the run alone does not count.
    is_known = not stale and kind.type != "computer"
    assert set(seen.subjects) == {ALICE if is_known else None}


ASK = Policy.from_dict({"version": "1", "defaults": {"risk_level": "high", "approval": "approve"}})
SECRET = "sk-ant-api03-" + "a1B2c3D4" * 11 + "-Aa1Bb2AA"


async def test_the_row_and_the_question_name_the_subject(installed: INSTALL) -> None:
    questions = []

    async def ask(_decision: Any) -> bool:
        questions.append(current_question())
        return True

    b = installed(policy=ASK, approver=CallbackApprovalHandler(ask))
    with acting_for(user="alice", tenant=SECRET, roles=["clerk", "Ärztin"]):
        await Runner.run(agent(look), "go")
    row = b.row()
    assert (row["user_id"], row["user_roles"], row["schema_version"]) == ("alice", '["clerk", "Ärztin"]', 6)
    assert row["tenant_id"].startswith("[REDACTED")
    (question,) = questions
    assert {name: getattr(question, name) for name in ("user_id", "tenant_id", "user_roles")} == {
        name: row[name] for name in ("user_id", "tenant_id", "user_roles")
    }


@pytest.mark.parametrize(
    ("said", "columns"),
    [
        (None, (None, None, None)),
        ({}, (None, None, None)),
        ({"tenant": "acme"}, (None, "acme", None)),
        ({"user": "u", "roles": []}, ("u", None, "[]")),
        ({"roles": ['a"b', "\ud800"]}, (None, None, '["a\\"b", "\\\\ud800"]')),
    ],
)
async def test_what_is_not_known_is_null(said: Any, columns: tuple[Any, ...], installed: INSTALL) -> None:
    b = installed(policy=ALLOW)
    with nullcontext() if said is None else acting_for(**said):
        await Runner.run(agent(look), "go")
    row = b.row()
    assert (row["user_id"], row["tenant_id"], row["user_roles"]) == columns


async def test_long_subjects_are_cut(installed: INSTALL) -> None:
    b = installed(policy=ALLOW)
    with acting_for(user="u" * 5_000, roles=[f"role-{number:04}" for number in range(5_000)]):
        await Runner.run(agent(look), "go")
    row = b.row()
    assert "[CUT 4,000 of 5,000 characters, sha256 " in row["user_id"]
    roles = json.loads(row["user_roles"])
    assert roles[:-1] == [f"role-{number:04}" for number in range(len(roles) - 1)]
    assert roles[-1] == f"[CUT {5_001 - len(roles):,} more items]"
    assert len(row["user_roles"]) < 4_100


async def test_the_terminal_shows_whom_the_call_is_for() -> None:
    who = Subject("al\x1b[31mice", "acme", ("clerk", "boss"))
    decision = ASK.evaluate(Action("pay", "bank", {"amount": 5}, agent="Clerk", subject=who))
    facts = dict(question_layout(decision, None, None).facts)
    assert {name: facts[name] for name in ("User", "Tenant", "Roles")} == {
        "User": "al\x1b[31mice",
        "Tenant": "acme",
        "Roles": "boss, clerk",
    }
    lines = question_layout(decision, None, None).lines(Screen(80, 40, "utf-8"))
    assert "\x1b" not in "".join(lines)
    assert any("boss, clerk" in line for line in lines)


async def test_a_role_with_a_comma_is_one_on_the_terminal() -> None:
    who = Subject("alice", roles=("admin, auditor", "cl\x1b[2Jerk", "boss"))
    decision = ASK.evaluate(Action("pay", "bank", {"amount": 5}, subject=who))
    lines = question_layout(decision, None, None).lines(Screen(80, 40, "utf-8"))
    assert any('"admin, auditor", boss, "cl\\u001b[2Jerk"' in line for line in lines)
