"""Read the data files beside this module: names, words and patterns, so that a new one is a line of data.

A file has sections, `[title]`, of lines. A line that begins with `#` is a comment.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping

_PART = re.compile(r"\{([A-Z_]+)\}")


def read(name: str) -> bytes:
    """Return the content of `data/<name>`."""
    return pkgutil.get_data(__package__, f"data/{name}") or b""


def lines(name: str) -> list[tuple[str, list[str]]]:
    """Return the title and the lines of each section. What stands before the first has an empty title."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in read(name).decode().split("\n"):
        if line[:1] == "[" and line[-1:] == "]":
            found.append((line[1:-1], []))
        elif line and line[0] != "#":
            found[-1][1].append(line)
    return found


def records(name: str, parts: Mapping[str, str], title: str = "") -> list[tuple[str, dict[str, list[str]]]]:
    """Return the title and the fields of each section, which are its lines `field = value`.

    `{NAME}` in a value stands for that one of `parts`, for the field of that name before it in its section,
    or for one in the section `[patterns]`, which comes first.

    Args:
        name: The file.
        parts: Values for names in braces.
        title: The only section to be returned; all when empty.
    """
    shared = dict(parts)
    found: list[tuple[str, dict[str, list[str]]]] = []
    for section, rows in lines(name)[1:]:
        if title and section not in ("patterns", title):
            continue
        known = shared if section == "patterns" else dict(shared)
        fields: dict[str, list[str]] = {}
        for row in rows:
            field, _, value = row.partition(" =")
            value = _PART.sub(lambda part: known[part.group(1)], value[1:])  # noqa: B023 - called at once
            fields.setdefault(field, []).append(value)
            known[field] = value
        if section != "patterns":
            found.append((section, fields))
    return found


_WORDS = {title: " ".join(rows).split() for title, rows in lines("words.txt")}


def words(title: str) -> frozenset[str]:
    """Return the words of a section of `data/words.txt`."""
    return frozenset(_WORDS[title])


def byte_words(title: str) -> frozenset[bytes]:
    """Return the words of a section of `data/words.txt` as bytes."""
    return frozenset(map(str.encode, _WORDS[title]))
