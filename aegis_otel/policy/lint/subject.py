"""A policy under the linter, and the actions that are tried on it.

A rule is judged by what it does: the linter makes up an action that the rule decides, changes it as an
attacker would, and evaluates it again. A finding about it has an example that was tried.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import islice, product
from typing import Any, NamedTuple

from aegis_otel import model
from aegis_otel.model import Action, Approval, Verdict
from aegis_otel.policy.evaluation.compiler import CompiledPolicy, CompiledRule
from aegis_otel.policy.evaluation.evaluator import judge as judge_action
from aegis_otel.policy.evaluation.evaluator import tests as tests_of
from aegis_otel.policy.evaluation.evaluator import unknowns
from aegis_otel.policy.evaluation.parameter_paths import find
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.history.pasts import NOTHING_BEFORE
from aegis_otel.policy.lint.finding import Finding
from aegis_otel.policy.lint.regex_samples import samples
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool
from aegis_otel.policy.operators.table import Meaning, at_time, is_absence, judge, meaning
from aegis_otel.policy.patterns import Glob
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import Conditions, ParamTest, Step, TimeWindow, by_path, parts_of, path_of

NOON = datetime(2026, 1, 7, 12, tzinfo=UTC)
"""A Wednesday; the time of actions that no time window decides."""
_MAX_WORK = 400_000
"""Globs that may be tried to find the rules for the actions of one policy: a fraction of a second."""
_MAX_TRIED = 4000
"""Actions that are tried on one policy."""
_MAX_ASKED = 400_000
"""Rules that may be asked for these: a policy of rules for every tool has as many for each action."""
_MAX_WAYS = 20
"""Ways to make the conditions of a rule hold that are tried: each `any` has several."""
_SUBSTITUTES = ("", "x", "tool")


class Example(NamedTuple):
    """An action that one rule decides, and when."""

    action: Action
    now: datetime
    tool: KnownTool | None

    def with_param(self, path: str, value: Any) -> Action:
        """Return the action with another value at `path`; `ABSENT` takes the parameter away."""
        parts = (path,) if path in self.action.params else parts_of(path)
        return replace(self.action, params=_put(self.action.params, parts, value))

    def value(self, test: ParamTest) -> Any:
        """Return the value that `test` compares: of a list, that of the first item."""
        if not test.steps:
            return find(self.action.params, test)
        return self.value_at((*test.keys, *test.steps))

    def value_at(self, parts: Sequence[str | Step]) -> Any:
        """Return the value that the keys and steps of a path lead to; None where there is none."""
        found: Any = self.action.params
        for part in parts:
            found = _taken(found, part)
        return found


ABSENT = object()
"""Stands for the value of a parameter that is left out."""


class Subject:
    """The policy, the tools that it governs, and the examples that were made up for its rules."""

    def __init__(self, policy: Policy, inventory: Inventory | None) -> None:
        self.policy = policy
        self.inventory = inventory
        self._examples: dict[str, Example | None] = {}
        self._types: set[str] = set()
        self._tried = self._asked = 0
        self._without: dict[str, CompiledPolicy] = {}
        self._ways: dict[str, list[list[ParamTest]]] = {}
        self.left_out = False
        """Whether a condition was not tried because its rule has too many ways to hold."""

    @property
    def rules(self) -> tuple[CompiledRule, ...]:
        return self.policy.compiled.rules

    @cached_property
    def _max_types(self) -> int:
        return max(20, _MAX_WORK // (1 + len(self.rules)))

    @property
    def is_exhausted(self) -> bool:
        """Whether the policy is too large for every rule to be tried."""
        return len(self._types) > self._max_types or self._tried > _MAX_TRIED or self._asked > _MAX_ASKED

    def tools_of(self, rule: CompiledRule) -> list[KnownTool]:
        """Return the known tools that fall under the rule's type, target and agent."""
        return [tool for tool in (self.inventory.tools if self.inventory else ()) if falls_under(tool, rule)]

    def verdict(self, action: Action, now: datetime = NOON) -> Verdict:
        """Return what the policy says."""
        self._tried += 1
        self._asked += len(self.policy.compiled.plan(action.type)[0])
        return self.policy.evaluate(self._after_nothing(action), now=now).verdict

    def _after_nothing(self, action: Action) -> Action:
        """Return the action as the first call of all: so are conditions on earlier calls tried."""
        return action.with_past(NOTHING_BEFORE) if self.policy.has_history else action

    def runs(self, action: Action, now: datetime, rule: CompiledRule | None = None) -> bool:
        """Return whether the action runs unasked, and by `rule` where one is given."""
        verdict = self.verdict(action, now)
        return verdict.approval is Approval.AUTO and (rule is None or verdict.matched_rule == rule.name)

    def runs_with_another_item(
        self, rule: CompiledRule | None, example: Example, test: ParamTest, step: Step
    ) -> bool:
        """Return whether the example runs, by `rule` if given, with one more item in the list of `step`."""
        if step not in test.steps:
            return False
        number = test.steps.index(step)
        path = path_of((*test.keys, *test.steps[:number]))
        is_mapping = isinstance(next(iter(test.steps[number + 1 :]), None), str)
        item = {} if is_mapping else "anything else"
        first = example.value_at((*test.keys, *test.steps[: number + 1]))
        return self.runs(example.with_param(path, [first, item]), example.now, rule)

    def without(self, rule: CompiledRule, action: Action, now: datetime) -> Verdict | None:
        """Return what the policy would say without the rule; None for a policy too large to ask."""
        if len(self.rules) > 200:
            return None
        if rule.name not in self._without:
            others = tuple(each for each in self.rules if each is not rule)
            self._without[rule.name] = CompiledPolicy(others, self.policy.default, self.policy.digest)
        return judge_action(self._without[rule.name], self._after_nothing(action), now)

    def example(self, rule: CompiledRule, test: ParamTest | None = None) -> Example | None:
        """Return an action that the rule decides; None where none was found.

        Args:
            test: A condition in a group that must hold for the action, without `not` around it.
        """
        if test is not None and test not in rule.rule.tests:
            return None if self.is_exhausted else self._make(rule, test)
        if rule.name not in self._examples:
            self._examples[rule.name] = None if self.is_exhausted else self._make(rule)
        return self._examples[rule.name]

    def enforced_instead(self, rule: CompiledRule) -> Verdict | None:
        """Return the verdict that stands instead of that of `rule`, which matches and is only monitored."""
        for example in () if self.is_exhausted else self._candidates(rule):
            schema = None if example.action.schema is None else SchemaReader(example.action.schema)
            if unknowns(tests_of(rule, self._after_nothing(example.action), example.now, schema)) == []:
                verdict = self.verdict(example.action, example.now)
                return None if verdict.matched_rule == rule.name else verdict
        return None

    def _make(self, rule: CompiledRule, test: ParamTest | None = None) -> Example | None:
        for example in self._candidates(rule, test):
            verdict = self.verdict(example.action, example.now)
            if verdict.matched_rule == rule.name and not verdict.errors:
                return example
        return None

    def _candidates(self, rule: CompiledRule, test: ParamTest | None = None) -> Iterator[Example]:
        """Yield actions that the rule may match."""
        choices = self._ways_of(rule)
        if test is not None:
            has_more = len(choices) == _MAX_WAYS
            choices = [tests for tests in choices if test in tests]
            self.left_out |= has_more and not choices
        ways = [params for tests in choices if (params := _params(tests)) is not None]
        times = list(_times(rule))
        for (action_type, target, agent, tool), params in product(self._calls(rule), ways):
            schema = None if tool is None else tool.schema
            filled = _filled(params, schema)
            for now in times:
                who = _subject(rule)
                action = Action(action_type, target, filled, agent=agent, subject=who, schema=schema)
                self._types.add(action_type)
                yield Example(action, now, tool)

    def _ways_of(self, rule: CompiledRule) -> list[list[ParamTest]]:
        """Return the ways to make the rule's conditions hold that are tried; each condition asks for them."""
        if rule.name not in self._ways:
            self._ways[rule.name] = list(islice(_ways(rule.rule.conditions), _MAX_WAYS))
        return self._ways[rule.name]

    def runs_tool(self, rule: CompiledRule, tool: KnownTool) -> bool:
        """Return whether a call of `tool` without arguments runs unasked, by `rule`."""
        target = tool.target or _text(rule.targets, "default")
        agent = tool.agent or _text(rule.agents, "agent")
        return self.runs(Action(tool.name, target, {}, agent=agent, subject=_subject(rule)), NOON, rule)

    def _calls(self, rule: CompiledRule) -> Iterator[tuple[str, str, str, KnownTool | None]]:
        """Yield types, targets and agents that the rule matches: those of tools first."""
        target, agent = _text(rule.targets, "default"), _text(rule.agents, "agent")
        known = self.tools_of(rule)
        for tool in known[:5]:
            name = next(each for each in tool.names if any(glob.matches(each) for glob in rule.types))
            yield name, tool.target or target, tool.agent or agent, tool
        if self.inventory is None or not known:
            for glob in rule.types[:5]:
                for substitute in _SUBSTITUTES if "*" in glob.text else ("",):
                    text = glob.text.replace("*", substitute).replace("?", "x")
                    if text:
                        yield text, target, agent, None


class Family(NamedTuple):
    """The checks of one module."""

    of_policy: tuple[Callable[[Subject], Iterator[Finding]], ...] = ()
    """Called once for a policy."""
    of_rule: tuple[Callable[[Subject, CompiledRule], Iterator[Finding]], ...] = ()
    """Called for each rule of it."""


def falls_under(tool: KnownTool, rule: CompiledRule) -> bool:
    """Return whether the rule matches the tool's name, target and agent, as far as they are known."""
    return (
        any(glob.matches(name) for glob in rule.types for name in tool.names)
        and (tool.target is None or any(glob.matches(tool.target) for glob in rule.targets))
        and (tool.agent is None or any(glob.matches(tool.agent) for glob in rule.agents))
    )


def _text(globs: Sequence[Glob], usual: str) -> str:
    if not globs or any(glob.matches(usual) for glob in globs):
        return usual
    return globs[0].text.replace("*", "").replace("?", "x") or usual


def _subject(rule: CompiledRule) -> model.Subject:
    """Return somebody whom the rule matches, and whom few others do that ask for a subject."""
    asked = dict(rule.subject)
    role = (_text(asked["role"], "role"),) if "role" in asked else ()
    return model.Subject(_text(asked.get("user", ()), "user"), _text(asked.get("tenant", ()), "tenant"), role)


def _times(rule: CompiledRule) -> Iterator[datetime]:
    """Yield times at which the rule's window holds; noon where it has none."""
    tests = [condition for condition in rule.conditions if isinstance(condition.spec, TimeWindow)]
    times = (NOON + timedelta(hours=hours, minutes=1 if hours else 0) for hours in range(24 * 7))
    holds = (now for now in times if all(test.test(NO_ACTION, now, None) is True for test in tests))
    yield from islice(holds, 2)


NO_ACTION = Action("none")


def _ways(conditions: Conditions) -> Iterator[list[ParamTest]]:
    """Yield conditions on parameters that together may make `conditions` hold: one item of each `any`."""
    groups = [group for group in conditions.groups if group.key == "any"]
    items = (
        [way for member in group.members for way in islice(_ways(member), _MAX_WAYS)] for group in groups
    )
    for chosen in product(*items):
        yield [*conditions.tests, *(test for way in chosen for test in way)]


def _params(wanted: Sequence[ParamTest]) -> dict[str, Any] | None:
    """Return parameters that pass all tests; None where none were found."""
    params: dict[str, Any] = {}
    tested = [at_time(test, NOON) for test in wanted if test.path and not is_absence(test)]
    for path, tests in by_path(tested).items():
        values = (value for value in _values(tests) if all(judge(test, value) is True for test in tests))
        value = next(values, ABSENT)
        if value is ABSENT:
            return None
        params = _put(params, parts_of(path), value)
    return params


def passing(test: ParamTest) -> Any:
    """Return a value that passes `test`; `ABSENT` where none was found."""
    test = at_time(test, NOON)
    return next((value for value in _values([test]) if judge(test, value) is True), ABSENT)


def _values(tests: Sequence[ParamTest]) -> Iterator[Any]:
    """Yield values that may pass all of the tests of one parameter."""
    for test in tests:
        if meaning(test) is Meaning.PATTERN:
            yield from samples(str(test.expected))
        elif meaning(test) is Meaning.PART:
            yield from (test.expected, [test.expected])
        else:
            yield from test.values or ("x",)
    numbers = [test.expected for test in tests if isinstance(test.expected, (int, float))]
    yield from (number + step for number in numbers for step in (1, -1))
    with contextlib.suppress(OverflowError):  # integers may be larger than a float can be
        yield from (number + step for number in numbers for step in (0.001, -0.001))
        yield sum(numbers) / max(len(numbers), 1)


def _put(whole: Any, parts: Sequence[str | Step], value: Any) -> Any:
    """Return `whole` with `value` where `parts` lead to: in a list as an item, in JSON as text."""
    if not parts:
        return value
    first, *rest = parts
    if isinstance(first, Step):
        inner = _put(_taken(whole, first), rest, value)
        if first is Step.ANYWHERE and isinstance(whole, Mapping):
            return {**whole, _ANY_NAME: inner}
        return _untaken(whole, first, inner)
    mapping = whole if isinstance(whole, Mapping) else {}
    changed = {**mapping, first: _put(mapping.get(first), rest, value)}
    if changed[first] is ABSENT:
        del changed[first]
    return changed


def _taken(value: Any, step: str | Step) -> Any:
    """Return what a step makes of an example's value; None where it makes nothing of it."""
    if isinstance(step, str):
        return value.get(step) if isinstance(value, Mapping) else None
    if step in (Step.ANY, Step.ALL):
        return value[0] if isinstance(value, list) and value else None
    if step is Step.ANYWHERE:
        return value.get(_ANY_NAME) if isinstance(value, Mapping) else value
    if step is Step.JSON and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return json.loads(value)
        return None
    return value if step is Step.LOWER else None


def _untaken(whole: Any, step: Step, given: Any) -> Any:
    """Return what a step is taken on that gives `given`, as close to `whole` as can be."""
    items = whole if isinstance(whole, list) else []
    if step is Step.ANY:
        return [given, *items[1:]]
    if step is Step.ALL:
        return [given] * max(1, len(items))
    if step is Step.COUNT:
        is_count = isinstance(given, int) and 0 <= given <= _LONGEST_LIST
        return (items[:1] or ["x"]) * given if is_count else None
    if step is Step.NUMBER:
        return _as_text(given)
    return json.dumps(given) if step is Step.JSON else given


def _as_text(number: Any) -> Any:
    is_number = isinstance(number, (int, float)) and math.isfinite(number)
    return format(Decimal(repr(number)), "f") if is_number else number


_ANY_NAME = "text"
"""The name of a parameter where a rule looks at any."""
_LONGEST_LIST = 1000


_PLAIN = {"string": "x", "number": 1, "integer": 1, "boolean": False, "array": [], "object": {}}


def _filled(params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parameters, and something for each other that the schema requires."""
    filled, properties = dict(params), properties_of(schema)
    required = (schema or {}).get("required")
    for name in required if isinstance(required, (list, tuple)) else ():
        inner = properties.get(name) if isinstance(name, str) else None
        if isinstance(inner, Mapping) and name not in filled:
            choices, kind = inner.get("enum"), inner.get("type")
            plain = _PLAIN.get(kind if isinstance(kind, str) else "string", "x")
            filled[name] = choices[0] if isinstance(choices, (list, tuple)) and choices else plain
    return filled
