"""The conditions of a rule as tests with three answers: true, false, or unknown and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from aegis_otel.model import Action
from aegis_otel.policy.comparisons import JUDGES, Answer
from aegis_otel.policy.rules import ParamTest, Rule, TimeWindow
from aegis_otel.policy.schema_paths import Presence, Reading

Test = Callable[[Action, datetime, Reading | None], Answer]
"""The last argument reads the action's schema. Without it, what only the schema can tell is unknown."""


class Condition(NamedTuple):
    label: str
    """How messages call it."""
    test: Test
    spec: TimeWindow | ParamTest


class _Missing(Enum):
    """Why there is no value to compare."""

    ABSENT = "absent"
    CROSSED = "both the dotted name and the path it spells have a value"
    NO_MAPPING = "the path leads through a value that is no mapping"


def compile_conditions(rule: Rule) -> Iterator[Condition]:
    """The tests of `rule`, the cheap one first."""
    if rule.window is not None:
        yield Condition("the time window", _window_test(rule.window), rule.window)
    for spec in rule.tests:
        yield Condition(str(spec), _param_test(spec), spec)


def _window_test(window: TimeWindow) -> Test:
    zone = ZoneInfo(window.timezone)
    after, before, weekdays, wraps = window.after, window.before, window.weekdays, window.wraps

    def test(_action: Action, now: datetime, _schema: Reading | None) -> Answer:
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
    judge, path, expected = JUDGES[spec.operator], spec.path, spec.expected

    def test(action: Action, _now: datetime, schema: Reading | None) -> Answer:
        value = find(action.params, path)
        if value is None:
            return _null(action.params, path, schema)
        if value is _Missing.ABSENT:
            return action.schema is not None and _absent(schema, path)
        if isinstance(value, _Missing):
            return value.value
        return judge(value, expected)

    return test


def find(params: Mapping[str, Any], path: str) -> Any:
    """The value at `path`: the key spelled like it, or what the dots lead to; else a `_Missing`."""
    literal = params.get(path, _Missing.ABSENT)
    if "." not in path:
        return literal
    value: Any = params
    for step in path.split("."):
        if value is None:
            break  # null on the way is null at the end
        if not isinstance(value, Mapping):
            value = _Missing.NO_MAPPING
            break
        value = value.get(step, _Missing.ABSENT)
        if value is _Missing.ABSENT:
            break
    if literal is _Missing.ABSENT:
        return value
    # A model that may add keys could otherwise hide the value a rule looks at behind its dotted name.
    return literal if value is _Missing.ABSENT else _Missing.CROSSED


def _absent(schema: Reading | None, path: str) -> Answer:
    match schema and schema.presence(path):
        case None:
            return "the tool's schema was not asked"
        case Presence.LACKS:
            return "the tool has no such parameter"
        case Presence.UNREADABLE:
            return "the tool's schema cannot be read"
    return False


def _null(params: Mapping[str, Any], path: str, schema: Reading | None) -> Answer:
    if schema is not None and schema.allows_null((path,) if path in params else _steps_to_null(params, path)):
        return False
    return "the value is null"


def _steps_to_null(params: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """The keys that lead to the null on the way along `path`, whatever keys with dots there are."""
    steps = tuple(path.split("."))
    value: Any = params
    for number, step in enumerate(steps, 1):
        value = value[step]
        if value is None:
            return steps[:number]
    return steps
