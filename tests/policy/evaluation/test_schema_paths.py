"""What a tool's JSON Schema says about a parameter."""

from __future__ import annotations

from typing import Any

import pytest
from agents import function_tool
from pydantic import BaseModel

from aegis_otel.policy.evaluation import schema_paths
from aegis_otel.policy.evaluation.schema_paths import Presence, SchemaReader
from tests.policy.evaluation.test_conditions import answer


class Address(BaseModel):
    city: str
    zip_code: str | None = None


class Order(BaseModel):
    amount: float
    address: Address | None = None
    tags: list[str] = []


def order(count: int, order: Order, note: str | None = None, extra: dict[str, int] | None = None) -> str:
    """Order something."""
    return f"{count} {order} {note} {extra}"


SDK_STRICT = function_tool(order, strict_mode=False).params_json_schema


@pytest.mark.parametrize(
    ("path", "presence"),
    [
        ("count", Presence.HAS),
        ("order", Presence.HAS),
        ("note", Presence.HAS_NULLABLE),
        ("order.amount", Presence.HAS),
        ("order.address", Presence.HAS_NULLABLE),
        ("order.address.city", Presence.HAS),
        ("order.address.zip_code", Presence.HAS_NULLABLE),
        ("extra.anything", Presence.OPEN),
        ("counts", Presence.LACKS),
        ("order.amuont", Presence.LACKS),
        ("order.address.street", Presence.LACKS),
        ("count.value", Presence.LACKS),
        ("order.tags.first", Presence.LACKS),
    ],
)
def test_the_schema_of_a_real_tool(path: str, presence: Presence) -> None:
    assert SchemaReader(SDK_STRICT).presence(path) is presence


@pytest.mark.parametrize(
    ("schema", "presence"),
    [
        ({}, Presence.OPEN),
        ({"type": "object"}, Presence.OPEN),
        ({"type": "string"}, Presence.LACKS),
        ({"properties": {"b": {}}}, Presence.LACKS),
        ({"properties": {"b": {}}, "additionalProperties": True}, Presence.OPEN),
        ({"properties": {"b": {}}, "additionalProperties": {"type": "string"}}, Presence.OPEN),
        ({"properties": {"b": {}}, "patternProperties": {"^a": {}}}, Presence.OPEN),
        ({"properties": {}, "additionalProperties": False}, Presence.LACKS),
        ({"properties": {"a": {}}}, Presence.HAS_NULLABLE),
        ({"properties": {"a": True}}, Presence.HAS_NULLABLE),
        ({"properties": {"a": {"type": ["string", "null"]}}}, Presence.HAS_NULLABLE),
        ({"properties": {"a": {"type": "string", "nullable": True}}}, Presence.HAS_NULLABLE),
        ({"properties": {"a": {"enum": ["x", None]}}}, Presence.HAS_NULLABLE),
        ({"properties": {"a": {"enum": ["x"]}}}, Presence.HAS),
        ({"properties": {"a": {"const": None}}}, Presence.HAS_NULLABLE),
        ({"properties": {"a": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}}, Presence.HAS),
        ({"properties": {"a": {"allOf": [{}, {"type": "string"}]}}}, Presence.HAS),
        ({"anyOf": [{"properties": {"b": {}}}, {"properties": {"a": {"type": "string"}}}]}, Presence.HAS),
        ({"anyOf": [{"properties": {"b": {}}}, {"type": "object"}]}, Presence.OPEN),
        ({"anyOf": [{"properties": {"b": {}}}, {"type": "null"}]}, Presence.LACKS),
        ({"allOf": [{"properties": {"b": {}}}, {"properties": {"a": {"type": "string"}}}]}, Presence.HAS),
        ({"allOf": [{"type": "object"}, {"properties": {}, "additionalProperties": False}]}, Presence.LACKS),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {"type": "string"}}}}}, Presence.HAS),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"properties": {"b": {}}}}}, Presence.LACKS),
        ({"$ref": "#/$defs/x%20%25y", "$defs": {"x %y": {"properties": {"b": {}}}}}, Presence.LACKS),
        ({"$ref": "#/$defs/%ff", "$defs": {"\ufffd": {}}}, Presence.UNREADABLE),
        ({"$ref": "https://example.org/schema"}, Presence.UNREADABLE),
        ({"$ref": "other.json#/$defs/x", "$defs": {"x": {}}}, Presence.UNREADABLE),
        ({"$ref": "#x", "properties": {"b": {}}}, Presence.UNREADABLE),
        ({"$ref": ""}, Presence.UNREADABLE),
        ({"$ref": "#/$defs/missing"}, Presence.UNREADABLE),
        ({"$ref": "#"}, Presence.UNREADABLE),
        ({"$ref": 5}, Presence.UNREADABLE),
        ({"properties": 5}, Presence.UNREADABLE),
        ({"properties": {"a": 5}}, Presence.UNREADABLE),
        ({"anyOf": [5]}, Presence.UNREADABLE),
    ],
)
def test_one_parameter(schema: dict[str, Any], presence: Presence) -> None:
    assert SchemaReader(schema).presence("a") is presence


def test_a_key_with_dots_comes_before_the_path() -> None:
    schema = {"properties": {"a.b": {"type": "string"}, "a": {"properties": {"c": {"type": "string"}}}}}
    assert SchemaReader(schema).presence("a.b") is Presence.HAS
    assert SchemaReader(schema).presence("a.c") is Presence.HAS
    assert SchemaReader(schema).presence("a.d") is Presence.LACKS


def test_a_schema_that_multiplies_is_not_followed_to_its_end() -> None:
    """Each level refers to the next one twice: 2^60 walks."""
    defs: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(60)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**defs, "d60": {}}}
    assert SchemaReader(schema).presence("a") is Presence.UNREADABLE


NOTHING: dict[str, Any] = {"type": "object"}
PRICE = {
    "type": "object",
    "allOf": [dict(NOTHING) for _ in range(10)],
    "properties": {"net": {"type": "integer"}, "tax": {"type": ["integer", "null"]}},
}
ORDER = {
    "type": "object",
    "required": ["price"],
    "properties": {"price": PRICE, "id": {"default": 1}, "note": {}},
}
LAW_SCHEMA = {
    "type": "object",
    "required": ["order.note"],
    "patternProperties": {"^x": {}},
    "properties": {
        "order": ORDER,
        "order.note": {"allOf": [dict(NOTHING) for _ in range(9)]},
        "items": {"type": "array", "items": ORDER},
    },
}


@pytest.mark.parametrize("limit", ["_MAX_READING", "_MAX_STEPS"])
@pytest.mark.parametrize("params", [{}, {"order": {}, "items": [{}, {"price": {}}]}])
@pytest.mark.parametrize("values", [{"net": 1, "tax": None}, {"Net": 1}, {"net": None}, {}])
@pytest.mark.parametrize(
    "conditions",
    [
        {"param_gt": {"order.price.net": 10}},
        {"param_gt": {"order.price.tax": 10}},
        {"param_gt": {"order.note": 10}},
        {"param_eq": {"order.id": 1}},
        {"param_gt": {"items[any].price.net": 10}},
        {"param_gt": {"items[all].price.tax": 10}},
        {"param_eq": {"items[any].id": 1}},
        {"param_absent": ["order.price.net"]},
        {"param_present": ["order.price.tax"]},
        {"param_only": ["Order", "items"]},
    ],
)
def test_less_reading_of_the_schema_changes_an_answer_to_unknown_only(
    conditions: dict[str, Any],
    values: dict[str, Any],
    params: dict[str, Any],
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other rules of the decision may have used up most of what may be read of the schema."""
    given = {**params, **({"order": {"price": values}, "items": [{"price": values}]} if values else {})}
    whole = answer(conditions, given, LAW_SCHEMA)
    for most in range(90):
        monkeypatch.setattr(schema_paths, limit, most)
        less = answer(conditions, given, LAW_SCHEMA)
        assert isinstance(less, str) or less == whole, most
