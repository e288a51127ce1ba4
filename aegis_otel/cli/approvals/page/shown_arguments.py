"""Show the arguments of a call: all of them, or as much as somebody reads at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup

from aegis_otel.redaction.terminal import escape

SHOWN_CHARS = 20_000
"""Characters of all arguments together that are shown at first."""
SHOWN_PARTS = 200
"""Arguments that are shown at first."""
MOST_CHARS = 2_000_000
"""Characters that are shown of a question at most, before markup and escapes: seconds of a browser's time."""
MOST_PARTS = 10_000
"""Arguments that are shown at most."""
_INDENTED_DEPTH, _INDENTED_VALUES = 16, 20_000
"""How deep a value may be, and how many others may be in it, for it to be shown in lines: each line begins
with its indentation, which a model could make gigabytes of."""
_PREVIEW_CHARS = 160
_SHORT_NAME, _SHORT_TEXT = 20, 60


class ShownArgument(NamedTuple):
    """One argument as the page shows it."""

    name: str
    note: str
    """What the reader has to know of the text, such as that it is cut."""
    text: Markup
    is_short: bool
    """Whether name and text have room beside each other."""


class ShownArguments(NamedTuple):
    """The arguments of a question as the page shows them."""

    parts: tuple[ShownArgument, ...]
    size: int
    """Characters of all of them."""
    hidden: int
    """How many of these are not shown."""
    is_too_large: bool
    """Whether they are never shown whole."""


@lru_cache(maxsize=8)  # all open pages of a question are rendered again at each change
def show_arguments(params: str, *, whole: bool) -> ShownArguments:
    """Return the redacted arguments of a question.

    A text of several lines is shown in lines, anything else as JSON. Each character that nobody would see,
    or that would change how others are seen, is shown as an escape.

    Args:
        params: The arguments, a JSON object.
        whole: Show all of them, unless they are too large.
    """
    found = _texts(params)
    parts: list[ShownArgument] = []
    size = sum(len(name) + len(text) for name, text, _ in found)
    is_too_large = size > MOST_CHARS or len(found) > MOST_PARTS
    whole = whole and not is_too_large
    shown = 0
    for number, (name, text, is_lines) in enumerate(found):
        left = len(name) + len(text) if whole else SHOWN_CHARS - shown
        if left <= 0 or (number >= SHOWN_PARTS and not whole):
            break
        own_name, own_text = name[:left], text[: max(0, left - len(name))]
        shown += len(own_name) + len(own_text)
        notes = [f"text of {text.count(chr(10)) + 1:,} lines"] if is_lines else []
        if len(own_name) + len(own_text) < len(name) + len(text):
            notes.append(f"the first {len(own_text):,} of {len(text):,} characters")
        is_short = not notes and len(own_name) <= _SHORT_NAME and len(own_text) <= _SHORT_TEXT
        parts.append(ShownArgument(own_name, ", ".join(notes), _lines(own_text), is_short))
    return ShownArguments(tuple(parts), size, size - shown, is_too_large)


def preview(params: str) -> str:
    """Return the beginning of the arguments for a list; not escaped yet."""
    return params if len(params) <= _PREVIEW_CHARS else f"{params[:_PREVIEW_CHARS]}..."


def _texts(params: str) -> list[tuple[str, str, bool]]:
    """Return the name and the text of each argument, and whether it is a text of several lines."""
    try:
        found = json.loads(params)
        if isinstance(found, dict):
            return [(name, *_text(value)) for name, value in found.items()]
    except (ValueError, RecursionError):
        pass
    return [("", *_text(params))]


def _text(value: object) -> tuple[str, bool]:
    if isinstance(value, str) and "\n" in value:
        return value, True
    if isinstance(value, dict | list) and _is_legible(value):
        return json.dumps(value, indent=2, ensure_ascii=False), False
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False), False


def _is_legible(value: object) -> bool:
    """Return whether a value is small enough to be shown in lines of its own."""
    level, count = [value], 0
    for _ in range(_INDENTED_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        count += len(level)
        if not level or count > _INDENTED_VALUES:
            break
    return 0 < count <= _INDENTED_VALUES and not level


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _lines(text: str) -> Markup:
    return Markup.escape("\n".join(map(escape, text.split("\n"))))
