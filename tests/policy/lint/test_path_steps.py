"""The linter and paths with steps: what it finds, and that it knows what a step is."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_otel import Policy
from aegis_otel.policy.lint import lint

SCHEMA = {
    "type": "object",
    "properties": {
        "cc": {"type": "array", "items": {"type": "string"}},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"price": {"type": "string"}, "sku": {"enum": ["a", "b"]}},
                "required": ["price"],
            },
        },
        "body": {"type": "string"},
        "amount": {"type": ["string", "null"]},
        "count": {"type": "integer"},
        "o": {"type": "object", "properties": {"cc": {"type": "array"}}},
        "o.list": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["cc", "items", "body", "amount", "count"],
    "additionalProperties": False,
}


def found(operator: str, path: str, expected: Any, approval: str = "block") -> list[tuple[str, str | None]]:
    rule = {
        "match": {"type": "t"},
        "conditions": {f"param_{operator}": {path: expected}},
        "approval": approval,
    }
    default = "auto" if approval == "block" else "block"
    policy = Policy.from_dict({"defaults": {"approval": default}, "rules": [rule]})
    return [(finding.kind, finding.suggestion) for finding in lint(policy, {"t": SCHEMA})]


@pytest.mark.parametrize(
    ("operator", "path", "expected"),
    [
        ("contains", "cc[any][lower]", "a"),
        ("gt", "cc[count]", 3),
        ("lt", "amount[number]", 5),
        ("eq", "body[json].a.b", "1"),
        ("eq", "cc[any][json][any][lower]", "a"),
        ("contains", "[anywhere][lower]", "a"),
        ("contains", "items[anywhere][lower]", "a"),
        ("eq", "o.list[any][lower]", "1"),
        ("lt", "count[number]", 5),
    ],
)
def test_a_step_that_fits_the_tool_has_no_finding_about_it(operator: str, path: str, expected: Any) -> None:
    kinds = {kind for kind, _ in found(operator, path, expected)}
    assert kinds.isdisjoint({"type", "parameter", "enum"})


@pytest.mark.parametrize(
    ("operator", "path", "expected"),
    [
        ("eq", "count[any]", "a"),
        ("eq", "body[all]", "a"),
        ("gt", "body[count]", 3),
        ("gt", "cc[number]", 3),
        ("eq", "count[json].a", "a"),
        ("eq", "cc[lower]", "a"),
        ("eq", "cc[any][any]", "a"),
        ("gt", "items[any].price[count]", 3),
        ("eq", "o[any]", "a"),
    ],
)
def test_a_step_that_does_not_fit_the_tool_is_found(operator: str, path: str, expected: Any) -> None:
    assert "type" in {kind for kind, _ in found(operator, path, expected)}


@pytest.mark.parametrize(
    ("path", "block", "auto"),
    [
        ("cc.any", "cc[any]", "cc[any]"),
        ("cc.0", "cc[any]", "cc[all]"),
        ("items.price", "items[any].price", "items[all].price"),
        ("items.0.price", "items[any].price", "items[all].price"),
        ("items.all.price", "items[all].price", "items[all].price"),
        ("o.cc.0", "o.cc[any]", "o.cc[all]"),
    ],
)
def test_a_path_into_a_list_without_a_step_is_found(path: str, block: str, auto: str) -> None:
    """A list has no keys, so the tool has no such parameter; what was meant stands in the suggestion."""
    assert ("parameter", block) in found("eq", path, "a")
    assert ("parameter", auto) in found("eq", path, "a", "auto")


def test_the_length_of_a_list_is_a_step() -> None:
    assert ("parameter", "cc[count]") in found("gt", "cc.length", 3)


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("ccc[any]", {"parameter"}),
        ("items[any].prise", {"parameter"}),
        ("items[any].sku", {"enum"}),
        ("items[any].price", set()),
        ("o.list[any]", set()),
    ],
)
def test_a_path_with_steps_names_the_parameters_of_the_tool(path: str, kinds: set[str]) -> None:
    about = {kind for kind, _ in found("eq", path, "x")}
    assert about & {"parameter", "enum", "type"} == kinds


def test_conditions_on_items_neither_contradict_nor_cover_each_other() -> None:
    """One item may pass one condition, and another the other; an empty list passes none or all."""

    def kinds(*rules: dict[str, Any]) -> set[str]:
        policy = Policy.from_dict({"defaults": {"approval": "approve"}, "rules": list(rules)})
        return {finding.kind for finding in lint(policy)}

    for step in ("any", "all"):
        low = {"param_lt": {f"n[{step}]": 5}}
        high = {"param_gt": {f"n[{step}]": 9}}
        assert "contradiction" not in kinds({"conditions": low | high, "approval": "block"})
        autos = [
            {"name": name, "conditions": each, "approval": "auto"}
            for name, each in (("low", low), ("high", {"param_gte": {f"n[{step}]": 5}}))
        ]
        assert "split" not in kinds(*autos, {"name": "last", "approval": "block"})
    counted = {"param_lt": {"n[count]": 5}, "param_gt": {"n[count]": 9}}
    assert "contradiction" in kinds({"conditions": counted, "approval": "block"})


@pytest.mark.parametrize("approval", ["auto", "block"])
@pytest.mark.parametrize(
    ("operator", "path", "expected"),
    [
        ("gt", "cc[count]", 10**9),
        ("lt", "cc[count]", -1),
        ("gt", "cc[count]", 2.5),
        ("gte", "a[json][json].b[number]", 10**300),
        ("matches", "a[any][json].b[all][lower]", "^x$"),
        ("contains", "[anywhere]", "x"),
        ("eq", "a[json]", True),
    ],
)
def test_any_path_can_be_linted(operator: str, path: str, expected: Any, approval: str) -> None:
    for finding in found(operator, path, expected, approval):
        assert finding[0] in {"parameter", "type", "omission", "case", "no-lower-bound", "no-upper-bound"} | {
            *("contains-allow", "any-allow", "all-block", "deny-list", "unanchored")
        }


def test_conditions_on_the_items_and_the_length_of_a_list_have_one_example() -> None:
    """Else the pattern would not be tried: no list of one item has two."""
    conditions = {"param_gte": {"to[count]": 2}, "param_matches": {"to[all]": "@example.com$"}}
    for pairs in (conditions.items(), reversed(conditions.items())):
        rule = {"match": {"type": "t"}, "conditions": dict(pairs), "approval": "auto"}
        policy = Policy.from_dict({"defaults": {"approval": "block"}, "rules": [rule]})
        assert {finding.kind for finding in lint(policy)} == {"unanchored", "unescaped-dot"}
