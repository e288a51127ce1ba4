"""Who may answer, and until when: what a policy says of it, and what is said where it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.model import Approvers, Verdict

ASKING: dict[str, Any] = {"approval": "approve", "risk_level": "high"}


def policy(*rules: dict[str, Any]) -> Policy:
    return Policy.from_dict({"version": "1", "rules": list(rules)})


def verdict(rule: dict[str, Any]) -> Verdict:
    return policy(ASKING | rule).evaluate(Action("pay")).verdict


def test_the_verdict_says_who_may_answer_and_until_when() -> None:
    found = verdict(
        {
            "approvers": {"users": "ann@example.com", "roles": ["finance", "x*"], "count": 2, "self": True},
            "expires": "15m",
        }
    )
    assert found.approvers == Approvers(("ann@example.com",), ("finance", "x*"), 2, allows_requester=True)
    assert found.expires_s == 900.0


def test_without_the_keys_the_verdict_says_nothing_of_it() -> None:
    found = verdict({})
    assert found.approvers is None
    assert found.expires_s is None
    assert verdict({"approvers": {"count": 1}}).approvers == Approvers()


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [("1s", 1.0), ("30s", 30.0), ("15m", 900.0), ("4h", 14_400.0), ("30d", 2_592_000.0)],
)
def test_durations_are_seconds(expires: str, seconds: float) -> None:
    assert verdict({"expires": expires}).expires_s == seconds


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("approvers: finance", "18: `approvers` must be a mapping, not `finance`"),
        (
            "approvers: {}",
            "18: `approvers` must not be empty: write `{ count: 1 }` for anybody whose name is known (did "
            "you mean `{ count: 1 }`?)",
        ),
        ("approvers: { user: ann }", "20: unknown key `user` in `approvers` (did you mean `users`?)"),
        ("approvers: { groups: [a] }", "20: unknown key `groups` in `approvers` (did you mean `roles`?)"),
        ("approvers: { quorum: 2 }", "20: unknown key `quorum` in `approvers` (did you mean `count`?)"),
        (
            "approvers: { self_review: true }",
            "20: unknown key `self_review` in `approvers` (did you mean `self`?)",
        ),
        (
            "approvers: { users: [] }",
            "27: `approvers.users` must not be empty: leave it out if nothing is meant",
        ),
        (
            "approvers: { roles: 5 }",
            "27: `approvers.roles` must be text or a list of texts, not the number `5`",
        ),
        (
            f"approvers: {{ users: [{', '.join('a' * 101)}] }}",
            "27: `approvers.users` must list 1 to 100 texts, not 101",
        ),
        (
            "approvers: { count: 0 }",
            "27: `approvers.count` must be a whole number from 1 to 20, not the number `0`",
        ),
        (
            'approvers: { count: "2" }',
            "27: `approvers.count` must be a whole number from 1 to 20, not the text `2` (did you mean `2`?)",
        ),
        (
            "approvers: { count: 1.5 }",
            "27: `approvers.count` must be a whole number from 1 to 20, not the number `1.5`",
        ),
        ("approvers: { self: 1 }", "26: `approvers.self` must be `true` or `false`, not the number `1`"),
        ("approver: ann", "7: unknown key `approver` in a rule (did you mean `approvers`?)"),
        ("timeout: 15m", "7: unknown key `timeout` in a rule (did you mean `expires`?)"),
        (
            "expires: 15 minutes",
            "16: `expires` must be `30s`, `15m`, `1h` or `7d` (at most `30d`), not the text `15 minutes` "
            "(did you mean `15m`?)",
        ),
        (
            "expires: 31d",
            "16: `expires` must be `30s`, `15m`, `1h` or `7d` (at most `30d`), not the text `31d`",
        ),
        (
            "expires: 900",
            "16: `expires` must be `30s`, `15m`, `1h` or `7d` (at most `30d`), not the number `900`",
        ),
        (
            "expires: 0s",
            "16: `expires` must be `30s`, `15m`, `1h` or `7d` (at most `30d`), not the text `0s`, "
            "which is no time at all",
        ),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(rule: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules:\n  - {{ {rule} }}\n")
    assert [str(each).removeprefix("<policy>:2:") for each in caught.value.problems] == [problem]


def test_they_do_not_belong_in_defaults() -> None:
    with pytest.raises(PolicyError, match="`approvers` does not belong in `defaults`"):
        Policy.from_dict({"defaults": {"approvers": {"count": 2}}})


def test_each_of_them_changes_the_digest() -> None:
    rules: list[dict[str, Any]] = [
        {},
        {"approvers": {"count": 1}},
        {"approvers": {"count": 2}},
        {"approvers": {"users": "a"}},
        {"approvers": {"roles": "a"}},
        {"approvers": {"users": ["a", "b"]}},
        {"approvers": {"self": True}},
        {"expires": "15m"},
        {"expires": "16m"},
    ]
    assert len({policy(ASKING | each).digest for each in rules}) == len(rules)
    assert policy({"expires": "60m"}) == policy({"expires": "1h"})


def test_the_text_of_a_policy_keeps_them() -> None:
    one = policy({"name": "a", "approvers": {"users": "ann", "count": 2, "self": True}, "expires": "15m"})
    text = one.merge(policy({"name": "b"})).to_yaml()
    assert text is not None
    kept = Policy.from_text(text)
    assert kept.compiled.rules[0].verdict.approvers == Approvers(("ann",), (), 2, allows_requester=True)
    assert kept == one.merge(policy({"name": "b"}))


# --- where it is not known which rule decides ---

FINANCE, BOARD = {"roles": ["finance"]}, {"users": ["*@board"], "count": 2}
SMALL = ASKING | {"name": "small", "match": {"type": "pay"}, "conditions": {"param_lte": {"amount": 10}}}
ANY = ASKING | {"name": "any", "match": {"type": "pay"}}


def of(*rules: dict[str, Any], action: Action) -> Verdict:
    return policy(*rules).evaluate(action).verdict


def test_an_unreadable_argument_takes_no_approver_away() -> None:
    """The rule that may match comes first and asks anybody; the other asks two of the board."""
    rules = (SMALL, ANY | {"approvers": BOARD, "expires": "1h"})
    assert of(*rules, action=Action("pay", params={"amount": 5})).approvers is None
    doubtful = of(*rules, action=Action("pay", params={"amount": "five"}))
    assert doubtful.matched_rule == "small"
    assert doubtful.approvers == Approvers(("*@board",), (), 2)
    assert doubtful.expires_s == 3600.0


def test_where_two_rules_may_decide_each_needs_its_own_yes() -> None:
    rules = (SMALL | {"approvers": FINANCE, "expires": "30m"}, ANY | {"approvers": BOARD, "expires": "1h"})
    doubtful = of(*rules, action=Action("pay", params={"amount": "five"}))
    assert doubtful.approvers == Approvers((), ("finance",), others=(Approvers(("*@board",), (), 2),))
    assert doubtful.expires_s == 1800.0
    certain = of(*rules, action=Action("pay", params={"amount": 50}))
    assert certain.approvers == Approvers(("*@board",), (), 2)


def test_the_approvers_of_all_forms_are_needed() -> None:
    rules = (
        ASKING | {"name": "pay", "match": {"type": "pay"}, "approvers": FINANCE},
        ASKING | {"name": "send", "match": {"type": "send"}, "approvers": BOARD},
    )
    action = Action("pay").qualify([Action("send")])
    assert of(*rules, action=action).approvers == Approvers(
        (), ("finance",), others=(Approvers(("*@board",), (), 2),)
    )


def test_a_stricter_verdict_keeps_its_own_and_a_monitored_rule_asks_nobody() -> None:
    rules = (SMALL | {"approval": "block", "approvers": FINANCE}, ANY | {"approvers": BOARD})
    blocked = of(*rules, action=Action("pay", params={"amount": "five"}))
    assert (blocked.approval.value, blocked.approvers) == ("block", Approvers((), ("finance",)))
    rules = (SMALL | {"mode": "monitor", "approvers": FINANCE}, ANY)
    assert of(*rules, action=Action("pay", params={"amount": 5})).approvers is None
