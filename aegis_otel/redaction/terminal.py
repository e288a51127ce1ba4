"""Make text safe to print: what a terminal would obey, or a reader not see, becomes a visible escape."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}

INVISIBLE = frozenset(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x16FE4, 0x1D159),
        *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
    )
)
"""Drawn as nothing, though Unicode counts them as letters, marks or symbols: fillers, joiners, selectors of
variants. Sixteen of these can spell any text, and nobody sees it."""
_COLOUR = "\ufe0f"
"""The selector that asks for an emoji in colour. Behind one it hides nothing."""
# Drawn over the character before them: `1` and a stroke read as a minus.
_OVERLAYS = frozenset([*range(0x0334, 0x0339), 0x0488, 0x0489, *range(0x20D0, 0x20F1)])
_MOST_MARKS = 3
"""Combining marks on one character. More of them are drawn over the lines above."""


def escape(text: str) -> str:
    """Return `text` on one line, with escapes such as `\\x1b` for what is not printed or seen.

    That is every control, bidirectional, zero-width, blank or unprintable character, and each combining mark
    that is drawn over other characters: a stroke, the fourth on one letter, one on none. Other text of any
    language stays as it is, backslashes too: a text that holds a backslash and `x1b` is shown like an escaped
    one, which is harmless, and regexes, Windows paths and JSON stay readable.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = text.translate(_ESCAPES)
    return shown if shown.isascii() else _without_stacks(shown)


_PLAIN_NAME = re.compile(r"[\w.:/@+-]+")
"""Matches a name in which nothing looks like the end of it."""


def quoted_name(text: str) -> str:
    """Return a name as it may stand among others: as a JSON text, where its end could be taken for another.

    Names of users and roles come from outside. `admin, clerk` may be one role, and has to look like one.
    """
    return text if _PLAIN_NAME.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def name_list(texts: Iterable[str]) -> str:
    """Return names with commas between them, of which none looks like two; not escaped yet."""
    return ", ".join(map(quoted_name, texts))


def _without_stacks(text: str) -> str:
    """Return `text` with an escape for each combining mark beyond those that one character may have.

    One that asks for colour may follow a symbol only, and once.
    """
    parts, marks = [], _MOST_MARKS  # a mark at the beginning has no character of this text to stand on
    before = ""
    for char in text:
        marks = marks + 1 if char >= "\u0300" and unicodedata.category(char).startswith("M") else 0
        hides = char == _COLOUR and not (before and unicodedata.category(before) == "So")
        parts.append(_escape_of(ord(char)) if marks > _MOST_MARKS or hides else char)
        before = char
    return "".join(parts)


def _escape_of(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


class _Escapes(dict[int, str]):
    """A translation made on demand: str.translate keeps a character for which lookup fails."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if (
            (code not in INVISIBLE or char == _COLOUR)
            and code not in _OVERLAYS
            and (char.isprintable() or unicodedata.category(char) == "Zs")
        ):
            raise LookupError
        if char in _NAMED:
            return _NAMED[char]
        return _escape_of(code)


_ESCAPES = _Escapes()
