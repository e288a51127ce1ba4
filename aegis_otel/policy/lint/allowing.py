"""Rules that let calls run: inputs that they let through and that were hardly meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aegis_otel.model import Approval, RiskLevel
from aegis_otel.policy.compiler import CompiledRule
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.parameters import Content, content_of
from aegis_otel.policy.lint.regex_samples import inserted, samples
from aegis_otel.policy.lint.subject import Example, Subject
from aegis_otel.policy.rules import ParamTest
from aegis_otel.policy.wording import quoted, shown

_TRAVERSALS = ("/../../../etc/cron.d/x", "../../../etc/cron.d/x", "x/../../../etc/cron.d/x")
_SECOND_COMMANDS = ("; touch x", " && touch x", " | sh", "$(touch x)", "`touch x`", " > /etc/cron.d/x")
_NEW_LINES = ("\ntouch x", "\n")
_PATCHES = "apply_patch"


class _Attack(NamedTuple):
    kind: str
    value: str
    why: str
    opens: bool
    """Whether it is an error where a block would hold without the rule."""


def allowing(subject: Subject) -> Iterator[Finding]:
    """What `auto` rules let through."""
    for rule in subject.rules:
        if rule.rule.approval is not Approval.AUTO:
            continue
        yield from _plain(rule, is_last=rule is subject.rules[-1])
        if not rule.rule.tests:
            continue
        example = subject.example(rule)
        if example is None:
            continue
        for test in rule.rule.tests:
            if test.operator == "contains":
                yield from _contains(subject, rule, test, example)
            elif test.operator == "matches":
                yield from _matches(subject, rule, test, example)
        yield from _no_lower_bound(subject, rule, example)
        yield from _other_paths(subject, rule, example)


def _plain(rule: CompiledRule, *, is_last: bool) -> Iterator[Finding]:
    written = rule.rule
    everything = all(
        each.text == "*" and each.place == written.place
        for each in (*written.types, *written.targets, *written.agents)
    )
    # Rules after one that matches everything are reported as shadowed.
    if everything and (is_last or written.is_conditional):
        message = (
            f"rule {quoted(rule.name)} is `auto` and has no `match`: it lets every tool run, also those that "
            "are added later; write `match`, or use `defaults` if that is meant"
        )
        yield Finding(Severity.WARNING, "no-match", message, written.place)
    if written.risk_level is RiskLevel.CRITICAL:
        message = (
            f"rule {quoted(rule.name)} is `auto` at `critical` risk: what it names runs unasked; write "
            "`approval: approve` or `block`, or a lower risk"
        )
        yield Finding(Severity.WARNING, "critical-auto", message, written.place)


def _contains(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    text = str(test.expected)
    values: list[object] = [f"{text} and anything else", [test.expected, "anything else"]]
    for value in values:
        if subject.runs(example.with_param(test.path, value), example.now, rule):
            message = (
                f"{test} lets more through than {shown(test.expected)}: {_json(value)} runs, too; use "
                "`param_eq`, or `param_matches` with `^` and `$`"
            )
            yield Finding(Severity.WARNING, "contains-allow", message, test.place)
            return


def _matches(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    seen: set[str] = set()
    flagged = re.search(r"\(\?[a-z]*m", str(test.expected)) is not None
    for attack in _attacks(test):
        if attack.kind in seen or (attack.kind == "multi-line" and not flagged):
            continue
        action = example.with_param(test.path, attack.value)
        if not subject.runs(action, example.now, rule):
            continue
        seen.add(attack.kind)
        behind = subject.without(rule, action, example.now) if attack.opens else None
        blocked = behind is not None and behind.approval is Approval.BLOCK
        severity = Severity.ERROR if blocked else Severity.WARNING
        message = f"{test} of rule {quoted(rule.name)} lets {shown(attack.value)} run: {attack.why}"
        yield Finding(severity, attack.kind, message, test.place)


def _attacks(test: ParamTest) -> Iterator[_Attack]:
    """Values that the pattern may take and should not, the most telling first."""

    pattern, content = str(test.expected), content_of(test.path)
    texts = list(samples(pattern))
    if content is Content.PATH:
        why = "`..` leads out of the directory; block `..` in a rule before, or match whole names"
        for payload in _TRAVERSALS:
            for text in (
                *(text.rstrip("/") + payload if payload[0] == "/" else text + payload for text in texts),
                *(value for value, _ in inserted(pattern, payload)),
            ):
                yield _Attack("traversal", text, why, True)
    yield from _new_lines(pattern, content)
    if content is Content.COMMAND:
        why = "a shell runs a second command there; allow only the characters that are needed"
        for payload in _SECOND_COMMANDS:
            for text, _ in inserted(pattern, payload):
                yield _Attack("shell-chain", text, why, True)
    yield from _ends(texts, content)


def _new_lines(pattern: str, content: Content) -> Iterator[_Attack]:
    for payload in _NEW_LINES:
        for text, atom in inserted(pattern, payload):
            if (
                "\n" in text
                and atom.admits("\n")
                and (content is Content.COMMAND or atom.is_negated or atom.is_dot)
            ):
                what = quoted(atom.source)
                if content is Content.COMMAND:
                    why = f"{what} matches the line break before another command; exclude `\\n` as well"
                else:
                    why = f"{what} matches a line break; exclude `\\n` as well"
                yield _Attack("newline", text, why, content is Content.COMMAND)


def _ends(texts: list[str], content: Content) -> Iterator[_Attack]:
    """Text before and after what the pattern looks for."""
    open_end = "the pattern does not say how the value ends: write `$` at its end, for each alternative"
    open_start = "the pattern does not say how the value begins: write `^` at its start, for each alternative"
    strict = content in (Content.COMMAND, Content.PATH)
    before = {
        Content.COMMAND: "touch x; ",
        Content.PATH: "/etc/cron.d/",
        Content.URL: "https://evil.example/?",
        Content.ADDRESS: "x@evil.example,",
    }.get(content, "anything ")
    after = {
        Content.COMMAND: "; touch x",
        Content.SQL: "; drop table x",
        Content.URL: ".evil.example/",
        Content.ADDRESS: ".evil.example",
    }.get(content, " anything")
    lines = "`^` and `$` hold at each line: drop the flag `m`"
    for text in texts:
        for other in (f"{text}\n{after.strip('; ')}", f"{before.strip('; ')}\n{text}"):
            yield _Attack("multi-line", other, lines, strict)
        yield _Attack("unanchored", before + text, open_start, strict)
        if content is Content.PATH or (content is Content.URL and text.count("/") > 2):
            continue  # what follows a directory, or a whole host, is meant to be open
        yield _Attack("unanchored", text + after, open_end, strict)


def _no_lower_bound(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    for path, tests in _upper_bounds(rule).items():
        if _minimum(example, path) or not subject.runs(
            example.with_param(path, -1_000_000), example.now, rule
        ):
            continue
        message = (
            f"rule {quoted(rule.name)} has no lower bound for {quoted(path)}: -1000000 runs; add "
            f"`param_gte: {{ {path}: 0 }}`"
        )
        yield Finding(Severity.WARNING, "no-lower-bound", message, tests.place)


def _upper_bounds(rule: CompiledRule) -> dict[str, ParamTest]:
    return {test.path: test for test in rule.rule.tests if test.operator in ("lt", "lte")}


def _minimum(example: Example, path: str) -> bool:
    """Whether the tool's schema allows no negative number."""
    schema = example.action.schema or {}
    properties = schema.get("properties")
    inner = properties.get(path) if isinstance(properties, Mapping) else None
    if not isinstance(inner, Mapping):
        return False
    return any(
        isinstance(least := inner.get(key), (int, float)) and least >= 0
        for key in ("minimum", "exclusiveMinimum")
    )


def _other_paths(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Parameters with paths that a rule which looks at one path does not look at."""
    tested = {test.path for test in rule.rule.tests}
    looked = next((test for test in rule.rule.tests if content_of(test.path) is Content.PATH), None)
    if looked is None:
        return
    names: list[str] = []
    if example.action.type == _PATCHES and "move_to" not in tested:
        names.append("move_to")
    properties = (example.action.schema or {}).get("properties")
    if isinstance(properties, Mapping):
        names += [
            name
            for name in properties
            if isinstance(name, str) and name not in tested and content_of(name) is Content.PATH
        ]
    for name in dict.fromkeys(names):
        value = "../.bashrc"
        if not subject.runs(example.with_param(name, value), example.now, rule):
            continue
        message = (
            f"rule {quoted(rule.name)} looks at {quoted(looked.path)} and not at {quoted(name)}: "
            f"{shown(value)} runs there; ask about {quoted(name)} in a rule before"
        )
        yield Finding(Severity.WARNING, "untested-path", message, looked.place)


def _json(value: object) -> str:
    return shown(value) if isinstance(value, str) else "a list with another item"
