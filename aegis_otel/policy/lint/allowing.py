"""Rules that let calls run: inputs that they let through and that were hardly meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aegis_otel.model import Approval, RiskLevel
from aegis_otel.policy.compiler import CompiledRule
from aegis_otel.policy.lint.attacks import attacks
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.parameters import Content, changing_verbs, content_of, is_amount, numbers_of
from aegis_otel.policy.lint.subject import Example, Subject
from aegis_otel.policy.rules import ParamTest
from aegis_otel.policy.wording import quoted, shown

_PATCHES = "apply_patch"
_LARGE = 1_000_000_000
_WILD = re.compile(r"[*?]")


def allowing(subject: Subject) -> Iterator[Finding]:
    """What `auto` rules let through."""
    for rule in subject.rules:
        if rule.rule.approval is not Approval.AUTO:
            continue
        yield from _plain(rule, is_last=rule is subject.rules[-1])
        yield from _changing_tools(subject, rule)
        if rule.rule.tests or subject.tools_of(rule):
            yield from _no_upper_bound(subject, rule)
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
    for attack in attacks(test):
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


def _no_lower_bound(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    for path, tests in _upper_bounds(rule).items():
        least = _bound(example, path, ("minimum", "exclusiveMinimum"))
        if (least is not None and least >= 0) or not subject.runs(
            example.with_param(path, -1_000_000), example.now, rule
        ):
            continue
        message = (
            f"rule {quoted(rule.name)} has no lower bound for {quoted(path)}: -1000000 runs; add "
            f"`param_gte: {{ {path}: 0 }}`"
        )
        yield Finding(Severity.WARNING, "no-lower-bound", message, tests.place)


def _no_upper_bound(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Amounts that are asked for a least value only, or that the rule does not look at."""
    example = subject.example(rule)
    if example is None:
        return
    lower = {test.path: test.place for test in rule.rule.tests if test.operator in ("gt", "gte")}
    tested = {test.path for test in rule.rule.tests}
    unasked = dict.fromkeys(
        (name for name in numbers_of(example.action.schema) if name not in tested and is_amount(name)),
        rule.rule.place,
    )
    for path, place in {**lower, **unasked}.items():
        if _bound(example, path, ("maximum", "exclusiveMaximum")) is not None:
            continue
        if not subject.runs(example.with_param(path, _LARGE), example.now, rule):
            continue
        message = (
            f"rule {quoted(rule.name)} has no upper bound for {quoted(path)}: {_LARGE} runs; add "
            f"`param_lte: {{ {path}: … }}` with what may run unasked"
        )
        yield Finding(Severity.WARNING, "no-upper-bound", message, place)


def _changing_tools(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Tools that a wildcard takes and whose names say that they change something, where the glob does not."""
    if rule.rule.is_conditional or not any(_WILD.search(glob.text) for glob in rule.types):
        return
    known = subject.tools_of(rule)
    if not known:
        return
    meant = {verb for glob in rule.types for verb in changing_verbs(glob.text)}
    for tool in known:
        verbs = [verb for verb in changing_verbs(tool.name) if verb not in meant]
        if not verbs or any(glob.text == tool.name for glob in rule.types):
            continue
        if subject.runs_tool(rule, tool):
            message = (
                f"rule {quoted(rule.name)} lets {quoted(tool.name)} run, whose name says {quoted(verbs[0])}: "
                "name the tools that are meant, or block this one in a rule before"
            )
            yield Finding(Severity.WARNING, "wide-glob", message, rule.rule.types[0].place)


def _upper_bounds(rule: CompiledRule) -> dict[str, ParamTest]:
    return {test.path: test for test in rule.rule.tests if test.operator in ("lt", "lte")}


def _bound(example: Example, path: str, keys: tuple[str, str]) -> float | None:
    """What the tool's schema says under one of `keys` about the parameter at the top named `path`."""
    properties = (example.action.schema or {}).get("properties")
    inner = properties.get(path) if isinstance(properties, Mapping) else None
    found = [inner.get(key) for key in keys] if isinstance(inner, Mapping) else []
    return next((each for each in found if isinstance(each, (int, float))), None)


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
