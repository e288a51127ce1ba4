"""Make text safe to print: what a terminal would obey, or a reader not see, becomes a visible escape."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}

# Printable by category, yet drawn as nothing: fillers, joiners, and selectors that can carry hidden text.
_BLANK = frozenset([0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xE0100, 0xE01F0)])


def escape(text: str) -> str:
    """Return `text` on one line, with escapes such as `\\x1b` for what is not printed or seen.

    That is every control, bidirectional, zero-width or unprintable character. Printable text of any language
    stays as it is, backslashes too: a text that holds a backslash and `x1b` is shown like an escaped one,
    which is harmless, and regexes, Windows paths and JSON stay readable.
    """
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPES)


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


class _Escapes(dict[int, str]):
    """A translation made on demand: str.translate keeps a character for which lookup fails."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if code not in _BLANK and (char.isprintable() or unicodedata.category(char) == "Zs"):
            raise LookupError
        if char in _NAMED:
            return _NAMED[char]
        if code <= 0xFF:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_ESCAPES = _Escapes()
