"""K8: however large the arguments, reading and judging them is done in threads, and not by the event loop."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, FunctionTool, RunContextWrapper, ToolInputGuardrailData, function_tool
from agents.testing import function_call
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.capture.function_tools import Gates
from tests.cases.test_k1_judged_arguments import policy
from tests.support.kit import Bench, make_bench

TEXT = json.dumps({"items": [{"k": f"v{n}", "n": n} for n in range(30_000)], "limit": 5})
"""A megabyte, which takes a tenth of a second to be read, frozen and compared."""
LIMIT = 0.030
"""Seconds of the loop's thread, where the old code took some 200 milliseconds."""


async def free_text(context: Any, arguments: str) -> str:
    return "ran"


def raw() -> FunctionTool:
    schema = {"type": "object", "properties": {"items": {}, "limit": {"type": "integer"}}}
    return FunctionTool("pay", "", schema, free_text, strict_json_schema=False)


def made() -> FunctionTool:
    @function_tool(strict_mode=False)
    async def pay(items: list[dict[str, str | int]], limit: int = 1) -> str:
        return "ran"

    return pay


async def asked_by_the_sdk(b: Bench, tool: FunctionTool) -> object:
    from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck

    gates = Gates(b.runtime.governor, {})
    call = function_call("pay", {}, call_id="c").model_copy(update={"arguments": TEXT})
    paused_calls = b.runtime.governor.paused_calls
    check = ApprovalCheck(tool, call, "A", RunContextWrapper(None), None, paused_calls, gates.of(tool))
    return (await check.decide(True)).step.name


async def guarded_before_an_approval(b: Bench, tool: FunctionTool) -> object:
    tool.needs_approval = True
    (guardrail,) = governed_tool(runtime=b.runtime)(tool).tool_input_guardrails or ()
    context = ToolContext(None, tool_name="pay", tool_call_id="c", tool_arguments=TEXT)
    data = ToolInputGuardrailData(context=context, agent=Agent(name="A"))
    return (await guardrail.run(data)).behavior["type"]


async def invoked(b: Bench, tool: FunctionTool) -> object:
    context = ToolContext(None, tool_name="pay", tool_call_id="c", tool_arguments=TEXT)
    return await governed_tool(runtime=b.runtime)(tool).on_invoke_tool(context, TEXT)


@pytest.mark.parametrize("tool", [raw, made])
@pytest.mark.parametrize(
    ("way", "comes_to"),
    [(asked_by_the_sdk, "PAUSE"), (guarded_before_an_approval, "allow"), (invoked, "ran")],
)
async def test_k8_large_arguments_are_judged_in_threads(
    way: Callable[[Bench, FunctionTool], Awaitable[object]],
    comes_to: object,
    tool: Callable[[], FunctionTool],
    tmp_path: Path,
) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "limit", 100))
    await governed_tool(runtime=b.runtime)(tool()).on_invoke_tool(
        ToolContext(None, tool_name="pay", tool_call_id="w", tool_arguments="{}"), "{}"
    )  # what only the first call of a process does
    begun = time.thread_time()
    assert await way(b, tool()) == comes_to
    took = time.thread_time() - begun
    assert took < LIMIT
