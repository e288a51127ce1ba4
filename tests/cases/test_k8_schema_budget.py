"""K8: a tool's schema takes neither the event loop nor the verdict."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import FunctionTool
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.model import Action
from aegis_otel.policy import Policy
from tests.support.kit import make_bench

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


async def _body(context: Any, arguments: str) -> str:
    return "ran"


def called(audit: Path, schema: dict[str, Any], sent: dict[str, Any]) -> tuple[str, float]:
    """Call a governed tool once, under a policy that blocks a `limit` above 100.

    Returns:
        What the model reads, and the seconds of processor time that all threads of this process took for it.
    """
    governed = governed_tool(runtime=make_bench(audit, policy=rules("block")).runtime)
    first = governed(FunctionTool("t", "", {}, _body, strict_json_schema=False))
    tool = governed(FunctionTool("t", "", schema, _body, strict_json_schema=False))
    text = json.dumps(sent)
    context = ToolContext(None, tool_name="t", tool_call_id="c", tool_arguments=text)
    with asyncio.Runner() as runner:
        runner.run(first.on_invoke_tool(context, "{}"))  # what only the first call of a process does
        gc.collect()  # a collection of all that other tests left is not this call's
        begun = time.process_time()
        read = runner.run(tool.on_invoke_tool(context, text))
        return str(read), time.process_time() - begun


@pytest.mark.parametrize("item", [{}, {"k": -1}], ids=["short", "long"])  # which is read in a thread
def test_k8_a_schema_of_3000_alternatives_does_not_hold_the_loop(
    item: dict[str, int], tmp_path: Path
) -> None:
    """The call fails closed: a default at the top is still found."""
    b = make_bench(tmp_path / "audit", policy=rules("block"))
    tool = governed_tool(runtime=b.runtime)(FunctionTool("t", "", WIDE, _body, strict_json_schema=False))
    text = json.dumps({"items": [item] * 500})
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
            await asyncio.sleep(0.01)  # or the tick that the call held up would never be measured
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
def test_k8_any_schema_is_given_up_in_time_and_fails_closed(schema: dict[str, Any], tmp_path: Path) -> None:
    sent = {"items": [{"k": -1} for _ in range(500)], "other": {"x": {}}}
    read, took = called(tmp_path / "audit", schema, sent)
    assert took < GENEROUS
    if "allOf" not in schema and "patternProperties" not in schema:
        assert read.startswith("[AEGIS BLOCKED] Action blocked by policy rule: limit")


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


@pytest.mark.parametrize(
    ("inner", "around", "read"),
    [
        ({"default": 1}, lambda schema: {"no keyword": schema}, "ran"),
        (
            {"properties": {"limit": {"default": 5000}}},
            lambda schema: {"allOf": [schema]},
            "[AEGIS BLOCKED] Action blocked by policy rule: limit",
        ),
    ],
    ids=["unknown keyword", "allOf"],
)
def test_k8_a_deep_schema_is_no_error(inner: Any, around: Any, read: str, tmp_path: Path) -> None:
    """A schema deeper than Python recurses is given up: a condition on a parameter of it is unknown."""
    for _ in range(100_000):
        inner = around(inner)
    found, took = called(tmp_path / "audit", inner, {})
    assert found == read
    assert took < GENEROUS


def test_k8_a_deep_value_gets_its_defaults() -> None:
    """At every depth, and a schema that refers to itself ends where the value ends."""
    from aegis_otel.policy.evaluation.schema_defaults import fill_defaults

    schema: dict[str, Any] = {"properties": {"a": {"$ref": "#"}, "d": {"default": 1}}}
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    assert fill_defaults(deep, schema)
    assert deep["d"] == 1


def calls(work: Callable[[], Any]) -> int:
    """Count the calls of functions, which, unlike time, are the same on every machine."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def asked(count: int) -> Policy:
    many = rules("block")
    many["rules"] = [
        {**many["rules"][0], "name": f"r{n}", "conditions": {"param_gt": {f"items{n}.limit": 100}}}
        for n in range(count)
    ]
    return Policy.from_dict(many)


def test_k8_members_are_read_once_and_not_for_each_rule() -> None:
    schema = {
        "properties": {f"p{n}": {"type": "integer"} for n in range(3_000)},
        "additionalProperties": True,
    }
    params = {f"q{n}": 1 for n in range(3_000)}
    actions = [Action("t", params=params, schema=schema) for _ in range(2)]
    few, many = asked(10), asked(300)
    assert many.evaluate(Action("t", schema=schema)).approval == "auto"
    first = calls(lambda: few.evaluate(actions[0]))
    assert calls(lambda: many.evaluate(actions[1])) < first + 290 * 500


def test_k8_what_a_policy_asks_of_a_schema_has_one_limit() -> None:
    """Once the steps are used up, a rule more costs no look at the schema."""
    schema, few, many = {"anyOf": MANY}, asked(300), asked(600)
    assert many.evaluate(Action("t", schema=schema)).approval == "block"
    first = calls(lambda: few.evaluate(Action("t", schema=schema)))
    assert first < 100_000
    assert calls(lambda: many.evaluate(Action("t", schema=schema))) < first + 300 * 100
