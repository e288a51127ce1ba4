"""How a policy's values are worded in messages: short, on one line, without control characters."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

_LONGEST = 60
_LARGEST = 10**30


def quoted(text: str) -> str:
    """`text` in backticks, cut to a readable length, unprintable characters escaped."""
    cut = text[:_LONGEST]
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return f"`{plain}{'…' if len(text) > _LONGEST else ''}`"


def shown(value: Any) -> str:
    """`value` as it may stand in a sentence."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        if not value:
            return "empty text"
        return f"the text {quoted(value)}" if value[0].isdigit() else quoted(value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a very large number"
    if isinstance(value, (int, float)):
        return f"the number `{value!r}`"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a value of type {quoted(type(value).__name__)}"


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant."""
    return _closest(word[:_LONGEST].strip().lower(), tuple(choices))


@lru_cache(maxsize=1024)
def _closest(word: str, choices: tuple[str, ...]) -> str | None:
    found = get_close_matches(word, choices, n=1)
    return found[0] if found else None


def listed(choices: Iterable[str]) -> str:
    """The choices in backticks, joined as a sentence joins alternatives."""
    *first, last = (f"`{choice}`" for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last
