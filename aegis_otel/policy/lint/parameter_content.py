"""Guess by its name what a parameter holds; and the words and attacks that the checks try."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.rules import Step, parts_of

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
WORDS: Any = json.loads(pkgutil.get_data("aegis_otel.policy.lint", "data/words.json") or b"")
"""`programs` has arguments with which a program changes, sends or shows more than its name says.
`runs others` has arguments with which it runs another program, by where among its words they may stand."""
_AMOUNTS, CHANGING = (frozenset(WORDS[key].split()) for key in ("amounts", "changing verbs"))
_CONTENTS = {content: frozenset(words.split()) for content, words in WORDS["contents"].items()}


class Content(Enum):
    """What kind of text it is."""

    COMMAND = "command"
    PATH = "path"
    SQL = "SQL"
    URL = "URL"
    ADDRESS = "address"
    OTHER = "other"

    @property
    def ignores_case(self) -> bool:
        """Whether what reads the text makes no difference between capital and small letters."""
        return self in (Content.SQL, Content.URL, Content.ADDRESS)


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters, the same for `getFileInfo` and `get_file_info`."""
    return [word.lower() for word in _WORD.findall(name)]


def _last_name(path: str) -> str:
    """Return the last name in the path of a parameter; empty where it has none."""
    return next((part for part in reversed(parts_of(path)) if not isinstance(part, Step)), "")


def is_amount(path: str) -> bool:
    """Return whether the parameter at the dotted `path` probably holds money or an amount."""
    return not _AMOUNTS.isdisjoint(words_of(_last_name(path)))


def numbers_of(schema: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the parameters at the top of `schema` that are numbers."""
    for name, inner in properties_of(schema).items():
        if isinstance(inner, Mapping) and inner.get("type") in ("number", "integer"):
            yield name


def changing_verbs(name: str) -> list[str]:
    """Return the words of a tool's name, or of a glob for some, that say that it changes something."""
    return [word for word in words_of(name) if word in CHANGING]


def content_of(path: str) -> Content:
    """Return what the parameter at the dotted `path` probably holds."""
    words = words_of(_last_name(path))
    return next(
        (Content(each) for each, its in _CONTENTS.items() if not its.isdisjoint(words)), Content.OTHER
    )
