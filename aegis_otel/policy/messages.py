"""Words for a policy's values in messages: short, on one line, without control characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from aegis_otel.model import Approvers

_LONGEST = 60
_LARGEST = 10**30
_SEPARATED = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:([,_' ])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]+)?")
_DOTTED = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+|(?<=\.[0-9]{3}\.[0-9]{3}))")

Suggestion = str | Callable[[], str | None] | None
"""What was probably meant; a function where it takes long to find, for when the problem is shown."""


class Invalid(ValueError):
    """A value of a policy is refused; the message continues the sentence that begins with its key."""

    def __init__(self, message: str, suggestion: Suggestion = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


class InvalidItems(Invalid):
    """Items of a list are refused, each for its own reason."""

    def __init__(self, faults: Mapping[int, Invalid]) -> None:
        super().__init__("has invalid items")
        self.faults = faults
        """By the number of the item, from 0."""


def quoted(text: str) -> str:
    """Return `text` in backticks, cut to a readable length, with unprintable characters escaped."""
    cut = text[:_LONGEST]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return f"`{cut}{'…' if len(text) > _LONGEST else ''}`"


def shown(value: Any) -> str:
    """Return `value` as it may stand in a sentence."""
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


def plain_number(text: str) -> str | None:
    """Return the number that `text` writes with separators of thousands, None where it is no such text."""
    if len(text) > _LONGEST:
        return None
    if _SEPARATED.fullmatch(text):
        return re.sub("[,_' ]", "", text)
    if _DOTTED.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    return None


def closest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that was probably meant, None where none is close."""
    return _closest(word[:_LONGEST].strip().lower(), tuple(choices))


@lru_cache(maxsize=1024)
def _closest(word: str, choices: tuple[str, ...]) -> str | None:
    found = get_close_matches(word, choices, n=1)
    return found[0] if found else None


def listed(choices: Iterable[str]) -> str:
    """Return the choices in backticks, joined by commas and `or`."""
    *first, last = (f"`{choice}`" for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last


def approvers_in_words(approvers: Approvers) -> str:
    """Return who may answer: ``2 of: `*@example.com` or role `finance`, not the user ...``."""
    return "; and ".join(map(_approvers_in_words, approvers.all_of_them))


def _approvers_in_words(approvers: Approvers) -> str:
    kinds = (("", approvers.users), ("role ", approvers.roles))
    whom = [before + ", ".join(map(quoted, globs)) for before, globs in kinds if globs]
    who = " or ".join(whom) or "anybody whose name is known"
    how_many = f"{approvers.count} of: " if approvers.count > 1 else ""
    return f"{how_many}{who}{'' if approvers.allows_requester else ', not the user that the agent acts for'}"
