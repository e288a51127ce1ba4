"""Read the data files beside this module: names, words and patterns, so that a new one is a line of data.

A file has sections, `[title]`, of lines. A line that begins with `#` is a comment.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping

_MACRO = re.compile(r"\{([A-Z_]+)\}")


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


def records(name: str, macros: Mapping[str, str]) -> list[tuple[str, dict[str, list[str]]]]:
    """Return the title and the fields of each section, which are its lines `field = value`.

    `{NAME}` in a value stands for that one of `macros`, or of the section `[patterns]`, which comes first.
    """
    known = dict(macros)

    def expanded(value: str) -> str:
        return _MACRO.sub(lambda macro: known[macro.group(1)], value)

    found: list[tuple[str, dict[str, list[str]]]] = []
    for title, rows in lines(name)[1:]:
        fields: dict[str, list[str]] = {}
        for row in rows:
            field, _, value = row.partition(" =")
            fields.setdefault(field, []).append(expanded(value[1:]))
        if title == "patterns":
            known |= {field: values[0] for field, values in fields.items()}
        else:
            found.append((title, fields))
    return found


_WORDS = {title: " ".join(rows).split() for title, rows in lines("words.txt")}


def words(title: str) -> frozenset[str]:
    """Return the words of a section of `data/words.txt`."""
    return frozenset(_WORDS[title])


def byte_words(title: str) -> frozenset[bytes]:
    """Return the words of a section of `data/words.txt` as bytes."""
    return frozenset(map(str.encode, _WORDS[title]))
