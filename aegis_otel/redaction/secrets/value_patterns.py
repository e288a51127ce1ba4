"""How patterns are compiled: by RE2, whose time is linear in the length of a text, over bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import re2

from aegis_otel.redaction.data_files import records

_MEMORY = 64 << 20
"""Bytes that the states of a set of patterns may take. It fails only if a single state is larger."""


def options(*, captures: bool = True, memory: int | None = None) -> Any:
    """Return RE2's options for patterns over bytes, so that text that is no UTF-8 hides nothing."""
    made = re2.Options()
    made.encoding, made.log_errors, made.never_capture = made.Encoding.LATIN1, False, not captures
    made.max_mem = memory or made.max_mem
    return made


OPTIONS = options()
_WITHOUT_GROUPS = options(captures=False)


def compiled(pattern: str) -> Any:
    """Return the compiled pattern.

    Raises:
        re2.error: it is not in RE2's syntax.
    """
    return re2.compile(pattern.encode(), OPTIONS)


def compiled_gate(pattern: str) -> Any:
    """Return the pattern without its groups, to search whether it is in a text: that takes fewer states."""
    return re2.compile(pattern.encode(), _WITHOUT_GROUPS)


def load(title: str, **parts: str) -> Any:
    """Return a section of `data/value_patterns.txt`: each pattern an attribute, one in capitals as its text.

    Args:
        title: The title of the section.
        parts: What stands for the names in braces that the data does not define.
    """
    ((_, fields),) = records("value_patterns.txt", parts, title)
    patterns = SimpleNamespace()
    for name, (pattern,) in fields.items():
        if name.isupper():
            setattr(patterns, name, pattern)
        elif name.endswith("~"):
            setattr(patterns, name[:-1], re.compile(pattern.encode()))
        else:
            setattr(patterns, name, compiled(pattern))
    return patterns


def pattern_set(patterns: Iterable[str]) -> Any:
    """Return a set whose `Match` returns, after one pass, the numbers of the patterns in a text, or None."""
    searched = re2.Set.SearchSet(options(memory=_MEMORY))
    for pattern in patterns:
        searched.Add(pattern.encode())
    searched.Compile()
    return searched
