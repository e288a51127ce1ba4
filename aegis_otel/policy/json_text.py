"""Read a JSON text in which every reader finds the same, so that what is judged is what a tool will find."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import Any


class Doubt(Enum):
    """The reasons why readers may find different values in a JSON text, worded to follow "has"."""

    TWICE = "a key twice"
    EMPTY_KEY = "an empty key"
    NUMBER = "a number that not every reader keeps exact"
    NO_NUMBER = "NaN or Infinity, which is no JSON"


class Ambiguous(Exception):
    """Another reader of JSON may find other values in a text."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(f"the JSON has {doubt.value}")
        self.doubt = doubt


def read_alike(text: str) -> Any:
    """Return what is in `text`, where every reader of JSON finds the same in it.

    Raises:
        Ambiguous: readers differ on it.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return _decoder.decode(text)


def read_once(text: str) -> Any:
    """Return what is in `text` as Python's own reader finds it, where no key is there twice.

    Raises:
        Ambiguous: a key is there twice.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Ambiguous(Doubt.TWICE)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = _once(pairs)
    if "" in found:  # the key under which the adapter shows a text as a whole
        raise Ambiguous(Doubt.EMPTY_KEY)
    return found


def _integer(text: str) -> int:
    value = int(text)
    if not _INT_MIN <= value <= _INT_MAX:
        raise Ambiguous(Doubt.NUMBER)
    return value


def _float(text: str) -> float:
    value = float(text)
    if value - value != 0 or ((value == 0 or len(text) > _DIGITS) and not is_exact(value, text)):
        raise Ambiguous(Doubt.NUMBER)
    return value


def is_exact(value: float, text: str) -> bool:
    """Return whether a float is just the number that `text` writes."""
    if repr(value) == text:
        return True
    try:
        return Decimal(text) == Decimal(repr(value))
    except ArithmeticError:
        return False


def _constant(_text: str) -> float:
    raise Ambiguous(Doubt.NO_NUMBER)


_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_DIGITS = 17
"""Characters of a number that has no more digits than a float keeps."""
_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
