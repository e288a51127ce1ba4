"""The linter on conditions on earlier calls: what cannot be meant, and what is no hint of anything."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_otel import Policy
from aegis_otel.policy.lint import Inventory, lint

CALLS = {"calls_over": {"limit": 3, "within": "1h"}}
REPEATS = {"repeats": {"by": ["order_id"], "within": "7d"}}
PAY = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "amount": {"type": "string"}, "lines": {"type": "array"}},
    "required": ["order_id"],
    "additionalProperties": False,
}
TOOLS = {"pay": PAY, "verify_identity": {"type": "object", "properties": {}, "additionalProperties": False}}


def rule(condition: dict[str, Any], approval: str = "block", **more: Any) -> dict[str, Any]:
    return {
        "name": "r",
        "match": {"type": "pay"},
        "conditions": condition,
        "approval": approval,
        **more,
    }


def found(*rules: dict[str, Any], tools: Any = None) -> list[tuple[str, str]]:
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": list(rules)})
    return [(each.severity.value, each.kind) for each in lint(policy, tools)]


def after(types: Any, **more: Any) -> dict[str, Any]:
    return {"after": {"type": types, "within": "1h", **more}}


@pytest.mark.parametrize(
    ("written", "kinds"),
    [
        (rule(CALLS), []),
        (rule(REPEATS), []),
        (rule({"not": CALLS}, "auto"), []),
        (rule(CALLS, "approve"), []),
        (rule(CALLS, "auto"), ["over-allow"]),
        (rule({"any": [REPEATS, {"param_eq": {"x": 1}}]}, "auto"), ["over-allow"]),
        (rule({"calls_over": {"limit": 0, "within": "1h"}}), ["always"]),
        (rule({"not": {"calls_over": {"limit": 0, "within": "1h"}}}, "auto"), ["always"]),
        (rule({"total_over": {"param": "amount", "limit": 0, "within": "1h"}}), []),
        (rule(after("pay")), ["after-itself"]),
        (rule(after(["pay", "refund"])), []),
        (rule({"not": after("pay")}), ["after-itself"]),
        (rule({"not": after("verify")}), []),
        (rule({"not": after("pay"), "param_eq": {"express": True}}), []),
        (rule({"not": after("pay_small")}, match={"type": "pay_*"}), ["after-itself"]),
        (rule(after("pay_small"), match={"type": "pay_*"}), []),
        (rule(after("pay"), "auto"), ["after-itself"]),
        (rule(after("delete_.*")), ["glob-syntax"]),
        (rule({"calls_over": {**CALLS["calls_over"], "by": ["\u043erder"]}}), ["look-alike"]),
    ],
    ids=str,
)
def test_what_cannot_be_meant(written: dict[str, Any], kinds: list[str]) -> None:
    assert [kind for _, kind in found(written)] == kinds


def test_a_rule_with_a_limit_hides_nothing() -> None:
    """It may not hold; but one behind an unconditional rule is asked nothing."""
    wide = {"name": "wide", "match": {"type": "*"}, "conditions": CALLS, "approval": "block"}
    behind = {"name": "behind", "match": {"type": "pay"}, "approval": "block"}
    assert found(wide, behind) == []
    first = {"name": "first", "match": {"type": "pay"}, "approval": "approve"}
    assert found(first, rule(CALLS)) == [("error", "shadowed")]


def test_limits_are_not_compared_with_each_other() -> None:
    """Of rules with a limit beside another condition, none always holds."""
    one = rule({"param_gte": {"amount": 5}, "not": CALLS}, "auto", name="one")
    other = rule({"param_lt": {"amount": 5}, "not": CALLS}, "auto", name="other")
    limited = [
        {**one, "conditions": {"param_gte": {"amount": 5}, **CALLS}},
        {**other, "conditions": {"param_lt": {"amount": 5}, **CALLS}},
    ]
    block = {"name": "block", "match": {"type": "pay"}, "approval": "block"}
    assert ("error", "split") not in found(*limited, block)
    plain = [
        {**each, "conditions": {key: value for key, value in each["conditions"].items() if key != "not"}}
        for each in (one, other)
    ]
    assert ("error", "split") in found(*plain, block)


def test_examples_are_first_calls() -> None:
    """What an `auto` rule lets run under its limit is tried as before."""
    unbounded = rule({"param_gt": {"amount": 0}, "not": CALLS}, "auto")
    assert ("warning", "no-upper-bound") in found(unbounded, {"name": "b", "approval": "block"})
    total = {"not": {"total_over": {"param": "amount", "limit": 500, "within": "1h"}}}
    bounded = rule({"param_gt": {"amount": 0}, **total}, "auto")
    assert found(bounded, {"name": "b", "approval": "block"}) == []


def test_an_earlier_call_that_no_tool_makes() -> None:
    """A typo is an error where a block never blocks."""
    complete = Inventory.from_schemas(TOOLS)
    typo = rule(after("verify_identiy"))
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [typo]})
    (finding,) = [each for each in lint(policy, complete) if each.kind == "no-tool"]
    assert (finding.kind, finding.severity.value, finding.suggestion) == (
        "no-tool",
        "error",
        "verify_identity",
    )
    assert "so it is always false" in finding.message
    assert ("warning", "no-tool") in found(rule({"not": after("verify_identiy")}), tools=complete)
    assert ("warning", "no-tool") in found(rule(after("something_else")), tools=complete)
    assert ("error", "no-tool") not in found(rule(after("verify_*")), tools=complete)


@pytest.mark.parametrize(
    ("condition", "kind", "suggestion"),
    [
        ({"repeats": {"by": ["order"], "within": "1h"}}, "parameter", "order_id"),
        ({"repeats": {"by": ["usr_id", "order_id"], "within": "1h"}}, "parameter", "user"),
        ({"repeats": {"by": ["lines"], "within": "1h"}}, "type", None),
        ({"repeats": {"by": ["lines[number]"], "within": "1h"}}, "type", None),
        ({"repeats": {"by": ["lines[count]"], "within": "1h"}}, None, None),
        ({"total_over": {"param": "amount", "limit": 5, "within": "1h"}}, "type", "amount[number]"),
        ({"total_over": {"param": "amount[number]", "limit": 5, "within": "1h"}}, None, None),
        (after("verify_identity", by=["order_id"]), "parameter", None),
        (after("verify_identity", by=["user"]), None, None),
    ],
    ids=str,
)
def test_parameters_that_tools_do_not_have(
    condition: dict[str, Any], kind: str | None, suggestion: str | None
) -> None:
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [rule(condition)]})
    findings = [each for each in lint(policy, TOOLS) if each.kind != "uncovered"]
    assert [(each.kind, each.suggestion) for each in findings] == ([(kind, suggestion)] if kind else [])
