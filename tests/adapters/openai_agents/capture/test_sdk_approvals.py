"""Approvals by the SDK's own interruptions: paused, answered and resumed, in one process or several."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import itertools
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunState,
    ToolExecutionConfig,
    function_tool,
)
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_events import RealtimeModelToolCallEvent
from agents.realtime.model_inputs import RealtimeModelSendToolOutput
from agents.realtime.testing import ScriptedRealtimeModel
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import AuditError, Policy
from aegis_otel.adapters.openai_agents import answered_by, governed_tool
from aegis_otel.audit.verify.verify import verify
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.system import RealSystem
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
DENIED = "[AEGIS DENIED] Action denied by human operator"
CHANGED = "[AEGIS ERROR] Action not run: its arguments changed while approval was pending"


def policy(risk: str = "high", **approvals: str) -> dict[str, Any]:
    """One rule for each tool, named after it."""
    rules = [
        {"name": f"{tool}_rule", "match": {"type": tool}, "approval": approval, "risk_level": risk}
        for tool, approval in approvals.items()
    ]
    return {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}, "rules": rules}


class Clerk:
    """An agent with a script, and what became of its calls."""

    def __init__(
        self, bench: Bench, *turns: Any, tools: list[Any] | None = None, name: str = "Clerk"
    ) -> None:
        self.bench = bench
        self.ran: list[str] = []

        @function_tool
        def act(x: int, note: str = "none") -> str:
            self.ran.append(f"act {x}")
            return f"acted {x}"

        @function_tool
        async def look(x: int) -> str:
            self.ran.append(f"look {x}")
            return f"looked {x}"

        self.model = ScriptedModel([*turns, [assistant_message("done")]])
        self.agent = Agent(name=name, model=self.model, tools=[act, look] if tools is None else tools)

    async def run(self, state: Any = "go", **options: Any) -> Any:
        return await Runner.run(self.agent, state, **options)

    @property
    def read(self) -> list[Any]:
        """What the model read of its calls in the end."""
        return [
            item["output"]
            for item in self.model.calls[-1].input
            if isinstance(item, dict) and item.get("type") == "function_call_output"
        ]

    async def saved(self, result: Any) -> Any:
        """The state of a paused run, through its text."""
        return await RunState.from_string(self.agent, result.to_state().to_string())


def act(x: int = 1, call_id: str = "c1") -> Any:
    return function_call("act", {"x": x, "note": "n"}, call_id=call_id)


def outcomes(bench: Bench) -> dict[str, str]:
    """The outcome of each call id; each call has one row, one event and one count, with one id."""
    rows = bench.rows()
    events = bench.telemetry.events("aegis.tool.decision")
    told = {event["aegis.decision.id"]: event["aegis.decision.outcome"] for event in events}
    assert len(told) == len(events), "a decision was told twice"
    final = [row for row in rows if row["decision_id"] in told]
    assert all(row["result_status"] == "pending" for row in rows if row not in final)
    assert len(final) == len(events)
    counted: Counter[str] = Counter()
    for labels, value in bench.telemetry.points("aegis.decisions").items():
        counted[dict(labels)["aegis.decision.outcome"]] += value
    assert +counted == Counter(told.values())
    return {row["tool_call_id"]: told[row["decision_id"]] for row in final}


@pytest.fixture
def asking(installed: BENCH) -> BENCH:
    """A bench whose approvals are the SDK's; its own handler must not be asked."""
    return lambda **options: installed(approvals="sdk", **options)


async def by_run(agent: Agent[Any], state: Any) -> Any:
    return await Runner.run(agent, state)


async def by_run_sync(agent: Agent[Any], state: Any) -> Any:
    return await asyncio.to_thread(run_in_own_loop, agent, state)


def run_in_own_loop(agent: Agent[Any], state: Any) -> Any:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return Runner.run_sync(agent, state)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def by_run_streamed(agent: Agent[Any], state: Any) -> Any:
    result = Runner.run_streamed(agent, state)
    async for _ in result.stream_events():
        pass
    return result


PATHS = [by_run, by_run_sync, by_run_streamed]


@pytest.mark.parametrize("path", PATHS)
async def test_approved(asking: BENCH, path: Any) -> None:
    """One id from the pause to the end; who, why and how long are in the row; nobody is asked in process."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    paused = await path(clerk.agent, "go")
    (interruption,) = paused.interruptions
    (pending,) = b.rows()
    assert (pending["result_status"], pending["approval"], pending["human_decision"]) == (
        *("pending", "approve"),
        None,
    )
    assert clerk.ran == []
    assert b.telemetry.events("aegis.tool.decision") == []
    (asked,) = b.telemetry.events("aegis.approval.requested")
    assert asked["aegis.approval.channel"] == "sdk"

    state = await clerk.saved(paused)
    with answered_by("alice@example.com", reason="ticket 4711"):
        state.approve(state.get_interruptions()[0])
    await path(clerk.agent, state)

    assert clerk.ran == ["act 1"]
    assert clerk.read == ["acted 1"]
    row = b.row()
    assert row["decision_id"] == pending["decision_id"] == asked["aegis.decision.id"]
    assert (row["result_status"], row["human_decision"], row["approver"], row["approval_reason"]) == (
        *("success", "approved"),
        *("alice@example.com", "ticket 4711"),
    )
    assert row["timestamp"] == pending["timestamp"]
    assert row["approval_wait_s"] > 0
    assert outcomes(b) == {"c1": "approved"}
    (resolved,) = b.telemetry.events("aegis.approval.resolved")
    assert resolved["aegis.approval.outcome"] == "approved"
    assert resolved["aegis.approval.wait_time"] == row["approval_wait_s"]
    (duration,) = b.telemetry.points("aegis.approval.duration")
    assert dict(duration) == {"aegis.approval.channel": "sdk", "aegis.approval.outcome": "approved"}
    (span,) = b.telemetry.spans("govern_tool")
    assert format(span.context.span_id, "016x") == row["span_id"]
    assert b.heard.approvals == [("act_rule", True)]
    assert b.approver.asked == []
    assert interruption.call_id == "c1"


@pytest.mark.parametrize(
    ("path", "message"), [*((path, None) for path in PATHS), (by_run, "Ask the owner first.")]
)
async def test_rejected(asking: BENCH, path: Any, message: str | None) -> None:
    """A no is final at once: row, event, count and span, before anything is resumed."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = await clerk.saved(await path(clerk.agent, "go"))
    with answered_by("bob"):
        state.reject(state.get_interruptions()[0], rejection_message=message)
    assert outcomes(b) == {"c1": "denied"}
    await path(clerk.agent, state)
    assert clerk.read == [message or DENIED]
    assert clerk.ran == []
    row = b.row()
    assert (row["result_status"], row["human_decision"], row["approver"]) == ("denied", "denied", "bob")
    assert row["approval_reason"] == message
    assert row["result_error"] == "Action denied by human operator"
    assert outcomes(b) == {"c1": "denied"}
    assert b.heard.approvals == [("act_rule", False)]
    assert b.heard.results == [("act", "denied")]
    (span,) = b.telemetry.spans("govern_tool")
    assert format(span.context.span_id, "016x") == row["span_id"]


async def test_only_what_the_policy_asks_about_is_paused(asking: BENCH) -> None:
    """Of parallel calls one waits, one ran and is not run again, one is blocked and nobody is asked."""
    b = asking(policy=policy(act="approve", send="block"))
    sent: list[int] = []

    @function_tool
    def send(x: int, note: str = "none") -> str:
        sent.append(x)
        return "sent"

    calls = [
        function_call("look", {"x": 1}, call_id="looks"),
        act(2, "waits"),
        function_call("send", {"x": 3}, call_id="sends"),  # a default is left out, so that the SDK would ask
    ]
    clerk = Clerk(b, calls)
    clerk.agent.tools.append(send)
    state = await clerk.saved(await clerk.run())
    (interruption,) = state.get_interruptions()
    assert interruption.call_id == "waits"
    state.approve(interruption)
    await clerk.run(state)
    assert clerk.ran == ["look 1", "act 2"]
    assert sent == []
    assert clerk.read == ["looked 1", "[AEGIS BLOCKED] Action blocked by policy rule: send_rule", "acted 2"]
    assert outcomes(b) == {"looks": "allowed", "waits": "approved", "sends": "blocked"}


async def test_nobody_answered_yet(asking: BENCH) -> None:
    """Resumed without an answer it stays the same question, however often."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = await clerk.saved(await clerk.run())
    for _ in range(2):
        state = await clerk.saved(await clerk.run(state))
    assert [each.call_id for each in state.get_interruptions()] == ["c1"]
    assert b.row()["result_status"] == "pending"
    assert len(b.telemetry.events("aegis.approval.requested")) == 1


@pytest.mark.parametrize("clock", ["goes on", "is set back"])
@pytest.mark.parametrize("path", [by_run, by_run_streamed])
async def test_the_policy_is_asked_again_on_resume(
    asking: BENCH, path: Any, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block wins over the yes, and the row says both; also where each clock is an hour behind the last."""
    if clock == "is set back":
        times = itertools.count(time.time_ns(), -3_600_000_000_000)
        monkeypatch.setattr(RealSystem, "now_ns", staticmethod(lambda: next(times)))
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = (await path(clerk.agent, "go")).to_state()
    state.approve(state.get_interruptions()[0])
    asked = b.row()["decision_id"]
    b.runtime.update_policy(Policy.from_dict(policy(act="block")))
    await path(clerk.agent, state)
    assert clerk.read == ["[AEGIS BLOCKED] Action blocked by policy rule: act_rule"]
    assert clerk.ran == []
    row = b.row()
    assert (row["decision_id"], row["result_status"], row["human_decision"]) == (asked, "blocked", "approved")
    assert outcomes(b) == {"c1": "blocked"}


async def test_a_policy_that_no_longer_asks(asking: BENCH) -> None:
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = (await clerk.run()).to_state()
    state.approve(state.get_interruptions()[0])
    b.runtime.update_policy(Policy.from_dict(policy(act="auto")))
    await clerk.run(state)
    assert clerk.ran == ["act 1"]
    assert b.row()["approval"] == "auto"
    assert outcomes(b) == {"c1": "approved"}


OTHER_RULE = {
    "version": "1",
    "rules": [{"name": "stricter", "match": {"type": "act"}, "approval": "approve", "risk_level": "high"}],
}


@pytest.mark.parametrize(
    ("path", "changed"),
    [*((path, OTHER_RULE) for path in PATHS), (by_run, policy(act="approve", risk="critical"))],
)
async def test_another_question_is_asked_again(asking: BENCH, path: Any, changed: Any) -> None:
    """A yes is to the rule and the risk that were shown. The run is paused again, under the same id."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = (await path(clerk.agent, "go")).to_state()
    state.approve(state.get_interruptions()[0])
    asked = b.row()["decision_id"]
    b.runtime.update_policy(Policy.from_dict(changed))
    state = await clerk.saved(await path(clerk.agent, state))
    assert [each.call_id for each in state.get_interruptions()] == ["c1"]
    assert clerk.ran == []
    assert outcomes(b) == {}
    assert len(b.telemetry.events("aegis.approval.requested")) == 2
    state = await clerk.saved(await path(clerk.agent, state))  # the old yes does not become one
    assert clerk.ran == []

    with answered_by("carol"):
        state.approve(state.get_interruptions()[0])
    await path(clerk.agent, state)
    assert clerk.ran == ["act 1"]
    row = b.row()
    assert (row["decision_id"], row["approver"], row["result_status"]) == (asked, "carol", "success")
    assert row["matched_rule"] == changed["rules"][0]["name"]
    assert outcomes(b) == {"c1": "approved"}


async def test_a_change_of_mind(asking: BENCH) -> None:
    """A no after a yes counts; a yes after a no is asked for again, for the no was final."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act(1, "c1"), act(2, "c2")])
    state = (await clerk.run()).to_state()
    first, second = state.get_interruptions()
    state.approve(first)
    state.reject(first)
    state.reject(second)
    state.approve(second)
    state = (await clerk.run(state)).to_state()
    assert [each.call_id for each in state.get_interruptions()] == ["c2"]
    assert clerk.ran == []
    assert outcomes(b) == {"c1": "denied", "c2": "denied"}
    assert [row["result_status"] for row in b.rows()] == ["denied", "denied", "pending"]


async def test_the_audit_is_read_off_the_event_loop(asking: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for arguments that the SDK would not show to a callable: here a default is left out."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [function_call("act", {"x": 1}, call_id="c1")])
    state = (await clerk.run()).to_state()
    state.approve(state.get_interruptions()[0])
    readers: list[threading.Thread] = []
    for name in ("waiting", "take_over"):
        method = getattr(AuditLogger, name)

        def seen(self: Any, about: Any, method: Any = method, **how: Any) -> Any:
            readers.append(threading.current_thread())
            return method(self, about, **how)

        monkeypatch.setattr(AuditLogger, name, seen)
    await clerk.run(state)
    assert clerk.ran == ["act 1"]
    assert len(readers) >= 2
    assert threading.current_thread() not in readers


async def test_other_arguments_than_were_approved(asking: BENCH) -> None:
    """Arguments changed in the saved state, with all of the SDK's own checks satisfied: it does not run.

    The true state can still be resumed.
    """
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    true = (await clerk.run()).to_state().to_string()
    forged = json.loads(true.replace('{\\"x\\":1', '{\\"x\\":1000'))
    assert json.dumps(forged).count("1000") > 1
    forged["context"].pop("tool_invocations", None)
    forged.pop("tool_invocations", None)
    state = await RunState.from_json(clerk.agent, forged)
    state._context._tool_invocations.clear()
    state._context._restored_unbound_approval_call_ids.clear()
    state.approve(state.get_interruptions()[0])
    await clerk.run(state)
    assert clerk.read == [CHANGED]
    assert clerk.ran == []

    state = await RunState.from_string(clerk.agent, true)
    state.approve(state.get_interruptions()[0])
    clerk.model = clerk.agent.model = ScriptedModel([[assistant_message("done")]])
    await clerk.run(state)
    assert clerk.ran == ["act 1"]
    assert [row["result_status"] for row in b.rows()] == ["success", "blocked"]
    assert sorted(e["aegis.decision.outcome"] for e in b.telemetry.events("aegis.tool.decision")) == [
        "approved",
        "error",
    ]


async def test_an_approval_counts_once(asking: BENCH) -> None:
    """The same approved state, resumed twice: the second time a human is asked anew."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = (await clerk.run()).to_state()
    state.approve(state.get_interruptions()[0])
    approved = state.to_string()
    await clerk.run(await RunState.from_string(clerk.agent, approved))
    clerk.model = clerk.agent.model = ScriptedModel([[assistant_message("done")]])
    again = await clerk.run(await RunState.from_string(clerk.agent, approved))
    assert [each.call_id for each in again.interruptions] == ["c1"]
    assert clerk.ran == ["act 1"]
    assert [row["result_status"] for row in b.rows()] == ["success", "pending"]
    assert outcomes(b) == {"c1": "approved"}


async def test_resumed_twice_at_once(asking: BENCH) -> None:
    """Two resumptions of one approval: one runs, whichever comes first."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()], [assistant_message("done")])
    state = (await clerk.run()).to_state()
    state.approve(state.get_interruptions()[0])
    approved = state.to_string()
    states = [await RunState.from_string(clerk.agent, approved) for _ in range(2)]
    results = await asyncio.gather(*(clerk.run(each) for each in states))
    assert clerk.ran == ["act 1"]
    assert sum(row["human_decision"] == "approved" for row in b.rows()) == 1
    assert len([r for r in results if r.interruptions or r.final_output]) == 2


async def test_an_approval_of_which_the_audit_knows_nothing(asking: BENCH) -> None:
    """Approved by a program without governance: the saved state says so, and that is no answer."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = (await clerk.run()).to_state()
    unseen = RunContextWrapper.approve_tool.__wrapped__  # type: ignore[attr-defined]
    unseen(state._context, state.get_interruptions()[0])
    state = (await clerk.run(await RunState.from_string(clerk.agent, state.to_string()))).to_state()
    assert clerk.ran == []
    assert len(b.telemetry.events("aegis.approval.requested")) == 1, "it is still the same question"
    state.approve(state.get_interruptions()[0])
    await clerk.run(state)
    assert clerk.ran == ["act 1"]
    assert outcomes(b) == {"c1": "approved"}


async def test_a_monitored_rule_pauses_no_run(asking: BENCH) -> None:
    """Blocked and asked calls run at once; the rows say what would have been."""
    rules = policy(act="approve", look="block")
    for rule in rules["rules"]:
        rule["mode"] = "monitor"
    b = asking(policy=rules)
    clerk = Clerk(b, [act(), function_call("look", {"x": 2}, call_id="c2")])
    result = await clerk.run()
    assert result.interruptions == []
    assert sorted(clerk.ran) == ["act 1", "look 2"]
    assert outcomes(b) == {"c1": "allowed", "c2": "blocked"}
    assert {row["mode"] for row in b.rows()} == {"monitor"}


@pytest.mark.parametrize("approval", ["approve", "block"])
async def test_a_rule_that_is_only_monitored_when_the_run_is_resumed(asking: BENCH, approval: str) -> None:
    """A yes still counts; a no still stops the call, as it is the answer of a human."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act(1, "c1"), act(2, "c2")])
    state = await clerk.saved(await clerk.run())
    yes, no = state.get_interruptions()
    state.approve(yes)
    state.reject(no)
    rules = policy(act=approval)
    rules["rules"][0]["mode"] = "monitor"
    b.runtime.update_policy(Policy.from_dict(rules))
    await clerk.run(state)
    assert clerk.ran == ["act 1"]
    assert clerk.read == ["acted 1", DENIED]
    rows = {row["tool_call_id"]: (row["result_status"], row["human_decision"]) for row in b.rows()}
    assert rows == {"c1": ("success", "approved"), "c2": ("denied", "denied")}
    assert verify(b.audit).findings == []


async def test_an_answer_to_the_tool_is_none_to_a_rule_that_was_only_monitored(asking: BENCH) -> None:
    """A yes is asked for anew when the rule is enforced; the model reads the SDK's text of a no."""
    rules = policy(own="approve")
    rules["rules"][0] |= {"mode": "monitor", "message": "Use look instead."}
    b = asking(policy=rules)
    ran: list[int] = []

    @function_tool(needs_approval=True)
    def own(x: int) -> str:
        ran.append(x)
        return "done"

    calls = [function_call("own", {"x": x}, call_id=f"c{x}") for x in (1, 2)]
    clerk = Clerk(b, calls, tools=[own])
    state = await clerk.saved(await clerk.run())
    yes, no = state.get_interruptions()
    state.approve(yes)
    state.reject(no)
    b.runtime.update_policy(Policy.from_dict(policy(own="approve")))
    state = await clerk.saved(await clerk.run(state))
    assert ran == []
    (again,) = state.get_interruptions()
    state.approve(again)
    await clerk.run(state)
    assert ran == [1]
    assert sorted(clerk.read) == ["Tool execution was not approved.", "done"]
    assert verify(b.audit).findings == []


async def test_the_model_reads_the_message_of_the_rule_where_a_human_says_no(asking: BENCH) -> None:
    rules = policy(act="approve")
    rules["rules"][0]["message"] = "Use look instead."
    b = asking(policy=rules)
    clerk = Clerk(b, [act()])
    state = await clerk.saved(await clerk.run())
    state.reject(state.get_interruptions()[0])
    await clerk.run(state)
    assert clerk.read == [f"{DENIED}\nUse look instead."]
    assert b.row()["result_error"] == "Action denied by human operator"


async def test_a_message_that_may_not_be_so_is_not_read(asking: BENCH) -> None:
    """A human is asked because it is not known whether the order was paid: the call does not name it."""
    rules = policy(act="approve")
    rules["rules"][0] |= {
        "message": "This order was paid already.",
        "conditions": {"repeats": {"by": ["order_id"], "within": "7d"}},
    }
    b = asking(policy=rules)
    clerk = Clerk(b, [act()])
    state = await clerk.saved(await clerk.run())
    state.reject(state.get_interruptions()[0])
    await clerk.run(state)
    assert clerk.read == [DENIED]


async def test_sticky_answers(asking: BENCH) -> None:
    """`always_approve` is a yes to one call only; `always_reject` rejects the next ones, each recorded."""
    b = asking(policy=policy(act="approve"))
    later = function_call("look", {"x": 5}, call_id="block now")
    clerk = Clerk(b, [act(1, "c1")], [act(2, "c2")], [act(3, "c3"), act(4, "c4")], [later], [act(6, "c6")])
    looks = vars(clerk.agent.tools[1])

    async def block(context: Any, arguments: str) -> str:
        b.runtime.update_policy(Policy.from_dict(policy(act="block")))
        return "blocked now"

    looks["on_invoke_tool"] = block
    state = (await clerk.run()).to_state()
    state.approve(state.get_interruptions()[0], always_approve=True)
    state = (await clerk.run(state)).to_state()
    assert [each.call_id for each in state.get_interruptions()] == ["c2"]
    state.reject(state.get_interruptions()[0], always_reject=True)
    await clerk.run(state)
    assert clerk.ran == ["act 1"]
    blocked = "[AEGIS BLOCKED] Action blocked by policy rule: act_rule"
    assert clerk.read == ["acted 1", DENIED, DENIED, DENIED, "blocked now", blocked]
    decided = {"c1": "approved", "c2": "denied", "c3": "denied", "c4": "denied"}
    assert outcomes(b) == decided | {"block now": "allowed", "c6": "blocked"}


async def test_a_tool_that_asks_by_itself(asking: BENCH) -> None:
    """The tool's own `needs_approval` still pauses; its question and answer are in the audit as well."""
    b = asking(policy=policy(look="block"))
    asked: list[Any] = []

    async def often(context: Any, params: dict[str, Any], call_id: str) -> bool:
        asked.append((params, call_id))
        return params["x"] > 1

    @function_tool(needs_approval=True)
    def always(x: int) -> str:
        return f"always {x}"

    @function_tool(needs_approval=often)
    def sometimes(x: int) -> str:
        return f"sometimes {x}"

    @function_tool(needs_approval=True, name_override="look")
    def blocked(x: int) -> str:
        return "looked"

    calls = [
        function_call("always", {"x": 1}, call_id="a1"),
        function_call("always", {"x": 2}, call_id="a2"),
        function_call("sometimes", {"x": 1}, call_id="s1"),
        function_call("sometimes", {"x": 2}, call_id="s2"),
        function_call("look", {"x": 1}, call_id="l1"),
    ]
    clerk = Clerk(b, calls, tools=[always, sometimes, blocked])
    state = (await clerk.run()).to_state()
    waiting = {each.call_id: each for each in state.get_interruptions()}
    assert waiting.keys() == {"a1", "a2", "s2"}
    assert asked == [({"x": 1}, "s1"), ({"x": 2}, "s2")]
    state.approve(waiting["a1"])
    state.reject(waiting["a2"])
    state.approve(waiting["s2"])
    await clerk.run(state)
    assert sorted(clerk.read) == [
        "Tool execution was not approved.",  # the tool asked, so its words are the SDK's
        "[AEGIS BLOCKED] Action blocked by policy rule: look_rule",
        "always 1",
        "sometimes 1",
        "sometimes 2",
    ]
    decided = {"a1": "approved", "a2": "denied", "s1": "allowed", "s2": "approved", "l1": "blocked"}
    assert outcomes(b) == decided


@pytest.mark.parametrize("arguments", ["{broken", "[1]", '{"x": NaN}', ""])
async def test_arguments_the_sdk_cannot_read(asking: BENCH, arguments: str) -> None:
    """The SDK would pause for all of them without asking; only those wait that the policy asks about."""
    b = asking(policy=policy(plain="approve", free="auto", closed="block"))
    ran: list[str] = []

    def tool(name: str) -> FunctionTool:
        async def body(context: Any, arguments: str) -> str:
            ran.append(name)
            return name

        return FunctionTool(name=name, description="", params_json_schema={}, on_invoke_tool=body)

    names = ["plain", "free", "closed"]
    calls = [function_call(name, arguments, call_id=name) for name in names]
    clerk = Clerk(b, calls, tools=[tool(name) for name in names])
    result = await clerk.run()
    waiting = [each.call_id for each in result.interruptions]
    assert waiting == ["plain"]
    state = result.to_state()
    state.approve(state.get_interruptions()[0])
    await clerk.run(state)
    assert ran == ["free", "plain"]
    assert outcomes(b) == {"plain": "approved", "free": "allowed", "closed": "blocked"}


EARLY = RunConfig(tool_execution=ToolExecutionConfig(pre_approval_tool_input_guardrails=True))


async def test_guardrails_before_the_approval(asking: BENCH) -> None:
    """They run twice; one call is one decision."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b, [act()])
    state = (await clerk.run(run_config=EARLY)).to_state()
    assert b.row()["result_status"] == "pending"
    state.approve(state.get_interruptions()[0])
    await clerk.run(state, run_config=EARLY)
    assert clerk.ran == ["act 1"]
    assert outcomes(b) == {"c1": "approved"}


@pytest.mark.parametrize("needs", [True, lambda context, params, call_id: True])
@pytest.mark.parametrize("by", ["class", "decorator"])
async def test_guardrails_before_the_tools_own_approval(installed: BENCH, needs: Any, by: str) -> None:
    """With a handler too: the decision is made when the call comes back, or at once if it is a block."""
    b = installed(True, policy=policy(act="approve", look="block"))
    ran: list[int] = []

    def tool(name: str) -> FunctionTool:
        def body(x: int) -> str:
            ran.append(x)
            return f"{name} {x}"

        made = function_tool(body, name_override=name, needs_approval=needs)
        return made if by == "class" else governed_tool(runtime=b.runtime)(made)

    calls = [
        function_call("act", {"x": 1}, call_id="a"),
        function_call("look", {"x": 2}, call_id="l"),
        function_call("free", {"x": 3}, call_id="f"),
    ]
    clerk = Clerk(b, calls, tools=[tool(name) for name in ("act", "look", "free")])
    state = (await clerk.run(run_config=EARLY)).to_state()
    waiting = {each.call_id: each for each in state.get_interruptions()}
    assert waiting.keys() == {"a", "f"}
    assert outcomes(b) == {"l": "blocked"}
    assert b.approver.asked == []
    state.approve(waiting["a"])
    state.reject(waiting["f"])
    await clerk.run(state, run_config=EARLY)
    assert ran == [1]
    assert outcomes(b) == {"l": "blocked", "a": "approved"}


async def test_guardrails_before_an_approval_that_is_not_needed(installed: BENCH) -> None:
    """The tool's own callable says no, so there is no second time: the invoker decides."""
    b = installed(policy=policy(look="block"))

    @function_tool(needs_approval=lambda context, params, call_id: False)
    def free(x: int) -> str:
        return f"free {x}"

    clerk = Clerk(b, [function_call("free", {"x": 1}, call_id="f")], tools=[free])
    await clerk.run(run_config=EARLY)
    assert clerk.read == ["free 1"]
    assert outcomes(b) == {"f": "allowed"}


@pytest.mark.parametrize(
    ("answer", "saved"), [("approve", True), ("approve", False), ("reject", True), ("block", True)]
)
async def test_an_agent_as_tool_that_stops_inside(asking: BENCH, answer: str, saved: bool) -> None:
    """The outer call is one decision in two parts, the inner one another; the outer does not end between."""
    b = asking(policy=policy(act="approve"))
    inner = Clerk(b, [act(7, "inner")])
    tool = inner.agent.as_tool("ask_clerk", "Asks.")
    outer = Clerk(
        b, [function_call("ask_clerk", {"input": "do"}, call_id="outer")], tools=[tool], name="Boss"
    )
    paused = await outer.run()
    rows = {row["tool_call_id"]: row for row in b.rows()}
    assert {call: row["result_status"] for call, row in rows.items()} == {
        "outer": "pending",
        "inner": "pending",
    }
    assert rows["inner"]["agent_name"] == "Clerk"
    state = await outer.saved(paused) if saved else paused.to_state()
    (interruption,) = state.get_interruptions()
    state.reject(interruption) if answer == "reject" else state.approve(interruption)
    if answer == "block":
        b.runtime.update_policy(Policy.from_dict(policy(act="block", ask_clerk="block")))
    await outer.run(state)
    assert inner.ran == (["act 7"] if answer == "approve" else [])
    assert outer.read == ["done"]
    after = {row["tool_call_id"]: row for row in b.rows()}
    assert len(b.rows()) == 2
    assert after["outer"]["result_status"] == "success"
    assert after["outer"]["duration_s"] > rows["outer"]["duration_s"]
    assert {call: row["decision_id"] for call, row in after.items()} == {
        call: row["decision_id"] for call, row in rows.items()
    }
    inside = {"approve": "approved", "reject": "denied", "block": "blocked"}[answer]
    assert outcomes(b) == {"outer": "allowed", "inner": inside}


async def test_an_agent_as_tool_that_was_approved_itself(asking: BENCH) -> None:
    """Two questions, two answers, two decisions, in one saved run."""
    b = asking(policy=policy(act="approve", ask_clerk="approve"))
    inner = Clerk(b, [act(7, "inner")])
    tool = inner.agent.as_tool("ask_clerk", "Asks.")
    outer = Clerk(
        b, [function_call("ask_clerk", {"input": "do"}, call_id="outer")], tools=[tool], name="Boss"
    )
    state: Any = "go"
    for call_id in ("outer", "inner"):
        state = await outer.saved(await outer.run(state))
        (interruption,) = state.get_interruptions()
        assert interruption.call_id == call_id
        state.approve(interruption)
    await outer.run(state)
    assert inner.ran == ["act 7"]
    assert outcomes(b) == {"outer": "approved", "inner": "approved"}
    assert [row["human_decision"] for row in b.rows()] == ["approved", "approved"]


async def test_an_agent_as_tool_with_a_handler(installed: BENCH) -> None:
    """The inner tool's own question: the outer call is one decision here too."""
    b = installed(policy=policy(look="block"))

    @function_tool(needs_approval=True)
    def free(x: int) -> str:
        return f"free {x}"

    inner = Clerk(b, [function_call("free", {"x": 1}, call_id="inner")], tools=[free])
    tool = inner.agent.as_tool("ask_clerk", "Asks.")
    outer = Clerk(
        b, [function_call("ask_clerk", {"input": "do"}, call_id="outer")], tools=[tool], name="Boss"
    )
    state = await outer.saved(await outer.run())
    state.approve(state.get_interruptions()[0])
    await outer.run(state)
    assert outer.read == ["done"]
    assert outcomes(b) == {"outer": "allowed", "inner": "allowed"}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("answer", ["yes", "no", "blocked", "asked again"])
async def test_realtime(asking: BENCH, answer: str, early: bool) -> None:
    """A realtime session asks in its own way, and is held to the same."""
    b = asking(policy=policy(act="approve"))
    clerk = Clerk(b)
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Voice", tools=list(clerk.agent.tools))
    model = ScriptedRealtimeModel(strict=False)
    config: Any = {"tool_execution": {"pre_approval_tool_input_guardrails": early}}
    session = await RealtimeRunner(agent, model=model, config=config).run()

    async def settled() -> None:
        while session._tool_call_tasks:
            await asyncio.sleep(0)

    async with session, asyncio.timeout(10):
        await model.emit(RealtimeModelToolCallEvent("act", "c1", '{"x": 1}'))
        await settled()
        (pending,) = b.rows()
        assert (pending["result_status"], pending["agent_name"]) == ("pending", "Voice")
        if answer == "blocked":
            b.runtime.update_policy(Policy.from_dict(policy(act="block")))
        if answer == "asked again":
            b.runtime.update_policy(Policy.from_dict(OTHER_RULE))
            await session.approve_tool_call("c1")
            await settled()
            assert clerk.ran == []
        with answered_by("alice"):
            await (session.reject_tool_call if answer == "no" else session.approve_tool_call)("c1")
        await settled()
        sent = [each.output for each in model.sent_events if isinstance(each, RealtimeModelSendToolOutput)]

    blocked = "[AEGIS BLOCKED] Action blocked by policy rule: act_rule"
    assert sent == [{"no": DENIED, "blocked": blocked}.get(answer, "acted 1")]
    assert clerk.ran == (["act 1"] if answer in ("yes", "asked again") else [])
    row = b.row()
    assert (row["decision_id"], row["approver"]) == (pending["decision_id"], "alice")
    assert outcomes(b) == {"c1": {"no": "denied", "blocked": "blocked"}.get(answer, "approved")}


async def test_an_answer_that_cannot_be_written(asking: BENCH, tmp_path: Path) -> None:
    """It raises, and does not count."""
    b = asking(policy=policy(act="approve"), audit=tmp_path / "audit")
    clerk = Clerk(b, [act()])
    state = (await clerk.run()).to_state()
    b.runtime.audit.close()
    key = tmp_path / "audit" / "key"
    kept = key.read_bytes()
    key.write_bytes(b"damaged")
    with pytest.raises(AuditError, match="does not count"):
        state.approve(state.get_interruptions()[0])
    key.write_bytes(kept)
    assert len((await clerk.run(state)).interruptions) == 1
    assert clerk.ran == []


async def test_an_audit_that_cannot_be_written(asking: BENCH, tmp_path: Path) -> None:
    """Nobody is asked what could not be recorded, and an answer to what cannot be found raises."""
    b = asking(policy=policy(act="approve"), audit=tmp_path / "audit")
    clerk = Clerk(b, [act()])
    state = (await clerk.run()).to_state()
    b.runtime.audit.close()
    journal = tmp_path / "audit" / "journal"
    kept = journal.rename(tmp_path / "kept")
    journal.write_text("in the way")
    with pytest.raises(AuditError):
        state.approve(state.get_interruptions()[0])
    other = Clerk(b, [act(2, "c2")])
    result = await other.run()
    assert result.interruptions == []
    assert other.read == ["[AEGIS ERROR] Action not run: governance is unavailable"]
    journal.unlink()
    kept.rename(journal)


async def test_the_tool_keeps_what_the_user_set(asking: BENCH) -> None:
    """Copies and comparisons of tools do not take our question for theirs; others' gates are left alone."""
    asking(policy=policy(act="approve"))

    async def maybe(context: Any, params: dict[str, Any], call_id: str) -> bool:
        return True

    @function_tool(needs_approval=maybe)
    def tool(x: int) -> str:
        return "ran"

    copies = [copy.copy(tool), dataclasses.replace(tool), dataclasses.replace(tool, name="other")]
    assert [vars(each)["needs_approval"] for each in copies] == [maybe] * 3
    assert copies[0].needs_approval == tool.needs_approval
    tool.needs_approval = False
    assert vars(tool)["needs_approval"] is False
    assert copies[0].needs_approval != tool.needs_approval


async def test_governed_tools_ask_their_own_runtime(asking: BENCH, bench: BENCH, tmp_path: Path) -> None:
    """A `governed_tool` has its own approvals: its handler, and before that what its user set."""
    b = asking(policy=policy(act="block"))
    own = bench(True, policy=policy(act="approve"), audit=tmp_path / "own")

    @function_tool(needs_approval=True)
    def acts(x: int) -> str:
        return f"acted {x}"

    tool = governed_tool(runtime=own.runtime, action_type="act")(acts)
    clerk = Clerk(b, [function_call("acts", {"x": 1}, call_id="c1")], tools=[tool])
    state = (await clerk.run()).to_state()
    state.approve(state.get_interruptions()[0])
    await clerk.run(state)
    assert clerk.read == ["acted 1"]
    assert outcomes(own) == {"c1": "approved"}
    assert b.rows() == []


async def test_monitor_mode_asks_nobody(installed: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_MODE", "monitor")
    b = installed(policy=policy(act="approve"), approvals="sdk")
    clerk = Clerk(b, [act()])
    result = await clerk.run()
    assert result.interruptions == []
    assert clerk.ran == ["act 1"]
    assert b.row()["approval"] == "approve"


PROGRAM = """
import asyncio, json, sys
from agents import Agent, RunState, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel
from aegis_otel import Policy
from aegis_otel.adapters.openai_agents import answered_by

set_tracing_disabled(True)
saved, what = sys.argv[1:]
rules = [{"name": "asks", "match": {"type": "act"}, "approval": "approve", "risk_level": "high"}]
aegis_otel.instrument(Policy.from_dict({"version": "1", "rules": rules}), approvals="sdk")

@function_tool
def act(x: int, note: str = "none") -> str:
    return f"acted {x}"

calls = [function_call("act", {"x": x}, call_id=name) for x, name in ((1, "call_7f3a"), (2, "call_9b01"))]
model = ScriptedModel([*([calls] if what == "start" else []), [assistant_message("done")]])
agent = Agent(name="Clerk", model=model, tools=[act])

async def main():
    state = "go" if what == "start" else await RunState.from_string(agent, open(saved).read())
    if what == "answer":
        first, second = state.get_interruptions()
        with answered_by("alice", reason="ticket 4711"):
            state.approve(first)
            state.reject(second)
        open(saved, "w").write(state.to_string())
        return
    result = await Runner.run(agent, state)
    if what == "start":
        open(saved, "w").write(result.to_state().to_string())
    sent = model.calls[-1].input if what == "resume" and not result.interruptions else []
    read = [i["output"] for i in sent if isinstance(i, dict) and i.get("type") == "function_call_output"]
    print(json.dumps({"paused": len(result.interruptions), "read": read}))

asyncio.run(main())
"""


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the program in a process of its own."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(what: str, audit: str = "audit") -> dict[str, Any]:
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
            "AEGIS_AUDIT_DIR": str(tmp_path / audit),
        }
        command = [sys.executable, str(program), str(tmp_path / "state.json"), what]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "{}")

    return run


def test_across_processes(process: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Paused in one, answered in a second, resumed in a third: each call one row, under one id.

    A fourth does not share the audit. There the yes is not known: a decision of its own, linked by the
    call id, and a human is asked again.
    """
    assert process("start") == {"paused": 2, "read": []}
    pending = {row["tool_call_id"]: row for row in AuditLogger(tmp_path / "audit").get_log()}
    process("answer")
    assert process("resume", audit="elsewhere") == {"paused": 1, "read": []}
    assert process("resume") == {"paused": 0, "read": ["acted 1", DENIED]}
    rows = {row["tool_call_id"]: row for row in AuditLogger(tmp_path / "audit").get_log()}
    for call_id, status, human in (("call_7f3a", "success", "approved"), ("call_9b01", "denied", "denied")):
        row = rows[call_id]
        assert row["decision_id"] == pending[call_id]["decision_id"]
        assert (row["result_status"], row["human_decision"]) == (status, human)
        assert (row["approver"], row["approval_reason"]) == ("alice", "ticket 4711")
    (asked,) = AuditLogger(tmp_path / "elsewhere").get_log()
    assert (asked["tool_call_id"], asked["result_status"]) == ("call_7f3a", "pending")
    assert asked["decision_id"] != pending["call_7f3a"]["decision_id"]
