"""How a value compares with what a condition expects: true, false, or unknown and why.

Types never mix: text is not a number, a boolean is not a number, nothing is equal to NaN. What cannot
be compared is unknown, and an unknown makes the stricter verdict win. No answer holds the value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Set
from typing import Any

from aegis_otel.policy.regexes import compile_regex
from aegis_otel.policy.rules import Operator, Scalar

Answer = bool | str
"""True, False, or the reason why neither is known, worded to follow "is unknown: "."""
Judge = Callable[[Any, Any], Answer]


def kind(value: Any) -> str:
    """The type of `value` in words; classes are told apart by these only."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple, Set)):
        return "a list"
    return "of a type that conditions cannot compare"


def _mismatch(value: Any, expected: Any) -> str:
    return f"the value is {kind(value)}, not {kind(expected)}"


def _not_comparable(value: Any, expected: Scalar) -> str | None:
    """Why the two cannot be compared, or None when they can."""
    if kind(value) != kind(expected):
        return _mismatch(value, expected)
    if isinstance(value, float) and math.isnan(value):
        return "the value is not a number (NaN)"
    return None


def equal(value: Any, expected: Scalar) -> Answer:
    return _not_comparable(value, expected) or bool(value == expected)


def _ordered(compare: Callable[[Any, Any], bool]) -> Judge:
    def judge(value: Any, expected: int | float) -> Answer:
        return _not_comparable(value, expected) or bool(compare(value, expected))

    return judge


def contains(value: Any, expected: Scalar) -> Answer:
    """Text has the part, a list the item, a mapping the key."""
    if isinstance(value, str):
        return expected in value if isinstance(expected, str) else _mismatch(value, expected)
    if isinstance(value, Mapping):
        return expected in value if isinstance(expected, str) else "a mapping has no key that is not text"
    if not isinstance(value, (list, tuple, Set)):
        return f"the value is {kind(value)}, which contains nothing"
    if type(expected) is not float and set(map(type, value)) <= {type(expected)}:
        return expected in value  # items of one type, as they mostly are: no call per item
    doubt: str | None = None
    for item in value:
        answer = equal(item, expected)
        if answer is True:
            return True
        if answer is not False:
            doubt = f"an item cannot be compared: {answer}"
    return doubt or False


def matches(value: Any, expected: str) -> Answer:
    """The pattern is found anywhere in the whole text."""
    if not isinstance(value, str):
        return _mismatch(value, expected)
    try:
        return compile_regex(expected).search(value)
    except UnicodeEncodeError:
        return "the value is not valid Unicode"


JUDGES: dict[Operator, Judge] = {
    "eq": equal,
    "gt": _ordered(operator.gt),
    "lt": _ordered(operator.lt),
    "gte": _ordered(operator.ge),
    "lte": _ordered(operator.le),
    "contains": contains,
    "matches": matches,
}


def wanted(operator: Operator, expected: Scalar) -> str:
    """What a value must be for a condition to be answered, in words."""
    if operator == "contains":
        return "text, a list or a mapping" if isinstance(expected, str) else "a list"
    return kind(expected)
