"""K8: how long one decision holds the event loop, in time of the processor, for schemas that mean harm."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from agents import FunctionTool
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents import governed_tool
from tests.cases.test_k8_schema_budget import MANY, WIDE, _body, called
from tests.support.kit import make_bench

NOISE = 6
LIMIT = 0.010 * NOISE
"""Seconds: ten milliseconds, and what a busy machine adds even to the time of the processor."""
ITEMS = {"items": [{"k": -1} for _ in range(500)]}


def items(schema: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"items": {"items": schema}, "limit": {"default": 5000}}}


WIDE_FIELDS: dict[str, Any] = {"properties": {f"p{n}": {"type": "integer"} for n in range(10_000)}}
REFERRED: dict[str, Any] = {"properties": {f"p{n}": {"$ref": "#/$defs/many"} for n in range(100)}}
CONDITIONAL: dict[str, Any] = {"properties": {f"p{n}": {} for n in range(1_000)}}
SCHEMAS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a large default": (items({"properties": {"d": {"default": [{"a": 1}] * 20_000}}}), ITEMS),
    "a long default": (items({"properties": {"d": {"default": "x" * 5_000_000}}}), ITEMS),
    "a wide enum": (
        items({"anyOf": [{"properties": {"k": {"enum": [str(n) for n in range(100_000)]}}}] * 500}),
        ITEMS,
    ),
    "many required": (items({"anyOf": [{"required": ["k"] * 100_000}] * 500}), ITEMS),
    "many types": (items({"anyOf": [{"type": ["x"] * 100_000}] * 500}), ITEMS),
    "10,000 properties of alternatives": (items({"anyOf": [WIDE_FIELDS] * 3_000}), ITEMS),
    "10,000 properties": ({"properties": {f"p{n}": {"default": n} for n in range(10_000)}}, {}),
    "conditions": (items({"dependentSchemas": {f"a{n}": CONDITIONAL for n in range(1_000)}}), ITEMS),
    "references": (
        {**items(REFERRED), "$defs": {"many": {"anyOf": MANY}}},
        {"items": [{f"p{n}": {} for n in range(50)} for _ in range(10)]},
    ),
    "500 items": (WIDE, ITEMS),
}


@pytest.mark.parametrize(("schema", "sent"), SCHEMAS.values(), ids=SCHEMAS)
def test_k8_a_decision_takes_ten_milliseconds(
    schema: dict[str, Any], sent: dict[str, Any], tmp_path: Path
) -> None:
    read, took = called(tmp_path / "audit", schema, sent)
    assert took < LIMIT
    assert read.startswith("[AEGIS BLOCKED]") or "limit" not in schema["properties"]


def test_k8_many_rules_do_not_hold_the_loop(tmp_path: Path) -> None:
    """Nobody can tell what the schema says, so each rule is looked at: in a thread, not on the loop."""
    rule = {"match": {"type": "t"}, "risk_level": "high", "approval": "block"}
    policy = {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [
            {**rule, "name": f"r{n}", "conditions": {"param_gt": {f"p{n}": 100}}} for n in range(5_000)
        ],
    }
    governed = governed_tool(runtime=make_bench(tmp_path / "audit", policy=policy).runtime)
    tool = governed(FunctionTool("t", "", {"anyOf": MANY}, _body, strict_json_schema=False))
    context = ToolContext(None, tool_name="t", tool_call_id="c", tool_arguments='{"k": -1}')
    with asyncio.Runner() as runner:
        runner.run(tool.on_invoke_tool(context, '{"k": -1}'))  # what only the first call of a process does
        begun = time.thread_time()
        read = runner.run(tool.on_invoke_tool(context, '{"k": -1}'))
        took = time.thread_time() - begun
    assert str(read).startswith("[AEGIS BLOCKED]")
    assert took < LIMIT / 4
