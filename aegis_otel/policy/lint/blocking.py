"""Rules that block: other spellings of what they name that run all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.compiler import CompiledRule
from aegis_otel.policy.lint.dodges import dodges
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.subject import ABSENT, Example, Subject
from aegis_otel.policy.rules import ParamTest
from aegis_otel.policy.wording import quoted, shown


def blocking(subject: Subject) -> Iterator[Finding]:
    """What `block` rules with conditions miss, where it would run unasked."""
    for rule in subject.rules:
        if rule.rule.approval is not Approval.BLOCK or not rule.rule.tests:
            continue
        example = subject.example(rule)
        if example is None:
            continue
        for test in rule.rule.tests:
            yield from _dodged(subject, rule, test, example)
            yield from _omitted(subject, rule, test, example)
        yield from _all_of(subject, rule, example)


def _dodged(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    value = _at(example.action.params, test.path)
    choices = _choices(example.action.schema, test.path)
    seen: set[str] = set()
    for kind, other, why in dodges(test, value):
        if kind in seen or (choices is not None and other not in choices):
            continue
        if subject.runs(example.with_param(test.path, other), example.now):
            seen.add(kind)
            message = f"{test} of rule {quoted(rule.name)} does not block {shown(other)}, which runs: {why}"
            yield Finding(Severity.WARNING, kind, message, test.place)


def _choices(schema: Mapping[str, Any] | None, path: str) -> Sequence[Any] | None:
    """The only values that the tool takes for the parameter at the top named `path`, where it says so."""
    properties = (schema or {}).get("properties")
    inner = properties.get(path) if isinstance(properties, Mapping) else None
    choices = inner.get("enum") if isinstance(inner, Mapping) else None
    return choices if isinstance(choices, (list, tuple)) else None


def _omitted(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    """A parameter that the model may leave out, so that the condition is false."""
    schema = example.action.schema
    properties = schema.get("properties") if schema is not None else None
    first = test.path.partition(".")[0]
    if schema is None or not isinstance(properties, Mapping) or first not in properties:
        return
    required, inner = schema.get("required"), properties[first]
    if (isinstance(required, (list, tuple)) and first in required) or (
        isinstance(inner, Mapping) and "default" in inner
    ):
        return
    action = example.with_param(first, ABSENT)
    if subject.runs(action, example.now):
        message = (
            f"{test} of rule {quoted(rule.name)} is false where {quoted(first)} is left out, which the tool "
            f"{quoted(action.type)} allows without saying what it then does: such a call runs; make the "
            "parameter required, or let only what states it run"
        )
        yield Finding(Severity.WARNING, "omission", message, test.place)


def _all_of(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Several conditions, of which a call has to meet all to be blocked."""
    tests = {test.path: test for test in rule.rule.tests}
    if len(tests) < 2:
        return
    for path, test in tests.items():
        for value in _failing(test):
            if subject.runs(example.with_param(path, value), example.now):
                message = (
                    f"rule {quoted(rule.name)} blocks only what meets all of its conditions: with "
                    f"{quoted(path)} at {shown(value)} the call runs; write a rule for each if one is enough"
                )
                yield Finding(Severity.WARNING, "all-of", message, rule.rule.place)
                return


def _failing(test: ParamTest) -> Iterator[Any]:
    expected = test.expected
    if isinstance(expected, bool):
        yield not expected
    elif isinstance(expected, (int, float)):
        yield expected + 1
        yield expected - 1
    else:
        yield "something else"


def _at(params: Mapping[str, Any], path: str) -> Any:
    if path in params:
        return params[path]
    value: Any = params
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
