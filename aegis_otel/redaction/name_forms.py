"""Bring names into a normal form of Unicode (UAX #15) in bounded time; nothing else calls the library for it.

The library sorts the combining marks behind a letter in a time that grows with the square of their number,
with the interpreter's lock held, and makes eighteen characters of one. Names come from models and servers. So
one is only normalized where it has no more marks in a row than Unicode's stream-safe text has, and is not
long. Names of people's languages have a handful. What is beyond could be any name to whoever compares it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal
from unicodedata import combining, normalize

Form = Literal["NFC", "NFKC", "NFKD"]

MOST_MARKS = 30
"""Combining marks in a row; those count, too, that are marks only once they are decomposed."""
LONGEST = 5_000
"""Characters; more than a file path may have."""


def is_bounded(text: str) -> bool:
    """Return whether `text` can be normalized in bounded time. Then so can each part of it."""
    if text.isascii() or len(text) <= MOST_MARKS:
        return True
    if len(text) > LONGEST:
        return False
    run = 0
    for char in text:
        run = run + 1 if _is_mark(char) else 0
        if run > MOST_MARKS:
            return False
    return True


def normalized(text: str, *forms: Form) -> str | None:
    """Return `text` in the first of `forms`, and folded for case before each further one.

    Returns:
        None where `is_bounded` says that it would take too long.
    """
    if not is_bounded(text):
        return None
    for number, form in enumerate(forms):
        text = normalize(form, text.casefold() if number else text)
    return text


def decomposed(text: str) -> str:
    """Return `text`, of any length, in NFKD but for the order of marks: for whoever leaves them out."""
    return text if text.isascii() else "".join(map(_decomposed, text))


@lru_cache(maxsize=4096)
def _decomposed(char: str) -> str:
    return normalize("NFKD", char)


@lru_cache(maxsize=4096)
def _is_mark(char: str) -> bool:
    return combining(normalize("NFKD", char)[0]) != 0
