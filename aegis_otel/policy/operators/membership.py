"""Judge `param_in`: whether a value is one of a list. Types never mix, as in `param_eq`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aegis_otel.policy.messages import Invalid, shown
from aegis_otel.policy.operators.answer import Answer, kind, not_of_kind
from aegis_otel.policy.operators.comparisons import SCALAR, check_scalar
from aegis_otel.policy.rules import Scalar

MAX_VALUES = 10_000
SCHEMA: Mapping[str, Any] = {"type": "array", "minItems": 1, "maxItems": MAX_VALUES, "items": SCALAR}


class Choices(NamedTuple):
    """The values of a list, by type: to Python `1`, `1.0` and `True` are equal."""

    texts: frozenset[str]
    numbers: frozenset[int | float]
    booleans: frozenset[bool]
    kinds: str
    """The types of the values, in words."""


def check(value: object) -> list[Scalar]:
    """Return the list of values. Raises Invalid."""
    if not isinstance(value, list):
        raise Invalid(f"must be a list of values, not {shown(value)}", _as_list(value))
    if not 0 < len(value) <= MAX_VALUES:
        raise Invalid(f"must list 1 to {MAX_VALUES} values, not {len(value)}")
    return [_checked(each, number) for number, each in enumerate(value, 1)]


def _checked(value: object, number: int) -> Scalar:
    try:
        return check_scalar(value)
    except Invalid:
        words = f"number {number} is {shown(value)}"
        raise Invalid(f"must list text, finite numbers, true or false, and {words}") from None


def _as_list(value: object) -> str | None:
    return f"[{value}]" if type(value) in (int, float, bool) or _is_word(value) else None


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isalnum() and len(value) <= 40


def prepare(values: Sequence[Scalar]) -> Choices:
    """Return what `judge` needs of the checked `values`."""
    kinds = dict.fromkeys(map(kind, values))
    return Choices(
        frozenset(each for each in values if isinstance(each, str)),
        frozenset(each for each in values if not isinstance(each, (str, bool))),
        frozenset(each for each in values if isinstance(each, bool)),
        " or ".join(kinds),
    )


def judge(value: Any, choices: Choices) -> Answer:
    """Return whether `value` is one of `choices`; unknown where none of them has its type."""
    if isinstance(value, str):
        same: frozenset[Any] = choices.texts
    elif isinstance(value, bool):
        same = choices.booleans
    elif isinstance(value, (int, float)):
        if isinstance(value, float) and math.isnan(value):
            return "the value is not a number (NaN)"
        same = choices.numbers
    else:
        return not_of_kind(value, choices.kinds)
    return value in same if same else not_of_kind(value, choices.kinds)
