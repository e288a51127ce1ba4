"""Comparisons with one value: equal, more, less, has this part, matches this regular expression.

Types never mix: text is not a number, a boolean is not a number, nothing is equal to NaN. A value that cannot
be compared is unknown, and an unknown makes the stricter verdict win.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Set
from typing import Any

from aegis_otel.policy.messages import Invalid, plain_number, shown
from aegis_otel.policy.operators.answer import Answer, kind, not_of_kind
from aegis_otel.policy.patterns import MAX_REGEX, BadRegex, Regex, compile_regex
from aegis_otel.policy.rules import Scalar

NUMBER: Mapping[str, Any] = {"type": "number"}
SCALAR: Mapping[str, Any] = {"type": ["string", "number", "boolean"]}
REGEX: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_REGEX}

_LARGEST = 10**400
"""Larger numbers are refused: whoever writes one means something else."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Answer]:
    """Return the judge that compares values of one type by `compare`."""

    def judge(value: Any, expected: Scalar) -> Answer:
        if kind(value) != kind(expected):
            return not_of_kind(value, kind(expected))
        if isinstance(value, float) and math.isnan(value):
            return "the value is not a number (NaN)"
        return bool(compare(value, expected))

    return judge


equal = comparison(operator.eq)


def contains(value: Any, expected: Scalar) -> Answer:
    """Return whether text has the part `expected`, a list the item, a mapping the key."""
    if isinstance(value, str):
        return expected in value if isinstance(expected, str) else not_of_kind(value, kind(expected))
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


def matches(value: Any, pattern: Regex) -> Answer:
    """Return whether `pattern` is found anywhere in the text."""
    if not isinstance(value, str):
        return not_of_kind(value, "text")
    try:
        return pattern.search(value)
    except UnicodeEncodeError:
        return "the value is not valid Unicode"


def _is_finite(value: float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) < _LARGEST


def check_number(value: object) -> int | float:
    """Return a policy's finite number. Raises Invalid."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        text = value if isinstance(value, str) else ""
        suggestion = text if re.fullmatch(r"-?\d+(\.\d+)?", text) else plain_number(text)
        raise Invalid(f"must be a finite number, not {shown(value)}", suggestion)
    return value


def check_scalar(value: object) -> Scalar:
    """Return a policy's text, finite number or boolean. Raises Invalid."""
    if isinstance(value, str) and (found := _SURROGATE.search(value)):
        raise Invalid(f"must be valid Unicode, not text with {shown(found[0])}")
    if not isinstance(value, (str, int, float)) or not (isinstance(value, str) or _is_finite(value)):
        raise Invalid(f"must be text, a finite number, true or false, not {shown(value)}")
    return value


def check_regex(value: object) -> str:
    """Return a policy's regular expression. Raises Invalid."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REGEX:
        raise Invalid(f"must be a regular expression of 1 to {MAX_REGEX} characters, not {shown(value)}")
    if found := _CONTROL.search(value):
        # In double quotes YAML turns \b into a backspace, and a rule that should block never matches.
        raise Invalid(f"holds the control character {shown(found[0])}: write the pattern in single quotes")
    try:
        compile_regex(value)
    except BadRegex as error:
        raise Invalid(f"is not a regular expression in RE2 syntax: {error}") from error
    return value
