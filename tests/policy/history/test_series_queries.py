"""What a call leaves for those after it: by which rules, in which series, of what amount, for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aegis_otel import Action, Policy
from aegis_otel.model import Mark, Past, Subject, Tally, Where
from aegis_otel.policy.explain import explain
from aegis_otel.policy.history.series_queries import usage_of
from tests.support.history import ANN, NOON, WHERE, Calls, blocking, past_of

CALLS = {"calls_over": {"limit": 2, "within": "1h"}}
DAYS_90 = 90 * 86_400.0


def pay(amount: object = 100, **more: Any) -> Action:
    return Action("pay", "bank", {"amount": amount, **more}, agent="desk", subject=ANN)


def count(policy: Policy, action: Action, now: datetime = NOON) -> int:
    return len(Calls(policy).marks(action, now=now))


def test_a_limit_lets_so_many_calls_run_and_no_more() -> None:
    calls = Calls(blocking(CALLS))
    assert [calls.make(pay()) for _ in range(4)] == ["auto", "auto", "block", "block"]
    later = NOON + timedelta(minutes=61)
    assert [calls.make(pay(), now=later) for _ in range(3)] == ["auto", "auto", "block"]


def test_amounts_add_up_for_each_user() -> None:
    total = {"total_over": {"param": "amount", "limit": 250, "within": "1d", "by": ["user"]}}
    calls, other = Calls(blocking(total)), pay(50).for_subject(None)
    assert [calls.make(pay(each)) for each in (100, 100.5, 50, 49.5, 0.01)] == [
        *("auto", "auto", "block", "auto", "block")
    ]
    assert calls.make(other) == "block"  # nobody knows whose it is


def test_the_same_effect_runs_once() -> None:
    """Also where its end is not known, or it failed."""
    calls = Calls(blocking({"repeats": {"by": ["order"], "within": "7d"}}))
    assert [calls.make(pay(order=each), "") for each in (1, 1.0, "1", 2, "1")] == [
        *("auto", "block", "auto", "auto", "block")
    ]


def test_a_call_that_went_before() -> None:
    """It blocks as soon as it may have happened, in the same conversation only."""
    calls = Calls(
        blocking(
            {"after": {"type": "read_*", "result": "success", "within": "conversation"}},
            match={"type": "send"},
        )
    )
    elsewhere = Where(conversation="c2", run="r9")
    read, send = Action("read_secret"), Action("send")
    assert calls.make(send) == "auto"
    calls.make(read, "failed")
    assert calls.make(send) == "auto"
    calls.make(read, "")
    assert calls.decide(send).errors
    assert calls.make(send) == "block"
    calls.make(read)
    assert calls.make(send) == "block"
    assert calls.make(send, where=elsewhere) == "auto"
    assert calls.make(send, where=Where()) == "block"  # of which conversation it is is not known


def test_only_after_another_call() -> None:
    rule = {"not": {"after": {"type": "verify", "result": "success", "within": "1h", "by": ["customer"]}}}
    calls = Calls(blocking(rule, match={"type": "pay"}))
    calls.make(Action("verify", params={"customer": "A"}))
    made = [calls.make(Action("pay", params={"customer": each})) for each in ("A", "B")]
    assert made == ["auto", "block"]


@pytest.mark.parametrize("by", [[], ["customer"]], ids=str)
def test_a_look_alike_is_not_surely_the_other_call(by: list[str]) -> None:
    """A tool whose other name is of the type neither permits what the type does nor leaves it harmless."""
    after = {
        "after": {"type": "verify", "result": "success", "within": "conversation"}
        | ({"by": by} if by else {})
    }
    params = {"customer": "A"}
    alike = Action("verify ", params=params).qualify([Action("verify", params=params)])
    for condition in (after, {"not": after}):
        calls = Calls(blocking(condition, match={"type": "pay"}))
        pay_a, elsewhere = Action("pay", params=params), Where(conversation="c2", run="r9")
        calls.make(alike)
        assert calls.decide(pay_a).errors
        assert calls.make(pay_a) == "block"
        other = Action("pay", params={"customer": "B"}) if by else pay_a
        expected = "auto" if condition is after else "block"
        assert calls.make(other, where=WHERE if by else elsewhere) == expected
        calls.make(Action("verify", params=params))
        assert not calls.decide(pay_a).errors


def test_a_call_that_may_have_failed_in_all_forms_is_none_that_succeeded() -> None:
    after = {"after": {"type": "verify", "result": "success", "within": "1h"}}
    calls = Calls(blocking(after, match={"type": "pay"}))
    calls.make(Action("verify ").qualify([Action("verify")]), "failed")
    assert calls.make(pay()) == "auto"
    calls.make(Action("verify ").qualify([Action("verify")]), "")
    assert calls.make(pay()) == "block"


def test_arguments_that_validation_makes_others_verify_nobody() -> None:
    """A call is judged with both, and nobody knows which its body goes by."""
    after = {"after": {"type": "verify", "result": "success", "within": "1h", "by": ["customer"]}}
    calls = Calls(blocking({"not": after}, match={"type": "pay"}))
    read_as_a = Action("verify", params={"customer": "A"})
    calls.make(Action("verify", params={"customer": "B", "id": "A"}).qualify([read_as_a]))
    for each in ("A", "B", "C"):
        assert calls.make(Action("pay", params={"customer": each})) == "block"
    calls.make(read_as_a)
    made = [calls.make(Action("pay", params={"customer": each})) for each in ("A", "B")]
    assert made == ["auto", "block"]


def test_tokens_of_all_runs() -> None:
    """A run counts with what it has used by now, and a refused call's tokens count as well."""
    calls = Calls(blocking({"tokens_over": {"limit": 1000, "within": "1d", "by": ["user"]}}))

    def at(run: str, tokens: int | None) -> str:
        return calls.make(pay(), where=Where(run=run, tokens=tokens))

    assert [at("r1", 400), at("r1", 700), at("r2", 300), at("r2", 301)] == ["auto", "auto", "auto", "block"]
    assert [at("r3", 0), at("r1", 1), at("r3", 0)] == ["block", "block", "block"]
    assert at("r4", None) == "block"
    assert calls.make(pay(), where=Where(tokens=1)) == "block"


def test_tokens_of_a_run() -> None:
    calls = Calls(blocking({"tokens_over": {"limit": 1000, "within": "run"}}))
    for run in ("r1", "r2"):
        made = [calls.make(pay(), where=Where(run=run, tokens=each)) for each in (999, 1000, 1001)]
        assert made == ["auto", "auto", "block"]


@pytest.mark.parametrize("by", [[], ["user"], ["run"]], ids=str)
def test_a_call_that_waited_makes_no_tokens_less(by: list[str]) -> None:
    """It brings what its run had used when it was made, and other calls of the run have gone before it."""
    condition = {
        "tokens_over": {"limit": 1000, "within": "1d", "by": by} if by else {"limit": 1000, "within": "1d"}
    }
    calls = Calls(blocking(condition))
    waited, other = Where(run="r1", tokens=10), Where(run="r2", tokens=1)
    assert calls.make(pay(), where=Where(run="r1", tokens=1000)) == "auto"
    assert calls.make(pay(), where=waited) == "auto"
    assert calls.make(pay(), where=other) == ("auto" if "run" in by else "block")
    assert calls.make(pay(), where=Where(run="r1", tokens=1001)) == "block"
    assert calls.make(pay(), where=waited) == "block"


def test_tokens_count_by_the_same_series_of_a_run() -> None:
    """The run's own mark is the one that a condition for each run reads."""
    policy = blocking(
        {
            "any": [
                {"tokens_over": {"limit": 10, "within": "1h", "by": ["user"]}},
                {"tokens_over": {"limit": 5, "within": "run", "by": ["user"]}},
            ]
        }
    )
    marks = Calls(policy).marks(pay())
    assert [(mark.amount, mark.run, mark.keep_s) for mark in marks] == [
        (100_000_000, "r1", 3600.0),
        (100_000_000, "r1", DAYS_90),
    ]


@pytest.mark.parametrize(
    ("rule", "is_counted"),
    [
        ({}, True),
        ({"match": {"type": "pay", "target": "bank", "agent": "desk"}}, True),
        ({"match": {"type": "send"}}, False),
        ({"match": {"target": "shop"}}, False),
        ({"match": {"agent": "bot"}}, False),
        ({"match": {"user": "ann"}}, True),
        ({"match": {"user": "bob"}}, False),
        ({"match": {"role": "clerk"}}, True),  # not known
        ({"approval": "auto"}, True),
        ({"mode": "monitor"}, True),
        ({"conditions": {**CALLS, "param_gt": {"amount": 50}}}, True),
        ({"conditions": {**CALLS, "param_gt": {"amount": 500}}}, False),
        ({"conditions": {**CALLS, "param_eq": {"amount": "x"}}}, True),  # unknown
        ({"conditions": {**CALLS, "time_after": "13:00"}}, False),
        ({"conditions": {**CALLS, "time_after": "11:00"}}, True),
        ({"conditions": {**CALLS, "not": {"param_gt": {"amount": 50}}}}, False),
        ({"conditions": {"not": CALLS}}, True),
        ({"conditions": {"any": [{**CALLS, "param_gt": {"amount": 500}}]}}, True),
        ({"conditions": {**CALLS, "repeats": {"by": ["absent"], "within": "1h"}}}, True),
    ],
    ids=str,
)
def test_who_is_counted(rule: dict[str, Any], is_counted: bool) -> None:
    """Whom the rule is about, whatever it says of them; and a query is only asked about those, too."""
    policy = blocking(
        **{
            "condition": CALLS,
            **({"condition": rule.pop("conditions")} if "conditions" in rule else {}),
            **rule,
        }
    )
    assert bool(count(policy, pay())) is is_counted
    has_time = any(each.rule.window for each in policy.compiled.rules)
    if not has_time:
        assert bool(Calls(policy).queries(pay())) is is_counted


def test_it_counts_whichever_rule_decides() -> None:
    """Also behind a rule that hides it, which then asks nothing."""
    policy = Policy.from_dict(
        {
            "rules": [
                {"name": "first", "match": {"type": "pay"}, "approval": "auto"},
                {"name": "r", "conditions": CALLS, "approval": "block"},
            ]
        }
    )
    calls = Calls(policy)
    assert calls.queries(pay()) == ()
    assert [calls.make(pay()), calls.make(pay()), calls.make(Action("other"))] == ["auto", "auto", "block"]


def test_a_mark_is_kept_as_long_as_any_condition_asks_for_it() -> None:
    policy = blocking(
        {
            "any": [
                {"calls_over": {"limit": 1, "within": "1m", "by": ["user"]}},
                {"calls_over": {"limit": 9, "within": "2d", "by": ["user"]}},
                {"calls_over": {"limit": 9, "within": "1m", "by": ["agent"]}},
                {"calls_over": {"limit": 9, "within": "session", "by": ["agent"]}},
            ]
        }
    )
    assert [mark.keep_s for mark in Calls(policy).marks(pay())] == [2 * 86_400.0, 60.0, DAYS_90]


def test_a_longer_window_begins_with_what_was_kept_for_the_old_one() -> None:
    """As docs/policy.md says."""
    short, long = ({"calls_over": {"limit": 1, "within": each}} for each in ("1h", "24h"))
    calls = Calls(blocking(short))
    assert calls.make(pay()) == "auto"
    calls.policy = blocking(long)
    assert calls.make(pay(), now=NOON + timedelta(minutes=61)) == "auto"
    assert calls.make(pay(), now=NOON + timedelta(hours=24)) == "block"


def test_each_form_counts_once_and_by_its_most() -> None:
    """The name that the SDK gives it, the values that its validation makes of the arguments."""
    policy = blocking(
        {"total_over": {"param": "amount", "limit": 5, "within": "1h", "by": ["order"]}},
        match={"type": "pay*"},
    )
    forms = [
        Action("pay_2", params={"amount": 7, "order": "1"}),
        Action("pay_3", params={"amount": 9, "order": 1}),
        Action("other", params={"amount": 99, "order": "1"}),
    ]
    action = Action("pay_1", params={"amount": 5, "order": "1"}).qualify(forms)
    calls = Calls(policy)
    assert [mark.amount for mark in calls.marks(action)] == [7_000_000, 9_000_000]
    assert len(calls.queries(action)) == 2


def test_after_finds_a_call_by_any_of_its_names() -> None:
    """In the case that the rule's own globs have; whatever the rule is about."""
    after = {"after": {"type": "Read_*", "within": "1h", "by": ["user"]}}
    policy = blocking(after, match={"type": "send", "ignore_case": True})
    named = Action("x", subject=ANN).qualify([Action("srv__y", subject=ANN), Action("READ_it", subject=ANN)])
    assert count(policy, named) == 1
    assert count(policy, Action("read_it", subject=ANN)) == 1
    assert count(policy, Action("send", subject=ANN)) == 0
    assert count(policy, Action("read_it")) == 1  # whose it is is not known, so it may be anybody's
    exact = blocking(after, match={"type": "send"})
    assert count(exact, Action("read_it", subject=ANN)) == 0


SECRET = {"after": {"type": "read_*", "within": "1d", "by": ["account", "user"]}}
LACKS = "a value of `by` of such a call before it is not known"


@pytest.mark.parametrize(
    ("earlier", "later", "error"),
    [
        (Action("read_it", subject=ANN), Action("send", params={"account": 7}, subject=ANN), LACKS),
        (
            Action("read_it", params={"account": None}, subject=ANN),
            Action("send", params={"account": 7}, subject=ANN),
            LACKS,
        ),
        (Action("read_it", params={"account": 7}), Action("send", params={"account": 7}, subject=ANN), LACKS),
        (
            Action("read_it", subject=Subject(user="bob", tenant="acme")),
            Action("send", params={"account": 7}, subject=ANN),
            "",
        ),
        (
            Action("read_it", params={"account": 7}, subject=ANN).with_doubt("they cannot be read"),
            Action("send", params={"account": 7}, subject=ANN),
            LACKS,
        ),
    ],
)
def test_a_call_of_which_it_is_not_known_where_it_counts_may_have_gone_before(
    earlier: Action, later: Action, error: str
) -> None:
    """It is one call for all that it may have been, and none for what it surely was not."""
    calls = Calls(blocking(SECRET, match={"type": "send"}))
    calls.make(earlier)
    errors = calls.decide(later).errors
    assert [each.partition(" is unknown: ")[2] for each in errors] == ([error] if error else [])
    past = Past(WHERE, calls.ledger.answers(calls.queries(later), NOON))
    seen = ", 1 of which a value of `by` is not known" if error else ""
    (rule,) = explain(calls.policy, later.with_past(past), NOON).rules
    assert f"0 succeeded, 0 failed, 0 not ended{seen}" in [check.seen for check in rule.checks]
    assert calls.make(later) == ("block" if error else "auto")


def test_a_call_before_may_count_only_where_it_ended_as_asked() -> None:
    ended = {"after": {**SECRET["after"], "result": "success"}}
    calls = Calls(blocking(ended, match={"type": "send"}))
    send = Action("send", params={"account": 7}, subject=ANN)
    calls.make(Action("read_it", subject=ANN), "failed")
    assert calls.make(send) == "auto"
    calls.make(Action("read_it", subject=ANN), "")
    assert calls.make(send) == "block"


def test_a_verification_of_whom_nobody_knows_verifies_nobody() -> None:
    rule = {"not": {"after": {"type": "verify", "within": "1h", "by": ["customer"]}}}
    calls = Calls(blocking(rule, match={"type": "pay"}))
    calls.make(Action("verify"))
    pay = Action("pay", params={"customer": "A"})
    assert calls.decide(pay).errors
    assert calls.make(pay) == "block"
    calls.make(Action("verify", params={"customer": "A"}))
    assert calls.make(pay) == "auto"


def test_each_conversation_knows_of_calls_of_which_the_conversation_is_not_known() -> None:
    """And of none where only what is less known than the conversation is not known elsewhere."""
    rule = {"after": {"type": "read", "within": "conversation", "by": ["account"]}}
    calls = Calls(blocking(rule, match={"type": "send"}))
    send = Action("send", params={"account": 7})
    calls.make(Action("read"), where=Where(conversation="c2"))
    assert calls.make(send, where=Where(conversation="c1")) == "auto"
    assert calls.make(send, where=Where(conversation="c2")) == "block"
    calls.make(Action("read", params={"account": 8}), where=Where())
    assert calls.make(send, where=Where(conversation="c1")) == "block"


def test_nothing_is_left_where_it_is_not_known_what() -> None:
    policy = blocking({"total_over": {"param": "amount", "limit": 5, "within": "1h"}})
    assert count(policy, pay("5")) == count(policy, pay(None)) == count(policy, pay(-1)) == 0
    assert count(policy, pay(5).with_doubt("the arguments cannot be read")) == 0
    assert count(blocking(CALLS), pay(5).with_doubt("the arguments cannot be read")) == 1


def test_a_mark_has_what_the_engines_need() -> None:
    policy = blocking({"total_over": {"param": "amount", "limit": 5, "within": "1h", "by": ["user", "run"]}})
    (mark,) = Calls(policy).marks(pay(1.25))
    series = '["r",["total","amount"],["run","user"],["r1","ann"]]'
    assert mark == Mark(series, 1_250_000, 3600.0)


def test_times_without_a_zone_are_in_utc() -> None:
    policy = blocking({**CALLS, "time_after": "11:00"})
    assert count(policy, pay(), datetime(2026, 3, 4, 12)) == 1
    assert count(policy, pay(), datetime(2026, 3, 4, 10, tzinfo=UTC)) == 0


def test_no_call_is_asked_about_twice() -> None:
    policy = blocking({"any": [CALLS, {"calls_over": {"limit": 9, "within": "1h"}}]})
    assert len(Calls(policy).queries(pay())) == 1
    assert len(Calls(policy, WHERE).marks(pay())) == 1


@pytest.mark.parametrize(
    ("conditions", "tally", "params", "share"),
    [
        ({"calls_over": {"limit": 4, "within": "1h"}}, Tally(calls=1), {}, 0.5),
        ({"calls_over": {"limit": 4, "within": "1h"}}, Tally(calls=5), {}, 1.5),
        ({"total_over": {"param": "n", "limit": 10, "within": "1h"}}, Tally(total=2_000_000), {"n": 3}, 0.5),
        ({"tokens_over": {"limit": 400, "within": "1h"}}, Tally(), {}, 0.25),
        (
            {
                "any": [
                    {"calls_over": {"limit": 2, "within": "1m"}},
                    {"calls_over": {"limit": 8, "within": "1h"}},
                ]
            },
            Tally(calls=1),
            {},
            1.0,
        ),
        ({"calls_over": {"limit": 0, "within": "1h"}}, Tally(calls=1), {}, None),
        ({"total_over": {"param": "n", "limit": 10, "within": "1h"}}, Tally(), {"n": "many"}, None),
        ({"repeats": {"by": ["n"], "within": "1h"}}, Tally(calls=1), {"n": 3}, None),
        ({"calls_over": {"limit": 4, "within": "1h"}, "param_gt": {"n": 9}}, Tally(calls=1), {"n": 3}, None),
    ],
)
def test_how_much_of_a_limit_is_used(
    conditions: dict[str, Any], tally: Tally, params: dict[str, Any], share: float | None
) -> None:
    """With the call at hand; nothing where it is not known, or where there is no limit."""
    policy, action = blocking(conditions), Action("pay", params=params)
    found = usage_of(policy, action.with_past(past_of(policy, action, tally)))
    assert found == ({} if share is None else {"r": share})
    assert usage_of(policy, action) == {}, "without a past nothing is known"
