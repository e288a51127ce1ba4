"""Make text safe to print: what a terminal would obey, or a reader not see, becomes a visible escape."""

from __future__ import annotations

import unicodedata

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
