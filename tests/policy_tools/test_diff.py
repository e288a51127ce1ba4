"""Two policies compared: what is written otherwise, and which calls are decided otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel import Policy
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy_tools.diff import Effect, PolicyDiff, diff_policies


def policy(*rules: dict[str, Any], approval: str = "approve") -> Policy:
    return Policy.from_dict({"defaults": {"approval": approval}, "rules": list(rules)})


def rule(name: str, approval: str = "block", /, **match: Any) -> dict[str, Any]:
    conditions = match.pop("conditions", None)
    found: dict[str, Any] = {"name": name, "approval": approval}
    return found | ({"match": match} if match else {}) | ({"conditions": conditions} if conditions else {})


def effects(found: PolicyDiff) -> set[tuple[str, str, str]]:
    return {(each.effect, each.old.approval.value, each.new.approval.value) for each in found.differences}


def written(old: Policy, new: Policy) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(each.change.value, each.rule, each.details) for each in diff_policies(old, new).rules]


A, B, C, D = (rule(name, type=name) for name in "abcd")


def test_policies_that_are_the_same_are_not_tried() -> None:
    found = diff_policies(policy(A, B), policy(A, B))
    assert (found.rules, found.differences, found.tried, found.loosens) == ((), (), 0, False)


def test_rules_are_added_removed_and_moved() -> None:
    assert written(policy(A, B, C), policy(D, C, A)) == [
        ("added", "d", ("placed first",)),
        ("moved", "c", ("placed after `d`",)),
        ("removed", "b", ()),
    ]


@pytest.mark.parametrize(
    ("order", "count"), [("bcda", 1), ("dabc", 1), ("badc", 2), ("dcba", 3), ("cdab", 2), ("abcd", 0)]
)
def test_as_few_rules_as_possible_are_called_moved(order: str, count: int) -> None:
    """The others stand in their old order."""
    rules = {each["name"]: each for each in (A, B, C, D)}
    found = diff_policies(policy(*rules.values()), policy(*(rules[name] for name in order)))
    moved = [each.rule for each in found.rules]
    others = [name for name in order if name not in moved]
    assert len(moved) == count
    assert others == sorted(others)


@pytest.mark.parametrize(
    ("old", "new", "details"),
    [
        (rule("r", type="a"), rule("r", "auto", type="a"), ("approval: block -> auto",)),
        (rule("r", type="a"), {**rule("r", type="a"), "risk_level": "high"}, ("risk_level: medium -> high",)),
        (rule("r", type="a"), rule("r", type=["a", "b*"]), ("match.type: + `b*`",)),
        (rule("r", target="a"), rule("r", target="b"), ("match.target: `a` -> `b`",)),
        (
            rule("r", conditions={"time_after": "18:00"}),
            rule("r", conditions={"time_after": "19:00"}),
            ("time window: from 18:00 UTC -> from 19:00 UTC",),
        ),
        (
            rule("r", conditions={"param_gt": {"a": 1}}),
            rule("r", conditions={"param_gt": {"a": 2}, "param_eq": {"b": "x"}}),
            (
                "conditions: - `param_gt` on `a` the number `1`",
                "conditions: + `param_gt` on `a` the number `2`",
                "conditions: + `param_eq` on `b` `x`",
            ),
        ),
        (
            rule("r", type="a"),
            {**rule("r", type="a", ignore_case=True), "mode": "monitor", "message": "Ask Ann."},
            (
                "mode: enforce -> monitor",
                "message: empty text -> `Ask Ann.`",
                "match.ignore_case: false -> true",
            ),
        ),
        (
            rule("r", user="a"),
            rule("r", user=["a", "b"], conditions={"any": [{"param_gt": {"a": 1}}, {"weekdays": ["mon"]}]}),
            ("match.user: + `b`", "conditions: + `any` (`param_gt` on `a` the number `1` or Mon UTC)"),
        ),
        (
            rule("r"),
            rule("r", conditions={"param_gt": {"a": 1}}),
            ("conditions: + `param_gt` on `a` the number `1`",),
        ),
    ],
)  # fmt: skip
def test_a_changed_rule_says_what_is_otherwise(
    old: dict[str, Any], new: dict[str, Any], details: tuple[str, ...]
) -> None:
    assert written(policy(old), policy(new)) == [("changed", "r", details)]


PAY = {"type": "pay"}
LOOSER_BY_BLOCK = {("looser", "block", "approve")}
STRICTER_BY_BLOCK = {("stricter", "approve", "block")}


def gt(limit: float, approval: str = "block") -> dict[str, Any]:
    return rule("r", approval, **PAY, conditions={"param_gt": {"amount": limit}})


def window(**conditions: Any) -> dict[str, Any]:
    return rule("r", **PAY, conditions={"timezone": "Europe/Berlin", **conditions})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([gt(1000)], [gt(2000)], LOOSER_BY_BLOCK),
        ([gt(2000)], [gt(1000)], STRICTER_BY_BLOCK),
        ([gt(0.5)], [gt(0.7)], LOOSER_BY_BLOCK),
        ([gt(1000)], [gt(1000, "auto")], {("looser", "block", "auto")}),
        ([gt(1000)], [], LOOSER_BY_BLOCK),
        ([], [gt(1000)], STRICTER_BY_BLOCK),
        ([rule("r", type="a")], [rule("r", type=["a", "b"])], STRICTER_BY_BLOCK),
        ([rule("r", type=["a", "b*"])], [rule("r", type="a")], LOOSER_BY_BLOCK),
        ([rule("r", type="a", target="x")], [rule("r", type="a")], STRICTER_BY_BLOCK),
        ([rule("r", type="a", agent=["x", "y*"])], [rule("r", type="a", agent="x")], LOOSER_BY_BLOCK),
        ([window(time_after="18:00")], [window(time_after="18:01")], LOOSER_BY_BLOCK),
        (
            [window(time_after="18:00", time_before="08:00")],
            [window(time_after="18:00", time_before="07:59")],
            LOOSER_BY_BLOCK,
        ),
        ([window(weekdays=["mon", "tue"])], [window(weekdays=["mon"])], LOOSER_BY_BLOCK),
        (
            [rule("r", **PAY, conditions={"param_eq": {"c": "EUR"}})],
            [rule("r", **PAY, conditions={"param_eq": {"c": "USD"}})],
            LOOSER_BY_BLOCK | STRICTER_BY_BLOCK,
        ),
        (
            [rule("r", **PAY, conditions={"param_matches": {"c": "^(a|b)$"}})],
            [rule("r", **PAY, conditions={"param_matches": {"c": "^a$"}})],
            LOOSER_BY_BLOCK,
        ),
        ([gt(1) | {"risk_level": "high"}], [gt(1)], {("other risk", "block", "block")}),
        (  # both conditions hold for some calls, so their order matters
            [gt(1000), rule("s", "auto", **PAY, conditions={"param_eq": {"c": "EUR"}})],
            [rule("s", "auto", **PAY, conditions={"param_eq": {"c": "EUR"}}), gt(1000)],
            {("looser", "block", "auto")},
        ),
        ([gt(1)], [gt(1) | {"mode": "monitor"}], LOOSER_BY_BLOCK),
        ([gt(1) | {"mode": "monitor"}], [], set()),
        ([rule("r", **PAY)], [rule("r", **PAY, ignore_case=True)], STRICTER_BY_BLOCK),
        ([rule("r", **PAY, user="a")], [rule("r", **PAY, user=["a", "b*"])], STRICTER_BY_BLOCK),
        ([rule("r", **PAY, role="x")], [rule("r", **PAY, role="y")], LOOSER_BY_BLOCK | STRICTER_BY_BLOCK),
        ([rule("r", **PAY, tenant="a*")], [rule("r", **PAY)], STRICTER_BY_BLOCK),
        (
            [rule("r", **PAY, conditions={"any": [{"param_gt": {"n": 5}}, {"param_eq": {"c": "x"}}]})],
            [rule("r", **PAY, conditions={"any": [{"param_gt": {"n": 5}}, {"param_eq": {"c": "y"}}]})],
            LOOSER_BY_BLOCK | STRICTER_BY_BLOCK,
        ),
        (
            [rule("r", **PAY, conditions={"not": {"time_after": "08:00", "time_before": "18:00"}})],
            [rule("r", **PAY, conditions={"not": {"time_after": "08:00", "time_before": "18:30"}})],
            LOOSER_BY_BLOCK,
        ),
        (
            [rule("r", **PAY, conditions={"param_in": {"c": ["x", "y"]}})],
            [rule("r", **PAY, conditions={"param_in": {"c": ["x"]}})],
            LOOSER_BY_BLOCK,
        ),
        (
            [rule("r", "auto", **PAY, conditions={"param_only": ["n", "c"]})],
            [rule("r", "auto", **PAY, conditions={"param_only": ["n"]})],
            {("stricter", "auto", "approve")},
        ),
        (
            [rule("r", **PAY, conditions={"param_present": ["c"]})],
            [rule("r", **PAY, conditions={"param_present": ["d"]})],
            LOOSER_BY_BLOCK | STRICTER_BY_BLOCK,
        ),
        (
            [rule("r", **PAY, conditions={"param_gt": {"a[json].n[number]": 5}})],
            [rule("r", **PAY, conditions={"param_gt": {"a[json].n[number]": 7}})],
            LOOSER_BY_BLOCK,
        ),
        (
            [rule("r", **PAY, conditions={"param_lt": {"items[count]": 3}})],
            [rule("r", **PAY, conditions={"param_eq": {"items[any].sku[lower]": "x"}})],
            LOOSER_BY_BLOCK | STRICTER_BY_BLOCK,
        ),
        ([rule("a", "auto", type="a"), rule("r", type="*")], [rule("a", "auto", type="a")], LOOSER_BY_BLOCK),
    ],
)  # fmt: skip
def test_what_is_looser_and_what_is_stricter_is_found(
    old: list[dict[str, Any]], new: list[dict[str, Any]], expected: set[tuple[str, str, str]]
) -> None:
    found = diff_policies(policy(*old), policy(*new))
    assert effects(found) == expected
    assert found.loosens == any(effect == "looser" for effect, _, _ in expected)


def test_somebody_with_several_roles_is_tried() -> None:
    """Of the rules for each of the roles the first decides."""
    clerks, bosses = rule("clerks", **PAY, role="clerk"), rule("bosses", "auto", **PAY, role="boss")
    guests = rule("guests", **PAY, role="guest")
    for old, new in (([clerks], [bosses, clerks]), ([guests, clerks], [guests, bosses, clerks])):
        found = diff_policies(policy(*old, approval="auto"), policy(*new, approval="auto"))
        assert found.loosens


def test_defaults_that_change_are_found() -> None:
    assert effects(diff_policies(policy(A), policy(A, approval="auto"))) == {("looser", "approve", "auto")}


def test_what_is_only_monitored_is_as_loose_as_can_be() -> None:
    old, new = policy(gt(1), approval="auto"), policy(gt(1) | {"mode": "monitor"}, approval="auto")
    assert effects(diff_policies(old, new)) == {("looser", "block", "block")}
    assert effects(diff_policies(new, policy(approval="auto"))) <= {("other risk", "block", "auto")}


def test_tools_are_tried_where_they_are_known() -> None:
    """No rule names `send`: only the list of tools does."""
    inventory = Inventory.from_schemas({"send": {"type": "object"}})
    old, new = policy(rule("r", type="*_x")), policy(rule("r", type="*_x"), rule("s", type="*end"))
    found = diff_policies(old, new, inventory)
    assert "send" in {each.example.action.type for each in found.differences}


def test_a_changed_rule_that_nothing_is_known_to_reach_is_named() -> None:
    old = policy(rule("all", type="*"), rule("hidden", type="a"))
    new = policy(rule("all", type="*"), rule("hidden", "auto", type="a"))
    found = diff_policies(old, new)
    assert found.differences == ()
    assert found.untried == ("no call was found that rule `hidden` of <policy> decides",) * 2


NUMBERS = st.integers(-50, 50)
OPERATORS = st.sampled_from(["param_gt", "param_gte", "param_lt", "param_lte", "param_eq"])
APPROVALS = st.sampled_from(["auto", "approve", "block"])
RULES = st.lists(st.tuples(OPERATORS, NUMBERS, APPROVALS), min_size=1, max_size=4)


def built(rules: list[tuple[str, int, str]]) -> Policy:
    return policy(
        *(
            rule(f"r{number}", approval, **PAY, conditions={operator: {"n": limit}})
            for number, (operator, limit, approval) in enumerate(rules)
        )
    )


@settings(max_examples=60, deadline=None)
@given(RULES, RULES)
def test_every_difference_on_one_number_is_found_and_every_one_shown_is_real(
    one: list[tuple[str, int, str]], other: list[tuple[str, int, str]]
) -> None:
    """Held against all numbers in question, where only one parameter is tested."""
    from aegis_otel import Action

    old, new = built(one), built(other)
    found = diff_policies(old, new)
    for each in found.differences:
        before, after = (
            side.evaluate(each.example.action, now=each.example.now).verdict for side in (old, new)
        )
        assert (before, after) == (each.old, each.new)
    rank = ["auto", "approve", "block"]
    truth = set()
    for tenths in range(-520, 521, 5):
        action = Action("pay", params={"n": tenths / 10})
        before, after = (side.evaluate(action).approval for side in (old, new))
        if before != after:
            truth.add(Effect.LOOSER if rank.index(after) < rank.index(before) else Effect.STRICTER)
    assert truth <= {each.effect for each in found.differences}
