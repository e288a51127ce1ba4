"""Names that could be taken for one that a rule tests: also those that are too long to be compared."""

from __future__ import annotations

import time
from typing import Any

import pytest

from aegis_otel import Action, Approval, Policy
from aegis_otel.policy.evaluation.look_alikes import folded, may_be_among, skeleton

OTHER_SPELLING = "a key that the tool does not list could be another spelling of it"
MARKS = "\u0315\u0300"
BEYOND = {
    "marks": f"a{MARKS * 32_000}",
    "marks on a name": f"path{MARKS * 32_000}",
    "expanding": "\ufdfa" * 300_000,
    "letters": "\u4e2d" * 300_000,
    "a few marks too many": f"a{MARKS * 16}",
}
SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "to": {"type": "object", "properties": {"name": {"type": "string"}}},
        "items": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
    },
}
beyond = pytest.mark.parametrize("key", BEYOND.values(), ids=BEYOND)


def decided(conditions: dict[str, Any], params: dict[str, Any], schema: Any = SCHEMA) -> tuple[Any, ...]:
    rule = {"name": "r", "conditions": conditions, "approval": "block"}
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [rule]})
    start = time.process_time()
    found = policy.evaluate(Action("t", params=params, schema=schema))
    assert time.process_time() - start < 5
    return found.approval, [each.partition(" is unknown: ")[2] for each in found.errors]


@beyond
@pytest.mark.parametrize(
    ("conditions", "params"),
    [
        ({"param_eq": {"path": "a"}}, {"path": "b"}),
        ({"param_eq": {"path": "a"}}, {}),
        ({"param_present": ["path"]}, {}),
        ({"param_matches": {"path[lower]": "a"}}, {"path": "b"}),
    ],
)
def test_a_key_that_cannot_be_compared_could_be_any(
    conditions: dict[str, Any], params: dict[str, Any], key: str
) -> None:
    assert decided(conditions, params) == (Approval.AUTO, [])
    assert decided(conditions, {**params, key: "a"}) == (Approval.BLOCK, [OTHER_SPELLING])


@beyond
def test_deeper_keys_and_keys_of_no_schema_could_be_any(key: str) -> None:
    nested = {"param_eq": {"to.name": "a"}}
    assert decided(nested, {"to": {"name": "b", key: "a"}}) == (Approval.BLOCK, [OTHER_SPELLING])
    item = {"param_eq": {"items[any].sku": "a"}}
    assert decided(item, {"items": [{"sku": "b", key: "a"}]}) == (Approval.BLOCK, [OTHER_SPELLING])
    assert decided({"param_present": ["path"]}, {key: "a"}, None) == (Approval.BLOCK, [OTHER_SPELLING])
    assert decided({"param_eq": {"path": "a"}}, {"path": "a", key: "a"})[0] is Approval.BLOCK


@beyond
def test_a_long_key_is_none_of_a_list(key: str) -> None:
    """Where it is in it by another spelling, nobody knows; the condition is not true."""
    rules = [{"name": "r", "conditions": {"param_only": ["path"]}, "approval": "auto"}]
    policy = Policy.from_dict({"defaults": {"approval": "block"}, "rules": rules})
    found = policy.evaluate(Action("t", params={"path": "a", key: "b"}, schema=SCHEMA))
    assert found.approval is Approval.BLOCK


@beyond
def test_a_key_that_the_tool_lists_is_itself(key: str) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}, key: {"type": "string"}}}
    assert decided({"param_eq": {"path": "a"}}, {"path": "b", key: "a"}, schema) == (Approval.AUTO, [])


@beyond
def test_any_key_could_be_a_name_of_the_policy_that_cannot_be_compared(key: str) -> None:
    name = key if len(key) < 100 else f"\u00e9{MARKS * 16}"
    schema = {"type": "object", "properties": {name: {"type": "string"}}}
    conditions = {"param_eq": {name: "a"}}
    assert decided(conditions, {name: "a"}, schema) == (Approval.BLOCK, [])
    assert decided(conditions, {name: "b"}, schema) == (Approval.AUTO, [])
    assert decided(conditions, {"other": "a"}, schema) == (Approval.BLOCK, [OTHER_SPELLING])


def test_many_long_keys_are_compared_in_time() -> None:
    keys = {"\ufdfa" * 4_000 + str(number): 1 for number in range(80)}
    assert decided({"param_eq": {"path": "a"}}, {"path": "b", **keys}) == (Approval.AUTO, [])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("amount", "A\u0301moun\u0327\u0301t"),
        ("s\u1ed1_\u0111i\u1ec7n", "so\u0302\u0301 die\u0323\u0302n"),
        ("\u092a\u093e\u0938\u0935\u0930\u094d\u0921", "\u092a\u0938\u0935\u0930\u0921"),
        ("amount", f"amount{MARKS * 15}"),
        ("x" * 100_000, "X" * 100_000),
    ],
)
def test_names_of_ordinary_marks_are_compared(name: str, other: str) -> None:
    assert skeleton(name) == skeleton(other) is not None
    assert may_be_among(other, frozenset({skeleton(name)}))
    assert not may_be_among(other, frozenset({skeleton("else")}))


@beyond
def test_what_cannot_be_compared_may_be_among_any(key: str) -> None:
    assert skeleton(key) is None
    assert may_be_among(key, frozenset({"x"}))
    assert may_be_among("y", frozenset({None}))


def test_the_name_of_a_tool_is_folded_whatever_its_length() -> None:
    start = time.process_time()
    assert folded(f"d\u0435lete{MARKS * 32_000}_rows") == "delete_rows"
    assert folded("\ufdfa" * 100_000 + "x").endswith("x")
    assert time.process_time() - start < 5
