"""Rules that block: other spellings of what they name, and other ways to the same effect, that still run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.conditions import find
from aegis_otel.policy.evaluation.tool_schema import properties_of
from aegis_otel.policy.lint.finding import Finding, Severity
from aegis_otel.policy.lint.parameter_content import WORDS, Content, content_of
from aegis_otel.policy.lint.regex_samples import inserted
from aegis_otel.policy.lint.subject import ABSENT, Example, Subject
from aegis_otel.policy.messages import quoted, shown
from aegis_otel.policy.rules import ParamTest

Dodge = tuple[str, Any, str]
"""The kind of finding, the value to be tried, and why it is the same."""

_THIS_MACHINE = re.compile(r"localhost|\b127\.|\b0\.0\.0\.0|::1", re.IGNORECASE)
_METADATA = "169.254."


def dodges(test: ParamTest, value: Any) -> Iterator[Dodge]:
    """Yield what to try in place of `value`, which `test` is true of."""
    if test.operator in ("gt", "gte"):
        yield "no-lower-bound", -1_000_000, "a negative number is below every bound; block it, too"
    if not isinstance(value, str):
        return
    content = content_of(test.path)
    if test.operator == "matches":
        yield from _of_a_pattern(str(test.expected), value, content)
    if content.ignores_case or test.operator == "eq" or content is Content.OTHER:
        why = "only the case differs; begin the pattern with `(?i)`, or allow instead of blocking"
        for other in (value.upper(), value.lower(), value.title()):
            if other != value:
                yield "case", other, why
    if content in (Content.COMMAND, Content.SQL) and " " in value.strip():
        yield "spaces", value.replace(" ", "  "), "two spaces; match `\\s+`, or allow instead of blocking"
    if test.operator == "eq" and content is not Content.OTHER:
        yield "equality", f"{value} ", "equality misses every other spelling; use `param_matches`"
    what, others = _OTHERS.get(content, ("", None))
    for other in others(value) if others is not None else ():
        hint = "a space before it is dropped by many clients: " if other == f" {value}" else ""
        yield "deny-list", other, f"{hint}{what} instead of blocking"


def _of_a_pattern(pattern: str, value: str, content: Content) -> Iterator[Dodge]:
    for text, atom in inserted(pattern, "x\nx", fits=False):
        if atom.is_dot:
            yield "dot-newline", text, "`.` stops at a line break; begin the pattern with `(?s)`"
    if content in (Content.COMMAND, Content.SQL):
        yield "anchored-block", f" {value}", "it begins with a space; do not anchor what blocks"
        yield "anchored-block", f"true; {value}", "something stands before it; do not anchor what blocks"
    elif content is Content.PATH:
        why = "another spelling of the path; block `..` and `//` as well, or allow instead of blocking"
        for other in (f"/{value}", f"./{value}", f"x/../{value}", f"/x/..{value}"):
            yield "anchored-block", other, why


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


_ADDRESS = "another spelling of the same address; allow the hosts that are meant", _other_urls
_OTHERS: Mapping[Content, tuple[str, Callable[[str], Iterator[str]]]] = {
    Content.COMMAND: (
        "a shell has many ways to say the same; allow the commands that are meant",
        _other_commands,
    ),
    Content.SQL: (
        "SQL has many ways to say the same; allow the statements that are meant",
        _other_statements,
    ),
    Content.URL: _ADDRESS,
    Content.ADDRESS: _ADDRESS,
    Content.PATH: (
        "another spelling of the same path; allow the directories that are meant",
        _other_paths,
    ),
}
"""Why another value has the same effect, and such values."""


def blocking(subject: Subject) -> Iterator[Finding]:
    """Find what `block` rules with conditions miss, where it would run unasked."""
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
    value = find(example.action.params, test.path)
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
    """Return the only values that the tool takes for the parameter `path` at the top, where it says so."""
    inner = properties_of(schema).get(path)
    choices = inner.get("enum") if isinstance(inner, Mapping) else None
    return choices if isinstance(choices, (list, tuple)) else None


def _omitted(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    """Find a parameter that the model may leave out, so that the condition is false."""
    schema, first = example.action.schema, test.path.partition(".")[0]
    properties = properties_of(schema)
    if schema is None or first not in properties:
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
    """Find several conditions, of which a call has to meet all to be blocked."""
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
