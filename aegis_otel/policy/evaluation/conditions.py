"""The conditions of a rule as tests with three answers: true, false, or unknown and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from aegis_otel.model import Action, FrozenDict
from aegis_otel.policy.evaluation.look_alikes import skeleton
from aegis_otel.policy.evaluation.operators import OPERATORS, Answer
from aegis_otel.policy.evaluation.schema_paths import Presence, SchemaReader
from aegis_otel.policy.rules import ParamTest, Rule, TimeWindow, steps_of

Test = Callable[[Action, datetime, SchemaReader | None], Answer]
"""(action, now, reader of its schema) -> answer. Without a reader, what only the schema says is unknown."""

NOT_ASKED = "the tool's schema was not asked"
NO_PARAMETER = "the tool has no such parameter"
UNREADABLE_SCHEMA = "the tool's schema cannot be read"
OTHER_SPELLING = "a key that the tool does not list could be another spelling of it"
BEYOND_THE_CALL = frozenset({NO_PARAMETER, UNREADABLE_SCHEMA})
"""Reasons that other arguments would not change."""


class Condition(NamedTuple):
    label: str
    """Its name in messages."""
    test: Test
    spec: TimeWindow | ParamTest


class _Missing(Enum):
    """The reasons why no value can be compared."""

    ABSENT = "absent"
    CROSSED = "both the dotted name and the path it spells have a value"
    NO_MAPPING = "the path leads through a value that is not a mapping"


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
    judge, path, steps, expected = OPERATORS[spec.operator].judge, spec.path, spec.steps, spec.expected

    def test(action: Action, _now: datetime, schema: SchemaReader | None) -> Answer:
        if action.doubt is not None:
            return action.doubt
        params = action.params
        # Without the schema only the keys further down are compared: for those at the top, see `is_plain`.
        if action.schema is not None and (schema is not None or len(steps) > 1):
            doubt = _other_spelling(params, path, steps, schema)
            if doubt is not None:
                return doubt
        value = find(params, path)
        if value is None:
            return _null(params, path, steps, schema)
        if value is _Missing.ABSENT:
            return action.schema is not None and _absent(params, path, steps, schema)
        if isinstance(value, _Missing):
            return value.value
        return judge(value, expected)

    return test


def find(params: Mapping[str, Any], path: str) -> Any:
    """Return the value at `path`: the key spelled like it, or what the dots lead to; else a `_Missing`."""
    literal = params.get(path, _Missing.ABSENT)
    if "." not in path:
        return literal
    value: Any = params
    for step in steps_of(path):
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
    # A model that may add keys could otherwise hide the value that a rule tests behind its dotted name.
    return literal if value is _Missing.ABSENT else _Missing.CROSSED


def _spelled_otherwise(params: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the keys of `params` that are not `name` and could be read as it."""
    for key in _spellings(params).get(skeleton(name), ()):
        if key != name:
            yield key


def _spellings(params: Mapping[str, Any]) -> Mapping[str, list[str]]:
    """Return the keys of `params` by skeleton, made once for all rules: there may be thousands of either."""
    known: Mapping[str, list[str]] | None = getattr(params, "spellings", None)
    if known is None:
        found: dict[str, list[str]] = {}
        for key in params:
            if isinstance(key, str):
                found.setdefault(skeleton(key), []).append(key)
        if type(params) is FrozenDict:
            params.spellings = found
        return found
    return known


def _other_spelling(
    params: Mapping[str, Any], path: str, steps: tuple[str, ...], schema: SchemaReader | None
) -> str | None:
    """Return why the tool may take another value than the one at `path`; None where it cannot."""
    for keys in _other_spellings(params, path, steps):
        if schema is None:
            return NOT_ASKED
        if not schema.at(keys).is_listed:
            return OTHER_SPELLING
    return None


def _other_spellings(
    params: Mapping[str, Any], path: str, steps: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Yield the keys to values that could be read as that of `path`, or as one on the way to it."""
    if len(steps) > 1:
        yield from ((key,) for key in _spelled_otherwise(params, path))
    value: Any = params
    for depth, step in enumerate(steps):
        if not isinstance(value, Mapping):
            return
        if len(value) > 1 or step not in value:
            yield from ((*steps[:depth], key) for key in _spelled_otherwise(value, step))
        value = value.get(step)


def _absent(
    params: Mapping[str, Any], path: str, steps: tuple[str, ...], schema: SchemaReader | None
) -> Answer:
    if schema is None:
        return NOT_ASKED
    match schema.presence(path):
        case Presence.LACKS:
            return NO_PARAMETER
        case Presence.UNREADABLE:
            return UNREADABLE_SCHEMA
    if "." in path and schema.at((path,)).is_listed:
        steps = (path,)
    missing = _steps_until(params, steps, _Missing.ABSENT)
    if schema.at(missing).required:
        return "the tool requires it, and the call does not have it"
    if schema.at(missing).default:
        return "the call does not have it, and its default is not known"
    return False


def _null(
    params: Mapping[str, Any], path: str, steps: tuple[str, ...], schema: SchemaReader | None
) -> Answer:
    where = (path,) if path in params else _steps_until(params, steps, None)
    if schema is not None and schema.at(where).presence is Presence.HAS_NULLABLE:
        return False
    return "the value is null"


def _steps_until(params: Mapping[str, Any], steps: tuple[str, ...], end: object) -> tuple[str, ...]:
    """Return the keys that lead to `end` on the way along `steps`, whatever keys with dots there are."""
    value: Any = params
    for number, step in enumerate(steps, 1):
        value = value.get(step, _Missing.ABSENT)
        if value is end:
            return steps[:number]
    return steps
