"""K8: a tool's schema takes neither the event loop nor the verdict."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from agents import FunctionTool
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.model import Action
from aegis_otel.policy import Policy
from aegis_otel.policy.schema_defaults import fill_defaults, has_defaults
from aegis_otel.policy.tool_schema import Presence, look_up
from tests.kit import make_bench

GENEROUS = 0.5
"""Seconds, where the old code took 41, and the new takes a few milliseconds of an idle machine."""
MANY = [
    {"type": "object", "required": ["k"], "properties": {"k": {"const": n}, "d": {"default": n}}}
    for n in range(3_000)
]
WIDE = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"anyOf": MANY}}, "limit": {"default": 5000}},
}


def rules(approval: str) -> dict[str, Any]:
    return {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [
            {
                "name": "limit",
                "match": {"type": "t"},
                "conditions": {"param_gt": {"limit": 100}},
                "risk_level": "high",
                "approval": approval,
            }
        ],
    }


def test_k8_a_schema_of_3000_alternatives_does_not_hold_the_loop(tmp_path: Path) -> None:
    """The call fails closed: a default at the top is still found."""
    b = make_bench(tmp_path / "audit", policy=rules("block"))

    async def body(context: Any, arguments: str) -> str:
        return "ran"

    tool = governed_tool(runtime=b.runtime)(FunctionTool("t", "", WIDE, body, strict_json_schema=False))
    text = json.dumps({"items": [{"k": -1} for _ in range(500)]})
    context = ToolContext(None, tool_name="t", tool_call_id="c", tool_arguments=text)
    longest = 0.0

    async def main() -> str:
        nonlocal longest

        async def tick() -> None:
            nonlocal longest
            while True:
                begun = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - begun)

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        try:
            return str(await tool.on_invoke_tool(context, text))
        finally:
            ticking.cancel()

    read = asyncio.run(asyncio.wait_for(main(), 60))
    assert read.startswith("[AEGIS BLOCKED] Action blocked by policy rule: limit")
    assert longest < GENEROUS


def _chain(depth: int, keyword: str) -> dict[str, Any]:
    defs = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{depth}": WIDE}}


@pytest.mark.parametrize(
    "schema",
    [
        WIDE,
        {"properties": {"limit": {"anyOf": MANY}}},
        {"allOf": MANY},
        {"patternProperties": {f"^{n}x*": {"default": n} for n in range(3_000)}},
        _chain(60, "anyOf"),
        _chain(60, "allOf"),
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}] * 50},
        {"properties": {"limit": {"$ref": "#/" + "a/" * 50_000}}},
    ],
    ids=["items", "property", "allOf", "patterns", "2^60 anyOf", "2^60 allOf", "self", "selves", "pointer"],
)
def test_k8_any_schema_is_given_up_in_time_and_fails_closed(schema: dict[str, Any]) -> None:
    judged = Policy.from_dict(rules("block"))
    params: dict[str, Any] = {"items": [{"k": -1} for _ in range(500)], "other": {"x": {}}}
    begun = time.perf_counter()
    fill_defaults(params, schema)
    decision = judged.evaluate(Action("t", params=params, schema=schema))
    took = time.perf_counter() - begun
    assert took < GENEROUS
    if "allOf" not in schema and "patternProperties" not in schema:
        assert decision.approval == "block"


def test_k8_many_rules_ask_one_schema_within_one_limit() -> None:
    many = rules("block")
    many["rules"] = [
        {**many["rules"][0], "name": f"r{n}", "conditions": {"param_gt": {f"items{n}.limit": 100}}}
        for n in range(500)
    ]
    judged, schema = Policy.from_dict(many), {"anyOf": MANY[:1_500]}
    begun = time.perf_counter()
    assert judged.evaluate(Action("t", schema=schema)).approval == "block"
    assert time.perf_counter() - begun < 2 * GENEROUS


def test_k8_a_deep_value_and_a_deep_schema_end() -> None:
    schema: dict[str, Any] = {"properties": {"a": {"$ref": "#"}, "d": {"default": 1}}}
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    assert fill_defaults(deep, schema)
    assert deep["d"] == 1
    nested: Any = {"default": 1}
    for _ in range(100_000):
        nested = {"x": nested}
    assert has_defaults(nested)
    assert look_up(nested, "a") is Presence.OPEN
