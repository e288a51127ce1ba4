"""Finds secrets in text: one pass says which patterns can match at all, and only those are run.

All patterns run on RE2, over UTF-8 bytes, so the time is linear in the length of a text, whatever is in it.

Secrets with something in the middle that is not seen, or that only breaks a line.

They are looked for in the text without it, and hidden where they stand.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from re import compile as compile_fixed  # classes of characters and fixed words
from typing import Any, NamedTuple

import re2

from aegis_otel.redaction import masks
from aegis_otel.redaction.masks import (
    Masked,
    Span,
    apart,
    beyond_masks,
    bounded,
    glued,
    is_command,
    merged,
    whole_word,
    windows,
    without_substitutions,
)
from aegis_otel.redaction.secrets import command_lines, encoded, named_values, seed_phrases, shapes, sql
from aegis_otel.redaction.secrets.names import NAME_CLUE, OPTIONS, pattern_set
from aegis_otel.redaction.secrets.vendor_rules import RuleFinder, loose, split, vendor_names, vendors

ESCAPED = (
    r"\\u(?i:00ad|034f|061c|115f|1160|17b[45]|180[b-f]|200[b-f]|202[a-e]|206[0-9a-f]|3164|fe0[0-9a-f]"
    r"|feff|ffa0|fff[0-8]|db40\\udc[0-9a-f]{2})|\\xad"
)
UNSEEN = (  # Unicode's Default_Ignorable_Code_Point in UTF-8, and controls that no terminal shows
    r"\xc2\xad|\xcd\x8f|\xd8\x9c|\xe1\x85[\x9f\xa0]|\xe1\x9e[\xb4\xb5]|\xe1\xa0[\x8b-\x8f]"
    r"|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xe3\x85\xa4|\xef\xb8[\x80-\x8f]|\xef\xbb\xbf"
    r"|\xef\xbe\xa0|\xef\xbf[\xb0-\xb8]|\xf0\x9b\xb2[\xa0-\xa3]|\xf0\x9d\x85[\xb3-\xba]"
    rf"|\xf3\xa0[\x80-\xbf][\x80-\xbf]|[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]|{ESCAPED}"
)
"""A pattern for one character that is not seen."""
WRAPPED = r"[\w\-](?:\\|=)\r?\n[\w\-]"
"""A pattern for a word that goes on in the next line: behind a backslash, or as quoted-printable has it."""

unseen = compile_fixed(f"(?:{UNSEEN})+".encode())
wrap = compile_fixed(rb"(?<=[\w\-])[\\=]\r?\n(?=[\w\-])")
_CONTINUED = 12
_digit_and_letter = compile_fixed(rb"[0-9].*[A-Za-z]|[A-Za-z].*[0-9]")


class Joined:
    """A text without what a pattern finds in it, and where its rest stood."""

    def __init__(self, data: bytes, left_out: Any) -> None:
        parts: list[bytes] = []
        self._joints: list[int] = []
        self._gone = [0]
        done = 0
        for found in left_out.finditer(data):
            start, end = found.span()
            parts.append(data[done:start])
            self._joints.append(start - self._gone[-1])
            self._gone.append(self._gone[-1] + end - start)
            done = end
        self.text = b"".join((*parts, data[done:]))

    def parted(self, spans: Iterable[Span]) -> list[Span]:
        """Spans of the text as spans of what it was made of: with what was left out within them."""
        return [
            (
                start + self._gone[bisect_right(self._joints, start)],
                end + self._gone[bisect_left(self._joints, end)],
            )
            for start, end in spans
        ]

    def pieces(self, spans: Iterable[Span]) -> list[Span]:
        """The spans of tokens that go over a joint, without what was left out.

        A line's first word may be a command, which no mask may hide: so it must look like part of a token.
        """
        found: list[Span] = []
        for start, end in spans:
            first = bisect_right(self._joints, start)
            last = bisect_left(self._joints, end)
            if first == last:
                continue
            cuts = [start, *self._joints[first:last], end]
            for index in range(len(cuts) - 1):
                word = self.text[cuts[index] : cuts[index + 1]]
                if index and not (
                    len(word) >= _CONTINUED and _digit_and_letter.search(word) and not is_command(word)
                ):
                    break
                found.append(
                    (cuts[index] + self._gone[first + index], cuts[index + 1] + self._gone[first + index])
                )
        return found


Find = Callable[[bytes], list[Span]]

_ESCAPES = ((b"\\n", b"\n"), (b'\\"', b'"'), (b"\\r", b"\r"), (b"\\t", b"\t"))
_SAMPLE = 4_096
"""Bytes at the beginning of a text in which tokens tell that it is full of them."""
_ROUNDS = 8
"""How often a text is looked at again because a mask has set a secret apart that stood glued to another."""


class Sought(NamedTuple):
    """Something that is looked for, in steps of which each rules out most texts for the next."""

    gate: str
    """A pattern found wherever `find` finds something, in JSON as well."""
    find: Find
    clues: tuple[str, ...] = ()
    """Patterns with few states, all of which are found wherever `gate` is. Without any, the gate is one."""
    may_be: Callable[[bytes], bool] | None = None
    """Asked where the clues are found; says False only where `gate` is not."""
    is_in: Callable[[bytes], bool] | None = None
    """Says in place of `gate` whether `find` may find something."""


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
        name = f"{NAME_CLUE}|{added}" if added else NAME_CLUE
        tokens, of_vendors = split(without)
        texts = [
            *(
                Sought(family.gate or family.source, shapes.FamilyFinder(family), family.clues, family.may_be)
                for family in shapes.FAMILIES
            ),
            Sought(loose(tokens, 20), RuleFinder(tokens, loose), (loose(tokens, 2),)),
            Sought(shapes.PEM, shapes.pem_keys),
            Sought(named_values.gate(added), named_values.NamedFinder(added), (name,), named_values.may_be),
            Sought(command_lines.GATE, command_lines.command_secrets, (command_lines.CLUE,)),
            Sought(encoded.GATE, encoded.encoded_secrets, (encoded.CLUE,)),
            Sought(sql.into(added), sql.sql_values, (name, sql.INTO_CLUE)),
            Sought(sql.BY, sql.sql_passwords, (sql.BY_CLUE,)),
            Sought("", seed_phrases.seed_phrases, is_in=seed_phrases.has_phrase),
            *(Sought(pattern, _Added(pattern)) for pattern in patterns),
            Sought(
                vendors(of_vendors),
                RuleFinder(of_vendors, vendors),
                (vendor_names(of_vendors),),
                named_values.may_be_of_vendor,
            ),
            Sought(UNSEEN, self._without_unseen),
            Sought(WRAPPED, self._unwrapped),
        ]
        only_structures = [  # what only a look at the structure can tell
            Sought(named_values.json_gate(added), _nothing, (name,)),
            Sought(named_values.pair_gate(added), _nothing, (name,)),
            Sought(named_values.WORD_GATE, _nothing),
            Sought(rf"\"\$type\":|(?i:value)\\*\":|\\u00[2-7]|{ESCAPED}", _nothing),
        ]
        self._alone = frozenset(n for n, each in enumerate(shapes.FAMILIES) if each.source in shapes.ALONE)
        self._words = len(shapes.FAMILIES) + 1
        self._texts = _Search(texts)
        self.sought = [*texts, *only_structures]
        self._structures = _Search(self.sought)
        self._added = bool(patterns)

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

        Raises:
            TooMuchError: there is more in it than is looked at; see `budget`.
        """
        masks.spend(masks.A_TEXT)
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
        return [span for index in suspected for span in self.sought[index].find(data)]

    def _without_unseen(self, data: bytes) -> list[Span]:
        joined = Joined(data, unseen)
        return joined.parted(self._all(joined.text))

    def _unwrapped(self, data: bytes) -> list[Span]:
        joined = Joined(data, wrap)
        tokens = [index for index in self._texts(joined.text) if index < self._words]
        return joined.pieces(self._found(joined.text, tokens))


class _Search:
    """Tells which gates are in a text: first all clues in one pass, then the gates that these leave.

    One automaton for all gates would have a state for every pair of places in two of them, and texts that are
    no copies of each other make new ones without end, each of which takes longer than reading a thousand
    bytes. The clues have few.
    """

    def __init__(self, sought: Sequence[Sought]) -> None:
        numbers: dict[str, int] = {}
        self._always: list[_Step] = []
        self._behind: dict[int, list[_Step]] = {}
        for index, each in enumerate(sought):
            clues = each.clues or (() if each.may_be or each.is_in else (each.gate,))
            needs = [numbers.setdefault(clue, len(numbers)) for clue in clues]
            step = _Step(index, each, needs)
            (self._behind.setdefault(needs[-1], []) if needs else self._always).append(step)
        self._clues = pattern_set(numbers)

    def __call__(self, data: bytes) -> list[int]:
        there = self._clues.Match(data)
        steps = self._always
        if there:
            clues = frozenset(there)
            behind = (step for clue in there for step in self._behind.get(clue, ()) if step.needs <= clues)
            steps = [*steps, *behind]
        else:  # most often, and a generator takes longer than this
            for step in steps:
                if step.may_be is None or step.may_be(data):
                    break
            else:
                return []
        asked: dict[Callable[[bytes], bool], bool] = {}
        return [step.index for step in steps if step.is_in(data, asked)]


class _Step:
    """Something that is looked for where all its clues are. Its gate is compiled for the first such text."""

    def __init__(self, index: int, sought: Sought, needs: Sequence[int]) -> None:
        self.index = index
        self.needs = frozenset(needs)
        self._pattern = sought.gate
        self._is_clue = not sought.clues and sought.may_be is None and sought.is_in is None
        self.may_be = sought.is_in or sought.may_be
        self._is_certain = sought.is_in is not None

    def is_in(self, data: bytes, asked: dict[Callable[[bytes], bool], bool]) -> bool:
        """Whether the gate is in a text; `asked` remembers what several of them ask of it."""
        if self._is_clue:
            return True
        if self.may_be is not None:
            may_be = asked.get(self.may_be)
            if may_be is None:
                may_be = asked[self.may_be] = self.may_be(data)
            if not may_be:
                return False
        return self._is_certain or self._gate.search(data) is not None

    @cached_property
    def _gate(self) -> Any:
        options = re2.Options()
        options.encoding, options.log_errors, options.never_capture = OPTIONS.encoding, False, True
        return re2.compile(self._pattern.encode(), options)


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
