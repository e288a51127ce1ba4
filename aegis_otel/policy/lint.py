"""The linter: rules that cannot matter, patterns that may deceive, defaults that may surprise."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aegis_otel.policy.comparisons import JUDGES
from aegis_otel.policy.compiler import CompiledPolicy, CompiledRule
from aegis_otel.policy.evaluator import strictness
from aegis_otel.policy.findings import Finding, Severity
from aegis_otel.policy.globs import Glob, covers
from aegis_otel.policy.index import TypeIndex
from aegis_otel.policy.lint_tools import lint_tools
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import ParamTest, Pattern, PolicyDocument, Rule
from aegis_otel.policy.wording import quoted

_NUMERIC = {"gt", "gte", "lt", "lte"}
_TEXTUAL = {"contains", "matches"}


def lint(policy: Policy, tools: Mapping[str, Mapping[str, Any]] | None = None) -> list[Finding]:
    """What is probably not meant in `policy`, in the order of its files and lines.

    Args:
        tools: JSON Schema of the parameters of each tool, by the tool's name; the policy is then also
            held against the tools.
    """
    rules = policy.compiled.rules
    found = [*_shadowed(rules), *_never(rules), *_patterns(rules), *_documents(policy)]
    if tools is not None:
        found += lint_tools(policy.compiled, tools)
    order = {source: number for number, source in enumerate(policy.sources)}
    return sorted(found, key=lambda finding: (order.get(finding.place.source, 0), finding.place[1:]))


def _shadowed(rules: Sequence[CompiledRule]) -> Iterator[Finding]:
    """Rules behind an unconditional rule that matches all they match."""
    open_rules = [rule for rule in rules if not rule.rule.is_conditional]
    position = {id(rule): number for number, rule in enumerate(open_rules)}
    types = TypeIndex([rule.types for rule in open_rules])
    targets = TypeIndex([rule.targets for rule in open_rules])
    agents = TypeIndex([rule.agents for rule in open_rules])
    before = 0
    for rule in rules:
        # A rule that covers a pattern matches each text of it: one such text finds the few candidates.
        candidates = set(types.find(_example(rule.types[0])))
        candidates.intersection_update(targets.find(_example(rule.targets[0])))
        candidates.intersection_update(agents.find(_example(rule.agents[0])))
        numbers = sorted(number for number in candidates if number < before)
        covering = [earlier for number in numbers if _covers(earlier := open_rules[number], rule)]
        if covering:
            yield _shadow(rule, next((earlier for earlier in covering if _hides(earlier, rule)), covering[0]))
        before += id(rule) in position


def _shadow(rule: CompiledRule, earlier: CompiledRule) -> Finding:
    by = f"shadowed by {quoted(earlier.name)} at {earlier.rule.place}"
    if _hides(earlier, rule):
        message = f"rule {quoted(rule.name)} can never match: {by}"
        return Finding(Severity.ERROR, "shadowed", message, rule.rule.place)
    message = f"rule {quoted(rule.name)} can never be true: {by}; it still decides where the agent is unknown"
    return Finding(Severity.WARNING, "shadowed", message, rule.rule.place)


def _hides(earlier: CompiledRule, later: CompiledRule) -> bool:
    """Whether the covered rule never decides: an action need not name its agent, and of unknown rules
    the strictest decides, of equals the first."""
    return any(glob.matches_all for glob in earlier.agents) or (
        strictness(earlier.verdict) >= strictness(later.verdict)
    )


def _example(glob: Glob) -> str:
    return glob.text.replace("*", "").replace("?", "\0")


def _covers(earlier: CompiledRule, later: CompiledRule) -> bool:
    return all(
        all(any(covers(wide.text, narrow.text) for wide in wides) for narrow in narrows)
        for wides, narrows in (
            (earlier.types, later.types),
            (earlier.targets, later.targets),
            (earlier.agents, later.agents),
        )
    )


def _never(rules: Sequence[CompiledRule]) -> Iterator[Finding]:
    """Rules whose conditions exclude each other."""
    for rule in rules:
        window = rule.rule.window
        if window is not None and window.after is not None and window.after == window.before:
            why = "`time_after` and `time_before` are the same time"
            message = f"rule {quoted(rule.name)} can never match: {why}"
            yield Finding(Severity.ERROR, "never", message, rule.rule.place)
        if window is not None and (window.after, window.before) == (None, None) and not window.weekdays:
            message = f"rule {quoted(rule.name)} has a `timezone` but no time or day it could apply to"
            yield Finding(Severity.WARNING, "timezone", message, window.place)
        for tests in _by_path(rule.rule).values():
            if conflict := _conflict(tests):
                why = "{} contradicts {}".format(*conflict)
                message = (
                    f"rule {quoted(rule.name)} can never be true: {why}; "
                    "it still decides where a value is unknown"
                )
                yield Finding(Severity.WARNING, "contradiction", message, rule.rule.place)


def _by_path(rule: Rule) -> dict[str, list[ParamTest]]:
    paths: dict[str, list[ParamTest]] = {}
    for test in rule.tests:
        paths.setdefault(test.path, []).append(test)
    return paths


def _conflict(tests: Sequence[ParamTest]) -> tuple[ParamTest, ParamTest] | None:
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


def _patterns(rules: Sequence[CompiledRule]) -> Iterator[Finding]:
    for rule in rules:
        for pattern in (*rule.rule.types, *rule.rule.targets, *rule.rule.agents):
            if message := _deceptive(pattern):
                yield Finding(
                    Severity.WARNING, "pattern", f"pattern {quoted(pattern.text)} {message}", pattern.place
                )


def _deceptive(pattern: Pattern) -> str | None:
    text = pattern.text
    if "[" in text:
        return "has a `[`, which is literal: only `*` and `?` are wild"
    if text != text.strip():
        return "begins or ends with a space"
    if unicodedata.normalize("NFKC", text) != text:
        return "has characters that look like plainer ones and do not match them"
    foreign = [c for c in text if not c.isascii() and c.isalpha()]
    if foreign and any(c.isascii() and c.isalpha() for c in text):
        named = f"`{foreign[0]}` ({unicodedata.name(foreign[0], 'unnamed').lower()})"
        return f"mixes ASCII letters with {named}, which may look like one of them"
    return None


def _documents(policy: Policy) -> Iterator[Finding]:
    documents = policy.documents
    for document in documents:
        if not document.states_rules:
            message = "there is no `rules` key: was the file cut short?"
            yield Finding(Severity.WARNING, "no-rules", message, document.defaults_place)
    yield from _defaults(documents, policy.compiled)


def _defaults(documents: Sequence[PolicyDocument], compiled: CompiledPolicy) -> Iterator[Finding]:
    """Surprises of a merge: the first file that states `defaults` wins, wherever it stands."""
    stated = [document for document in documents if document.defaults is not None]
    approval, risk_level = compiled.defaults
    in_force = f"{approval.value} and {risk_level.name.lower()}"
    if stated and stated[0] is not documents[0]:
        yield Finding(
            Severity.WARNING,
            "defaults",
            f"no `defaults` here: those of {stated[0].defaults_place} hold, {in_force}",
            documents[0].defaults_place,
        )
    for document in stated[1:]:
        if document.defaults != compiled.defaults:
            yield Finding(
                Severity.WARNING,
                "defaults",
                f"these `defaults` do not hold: those of {stated[0].defaults_place} do, {in_force}",
                document.defaults_place,
            )
