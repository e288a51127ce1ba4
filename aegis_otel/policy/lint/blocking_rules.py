"""Checks of `block` rules: other spellings of what they name, and other ways to the same effect, that run.

What stands below `not` in an `auto` rule names what shall not run as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.lint.finding import Finding, finding
from aegis_otel.policy.lint.parameter_content import WORDS, Content, content_of
from aegis_otel.policy.lint.regex_samples import inserted
from aegis_otel.policy.lint.subject import ABSENT, Example, Family, Subject, passing
from aegis_otel.policy.operators.table import Meaning, is_about_values, meaning
from aegis_otel.policy.rules import ParamTest, Step

Dodge = tuple[str, Any]
"""A finding, and the value to be tried that would cause it."""

_THIS_MACHINE = re.compile(r"localhost|\b127\.|\b0\.0\.0\.0|::1", re.IGNORECASE)
_METADATA = "169.254."


def dodges(test: ParamTest, value: Any) -> Iterator[Dodge]:
    """Yield what to try in place of `value`, which `test` is true of."""
    is_equal = meaning(test) is Meaning.EQUAL
    if meaning(test) is Meaning.LOWER_BOUND:
        yield "no-lower-bound/block", -1_000_000
    if not isinstance(value, str):
        return
    if meaning(test) is Meaning.COMMANDS:
        yield "deny-list/command", f"true; {value}"
        return
    content = content_of(test.path)
    if meaning(test) is Meaning.PATTERN:
        yield from _past_a_pattern(str(test.expected), value, content)
    if content.ignores_case or is_equal or content is Content.OTHER:
        for other in (value.upper(), value.lower(), value.title()):
            if other != value:
                yield "case", other
    if content in (Content.COMMAND, Content.SQL) and " " in value.strip():
        yield "spaces", value.replace(" ", "  ")
    if is_equal and content is not Content.OTHER:
        yield "equality", f"{value} "
    if content in _OTHERS:
        what, others = _OTHERS[content]
        for other in others(value):
            yield "deny-list/space" if other == f" {value}" else what, other


def _past_a_pattern(pattern: str, value: str, content: Content) -> Iterator[Dodge]:
    for text, atom in inserted(pattern, "x\nx", fits=False):
        if atom.is_dot:
            yield "dot-newline", text
    if content in (Content.COMMAND, Content.SQL):
        yield "anchored-block/space", f" {value}"
        yield "anchored-block/start", f"true; {value}"
    elif content is Content.PATH:
        for other in (f"/{value}", f"./{value}", f"x/../{value}", f"/x/..{value}"):
            yield "anchored-block/path", other


def _other_commands(value: str) -> Iterator[str]:
    word = next((each for each in re.findall(r"\w+", value) if len(each) > 1), "")
    for between in ("''", "\\", "$@") if word else ():
        yield value.replace(word, f"{word[0]}{between}{word[1:]}", 1)
    yield from WORDS["other commands"]


def _other_statements(value: str) -> Iterator[str]:
    if re.search(r"\s", value):
        yield re.sub(r"\s+", "/**/", value)
    yield from WORDS["other statements"]


def _other_urls(value: str) -> Iterator[str]:
    scheme, found, rest = value.partition("://")
    host, slash, path = (rest if found else value).partition("/")
    start = f"{scheme}://" if found else ""
    if found and host:
        for other in (f"{host}.", f"{host}:443", f"x@{host}", f"%{ord(host[0]):02x}{host[1:]}"):
            yield f"{start}{other}/{path}"
    elif not found and "." in host and not slash:
        yield f"{host}."
    yield f" {value}"
    kind = "this machine" if _THIS_MACHINE.search(value) else "metadata service"
    for other in WORDS[kind] if kind == "this machine" or _METADATA in value else ():
        yield f"{start or 'http://'}{other}/{path}"
    letter = next((at for at, each in enumerate(path) if each.isalpha()), None)
    if slash and letter is not None:
        yield f"{start}{host}/{path[:letter]}%{ord(path[letter]):02x}{path[letter + 1 :]}"
        yield f"{start}{host}//./{path}"


def _other_paths(value: str) -> Iterator[str]:
    head, slash, last = value.rstrip("/").rpartition("/")
    if slash and head:
        yield from (f"{head}/./{last}", f"{head}//{last}", f"{head}/x/../{last}")
    yield from filter(None, (f"{value}/.", f"{value}/", f"{value}.", value.strip("/")))


_OTHERS: Mapping[Content, tuple[str, Callable[[str], Iterator[str]]]] = {
    Content.COMMAND: ("deny-list/command", _other_commands),
    Content.SQL: ("deny-list/SQL", _other_statements),
    Content.URL: ("deny-list/address", _other_urls),
    Content.ADDRESS: ("deny-list/address", _other_urls),
    Content.PATH: ("deny-list/path", _other_paths),
}
"""The finding about other values with the same effect, and such values."""


def blocking(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find what a `block` rule with conditions, or a `not` of an `auto` rule, misses, where it would run."""
    for test, is_negated in rule.rule.conditions.tests_with_sign():
        if rule.rule.approval is not (Approval.AUTO if is_negated else Approval.BLOCK):
            continue
        if not is_about_values(test):  # whether a parameter is there has no other spelling
            continue
        example = subject.example(rule, None if is_negated else test)
        if example is None:
            continue
        if not is_negated:
            yield from _dodged(subject, rule, test, example, example.value(test))
            yield from _omitted(subject, rule, test, example)
            if subject.runs_with_another_item(None, example, test, Step.ALL):
                yield finding("all-block", test.place, rule, test=test)
            continue
        value = passing(test)
        if value is not ABSENT and not subject.runs(example.with_param(test.path, value), example.now):
            yield from _dodged(subject, rule, test, example, value)
    if len(rule.rule.tests) < 2 or rule.rule.approval is not Approval.BLOCK:
        return
    if (example := subject.example(rule)) is not None:
        yield from _all_of(subject, rule, example)


def _dodged(
    subject: Subject, rule: CompiledRule, test: ParamTest, example: Example, value: Any
) -> Iterator[Finding]:
    choices = _choices(example.action.schema, test.path)
    seen: set[str] = set()
    for what, other in dodges(test, value):
        kind = what.partition("/")[0]
        if kind in seen or (choices is not None and other not in choices):
            continue
        if subject.runs(example.with_param(test.path, other), example.now):
            seen.add(kind)
            yield finding(what, test.place, rule, test=test, value=other)


def _choices(schema: Mapping[str, Any] | None, path: str) -> Sequence[Any] | None:
    """Return the only values that the tool takes for the parameter `path` at the top, where it says so."""
    inner = properties_of(schema).get(path)
    choices = inner.get("enum") if isinstance(inner, Mapping) else None
    return choices if isinstance(choices, (list, tuple)) else None


def _omitted(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    """Find a parameter that the model may leave out, so that the condition is false."""
    action, first = example.action, next(iter(test.keys), "")
    properties = properties_of(action.schema)
    if action.schema is None or first not in properties:
        return
    required, inner = action.schema.get("required"), properties[first]
    is_required = isinstance(required, (list, tuple)) and first in required
    if is_required or (isinstance(inner, Mapping) and "default" in inner):
        return
    if subject.runs(example.with_param(first, ABSENT), example.now):
        yield finding("omission", test.place, rule, test=test, name=first, tool=action.type)


def _all_of(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Find several conditions, of which a call has to meet all to be blocked."""
    tests = {test.path: test for test in rule.rule.tests if test.path}
    for path, test in tests.items() if len(tests) > 1 else ():
        for value in _failing(test):
            if subject.runs(example.with_param(path, value), example.now):
                yield finding("all-of", rule.rule.place, rule, path=path, value=value)
                return


def _failing(test: ParamTest) -> Sequence[Any]:
    """Return values of which one is other than what `test` expects."""
    expected = test.expected
    if isinstance(expected, bool):
        return (not expected,)
    return (expected + 1, expected - 1) if isinstance(expected, (int, float)) else ("something else",)


CHECKS = Family(of_rule=(blocking,))
