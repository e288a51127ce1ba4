"""Indexes of rules by the literal parts of their globs: most pairs of rules need not be compared."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from aegis_otel.policy.compiler import CompiledRule
from aegis_otel.policy.globs import Glob, Shape, outline

_GRAM = 4
_LAST = "\U0010ffff"


@lru_cache(maxsize=16384)
def _grams(text: str) -> frozenset[str]:
    """The pieces of `_GRAM` letters without a wildcard."""
    found: set[str] = set()
    for run in outline(text).runs:
        found.update(run[at : at + _GRAM] for at in range(len(run) - _GRAM + 1))
    return frozenset(found)


def _attributes(rule: CompiledRule) -> tuple[tuple[str, Sequence[Glob]], ...]:
    return (("type", rule.types), ("target", rule.targets), ("agent", rule.agents))


class Covering:
    """Rules, to find those that may cover another one.

    A glob covers only globs that have each of its literal pieces. Each rule is filed under its rarest one.
    """

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        self._frequency = Counter(
            (name, gram)
            for rule in rules
            for name, globs in _attributes(rule)
            for glob in globs
            for gram in _grams(glob.text)
        )
        self._by_piece: dict[tuple[str, str], list[int]] = {}
        self._exact: dict[tuple[str, str], list[int]] = {}
        self._others: list[int] = []

    def add(self, number: int, rule: CompiledRule) -> None:
        """File `rule` under `number`, which is higher than those before."""
        for name, globs in _attributes(rule):
            if all(glob.shape is Shape.EXACT for glob in globs):
                for glob in globs:
                    self._exact.setdefault((name, glob.literal), []).append(number)
                return
        best: set[tuple[str, str]] | None = None
        for name, globs in _attributes(rule):
            pieces = {self._rarest(name, glob) for glob in globs}
            if None not in pieces and (best is None or self._rules(pieces) < self._rules(best)):
                best = {piece for piece in pieces if piece is not None}
        if best is None:
            self._others.append(number)
        for piece in best or ():
            self._by_piece.setdefault(piece, []).append(number)

    def find(self, types: Glob, target: Glob, agent: Glob) -> list[int]:
        """The numbers of the rules that may match all that the three globs do, in order."""
        found = set(self._others)
        for name, glob in (("type", types), ("target", target), ("agent", agent)):
            if glob.shape is Shape.EXACT:
                found.update(self._exact.get((name, glob.literal), ()))
            for gram in _grams(glob.text):
                found.update(self._by_piece.get((name, gram), ()))
        return sorted(found)

    def _rarest(self, name: str, glob: Glob) -> tuple[str, str] | None:
        grams = _grams(glob.text)
        return min(
            ((name, gram) for gram in grams), key=lambda each: (self._frequency[each], each), default=None
        )

    def _rules(self, pieces: Iterable[tuple[str, str] | None]) -> int:
        return sum(self._frequency[piece] for piece in pieces if piece is not None)


class Overlapping:
    """Rules, to find those that may match something that another one matches, too.

    Two globs overlap only where one's beginning continues the other's, and the same at their ends.
    """

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._sides: dict[tuple[str, bool], _Starts] = {}
        for name in ("type", "target", "agent"):
            for is_end in (False, True):
                self._sides[name, is_end] = _Starts(
                    (side, number)
                    for number, rule in enumerate(rules)
                    for glob in dict(_attributes(rule))[name]
                    for side in [_side(glob, is_end=is_end)]
                )

    def find(self, rule: CompiledRule) -> Iterator[int]:
        """The numbers of the rules that may overlap with `rule`, in order."""
        ranked = sorted(
            (
                (sum(self._sides[name, is_end].count(side) for side in sides), name, is_end, sides)
                for name, globs in _attributes(rule)
                for is_end in (False, True)
                for sides in [{_side(glob, is_end=is_end) for glob in globs}]
            ),
            key=lambda each: each[0],
        )
        found: set[int] | None = None
        for _, name, is_end, sides in ranked[:3]:
            agreeing = {number for side in sides for number in self._sides[name, is_end].find(side)}
            found = agreeing if found is None else found & agreeing
            if len(found) < 3:
                break
        return iter(sorted(found or ()))


def _side(glob: Glob, *, is_end: bool) -> str:
    """The literal beginning of a glob, or its end from right to left."""
    its = outline(glob.text)
    return its.end[::-1] if is_end else its.start


class _Starts:
    """Texts with numbers, to find those of which one continues the other."""

    def __init__(self, texts: Iterable[tuple[str, int]]) -> None:
        self._sorted = sorted(set(texts))
        self._texts = [text for text, _ in self._sorted]
        self._lengths = sorted({len(text) for text in self._texts})

    def find(self, text: str) -> Iterator[int]:
        """The numbers of the texts that begin with `text`, or that it begins with."""
        for low, high in self._ranges(text):
            for _, number in self._sorted[low:high]:
                yield number

    def count(self, text: str) -> int:
        """How many there are."""
        return sum(high - low for low, high in self._ranges(text))

    def _ranges(self, text: str) -> Iterator[tuple[int, int]]:
        for length in self._lengths:
            if length >= len(text):
                break
            start = text[:length]
            yield bisect_left(self._texts, start), bisect_right(self._texts, start)
        yield bisect_left(self._texts, text), bisect_right(self._texts, text + _LAST)
