"""Finds secrets in text: one pass says which patterns can match at all, and only those are run.

All patterns run on RE2, over UTF-8 bytes, so the time is linear in the length of a text, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import re2

from aegis_otel.redaction import commands, encoded, named, pem, shapes, signs, sql, words
from aegis_otel.redaction.names import OPTIONS
from aegis_otel.redaction.rules import RuleFinder, loose, split, vendors
from aegis_otel.redaction.spans import Span, bounded, cover, merged, without_substitutions

Find = Callable[[bytes], list[Span]]

_ESCAPES = ((b"\\n", b"\n"), (b'\\"', b'"'), (b"\\r", b"\r"), (b"\\t", b"\t"))
_MEMORY = 64 << 20
"""Bytes that the states of the one pass may take. It fails only if a single state is larger."""


class Engine:
    """Everything that is looked for, compiled.

    Args:
        names: Patterns for names that were added.
        patterns: Patterns that were added; the secret is the first group, or all of it.
        without: Ids of rules that are not used.
    """

    def __init__(
        self, names: Sequence[str] = (), patterns: Sequence[str] = (), without: Sequence[str] = ()
    ) -> None:
        added = "|".join(names)
        tokens, of_vendors = split(without)
        searched: list[tuple[str, Find]] = [
            (pem.PEM, pem.pem_keys),
            *((family.gate or family.source, shapes.FamilyFinder(family)) for family in shapes.FAMILIES),
            (signs.gate(added), named.NamedFinder(added)),
            (commands.GATE, commands.command_secrets),
            (encoded.GATE, encoded.encoded_secrets),
            (signs.pair_gate(added), _nothing),
            (sql.INTO, sql.sql_values),
            (sql.BY, sql.sql_passwords),
            (words.pattern(), words.seed_phrases),
            *((pattern, _Added(pattern)) for pattern in patterns),
            (loose(tokens), RuleFinder(tokens)),
            (vendors(of_vendors), RuleFinder(of_vendors)),
            # What only a look at the structure can tell.
            (r"\"\$type\":|(?i:value)\\*\":|\\u00[2-7]", _nothing),
        ]
        options = re2.Options()
        options.encoding, options.log_errors, options.max_mem = OPTIONS.encoding, False, _MEMORY
        self._all = re2.Set.SearchSet(options)
        for pattern, _ in searched:
            self._all.Add(pattern.encode())
        self._all.Compile()
        self._added = bool(patterns)
        self._finders = [find for _, find in searched]

    def suspects(self, data: bytes) -> Any:
        """Whether a text, or the JSON of a structure, may hold a secret: false is certain."""
        return self._all.Match(data)

    def suspects_json(self, encoded: bytes) -> Any:
        """Whether a structure, of which this is the JSON, may hold a secret: false is certain.

        Our own patterns expect JSON's escapes; those of settings are spared them.
        """
        if self._added and b"\\" in encoded:
            for escape, char in _ESCAPES:
                encoded = encoded.replace(escape, char)
        return self._all.Match(encoded)

    def hide(self, data: bytes, suspected: Sequence[int]) -> bytes:
        """`data` with every secret in it masked; the object itself where there is none."""
        spans: list[Span] = []
        for index in suspected:
            spans += self._finders[index](data)
        return cover(data, without_substitutions(data, merged(spans))) if spans else data


def _nothing(data: bytes) -> list[Span]:  # noqa: ARG001
    return []


class _Added:
    """A pattern from settings at work."""

    def __init__(self, pattern: str) -> None:
        self._compiled = re2.compile(pattern.encode(), OPTIONS)

    def __call__(self, data: bytes) -> list[Span]:
        group = 1 if self._compiled.groups else 0
        return [
            span
            for found in self._compiled.finditer(data)
            if found.end(group) > found.start(group)
            for span in bounded(data, *found.span(group))
        ]


_configured: list[Engine] = []


@cache
def _default() -> Engine:
    return Engine()


def engine() -> Engine:
    """The one in force, compiled if nothing was hidden yet: that takes some 40 ms."""
    return _configured[0] if _configured else _default()


def configure(used: Engine | None) -> None:
    """Use another from now on; None for the one without settings."""
    _configured[:] = [] if used is None else [used]


def is_suspect(data: bytes) -> bool:
    """Whether a text, or the JSON of a structure, may hold a secret. One pass; False is certain."""
    return bool(engine().suspects(data))


def hide_secrets(data: bytes) -> bytes:
    """`data` with every secret in it replaced by a mask."""
    used = engine()
    return used.hide(data, used.suspects(data) or ())
