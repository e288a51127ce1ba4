"""The comparisons of a rule's parameters. To add a `param_*` condition, add a row to `OPERATORS`.

The loader, the published JSON Schema, the evaluator, the explanation and the linter read the row; the table
in docs/policy.md needs a line for it. Types never mix: text is not a number, a boolean is not a number,
nothing is equal to NaN. A value that cannot be compared is unknown, and an unknown makes the stricter verdict
win. No answer holds the value.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Set
from enum import Enum
from typing import Any, NamedTuple

from aegis_otel.policy.evaluation.patterns import MAX_REGEX, BadRegex, compile_regex
from aegis_otel.policy.messages import Invalid, plain_number, shown
from aegis_otel.policy.rules import ParamTest, Scalar

Answer = bool | str
"""True, False, or the reason why neither is known, worded to follow "is unknown: "."""

_LARGEST = 10**400
"""Larger numbers are refused: whoever writes one means something else."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def kind(value: Any) -> str:
    """Return the type of `value` in words; values are comparable when these are the same."""
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


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Answer]:
    def judge(value: Any, expected: Scalar) -> Answer:
        if kind(value) != kind(expected):
            return _mismatch(value, expected)
        if isinstance(value, float) and math.isnan(value):
            return "the value is not a number (NaN)"
        return bool(compare(value, expected))

    return judge


_equal = _comparison(operator.eq)


def _contains(value: Any, expected: Scalar) -> Answer:
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
        answer = _equal(item, expected)
        if answer is True:
            return True
        if answer is not False:
            doubt = f"an item cannot be compared: {answer}"
    return doubt or False


def _matches(value: Any, expected: str) -> Answer:
    if not isinstance(value, str):
        return _mismatch(value, expected)
    try:
        return compile_regex(expected).search(value)
    except UnicodeEncodeError:
        return "the value is not valid Unicode"


def _is_finite(value: float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) < _LARGEST


def _check_number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        text = value if isinstance(value, str) else ""
        suggestion = text if re.fullmatch(r"-?\d+(\.\d+)?", text) else plain_number(text)
        raise Invalid(f"must be a finite number, not {shown(value)}", suggestion)
    return value


def _check_scalar(value: object) -> Scalar:
    if isinstance(value, str) and (found := _SURROGATE.search(value)):
        raise Invalid(f"must be valid Unicode, not text with {shown(found[0])}")
    if not isinstance(value, (str, int, float)) or not (isinstance(value, str) or _is_finite(value)):
        raise Invalid(f"must be text, a finite number, true or false, not {shown(value)}")
    return value


def _check_regex(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REGEX:
        raise Invalid(f"must be a regular expression of 1 to {MAX_REGEX} characters, not {shown(value)}")
    if found := _CONTROL.search(value):
        # In double quotes YAML turns \b into a backspace, and a rule that should block never matches.
        raise Invalid(f"holds the control character {shown(found[0])}: write the pattern in single quotes")
    try:
        compile_regex(value)
    except BadRegex as error:
        raise Invalid(f"is not a regular expression in RE2 syntax: {error}") from None
    return value


class Meaning(Enum):
    """What a condition says about a value: all that the linter asks of an operator."""

    EQUAL = "equal"
    LOWER_BOUND = "lower bound"
    UPPER_BOUND = "upper bound"
    PART = "part"
    """The value holds the expected one."""
    PATTERN = "pattern"
    """The expected value is a regular expression."""
    OTHER = "other"


class Operator(NamedTuple):
    """One `param_*` condition."""

    about: str
    """The sentence about it in the published JSON Schema."""
    check: Callable[[object], Any]
    """Check and return the policy's value, which a parameter is compared with. Raises Invalid."""
    schema: Mapping[str, Any]
    """The JSON Schema of such a value."""
    judge: Callable[[Any, Any], Answer]
    """Compare a parameter's value, which is never null, with the policy's."""
    meaning: Meaning = Meaning.OTHER
    compares: tuple[str, ...] = ()
    """The JSON Schema types of parameters that it can compare; empty for that of the policy's value only."""
    symbol: str | None = None
    """Python's operator that does the same to two values of one type, for `fast_path.py`."""
    synonyms: str = ""
    """Words of other policy languages, for suggestions."""


_NUMBER, _SCALAR = {"type": "number"}, {"type": ["string", "number", "boolean"]}
_REGEX = {"type": "string", "minLength": 1, "maxLength": MAX_REGEX}
_NUMERIC = ("number", "integer")


def _bound(sign: str, compare: Callable[[Any, Any], bool], about: str, synonyms: str) -> Operator:
    meaning = Meaning.LOWER_BOUND if sign[0] == ">" else Meaning.UPPER_BOUND
    judge = _comparison(compare)
    return Operator(about, _check_number, _NUMBER, judge, meaning, _NUMERIC, sign, synonyms)


OPERATORS: dict[str, Operator] = {
    "eq": Operator(
        "parameter equals; text, number and boolean never mix",
        *(_check_scalar, _SCALAR, _equal, Meaning.EQUAL),
        symbol="==",
        synonyms="eq equals param param_equal param_equals param_is",
    ),
    "gt": _bound(
        *(">", operator.gt, "parameter is greater than"),
        "above gt greater_than max_exceeded over param_above param_greater_than param_over",
    ),
    "lt": _bound(
        *("<", operator.lt, "parameter is less than"),
        "below less_than lt param_below param_less_than param_under under",
    ),
    "gte": _bound(
        *(">=", operator.ge, "parameter is at least"),
        "at_least ge gte min param_ge param_min",
    ),
    "lte": _bound(
        *("<=", operator.le, "parameter is at most"),
        "at_most le lte max param_le param_max",
    ),
    "contains": Operator(
        "text has this part, a list this item, a mapping this key",
        *(_check_scalar, _SCALAR, _contains, Meaning.PART, ("string", "array", "object")),
        synonyms="contains has includes param_has param_includes",
    ),
    "matches": Operator(
        "RE2 pattern found anywhere in the text; `(?i)` ignores case",
        *(_check_regex, _REGEX, _matches, Meaning.PATTERN, ("string",)),
        synonyms="match matches param_match param_pattern param_re param_regex param_regexp pattern regex "
        "regexp",
    ),
}
"""By the name in a policy, without `param_`."""


def meaning(test: ParamTest) -> Meaning:
    """Return what `test` says about a value."""
    return OPERATORS[test.operator].meaning


def compared_types(test: ParamTest) -> tuple[str, ...]:
    """Return the JSON Schema types of the values that `test` can compare."""
    if isinstance(test.expected, bool):
        own: tuple[str, ...] = ("boolean",)
    else:
        own = ("string",) if isinstance(test.expected, str) else _NUMERIC
    return OPERATORS[test.operator].compares or own


def judge(test: ParamTest, value: Any) -> Answer:
    """Return how `value` compares with what `test` expects."""
    return OPERATORS[test.operator].judge(value, test.expected)


def wanted(test: ParamTest) -> str:
    """Return in words what a value must be for `test` to be answered."""
    if "array" in OPERATORS[test.operator].compares:
        return "text, a list or a mapping" if isinstance(test.expected, str) else "a list"
    return kind(test.expected)
