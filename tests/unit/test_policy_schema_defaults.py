"""Which defaults of a schema the body will see."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from aegis_otel.policy.schema_defaults import fill_defaults


class Small(BaseModel):
    kind: Literal["small"]
    limit: int = 0


class Large(BaseModel):
    kind: Literal["large"]
    limit: int = 1000


class Named(BaseModel):
    name: str
    limit: int = 5


class Pay(BaseModel):
    told: Annotated[Small | Large, Field(discriminator="kind")]
    many: list[Small | Large] = []
    maybe: Small | Named | None = None


SCHEMA = Pay.model_json_schema()


@pytest.mark.parametrize(
    "sent",
    [
        {"told": {"kind": "large"}},
        {"told": {"kind": "small"}},
        {"told": {"kind": "small"}, "many": [{"kind": "large"}, {"kind": "small"}]},
        {"told": {"kind": "small", "limit": 7}, "maybe": {"name": "x"}},
    ],
    ids=str,
)
def test_the_alternative_that_the_value_fits_gives_the_default(sent: dict[str, Any]) -> None:
    """As the body's own model reads it."""
    meant = TypeAdapter(Pay).validate_python(sent).model_dump()
    fill_defaults(sent, SCHEMA)
    assert sent == meant


def test_where_nobody_can_tell_it_is_null() -> None:
    """Null makes a condition unknown, which counts against the call; equal defaults leave no doubt."""

    def some(kind: object, limit: int) -> dict[str, Any]:
        properties = {"limit": {"type": kind, "default": limit}, "unit": {"default": "eur"}}
        return {"type": "object", "properties": properties}

    value: dict[str, Any] = {"p": {}}
    schema = {"properties": {"p": {"anyOf": [some("integer", 0), some("integer", 1000)]}}}
    fill_defaults(value, schema)
    assert value == {"p": {"limit": None, "unit": "eur"}}
    nullable: dict[str, Any] = {"p": {}}
    schema = {"properties": {"p": {"anyOf": [some(["integer", "null"], 0), some(["integer", "null"], 1000)]}}}
    fill_defaults(nullable, schema)
    assert nullable == {"p": {"unit": "eur"}}, "null would count as absent"


def test_a_value_that_fits_no_alternative_may_be_any() -> None:
    """The body may convert what the schema does not allow; a default is not to hide because of that."""
    only = {"type": "object", "required": ["id"], "properties": {"limit": {"default": 1000}}}
    value: dict[str, Any] = {"p": {}}
    schema = {"properties": {"p": {"anyOf": [only, {"type": "null"}]}}}
    fill_defaults(value, schema)
    assert value == {"p": {"limit": 1000}}


def test_a_schema_of_itself_ends() -> None:
    schema: dict[str, Any] = {"anyOf": [{"$ref": "#/$defs/a"}] * 3}
    schema["$defs"] = {
        "a": {"allOf": [{"$ref": "#/$defs/a"}] * 3, **schema, "properties": {"x": {"default": 1}}}
    }
    value: dict[str, Any] = {}
    fill_defaults(value, schema)
    assert value == {"x": 1}
