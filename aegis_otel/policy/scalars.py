"""What an unquoted YAML scalar means: only what YAML 1.1 and YAML 1.2 read alike.

PyYAML reads YAML 1.1 (`no` is false, `18:00` is 1080, `010` is 8), editors and other tools read 1.2.
A policy that means two things is refused instead of guessed at.
"""

from __future__ import annotations

import re

Plain = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OLD_BOOLEANS = frozenset(
    spelling for word in ("yes", "no", "on", "off") for spelling in (word, word.title(), word.upper())
)
_LOOKS_SPECIAL = frozenset("0123456789+-.~tTfFnNyYoO")

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]*(?:[eE][-+][0-9]+)?|\.[0-9]+(?:[eE][-+][0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

# What is left that one version or the other takes for a number or a date.
_DISPUTED = re.compile(
    r"""
      [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?         # 18:00 is sexagesimal in 1.1
    | [-+]?0(?:b[01_]+|o[0-7]+|x[0-9a-fA-F_]+)                 # other bases
    | [-+]?[0-9][0-9_]*                                        # 010, 1_000
    | [-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?  # 1e3, 1_0.5
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?             # a date in 1.1
    """,
    re.VERBOSE,
)
_MAX_DIGITS = 400


class DisputedScalar(ValueError):
    """The scalar has no one meaning; the message continues the sentence that begins with it."""


def resolve(text: str) -> Plain:
    """The value of the unquoted scalar `text`.

    Raises:
        DisputedScalar: YAML versions read it differently, or it is too long a number.
    """
    if text and text[0] not in _LOOKS_SPECIAL:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text in _OLD_BOOLEANS:
        raise DisputedScalar(
            "is a boolean to some YAML readers and text to others: write true or false, or quote it"
        )
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise DisputedScalar(f"has more than {_MAX_DIGITS} digits: quote it if it is text")
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    if _DISPUTED.fullmatch(text):
        raise DisputedScalar(
            "is a number or a date to some YAML readers and something else to others: "
            "quote it, or write a plain number"
        )
    return text
