"""Decide calls of which the audit does not have everything.

What the audit does not have of a call (what was redacted or cut, what only the tool's schema says, another
reading of the arguments) leaves several verdicts possible. A call is decided only where all of them are the
same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from aegis_otel.audit.record import SCHEMA_VERSION, Reading, recorded_subject
from aegis_otel.model import ERROR_RULE, Action, Mode, RiskLevel, Verdict
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.conditions import Condition
from aegis_otel.policy.evaluation.evaluator import matched_values
from aegis_otel.policy.evaluation.parameter_paths import NOT_ASKED, names_at_the_top, spelled_otherwise
from aegis_otel.policy.evaluation.precedence import APPROVAL_RANKS, precedence
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.patterns import Glob
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import Group, ParamTest, Step
from aegis_otel.policy_tools.hidden_values import hides, is_marked, is_name_hidden, looks_at_hidden
from aegis_otel.policy_tools.replay.call_groups import (
    CallGroup,
    Interest,
    interest_of,
    judged_names,
    recorded_params,
    recorded_time,
)

_SINCE_SCHEMA = 4
"""The first version of the row that says by what other names and arguments a call was judged."""
_MOST_STATES = 64
"""The most states in which a decision may be, between two rules, before it is given up."""
_NOT_UNDERSTOOD = "the row says what this version does not understand"

_Answers = frozenset[bool | None]
"""The answers that a test may have had: true, false, or unknown (None)."""
_TRUE, _FALSE, _UNKNOWN = (frozenset[bool | None]([each]) for each in (True, False, None))
_ANY = frozenset[bool | None]([True, False, None])
_ORDER: Mapping[bool | None, int] = {False: 0, None: 1, True: 2}


def _all_of(sets: Iterable[_Answers]) -> _Answers:
    """Return the answers that a set of conditions may have: the least of those of its members."""
    return _combined(sets, _TRUE, min, last=_FALSE)


def _one_of(sets: Iterable[_Answers]) -> _Answers:
    """Return the answers that `any` may have: the most of those of its members."""
    return _combined(sets, _FALSE, max, last=_TRUE)


def _combined(
    sets: Iterable[_Answers], found: _Answers, choose: Callable[..., Any], last: _Answers
) -> _Answers:
    """Return what `choose` can make of `found` and one answer of each set; after `last` no set changes it."""
    for answers in sets:
        found = frozenset(choose(one, other, key=_ORDER.__getitem__) for one in found for other in answers)
        if found == last:
            break
    return found


class _Given(NamedTuple):
    """One form of a call, as the audit has it."""

    action: Action
    now: datetime
    reader: SchemaReader | None
    """None where the schema of the tool is not known."""
    is_hiding: bool
    """Whether something of the arguments is hidden."""
    hidden: frozenset[str]
    """The keys of `match` that look at a hidden name."""


class Decider:
    """Decides groups of calls by one policy."""

    def __init__(self, policy: Policy, inventory: Inventory | None) -> None:
        self._policy = policy
        self._schemas: dict[str, Mapping[str, Any]] = {}
        for tool in () if inventory is None else inventory.tools:
            for name in tool.names:
                if tool.schema is not None:
                    same = self._schemas.get(name, tool.schema) == tool.schema
                    self._schemas[name] = tool.schema if same else {}
        self._schemas = {name: schema for name, schema in self._schemas.items() if schema}
        self._rules: dict[str, list[CompiledRule]] = {}
        self._why = ""

    def interest(self, action_type: str | None, other_names: str | None) -> Interest:
        """Return what the policy reads of calls of a type with these other names."""
        names = judged_names(action_type, None, other_names)
        return interest_of(rule for each, _ in names or () for rule in self._rules_for(each))

    def decide(self, calls: CallGroup) -> Verdict | str:
        """Return the verdict on calls, or why it is not known, in words that follow "cannot be replayed"."""
        try:
            return self._decide(calls)
        except RecursionError:
            return "their arguments are nested too deeply"

    def _decide(self, calls: CallGroup) -> Verdict | str:
        if (fault := _row_fault(calls)) is not None:
            return fault
        names = judged_names(calls.action_type, calls.target, calls.other_names)
        if names is None:
            return f"{_NOT_UNDERSTOOD} of their other names"
        if any(is_name_hidden(each) for each, _ in names) or calls.action_type is None:
            return "the name of the tool was redacted or cut"
        params, now = recorded_params(calls), recorded_time(calls)
        if params is None:
            return "the row does not have their arguments"
        if now is None:
            return "the row does not have their time"
        self._why = ""
        outcomes: list[Verdict] | None = None
        for type_, target in names:
            found = self._outcomes(self._given(calls, type_, target, params, now))
            if outcomes is None:
                outcomes = found
            else:
                outcomes = _distinct(_stricter(before, after) for before in outcomes for after in found)
        assert outcomes is not None
        if calls.reading in (Reading.SEVERAL, Reading.UNVALIDATED) and self._policy.reads_arguments(
            *(each for each, _ in names)
        ):
            outcomes = _distinct(
                _stricter(before, after) for before in outcomes for after in (before, *self._verdicts(names))
            )
            self._why = self._why or _READINGS[Reading(calls.reading)]
        verdicts = {(each.approval, each.matched_rule, each.mode, each.risk_level) for each in outcomes}
        return outcomes[0] if len(verdicts) == 1 else self._why

    def _given(
        self, calls: CallGroup, type_: str, target: str, params: dict[str, Any], now: datetime
    ) -> _Given:
        hidden = [
            *(["target"] if is_name_hidden(target) else []),
            *(["agent"] if is_name_hidden(calls.agent) else []),
            *(["user"] if is_name_hidden(calls.user) else []),
            *(["tenant"] if is_name_hidden(calls.tenant) else []),
            *(["role"] if calls.roles is not None and is_marked(calls.roles) else []),
        ]
        subject = recorded_subject(calls.user, calls.tenant, calls.roles)
        if subject is None and (calls.user, calls.tenant, calls.roles) != (None, None, None):
            hidden += ["user", "tenant", "role"]
        schema = self._schemas.get(calls.action_type or "")
        action = Action(type_, target, params, agent=calls.agent, subject=subject, schema=schema or {})
        if calls.reading == Reading.UNREAD:
            action.qualify(doubt=_READINGS[Reading.UNREAD])
        reader = None if schema is None else SchemaReader(schema)
        return _Given(action, now, reader, hides(params), frozenset(hidden))

    def _rules_for(self, action_type: str) -> list[CompiledRule]:
        known = self._rules.get(action_type)
        if known is None:
            steps = self._policy.compiled.plan(action_type)[0]
            known = self._rules[action_type] = [rule for _, _, rule in steps if rule is not None]
        return known

    def _verdicts(self, names: Sequence[tuple[str, str]]) -> Iterator[Verdict]:
        for each, _ in names:
            yield from (rule.verdict for rule in self._rules_for(each))
        yield self._policy.compiled.default_verdict

    def _outcomes(self, given: _Given) -> list[Verdict]:
        """Return the verdicts that one form of a call may have, as `evaluator.strictest` chooses them."""
        states: set[tuple[Verdict | None, Verdict | None]] = {(None, None)}
        outcomes: list[Verdict] = []
        for rule in self._rules_for(given.action.type):
            answers = self._matches(rule, given)
            if answers == _FALSE:
                continue
            after: set[tuple[Verdict | None, Verdict | None]] = set(states) if False in answers else set()
            for doubt, monitored in states:
                if None in answers:
                    after.add((_stricter(doubt, rule.verdict), monitored))
                if True in answers and rule.verdict.mode is Mode.MONITOR:
                    after.add((doubt, _stricter(monitored, rule.verdict)))
                elif True in answers:
                    outcomes.append(_chosen(doubt, monitored, rule.verdict))
            states = after
            if not states:
                return _distinct(outcomes)
            if len(states) > _MOST_STATES:
                return _distinct([*outcomes, *self._verdicts([(given.action.type, "")])])
        default = self._policy.compiled.default_verdict
        return _distinct([*outcomes, *(_chosen(*state, default) for state in states)])

    def _matches(self, rule: CompiledRule, given: _Given) -> _Answers:
        found: _Answers = _TRUE
        for name, globs in rule.texts:
            found = _all_of((found, self._text_answers(name, globs, given)))
            if found == _FALSE:
                return found
        return _all_of((found, _all_of(self._answers(each, given) for each in rule.conditions)))

    def _text_answers(self, name: str, globs: Sequence[Glob], given: _Given) -> _Answers:
        if name in given.hidden:
            self._why = self._why or f"rules match the {name}, which was redacted or cut"
            return _ANY
        values = matched_values(name, given.action)
        if values is None or values == (None,):
            return _UNKNOWN
        is_match = any(glob.matches(each) for glob in globs for each in values if isinstance(each, str))
        return _TRUE if is_match else _FALSE

    def _answers(self, condition: Condition, given: _Given) -> _Answers:
        spec = condition.spec
        if isinstance(spec, Group):
            members = (_all_of(self._answers(each, given) for each in member) for member in condition.members)
            if spec.key == "any":
                return _one_of(members)
            return frozenset(None if each is None else not each for each in _all_of(members))
        if isinstance(spec, ParamTest) and given.action.doubt is None:
            where = f"parameter `{spec.path}`" if spec.path else "the parameters"
            if given.is_hiding and looks_at_hidden(spec, given.action.params):
                self._why = self._why or f"rules read {where}, of which something was redacted or cut"
                return _ANY
            if given.reader is None:
                return self._without_schema(condition, spec, given, where)
        answer = condition.answer(given.action, given.now, given.reader)
        return _UNKNOWN if isinstance(answer, str) else _TRUE if answer else _FALSE

    def _without_schema(self, condition: Condition, spec: ParamTest, given: _Given, where: str) -> _Answers:
        """Return the answers that a condition may have had under any schema of the tool, or without one."""
        action, now = given.action, given.now
        found = condition.answer(action, now, None)
        depends = isinstance(found, str) and (
            found in _BY_SCHEMA or not spec.compares_one_value or not spec.path
        )
        if spec.keys:
            tops = names_at_the_top(spec)
            depends = depends or any(any(spelled_otherwise(action.params, name)) for name in tops)
        elif Step.ANYWHERE in spec.steps:
            listed = {"properties": {key: dict[str, Any]() for key in action.params}}
            other = Action(action.type, action.target, action.params, schema=listed)
            depends = depends or condition.answer(other, now, None) is not found
        if depends:
            self._why = self._why or (
                f"rules read {where}, and only the tool's schema says what it means that it is absent, null "
                "or spelled otherwise: give the schemas with --tools FILE"
            )
            return _ANY
        return _UNKNOWN if isinstance(found, str) else _TRUE if found else _FALSE


_BY_SCHEMA = frozenset({NOT_ASKED, "the value is null"})
"""The reasons why an answer is unknown that a schema could take away."""
_READINGS = {
    Reading.UNREAD: "the arguments could not be read",
    Reading.SEVERAL: "rules read arguments of which the tool's validation made others, not recorded",
    Reading.UNVALIDATED: (
        "rules read arguments that no rule read then, so what the tool's validation makes of them is not "
        "known: try the policy as a candidate"
    ),
}


def _row_fault(calls: CallGroup) -> str | None:
    """Return why rows say nothing that can be decided anew, whatever the policy."""
    if calls.rule == ERROR_RULE or calls.approval is None:
        return "no policy decided them"
    if calls.schema_version < _SINCE_SCHEMA:
        return "an earlier version recorded them, which does not say by what other names they were judged"
    if calls.schema_version > SCHEMA_VERSION:
        return "a newer version recorded them"
    if calls.approval not in APPROVAL_RANKS or calls.rule is None or calls.risk not in RiskLevel.__members__:
        return "the row does not say what a policy decided"
    if calls.reading not in (None, *Reading):
        return f"{_NOT_UNDERSTOOD} of their arguments"
    return None


def _distinct(verdicts: Iterable[Verdict]) -> list[Verdict]:
    found = {(each.matched_rule, each.approval, each.risk_level, each.mode): each for each in verdicts}
    return list(found.values())


def _stricter(known: Verdict | None, verdict: Verdict) -> Verdict:
    return verdict if known is None or precedence(verdict) > precedence(known) else known


def _chosen(doubt: Verdict | None, monitored: Verdict | None, certain: Verdict) -> Verdict:
    found = certain
    for each in (monitored, doubt):
        if each is not None and precedence(each) >= precedence(found):
            found = each
    return found
