"""`any` and `not`: three-valued, in both ways of deciding, explained and in the digest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from aegis_otel import Action, Policy
from aegis_otel.policy.explain import Check, explain
from tests.support.conditions import answer

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
YES, NO, DOUBT = {"param_eq": {"yes": 1}}, {"param_eq": {"no": 2}}, {"param_eq": {"doubt": 1}}
PARAMS = {"yes": 1, "no": 1, "doubt": "1"}
WHY = "`param_eq` on `doubt` is unknown: the value is text, not a number"


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ({"any": [YES]}, True),
        ({"any": [NO]}, False),
        ({"any": [DOUBT]}, WHY),
        ({"any": [NO, YES]}, True),
        ({"any": [NO, NO]}, False),
        ({"any": [DOUBT, YES]}, True),
        ({"any": [YES, DOUBT]}, True),
        ({"any": [NO, DOUBT]}, WHY),
        ({"any": [{**YES, "param_gt": {"no": 5}}, {"param_eq": {"yes": 1, "no": 1}}]}, True),
        ({"any": [{"param_eq": {"yes": 1, "doubt": 1}}]}, WHY),
        ({"any": [{"param_eq": {"no": 2, "doubt": 1}}]}, False),
        ({"any": [{"param_eq": {"doubt": 1, "no": 2}}]}, False),
        ({"not": YES}, False),
        ({"not": NO}, True),
        ({"not": DOUBT}, WHY),
        ({"not": {"param_eq": {"yes": 1, "no": 2}}}, True),
        ({"not": {"param_eq": {"no": 2, "doubt": 1}}}, True),
        ({"not": {"any": [NO, NO]}}, True),
        ({"not": {"any": [NO, DOUBT]}}, f"`any` is unknown: {WHY}"),
        ({"not": {"any": [YES, DOUBT]}}, False),
        ({"not": {"not": YES}}, True),
        ({"not": {"param_eq": {"absent": 1}}}, True),
        ({**YES, "any": [NO], "not": NO}, False),
        ({**YES, "any": [YES], "not": NO}, True),
        ({**NO, "any": [DOUBT]}, False),
        ({"any": [{"time_after": "13:00"}, {"weekdays": ["wed"]}]}, True),
        ({"not": {"time_after": "09:00", "time_before": "17:00"}}, False),
    ],
)
def test_groups_are_three_valued(condition: dict[str, Any], result: bool | str) -> None:
    assert answer(condition, PARAMS, now=NOON) == result


def test_the_time_zone_around_a_group_holds_in_it() -> None:
    """As anyone would read it; a set with a zone of its own keeps that."""
    late = {"timezone": "Asia/Tokyo", "any": [{"time_after": "20:00"}, {"weekdays": ["sun"]}]}
    assert answer(late, {}, now=NOON) is True  # 21:00 in Tokyo
    assert answer({"any": late["any"]}, {}, now=NOON) is False
    own = {"timezone": "Asia/Tokyo", "any": [{"time_after": "20:00", "timezone": "UTC"}]}
    assert answer(own, {}, now=NOON) is False


def test_the_tools_schema_is_asked_in_a_group() -> None:
    """A typo is unknown, another spelling is unknown, what the tool may leave out is absent."""
    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}, "additionalProperties": True}
    closed = {"type": "object", "properties": {"amount": {"type": "integer"}}, "additionalProperties": False}
    small = {"not": {"param_gt": {"amount": 5}}}
    assert answer(small, {}, closed) is True
    assert answer({"not": {"param_gt": {"amont": 5}}}, {}, closed).endswith("the tool has no such parameter")
    spelled = answer(small, {"Amount": 50}, schema)
    assert spelled == (
        "`param_gt` on `amount` is unknown: a key that the tool does not list could be another spelling of it"
    )


def test_a_comparison_that_fails_makes_no_other_member_unknown() -> None:
    """The year 1 has no morning west of Greenwich."""
    window = {"time_after": "08:00", "timezone": "America/New_York"}
    assert answer({"any": [window, YES]}, PARAMS, now=datetime.min) is True
    failed = "the time window is unknown: the comparison failed with OverflowError"
    assert answer({"any": [window, NO]}, PARAMS, now=datetime.min) == failed


def test_the_advice_to_the_model_names_what_was_not_read() -> None:
    rule = {"conditions": {"any": [NO, {"not": {"param_gt": {"doubt": 5}}}]}, "approval": "block"}
    decision = Policy.from_dict({"rules": [rule]}).evaluate(Action("t", params=PARAMS))
    assert decision.verdict.advice == "The policy could not read parameter `doubt`: expected a number."


def test_a_policy_knows_what_its_groups_read() -> None:
    timed = Policy.from_dict({"rules": [{"conditions": {"not": {"any": [{"weekdays": [1]}]}}}]})
    assert timed.reads_time
    assert not timed.reads_arguments("t")
    tested = Policy.from_dict({"rules": [{"conditions": {"not": {"any": [YES]}}}]})
    assert tested.reads_arguments("t")
    assert not tested.reads_time


def test_the_digest_covers_groups() -> None:
    forms: list[dict[str, Any]] = [
        {**YES},
        {"any": [YES]},
        {"not": YES},
        {"any": [YES, NO]},
        {"any": [{"param_eq": {"yes": 1, "no": 2}}]},
        {"not": {"any": [YES]}},
        {"any": [{"not": YES}]},
        {"any": [YES], "not": NO},
        {**NO, "any": [YES]},
        {"any": [{"weekdays": [1]}]},
        {"any": [{"weekdays": [1], "timezone": "Asia/Tokyo"}]},
    ]
    policies = [Policy.from_dict({"rules": [{"conditions": form}]}) for form in forms]
    assert len({each.digest for each in policies}) == len(forms)
    swapped = [{"not": NO, "any": [YES]}, {"any": [YES], "not": NO}]
    one, other = (Policy.from_dict({"rules": [{"conditions": form}]}) for form in swapped)
    assert one == other


def test_an_explanation_shows_the_tests_in_groups() -> None:
    """A group's own answer, then what is in it, up to what decided."""
    policy = Policy.from_dict(
        {"rules": [{"conditions": {"any": [NO, YES, DOUBT], "not": {"param_eq": {"doubt": 1}}}}]}
    )
    checks = explain(policy, Action("t", params=PARAMS), NOON).rules[0].checks
    assert checks == (
        Check("`any`", "one of 3", True),
        Check("item 1", "all of it", False, 1),
        Check("`param_eq` on `no`", "the number `2`", False, 2),
        Check("item 2", "all of it", True, 1),
        Check("`param_eq` on `yes`", "the number `1`", True, 2),
        Check("`not`", "this", WHY),
        Check("`param_eq` on `doubt`", "the number `1`", "the value is text, not a number", 1),
    )
    hidden = explain(
        policy, Action("t", params={**PARAMS, "yes": "***"}), NOON, is_hidden=lambda value: value == "***"
    )
    why = "`param_eq` on `yes` is unknown: the value it looks at is redacted"
    assert hidden.rules[0].checks[0] == Check("`any`", "one of 3", why)
    assert hidden.verdict.errors[0] == f"rule `rule_0`: `any` is unknown: {why}"


WIDTH = 5_000
MANY = [{"param_eq": {"no": number}} for number in range(2, WIDTH)]


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ({"any": MANY}, False),
        ({"any": [*MANY, YES]}, True),
        ({"any": [YES, *MANY]}, True),
        ({"any": [*MANY[:99], YES, *MANY]}, True),
        ({"any": [*MANY[:99], DOUBT, *MANY]}, WHY),
        ({"any": [*MANY[:99], DOUBT, *MANY, YES]}, True),
        ({"any": [{"any": MANY}, {"not": {"any": MANY}}]}, True),
        ({"param_lt": {f"p{number}": 1 for number in range(WIDTH)}}, True),
        ({"param_lt": {**{f"p{number}": 1 for number in range(WIDTH)}, "no": 1}}, False),
        ({"not": {"param_lt": {f"p{number}": 1 for number in range(WIDTH)}}}, False),
    ],
)
def test_many_members_are_asked_as_a_few_are(condition: dict[str, Any], result: bool | str) -> None:
    params = PARAMS | {f"p{number}": 0 for number in range(WIDTH)}
    assert answer(condition, params, now=NOON) == result


@pytest.mark.parametrize(
    ("match", "conditions"),
    [
        ({}, {"any": MANY}),
        ({}, {"any": [{"not": {"any": [{**YES, "any": MANY[:100]}] * 20}}] * 20}),
        ({}, {"param_lt": {f"p{number}": 1 for number in range(WIDTH)}}),
        ({"target": [f"a{number}*b" for number in range(WIDTH)]}, {}),
        ({"user": [f"a{number}*b" for number in range(WIDTH)]}, {}),
    ],
    ids=["any", "nested", "and", "target", "user"],
)
def test_no_generated_function_grows_with_a_policy(match: Any, conditions: dict[str, Any]) -> None:
    """Python takes a time that grows with the square of a function's constants to compile it."""
    rule = {"match": {"type": "t"} | match, "conditions": conditions or YES, "approval": "block"}
    (compiled,) = Policy.from_dict({"rules": [rule]}).compiled.rules
    assert largest(compiled.applies) <= 200


def largest(function: Any) -> int:
    """The most constants of a generated function, and of those that it calls."""
    inner = [cell.cell_contents for cell in function.__closure__ or ()]
    return max([len(inner), *(largest(each) for each in inner if getattr(each, "__name__", "") == "applies")])


def test_many_targets_are_compared_as_a_few_are() -> None:
    targets = [f"a{number}*b" for number in range(WIDTH)]
    policy = Policy.from_dict({"rules": [{"match": {"type": "t", "target": targets}, "approval": "block"}]})
    for target, rule in (("a4999-b", "rule_0"), ("a0b", "rule_0"), ("a5000c", "<default>")):
        assert policy.evaluate(Action("t", target)).matched_rule == rule
