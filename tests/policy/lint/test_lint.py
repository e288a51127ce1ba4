"""The linter: rules without effect are errors, what may be meant is a warning."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from aegis_otel import Action, Policy
from aegis_otel.policy.lint import lint

STEP_1 = """\
version: "1"
defaults:
  risk_level: medium
  approval: approve
rules:
  - name: search_tools
    match: { type: "search*", target: "web" }
    risk_level: low
    approval: auto
  - name: write_ops
    match: { type: "write_*", target: "*" }
    risk_level: high
    approval: approve
  - name: after_hours_write_block
    match: { type: "write_*", target: "*" }
    conditions: { time_after: "18:00" }
    risk_level: critical
    approval: block
  - name: early_morning_write_block
    match: { type: "write_*", target: "*" }
    conditions: { time_before: "08:00" }
    risk_level: critical
    approval: block
  - name: block_deletes
    match: { type: "delete_*", target: "*" }
    risk_level: critical
    approval: block
"""


def found(policy: Policy, **options: Any) -> list[str]:
    return [str(finding) for finding in lint(policy, **options)]


def kinds(*rules: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    policy = Policy.from_dict({"defaults": {}, "rules": list(rules)})
    return [(finding.severity.value, finding.kind) for finding in lint(policy, **options)]


def test_b05_the_tutorials_after_hours_rules_can_never_match() -> None:
    """Its own order puts an unconditional rule for the same actions before them."""
    assert found(Policy.from_text(STEP_1, source="policy.yaml")) == [
        "policy.yaml:14:5: error[shadowed]: rule `after_hours_write_block` can never match: "
        "shadowed by `write_ops` at policy.yaml:10:5",
        "policy.yaml:19:5: error[shadowed]: rule `early_morning_write_block` can never match: "
        "shadowed by `write_ops` at policy.yaml:10:5",
    ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({}, {"type": "x"}),
        ({"type": "a*"}, {"type": "ab*"}),
        ({"type": ["b", "a*"]}, {"type": ["a1", "b"]}),
        ({"type": "*_x", "target": "db*"}, {"type": "a_x", "target": "db?"}),
        ({"agent": "a*"}, {"agent": "ab"}),
        ({"type": "a?c"}, {"type": "abc"}),
    ],
)
def test_shadowed(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    assert kinds({"match": earlier}, {"match": later}) == [("error", "shadowed")]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"match": {"type": "a*"}}, {"match": {"type": "*"}}),
        ({"match": {"type": "a"}}, {"match": {"type": ["a", "b"]}}),
        ({"match": {"target": "db"}}, {"match": {"type": "a"}}),
        ({"match": {"agent": "a"}}, {}),
        ({"conditions": {"param_eq": {"a": 1}}}, {}),
        ({"conditions": {"time_after": "18:00"}}, {"match": {"type": "a"}}),
        ({"match": {"type": "A*"}}, {"match": {"type": "a*"}}),
    ],
)
def test_not_shadowed(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    assert kinds(earlier, later) == []


def test_a_rule_is_shadowed_across_files() -> None:
    one = Policy.from_text("defaults: {}\nrules: [{ name: a }]\n", source="one")
    two = Policy.from_text("rules: [{ name: b }]\n", source="two")
    assert found(one.merge(two)) == [
        "two:1:11: error[shadowed]: rule `b` can never match: shadowed by `a` at one:2:11"
    ]


@pytest.mark.parametrize(
    "conditions",
    [
        {"param_gt": {"a": 5}, "param_lt": {"a": 5}},
        {"param_gt": {"a": 5}, "param_lte": {"a": 5}},
        {"param_gte": {"a": 6}, "param_lte": {"a": 5}},
        {"param_eq": {"a": 5}, "param_gt": {"a": 5}},
        {"param_eq": {"a": "x"}, "param_gt": {"a": 5}},
        {"param_eq": {"a": "x"}, "param_matches": {"a": "y"}},
        {"param_eq": {"a": "x"}, "param_contains": {"a": "y"}},
        {"param_gt": {"a": 5}, "param_matches": {"a": "y"}},
    ],
)
def test_a_contradiction_is_never_true_and_still_decides(conditions: dict[str, Any]) -> None:
    """No value passes both conditions, but one that cannot be compared lets the rule decide."""
    rule = {"name": "r", "conditions": conditions, "approval": "block"}
    assert kinds(rule) == [("warning", "contradiction")]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [rule]})
    assert policy.evaluate(Action("t", params={"a": None})).matched_rule == "r"


def test_a_contradiction_is_worded_as_what_it_is() -> None:
    policy = Policy.from_text(
        "rules: [{ name: r, conditions: { param_gt: { n: 5 }, param_lt: { n: 3 } } }]\ndefaults: {}\n",
        source="p",
    )
    assert found(policy) == [
        "p:1:11: warning[contradiction]: rule `r` can never be true: `param_gt` on `n` contradicts "
        "`param_lt` on `n`; it still decides where a value is unknown"
    ]


def test_an_empty_time_window_can_never_match() -> None:
    assert kinds({"conditions": {"time_after": "10:00", "time_before": "10:00"}}) == [("error", "never")]


def test_a_stricter_rule_behind_one_for_the_same_agents_decides_where_the_agent_is_unknown() -> None:
    bots = {"name": "bots", "match": {"agent": "bot*"}, "approval": "auto"}
    bot1 = {"name": "bot1", "match": {"agent": "bot1"}, "approval": "block"}
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [bots, bot1]})
    assert policy.evaluate(Action("t")).matched_rule == "bot1"
    assert found(policy) == [
        "<policy>: warning[shadowed]: rule `bot1` can never be true: shadowed by `bots` at <policy>; "
        "it still decides where the agent is unknown"
    ]


def test_so_does_a_monitored_one_where_nothing_else_stops_the_call() -> None:
    bots = {"name": "bots", "match": {"agent": "bot*"}, "approval": "auto", "risk_level": "high"}
    bot1 = {"name": "bot1", "match": {"agent": "bot1"}, "approval": "auto", "mode": "monitor"}
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [bots, bot1]})
    assert policy.evaluate(Action("t")).matched_rule == "bot1"
    assert ("warning", "shadowed") in kinds(bots, bot1)


@pytest.mark.parametrize("agent", [None, "bot1", "bot2", "x"])
@pytest.mark.parametrize("earlier", [{"agent": "bot*"}, {}])
def test_a_rule_reported_as_shadowed_never_decides(earlier: dict[str, Any], agent: str | None) -> None:
    """The earlier rule is asked of every agent, or is as strict as the later one."""
    rules = [
        {"name": "a", "match": earlier, "approval": "block" if earlier else "auto"},
        {"name": "b", "match": {"agent": "bot1"}, "approval": "block"},
    ]
    assert kinds(*rules) == [("error", "shadowed")]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    assert policy.evaluate(Action("t", agent=agent)).matched_rule != "b"


def test_of_two_rules_that_shadow_the_one_that_hides_counts() -> None:
    rules = [
        {"match": {"agent": "bot*"}, "approval": "auto"},
        {"match": {"type": "pay*"}, "approval": "auto"},
        {"match": {"type": "pay", "agent": "bot1"}, "approval": "block"},
    ]
    assert kinds(*rules) == [("error", "shadowed")]


@pytest.mark.parametrize(
    "conditions",
    [
        {"param_gte": {"a": 5}, "param_lte": {"a": 5}},
        {"param_gt": {"a": 5}, "param_lt": {"b": 5}},
        {"param_eq": {"a": "xy"}, "param_matches": {"a": "y"}, "param_contains": {"a": "x"}},
        {"time_after": "22:00", "time_before": "06:00"},
    ],
)
def test_no_contradiction(conditions: dict[str, Any]) -> None:
    assert kinds({"conditions": conditions}) == []


@pytest.mark.parametrize("pattern", ["db[prod]", "\uff44b", "del\u0435te", " x", "x ", "ﬁle"])
def test_a_pattern_that_may_deceive(pattern: str) -> None:
    assert kinds({"match": {"target": pattern}}) == [("warning", "pattern")]


@pytest.mark.parametrize("pattern", ["削除", "удалить", "a_1", "a]", "*"])
def test_an_honest_pattern(pattern: str) -> None:
    assert kinds({"match": {"target": pattern}}) == []


def test_a_time_zone_without_a_time() -> None:
    assert kinds({"conditions": {"timezone": "Europe/Berlin"}}) == [("warning", "timezone")]


def test_a_file_without_rules() -> None:
    policy = Policy.from_text("defaults: { approval: auto }\n", source="p")
    assert found(policy) == ["p:1:1: warning[no-rules]: there is no `rules` key: was the file cut short?"]


def test_the_tools_are_held_against_the_policy() -> None:
    policy = Policy.from_text(
        "defaults: {}\n"
        "rules:\n"
        "  - { name: pays, match: { type: 'pay*' }, conditions: { param_gt: { amuont: 5, a.b: 1 } } }\n"
        "  - { name: typo, match: { type: 'delet_*' } }\n",
        source="p",
    )
    tools: dict[str, Any] = {
        "pay": {"properties": {"amount": {}}, "additionalProperties": False},
        "payout": {"type": "object"},
        "pay_broken": {"$ref": "#/nowhere"},
        "delete_file": {"properties": {"path": {}}},
    }
    assert found(policy, tools=tools) == [
        "<tools>: warning[uncovered]: tool `delete_file` is covered by no rule: the default decides, approve",
        "p:3:70: warning[parameter]: `param_gt` on `amuont` of rule `pays`: tool `pay` has no such "
        "parameter, so it is always unknown (did you mean `amount`?)",
        "p:3:70: warning[parameter]: `param_gt` on `amuont` of rule `pays`: "
        "the schema of tool `pay_broken` cannot be read",
        "p:3:81: warning[parameter]: `param_gt` on `a.b` of rule `pays`: tool `pay` has no such parameter, "
        "so it is always unknown",
        "p:3:81: warning[parameter]: `param_gt` on `a.b` of rule `pays`: the schema of tool "
        "`pay_broken` cannot be read",
        "p:4:34: warning[near-miss]: pattern `delet_*` of rule `typo` does not match the tool `delete_file`: "
        "case, separators and look-alike letters count (did you mean `delete_file`?)",
    ]


def test_the_corrected_order_leaves_only_the_time_zone_open() -> None:
    rules = STEP_1[STEP_1.index("  - name: write_ops") : STEP_1.index("  - name: after_hours")]
    findings = lint(Policy.from_text(STEP_1.replace(rules, "") + rules))
    assert [finding.kind for finding in findings] == ["no-timezone", "no-timezone"]


def test_a_thousand_rules_are_checked_quickly() -> None:
    """Without an index, this compares half a million pairs, character by character."""
    rules = [{"match": {"type": f"*_{number}_*", "target": f"{number}/*"}} for number in range(1000)]
    assert kinds(*rules, {"match": {"type": "a_999_b", "target": "999/x"}}) == [("error", "shadowed")]


def test_two_thousand_rules_for_as_many_agents_are_checked_quickly() -> None:
    """Without an index of agents, this compares two million pairs."""
    rules = [{"match": {"type": "pay", "agent": f"agent_{number}"}} for number in range(2000)]
    assert kinds(*rules, {"match": {"type": "pay", "agent": "agent_7"}}) == [("error", "shadowed")]


def test_an_operator_under_another_name_has_the_same_findings() -> None:
    """The linter asks a row of `OPERATORS` what it means, and knows no operator by its name."""
    program = """
import json
from aegis_otel.policy.operators.table import OPERATORS
for name, row in list(OPERATORS.items()):
    OPERATORS[name.replace("param_", "param_other_")] = row._replace(synonyms="")
from aegis_otel import Policy
from aegis_otel.policy.lint import lint
rules = [
    "{conditions: {param_gt: {n: 5}, param_lt: {n: 3}}}",
    "{conditions: {param_eq: {n: x}, param_matches: {n: y}}}",
    "{conditions: {param_gt: {n: 5}, param_contains: {n: y}}}",
    "{match: {type: t}, approval: auto, conditions: {param_matches: {command: ^git}}}",
    "{match: {type: t}, approval: auto, conditions: {param_contains: {command: git}}}",
    "{match: {type: t}, approval: auto, conditions: {param_lte: {amount: 5}}}",
    "{match: {type: t}, approval: auto, conditions: {param_gte: {amount: 5}}}",
    "{match: {type: t}, approval: block, conditions: {param_gte: {amount: 5}}}, {approval: auto}",
    "{match: {type: t}, approval: block, conditions: {param_eq: {path: /etc/x}}}, {approval: auto}",
    "{match: {type: t}, approval: block, conditions: {param_matches: {path: ^/etc}}}, {approval: auto}",
    "{approval: auto, conditions: {param_lt: {n: 5}}}, {approval: auto, conditions: {param_gte: {n: 5}}}, "
    "{approval: block}",
    "{approval: auto, conditions: {param_eq: {n: true}}}, "
    "{approval: auto, conditions: {param_eq: {n: false}}}, {approval: block}",
]
fields = {"n": {"enum": ["a"]}, "path": {"enum": ["b"]}, "amount": {"type": "string"}}
for given in (None, {"t": {"properties": fields}}):
    for rule in rules:
        text = f"defaults: {{}}\\nrules: [{rule}]"
        pair = [Policy.from_text(each) for each in (text, text.replace("param_", "param_other_"))]
        print(json.dumps([[finding.kind for finding in lint(policy, given)] for policy in pair]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pairs = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [one for one, other in pairs if one != other] == []
    assert {kind for one, _ in pairs for kind in one} >= {
        *("contradiction", "unanchored", "contains-allow", "no-lower-bound", "no-upper-bound"),
        *("equality", "anchored-block", "split", "type", "enum"),
    }


def test_pairs_of_patterns_are_bounded_and_the_rest_is_said() -> None:
    """Five rules with 1,500 users each: every pair of users would take many seconds."""
    rules = [
        {
            "name": f"r{number}",
            "match": {"type": "pay", "user": [f"a{user}_{number}_*" for user in range(1_500)]},
            "approval": "auto" if number % 2 else "block",
        }
        for number in range(5)
    ]
    found = lint(Policy.from_dict({"rules": rules}))
    assert [each.kind for each in found] == ["limits"]
    assert "more than 500000 patterns to check: from here on not all are checked" in found[0].message
    for rule in rules:
        rule["match"]["user"] = rule["match"]["user"][:100]
    assert lint(Policy.from_dict({"rules": rules})) == []
