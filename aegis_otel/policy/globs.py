"""Globs: `*` is any run of characters, `?` any one, everything else itself. Case counts.

A glob knows its shape, because literals and prefixes are what the compiler can look up instead of try.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

Matcher = Callable[[str], bool]


class Shape(Enum):
    EXACT = "exact"
    PREFIX = "prefix"
    """`literal*`; `*` alone is the empty prefix."""
    SUFFIX = "suffix"
    INFIX = "infix"
    """`*literal*`"""
    MIXED = "mixed"


class Glob(NamedTuple):
    text: str
    """As written."""
    shape: Shape
    literal: str
    """What the shape is around; empty for `MIXED`."""
    matches: Matcher

    @property
    def matches_all(self) -> bool:
        return self.shape is Shape.PREFIX and not self.literal


@lru_cache(maxsize=4096)
def compile_glob(text: str) -> Glob:
    """The glob written as `text`."""
    normal = re.sub(r"\*+", "*", text)
    if "?" in normal:
        return Glob(text, Shape.MIXED, "", _segments(normal))
    match normal.split("*"):
        case [literal]:
            return Glob(text, Shape.EXACT, literal, lambda value: value == literal)
        case [literal, ""]:
            return Glob(text, Shape.PREFIX, literal, lambda value: value.startswith(literal))
        case ["", literal]:
            return Glob(text, Shape.SUFFIX, literal, lambda value: value.endswith(literal))
        case ["", literal, ""]:
            return Glob(text, Shape.INFIX, literal, lambda value: literal in value)
    return Glob(text, Shape.MIXED, "", _segments(normal))


def _segments(pattern: str) -> Matcher:
    """Match the parts between stars from left to right, each as early as it fits: never backtracks."""
    parts = pattern.split("*")
    regexes = [re.compile(".".join(map(re.escape, part.split("?"))), re.DOTALL) for part in parts]
    if len(parts) == 1:
        return lambda value: regexes[0].fullmatch(value) is not None
    first, *middle, last = regexes
    shortest = sum(map(len, parts))
    tail = len(parts[-1])

    def matches(value: str) -> bool:
        if len(value) < shortest or not (found := first.match(value)):
            return False
        end = len(value) - tail
        for regex in middle:
            found = regex.search(value, found.end(), end)
            if not found:
                return False
        return last.match(value, end) is not None

    return matches


def covers(wide: str, narrow: str) -> bool:
    """Whether every text that `narrow` matches is matched by `wide`. May miss a case, never invents one."""
    if "*" not in wide and "?" not in wide:
        return wide == narrow
    outer, inner = _normal(wide), _normal(narrow)
    # reach[j]: the outer pattern so far covers the first j characters of the inner one
    reach = [True] + [False] * len(inner)
    for symbol in outer:
        if symbol == "*":
            for j in range(1, len(inner) + 1):
                reach[j] = reach[j] or reach[j - 1]
            continue
        before = reach
        reach = [False] + [
            before[j] and inner[j] != "*" and symbol in ("?", inner[j]) for j in range(len(inner))
        ]
    return reach[-1]


def _normal(pattern: str) -> str:
    """One spelling for equal patterns: in a run of wildcards, question marks first, then one star."""
    return re.sub(r"[*?]+", lambda run: "?" * run[0].count("?") + ("*" if "*" in run[0] else ""), pattern)
