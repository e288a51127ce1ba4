"""Judge what the steps of a path make of a value: items of a list, numbers and JSON in text, texts anywhere.

A step that cannot be taken makes the condition unknown; so does a null behind it, or a key in other spelling.
The values come from a model, so the work on one condition is bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, cast

from aegis_otel.model import Action, FrozenDict, freeze
from aegis_otel.policy.evaluation.parameter_paths import (
    NO_PARAMETER,
    NOT_ASKED,
    OTHER_SPELLING,
    UNREADABLE_SCHEMA,
    Missing,
    absent,
    find,
    if_left_out,
    null,
    null_at,
    other_spelling,
    spelled_otherwise,
)
from aegis_otel.policy.evaluation.schema_paths import ITEM, Location, Presence, SchemaReader
from aegis_otel.policy.json_text import Ambiguous, read_alike
from aegis_otel.policy.operators.answer import Answer, kind
from aegis_otel.policy.operators.table import OPERATORS, PRICED_LENGTH, prepared, wanted
from aegis_otel.policy.rules import ParamTest, Step, joined

MAX_VALUES = 20_000
"""The most items of lists, and values within values, that one condition looks at: about 50 milliseconds."""
MAX_JSON = 200_000
"""The longest JSON text that is read, in characters."""
MAX_DEPTH = 64
"""Nested values of a JSON text."""
_JSON_PRICED_LENGTH = 16
"""Characters of JSON text that take as long to read as to look at one value."""
_TOO_LONG = "it would take too long to compare all values"
_TOO_MANY = f"it would look at more than {MAX_VALUES:,} values"
_NO_DECIMAL = "the text is not a plain decimal number"
_DECIMAL = re.compile(r"(-?)(0|[1-9][0-9]{0,39})(?:\.([0-9]{1,40}))?")
_PLACES = 40
"""Digits after the point that a number may have. Numbers are compared as integers of so many places."""
UNIT: int = 10**_PLACES
"""The integer that stands for 1 where `exact` counts a number."""


class _Reading:
    """What the tests behind the steps of one condition share while it is judged."""

    __slots__ = ("action", "origin", "schema", "values_left")

    def __init__(self, action: Action, schema: SchemaReader | None, origin: tuple[str, ...]) -> None:
        self.action = action
        self.schema = schema
        self.origin = origin
        """The keys at which the value before the first step was found."""
        self.values_left = MAX_VALUES

    def pays(self, count: int) -> bool:
        """Count work that takes as long as to look at `count` values; return whether it may be done."""
        self.values_left -= count
        return self.values_left >= 0

    def at(self, where: Location | None) -> Location | None:
        """Return the location in the arguments of one behind the origin; None where no schema says more."""
        return None if where is None or self.action.schema is None else (*self.origin, *where)

    def null(self, where: Location | None) -> Answer:
        """Return what it means that the value at `where` is null."""
        found = self.at(where)
        return "the value is null" if found is None else null_at(found, self.schema)

    def absent(self, where: Location | None, end: Location | None) -> Answer:
        """Return what it means that the value at `where` is absent, on the way to the one at `end`."""
        found, last = self.at(where), self.at(end)
        if found is None or last is None:
            return False
        if self.schema is None:
            return NOT_ASKED
        match self.schema.at(last).presence:
            case Presence.LACKS:
                return NO_PARAMETER
            case Presence.UNREADABLE:
                return UNREADABLE_SCHEMA
        return if_left_out(self.schema.at(found))

    def is_other_spelling(self, where: Location | None) -> Answer:
        """Return why the key at `where` could be another spelling of a tested one; False where it cannot."""
        found = self.at(where)
        if found is not None and self.schema is None:
            return NOT_ASKED
        is_listed = found is not None and self.schema is not None and self.schema.at(found).is_listed
        return False if is_listed else OTHER_SPELLING


_Judge = Callable[[Any, _Reading], Answer]


_Test = Callable[[Action, datetime, SchemaReader | None], Answer]


class Found(NamedTuple):
    """The value that a path leads to."""

    value: Any


def value_reader(spec: ParamTest) -> Callable[[Action, SchemaReader | None], Found | str]:
    """Return the function that returns the value at the path of `spec`, or why it is not known.

    The path has no step that gives several values. What `[number]` gives is counted as `exact` says.
    """
    test = _test_behind(spec, lambda value, _reading: cast("Answer", Found(value)))

    def read(action: Action, schema: SchemaReader | None) -> Found | str:
        found: Any = test(action, _ANY_TIME, schema)
        return found if isinstance(found, (Found, str)) else "the call does not have it"

    return read


_ANY_TIME = datetime.min
"""Stands for the time, which no path depends on."""


def stepped_test(spec: ParamTest) -> _Test:
    """Return the test of a condition whose path has steps."""
    return _test_behind(spec, _comparison(spec))


def _test_behind(spec: ParamTest, judge: _Judge) -> _Test:
    """Return the test by which `judge` is asked about the value at the path of `spec`."""
    behind = _compiled(spec.steps, (), schema_location(spec.steps), judge)
    # `find` itself looks for a key that stands for the whole plain path.
    crossing = [tuple(name for name in names if name != spec.plain_path) for names in spec.joint_keys]

    def test(action: Action, _now: datetime, schema: SchemaReader | None) -> Answer:
        if action.doubt is not None:
            return action.doubt
        # Without the schema only the keys further down are compared: for those at the top, see `is_plain`.
        if action.schema is not None and (schema is not None or len(spec.keys) > 1):
            doubt = other_spelling(action.params, spec, schema)
            if doubt is not None:
                return doubt
        value: Any = action.params
        for key, names in zip(spec.keys, crossing, strict=True):
            if not isinstance(value, Mapping):
                break
            if any(name in value for name in names):
                return str(Missing.AS_ONE_KEY.value)
            value = value.get(key)
        if not spec.keys:
            return behind(action.params, _Reading(action, schema, ()))
        value = find(action.params, spec)
        if value is None:
            return null(action.params, spec, schema)
        if value is Missing.ABSENT:
            return absent(action, spec, schema)
        if isinstance(value, Missing):
            return str(value.value)
        is_literal = len(spec.keys) > 1 and spec.plain_path in action.params
        origin = (spec.plain_path,) if is_literal else spec.keys
        return behind(value, _Reading(action, schema, origin))

    return test


def _comparison(spec: ParamTest) -> _Judge:
    """Return the comparison with the policy's value, which is unknown where it would take too long."""
    operator, expected = OPERATORS[spec.operator], prepared(replace(spec, expected=_expected(spec)))
    compare, price = operator.judge, operator.price
    if price == 1:  # the step that gives the value has counted it
        return lambda value, _reading: compare(value, expected)

    def test(value: Any, reading: _Reading) -> Answer:
        length = len(value) if isinstance(value, str) else 0
        return compare(value, expected) if reading.pays(price * (1 + length // PRICED_LENGTH)) else _TOO_LONG

    return test


def exact(value: Any) -> int | str:
    """Return a number, or the one that a text writes as a plain decimal, as an integer of `_PLACES` places.

    A float is taken by its shortest spelling, as a policy and JSON write it. So 0.1 equals the text `0.1`,
    and no text is rounded.

    Returns:
        Else why there is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return f"the value is {kind(value)}, not a number or text"
    if isinstance(value, int):
        return int(value) * UNIT
    text = value if isinstance(value, str) else format(Decimal(repr(value)), "f")
    found = _DECIMAL.fullmatch(text)
    if found is None:
        return _NO_DECIMAL if isinstance(value, str) else "the number has too many digits, or is none"
    sign, whole, places = found.groups(default="")
    return int(sign + whole + places.ljust(_PLACES, "0"))


def _expected(spec: ParamTest) -> Any:
    """Return the policy's value as it is compared with what the last step gives."""
    if spec.steps[-1] is not Step.NUMBER:
        return spec.expected
    numbers = tuple(map(exact, spec.values))
    return numbers if isinstance(spec.expected, tuple) else numbers[0]


_WANTED = {
    **dict.fromkeys((Step.ANY, Step.ALL, Step.COUNT), "a list"),
    Step.NUMBER: "a number, or a plain decimal in text",
    Step.JSON: "JSON in text",
    **dict.fromkeys((Step.LOWER, Step.ANYWHERE), "text"),
}
"""What a step is taken on, in words."""


def wanted_by_steps(spec: ParamTest) -> str:
    """Return in words what a value must be for the steps of `spec` to be taken, and its test answered."""
    words = [_WANTED[step] for step in spec.steps if isinstance(step, Step)]
    if spec.steps[-1] in (Step.ANY, Step.ALL, Step.JSON) or isinstance(spec.steps[-1], str):
        words.append(wanted(spec))
    return ", then ".join(dict.fromkeys(words))


def schema_location(parts: Sequence[str | Step]) -> Location:
    """Return the location of what `parts` lead to, as far as the tool's schema describes it."""
    where: Location = ()
    for part in parts:
        if part in (Step.ANY, Step.ALL):
            where = (*where, ITEM)
        elif isinstance(part, str):
            where = (*where, part)
        else:
            break
    return where


def _compiled(
    parts: Sequence[str | Step],
    where: Location | None,
    end: Location | None,
    judge: _Judge,
) -> _Judge:
    """Return the test of what `parts` lead to from the value at `where`, which is None behind a JSON text."""
    if not parts:
        return lambda value, reading: reading.null(where) if value is None else judge(value, reading)
    first = parts[0]
    if isinstance(first, str):
        inner = None if where is None else (*where, first)
        return _member(parts, inner, where, end, _compiled(parts[1:], inner, end, judge))
    item = (*where, ITEM) if where is not None and first in (Step.ANY, Step.ALL) else None
    behind, take = _compiled(parts[1:], item, end, judge), _TAKING[first]
    return lambda value, reading: reading.null(where) if value is None else take(behind, value, reading)


def _member(
    parts: Sequence[str | Step],
    inner: Location | None,
    where: Location | None,
    end: Location | None,
    behind: _Judge,
) -> _Judge:
    """Return the test of a key of the mapping at `where`; `inner` is where its value is."""
    name = str(parts[0])
    as_one_key = joined(parts)

    def test(value: Any, reading: _Reading) -> Answer:
        if value is None:
            return reading.null(where)
        if not isinstance(value, Mapping):
            return str(Missing.NO_MAPPING.value)
        found = value.get(name, Missing.ABSENT)
        if len(value) > 1 or found is Missing.ABSENT:
            if any(each in value for each in as_one_key):
                return str(Missing.AS_ONE_KEY.value)
            for each in (name, *as_one_key):
                for key in spelled_otherwise(value, each):
                    doubt = reading.is_other_spelling(None if where is None else (*where, key))
                    if doubt is not False:
                        return doubt
        return reading.absent(inner, end) if found is Missing.ABSENT else behind(found, reading)

    return test


def _items(behind: _Judge, value: Any, reading: _Reading, *, is_all: bool) -> Answer:
    if not isinstance(value, (list, tuple, Set)):
        return f"the value is {kind(value)}, not a list"
    if not reading.pays(len(value)):
        return _TOO_MANY
    unknown: Answer = is_all
    for item in value:
        answer = behind(item, reading)
        if answer is (not is_all):
            return answer
        if answer is not is_all:
            unknown = answer
    return unknown


def _count(behind: _Judge, value: Any, reading: _Reading) -> Answer:
    if not isinstance(value, (list, tuple, Set)):
        return f"the value is {kind(value)}, not a list"
    return behind(len(value), reading)


def _number(behind: _Judge, value: Any, reading: _Reading) -> Answer:
    number = exact(value)
    return number if isinstance(number, str) else behind(number, reading)


def _lower(behind: _Judge, value: Any, reading: _Reading) -> Answer:
    if not isinstance(value, str):
        return f"the value is {kind(value)}, not text"
    return behind(value.casefold(), reading)


def _json(behind: _Judge, value: Any, reading: _Reading) -> Answer:
    if isinstance(value, (Mapping, list, tuple)):
        return behind(value, reading)  # the tool's own validation may have read it
    if not isinstance(value, str):
        return f"the value is {kind(value)}, not text"
    # Also for a text that is known already: the answer is no other where another rule has read it.
    if not reading.pays(len(value) // _JSON_PRICED_LENGTH if len(value) <= MAX_JSON else 0):
        return _TOO_LONG
    found = _read(value, reading.action.params)
    return found.reason if isinstance(found, _Unread) else behind(found, reading)


def _texts(behind: _Judge, value: Any, reading: _Reading) -> Answer:
    """Judge the texts in a value, keys too, but for the names of the tool's own parameters."""
    unknown: Answer = False
    waiting: deque[Any] = deque([value])
    if value is reading.action.params:
        waiting = deque()
        for key in value:
            is_own = _is_own(key, reading)
            if is_own is False:
                waiting.append(key)
            elif is_own is not True and not (isinstance(key, str) and behind(key, reading) is False):
                unknown = is_own
        waiting += value.values()
    while waiting:
        if not reading.pays(1):
            return _TOO_MANY
        each = waiting.popleft()
        if isinstance(each, str):
            answer = behind(each, reading)
            if answer is True:
                return True
            if answer is not False:
                unknown = answer
        elif isinstance(each, Mapping):
            waiting += each
            waiting += each.values()
        elif isinstance(each, (list, tuple, Set)):
            waiting += each
        elif each is not None and not isinstance(each, (bool, int, float)):
            unknown = f"a value in it is {kind(each)}"
    return unknown


def _is_own(key: Any, reading: _Reading) -> Answer:
    """Return whether a key of the arguments is the name of a parameter, which no model can choose."""
    action = reading.action
    if action.parameter_names is not None:
        return key in action.parameter_names
    if action.schema is None or not isinstance(key, str):
        return False
    properties = action.schema.get("properties")
    if isinstance(properties, Mapping) and key in properties:
        return True
    if reading.schema is None:
        return NOT_ASKED
    found = reading.schema.at((key,))
    return UNREADABLE_SCHEMA if found.presence is Presence.UNREADABLE else found.is_listed


_TAKING: Mapping[Step, Callable[[_Judge, Any, _Reading], Answer]] = {
    Step.ANY: partial(_items, is_all=False),
    Step.ALL: partial(_items, is_all=True),
    Step.COUNT: _count,
    Step.NUMBER: _number,
    Step.JSON: _json,
    Step.LOWER: _lower,
    Step.ANYWHERE: _texts,
}
"""(test of what the step gives, value that is not null, reading) -> answer."""


class _Unread:
    """Stands for the JSON in a text that cannot be read."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _read(text: str, params: Mapping[str, Any]) -> Any:
    """Return what is in a JSON text, or an `_Unread`; what was read is kept with `params`, for all rules."""
    if type(params) is not FrozenDict:
        return _parsed(text)
    known = getattr(params, "json_texts", None)
    if known is None:
        known = params.json_texts = {}
    found = known.get(text)
    if found is None:
        # JSON's null is None too, and is as quickly read again.
        found = known[text] = _parsed(text)
    return found


def _parsed(text: str) -> Any:
    if len(text) > MAX_JSON:
        return _Unread(f"the JSON is longer than {MAX_JSON:,} characters")
    try:
        found = read_alike(text)
    except Ambiguous as error:
        return _Unread(str(error))
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        return _Unread("the text is not JSON")
    return _TOO_DEEP if _is_deep(text, found) else freeze(found)


_TOO_DEEP = _Unread(f"the JSON is nested more than {MAX_DEPTH} deep")


def _is_deep(text: str, value: Any) -> bool:
    """Return whether what was read of a JSON text is nested too deeply."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [each for one in level for each in (one.values() if isinstance(one, dict) else one)]
        level = [each for each in inner if isinstance(each, (dict, list))]
        if not level:
            return False
    return True
