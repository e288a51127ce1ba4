"""Explain a verdict: every rule that was asked, and the test that decided it. Pure.

It runs the evaluator's own tests in the evaluator's own order, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from aegis_otel.model import Action, Mode, Verdict
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.conditions import Condition, all_hold, combined
from aegis_otel.policy.evaluation.evaluator import (
    advised,
    beside_monitored,
    matched_values,
    strictest,
    tests,
    unknowns,
)
from aegis_otel.policy.evaluation.parameter_paths import Missing, find
from aegis_otel.policy.evaluation.precedence import precedence, with_all_approvers
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.messages import listed, shown
from aegis_otel.policy.operators.answer import Answer
from aegis_otel.policy.patterns import Glob
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import HistoryTest, ParamTest, Rule

_MOST_VALUES = 5
"""Values of a list that are shown."""
REDACTED = "the value it looks at is redacted"
"""Why the answer of a test is unknown, where only a stand-in of the value is there."""
IsHidden = Callable[[object], bool]
"""Whether a value, or a part of it, is only a stand-in for the one that was decided on."""


class Match(StrEnum):
    """How a rule ended."""

    YES = "matches"
    NO = "does not match"
    UNKNOWN = "unknown"
    NOT_ASKED = "not asked"
    """A rule before it matched."""


class Check(NamedTuple):
    """One test of a rule."""

    label: str
    """What is tested: `match.target`, a parameter, the time window."""
    wanted: str
    """The value or pattern that the policy asks for."""
    answer: Answer
    """True, False, or why neither is known."""
    depth: int = 0
    """How many groups of conditions it is in. The tests in a group come after the group's own answer."""
    lacks: str | None = None
    """The parameter that the call does not have, where the answer is False for that reason."""
    seen: str = ""
    """What went before, where the test is about that and it is known."""


class RuleTrace(NamedTuple):
    """One rule, and how it ended."""

    name: str
    rule: Rule
    verdict: Verdict
    """What the rule would say."""
    match: Match
    checks: tuple[Check, ...]
    """The tests in order, up to the first that is false; none where the rule asks for nothing."""


class Explanation(NamedTuple):
    verdict: Verdict
    """What the policy says."""
    rules: tuple[RuleTrace, ...]
    """All rules, in the order in which they are asked."""
    is_schema_known: bool
    """Whether the tool's schema says what it means that a parameter is absent."""


def explain(
    policy: Policy, action: Action, now: datetime, *, is_hidden: IsHidden = lambda _: False
) -> Explanation:
    """Explain what `policy` says about `action` at `now`, which is what `Policy.evaluate` says.

    Args:
        now: UTC when it has no zone.
        is_hidden: Returns whether a value is redacted; a test of such a value is unknown.
    """
    forms = [_explain_form(policy, form, now, is_hidden) for form in (action, *action.forms)]
    # The form that decides; `max` gives the first of equals, as `judge` does.
    found = max((form for form, _ in forms), key=lambda form: precedence(form.verdict))
    verdict = with_all_approvers(found.verdict, [form.verdict for form, _ in forms])
    verdict = beside_monitored(verdict, (each for _, monitored in forms for each in monitored))
    return found._replace(verdict=verdict)


def _explain_form(
    policy: Policy, action: Action, now: datetime, is_hidden: IsHidden
) -> tuple[Explanation, Sequence[Verdict]]:
    """Explain the verdict on one form; return also those of the monitored rules that match it, or may."""
    schema = None if action.schema is None else SchemaReader(action.schema)
    traces: list[RuleTrace] = []
    judged: list[tuple[CompiledRule, list[str] | None]] = []
    certain = False
    for rule in policy.compiled.rules:
        checks: tuple[Check, ...] = ()
        match = Match.NOT_ASKED
        if not certain:
            checks = tuple(_until_false(rule, action, now, schema, is_hidden))
            unknown = unknowns((check.label, None, check.answer) for check in checks if not check.depth)
            judged.append((rule, unknown))
            certain = unknown == [] and rule.verdict.mode is Mode.ENFORCE
            match = Match.NO if unknown is None else Match.UNKNOWN if unknown else Match.YES
        traces.append(RuleTrace(rule.name, rule.rule, rule.verdict, match, checks))
    verdict, monitored = strictest(policy.compiled, judged)
    verdict = advised(verdict, policy.compiled.rules, action, now, schema)
    return Explanation(verdict, tuple(traces), action.schema is not None), monitored


def _until_false(
    rule: CompiledRule, action: Action, now: datetime, schema: SchemaReader | None, is_hidden: IsHidden
) -> Iterator[Check]:
    def check(label: str, test: Condition | tuple[Glob, ...], answer: Answer, depth: int) -> list[Check]:
        if isinstance(test, Condition) and test.members:
            return check_group(test, depth)
        hides = any(map(is_hidden, _tested_values(label, test, action)))
        answer = REDACTED if hides else answer
        lacks = _lacking(test, answer, action)
        return [Check(label, _wanted(test), answer, depth, lacks, _seen(test, action, schema))]

    def check_group(group: Condition, depth: int) -> list[Check]:
        """Answer the group anew: a test in it may look at a redacted value."""
        several = len(group.members) > 1
        found: list[Check] = []
        answers: list[Answer] = []
        for number, member in enumerate(group.members, 1):
            inner, held = check_set(member, depth + 1 + several)
            found += [Check(f"item {number}", "all of it", held, depth + 1), *inner] if several else inner
            answers.append(held)
            if held is True:
                break
        wanted = f"one of {len(group.members)}" if several else "this"
        return [Check(group.label, wanted, combined(group.label.strip("`"), answers), depth), *found]

    def check_set(conditions: tuple[Condition, ...], depth: int) -> tuple[list[Check], Answer]:
        found: list[Check] = []
        labelled: list[tuple[str, Answer]] = []
        for each in conditions:
            checks = check(each.label, each, each.answer(action, now, schema), depth)
            found += checks
            labelled.append((each.label, checks[0].answer))
            if checks[0].answer is False:
                break
        return found, all_hold(labelled)

    for label, test, answer in tests(rule, action, now, schema):
        checks = check(label, test, answer, 0)
        yield from checks
        if checks[0].answer is False:
            return


def _lacking(test: Condition | tuple[Glob, ...], answer: Answer, action: Action) -> str | None:
    """Return the parameter that the call does not have, where the test is false for that reason."""
    if answer is not False or not isinstance(test, Condition) or not isinstance(test.spec, ParamTest):
        return None
    is_absent = bool(test.spec.keys) and find(action.params, test.spec) is Missing.ABSENT
    return test.spec.plain_path if is_absent else None


def _wanted(test: Condition | tuple[Glob, ...]) -> str:
    if not isinstance(test, Condition):
        return listed(glob.text for glob in test)
    if isinstance(test.spec, HistoryTest):
        return test.spec.wanted
    if not isinstance(test.spec, ParamTest):
        return str(test.spec)
    more = len(test.spec.values) - _MOST_VALUES
    values = ", ".join(map(shown, test.spec.values[:_MOST_VALUES]))
    return f"{values} and {more} more" if more > 0 else values


def _seen(test: Condition | tuple[Glob, ...], action: Action, schema: SchemaReader | None) -> str:
    reader = test.history if isinstance(test, Condition) else None
    return "" if reader is None else reader.seen(action, schema)


def _tested_values(label: str, test: Condition | tuple[Glob, ...], action: Action) -> Iterator[object]:
    """Yield the values that the answer of a test depends on."""
    if not isinstance(test, Condition):
        yield from matched_values(label.strip("`").removeprefix("match."), action) or ()
        return
    read = test.spec.params if isinstance(test.spec, HistoryTest) else (test.spec,)
    for spec in read:
        if isinstance(spec, ParamTest):
            yield _looked_at(spec, action)
            value: Any = action.params
            for key in spec.keys:
                value = value.get(key) if isinstance(value, Mapping) else None
                yield value if isinstance(value, str) else None


def _looked_at(test: ParamTest, action: Action) -> object:
    """Return what a condition on parameters looks at: a value, all of them, or only their names."""
    if not test.path:
        return list(action.params)
    return find(action.params, test) if test.keys else action.params
