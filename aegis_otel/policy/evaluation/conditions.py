"""The conditions of a rule as tests with three answers: true, false, or unknown and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from aegis_otel.model import Action
from aegis_otel.policy.evaluation.parameter_paths import Missing, absent, find, null, other_spelling
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.operators.answer import Answer
from aegis_otel.policy.operators.table import OPERATORS, prepared
from aegis_otel.policy.rules import ParamTest, Rule, TimeWindow

Test = Callable[[Action, datetime, SchemaReader | None], Answer]
"""(action, now, reader of its schema) -> answer. Without a reader, what only the schema says is unknown."""


class Condition(NamedTuple):
    label: str
    """Its name in messages."""
    test: Test
    spec: TimeWindow | ParamTest


def compile_conditions(rule: Rule) -> Iterator[Condition]:
    """Yield the conditions of `rule`, the cheapest first."""
    if rule.window is not None:
        yield Condition("the time window", _window_test(rule.window), rule.window)
    for spec in rule.tests:
        yield Condition(str(spec), _param_test(spec), spec)


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
    judge, expected, is_nested = OPERATORS[spec.operator].judge, prepared(spec), len(spec.steps) > 1

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
            return action.schema is not None and absent(action.params, spec, schema)
        return value.value if isinstance(value, Missing) else judge(value, expected)

    return test
