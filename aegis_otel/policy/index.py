"""Which rules can match an action type, without trying each: literals and prefixes are looked up."""

from __future__ import annotations

from collections.abc import Sequence

from aegis_otel.policy.globs import Glob, Matcher, Shape


class TypeIndex:
    """The type patterns of all rules, by shape."""

    def __init__(self, patterns: Sequence[Sequence[Glob]]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._prefixes: dict[int, dict[str, list[int]]] = {}
        """Rules by prefix, by the prefix's length; `*` is the prefix of length 0."""
        self._others: list[tuple[Matcher, int]] = []
        for number, globs in enumerate(patterns):
            for glob in globs:
                if glob.shape is Shape.EXACT:
                    self._exact.setdefault(glob.literal, []).append(number)
                elif glob.shape is Shape.PREFIX:
                    by_prefix = self._prefixes.setdefault(len(glob.literal), {})
                    by_prefix.setdefault(glob.literal, []).append(number)
                else:
                    self._others.append((glob.matches, number))

    def find(self, action_type: str) -> list[int]:
        """The numbers of the rules whose type patterns match, in order."""
        found = set(self._exact.get(action_type, ()))
        for length, by_prefix in self._prefixes.items():
            found.update(by_prefix.get(action_type[:length], ()))
        found.update(number for matches, number in self._others if matches(action_type))
        return sorted(found)
