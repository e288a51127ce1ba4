"""DESIGN 4's table, row by row, on the real SDK: one call, one decision, one id, one count."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from opentelemetry.trace import StatusCode

from aegis_otel import Policy
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.audit.query.timeline import timeline
from aegis_otel.runtime.system import RealSystem
from tests.support.kit import Bench

BENCH = Callable[..., Bench]


@dataclass
class Ran:
    bodies: list[str]
    outputs: list[Any]


async def call_tool(bench: Bench, action_type: str, *, fails: bool = False, guard: Any = None) -> Ran:
    """One tool call through Runner.run; what ran and what the model read."""
    bodies: list[str] = []

    @function_tool(tool_input_guardrails=[guard] if guard else None)
    async def tool(item: str) -> str:
        bodies.append(item)
        if fails:
            raise RuntimeError("postgres://admin:hunter2@db refused")
        return f"did {item}"

    governed = governed_tool(runtime=bench.runtime, action_type=action_type, action_target="store")(tool)
    return Ran(bodies, await run_agent(governed))


async def run_agent(*tools: FunctionTool, arguments: str = '{"item": "x"}') -> list[Any]:
    model = ScriptedModel(
        [
            [function_call(tool.name, arguments, call_id=f"call_{n}") for n, tool in enumerate(tools)],
            [assistant_message("done")],
        ]
    )
    await Runner.run(Agent(name="Clerk", model=model, tools=list(tools)), "go")
    return [
        item["output"]
        for item in model.calls[-1].input
        if isinstance(item, dict) and item.get("type") == "function_call_output"
    ]


def assert_one_id(bench: Bench, outcome: str) -> None:
    """Row, span and event carry the same id, and the counter went up by one."""
    row = bench.row()
    (span,) = bench.telemetry.spans("govern_tool")
    (event,) = bench.telemetry.events("aegis.tool.decision")
    assert span.attributes["aegis.decision.id"] == event["aegis.decision.id"] == row["decision_id"]
    assert (row["trace_id"], row["span_id"]) == (
        f"{span.context.trace_id:032x}",
        f"{span.context.span_id:016x}",
    )
    assert span.attributes["aegis.decision.outcome"] == event["aegis.decision.outcome"] == outcome
    counted = {key: n for key, n in bench.telemetry.points("aegis.decisions").items() if n}
    (labels,) = counted
    assert counted[labels] == 1
    assert dict(labels)["aegis.decision.outcome"] == outcome


def never(decision: Any) -> Any:
    return asyncio.sleep(60)


def to_block(bench_of: list[Bench]) -> Callable[[Any], bool]:
    def approve_after_the_policy_changed(decision: Any) -> bool:
        rules = [
            {"name": "now_blocked", "match": {"type": "*"}, "risk_level": "critical", "approval": "block"}
        ]
        bench_of[0].runtime.update_policy(Policy.from_dict({"version": "1", "rules": rules}))
        return True

    return approve_after_the_policy_changed


BLOCKED = "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes"

CASES: dict[str, dict[str, Any]] = {
    "auto": {
        "type": "search",
        "outcome": "allowed",
        "row": ("success", None, None),
        "reads": "did x",
        "hooks": ([], "success"),
    },
    "approved": {
        "type": "write_x",
        "answers": [True],
        "outcome": "approved",
        "row": ("success", "approved", None),
        "reads": "did x",
        "hooks": ([("write_asks", True)], "success"),
    },
    "denied": {
        "type": "write_x",
        "answers": [False],
        "outcome": "denied",
        "row": ("denied", "denied", "Action denied by human operator"),
        "reads": "[AEGIS DENIED] Action denied by human operator",
        "hooks": ([("write_asks", False)], "denied"),
    },
    "handler raises": {
        "type": "write_x",
        "answers": [OSError("503")],
        "outcome": "denied",
        "row": ("denied", None, "Approval could not be obtained: the handler raised OSError: 503"),
        "reads": "[AEGIS DENIED] Approval could not be obtained",
        "reason": "approval_error",
        "hooks": ([("write_asks", False)], "denied"),
    },
    "handler answers a string": {
        "type": "write_x",
        "answers": ["yes"],
        "outcome": "denied",
        "row": (
            "denied",
            None,
            "Approval could not be obtained: the handler answered `str`, not True or False",
        ),
        "reads": "[AEGIS DENIED] Approval could not be obtained",
        "reason": "approval_error",
        "hooks": ([("write_asks", False)], "denied"),
    },
    "expired": {
        "type": "write_x",
        "answers": [never],
        "timeout": 0.05,
        "outcome": "expired",
        "row": ("denied", "expired", "Approval timed out"),
        "reads": "[AEGIS DENIED] Approval timed out",
        "hooks": ([("write_asks", False)], "denied"),
    },
    "blocked": {
        "type": "delete_x",
        "outcome": "blocked",
        "row": ("blocked", None, "Action blocked by policy rule: block_deletes"),
        "reads": BLOCKED,
        "hooks": ([], "blocked"),
    },
    "approved, then blocked": {
        "type": "write_x",
        "answers": [to_block],
        "outcome": "blocked",
        "row": ("blocked", "approved", "Action blocked by policy rule: now_blocked"),
        "reads": "[AEGIS BLOCKED] Action blocked by policy rule: now_blocked",
        "hooks": ([("write_asks", True)], "blocked"),
    },
}


@pytest.mark.parametrize("name", CASES)
async def test_table(name: str, bench: BENCH) -> None:
    """Inventory 43, 44: outcome, row, the model's text, hooks and span, for each row of the table."""
    case = CASES[name]
    benches: list[Bench] = []
    answers = [to_block(benches) if a is to_block else a for a in case.get("answers", [])]
    b = bench(*answers, timeout=case.get("timeout", 5.0))
    benches.append(b)
    ran = await call_tool(b, case["type"])
    row = b.row()
    assert (row["result_status"], row["human_decision"], row["result_error"]) == case["row"]
    assert ran.outputs == [case["reads"]]
    assert ran.bodies == (["x"] if case["outcome"] in ("allowed", "approved") else [])
    if "reason" in case:
        assert row["reason"] == case["reason"]
    assert_one_id(b, case["outcome"])
    (span,) = b.telemetry.spans("govern_tool")
    assert span.status.status_code is StatusCode.UNSET
    approvals, status = case["hooks"]
    assert b.heard.approvals == approvals
    assert b.heard.results == [(case["type"], status)]
    assert len(b.telemetry.spans("execute_tool")) == len(ran.bodies)
    assert len(b.telemetry.spans("await_approval")) == len(case.get("answers", []))


@pytest.mark.parametrize(("action_type", "answers"), [("search", []), ("write_x", [True])])
async def test_body_raises(action_type: str, answers: list[Any], bench: BENCH) -> None:
    """Inventory 45, B08: FAILED row with redacted text, ERROR span; the model reads the SDK's own text."""
    b = bench(*answers)
    ran = await call_tool(b, action_type, fails=True)
    row = b.row()
    assert row["result_status"] == "failed"
    assert row["result_error"] == "RuntimeError: postgres://admin:[REDACTED 7 chars]@db refused"
    # Older SDKs add the error's own text, which is theirs to decide.
    assert ran.outputs[0].startswith("An error occurred while running the tool. Please try again.")
    assert_one_id(b, "approved" if answers else "allowed")
    assert b.heard.results == [(action_type, "failed")]
    (span,) = b.telemetry.spans("govern_tool")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "RuntimeError"


async def test_b08_failure_error_function_is_honoured(bench: BENCH) -> None:
    """The user's own formatter gives what the model reads; None lets the exception out of the run."""
    b = bench()

    @governed_tool(runtime=b.runtime, action_type="search")
    @function_tool(failure_error_function=lambda context, error: f"mine: {type(error).__name__}")
    def with_formatter(item: str) -> str:
        raise KeyError(item)

    @governed_tool(runtime=b.runtime, action_type="search")
    @function_tool(failure_error_function=None)
    def without(item: str) -> str:
        raise KeyError(item)

    assert await run_agent(with_formatter) == ["mine: KeyError"]
    with pytest.raises(Exception, match="x"):
        await run_agent(without)
    assert [row["result_status"] for row in b.rows()] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("changed", "asked"),
    [
        ({"name": "another", "risk_level": "high"}, ["write_asks", "another"]),
        ({"name": "write_asks", "risk_level": "critical"}, ["write_asks", "write_asks"]),
        ({"name": "write_asks", "risk_level": "low"}, ["write_asks"]),
    ],
    ids=["another rule", "a higher risk", "the same rule at a lower risk"],
)
async def test_a_yes_holds_only_for_what_was_asked(changed: Any, asked: list[str], bench: BENCH) -> None:
    """Another rule or a higher risk asks anew, and that answer counts; less than was approved does not."""
    holder: list[Bench] = []

    def swap(decision: Any) -> bool:
        holder[0].runtime.update_policy(Policy.from_dict({"rules": [{**changed, "approval": "approve"}]}))
        return True

    b = bench(swap, False)
    holder.append(b)
    ran = await call_tool(b, "write_x")
    assert [decision.matched_rule for decision in b.approver.asked] == asked
    assert ran.bodies == (["x"] if len(asked) == 1 else [])
    row = b.row()
    assert (row["matched_rule"], row["risk_level"]) == (changed["name"], changed["risk_level"].upper())
    assert row["human_decision"] == ("approved" if len(asked) == 1 else "denied")
    assert b.heard.decisions == ["write_asks", changed["name"]]
    assert_one_id(b, "approved" if len(asked) == 1 else "denied")


@pytest.mark.parametrize("step", [0, -3_600_000_000_000], ids=["stands still", "is set back"])
async def test_the_last_answer_counts_whatever_the_clock_does(
    step: int, bench: BENCH, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A yes, another question and a no: on disk in this order, though the clock says otherwise."""
    times = itertools.count(time.time_ns(), step)
    monkeypatch.setattr(RealSystem, "now_ns", staticmethod(lambda: next(times)))
    holder: list[Bench] = []

    def swap(decision: Any) -> bool:
        rule = {"name": "another", "risk_level": "high", "approval": "approve"}
        holder[0].runtime.update_policy(Policy.from_dict({"rules": [rule]}))
        return True

    b = bench(swap, False)
    holder.append(b)
    assert (await call_tool(b, "write_x")).bodies == []
    row = b.row()
    assert (row["matched_rule"], row["human_decision"], row["result_status"]) == (
        "another",
        "denied",
        "denied",
    )


async def test_a_yes_to_another_question_leaves_no_trace_on_the_row(bench: BENCH) -> None:
    """Approved under one rule, then the second question fails: no human decided what the row is about."""
    holder: list[Bench] = []

    def swap(decision: Any) -> bool:
        rules = [
            {"name": "stricter", "match": {"type": "*"}, "risk_level": "critical", "approval": "approve"}
        ]
        holder[0].runtime.update_policy(Policy.from_dict({"version": "1", "rules": rules}))
        return True

    b = bench(swap, OSError("503"))
    holder.append(b)
    await call_tool(b, "write_x")
    assert (b.row()["human_decision"], b.row()["result_status"]) == (None, "denied")


async def test_governance_fails_closed_when_the_audit_cannot_be_written(bench: BENCH, tmp_path: Path) -> None:
    """No row, no call: the body does not run, and the model reads why."""
    (tmp_path / "file").write_text("not a directory")
    b = bench(audit=tmp_path / "file" / "audit")
    ran = await call_tool(b, "search")
    assert ran.outputs == ["[AEGIS ERROR] Action not run: governance is unavailable"]
    assert ran.bodies == []
    (span,) = b.telemetry.spans("govern_tool")
    assert span.status.status_code is StatusCode.ERROR
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert event["aegis.decision.outcome"] == "error"
    assert len(b.telemetry.events("aegis.audit.write_failed")) >= 1


async def test_another_guardrail_rejects_after_us(bench: BENCH) -> None:
    """Allowed by us, stopped by somebody else: the row is closed as skipped."""

    def reject(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content("not today")

    b = bench()
    ran = await call_tool(b, "search", guard=ToolInputGuardrail(reject))
    assert (ran.outputs, ran.bodies) == (["not today"], [])
    await asyncio.sleep(0)
    assert b.row()["result_status"] == "skipped"
    assert_one_id(b, "allowed")


async def test_b38_cancelled_in_the_body(bench: BENCH) -> None:
    """A call cancelled half way has a row that says so."""
    b = bench()
    started = asyncio.Event()

    @governed_tool(runtime=b.runtime, action_type="search")
    async def slow(item: str) -> str:
        started.set()
        await asyncio.sleep(60)
        return item

    task = asyncio.create_task(run_agent(slow))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert b.row()["result_status"] == "cancelled"
    assert_one_id(b, "allowed")


async def test_cancelled_while_a_human_is_asked(bench: BENCH) -> None:
    """Nothing ran, and the row does not stay pending."""
    asked = asyncio.Event()

    def wait(decision: Any) -> Any:
        asked.set()
        return asyncio.sleep(60)

    b = bench(wait)
    task = asyncio.create_task(call_tool(b, "write_x"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    row = b.row()
    assert (row["result_status"], row["human_decision"]) == ("cancelled", None)
    assert row["approval_wait_s"] > 0  # so that readers know that a human was asked
    assert [(entry.stage, entry.what) for entry in timeline(row)][:2] == [
        ("decided", "a human is asked"),
        ("resolved", "no answer"),
    ]
    assert_one_id(b, "expired")


async def test_rows_are_pending_and_open_while_they_are(bench: BENCH) -> None:
    """The row is on disk while the human thinks, and while the body runs."""
    seen: list[str] = []
    holder: list[Bench] = []

    def look(decision: Any) -> bool:
        seen.append(holder[0].row()["result_status"])
        return True

    b = bench(look)
    holder.append(b)

    @governed_tool(runtime=b.runtime, action_type="write_x")
    async def tool(item: str) -> str:
        seen.append(b.row()["result_status"])
        return item

    await run_agent(tool)
    assert seen == ["pending", "open"]
    assert b.row()["result_status"] == "success"


async def test_arguments_that_are_no_json_object(bench: BENCH) -> None:
    """A rule that looks at no parameter decides as of any call, and the SDK says what is wrong with it."""
    b = bench()
    bodies: list[str] = []

    @governed_tool(runtime=b.runtime, action_type="search")
    async def tool(item: str) -> str:
        bodies.append(item)
        return item

    refused = "An error occurred while running the tool"
    for arguments in ("[1, 2]", '{"item": ', '"password=hunter2"', "NaN"):
        (read,) = await run_agent(tool, arguments=arguments)
        assert refused in read
    deep = "[" * 100_000  # the Runner fails on these by itself, before any tool is called
    context = ToolContext(None, tool_name="tool", tool_call_id="c", tool_arguments=deep)
    assert refused in await tool.on_invoke_tool(context, deep)
    assert bodies == []
    assert [row["result_status"] for row in b.rows()] == ["failed"] * 5
    assert {row["matched_rule"] for row in b.rows()} == {"search_auto"}
    assert "hunter2" not in str(b.rows())
