"""Decide the calls of an audit anew under another policy, and tell what would be decided otherwise.

DuckDB groups calls that the policy cannot tell apart; each group is decided once. What the audit does not
have of a call (what was redacted or cut, what only the tool's schema says, another reading of the arguments)
leaves several verdicts possible. A call is replayed only where all of them are the same one, so nothing is
called the same that may not be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.lake.fold import literal
from aegis_otel.audit.query.filters import Condition as RowCondition
from aegis_otel.audit.query.rows import run_query
from aegis_otel.audit.record import CUT, Reading, recorded_subject
from aegis_otel.model import ERROR_RULE, Action, Mode, Verdict
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

if TYPE_CHECKING:
    import duckdb

_SINCE_SCHEMA = 4
"""The first version of the row that says by what other names and arguments a call was judged."""
_MOST_CLASSES = 8
"""The most queries of the audit; what needs more of them is asked for with all columns that any needs."""
_MOST_STATES = 64
"""The most states in which a decision may be, between two rules, before it is given up."""
_EXAMPLES = 3
_ODD = frozenset('"\\*')
"""Characters of a name that mean something else in a JSON path of DuckDB."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Effect(StrEnum):
    """What the policy would do to calls, against what was decided."""

    LOOSER = "looser"
    STRICTER = "stricter"
    OTHER_RULE = "other rule"
    """The same, by another rule."""


class Difference(NamedTuple):
    """Calls that would be decided otherwise, by the same rules."""

    effect: Effect
    approval: str
    """What was decided: auto, approve or block; auto where the rule is only monitored."""
    rule: str
    new_approval: str
    new_rule: str
    calls: int
    examples: tuple[str, ...]
    """The ids of the newest of them."""


class Obstacle(NamedTuple):
    """Calls that cannot be replayed, all for one reason."""

    reason: str
    calls: int
    example: str


class Replay(NamedTuple):
    calls: int
    differences: tuple[Difference, ...]
    """The looser ones first, and of these the most frequent."""
    same: int
    """Calls that would be decided alike, by the same rule."""
    obstacles: tuple[Obstacle, ...]
    """Why calls cannot be replayed, the most frequent reason first."""
    policies: int
    """How many policies decided these calls."""
    by_others: int
    """Calls that were decided by another policy than the last of them."""
    monitored: int
    """Calls of programs in monitor mode; they are compared by what their rule said."""

    @property
    def unreplayed(self) -> int:
        return sum(each.calls for each in self.obstacles)

    @property
    def loosens(self) -> bool:
        return any(each.effect is Effect.LOOSER for each in self.differences)


def replay(
    policy: Policy,
    audit: duckdb.DuckDBPyConnection,
    condition: RowCondition,
    inventory: Inventory | None = None,
) -> Replay:
    """Decide the rows that match anew.

    Args:
        policy: The policy to try.
        audit: A connection of `audit.query.connection`.
        condition: Which rows.
        inventory: The tools, whose schemas say what an absent or a null parameter means; None where they are
            not known.

    Raises:
        AuditError: the audit cannot be read.
    """
    decider = _Decider(policy, inventory)
    differences: dict[tuple[Effect, str, str, str, str], _Tally] = {}
    obstacles: dict[str, _Tally] = {}
    same = 0
    for calls in _groups(decider, audit, condition):
        found = decider.decide(calls)
        if isinstance(found, str):
            obstacles.setdefault(found, _Tally()).add(calls)
            continue
        effect = _effect(calls, found)
        if effect is None:
            same += calls.number
            continue
        after = found.enforced_approval.value
        key = (effect, calls.approval or "", calls.rule or "", after, found.matched_rule)
        differences.setdefault(key, _Tally()).add(calls)
    counted = list(
        run_query(
            audit,
            "SELECT policy_digest, count(*), count(*) FILTER ("  # noqa: S608
            "mode = 'monitor' AND enforced_approval IS NULL) "
            f"FROM audit WHERE {condition.sql} GROUP BY ALL ORDER BY max(timestamp) DESC, policy_digest",
            condition.values,
        )
    )
    order = list(Effect)
    return Replay(
        sum(calls for _, calls, _ in counted),
        tuple(
            sorted(
                (Difference(*key, tally.calls, tuple(tally.newest)) for key, tally in differences.items()),
                key=lambda each: (order.index(each.effect), -each.calls, *each[1:5]),
            )
        ),
        same,
        tuple(
            sorted(
                (Obstacle(why, tally.calls, tally.newest[0]) for why, tally in obstacles.items()),
                key=lambda each: (-each.calls, each.reason),
            )
        ),
        sum(1 for digest, _, _ in counted if digest is not None),
        sum(calls for _, calls, _ in counted[1:]),
        sum(monitored for _, _, monitored in counted),
    )


@dataclass
class _Tally:
    calls: int = 0
    newest: list[str] = field(default_factory=list)
    """Ids of calls, which sort by time."""

    def add(self, calls: _Calls) -> None:
        self.calls += calls.number
        self.newest = sorted({*self.newest, *calls.examples}, reverse=True)[:_EXAMPLES]


def _effect(calls: _Calls, verdict: Verdict) -> Effect | None:
    before, after = APPROVAL_RANKS[calls.approval or ""], APPROVAL_RANKS[verdict.enforced_approval]
    if before != after:
        return Effect.LOOSER if after < before else Effect.STRICTER
    return None if calls.rule == verdict.matched_rule else Effect.OTHER_RULE


# --- which calls a policy cannot tell apart ---


class _Calls(NamedTuple):
    """Calls that the policy cannot tell apart, and that were decided alike. What it does not read is None."""

    action_type: str | None
    other_names: str | None
    schema_version: int
    reading: str | None
    approval: str | None
    """What the policy enforced, in a program that enforces."""
    rule: str | None
    target: str | None
    agent: str | None
    user: str | None
    tenant: str | None
    roles: str | None
    at_us: int | None
    """Microseconds since 1970; of the beginning of the minute, where no more than that is read."""
    keys: Sequence[str] | None
    """The names of the parameters; None where they are not read, or where the row has none."""
    values: Sequence[str | None] | None
    """The JSON of the parameters that are read, in the order of the class; None for one that is absent."""
    number: int
    examples: Sequence[str]
    interest: _Interest


class _Interest(NamedTuple):
    """What a policy reads of calls of some types."""

    params: frozenset[str] | None = frozenset()
    """The names of parameters at the top; None for all of them."""
    target: bool = False
    agent: bool = False
    subject: bool = False
    time: str = ""
    """`minute`, `moment`, or empty."""

    def joined(self, other: _Interest) -> _Interest:
        params = None if self.params is None or other.params is None else self.params | other.params
        return _Interest(
            params,
            self.target or other.target,
            self.agent or other.agent,
            self.subject or other.subject,
            next((each for each in ("moment", "minute") if each in (self.time, other.time)), ""),
        )


def _interest(rules: Iterable[CompiledRule]) -> _Interest:
    """Return what `rules` read."""
    found = _Interest()
    for rule in rules:
        names: set[str] = set()
        whole = False
        for test in rule.rule.conditions.all_tests:
            whole = whole or not test.keys
            names.update(names_at_the_top(test))
        texts = {name for name, _ in rule.texts}
        moment = any(test.reads_time for test in rule.rule.conditions.all_tests)
        reads_time = rule.rule.conditions.reads_time
        found = found.joined(
            _Interest(
                None if whole or _ODD.intersection("".join(names)) else frozenset(names),
                "target" in texts,
                "agent" in texts,
                not texts.isdisjoint(("user", "tenant", "role")),
                "moment" if moment else "minute" if reads_time else "",
            )
        )
    return found


def _groups(decider: _Decider, audit: duckdb.DuckDBPyConnection, condition: RowCondition) -> Iterator[_Calls]:
    """Yield the rows that match, in groups."""
    classes: dict[_Interest, list[tuple[str | None, str | None]]] = {}
    sql = f"SELECT action_type, other_names FROM audit WHERE {condition.sql} GROUP BY ALL"  # noqa: S608
    for action_type, other_names in list(run_query(audit, sql, condition.values)):
        interest = decider.interest(action_type, other_names)
        if len(classes) >= _MOST_CLASSES and interest not in classes:
            merged = interest
            for each in classes:
                merged = merged.joined(each)
            classes = {merged: [each for members in classes.values() for each in members]}
            interest = merged
        classes.setdefault(interest, []).append((action_type, other_names))
    for interest, members in classes.items():
        audit.execute("CREATE OR REPLACE TEMP TABLE replayed (action_type VARCHAR, other_names VARCHAR)")
        for start in range(0, len(members), 500):
            some = members[start : start + 500]
            marks = ", ".join(["(?, ?)"] * len(some))
            audit.execute(f"INSERT INTO replayed VALUES {marks}", [name for each in some for name in each])  # noqa: S608
        for row in run_query(audit, _grouping(interest, condition.sql), condition.values):
            yield _Calls._make((*row, interest))


def _grouping(interest: _Interest, condition: str) -> str:
    """Return the query of the groups of one class, whose types are in the table `replayed`."""
    params = "CASE WHEN json_valid(action_params::VARCHAR) THEN action_params::JSON END"
    keys = values = none = "NULL"
    if interest.params is None:
        values = f"[({params})::VARCHAR]"
    elif interest.params:
        paths = ", ".join(literal(f'$."{name}"') for name in sorted(interest.params))
        keys, values = f"json_keys({params})", f"json_extract({params}, [{paths}])::VARCHAR[]"
    at = {"minute": "epoch_us(date_trunc('minute', timestamp))", "moment": "epoch_us(timestamp)"}
    columns = {
        "type": "action_type",
        "names": "other_names",
        "version": "coalesce(schema_version, 1)",
        "reading": "arguments_reading",
        "approval": "coalesce(enforced_approval, approval)",
        "rule": "matched_rule",
        "target": "action_target" if interest.target else none,
        "agent": "agent_name" if interest.agent else none,
        **{name: name if interest.subject else none for name in ("user_id", "tenant_id", "user_roles")},
        "at": at.get(interest.time, none),
        "keys": keys,
        "given": values,
    }
    selected = ", ".join(f"{sql} AS c_{name}" for name, sql in columns.items())
    grouped = ", ".join(f"c_{name}" for name in columns)
    return f"""
        SELECT {grouped}, count(*), [max(decision_id), min(decision_id)]
        FROM (SELECT decision_id, {selected} FROM audit WHERE {condition} AND EXISTS (
            SELECT 1 FROM replayed
            WHERE replayed.action_type IS NOT DISTINCT FROM audit.action_type
                AND replayed.other_names IS NOT DISTINCT FROM audit.other_names))
        GROUP BY {grouped}
    """  # noqa: S608


# --- what a policy may say about a call of which the audit does not have everything ---

_Answers = frozenset[bool | None]
"""The answers that a test may have had: true, false, or unknown (None)."""
_TRUE, _FALSE, _UNKNOWN = (frozenset[bool | None]([each]) for each in (True, False, None))
_ANY = frozenset[bool | None]([True, False, None])
_ORDER: Mapping[bool | None, int] = {False: 0, None: 1, True: 2}


def _all_of(sets: Iterable[_Answers]) -> _Answers:
    """Return the answers that a set of conditions may have: the least of those of its members."""
    found: _Answers = _TRUE
    for answers in sets:
        found = frozenset(min(one, other, key=_ORDER.__getitem__) for one in found for other in answers)
        if found == _FALSE:
            break
    return found


def _one_of(sets: Iterable[_Answers]) -> _Answers:
    """Return the answers that `any` may have: the most of those of its members."""
    found: _Answers = _FALSE
    for answers in sets:
        found = frozenset(max(one, other, key=_ORDER.__getitem__) for one in found for other in answers)
        if found == _TRUE:
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


class _Decider:
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

    def interest(self, action_type: str | None, other_names: str | None) -> _Interest:
        """Return what the policy reads of calls of a type with these other names."""
        names = _names(action_type, None, other_names)
        return _interest(rule for each, _ in names for rule in self._rules_for(each))

    def decide(self, calls: _Calls) -> Verdict | str:
        """Return the verdict on calls, or why it is not known, in words that follow "cannot be replayed"."""
        if calls.rule == ERROR_RULE or calls.approval not in APPROVAL_RANKS:
            return "no policy decided them"
        if calls.schema_version < _SINCE_SCHEMA:
            return "an earlier version recorded them, which does not say by what other names they were judged"
        names = _names(calls.action_type, calls.target, calls.other_names)
        if any(is_name_hidden(each) for each, _ in names) or calls.action_type is None:
            return "the name of the tool was redacted or cut"
        params = _params(calls)
        if params is None:
            return "the row does not have their arguments"
        self._why = ""
        outcomes: list[Verdict] | None = None
        for type_, target in names:
            found = self._outcomes(self._given(calls, type_, target, params))
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
        verdicts = {(each.approval, each.matched_rule, each.mode) for each in outcomes}
        return outcomes[0] if len(verdicts) == 1 else self._why

    def _given(self, calls: _Calls, type_: str, target: str, params: dict[str, Any]) -> _Given:
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
        now = _EPOCH + timedelta(microseconds=calls.at_us or 0)
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


def _names(action_type: str | None, target: str | None, others: str | None) -> list[tuple[str, str]]:
    """Return the types and targets that a call was judged by, its own first."""
    return [(action_type or "", target or ""), *([] if others is None else _pairs(others))]


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the pairs of texts in JSON; one that is hidden where it is something else."""
    try:
        found = json.loads(text)
        if all(len(each) == 2 and all(isinstance(part, str) for part in each) for each in found):
            return [(each[0], each[1]) for each in found]
    except (ValueError, TypeError, RecursionError):
        pass
    return [(CUT, CUT)]


def _params(calls: _Calls) -> dict[str, Any] | None:
    """Return the parameters that the policy reads; None where the row does not have them."""
    interest = calls.interest
    try:
        if interest.params is None:
            text = None if calls.values is None else calls.values[0]
            found = None if text is None else json.loads(text)
            return found if isinstance(found, dict) else None
        if not interest.params:
            return {}
        if calls.keys is None or calls.values is None:
            return None
        params: dict[str, Any] = dict.fromkeys(calls.keys, 0)  # the values of the others are not read
        for name, text in zip(sorted(interest.params), calls.values, strict=True):
            if text is not None:
                params[name] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return params
