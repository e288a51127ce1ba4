"""K8: how long one decision holds the event loop, in time of the processor, for schemas that mean harm."""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

import pytest

from aegis_otel.adapters.openai_agents.actions import ActionFactory
from aegis_otel.policy import Policy
from tests.cases.test_k8_schema_budget import MANY, WIDE, rules

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
def test_k8_a_decision_takes_ten_milliseconds(schema: dict[str, Any], sent: dict[str, Any]) -> None:
    judged, factory = Policy.from_dict(rules("block")), ActionFactory(schema, [("t", "default")], "")
    text = json.dumps(sent)
    begun = thread_time()
    decision = judged.evaluate(factory.make(text, None))
    took = thread_time() - begun
    assert took < LIMIT
    assert decision.approval == "block" or "limit" not in schema["properties"]
