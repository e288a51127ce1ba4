"""Explanations: which rules were asked, and which test told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aegis_otel import Action, Policy
from aegis_otel.policy.explain import Check, Match, RuleTrace, explain

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
POLICY = Policy.from_dict(
    {
        "rules": [
            {"name": "searches", "match": {"type": ["search*", "find"]}, "approval": "auto"},
            {
                "name": "large",
                "match": {"type": "pay", "target": "bank"},
                "conditions": {"param_gt": {"order.amount": 100}},
                "approval": "block",
            },
            {
                "name": "at_night",
                "match": {"type": "pay"},
                "conditions": {"time_after": "20:00", "time_before": "06:30", "weekdays": ["sun", 1]},
            },
            {"name": "payments", "match": {"type": "pay"}, "approval": "approve"},
            {"name": "rest", "approval": "block"},
        ]
    }
)


def traces(action: Action, **options: Any) -> dict[str, tuple[Match, list[Check]]]:
    found: tuple[RuleTrace, ...] = explain(POLICY, action, NOON, **options).rules
    return {trace.name: (trace.match, list(trace.checks)) for trace in found}


def test_every_rule_says_what_told() -> None:
    """Tests in order, up to the first that is false; what comes after a match was not asked."""
    assert traces(Action("pay", "bank", {"order": {"amount": 5}})) == {
        "searches": (Match.NO, [Check("`match.type`", "`search*` or `find`", False)]),
        "large": (
            Match.NO,
            [
                Check("`match.type`", "`pay`", True),
                Check("`match.target`", "`bank`", True),
                Check("`param_gt` on `order.amount`", "the number `100`", False),
            ],
        ),
        "at_night": (
            Match.NO,
            [
                Check("`match.type`", "`pay`", True),
                Check("the time window", "from 20:00 to 06:30 Mon, Sun UTC", False),
            ],
        ),
        "payments": (Match.YES, [Check("`match.type`", "`pay`", True)]),
        "rest": (Match.NOT_ASKED, []),
    }


def test_an_unknown_keeps_its_reason_and_the_stricter_verdict_wins() -> None:
    explained = explain(POLICY, Action("pay", "bank", {"order": {"amount": "5"}}), NOON)
    large = explained.rules[1]
    assert (large.match, large.checks[-1].answer) == (Match.UNKNOWN, "the value is text, not a number")
    assert explained.verdict.matched_rule == "large"
    assert explained.verdict.reason.startswith("rule `large` may match, so it counts as a match: `param_")


def test_what_hangs_on_a_redacted_value_is_unknown() -> None:
    """In an argument, inside of it, or on the way to it, and in what is matched."""

    def hidden(value: object) -> bool:
        return "[REDACTED]" in str(value)

    told = "the value it looks at is redacted"
    for params in (
        {"order": {"amount": "[REDACTED]"}},
        {"order": "[REDACTED]"},
        {"order": {"amount": ["[REDACTED]"]}},
    ):
        large = traces(Action("pay", "bank", params), is_hidden=hidden)["large"]
        assert (large[0], large[1][-1].answer) == (Match.UNKNOWN, told)
    large = traces(Action("pay", "[REDACTED]", {"order": {"amount": 5}}), is_hidden=hidden)["large"]
    assert large[1][1].answer == told
    assert large[0] is Match.NO  # whatever the target: the amount is not above 100


def test_nothing_else_in_the_arguments_makes_an_answer_unknown() -> None:
    params = {"order": {"amount": 500, "token": "[REDACTED]"}}
    explained = explain(
        POLICY, Action("pay", "bank", params), NOON, is_hidden=lambda value: value == "[REDACTED]"
    )
    assert explained.verdict.matched_rule == "large"
    assert explained.verdict.errors == ()
