"""Indexes of rules by the literal parts of their globs: most pairs of rules need not be compared."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, product

from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.patterns import Glob, Shape, outline

_PIECE = 4
_WORTH = 30
"""How many rules can be listed in the time in which one is compared."""
_LAST = "\U0010ffff"
_Key = tuple[str, str]
"""The attribute, and a piece of a glob of it or, after `=`, the whole text of a glob without wildcards."""


@lru_cache(maxsize=16384)
def _rows(text: str, size: int, *, shorter: bool = False) -> frozenset[str]:
    """Return all rows of `size` letters between the wildcards of a glob; with `shorter`, also shorter runs.

    A glob covers only globs that have each of its rows.
    """
    found: set[str] = set()
    for run in outline(text).runs:
        rows = len(run) - size + 1
        found.update(run[at : at + size] for at in range(max(1, rows) if shorter else rows))
    return frozenset(found)


@lru_cache(maxsize=16384)
def _needs(name: str, glob: Glob) -> tuple[_Key, ...]:
    if glob.shape is Shape.EXACT:
        return ((name, "=" + glob.literal),)
    return tuple((name, piece) for piece in _rows(glob.text, _PIECE, shorter=True))


_NAMES = ("type", "target", "agent")


def _attributes(rule: CompiledRule) -> Iterator[tuple[str, Sequence[Glob]]]:
    return zip(_NAMES, rule.scope, strict=True)


class Covering:
    """An index of rules, to find those that may cover another one.

    A glob covers only globs that have each of its literal pieces. Each rule is filed under its rarest ones.
    """

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        self._frequency = Counter(
            key
            for rule in rules
            for name, globs in _attributes(rule)
            for glob in globs
            for key in _needs(name, glob)
        )
        self._filed: dict[_Key, list[int]] = {}
        self._sizes: dict[str, set[int]] = {}
        """The lengths of the pieces that rules are filed under, by attribute."""
        self._others: list[int] = []

    def add(self, number: int, rule: CompiledRule) -> None:
        """File `rule` under `number`, which is higher than those before."""
        best: set[_Key] | None = None
        for name, globs in _attributes(rule):
            keys = {
                min(_needs(name, glob), key=lambda each: (self._frequency[each], each), default=None)
                for glob in globs
            }
            rarest = {key for key in keys if key is not None}
            if len(rarest) == len(keys) and (best is None or self._rules(rarest) < self._rules(best)):
                best = rarest
        if best is None:
            self._others.append(number)
        for key in best or ():
            self._filed.setdefault(key, []).append(number)
            self._sizes.setdefault(key[0], set()).add(len(key[1]))

    def near(self, rule: CompiledRule) -> tuple[list[set[int]], ...]:
        """Return the rules filed under a part of each glob of the rule, for each attribute."""
        return tuple([self._near(name, glob) for glob in globs] for name, globs in _attributes(rule))

    def find(self, *near: set[int]) -> list[int]:
        """Return, in order, the rules that may match all that the globs of these results of `near` match."""
        return sorted(set(self._others).union(*near))

    def _near(self, name: str, glob: Glob) -> set[int]:
        filed = self._filed
        if not filed:
            return set()
        found = set(filed.get((name, "=" + glob.literal), ())) if glob.shape is Shape.EXACT else set()
        for size in self._sizes.get(name, ()):
            if size <= _PIECE:  # longer ones are whole texts
                rows = _rows(glob.text, size)
                found.update(*(filed[name, piece] for piece in rows if (name, piece) in filed))
        return found

    def _rules(self, keys: Iterable[_Key]) -> int:
        return sum(self._frequency[key] for key in keys)


class Overlapping:
    """An index of rules, to find those that may match something that another one also matches.

    Two globs overlap only where one's beginning continues the other's, and the same at their ends.
    """

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._sides = {
            (name, is_end): _Starts(
                (_side(glob, is_end=is_end), number)
                for number, rule in enumerate(rules)
                for glob in rule.scope[_NAMES.index(name)]
            )
            for name, is_end in product(_NAMES, (False, True))
        }

    def find(self, rule: CompiledRule) -> Iterator[int]:
        """Yield the numbers of the rules that may overlap with `rule`, in order."""
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
        for count, name, is_end, sides in ranked[:3]:
            if found is not None and count > _WORTH * len(found):
                break  # it would cost more to list them than to compare what is left
            agreeing: set[int] = set()
            for side in sides:
                agreeing.update(self._sides[name, is_end].find(side))
            found = agreeing if found is None else found & agreeing
        return iter(sorted(found or ()))


def _side(glob: Glob, *, is_end: bool) -> str:
    """Return the literal beginning of a glob, or its end from right to left."""
    its = outline(glob.text)
    return its.end[::-1] if is_end else its.start


class _Starts:
    """An index of numbered texts, to find those that begin with a text, or that it begins with."""

    def __init__(self, texts: Iterable[tuple[str, int]]) -> None:
        ordered = sorted(set(texts))
        self._texts = [text for text, _ in ordered]
        self._numbers = [number for _, number in ordered]
        self._lengths = sorted({len(text) for text in self._texts})

    def find(self, text: str) -> Iterator[int]:
        """Yield the numbers of the texts that begin with `text`, or that it begins with."""
        return chain.from_iterable(self._numbers[low:high] for low, high in self._ranges(text))

    def count(self, text: str) -> int:
        """Return how many of them there are."""
        return sum(high - low for low, high in self._ranges(text))

    def _ranges(self, text: str) -> Iterator[tuple[int, int]]:
        for length in self._lengths:
            if length >= len(text):
                break
            start = text[:length]
            yield bisect_left(self._texts, start), bisect_right(self._texts, start)
        yield bisect_left(self._texts, text), bisect_right(self._texts, text + _LAST)
