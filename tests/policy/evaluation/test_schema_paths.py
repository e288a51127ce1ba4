"""What a tool's JSON Schema says about a parameter."""

from __future__ import annotations

from typing import Any

import pytest
from agents import function_tool
from pydantic import BaseModel

from aegis_otel.policy.evaluation.schema_paths import Presence, SchemaReader


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
