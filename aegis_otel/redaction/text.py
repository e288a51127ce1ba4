"""Finds secrets in text: one pass says which patterns can match at all, and only those are run.

All patterns run on RE2, over UTF-8 bytes, so the time is linear in the length of a text, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from functools import cache, cached_property
from re import compile as compile_fixed  # on a few characters
from typing import Any

import re2

from aegis_otel.redaction import broken, commands, encoded, named, pem, shapes, signs, sql, words
from aegis_otel.redaction.names import OPTIONS
from aegis_otel.redaction.rules import RuleFinder, loose, split, vendors
from aegis_otel.redaction.spans import (
    Masked,
    Span,
    apart,
    beyond_masks,
    bounded,
    glued,
    merged,
    whole_word,
    windows,
    without_substitutions,
)

Find = Callable[[bytes], list[Span]]

_ESCAPES = ((b"\\n", b"\n"), (b'\\"', b'"'), (b"\\r", b"\r"), (b"\\t", b"\t"))
_MEMORY = 64 << 20
"""Bytes that the states of the one pass may take. It fails only if a single state is larger."""
_SAMPLE = 4_096
"""Bytes at the beginning of a text in which tokens tell that it is full of them."""
_LONG = 16_384
"""Bytes from which on a text may be looked through by several automata."""
_SAMPLES = 128
_within = compile_fixed(rb"[0-9][A-Za-z]|[A-Za-z][0-9]|[a-z][A-Z]")
_ROUNDS = 8
"""How often a text is looked at again because a mask has set a secret apart that stood glued to another."""


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
            *((family.gate or family.source, shapes.FamilyFinder(family)) for family in shapes.FAMILIES),
            (loose(tokens), RuleFinder(tokens)),
            (pem.PEM, pem.pem_keys),
            (signs.gate(added), named.NamedFinder(added)),
            (commands.GATE, commands.command_secrets),
            (encoded.GATE, encoded.encoded_secrets),
            (sql.into(added), sql.sql_values),
            (sql.BY, sql.sql_passwords),
            (words.pattern(), words.seed_phrases),
            *((pattern, _Added(pattern)) for pattern in patterns),
            (vendors(of_vendors), RuleFinder(of_vendors)),
            (broken.UNSEEN, self._without_unseen),
            (broken.WRAPPED, self._unwrapped),
            # What only a look at the structure can tell.
            (signs.json_gate(added), _nothing),
            (signs.pair_gate(added), _nothing),
            (rf"\"\$type\":|(?i:value)\\*\":|\\u00[2-7]|{broken.ESCAPED}", _nothing),
        ]
        self._alone = frozenset(n for n, each in enumerate(shapes.FAMILIES) if each.source in shapes.ALONE)
        self._words = len(shapes.FAMILIES) + 1
        of_names = {signs.gate(added), signs.json_gate(added), signs.pair_gate(added)}
        of_words = {vendors(of_vendors), words.pattern(), encoded.GATE}
        self._texts = _Pass([pattern for pattern, _ in searched[:-3]], of_names, of_words)
        self._structures = _Pass([pattern for pattern, _ in searched], of_names, of_words)
        self._added = bool(patterns)
        self._finders = [find for _, find in searched]

    def suspects(self, data: bytes) -> Any:
        """Whether a text may hold a secret: false is certain.

        Where tokens are at the beginning of a long text, the rest is not looked at: `hide` takes them out
        first, because the one pass has many states in random letters.
        """
        if len(data) > _SAMPLE:
            found = self._texts(data[:_SAMPLE])
            if found and not self._alone.isdisjoint(found):
                return found
        return self._texts(data)

    def suspects_json(self, encoded: bytes) -> Any:
        """Whether a structure, of which this is the JSON, may hold a secret: false is certain.

        Our own patterns expect JSON's escapes; those of settings are spared them.
        """
        if self._added and b"\\" in encoded:
            for escape, char in _ESCAPES:
                encoded = encoded.replace(escape, char)
        return self._structures(encoded)

    def hide(self, data: bytes, suspected: Sequence[int]) -> bytes:
        """`data` with every secret in it masked; the object itself where there is none.

        Hiding in the result hides nothing more: a mask sets apart what stood glued to a secret, so there is
        looked again, until nothing comes of it.
        """
        done = without_substitutions(data, merged(self._first(data, suspected)))
        fresh = glued(data, done)
        for _ in range(_ROUNDS):
            if not fresh:
                break
            masked = Masked(data, done)
            more = masked.unmasked(self._beside(masked, fresh))
            before, done = done, without_substitutions(data, merged((*done, *more)))
            fresh = glued(data, sorted(set(done).difference(before)))
        else:
            done = merged((*done, *(whole_word(data, span) for span in fresh)))
        return Masked(data, done).text if done else data

    def _first(self, data: bytes, suspected: Sequence[int]) -> list[Span]:
        """Secrets of a text. Tokens that are whole words are found first, and left out of the others."""
        tokens = self._found(data, self._alone.intersection(suspected))
        alone = without_substitutions(data, merged(apart(data, tokens)))
        if alone:
            masked = Masked(data, alone)
            return [*alone, *masked.unmasked(beyond_masks(masked.text, self._all(masked.text)))]
        found = self._all(data) if tokens and len(data) > _SAMPLE else self._found(data, suspected)
        return beyond_masks(data, found)

    def _beside(self, masked: Masked, fresh: list[Span]) -> list[Span]:
        """Secrets near those masks."""
        found = [
            (start + begin, stop + begin)
            for begin, end in windows(len(masked.text), map(masked.place, fresh))
            for start, stop in self._all(masked.text[begin:end])
        ]
        return beyond_masks(masked.text, found)

    def _all(self, data: bytes) -> list[Span]:
        return self._found(data, self._texts(data))

    def _found(self, data: bytes, suspected: Iterable[int]) -> list[Span]:
        return [span for index in suspected for span in self._finders[index](data)]

    def _without_unseen(self, data: bytes) -> list[Span]:
        joined = broken.Joined(data, broken.unseen)
        return joined.parted(self._all(joined.text))

    def _unwrapped(self, data: bytes) -> list[Span]:
        joined = broken.Joined(data, broken.wrap)
        tokens = [index for index in self._texts(joined.text) if index < self._words]
        return joined.pieces(self._found(joined.text, tokens))


class _Pass:
    """Tells which patterns are in a text, in one pass; in three if it is long and has random letters.

    The states of the one automaton are nearly pairs of those of the three. What is in many texts makes few of
    them; letters that were never seen before make one each, which takes longer than three passes.
    """

    def __init__(self, patterns: Sequence[str], *apart: Container[str]) -> None:
        self._whole = _set(patterns)
        self._patterns = patterns
        self._apart = apart

    def __call__(self, data: bytes) -> list[int]:
        if len(data) < _LONG or not _is_random(data):
            return self._whole.Match(data) or []
        return [places[index] for part, places in self._parts for index in part.Match(data) or ()]

    @cached_property
    def _parts(self) -> list[tuple[Any, list[int]]]:
        left = list(range(len(self._patterns)))
        groups: list[list[int]] = []
        for group in self._apart:
            groups.append([index for index in left if self._patterns[index] in group])
            left = [index for index in left if index not in groups[-1]]
        return [(_set([self._patterns[i] for i in group]), group) for group in (*groups, left) if group]


def _is_random(data: bytes) -> bool:
    """Whether samples of a text are hardly ever the same, and digits or capitals are within words."""
    step = len(data) // _SAMPLES | 1
    samples = {data[at : at + 8] for at in range(0, len(data), step)}
    if len(samples) < _SAMPLES * 3 // 4:
        return False
    return sum(_within.search(sample) is not None for sample in samples) > _SAMPLES // 10


def _set(patterns: Sequence[str]) -> Any:
    options = re2.Options()
    options.encoding, options.log_errors, options.max_mem = OPTIONS.encoding, False, _MEMORY
    searched = re2.Set.SearchSet(options)
    for pattern in patterns:
        searched.Add(pattern.encode())
    searched.Compile()
    return searched


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
