"""What a condition answers, and the words for the types of values. Used by every kind of comparison."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

Answer = bool | str
"""True, False, or the reason why neither is known, worded to follow "is unknown: ", without the value."""


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


def not_of_kind(value: Any, wanted: str) -> str:
    """Return the reason why a value that is not `wanted`, a type in words, cannot be compared."""
    return f"the value is {kind(value)}, not {wanted}"
