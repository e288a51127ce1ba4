"""Find names of parameters that a server which ignores case, or a reader, could take for the same name.

Names are compared as skeletons: compatibility forms, case, separators, accents, invisible characters and
the letters that look alike in common fonts make no difference. A name that is too long to be compared in
bounded time could be any.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from functools import lru_cache

from aegis_otel.redaction.name_forms import decomposed, normalized

Skeleton = str | None
"""What is left of a name without everything that is easily mistaken; None of one that could be any."""

_LONGEST_KEPT = 64
# Cyrillic, Greek, Armenian and other small letters, after case folding, with the Latin ones they look like.
_LOOK_ALIKE = dict(
    zip(
        "аᴀɑαевьсԁɗеһнɡіıɩιјкκԛӏⅼмոпητорοσρԗгѕтցυսνѵвωшхχуүγᴢʐ1|i0",  # noqa: RUF001
        "aaaaebbcddehhgiiiijkkqllmnnntopoopprstguuvvbwwxxyyyzzlllo",
        strict=True,
    )
)
_SEPARATORS = dict.fromkeys("_- \t\n\r\x00.,:;/\\[](){}<>'\"`$@#+=~^!&%", "")
"""Also what servers read as a list or a path: `amount[]`, `order[total]`, `$amount`."""
_TABLE = str.maketrans({**_SEPARATORS, **_LOOK_ALIKE})
_INDEX = re.compile(r"\[\d{1,9}\]")
_VARIANT = re.compile(
    r"LATIN (?:SMALL LETTER|LETTER SMALL CAPITAL|SMALL LETTER SMALL CAPITAL) ([A-Z])(?: WITH .*)?"
)
"""The Unicode names of letters that are one of the alphabet in another shape, or with a stroke."""


def skeleton(name: str) -> Skeleton:
    """Return `name` without everything that is easily mistaken; names with equal skeletons look alike.

    Returns:
        None where the name is too long, or has too many accents, to be compared: it could be any.
    """
    return _kept(name) if len(name) <= _LONGEST_KEPT else _skeleton(name)


def may_be_among(name: str, skeletons: Set[Skeleton]) -> bool:
    """Return whether `name` could be taken for one of the names that have these skeletons."""
    own = skeleton(name)
    return own in skeletons or own is None or None in skeletons


def _skeleton(name: str) -> Skeleton:
    if not name.isascii():
        folded = normalized(name, "NFKC", "NFKD")
        if folded is None:
            return None
        # Letters, digits and ASCII stay; accents, format characters and variation selectors go.
        name = "".join(map(_plain, folded))
    if "[" in name:
        name = _INDEX.sub("", name)
    name = name.lower().translate(_TABLE)
    return name.replace("i", "l").replace("rn", "m").replace("vv", "w")


def folded(name: str) -> str:
    """Return `name` with the plain letters that it looks like, in their case, and without what is invisible.

    Unlike a skeleton it is still a name that patterns can match, of any length: plain characters stay as they
    are.
    """
    plain = decomposed(name)
    return "".join(each if each.isascii() else _letter(each) for each in plain if each.isprintable()).strip()


@lru_cache(maxsize=4096)
def _letter(char: str) -> str:
    alike = _plain(char.casefold() if len(char.casefold()) == 1 else char)
    alike = _LOOK_ALIKE.get(alike, alike)
    return alike.upper() if char.isupper() else alike


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    """Return the plain letter that the character is a shape of, or itself; nothing for an accent."""
    if char.isascii():
        return char
    if unicodedata.category(char)[0] not in "LNS":
        return ""
    shape = _VARIANT.fullmatch(unicodedata.name(char, ""))
    return char if shape is None else shape[1].lower()


_kept = lru_cache(maxsize=4096)(_skeleton)
