"""Rules with `mode: monitor`: recorded where nothing else decides, and never looser than without them."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel import Action, Policy
from aegis_otel.model import Mode, PolicyDecision
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.evaluator import beside_monitored, decide, unknowns
from aegis_otel.policy.evaluation.evaluator import tests as answers
from aegis_otel.policy.evaluation.precedence import precedence
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.explain import Match, explain
from tests.policy.test_laws import actions, moments, policies, rules

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WATCHED: dict[str, Any] = {
    "name": "watched",
    "match": {"type": "pay"},
    "conditions": {"param_gt": {"amount": 100}},
    "approval": "block",
    "risk_level": "critical",
    "mode": "monitor",
}
LARGE = Action("pay", params={"amount": 500})
UNKNOWN = Action("pay", params={"amount": "500"})


def decided(action: Action, *others: dict[str, Any], default: str = "auto") -> PolicyDecision:
    """What a policy says whose first rule is monitored; twice, as the second time there is a plan."""
    policy = Policy.from_dict({"defaults": {"approval": default}, "rules": [WATCHED, *others]})
    decision = policy.evaluate(action, now=NOON)
    assert policy.evaluate(action, now=NOON) == decision
    if not action.forms:
        assert beside_monitored(*decide(policy.compiled, action, NOON)) == decision.verdict
    assert explain(policy, action, NOON).verdict == decision.verdict
    return decision


def test_it_decides_where_all_else_is_auto() -> None:
    """The verdict is the rule's, and what is enforced is auto."""
    for decision in (decided(LARGE), decided(LARGE, {"name": "pays", "approval": "auto"})):
        assert (decision.matched_rule, decision.approval, decision.verdict.mode) == (
            *("watched", "block"),
            Mode.MONITOR,
        )
        assert decision.enforced_approval == "auto"
        assert decision.is_allowed
        assert decision.reason == "rule `watched` matched"


@pytest.mark.parametrize("approval", ["approve", "block"])
def test_what_stands_behind_it_is_enforced_as_without_it(approval: str) -> None:
    """A rule and the default; the reason says what the monitored rule would have said."""
    behind = decided(LARGE, {"name": "pays", "match": {"type": "p*"}, "approval": approval})
    assert (behind.matched_rule, behind.enforced_approval, behind.verdict.mode) == (
        *("pays", approval),
        Mode.ENFORCE,
    )
    assert behind.reason == "rule `pays` matched; rule `watched` (monitored) says block"
    default = decided(LARGE, default=approval)
    assert (default.matched_rule, default.enforced_approval) == ("<default>", approval)
    assert default.reason == "no rule matched; rule `watched` (monitored) says block"


def test_where_it_does_not_match_it_changes_nothing() -> None:
    for decision in (decided(Action("pay", params={"amount": 5})), decided(Action("x"))):
        assert (decision.matched_rule, decision.reason) == ("<default>", "no rule matched")


def test_an_unknown_match_lets_nothing_through_that_is_stopped() -> None:
    decision = decided(UNKNOWN)
    assert (decision.matched_rule, decision.enforced_approval) == ("watched", "auto")
    assert decision.reason.startswith("rule `watched` may match, so it counts as a match: ")
    stopped = decided(UNKNOWN, {"name": "pays", "approval": "block"})
    assert (stopped.matched_rule, stopped.enforced_approval) == ("pays", "block")
    doubtful = {"name": "doubtful", "conditions": {"param_eq": {"amount": 1}}, "approval": "approve"}
    asked = decided(UNKNOWN, doubtful)
    assert (asked.matched_rule, asked.enforced_approval) == ("doubtful", "approve")
    certain = decided(LARGE, {**doubtful, "conditions": {"param_eq": {"amount": "1"}}})
    assert (certain.matched_rule, certain.enforced_approval) == ("doubtful", "approve")
    assert certain.reason.endswith("; rule `watched` (monitored) says block")


def test_of_several_the_strictest_is_recorded() -> None:
    asks = {"name": "asks", "approval": "approve", "mode": "monitor"}
    assert decided(LARGE, asks).matched_rule == "watched"
    assert decided(Action("x"), asks).matched_rule == "asks"


def test_an_explanation_asks_the_rules_behind_it() -> None:
    policy = Policy.from_dict({"rules": [WATCHED, {"name": "pays", "approval": "block"}]})
    assert [trace.match for trace in explain(policy, LARGE, NOON).rules] == [Match.YES, Match.YES]


@given(rules, policies, actions, moments)
@settings(max_examples=200)
def test_a_monitored_rule_changes_nothing_that_is_enforced(
    rule: dict[str, Any], policy: dict[str, Any], action: Action, now: datetime
) -> None:
    """Whatever the rule, the policy and the action are."""
    without = Policy.from_dict(policy)
    watched = Policy.from_dict({"rules": [{**rule, "name": "watched", "mode": "monitor"}]}).merge(without)
    for _ in range(2):
        expected = without.evaluate(action, now=now)
        decision = watched.evaluate(action, now=now)
        assert decision.enforced_approval is expected.enforced_approval
        assert decision.verdict.mode is Mode.MONITOR or precedence(decision.verdict) == precedence(
            expected.verdict
        )


# --- a call in several forms: under other names, or with validated arguments ---

AUTO, MONITORED, ENFORCED = Action("read"), LARGE, Action("drop")
DROPS = {"name": "drops", "match": {"type": "drop"}, "approval": "block", "risk_level": "medium"}
NOTE = "; rule `watched` (monitored) says block"


@pytest.mark.parametrize(
    ("first", "others", "expected"),
    [
        (MONITORED, [AUTO], ("watched", "auto", "rule `watched` matched")),
        (AUTO, [MONITORED], ("watched", "auto", "rule `watched` matched")),
        (ENFORCED, [MONITORED], ("drops", "block", f"rule `drops` matched{NOTE}")),
        (MONITORED, [ENFORCED], ("drops", "block", f"rule `drops` matched{NOTE}")),
        (MONITORED, [AUTO, ENFORCED, MONITORED], ("drops", "block", f"rule `drops` matched{NOTE}")),
        (UNKNOWN, [ENFORCED], ("drops", "block", f"rule `drops` matched{NOTE}")),
        (AUTO, [ENFORCED], ("drops", "block", "rule `drops` matched")),
    ],
)
def test_it_is_recorded_whichever_form_it_matches(
    first: Action, others: list[Action], expected: tuple[str, str, str]
) -> None:
    action = copy.copy(first).qualify(others)
    decision = decided(action, DROPS)
    assert (decision.matched_rule, decision.enforced_approval, decision.reason) == expected


def test_what_several_monitored_rules_say_stands_in_the_order_of_the_forms() -> None:
    asks = {"name": "asks", "match": {"type": "r*"}, "approval": "approve", "mode": "monitor"}
    action = copy.copy(AUTO).qualify([MONITORED, AUTO, ENFORCED])
    decision = decided(action, asks, DROPS)
    assert decision.reason == f"rule `drops` matched; rule `asks` (monitored) says approve{NOTE}"


def test_a_rule_that_may_match_says_what_it_would_enforce() -> None:
    """An unknown match counts as one, and the errors have why it is unknown."""
    decision = decided(UNKNOWN, default="approve")
    assert decision.reason == f"no rule matched{NOTE}"
    assert decision.errors == (
        "rule `watched`: `param_gt` on `amount` is unknown: the value is text, not a number",
    )


named_rules = st.lists(st.tuples(rules, st.booleans()), max_size=6).map(
    lambda made: [
        {**rule, "name": f"r{number}", **({"mode": "monitor"} if monitored else {})}
        for number, (rule, monitored) in enumerate(made)
    ]
)
defaults = st.fixed_dictionaries({"approval": st.sampled_from(["auto", "approve", "block"])})
several = st.builds(
    lambda first, others, doubt: first.qualify(others, doubt),
    actions,
    st.lists(actions, max_size=3),
    st.sampled_from([None, None, None, "the arguments are not a JSON object"]),
)


def heard(policy: Policy, form: Action, now: datetime) -> list[CompiledRule]:
    """The monitored rules that match a form, or may, before a rule that decides."""
    found = []
    for rule in policy.compiled.rules:
        schema = None if form.schema is None else SchemaReader(form.schema)
        unknown = unknowns(answers(rule, form, now, schema))
        if unknown is not None and rule.verdict.mode is Mode.MONITOR:
            found.append(rule)
        elif unknown == []:
            break
    return found


@given(named_rules, defaults, several, moments)
@settings(max_examples=400)
def test_a_rule_is_recorded_and_not_enforced_whatever_the_forms_are(
    rules: list[dict[str, Any]], defaults: dict[str, Any], action: Action, now: datetime
) -> None:
    """By `evaluate` and by `explain`, and what is enforced is what the policy without these rules says."""
    policy = Policy.from_dict({"defaults": defaults, "rules": rules})
    enforcing = [each for each in rules if "mode" not in each]
    expected = Policy.from_dict({"defaults": defaults, "rules": enforcing}).evaluate(action, now=now)
    found: dict[str, CompiledRule] = {}
    for form in (action, *action.forms):
        found |= {rule.name: rule for rule in heard(policy, form, now)}
    for _ in range(2):
        decision = policy.evaluate(action, now=now)
        assert explain(policy, action, now).verdict == decision.verdict
        assert decision.enforced_approval is expected.enforced_approval
        if found and expected.approval == "auto":
            assert decision.verdict.mode is Mode.MONITOR
            assert precedence(decision.verdict) == max(precedence(each.verdict) for each in found.values())
            assert decision.matched_rule in found
            continue
        assert (decision.matched_rule, decision.approval, decision.risk_level, decision.verdict.mode) == (
            *(expected.matched_rule, expected.approval, expected.risk_level, Mode.ENFORCE),
        )
        says = [f"; rule `{name}` (monitored) says {rule.verdict.approval}" for name, rule in found.items()]
        assert decision.reason == expected.reason + "".join(says)
        assert set(expected.errors) <= set(decision.errors)
