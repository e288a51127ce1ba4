"""Conditions on the calls that went before: three-valued, in both ways of deciding, and in the digest."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy
from aegis_otel.governance.approvals.question import is_yes_to
from aegis_otel.model import Approval, Past, RiskLevel, SeriesQuery, Subject, Tally, Verdict, Where
from aegis_otel.policy.evaluation.evaluator import decide
from aegis_otel.policy.evaluation.precedence import takes_precedence
from aegis_otel.policy.explain import explain
from aegis_otel.policy.history.series_queries import marks_of, queries_of
from tests.policy.test_laws import actions, params, values
from tests.support.history import ANN, NOON, WHERE, blocking, past_of

CALLS = {"calls_over": {"limit": 3, "within": "1h"}}
TOTAL = {"total_over": {"param": "amount", "limit": 500, "within": "24h"}}
TOKENS = {"tokens_over": {"limit": 1000, "within": "run"}}
AFTER = {"after": {"type": "read_*", "within": "conversation"}}
REPEATS = {"repeats": {"by": ["order_id"], "within": "7d"}}
EACH = [CALLS, TOTAL, TOKENS, AFTER, REPEATS]
PARAMS = {"amount": 100, "order_id": "A1"}
NOT_KNOWN = "the calls that went before are not known"
OPEN = "how such a call before it ended is not known"


def name_of(condition: dict[str, Any]) -> str:
    return next(iter(condition))


def verdict(policy: Policy, action: Action) -> Any:
    """True, False, or why it is unknown: read from a decision, which is made in three ways."""
    decision = policy.evaluate(action, now=NOON)
    assert policy.evaluate(action, now=NOON) == decision  # the second time, by the plan
    assert decide(policy.compiled, action, NOON)[0] == decision.verdict
    assert explain(policy, action, NOON).verdict == decision.verdict
    if decision.errors:
        assert decision.approval == "block"
        (error,) = decision.errors
        return error.partition(" is unknown: ")[2]
    return decision.approval == "block"


def answer(
    condition: dict[str, Any],
    tally: Tally | None = None,
    action: Action | None = None,
    where: Where = WHERE,
) -> Any:
    """What a condition answers where each of its queries has the answer `tally`."""
    policy = blocking(condition)
    action = action or Action("pay", params=PARAMS, subject=ANN)
    past = past_of(policy, action, tally or Tally(), where)
    return verdict(policy, action.with_past(past))


@pytest.mark.parametrize(
    ("condition", "tally", "result"),
    [
        (CALLS, Tally(), False),
        (CALLS, Tally(2), False),
        (CALLS, Tally(3), True),
        (CALLS, Tally(4, succeeded=1, failed=1), True),
        ({"calls_over": {"limit": 0, "within": "1s"}}, Tally(), True),
        (TOTAL, Tally(5, total=400_000_000), False),
        (TOTAL, Tally(5, total=400_000_001), True),
        (TOTAL, Tally(), False),
        (TOKENS, Tally(1, total=1_000_000_000), False),  # the run's own, which 100 makes no less
        (TOKENS, Tally(1, total=1_000_000_001), True),
        (REPEATS, Tally(), False),
        (REPEATS, Tally(1), True),
        (REPEATS, Tally(1, failed=1), True),
        (AFTER, Tally(), False),
        (AFTER, Tally(1), OPEN),
        (AFTER, Tally(1, succeeded=1), True),
        (AFTER, Tally(1, failed=1), True),
        (AFTER, Tally(2, failed=1), True),
        ({"not": CALLS}, Tally(2), True),
        ({"not": CALLS}, Tally(3), False),
        ({"not": AFTER}, Tally(), True),
        ({"not": AFTER}, Tally(1), f"`after` is unknown: {OPEN}"),
        ({"any": [CALLS, REPEATS]}, Tally(1), True),
        ({"any": [CALLS, REPEATS]}, Tally(), False),
        ({**CALLS, "param_eq": {"amount": 5}}, Tally(9), False),
        ({**CALLS, "param_eq": {"amount": 100}}, Tally(9), True),
    ],
)
def test_each_condition_answers_from_what_went_before(
    condition: dict[str, Any], tally: Tally, result: bool | str
) -> None:
    assert answer(condition, tally) == result


@pytest.mark.parametrize(
    ("result", "tally", "expected"),
    [
        ("success", Tally(2, succeeded=1), True),
        ("success", Tally(2, failed=2), False),
        ("success", Tally(2, failed=1), OPEN),
        ("failed", Tally(2, failed=1), True),
        ("failed", Tally(2, succeeded=2), False),
        ("failed", Tally(2, succeeded=1), OPEN),
        ("failed", Tally(), False),
    ],
)
def test_after_a_result(result: str, tally: Tally, expected: bool | str) -> None:
    assert answer({"after": {**AFTER["after"], "result": result}}, tally) == expected


@pytest.mark.parametrize("condition", EACH, ids=name_of)
def test_all_are_unknown_where_nothing_is_known(condition: dict[str, Any]) -> None:
    """Without a past, with a past that failed, and with one that answers other queries."""
    policy, action = blocking(condition), Action("pay", params=PARAMS, subject=ANN)
    assert verdict(policy, action) == NOT_KNOWN
    assert verdict(policy, action.with_past(Past(WHERE, {}))) == NOT_KNOWN
    assert verdict(policy, action.with_past(Past(WHERE, {SeriesQuery("other"): Tally()}))) == NOT_KNOWN
    answered = past_of(policy, action, Tally()).tallies
    failed = Past(WHERE, answered, failure="the state cannot be reached")
    assert verdict(policy, action.with_past(failed)) == "the state cannot be reached"


@pytest.mark.parametrize("group", [False, True])
def test_the_message_of_a_rule_is_not_told_where_it_is_not_known_what_went_before(group: bool) -> None:
    """It may say what is not so: that the order was paid."""
    conditions = {"any": [REPEATS, {"param_gt": {"amount": 1000}}]} if group else REPEATS
    rule = {"name": "once", "match": {"type": "pay"}, "conditions": conditions, "risk_level": "high"}
    policy = Policy.from_dict({"version": "1", "rules": [rule | {"approval": "block", "message": "Paid."}]})
    action = Action("pay", params=PARAMS, subject=ANN)
    told = policy.evaluate(action.with_past(past_of(policy, action, Tally(1, succeeded=1))), now=NOON).verdict
    assert (told.message, told.advice) == ("Paid.", "")
    verdict = policy.evaluate(action, now=NOON).verdict
    unchecked = "It could not be checked whether this rule applies to the call."
    assert (verdict.matched_rule, verdict.message, verdict.advice) == ("once", "", unchecked)
    unread = Action("pay", params={"amount": "much", "order_id": "A1"}, subject=ANN)
    verdict = policy.evaluate(unread, now=NOON).verdict
    sentence = " The policy could not read parameter `amount`: expected a number." if group else ""
    assert (verdict.message, verdict.advice) == ("", unchecked + sentence)


LACKING = "The policy could not read parameter `order_id`: expected text, a number or a boolean."
NO_AMOUNT = (
    "The policy could not read parameter `amount`: "
    "expected a number of 0 or more, with at most six digits after the point."
)


@pytest.mark.parametrize(
    ("params", "sentences"),
    [
        ({"amount": 5, "order_id": "A1"}, []),
        ({"amount": 5}, [LACKING]),
        ({"amount": 5, "order_id": ["A1"]}, [LACKING]),
        ({"amount": "5", "order_id": "A1"}, [NO_AMOUNT]),
        ({"amount": -5}, [LACKING, NO_AMOUNT]),
        ({}, [LACKING, NO_AMOUNT]),
    ],
)
def test_the_model_reads_which_parameter_a_condition_on_earlier_calls_lacks(
    params: dict[str, Any], sentences: list[str]
) -> None:
    total = {"total_over": {"param": "amount", "limit": 100, "by": ["order_id", "user"], "within": "1d"}}
    policy, action = blocking(total), Action("pay", params=params, subject=ANN)
    advice = policy.evaluate(action.with_past(past_of(policy, action, Tally())), now=NOON).verdict.advice
    unchecked = "It could not be checked whether this rule applies to the call."
    assert advice == " ".join([unchecked, *sentences] if sentences else [])


def test_no_parameter_is_named_that_the_tool_does_not_have() -> None:
    policy = blocking({"repeats": {"by": ["order_id"], "within": "1d"}})
    schema = {"type": "object", "properties": {"amount": {"type": "number"}}, "additionalProperties": False}
    action = Action("pay", params={"amount": 5}, schema=schema)
    advice = policy.evaluate(action.with_past(Past(WHERE, {})), now=NOON).verdict.advice
    assert advice == "It could not be checked whether this rule applies to the call."


def test_a_condition_beside_one_that_is_false_takes_no_message() -> None:
    """Whether the rule matches depends on the fee alone."""
    either = [{"param_gt": {"amount": 1000}, **REPEATS}, {"param_gt": {"fee": 1}}]
    rule = {"name": "fees", "match": {"type": "pay"}, "conditions": {"any": either}, "risk_level": "high"}
    policy = Policy.from_dict(
        {"version": "1", "rules": [rule | {"approval": "block", "message": "Ask first."}]}
    )
    verdict = policy.evaluate(Action("pay", params=PARAMS | {"fee": "much"}), now=NOON).verdict
    advice = "The policy could not read parameter `fee`: expected a number."
    assert (verdict.message, verdict.advice) == ("Ask first.", advice)


@pytest.mark.parametrize("repeats_first", [False, True])
def test_a_repetition_is_asked_about_each_time_whichever_rule_is_named(repeats_first: bool) -> None:
    """A yes to the other rule would else count for later calls, which may be repetitions as well."""
    risk = ["critical", "high"] if repeats_first else ["high", "critical"]
    repeated = {"name": "twice", "conditions": REPEATS, "risk_level": risk[0], "approval": "approve"}
    large = {"conditions": {"param_gt": {"amount": 1000}}, "risk_level": risk[1], "approval": "approve"}
    for rules, asks_each_time in ([repeated, large], True), ([large], False):
        policy = Policy.from_dict({"version": "1", "rules": rules})
        verdict = policy.evaluate(Action("pay", params=PARAMS | {"amount": "much"}, subject=ANN)).verdict
        assert (verdict.approval, verdict.asks_each_time) == (Approval.APPROVE, asks_each_time)


def test_a_repetition_takes_precedence_over_a_yes_that_may_be_a_grant() -> None:
    """As of a call that looks otherwise behind a wrapper, or while the policy changed."""
    once = Verdict(Approval.APPROVE, RiskLevel.HIGH, "r")
    each_time = msgspec.structs.replace(once, asks_each_time=True)
    assert takes_precedence(each_time, over=once)
    assert not takes_precedence(once, over=each_time)
    assert not takes_precedence(each_time, over=each_time)
    assert not takes_precedence(each_time, over=Verdict(Approval.BLOCK, RiskLevel.HIGH, "r"))
    assert not is_yes_to(each_time, once)
    assert is_yes_to(once, each_time)
    assert is_yes_to(each_time, each_time)


@pytest.mark.parametrize("approval", ["auto", "approve", "block"])
def test_unknown_takes_the_stricter_verdict(approval: str) -> None:
    """An `auto` rule for what is not over a limit allows nothing where the count is not known."""
    policy = Policy.from_dict(
        {
            "defaults": {"approval": approval},
            "rules": [{"name": "r", "conditions": {"not": CALLS}, "approval": "auto"}],
        }
    )
    assert policy.evaluate(Action("pay")).approval == approval


@pytest.mark.parametrize(
    ("amount", "result"),
    [
        (100, False),
        (100.5, True),
        (0, False),
        (0.1, False),
        (1e2, False),
        (-0.0, False),
        ("100", "the value is text, not a number"),
        (True, "the value is a boolean, not a number or text"),
        (None, "the value is null"),
        ([1], "the value is a list, not a number or text"),
        (-1, "the number is negative"),
        (0.0000001, "the number has more than six digits after the point"),
        (9e12, True),
        (9e12 + 1, "the number is too large"),
        (10**400, "the number is too large"),
        (1e300, "the number has too many digits, or is none"),
        (float("nan"), "the number has too many digits, or is none"),
        (float("inf"), "the number has too many digits, or is none"),
    ],
    ids=repr,
)
def test_the_amount_is_a_plain_number(amount: object, result: bool | str) -> None:
    """No value is in the reason."""
    action = Action("pay", params={"amount": amount})
    found = answer(TOTAL, Tally(4, total=400_000_000), action)
    known = "the amount in `amount` is not known: "
    assert found == (f"{known}{result}" if isinstance(result, str) else result)


@pytest.mark.parametrize(
    ("amount", "result"),
    [("100", False), ("100.000001", True), (100, False), ("100.0000001", "six digits"), ("1e2", "decimal")],
)
def test_the_amount_in_text_is_read_by_a_step(amount: object, result: bool | str) -> None:
    condition = {"total_over": {**TOTAL["total_over"], "param": "amount[number]"}}
    found = answer(condition, Tally(4, total=400_000_000), Action("pay", params={"amount": amount}))
    assert result in found if isinstance(result, str) else found is result


def test_floats_add_up_as_they_are_written() -> None:
    """0.1 and 0.2 are 0.3, and not more."""
    limit = {"total_over": {"param": "amount", "limit": 0.3, "within": "1h"}}
    assert answer(limit, Tally(1, total=200_000), Action("pay", params={"amount": 0.1})) is False
    assert answer(limit, Tally(1, total=200_001), Action("pay", params={"amount": 0.1})) is True


@pytest.mark.parametrize(
    ("word", "where", "why"),
    [
        ("user", WHERE, "the user that the agent acts for is not known"),
        ("tenant", WHERE, "the tenant that the agent acts for is not known"),
        ("agent", WHERE, "the agent that asks is not known"),
        ("tool", Where(), "the name of the tool is not known"),
        ("session", Where(), "the session of the call is not known"),
        ("conversation", Where(), "the conversation of the call is not known"),
        ("run", Where(), "the run of the call is not known"),
    ],
)
def test_what_divides_the_calls_must_be_known(word: str, where: Where, why: str) -> None:
    by = {"calls_over": {"limit": 3, "within": "1h", "by": [word]}}
    assert answer(by, Tally(), Action("pay"), where) == why
    if word in ("session", "conversation", "run"):
        assert answer({"calls_over": {"limit": 3, "within": word}}, Tally(), Action("pay"), where) == why


class Order(StrEnum):
    A = "A1"

    def __str__(self) -> str:
        return "another"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "the value is null"),
        ([], "the value is a list, not text, a number or a boolean"),
        ({}, "the value is a mapping, not text, a number or a boolean"),
        (b"A1", "the value is of a type that conditions cannot compare, not text, a number or a boolean"),
        ("\ud800", "the text is not valid Unicode"),
        (float("nan"), "the number is none that can be compared"),
        (10**200, "the number is too large"),
    ],
    ids=repr,
)
def test_a_value_that_cannot_be_told_apart_is_unknown(value: object, why: str) -> None:
    found = answer(REPEATS, Tally(1), Action("pay", params={"order_id": value}))
    assert found == f"`order_id`, by which calls are counted apart, is not known: {why}"
    absent = answer(REPEATS, Tally(1), Action("pay"))
    assert absent.endswith("is not known: the call does not have it")


def test_a_typo_and_another_spelling_are_unknown() -> None:
    """As in conditions on parameters: by the tool's schema."""
    schema = {"type": "object", "properties": {"number": {"type": "string"}}, "additionalProperties": False}
    typo = answer(REPEATS, Tally(), Action("pay", params={"number": "A"}, schema=schema))
    assert typo.endswith("the tool has no such parameter")
    listed = {"properties": {"order_id": {"type": "string"}}, "additionalProperties": True}
    other = Action("pay", params={"order_id": "A", "Order_Id": "B"}, schema=listed)
    assert answer(REPEATS, Tally(), other).endswith("could be another spelling of it")


def series(value: object, by: str = "order_id") -> str:
    policy = blocking({"repeats": {"by": [by], "within": "7d"}})
    (query,) = queries_of(policy, Action("pay", params={"order_id": value, "user": value}), WHERE)
    return query.series


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (0, -0.0), (2**60, 2.0**60), ("A1", Order.A), (1.5, 1.5)]
)
def test_values_that_a_tool_takes_for_the_same_are_one_series(one: object, other: object) -> None:
    assert series(one) == series(other)


def test_values_that_differ_are_several_series() -> None:
    """Text, numbers and booleans never mix; a text cannot imitate the digest of a long one."""
    apart = [
        1,
        True,
        "1",
        "true",
        2,
        1.5,
        "1.5",
        0,
        False,
        "",
        "a" * 200,
        "a" * 201,
        "a" * 202,
        "é",
        "e\u0301",
    ]
    assert len({series(each) for each in apart}) == len(apart)
    digest = json.loads(series("a" * 201))[-1][0]
    assert list(digest) == ["sha256"]
    assert series(json.dumps(digest)) != series("a" * 201)


def test_numbers_in_text_are_one_number_by_a_step() -> None:
    spelled = {series(each, "order_id[number]") for each in ("1", "1.0", "1.00", 1, 1.0)}
    assert len(spelled) == 1
    assert series("ABC", "order_id[lower]") == series("abc", "order_id[lower]")
    assert series("ABC") != series("abc")


def test_a_parameter_named_like_a_word_is_none() -> None:
    """`user` is the subject's; the parameter is `params.user`."""
    policy = blocking({"calls_over": {"limit": 1, "within": "1h", "by": ["user"]}})
    assert queries_of(policy, Action("pay", params={"user": "x"}), WHERE) == ()
    assert series("x", "params.user") != series("x")
    assert series("x", "params.order_id") == series("x")


def asked(condition: dict[str, Any], name: str = "r", **rule: Any) -> tuple[str, ...]:
    policy = blocking(condition, name=name, **rule)
    action = Action("pay", params=PARAMS, subject=ANN, agent="desk")
    return tuple(query.series for query in queries_of(policy, action, WHERE))


def test_edits_of_limit_and_window_keep_the_series() -> None:
    """So do another order and another place; another name, kind or `by` begins a new one."""
    base = {"calls_over": {"limit": 3, "within": "1h", "by": ["user", "order_id"]}}
    same = {"calls_over": {"limit": 9, "within": "7d", "by": ["order_id", "user"]}}
    assert asked(base) == asked(same) == asked({"any": [{"not": same}]}) == asked(base, approval="approve")
    assert asked(base, "other") != asked(base)
    by_more = {"calls_over": {"limit": 3, "within": "1h", "by": ["user", "order_id", "agent"]}}
    repeats = {"repeats": {"within": "1h", "by": ["user", "order_id"]}}
    assert len({asked(base), asked(by_more), asked(repeats), asked(base, "other")}) == 4
    by_run = {"calls_over": {"limit": 3, "within": "1h", "by": ["run"]}}
    assert asked(by_run) == asked({"calls_over": {"limit": 3, "within": "run"}})
    one, other = ({"after": {"type": types, "within": "run"}} for types in (["b", "a"], ["a", "b", "a"]))
    assert asked(one) == asked(other) == asked({"after": {**one["after"], "result": "failed"}})
    assert asked(one) != asked(one, match={"type": "pay", "ignore_case": True})


def test_the_digest_covers_what_can_change_a_decision() -> None:
    forms: list[dict[str, Any]] = [
        CALLS,
        {"calls_over": {"limit": 4, "within": "1h"}},
        {"calls_over": {"limit": 3, "within": "2h"}},
        {"calls_over": {"limit": 3, "within": "session"}},
        {"calls_over": {"limit": 3, "within": "1h", "by": ["session"]}},
        {"calls_over": {"limit": 3, "within": "1h", "by": ["user"]}},
        TOTAL,
        {"total_over": {**TOTAL["total_over"], "param": "sum"}},
        TOKENS,
        AFTER,
        {"after": {**AFTER["after"], "result": "success"}},
        {"after": {**AFTER["after"], "type": "read"}},
        REPEATS,
        {"not": REPEATS},
        {"any": [REPEATS]},
        {**REPEATS, **CALLS},
    ]
    assert len({blocking(each).digest for each in forms}) == len(forms)
    assert blocking({**REPEATS, **CALLS}).digest == blocking({**CALLS, **REPEATS}).digest
    same = {"calls_over": {"limit": 3, "within": "60m", "by": ["user", "agent"]}}
    other = {"calls_over": {"limit": 3, "within": "1h", "by": ["agent", "user"]}}
    assert blocking(same).digest == blocking(other).digest


def test_a_policy_without_history_has_the_digest_that_it_had() -> None:
    policy = Policy.from_dict(
        {
            "rules": [
                {"name": "a", "conditions": {"param_eq": {"x": 1}, "any": [{"param_gt": {"y": 2}}]}},
                {"match": {"type": "b"}, "conditions": {"weekdays": [1]}, "approval": "block"},
            ]
        }
    )
    assert policy.digest == "sha256:4bf6758d974387928f8c882080a4e5302f55e2cbcbbea6ce6ed75d200d9097f9"
    assert not policy.has_history
    assert not policy.reads_history("a")
    assert queries_of(policy, Action("b"), WHERE) == marks_of(policy, Action("b"), WHERE, NOON) == ()


def test_a_policy_knows_what_it_asks_and_counts() -> None:
    policy = Policy.from_dict(
        {
            "rules": [
                {"name": "free", "match": {"type": "pay_free"}, "approval": "auto"},
                {"name": "r", "match": {"type": "pay*"}, "conditions": REPEATS, "approval": "block"},
                {"name": "s", "match": {"type": "send"}, "conditions": AFTER, "approval": "block"},
            ]
        }
    )
    assert policy.has_history
    reads = {each: policy.reads_history(each) for each in ("pay", "pay_free", "send", "read_x", "other")}
    assert reads == {"pay": True, "pay_free": True, "send": True, "read_x": True, "other": False}
    assert policy.reads_history("other", "send")
    assert not policy.always_allows("pay_free")  # it is counted, and cannot run where it cannot be
    assert policy.reads_arguments("pay")
    assert policy.reads_arguments("pay_free")
    assert not policy.reads_arguments("send")
    assert not policy.reads_time


tallies = st.builds(Tally, st.integers(0, 5), st.integers(0, 10**9), st.integers(0, 5), st.integers(0, 5))
texts = st.one_of(st.none(), st.text(max_size=3), st.just("\ud800"))
places = st.builds(
    Where,
    texts,
    texts,
    texts,
    texts,
    st.one_of(st.none(), st.integers(-1, 10**14), st.booleans()),
)
words = st.sampled_from(
    [
        "user",
        "tenant",
        "agent",
        "tool",
        "session",
        "conversation",
        "run",
        "a",
        "a.b",
        "b[number]",
        "a[json].b",
    ]
)
bys = st.lists(words, min_size=1, max_size=3, unique=True)
spans = st.sampled_from(["1s", "1h", "400d", "session", "conversation", "run"])
tests = st.one_of(
    st.fixed_dictionaries(
        {"calls_over": st.fixed_dictionaries({"limit": st.integers(0, 5), "within": spans, "by": bys})}
    ),
    st.fixed_dictionaries(
        {
            "total_over": st.fixed_dictionaries(
                {"param": st.sampled_from(["a", "b", "a[number]"]), "limit": st.just(5), "within": spans}
            )
        }
    ),
    st.fixed_dictionaries({"tokens_over": st.fixed_dictionaries({"limit": st.just(5), "within": spans})}),
    st.fixed_dictionaries(
        {"after": st.fixed_dictionaries({"type": st.just("a*"), "within": spans}, optional={"by": bys})}
    ),
    st.fixed_dictionaries(
        {"repeats": st.fixed_dictionaries({"within": spans, "by": bys.map(lambda by: ["b", *by])})}
    ),
)
conditions = st.one_of(
    tests, tests.map(lambda each: {"not": each}), st.lists(tests, min_size=1).map(lambda each: {"any": each})
)


pasts = st.builds(Past, places, values)
forms = st.builds(lambda first, params: (first, params), actions, params)


@given(conditions, forms, places, tallies, pasts)
def test_nothing_raises(
    condition: dict[str, Any], forms: tuple[Action, Any], where: Where, tally: Tally, hostile: Past
) -> None:
    """Whatever the call has and whatever went before; and a decision is explained as it was made."""
    policy = blocking(condition)
    action, other = forms
    form = Action(action.type, action.target, other, agent=action.agent, schema=action.schema)
    action = action.for_subject(Subject(user="u")).qualify([form])
    queries = queries_of(policy, action, where)
    marks_of(policy, action, where, NOON)
    marks_of(policy, action, where, NOON, is_permitted=False)
    judged = action.with_past(Past(where, dict.fromkeys(queries[:2], tally)))
    decision = policy.evaluate(judged, now=NOON)
    assert explain(policy, judged, NOON).verdict == decision.verdict
    assert "failed with" not in " ".join(decision.errors)
    assert policy.evaluate(action.with_past(hostile), now=NOON).approval in ("auto", "block")


@given(conditions, actions, places)
def test_every_query_is_about_a_series_that_such_a_call_marks(
    condition: dict[str, Any], action: Action, where: Where
) -> None:
    """Where the amount is known, and but for `after`, whose marks are of other types."""
    policy = blocking(condition)
    marked = {mark.series for mark in marks_of(policy, action, where, NOON)}
    asked = {query.series for query in queries_of(policy, action, where)}
    assert marked <= asked or '"after"' in "".join(marked - asked)
