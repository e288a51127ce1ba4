"""Rules with `mode: monitor`: recorded where nothing else decides, and never looser than without them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from aegis_otel import Action, Policy
from aegis_otel.model import Mode, PolicyDecision
from aegis_otel.policy.evaluation.evaluator import decide, strictness
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
    assert decide(policy.compiled, action, NOON) == decision.verdict
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
        assert decision.verdict.mode is Mode.MONITOR or strictness(decision.verdict) == strictness(
            expected.verdict
        )
