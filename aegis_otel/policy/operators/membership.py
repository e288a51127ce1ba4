"""Judge `param_in`: whether a value is one of a list. Types never mix, as in `param_eq`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from aegis_otel.policy.operators.answer import Answer, kind, not_of_kind
from aegis_otel.policy.operators.comparisons import SCALAR, check_scalar
from aegis_otel.policy.operators.lists import check_items, items
from aegis_otel.policy.rules import Scalar

SCHEMA = items(SCALAR)


class Choices(NamedTuple):
    """The values of a list, by type: to Python `1`, `1.0` and `True` are equal."""

    texts: frozenset[str]
    numbers: frozenset[int | float]
    booleans: frozenset[bool]
    kinds: str
    """The types of the values, in words."""


def check(value: object) -> list[Scalar]:
    """Return the list of values. Raises Invalid."""
    return check_items(value, check_scalar, "a list of values")


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
