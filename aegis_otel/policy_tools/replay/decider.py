"""Decide calls of which the audit does not have everything.

What the audit does not have of a call (what was redacted or cut, what only the tool's schema says, another
reading of the arguments) leaves several verdicts possible. A call is decided only where all of them are the
same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from aegis_otel.audit.record import SCHEMA_VERSION, Reading, recorded_subject
from aegis_otel.model import ERROR_RULE, Action, Mode, RiskLevel, Subject, Verdict, Where
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.conditions import Condition
from aegis_otel.policy.evaluation.evaluator import matched_values
from aegis_otel.policy.evaluation.history_tests import HistoryReader, Unknown
from aegis_otel.policy.evaluation.parameter_paths import NOT_ASKED, names_at_the_top, spelled_otherwise
from aegis_otel.policy.evaluation.precedence import APPROVAL_RANKS, precedence, with_all_approvers
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.patterns import Glob
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import SPANS, Group, ParamTest, Step
from aegis_otel.policy_tools.hidden_values import hides, is_marked, is_name_hidden, looks_at_hidden
from aegis_otel.policy_tools.replay.call_groups import (
    NOWHERE,
    CallGroup,
    Interest,
    Names,
    interest_of,
    judged_names,
    recorded_params,
    recorded_time,
)
from aegis_otel.policy_tools.replay.possible_answers import ANY, FALSE, TRUE, UNKNOWN, Answers, all_of, one_of
from aegis_otel.policy_tools.replay.recorded_past import RecordedMark, RecordedPast

_SINCE_SCHEMA = 4
"""The first version of the row that says by what other names and arguments a call was judged."""
_MOST_STATES = 64
"""The most states in which a decision may be, between two rules, before it is given up."""
_NOT_UNDERSTOOD = "the row says what this version does not understand"


class _Given(NamedTuple):
    """One form of a call, as the audit has it."""

    action: Action
    now: datetime
    reader: SchemaReader | None
    """None where the schema of the tool is not known."""
    is_hiding: bool
    """Whether something of the arguments is hidden."""
    hidden: frozenset[str]
    """The keys of `match`, and the words of `by`, that look at a hidden name."""
    where: Where
    are_lost: bool = False
    """Whether the row does not have the arguments."""


class _Values(NamedTuple):
    """The values of `by` in a call, as far as the audit has them."""

    values: list[Any]
    known: int
    """How many of them are known, in the order of `HistoryReader.known_first`; then one is not."""
    why: str
    """Why the audit does not have it; empty where the call did not have it either."""

    @property
    def are_all_known(self) -> bool:
        return self.known == len(self.values)


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
        self._past: RecordedPast | None = None
        self._latest: tuple[CallGroup | None, list[_Given]] = None, []
        self._latest_values: dict[HistoryReader, _Values] = {}
        self._counting: dict[Names, list[tuple[CompiledRule, list[HistoryReader]]]] = {}
        readers = [reader for rule in policy.compiled.historic for reader in rule.history]
        self.reach_s = max((reader.keep_s for reader in readers), default=0.0)
        """For how many seconds back the policy asks about earlier calls."""
        self.spans = frozenset(reader.spec.within for reader in readers if reader.spec.within_s is None)
        """The units whose earlier calls all count, however old: some of `session`, `conversation`, `run`."""

    def interest(self, action_type: str | None, other_names: str | None) -> Interest | None:
        """Return what the policy reads of calls of a type with these other names.

        None where it asks about the calls before them: then each is decided alone.
        """
        if self.asks(action_type, other_names):
            return None
        names = judged_names(action_type, None, other_names)
        return interest_of(rule for each, _ in names or () for rule in self._rules_for(each))

    def asks(self, action_type: str | None, other_names: str | None) -> bool:
        """Return whether the policy asks about the calls before those of a type with these other names."""
        names = judged_names(action_type, None, other_names) if self._policy.has_history else ()
        return any(self._policy.compiled.asking(each) for each, _ in names or ())

    def counts(self, action_type: str | None, other_names: str | None) -> bool:
        """Return whether calls of a type with these other names may count for later ones."""
        names = _known_names(action_type, None, other_names)
        return names is None or any(self._policy.compiled.marking(each) for each, _ in names)

    def interest_in_order(self, members: Iterable[Names]) -> Interest:
        """Return what is read of calls with these names where they are decided in the order of time."""
        found = Interest(time="moment")
        for action_type, other_names in members:
            for each, _ in _known_names(action_type, None, other_names) or ():
                rules = (*self._rules_for(each), *self._policy.compiled.marking(each))
                found = found.joined(interest_of(rules))
        return found

    def decide(self, calls: CallGroup, past: RecordedPast | None = None) -> Verdict | str:
        """Return the verdict on calls, or why it is not known, in words that follow "cannot be replayed".

        Args:
            calls: Of the audit.
            past: What went before them; needed where the policy `asks` about it.
        """
        self._past = past
        try:
            return self._decide(calls)
        except RecursionError:
            return "their arguments are nested too deeply"

    def marks(self, calls: CallGroup) -> list[RecordedMark]:
        """Return what a call that ran leaves for those after it, by all conditions on earlier calls."""
        try:
            return list(self._marks(calls))
        except RecursionError:
            return list(self._marks_anywhere())

    def _decide(self, calls: CallGroup) -> Verdict | str:
        if (fault := _row_fault(calls)) is not None:
            return fault
        names = judged_names(calls.action_type, calls.target, calls.other_names)
        if names is None:
            return f"{_NOT_UNDERSTOOD} of their other names"
        if any(is_name_hidden(each) for each, _ in names) or calls.action_type is None:
            return "the name of the tool was redacted or cut"
        forms = self._forms(calls, names)
        if any(form.are_lost for form in forms):
            return "the row does not have their arguments"
        if not forms:
            return "the row does not have their time"
        self._why = ""
        outcomes: list[Verdict] | None = None
        for form in forms:
            found = self._outcomes(form)
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

    def _forms(self, calls: CallGroup, names: Sequence[tuple[str, str]]) -> list[_Given]:
        """Return the forms of calls, the latest of which are at hand; none where the row lacks their time."""
        latest, forms = self._latest
        if latest is calls:
            return forms
        params, now = recorded_params(calls), recorded_time(calls)
        found = (
            [] if now is None else [self._given(calls, type_, target, params, now) for type_, target in names]
        )
        self._latest = calls, found
        self._latest_values.clear()
        return found

    def _given(
        self, calls: CallGroup, type_: str, target: str, known_params: dict[str, Any] | None, now: datetime
    ) -> _Given:
        params = known_params or {}
        hidden, subject = _hidden_names(target, calls.agent, calls.user, calls.tenant, calls.roles)
        where = calls.where
        if where is not NOWHERE:
            hidden = hidden.union(
                (word for word in ("tool", *SPANS) if is_name_hidden(getattr(where, word))),
                (word for word in SPANS if getattr(where, word) is None),
            )
        schema = self._schemas.get(calls.action_type or "")
        action = Action(type_, target, params, agent=calls.agent, subject=subject, schema=schema or {})
        if calls.reading == Reading.UNREAD:
            action.qualify(doubt=_READINGS[Reading.UNREAD])
        reader = None if schema is None else SchemaReader(schema)
        return _Given(action, now, reader, hides(params), hidden, where, known_params is None)

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
            if answers == FALSE:
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

    def _matches(self, rule: CompiledRule, given: _Given) -> Answers:
        found: Answers = TRUE
        for name, globs in rule.texts:
            found = all_of((found, self._text_answers(name, globs, given)))
            if found == FALSE:
                return found
        return all_of((found, all_of(self._answers(each, given) for each in rule.conditions)))

    def _text_answers(self, name: str, globs: Sequence[Glob], given: _Given) -> Answers:
        if name in given.hidden:
            self._why = self._why or f"rules match the {name}, which was redacted or cut"
            return ANY
        values = matched_values(name, given.action)
        if values is None or values == (None,):
            return UNKNOWN
        is_match = any(glob.matches(each) for glob in globs for each in values if isinstance(each, str))
        return TRUE if is_match else FALSE

    def _answers(self, condition: Condition, given: _Given) -> Answers:
        spec = condition.spec
        if isinstance(spec, Group):
            members = (all_of(self._answers(each, given) for each in member) for member in condition.members)
            if spec.key == "any":
                return one_of(members)
            return frozenset(None if each is None else not each for each in all_of(members))
        if condition.history is not None:
            return self._history_answers(condition.history, given)
        if isinstance(spec, ParamTest) and given.action.doubt is None:
            where = f"parameter `{spec.path}`" if spec.path else "the parameters"
            if given.are_lost:
                return ANY
            if given.is_hiding and looks_at_hidden(spec, given.action.params):
                self._why = self._why or f"rules read {where}, of which something was redacted or cut"
                return ANY
            if given.reader is None:
                return self._without_schema(condition, spec, given, where)
        answer = condition.answer(given.action, given.now, given.reader)
        return UNKNOWN if isinstance(answer, str) else TRUE if answer else FALSE

    def _history_answers(self, reader: HistoryReader, given: _Given) -> Answers:
        """Return the answers that a condition on earlier calls may have had."""
        if self._past is None or reader.spec.key == "tokens_over":
            self._why = self._why or "rules count tokens, which the audit does not have"
            return ANY
        found = self._values(reader, given)
        amount, why = self._amount(reader, given)
        if found.why or why:
            self._why = self._why or f"rules count earlier calls by {found.why or why}"
            return ANY
        if not found.are_all_known or amount is None:
            return UNKNOWN
        answers, why = self._past.possible(reader, found.values, amount, given.where, given.now)
        self._why = self._why or why
        return answers

    def _values(self, reader: HistoryReader, given: _Given) -> _Values:
        """Return the values of `by`, which are the same in all forms of a call."""
        if given.are_lost:
            return _values(reader, given)
        known = self._latest_values.get(reader)
        if known is None:
            known = self._latest_values[reader] = _values(reader, given)
        return known

    def _amount(self, reader: HistoryReader, given: _Given) -> tuple[int | None, str]:
        """Return the millionths of a call, None where they were not known; and why the audit lacks them."""
        param = reader.spec.amount
        if param is None:
            return 0, ""
        if why := _hidden_param(param, given):
            return None, why
        try:
            return reader.amount(given.action, given.where, given.reader), ""
        except Unknown as error:
            return None, _schema_doubt(param, given, error)

    def _marks(self, calls: CallGroup) -> Iterator[RecordedMark]:
        names = _known_names(calls.action_type, calls.target, calls.other_names)
        is_readable = calls.reading in (None, *Reading) and _version_fault(calls.schema_version) is None
        forms = self._forms(calls, names) if names is not None and is_readable else []
        if not forms:
            yield from self._marks_anywhere()
            return
        has_others = calls.reading in (Reading.SEVERAL, Reading.UNVALIDATED)
        for rule, readers in self._readers_for(calls.action_type, calls.other_names):
            texts = [self._scope_answers(rule, form) for form in forms]
            counts = [
                text if text == FALSE else all_of((text, self._own_answers(rule, form)))
                for text, form in zip(texts, forms, strict=True)
            ]
            for reader in readers:
                if reader.types:
                    yield from self._marks_after(reader, forms, may_differ=has_others)
                    continue
                is_certain = any(False not in each for each in counts)
                is_possible = is_certain or any(each != FALSE for each in counts)
                found = list(self._marks_of(reader, forms[0], is_certain=is_certain)) if is_possible else []
                yield from found
                if not has_others or not rule.names:
                    continue
                is_the_same = is_certain and found and not reader.spec.params
                if not is_the_same and any(each != FALSE for each in texts):
                    yield from self._marks_of(reader, forms[0]._replace(are_lost=True), is_certain=False)

    def _readers_for(
        self, action_type: str | None, other_names: str | None
    ) -> list[tuple[CompiledRule, list[HistoryReader]]]:
        """Return the rules that may count calls with these names, and their conditions that may."""
        key = action_type, other_names
        known = self._counting.get(key)
        if known is None:
            types = [each for each, _ in judged_names(action_type, None, other_names) or ()]
            rules = {rule.name: rule for each in types for rule in self._policy.compiled.marking(each)}
            known = self._counting[key] = [
                (
                    rule,
                    [
                        reader
                        for reader in rule.history
                        if not reader.types
                        or any(glob.matches(each) for glob in reader.types for each in types)
                    ],
                )
                for rule in rules.values()
            ]
        return known

    def _marks_after(
        self, reader: HistoryReader, forms: Sequence[_Given], *, may_differ: bool
    ) -> Iterator[RecordedMark]:
        """Yield what one `after` counts of a call, for certain only where all its forms are such a call."""
        may_differ = may_differ and bool(reader.spec.params)
        has_types = all(any(glob.matches(each.action.type) for glob in reader.types) for each in forms)
        yield from self._marks_of(reader, forms[0], is_certain=not may_differ, in_all_forms=has_types)
        if may_differ:
            yield from self._marks_of(reader, forms[0]._replace(are_lost=True), is_certain=False)

    def _marks_of(
        self, reader: HistoryReader, given: _Given, *, is_certain: bool, in_all_forms: bool = True
    ) -> Iterator[RecordedMark]:
        """Yield what one condition counts of a call."""
        if reader.spec.key == "tokens_over":
            return
        values, known, why = self._values(reader, given)
        amount, hidden = self._amount(reader, given)
        if known < len(values) and not why and not reader.types:
            return  # it was not known in which series it counts
        if amount is None and not hidden:
            return
        is_certain = is_certain and not why and not hidden
        mark = reader.mark(
            reader.without(values, known), amount or 0, is_certain=in_all_forms or not is_certain
        )
        yield RecordedMark(mark, is_certain, bool(reader.types))

    def _marks_anywhere(self) -> Iterator[RecordedMark]:
        """Yield what a call may have left of which the audit has too little."""
        for rule in self._policy.compiled.historic:
            for reader in rule.history:
                yield RecordedMark(reader.mark([None] * len(reader.known_first)), is_certain=False)

    def _scope_answers(self, rule: CompiledRule, given: _Given) -> Answers:
        return all_of(self._text_answers(name, globs, given) for name, globs in rule.texts)

    def _own_answers(self, rule: CompiledRule, given: _Given) -> Answers:
        """Return the answers of the conditions of a rule that do not read what went before."""
        return all_of(
            self._answers(each, given)
            for each in rule.conditions
            if each.history is None and not (isinstance(each.spec, Group) and each.spec.reads_history)
        )

    def _without_schema(self, condition: Condition, spec: ParamTest, given: _Given, where: str) -> Answers:
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
            self._why = self._why or f"rules read {where}, {_ONLY_THE_SCHEMA}"
            return ANY
        return UNKNOWN if isinstance(found, str) else TRUE if found else FALSE


_ONLY_THE_SCHEMA = (
    "and only the tool's schema says what it means that it is absent, null or spelled otherwise: give the "
    "schemas with --tools FILE"
)
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


@lru_cache(1_000)
def _hidden_names(
    target: str | None, agent: str | None, user: str | None, tenant: str | None, roles: str | None
) -> tuple[frozenset[str], Subject | None]:
    """Return what of a call's names the audit does not have, by the keys of `match`; and its subject."""
    names = {"target": target, "agent": agent, "user": user, "tenant": tenant}
    hidden = {key for key, name in names.items() if is_name_hidden(name)}
    if roles is not None and is_marked(roles):
        hidden.add("role")
    subject = recorded_subject(user, tenant, roles)
    if subject is None and (user, tenant, roles) != (None, None, None):
        hidden.update(("user", "tenant", "role"))
    return frozenset(hidden), subject


@lru_cache(1_000)
def _known_names(
    action_type: str | None, target: str | None, others: str | None
) -> list[tuple[str, str]] | None:
    """Return the types and targets that a call was judged by; None where the audit does not have all."""
    names = judged_names(action_type, target, others)
    hides_one = action_type is None or any(is_name_hidden(each) for each, _ in names or ())
    return None if hides_one else names


def _values(reader: HistoryReader, given: _Given) -> _Values:
    values: list[Any] = [None] * len(reader.known_first)
    for known, place in enumerate(reader.known_first):
        divider = reader.spec.by[place]
        if divider.param is not None:
            why = _hidden_param(divider.param, given)
        else:
            why = _hidden_fact(divider.word, given) if divider.word in given.hidden else ""
        if why:
            return _Values(values, known, why)
        try:
            values[place] = reader.value(place, given.action, given.where, given.reader)
        except Unknown as error:
            return _Values(values, known, _schema_doubt(divider.param, given, error))
    return _Values(values, len(values), "")


def _hidden_param(param: ParamTest, given: _Given) -> str:
    """Return why the audit does not have the value of a parameter; empty where it does, or none was read."""
    if given.action.doubt is not None:
        return ""
    where = f"parameter `{param.path}`"
    if given.are_lost:
        return f"{where}, which the row does not have for certain"
    if given.is_hiding and looks_at_hidden(param, given.action.params):
        return f"{where}, of which something was redacted or cut"
    tops = names_at_the_top(param)
    if given.reader is None and any(any(spelled_otherwise(given.action.params, name)) for name in tops):
        return _by_schema(param)
    return ""


def _by_schema(param: ParamTest) -> str:
    return f"parameter `{param.path}`, {_ONLY_THE_SCHEMA}"


def _hidden_fact(word: str, given: _Given) -> str:
    is_missing = word in SPANS and getattr(given.where, word) is None
    return f"the {word}, which {'the row does not have' if is_missing else 'was redacted or cut'}"


def _schema_doubt(param: ParamTest | None, given: _Given, error: Unknown) -> str:
    """Return that only the tool's schema says what is not known; empty where it does not say it either."""
    is_nested = param is not None and (len(param.keys) > 1 or bool(param.steps))
    depends = is_nested and given.reader is None and str(error).endswith(tuple(_BY_SCHEMA))
    return _by_schema(param) if param is not None and depends else ""


def is_of_another_version(column: str) -> str:
    """Return the SQL condition on rows of versions that do not say what this one reads."""
    return f"coalesce({column}, 1) NOT BETWEEN {_SINCE_SCHEMA} AND {SCHEMA_VERSION}"


def _row_fault(calls: CallGroup) -> str | None:
    """Return why rows say nothing that can be decided anew, whatever the policy."""
    if calls.rule == ERROR_RULE or calls.approval is None:
        return "no policy decided them"
    if (fault := _version_fault(calls.schema_version)) is not None:
        return fault
    if calls.approval not in APPROVAL_RANKS or calls.rule is None or calls.risk not in RiskLevel.__members__:
        return "the row does not say what a policy decided"
    if calls.reading not in (None, *Reading):
        return f"{_NOT_UNDERSTOOD} of their arguments"
    return None


def _version_fault(version: int) -> str | None:
    if version < _SINCE_SCHEMA:
        return "an earlier version recorded them, which does not say by what other names they were judged"
    return "a newer version recorded them" if version > SCHEMA_VERSION else None


def _distinct(verdicts: Iterable[Verdict]) -> list[Verdict]:
    found = {
        (each.matched_rule, each.approval, each.risk_level, each.mode, each.approvers): each
        for each in verdicts
    }
    return list(found.values())


def _stricter(known: Verdict | None, verdict: Verdict) -> Verdict:
    if known is None or known is verdict:
        return verdict
    first, second = sorted((known, verdict), key=precedence, reverse=True)
    return with_all_approvers(first, (second,))


def _chosen(doubt: Verdict | None, monitored: Verdict | None, certain: Verdict) -> Verdict:
    found = certain
    for each in (monitored, doubt):
        if each is not None and precedence(each) >= precedence(found):
            found = each
    return with_all_approvers(found, [each for each in (doubt, certain) if each is not None])
