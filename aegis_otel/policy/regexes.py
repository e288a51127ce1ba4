"""Regular expressions of policies: RE2, so the time to match is linear in the text.

Python's own engine can be made to run for minutes by a value that a model chose.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

MAX_REGEX = 1000
"""Characters; keeps the compiled program, and with it the time per character, small."""


class BadRegex(ValueError):
    """The pattern is not RE2 syntax, or compiles to too large a program; the message says which."""


class Regex:
    """One compiled pattern; `search` looks for it anywhere in a text."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str) -> None:
        import re2  # noqa: PLC0415 - only policies with `param_matches` pay for it

        options = re2.Options()
        options.log_errors = False  # RE2 would write the pattern to stderr
        options.never_capture = True
        try:
            self._pattern: Any = re2.compile(pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0] if error.args else ""
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
            raise BadRegex(text) from None

    def search(self, text: str) -> bool:
        """Whether the pattern is found in `text`, all of it.

        Raises:
            UnicodeEncodeError: `text` has a lone surrogate, which RE2 cannot read.
        """
        return self._pattern.search(text) is not None


@lru_cache(maxsize=1024)
def compile_regex(pattern: str) -> Regex:
    """Compile `pattern`. Raises BadRegex."""
    return Regex(pattern)
