"""Read the JSON text of arguments where every reader finds the same in it, and compare two readings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def same(validated: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Return whether validation left the arguments as they were; null is what is not there."""
    left = len(validated)
    for name, value in sent.items():
        if value is None:
            if name in validated:
                return False
            continue
        if name not in validated or not _same(validated[name], value):
            return False
        left -= 1
    return left == 0


def _same(validated: Any, sent: Any) -> bool:
    kind = type(validated)
    if kind is type(sent) and kind in (str, int, bool):
        return bool(validated == sent)
    if kind in (int, float) and type(sent) in (int, float):
        return bool(validated == sent)
    if isinstance(validated, dict) and isinstance(sent, dict):
        return same(validated, sent)
    if isinstance(validated, tuple) and isinstance(sent, list):
        return len(validated) == len(sent) and all(map(_same, validated, sent))
    return validated is None and sent is None


class Ambiguous(Exception):
    """Another reader of JSON may find other values in this text; the message says why."""


def read_alike(arguments: str) -> Any:
    """Return what is in `arguments`, a JSON text, where every reader finds the same in it.

    Raises:
        Ambiguous: readers differ on it.
        ValueError: it is not JSON.
    """
    return _decoder.decode(arguments)


def read_once(arguments: str) -> Any:
    """Return what is in `arguments` as the SDK reads them, where no key is there twice.

    Raises:
        Ambiguous: a key is there twice.
        ValueError: it is not JSON.
    """
    return json.loads(arguments, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Ambiguous(TWICE)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = _once(pairs)
    if "" in found:  # the key under which a text stands as a whole
        raise Ambiguous(EMPTY_KEY)
    return found


def _integer(text: str) -> int:
    value = int(text)
    if not _INT_MIN <= value <= _INT_MAX:
        raise Ambiguous(NUMBER)
    return value


def _float(text: str) -> float:
    value = float(text)
    if value - value != 0 or ((value == 0 or len(text) > _DIGITS) and not _is_kept(text, value)):
        raise Ambiguous(NUMBER)
    return value


def _is_kept(text: str, value: float) -> bool:
    """Return whether a float is just the number that is written."""
    if repr(value) == text:
        return True
    try:
        return Decimal(text) == Decimal(repr(value))
    except ArithmeticError:
        return False


def _constant(_text: str) -> float:
    raise Ambiguous(NO_NUMBER)


_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_DIGITS = 17
"""Characters of a number that has no more digits than a float keeps."""
TWICE = "the arguments have a key twice, and the tool can read them itself"
EMPTY_KEY = "the arguments have an empty key, and the tool reads them itself"
NUMBER = "the arguments have a number that not every reader keeps exact, and the tool reads them itself"
NO_NUMBER = "the arguments have NaN or Infinity, which is no JSON, and the tool reads them itself"
_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
