"""Rules that block: other spellings of what they name that run all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.compiler import CompiledRule
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.parameters import Content, content_of
from aegis_otel.policy.lint.regex_samples import inserted
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
    seen: set[str] = set()
    for kind, other, why in _dodges(test, value):
        if kind not in seen and subject.runs(example.with_param(test.path, other), example.now):
            seen.add(kind)
            message = f"{test} of rule {quoted(rule.name)} does not block {shown(other)}, which runs: {why}"
            yield Finding(Severity.WARNING, kind, message, test.place)


def _dodges(test: ParamTest, value: Any) -> Iterator[tuple[str, Any, str]]:  # noqa: PLR0912
    if test.operator in ("gt", "gte"):
        yield "no-lower-bound", -1_000_000, "a negative number is below every bound; block it, too"
    if not isinstance(value, str):
        return
    content = content_of(test.path)
    if test.operator == "matches":
        for text, atom in inserted(str(test.expected), "x\nx", fits=False):
            if atom.is_dot:
                yield "dot-newline", text, "`.` stops at a line break; begin the pattern with `(?s)`"
        if content in (Content.COMMAND, Content.SQL):
            yield "anchored-block", f" {value}", "it begins with a space; do not anchor what blocks"
            yield "anchored-block", f"true; {value}", "something stands before it; do not anchor what blocks"
        elif content is Content.PATH:
            why = "another spelling of the path; block `..` and `//` as well, or allow instead of blocking"
            for other in (f"/{value}", f"./{value}", f"x/../{value}", f"/x/..{value}"):
                yield "anchored-block", other, why
    if content.ignores_case or test.operator == "eq":
        why = "only the case differs; begin the pattern with `(?i)`, or allow instead of blocking"
        for other in (value.upper(), value.lower(), value.title()):
            if other != value:
                yield "case", other, why
    if content in (Content.COMMAND, Content.SQL) and " " in value.strip():
        yield "spaces", value.replace(" ", "  "), "two spaces; match `\\s+`, or allow instead of blocking"
    if test.operator == "eq" and content is not Content.OTHER:
        yield "equality", f"{value} ", "equality misses every other spelling; use `param_matches`"


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
