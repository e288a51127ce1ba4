"""The conditions of a rule as tests with three answers: true, false, or unknown and why.

A set of conditions is false where one of them is false, else unknown where one is unknown. `any` is true
where one of its sets is true, else unknown where one is unknown. `not` turns true and false around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from aegis_otel.model import Action
from aegis_otel.policy.evaluation.history_tests import HistoryReader, compile_readers
from aegis_otel.policy.evaluation.parameter_paths import (
    OTHER_SPELLING,
    Missing,
    absent,
    find,
    null,
    null_at,
    other_spelling,
    spelled_otherwise,
)
from aegis_otel.policy.evaluation.path_steps import stepped_test
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.operators.answer import Answer
from aegis_otel.policy.operators.table import OPERATORS, at_time, prepared
from aegis_otel.policy.rules import Conditions, Group, HistoryTest, ParamTest, TimeWindow

Test = Callable[[Action, datetime, SchemaReader | None], Answer]
"""(action, now, reader of its schema) -> answer. Without a reader, what only the schema says is unknown."""


class Condition(NamedTuple):
    label: str
    """Its name in messages."""
    test: Test
    spec: TimeWindow | ParamTest | HistoryTest | Group
    members: tuple[tuple[Condition, ...], ...] = ()
    """The sets of conditions of a group."""
    history: HistoryReader | None = None
    """What reads the calls that went before, where the condition is one on them."""

    def answer(self, action: Action, now: datetime, schema: SchemaReader | None) -> Answer:
        """Return the answer of the test. Never raises."""
        try:
            return self.test(action, now, schema)
        except Exception as error:
            return failed(error)


def failed(error: Exception) -> str:
    """Return why the answer of a test that raised is not known."""
    return f"the comparison failed with {type(error).__name__}"


def compile_conditions(conditions: Conditions) -> tuple[Condition, ...]:
    """Return the conditions of one rule as tests, the cheapest first."""
    return tuple(_compiled(conditions, compile_readers(conditions.all_history)))


def history_readers(conditions: Iterable[Condition]) -> Iterator[HistoryReader]:
    """Yield what reads the calls that went before, also in groups."""
    for condition in conditions:
        if condition.history is not None:
            yield condition.history
        for member in condition.members:
            yield from history_readers(member)


def _compiled(conditions: Conditions, readers: Mapping[HistoryTest, HistoryReader]) -> Iterator[Condition]:
    if conditions.window is not None:
        yield Condition("the time window", _window_test(conditions.window), conditions.window)
    for spec in conditions.tests:
        yield Condition(str(spec), _param_test(spec), spec)
    for test in conditions.history:
        yield Condition(str(test), readers[test].answer, test, history=readers[test])
    for group in conditions.groups:
        members = tuple(tuple(_compiled(member, readers)) for member in group.members)
        yield Condition(str(group), _group_test(group, members), group, members)


def _group_test(group: Group, members: tuple[tuple[Condition, ...], ...]) -> Test:
    key = group.key

    def test(action: Action, now: datetime, schema: SchemaReader | None) -> Answer:
        return combined(
            key,
            (
                all_hold((condition.label, condition.answer(action, now, schema)) for condition in member)
                for member in members
            ),
        )

    return test


def all_hold(answers: Iterable[tuple[str, Answer]]) -> Answer:
    """Return whether all conditions of a set hold, given the label and the answer of each.

    Nothing after the first that is false is asked for.
    """
    doubt: str | None = None
    for label, answer in answers:
        if answer is False:
            return False
        if answer is not True and doubt is None:
            doubt = f"{label} is unknown: {answer}"
    return doubt or True


def combined(key: str, answers: Iterable[Answer]) -> Answer:
    """Return what the group `any` or `not` says, given the answer of each of its sets.

    Nothing after the first that decides is asked for.
    """
    doubt: str | None = None
    for answer in answers:
        if answer is True:
            return key == "any"
        if answer is not False and doubt is None:
            doubt = str(answer)
    return doubt or key == "not"


def _window_test(window: TimeWindow) -> Test:
    zone = ZoneInfo(window.timezone)
    after, before, weekdays, wraps = window.after, window.before, window.weekdays, window.wraps

    def test(_action: Action, now: datetime, _schema: SchemaReader | None) -> Answer:
        local = (now if now.tzinfo else now.replace(tzinfo=UTC)).astimezone(zone)
        minute = local.hour * 60 + local.minute
        if wraps:
            assert after is not None
            assert before is not None
            if before <= minute < after:
                return False
            if minute < before:  # the morning of a window that began the day before
                local -= timedelta(days=1)
        elif (after is not None and minute < after) or (before is not None and minute >= before):
            return False
        return not weekdays or local.isoweekday() in weekdays

    return test


def _param_test(spec: ParamTest) -> Test:
    make = _names_test if not spec.path else stepped_test if spec.steps else _value_test
    test = _test_at_time(spec, make) if spec.reads_time else make(spec)
    if not OPERATORS[spec.operator].is_negated:
        return test

    def negated(action: Action, now: datetime, schema: SchemaReader | None) -> Answer:
        answer = test(action, now, schema)
        return answer if isinstance(answer, str) else not answer

    return negated


def _test_at_time(spec: ParamTest, make: Callable[[ParamTest], Test]) -> Test:
    """Return the test of a condition whose expected value depends on the time: it is made for each call."""

    def test(action: Action, now: datetime, schema: SchemaReader | None) -> Answer:
        moment = now.astimezone(UTC) if now.tzinfo else now.replace(tzinfo=UTC)
        return make(at_time(spec, moment))(action, now, schema)

    return test


def _names_test(spec: ParamTest) -> Test:
    """Return the test of which parameters a call has."""
    is_listed, names = OPERATORS[spec.operator].judge, prepared(spec)

    def test(action: Action, _now: datetime, schema: SchemaReader | None) -> Answer:
        if action.doubt is not None:
            return action.doubt
        params, own, doubt = action.params, action.parameter_names or {}, ""
        look_alikes: Set[str] | None = None
        for name, value in params.items():
            if is_listed(name, names) or any(is_listed(each, names) for each in own.get(name, ())):
                continue
            if value is None:
                answer = null_at((name,), schema)
            else:
                if look_alikes is None:
                    look_alikes = {
                        key for each in spec.values for key in spelled_otherwise(params, str(each))
                    }
                if name not in look_alikes or (schema is not None and schema.at((str(name),)).is_listed):
                    return False
                answer = OTHER_SPELLING
            if isinstance(answer, str):
                doubt = answer
        return doubt or True

    return test


def _value_test(spec: ParamTest) -> Test:
    """Return the test of the value that a path leads to."""
    judge, expected, is_nested = OPERATORS[spec.operator].judge, prepared(spec), len(spec.keys) > 1

    def test(action: Action, _now: datetime, schema: SchemaReader | None) -> Answer:
        if action.doubt is not None:
            return action.doubt
        # Without the schema only the keys further down are compared: for those at the top, see `is_plain`.
        if action.schema is not None and (schema is not None or is_nested):
            doubt = other_spelling(action.params, spec, schema)
            if doubt is not None:
                return doubt
        value = find(action.params, spec)
        if value is None:
            return null(action.params, spec, schema)
        if value is Missing.ABSENT:
            return absent(action, spec, schema)
        return value.value if isinstance(value, Missing) else judge(value, expected)

    return test
