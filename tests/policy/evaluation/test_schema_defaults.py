"""Which defaults of a schema the body will see."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from aegis_otel.policy.evaluation.schema_defaults import fill_defaults, flat_defaults
from aegis_otel.policy.evaluation.schema_paths import SchemaReader


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


SCALARS = st.sampled_from(["string", "integer", "number", "boolean", "null"])
FIELDS = st.fixed_dictionaries(
    {"type": SCALARS},
    optional={"default": st.none() | st.booleans() | st.integers() | st.text(), "title": st.text()},
)


@given(
    fields=st.dictionaries(st.text(max_size=3), FIELDS, max_size=4),
    sent=st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.lists(st.integers())),
)
def test_flat_defaults_are_what_the_walk_fills_in(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    """Where a schema needs no walk, one gives the same."""
    schema = {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}
    walked = dict(sent)
    assert fill_defaults(walked, schema)
    flat = flat_defaults(schema)
    assert flat is not None
    assert flat | sent == walked


@pytest.mark.parametrize(
    "field",
    [
        {"$ref": "#/$defs/x", "default": 1},
        {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        {"type": "object", "properties": {"x": {"type": "integer", "default": 1}}},
        {"type": ["integer", "null"], "default": 1},
        {"type": "array", "items": {"type": "string"}, "default": []},
        {"type": "string", "default": ["a"]},
        {"type": "string", "allOf": [{"default": "x"}]},
        True,
    ],
)
def test_other_schemas_are_walked(field: Any) -> None:
    """A property that is more than a scalar has its schema walked for every call."""
    assert flat_defaults({"type": "object", "properties": {"x": field}}) is None


@pytest.mark.parametrize("more", [{"allOf": []}, {"$defs": {}}, {"patternProperties": {}}, {"type": "array"}])
def test_schemas_with_other_keywords_are_walked(more: dict[str, Any]) -> None:
    """So is one whose root says more than which properties there are."""
    assert flat_defaults({"type": "object", "properties": {}} | more) is None


MONEY = {"type": "object", "properties": {"limit": {"type": "integer", "default": 5}}}
LISTED = {"properties": {"p": {"type": "object"}}}


@pytest.mark.parametrize(
    ("schema", "sent", "filled"),
    [
        ({"additionalProperties": MONEY}, {"p": {}}, {"p": {"limit": 5}}),
        (
            {"additionalProperties": {"additionalProperties": MONEY}},
            {"p": {"q": {}}},
            {"p": {"q": {"limit": 5}}},
        ),
        ({"patternProperties": {"^p": MONEY}}, {"p": {}, "q": {}}, {"p": {"limit": 5}, "q": {}}),
        ({"patternProperties": {"^p": MONEY}, "additionalProperties": True}, {"p": {}}, {"p": {"limit": 5}}),
        (
            {"properties": {"p": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": MONEY}},
            {"p": {}},
            {"p": {"limit": 5}},
        ),
        (
            {"properties": {"p": {"$ref": "#/$defs/a~0b"}}, "$defs": {"a~b": MONEY}},
            {"p": {}},
            {"p": {"limit": 5}},
        ),
        (
            {"properties": {"p": {"$ref": "#/$defs/a%20b"}}, "$defs": {"a b": MONEY}},
            {"p": {}},
            {"p": {"limit": 5}},
        ),
        ({"allOf": [LISTED, {"additionalProperties": MONEY}]}, {"p": {}}, {"p": {"limit": 5}}),
        ({"allOf": [LISTED, {"patternProperties": {"^p$": MONEY}}]}, {"p": {}}, {"p": {"limit": 5}}),
        (LISTED | {"patternProperties": {"^p$": MONEY}}, {"p": {}}, {"p": {"limit": 5}}),
        (LISTED | {"additionalProperties": MONEY}, {"p": {}}, {"p": {}}),
        ({"additionalProperties": {"items": MONEY}}, {"p": [{}]}, {"p": [{"limit": 5}]}),
    ],
    ids=str,
)
def test_defaults_are_filled_in_wherever_a_schema_holds(
    schema: dict[str, Any], sent: dict[str, Any], filled: dict[str, Any]
) -> None:
    assert fill_defaults(sent, schema)
    assert sent == filled


@pytest.mark.parametrize(
    ("parts", "filled"),
    [
        ([{"default": 5}], {"limit": 5}),
        ([{"title": "x"}, {"default": 5}], {"limit": 5}),
        ([{"default": 5}, {"anyOf": [{"default": 5}, {"type": "null"}]}], {"limit": 5}),
        ([{"default": None}, {"default": 5}], {}),
        ([{"default": 4}, {"default": 5}], {}),
        ([{"default": None}, {"anyOf": [{"type": "integer", "default": 5}, {"type": "null"}]}], {}),
    ],
    ids=str,
)
def test_a_schema_has_the_default_that_may_be_filled_in(
    parts: list[dict[str, Any]], filled: dict[str, Any]
) -> None:
    """Where parts that hold together have different defaults, none is filled in, and there may be one."""
    schema = {"properties": {"limit": {"allOf": parts}}}
    sent: dict[str, Any] = {}
    assert fill_defaults(sent, schema)
    assert sent == filled
    assert SchemaReader(schema).at(("limit",)).default


def test_a_default_of_its_own_comes_before_those_of_what_it_refers_to() -> None:
    schema = {"properties": {"limit": {"$ref": "#/$defs/D", "default": 1}}, "$defs": {"D": {"default": 2}}}
    sent: dict[str, Any] = {}
    assert fill_defaults(sent, schema)
    assert sent == {"limit": 1}


def test_prefix_items_that_are_no_list_say_nothing() -> None:
    schema = {"properties": {"a": {"type": "array", "prefixItems": {"x": {}}, "items": {"default": 1}}}}
    assert fill_defaults({"a": [{}]}, schema)
