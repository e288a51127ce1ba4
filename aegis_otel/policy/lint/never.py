"""Rules whose own conditions exclude each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aegis_otel.policy.comparisons import JUDGES
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.subject import Subject
from aegis_otel.policy.rules import ParamTest, Rule
from aegis_otel.policy.wording import quoted

_NUMERIC = {"gt", "gte", "lt", "lte"}
_TEXTUAL = {"contains", "matches"}


def never(subject: Subject) -> Iterator[Finding]:
    """Empty time windows, zones without a time, and conditions that no value passes together."""
    for rule in subject.rules:
        window = rule.rule.window
        if window is not None and window.after is not None and window.after == window.before:
            why = "`time_after` and `time_before` are the same time"
            message = f"rule {quoted(rule.name)} can never match: {why}"
            yield Finding(Severity.ERROR, "never", message, rule.rule.place)
        if window is not None and (window.after, window.before) == (None, None) and not window.weekdays:
            message = f"rule {quoted(rule.name)} has a `timezone` but no time or day it could apply to"
            yield Finding(Severity.WARNING, "timezone", message, window.place)
        for tests in by_path(rule.rule).values():
            if pair := conflict(tests):
                why = "{} contradicts {}".format(*pair)
                message = (
                    f"rule {quoted(rule.name)} can never be true: {why}; "
                    "it still decides where a value is unknown"
                )
                yield Finding(Severity.WARNING, "contradiction", message, rule.rule.place)


def by_path(rule: Rule) -> dict[str, list[ParamTest]]:
    paths: dict[str, list[ParamTest]] = {}
    for test in rule.tests:
        paths.setdefault(test.path, []).append(test)
    return paths


def conflict(tests: Sequence[ParamTest]) -> tuple[ParamTest, ParamTest] | None:
    """Two tests of one parameter that no value passes both."""
    for exact in (test for test in tests if test.operator == "eq"):
        for other in tests:
            if JUDGES[other.operator](exact.expected, other.expected) is not True:
                return exact, other
    for one in tests:
        for other in tests:
            if one.operator in _NUMERIC and other.operator in _TEXTUAL:
                return one, other
            if one.operator in ("gt", "gte") and other.operator in ("lt", "lte"):
                assert not isinstance(one.expected, str)
                assert not isinstance(other.expected, str)
                both_inclusive = one.operator == "gte" and other.operator == "lte"
                if one.expected > other.expected or (one.expected == other.expected and not both_inclusive):
                    return one, other
    return None
