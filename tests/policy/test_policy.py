"""`Policy`: loading, order, merging, digest, totality."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Approval, Policy, PolicyDecision, PolicyError, RiskLevel
from aegis_otel.policy.rules import Place

TUTORIAL = """\
version: "1"
defaults:
  risk_level: medium
  approval: approve # Anything without an explicit rule needs human approval
rules:
  # --- Safe: auto-approve ---
  - name: search_tools
    match:
      type: "search*"
      target: "web"
    risk_level: low
    approval: auto
  - name: block_deletes
    match:
      type: "delete_*"
      target: "*"
    risk_level: critical
    approval: block
"""


def policy(*rules: dict[str, Any], **top: Any) -> Policy:
    return Policy.from_dict({**top, "rules": list(rules)})


def test_the_tutorials_policy_file_loads(tmp_path: Path) -> None:
    """Inventory 1 to 5, 9, 23 to 25, 116: version, defaults, rules, levels, globs."""
    path = tmp_path / "policy.yaml"
    path.write_text(TUTORIAL)
    loaded = Policy.from_yaml(path)
    assert loaded == Policy.from_yaml(str(path)) == Policy.from_text(TUTORIAL)
    assert loaded.default == (Approval.APPROVE, RiskLevel.MEDIUM)
    assert loaded.sources == (str(path),)
    assert loaded.rules == (
        ("search_tools", Approval.AUTO, RiskLevel.LOW, Place(str(path), 7, 5)),
        ("block_deletes", Approval.BLOCK, RiskLevel.CRITICAL, Place(str(path), 13, 5)),
    )
    decision = loaded.evaluate(Action("delete_record", target="database", params={"id": "42"}))
    assert isinstance(decision, PolicyDecision)
    assert not decision.is_allowed
    assert (decision.approval.value, decision.risk_level.name) == ("block", "CRITICAL")
    assert (decision.matched_rule, decision.reason) == ("block_deletes", "rule `block_deletes` matched")
    assert decision.policy_digest == loaded.digest
    allowed = loaded.evaluate(Action("search", target="web"))
    assert (allowed.approval, allowed.is_allowed, allowed.errors) == (Approval.AUTO, True, ())


def test_a_rule_says_nothing_needs_to_be_said() -> None:
    """Inventory 6: any action, medium, approve, a name by number."""
    decision = policy({}).evaluate(Action("anything", target="anywhere"))
    assert (decision.approval, decision.risk_level, decision.matched_rule) == (
        Approval.APPROVE,
        RiskLevel.MEDIUM,
        "rule_0",
    )


@pytest.mark.parametrize("top", [{}, {"defaults": {}}, {"defaults": {"risk_level": "medium"}}])
def test_without_defaults_a_human_is_asked(top: dict[str, Any]) -> None:
    """Inventory 7, as DESIGN 3 has it."""
    decision = policy(**top).evaluate(Action("anything"))
    assert (decision.approval, decision.risk_level) == (Approval.APPROVE, RiskLevel.MEDIUM)
    assert (decision.matched_rule, decision.reason) == ("<default>", "no rule matched")


@pytest.mark.parametrize("written", ["low", "MEDIUM", "High", "cRiTiCaL"])
def test_risk_levels_in_any_case(written: str) -> None:
    """Inventory 3."""
    decision = policy({"risk_level": written}).evaluate(Action("t"))
    assert decision.risk_level is RiskLevel[written.upper()]
    assert RiskLevel.LOW < RiskLevel.MEDIUM < RiskLevel.HIGH < RiskLevel.CRITICAL


@pytest.mark.parametrize("written", ["AUTO", "Auto", "auto"])
def test_approval_in_any_case(written: str) -> None:
    """Inventory 4: as the risk level."""
    assert policy({"approval": written}).rules[0].approval is Approval.AUTO


def test_the_first_match_wins() -> None:
    """Inventory 8."""
    rules = [
        {"name": name, "match": {"type": pattern}}
        for name, pattern in zip("abc", ["x", "x*", "*"], strict=True)
    ]
    decided = [policy(*rules).evaluate(Action(name)).matched_rule for name in ("x", "xy", "z")]
    assert decided == ["a", "b", "c"]


def test_target_and_agent_are_matched_too() -> None:
    one = policy({"match": {"type": "t", "target": ["db*", "crm"], "agent": "a?"}})
    asked = [("db1", "a1"), ("crm", "a2"), ("web", "a1"), ("db1", "b1"), ("db1", "a12")]
    assert [one.evaluate(Action("t", target, agent=agent)).matched_rule for target, agent in asked] == [
        *("rule_0", "rule_0"),
        *("<default>", "<default>", "<default>"),
    ]


def test_any_agent_includes_one_that_is_not_known() -> None:
    assert policy({"match": {"agent": "*"}}).evaluate(Action("t")).errors == ()
    unknown = policy({"match": {"agent": ["a", "b"]}}).evaluate(Action("t"))
    assert unknown.errors == ("rule `rule_0`: `match.agent` is unknown: the action does not say",)


def test_merge_puts_the_first_rules_first() -> None:
    """Inventory 29 and 30: this policy's rules, then the other's; neither is changed."""
    strict = policy({"name": "s", "match": {"type": "x*"}, "approval": "block"})
    loose = policy({"name": "l", "approval": "auto"}, defaults={"approval": "auto"})
    merged = strict.merge(loose)
    assert [rule.name for rule in merged.rules] == ["s", "l"]
    assert [rule.name for rule in loose.merge(strict).rules] == ["l", "s"]
    assert (len(strict.rules), len(loose.rules)) == (1, 1)
    assert merged.evaluate(Action("x1")).approval == "block"


def test_from_yaml_files_is_merge(tmp_path: Path) -> None:
    """Inventory 28, 120: the earlier file has the higher priority."""
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path, name in zip(paths, "ab", strict=True):
        path.write_text(f"rules: [{{ name: {name} }}]\n")
    merged = Policy.from_yaml_files(*paths)
    assert merged == Policy.from_yaml(paths[0]).merge(Policy.from_yaml(paths[1]))
    assert [str(rule.place) for rule in merged.rules] == [f"{paths[0]}:1:11", f"{paths[1]}:1:11"]
    assert merged.sources == tuple(map(str, paths))


def test_the_first_stated_defaults_hold() -> None:
    """Inventory 31."""
    silent, strict, loose = (
        policy(),
        policy(defaults={"approval": "block"}),
        policy(defaults={"approval": "auto"}),
    )
    assert silent.merge(strict).merge(loose).default.approval == "block"
    assert silent.merge(loose).merge(strict).default.approval == "auto"
    assert silent.merge(silent).default.approval == "approve"


def test_problems_of_all_files_are_reported(tmp_path: Path) -> None:
    bad, worse = tmp_path / "bad.yaml", tmp_path / "worse.yaml"
    bad.write_text("rule: []\n")
    worse.write_text("rules: 5\n")
    with pytest.raises(PolicyError) as caught:
        Policy.from_yaml_files(bad, worse, tmp_path / "none.yaml")
    assert [problem.source.rpartition("/")[2] for problem in caught.value.problems] == [
        "bad.yaml",
        "worse.yaml",
        "none.yaml",
    ]
    with pytest.raises(PolicyError, match="no policy file given"):
        Policy.from_yaml_files()


def test_one_name_in_two_files_is_an_error_naming_both_places() -> None:
    one = Policy.from_text("rules:\n  - name: a\n", source="one.yaml")
    two = Policy.from_text("rules:\n\n  - name: a\n", source="two.yaml")
    with pytest.raises(PolicyError) as caught:
        one.merge(two)
    assert str(caught.value) == "two.yaml:3:5: duplicate rule name `a`: it is already at one.yaml:2:5"
    with pytest.raises(PolicyError, match="duplicate rule name"):
        one.merge(one)


def test_rules_without_names_are_numbered_in_the_merged_policy() -> None:
    assert [rule.name for rule in policy({}, {}).merge(policy({})).rules] == ["rule_0", "rule_1", "rule_2"]
    with pytest.raises(PolicyError, match="duplicate rule name `rule_1`"):
        policy({"name": "rule_1"}, {})


def test_states_rules_tells_an_empty_list_from_none() -> None:
    assert policy().states_rules
    assert not Policy.from_text("defaults: { approval: auto }\n").states_rules
    assert Policy.from_text("version: '1'\n").merge(policy()).states_rules


@pytest.mark.parametrize(
    "changed",
    [
        TUTORIAL.replace("# --- Safe: auto-approve ---", "# safe"),
        TUTORIAL.replace('"search*"', "search*"),
        TUTORIAL.replace("risk_level: low", "risk_level: LOW"),
        TUTORIAL.replace(
            '      type: "search*"\n      target: "web"', '      target: [web]\n      type: ["search*"]'
        ),
        TUTORIAL.replace('version: "1"\n', "").replace('      target: "*"\n', ""),
        TUTORIAL.replace("\n", "\r\n"),
    ],
)
def test_the_digest_ignores_spelling(changed: str) -> None:
    assert changed != TUTORIAL
    assert Policy.from_text(changed, source="other.yaml").digest == Policy.from_text(TUTORIAL).digest


def test_the_digest_depends_on_all_that_decides() -> None:
    conditions: list[dict[str, Any]] = [
        {},
        {"param_eq": {"a": 1}},
        {"param_eq": {"a": "1"}},
        {"param_eq": {"a": True}},
        {"param_eq": {"b": 1}},
        {"param_gt": {"a": 1}},
        {"time_after": "08:00"},
        {"time_before": "08:00"},
        {"time_after": "08:00", "timezone": "Europe/Berlin"},
        {"weekdays": [1]},
        {"weekdays": [2]},
        {"time_after": "09:00"},
        {"param_eq": {"a": 2}},
    ]
    policies = [policy({"name": "n", "conditions": condition}) for condition in conditions]
    policies += [
        policy(),
        policy(defaults={"approval": "auto"}),
        policy(defaults={"risk_level": "high"}),
        policy({"name": "m"}),
        policy({"name": "n", "approval": "auto"}),
        policy({"name": "n", "risk_level": "high"}),
        policy({"name": "n", "match": {"type": "x"}}),
        policy({"name": "n", "match": {"target": "x"}}),
        policy({"name": "n", "match": {"agent": "x"}}),
        policy({"name": "n", "mode": "monitor"}),
        policy({"name": "n", "message": "x"}),
        policy({"name": "n", "message": "y"}),
        policy({"name": "n", "message": "x", "mode": "monitor"}),
        policy({"name": "n", "match": {"agent": "x", "ignore_case": True}}),
        policy({"name": "n"}, {"name": "m"}),
        policy({"name": "m"}, {"name": "n"}),
    ]
    assert len({each.digest for each in policies}) == len(policies)
    assert all(len(each.digest) == 71 and each.digest.startswith("sha256:") for each in policies)


def test_the_digest_of_a_policy_stays_from_version_to_version() -> None:
    """An audit names policies by it. This one was computed by version 0.1."""
    text = """
defaults: {approval: block, risk_level: high}
rules:
  - name: all operators
    match: {type: [pay, "refund*"], target: db, agent: "*bot"}
    conditions:
      time_after: "09:00"
      time_before: "17:30"
      weekdays: [mon, 5]
      timezone: Europe/Berlin
      param_eq: {currency: EUR, dry: true, n: 1, x: 1.0}
      param_gt: {amount: 5}
      param_lt: {order.total: 10.5}
      param_gte: {a: 1}
      param_lte: {b: -2}
      param_contains: {tags: x, items: 3}
      param_matches: {path: '^/srv/[a-z]+$'}
    risk_level: critical
    approval: approve
  - match: {type: "*"}
    approval: auto
"""
    digest = "sha256:c395eec26ea16a5af7796f1b27558369e317cc6b384d608d2e9a841958985046"
    assert Policy.from_text(text).digest == digest


def test_equal_policies_are_equal() -> None:
    one, same, other = policy({"name": "a"}), policy({"name": "a"}), policy({"name": "b"})
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "a"
    assert repr(one) == f"<Policy <policy>: 1 rules, {one.digest[:19]}>"


class _Kind(StrEnum):
    DELETE = "delete_it"


class _Liar(dict[str, Any]):
    def get(self, *_: Any) -> Any:
        raise RuntimeError("no")


STRANGE_TYPES: list[Any] = [
    None,
    5,
    b"delete_it",
    ["delete_it"],
    {},
    pytest.param(object(), id="an object"),
    float("nan"),
    ("delete_it",),
]


@pytest.mark.parametrize("strange", STRANGE_TYPES, ids=repr)
@pytest.mark.parametrize("field", ["type", "target", "agent"])
def test_what_is_not_text_fails_closed(strange: Any, field: str) -> None:
    """A pattern on what cannot be matched is unknown, so the rule counts."""
    one = policy({"match": {field: "delete_*"}, "approval": "block"}, defaults={"approval": "auto"})
    values: dict[str, Any] = {"type": "t", "target": "x", "agent": "a", field: strange}
    decision = one.evaluate(Action(values["type"], values["target"], agent=values["agent"]))
    assert decision.approval == "block"
    assert len(decision.errors) == 1


def test_an_enum_of_text_is_text() -> None:
    one = policy({"match": {"type": "delete_*", "target": "delete_*"}, "approval": "block"})
    decision = one.evaluate(Action(_Kind.DELETE, _Kind.DELETE))
    assert (decision.approval, decision.errors) == ("block", ())


def test_a_value_that_raises_is_unknown() -> None:
    one = policy({"conditions": {"param_eq": {"a.b": 1}}, "approval": "block"}, defaults={"approval": "auto"})
    action = Action("t")
    object.__setattr__(action, "params", _Liar(a=1))
    decision = one.evaluate(action)
    assert decision.errors == (
        "rule `rule_0`: `param_eq` on `a.b` is unknown: the comparison failed with RuntimeError",
    )
    assert decision.approval == "block"


def test_what_is_no_action_is_blocked() -> None:
    nothing: Any = None
    decision = policy(defaults={"approval": "auto"}).evaluate(nothing)
    assert (decision.approval, decision.risk_level, decision.matched_rule) == (
        Approval.BLOCK,
        RiskLevel.CRITICAL,
        "<error>",
    )
    assert decision.reason == "the policy could not be evaluated: AttributeError"


def test_a_time_that_is_no_time_is_unknown() -> None:
    one = policy({"conditions": {"time_after": "00:00"}, "approval": "block"}, defaults={"approval": "auto"})
    wrong: Any = "12:00"
    assert one.evaluate(Action("t"), now=wrong).approval == "block"


def test_a_verdict_is_shared_and_a_decision_is_not() -> None:
    one = policy({"name": "a"})
    first, second = Action("t"), Action("t")
    assert one.evaluate(first).verdict is one.evaluate(second).verdict
    assert one.evaluate(second).action is second


def test_names_that_a_model_invents_do_not_fill_the_memory() -> None:
    one = policy({"match": {"type": "delete_*"}, "approval": "block"}, {"approval": "auto"})
    for number in range(5000):
        assert one.evaluate(Action(f"delete_{number}")).approval == "block"
    assert one.evaluate(Action("x" * 10_000)).approval == "auto"
    assert len(one.compiled.plans) <= 1024
    assert max(map(len, one.compiled.plans)) <= 256


def test_long_plans_do_not_fill_the_memory_either() -> None:
    rules = [{"conditions": {"param_eq": {"a": number}}} for number in range(2_000)]
    one = policy(*rules)
    for number in range(300):
        one.compiled.plan(f"tool_{number}")
    assert sum(len(steps) for steps, *_ in one.compiled.plans.values()) <= 200_000
    assert one.evaluate(Action("tool_1", params={"a": 1_999})).matched_rule == "rule_1999"


def test_a_policy_can_be_copied_and_sent_to_another_process() -> None:
    conditions = {"param_matches": {"a": "^x"}, "time_after": "00:00", "timezone": "Asia/Tokyo"}
    one = policy({"name": "a", "match": {"type": "t*"}, "conditions": conditions})
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same == one
        assert same.rules == one.rules
        assert same.evaluate(Action("t", params={"a": "xy"})).matched_rule == "a"


def test_a_policy_cannot_be_changed() -> None:
    one = policy()
    with pytest.raises(AttributeError, match="a Policy is immutable"):
        one.documents = ()
    with pytest.raises(AttributeError, match="a Policy is immutable"):
        one.more = 1  # type: ignore[attr-defined]


def test_the_time_is_a_parameter() -> None:
    """Inventory 32: the same action, policy and time give the same decision."""
    one = policy({"name": "late", "conditions": {"time_after": "18:00"}, "approval": "block"})
    action = Action("t")
    late = datetime(2026, 3, 4, 18, tzinfo=UTC)
    assert one.evaluate(action, now=late) == one.evaluate(action, now=late)
    assert one.evaluate(action, now=late).matched_rule == "late"
    assert one.evaluate(action, now=late.replace(hour=17)).matched_rule == "<default>"
