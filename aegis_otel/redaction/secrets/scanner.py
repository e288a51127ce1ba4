"""Find secrets in text: one pass says which patterns can match at all, and only those are run.

All patterns run on RE2, over UTF-8 bytes, so the time is linear in the length of a text, whatever is in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

from aegis_otel.redaction import budget
from aegis_otel.redaction.masks import (
    EditedText,
    Span,
    apart,
    beyond_masks,
    bounded,
    glued,
    is_command,
    merged,
    whole_word,
    without_substitutions,
)
from aegis_otel.redaction.secrets import (
    command_lines,
    encoded,
    named_values,
    secret_shapes,
    seed_phrases,
    sql,
)
from aegis_otel.redaction.secrets.secret_names import NAME_CLUE
from aegis_otel.redaction.secrets.value_patterns import compiled, compiled_gate, load, pattern_set
from aegis_otel.redaction.secrets.vendor_rules import (
    RuleFinder,
    has_vendor_sign,
    loose,
    split,
    vendor_names,
    vendors,
)

_P = load("unseen")
_CONTINUED = 12
"""Bytes of a word in the next line that goes on with a token."""
_ESCAPES = ((b"\\n", b"\n"), (b'\\"', b'"'), (b"\\r", b"\r"), (b"\\t", b"\t"))
_SAMPLE = 4_096
"""Bytes at the beginning of a text in which tokens show that it is full of them."""
_ROUNDS = 8
"""How often a text is searched again because a mask has set a secret apart that stood glued to another."""
_AROUND = 512
"""Bytes beside a mask in which a secret could begin or end that is one only since the mask is there."""

Find = Callable[[bytes], list[Span]]
Check = Callable[[bytes], bool]


class SecretKind:
    """A kind of secret that is searched in steps, of which each rules out most texts for the next.

    Args:
        find: Returns the spans of the secrets in a text.
        gate: A pattern found wherever `find` finds something, in JSON as well; or empty: `check` decides.
        clues: Patterns with few states, all found wherever `gate` is; by default the gate itself.
        check: A function that returns False only for texts without the gate. It runs where the clues are.
    """

    def __init__(self, find: Find, gate: str, clues: Sequence[str] = (), check: Check | None = None) -> None:
        self.find, self.gate, self.check = find, gate, check
        self.clues = tuple(clues or ((gate,) if gate else ()))

    def is_in(self, data: bytes, checked: dict[Check, bool]) -> bool:
        """Return whether `find` may find something in a text that has the clues.

        Args:
            data: The text.
            checked: The results of the checks of this text, which some kinds share.
        """
        if self.check is not None:
            if self.check not in checked:
                checked[self.check] = self.check(data)
            if not checked[self.check]:
                return False
        return self.gate in self.clues or self._compiled.search(data) is not None

    @cached_property
    def _compiled(self) -> Any:
        """The compiled gate, for the first text that has the clues."""
        return compiled_gate(self.gate)


class Engine:
    """All kinds of secrets that are searched for, compiled.

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
        known = secret_shapes.known_shapes()
        gates = named_values.gates(added)
        texts = [
            *(SecretKind(shape, shape.gate, shape.clues, shape.check) for shape in known),
            SecretKind(RuleFinder(tokens, loose), loose(tokens, 20), (loose(tokens, 2),)),
            SecretKind(secret_shapes.pem_keys, secret_shapes.PEM),
            SecretKind(named_values.finder(added), gates.TEXT, (name,), named_values.has_sign),
            SecretKind(command_lines.command_secrets, command_lines.GATE, (command_lines.CLUE,)),
            SecretKind(encoded.encoded_secrets, encoded.GATE, (encoded.CLUE,)),
            SecretKind(sql.sql_values, sql.gate(added), (name, sql.CLUE)),
            SecretKind(seed_phrases.seed_phrases, "", check=seed_phrases.has_phrase),
            *(SecretKind(_finder(pattern), pattern) for pattern in patterns),
            SecretKind(
                RuleFinder(of_vendors, vendors),
                vendors(of_vendors),
                (vendor_names(of_vendors),),
                has_vendor_sign,
            ),
            SecretKind(self._without_unseen, _P.UNSEEN),
            SecretKind(self._unwrapped, _P.WRAPPED),
        ]
        structures = [  # where only the redactor, which reads the structure, can find the secret
            SecretKind(_nothing, gates.KEY, (name,)),
            SecretKind(_nothing, gates.MEMBER, (name,)),
            SecretKind(_nothing, gates.WORD),
            SecretKind(_nothing, rf"\"\$type\":|(?i:value)\\*\":|\\u00[2-7]|{_P.ESCAPED}"),
        ]
        self._alone = frozenset(number for number, shape in enumerate(known) if shape.alone)
        self._words = len(known) + 1
        self._texts = _KindSearch(texts)
        self.kinds = [*texts, *structures]
        self._structures = _KindSearch(self.kinds)
        self._added = bool(patterns)

    def suspects(self, data: bytes) -> list[int]:
        """Return the numbers of the kinds of secrets that may be in a text.

        Where tokens are at the beginning of a long text, the rest is not searched: `hide` takes them out
        first, because the one pass has many states in random letters.
        """
        if len(data) > _SAMPLE:
            found = self._texts(data[:_SAMPLE])
            if found and not self._alone.isdisjoint(found):
                return found
        return self._texts(data)

    def suspects_json(self, encoded: bytes) -> list[int]:
        """Return the numbers of the kinds of secrets that may be in a structure, of which this is the JSON.

        Our own patterns expect JSON's escapes; those of settings do not, and search without them.
        """
        if self._added and b"\\" in encoded:
            for escape, char in _ESCAPES:
                encoded = encoded.replace(escape, char)
        return self._structures(encoded)

    def hide(self, data: bytes, suspected: Sequence[int]) -> bytes:
        """Return `data` with every secret in it masked; the object itself where there is none.

        Hiding in the result hides nothing more: a mask sets apart what stood glued to a secret, so the text
        is searched again, until nothing more is found.

        Raises:
            TooMuchError: there is more in it than the budget allows.
        """
        budget.spend(budget.TEXT)
        done = without_substitutions(data, merged(self._first(data, suspected)))
        fresh = glued(data, done)
        for _ in range(_ROUNDS):
            if not fresh:
                break
            masked = EditedText(data, done)
            more = masked.original(self._beside(masked, fresh))
            before, done = done, without_substitutions(data, merged((*done, *more)))
            fresh = glued(data, sorted(set(done).difference(before)))
        else:
            done = merged((*done, *(whole_word(data, span) for span in fresh)))
        return EditedText(data, done).text if done else data

    def _first(self, data: bytes, suspected: Sequence[int]) -> list[Span]:
        """Return secrets of a text. Tokens that are whole words come first, hidden from the others."""
        tokens = self._found(data, self._alone.intersection(suspected))
        alone = without_substitutions(data, merged(apart(data, tokens)))
        if alone:
            masked = EditedText(data, alone)
            return [*alone, *masked.original(beyond_masks(masked.text, self._all(masked.text)))]
        found = self._all(data) if tokens and len(data) > _SAMPLE else self._found(data, suspected)
        return beyond_masks(data, found)

    def _beside(self, masked: EditedText, fresh: list[Span]) -> list[Span]:
        """Return secrets near those masks."""
        places = [masked.place(span) for span in fresh]
        found = [
            (start + begin, stop + begin)
            for begin, end in merged((max(0, start - _AROUND), end + _AROUND) for start, end in places)
            for start, stop in self._all(masked.text[begin:end])
        ]
        return beyond_masks(masked.text, found)

    def _all(self, data: bytes) -> list[Span]:
        return self._found(data, self._texts(data))

    def _found(self, data: bytes, suspected: Iterable[int]) -> list[Span]:
        return [span for number in suspected for span in self.kinds[number].find(data)]

    def _without_unseen(self, data: bytes) -> list[Span]:
        """Return secrets with something in the middle that is not seen."""
        edited = EditedText(data, [found.span() for found in _P.unseen.finditer(data)], masked=False)
        return edited.original(self._all(edited.text))

    def _unwrapped(self, data: bytes) -> list[Span]:
        """Return the parts of tokens that go on in the next line.

        A line's first word may be a command, which no mask may hide: so it must look like part of a token.
        """
        edited = EditedText(data, [found.span() for found in _P.wrap.finditer(data)], masked=False)
        suspected = [number for number in self._texts(edited.text) if number < self._words]
        spans: list[Span] = []
        for start, end in self._found(edited.text, suspected):
            joints = edited.starts[bisect_right(edited.starts, start) : bisect_left(edited.starts, end)]
            cuts = [start, *joints, end] if joints else []
            for begin, stop in pairwise(cuts):
                word = edited.text[begin:stop]
                continues = (
                    len(word) >= _CONTINUED and _P.digit_and_letter.search(word) and not is_command(word)
                )
                if begin > start and not continues:
                    break
                spans.append((begin, stop))
        return edited.original(spans)


class _KindSearch:
    """Finds which kinds may be in a text: first all clues in one pass, then the gates that these leave.

    One automaton for all gates would have a state for every pair of places in two of them, and texts that are
    no copies of each other make new ones without end, each of which takes longer than reading a thousand
    bytes: 100 ms for 300 kB of code. The clues have few states: 0.6 ms for 300 kB without secrets.
    """

    def __init__(self, kinds: Sequence[SecretKind]) -> None:
        numbers: dict[str, int] = {}
        self._checks: list[tuple[int, Check]] = []
        self._behind: dict[int, list[tuple[int, SecretKind, frozenset[int]]]] = {}
        for index, each in enumerate(kinds):
            needs = [numbers.setdefault(clue, len(numbers)) for clue in each.clues]
            if needs:
                self._behind.setdefault(needs[-1], []).append((index, each, frozenset(needs)))
            elif each.check is not None:
                self._checks.append((index, each.check))
        self._clues = pattern_set(numbers)

    def __call__(self, data: bytes) -> list[int]:
        found: list[int] = []
        for index, check in self._checks:
            if check(data):
                found.append(index)  # a comprehension takes longer for the one there is
        there = self._clues.Match(data)
        if there:
            clues = frozenset(there)
            checked: dict[Check, bool] = {}
            found += [
                index
                for clue in there
                for index, each, needs in self._behind.get(clue, ())
                if needs <= clues and each.is_in(data, checked)
            ]
        return found


def _nothing(data: bytes) -> list[Span]:  # noqa: ARG001
    return []


def _finder(pattern: str) -> Find:
    """Return what finds a pattern from settings."""
    regex = compiled(pattern)
    group = 1 if regex.groups else 0

    def find(data: bytes) -> list[Span]:
        spans = [found.span(group) for found in regex.finditer(data)]
        return [part for start, end in spans if end > start for part in bounded(data, start, end)]

    return find


_configured: list[Engine] = []


@cache
def _default() -> Engine:
    return Engine()


def engine() -> Engine:
    """Return the engine in force, compiled if nothing was hidden yet: that takes some 40 ms."""
    return _configured[0] if _configured else _default()


def configure(used: Engine | None) -> None:
    """Use another engine from now on; None for the one without settings."""
    _configured[:] = [] if used is None else [used]
