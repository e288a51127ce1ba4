"""Rules about whom an agent acts for: `match.user`, `match.tenant` and `match.role`."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy, PolicyError, Subject
from aegis_otel.policy.evaluation.evaluator import decide
from aegis_otel.policy.explain import Match, explain
from aegis_otel.policy.lint import lint
from aegis_otel.policy.loading.schema import json_schema

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
UNKNOWN = "unknown"


def policy(*rules: dict[str, Any], default: str = "approve") -> Policy:
    return Policy.from_dict(
        {"version": "1", "defaults": {"approval": default, "risk_level": "low"}, "rules": list(rules)}
    )


def rule(approval: str, name: str = "r", **match: Any) -> dict[str, Any]:
    return {"name": name, "match": {"type": "t", **match}, "approval": approval}


def answer(match: dict[str, Any], subject: Subject | None) -> bool | str:
    """Whether the rule matches: True, False or unknown, by the plan and by the three-valued tests alike."""
    allowing = policy(rule("auto", **match), default="block")
    action = Action("t", subject=subject)
    verdict = allowing.evaluate(action, now=NOW).verdict
    assert verdict == decide(allowing.compiled, action, NOW)[0]
    assert verdict == allowing.evaluate(action, now=NOW).verdict
    blocking = policy(rule("block", **match), default="auto").evaluate(action, now=NOW).verdict
    if verdict.errors:
        assert (verdict.approval, blocking.approval) == ("block", "block")  # the stricter verdict, both times
        return UNKNOWN
    assert (verdict.approval == "auto") == (blocking.approval == "block")
    return verdict.approval == "auto"


@pytest.mark.parametrize(
    ("match", "subject", "expected"),
    [
        ({"user": "alice"}, Subject("alice"), True),
        ({"user": "alice"}, Subject("Alice"), False),
        ({"user": ["bob", "al*"]}, Subject("alice"), True),
        ({"user": "*@example.com"}, Subject("a@example.com"), True),
        ({"user": "*@example.com"}, Subject("a@example.com.evil"), False),
        ({"user": "a?ice"}, Subject("alice"), True),
        ({"user": "*"}, Subject("alice"), True),
        ({"user": "alice"}, Subject(), UNKNOWN),
        ({"user": "alice"}, None, UNKNOWN),
        ({"user": "a*"}, Subject(tenant="acme"), UNKNOWN),
        ({"user": "*"}, None, UNKNOWN),
        ({"tenant": "acme"}, Subject("alice", "acme"), True),
        ({"tenant": "acme"}, Subject("alice", "globex"), False),
        ({"tenant": "acme*"}, Subject("alice"), UNKNOWN),
        ({"role": "admin"}, Subject(roles=("admin", "clerk")), True),
        ({"role": ["a*", "b*"]}, Subject(roles=("clerk", "boss")), True),
        ({"role": "admin"}, Subject(roles=("clerk",)), False),
        ({"role": "admin"}, Subject(roles=()), False),
        ({"role": "*"}, Subject(roles=()), False),
        ({"role": "admin"}, Subject("alice"), UNKNOWN),
        ({"role": "admin"}, None, UNKNOWN),
        ({"user": "alice", "role": "admin"}, Subject("bob"), False),  # false whatever the roles are
        ({"user": "alice", "tenant": "acme", "role": "x"}, Subject("alice", "acme", ("x",)), True),
    ],
)
def test_who_is_matched(match: dict[str, Any], subject: Subject | None, expected: object) -> None:
    assert answer(match, subject) == expected


NAMES = st.one_of(st.none(), st.text(min_size=1, max_size=3))
SUBJECTS = st.one_of(
    st.none(),
    st.builds(Subject, NAMES, NAMES, st.one_of(st.none(), st.lists(st.text(min_size=1, max_size=3)))),
)
GLOBS = st.text("ab*?é", min_size=1, max_size=4)


@given(
    st.fixed_dictionaries({}, optional={"user": GLOBS, "tenant": GLOBS, "role": GLOBS, "agent": GLOBS}),
    SUBJECTS,
)
def test_the_plan_says_what_the_three_valued_tests_say(match: dict[str, str], subject: Any) -> None:
    made = policy(rule("block", **match), rule("auto", "other"))
    action = Action("t", agent="a", subject=subject)
    assert made.evaluate(action, now=NOW).verdict == decide(made.compiled, action, NOW)[0]


def test_what_is_unknown_is_said() -> None:
    made = policy(rule("auto", "mine", tenant="acme"), default="block")
    verdict = made.evaluate(Action("t", subject=Subject("alice")), now=NOW).verdict
    assert verdict.errors == (
        "rule `mine`: `match.tenant` is unknown: the tenant that the agent acts for is not known",
    )
    by_role = policy(rule("auto", "mine", role="admin"), default="block")
    (error,) = by_role.evaluate(Action("t", subject=Subject("alice")), now=NOW).verdict.errors
    assert error.endswith("the role of the user that the agent acts for is not known")
    assert verdict.advice == ""  # the model cannot say for whom it acts


def test_the_explanation_has_each_test() -> None:
    made = policy(rule("auto", "clerks", user="a*", role=["clerk", "boss"]))
    told = explain(made, Action("t", subject=Subject("alice", None, ("boss",))), NOW).rules[0]
    assert told.match is Match.YES
    assert [(check.label, check.wanted, check.answer) for check in told.checks[1:]] == [
        ("`match.user`", "`a*`", True),
        ("`match.role`", "`clerk` or `boss`", True),
    ]
    hidden = explain(
        *(made, Action("t", subject=Subject("alice", None, ("boss",))), NOW),
        is_hidden=lambda value: value == "boss",
    ).rules[0]
    assert hidden.match is Match.UNKNOWN


def test_the_digest_covers_the_subject_and_no_older_policy_has_another() -> None:
    plain = policy(rule("auto"))
    assert plain.digest == "sha256:a84d59dc8e5802e4d52d6376dc6bacc53506850f1a5ba400c3c4003a02172668"
    digests = {
        policy(rule("auto", **match)).digest
        for match in ({}, {"user": "a"}, {"tenant": "a"}, {"role": "a"}, {"user": "*"}, {"user": ["a", "b"]})
    }
    assert len(digests) == 6
    assert pickle.loads(pickle.dumps(policy(rule("auto", user="a")))).digest in digests


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("users: alice", "unknown key `users` in `match` (did you mean `user`?)"),
        ("roles: [admin]", "unknown key `roles` in `match` (did you mean `role`?)"),
        ("tenant_id: a", "unknown key `tenant_id` in `match` (did you mean `tenant`?)"),
        ("group: a", "unknown key `group` in `match` (did you mean `role`?)"),
        ("user: 7", "`match.user` must be text or a list of texts, not the number `7`"),
        ("role: []", "`match.role` must not be empty: leave it out if nothing is meant"),
        ('tenant: ""', "`match.tenant` must have 1 to 1000 characters, not 0"),
    ],
)
def test_what_is_no_subject_is_said_with_its_place(match: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules:\n  - match:\n      {match}\n", "p.yaml")
    (problem,) = caught.value.problems
    assert str(problem).startswith("p.yaml:3:")
    assert message in str(problem)


def test_a_key_of_match_that_stands_in_the_rule_is_sent_there() -> None:
    with pytest.raises(PolicyError, match=r"did you mean `match: { tenant: .acme. }`"):
        Policy.from_text("rules:\n  - tenant: acme\n")


def test_the_json_schema_takes_what_the_loader_takes() -> None:
    made = {"rules": [{"match": {"user": "a*", "tenant": ["acme", "globex"], "role": "admin"}}]}
    jsonschema.validate(made, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"rules": [{"match": {"role": []}}]}, json_schema())


def test_the_linter_does_not_take_a_rule_for_some_for_a_rule_for_all() -> None:
    """Rules for two tenants neither hide nor contradict each other, and none of them is for everybody."""
    apart = policy(
        rule("auto", "acme", tenant="acme"),
        rule("block", "globex", tenant="globex"),
        rule("approve", "others"),
    )
    assert not [each for each in lint(apart) if each.kind in ("shadowed", "overlap", "split")]
    spelled = policy(
        rule("auto", "acme", tenant="ACME*", ignore_case=True), rule("block", "other", tenant="acme-*")
    )
    assert [each.kind for each in lint(spelled) if each.kind == "overlap"]
    several = policy(rule("auto", "boss", role="boss"), rule("block", "trainee", role="trainee"))
    assert [each.kind for each in lint(several) if each.kind == "overlap"]  # somebody may be both
    low = {"name": "low", "match": {"type": "t", "tenant": "a"}, "approval": "auto"}
    high = {"name": "high", "match": {"type": "t", "tenant": "b"}, "approval": "auto"}
    low["conditions"], high["conditions"] = {"param_lt": {"n": 5}}, {"param_gte": {"n": 5}}
    assert not [each for each in lint(policy(low, high, rule("block", "rest"))) if each.kind == "split"]


def test_the_linter_tries_calls_of_somebody_whom_the_rule_matches() -> None:
    made = policy(
        {
            "name": "fetch",
            "match": {"type": "t", "role": "clerk*", "user": "al?ce"},
            "conditions": {"param_matches": {"url": "https://example.com"}},
            "approval": "auto",
        }
    )
    tools = {"t": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}}
    with_subject = {each.kind for each in lint(made, tools)}
    without = policy(
        {**rule("auto", "fetch"), "conditions": {"param_matches": {"url": "https://example.com"}}}
    )
    assert {"host", "unanchored"} & {each.kind for each in lint(without, tools)} <= with_subject
