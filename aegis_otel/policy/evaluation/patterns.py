"""The globs and the regular expressions of policies.

In a glob `*` is any run of characters, `?` any one, everything else itself; case counts. It knows its shape,
because the compiler can look up literals and prefixes instead of trying them. Regular expressions are RE2's,
whose time is linear in the text: Python's engine can be made to run for minutes by a value that a model sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

MAX_REGEX = 1000
"""Characters; keeps the compiled program, and with it the time per character, small."""


class BadRegex(ValueError):
    """The pattern is not RE2 syntax, or compiles to too large a program; the message says which."""


class Regex:
    """One compiled pattern; `search` looks for it anywhere in a text."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str) -> None:
        import re2  # noqa: PLC0415 - only policies with `param_matches` pay for it

        options = re2.Options()
        options.log_errors = False  # RE2 would write the pattern to stderr
        options.never_capture = True
        try:
            self._pattern: Any = re2.compile(pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0] if error.args else ""
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
            raise BadRegex(text) from None

    def search(self, text: str) -> bool:
        """Return whether the pattern is found in `text`, all of it.

        Raises:
            UnicodeEncodeError: `text` has a lone surrogate, which RE2 cannot read.
        """
        return self._pattern.search(text) is not None


@lru_cache(maxsize=1024)
def compile_regex(pattern: str) -> Regex:
    """Compile `pattern`. Raises BadRegex."""
    return Regex(pattern)


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
    """Compile the glob written as `text`."""
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


def _segments(pattern: str, any_letter: str = ".") -> Matcher:
    """Match the parts between stars from left to right, each as early as it fits: never backtracks."""
    parts = pattern.split("*")
    if "?" not in pattern and len(parts) > 1:
        return _literals(parts)
    regexes = [_part(part, any_letter) for part in parts]
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


@lru_cache(maxsize=16384)
def _part(text: str, any_letter: str) -> re.Pattern[str]:
    """Compile the letters and question marks between two stars; long globs repeat the same ones."""
    return re.compile(any_letter.join(map(re.escape, text.split("?"))), re.DOTALL)


def _literals(parts: list[str]) -> Matcher:
    """Match literal parts from left to right: what a regular expression does, without compiling one."""
    first, *middle, last = parts
    shortest = sum(map(len, parts))

    def matches(value: str) -> bool:
        if len(value) < shortest or not value.startswith(first):
            return False
        position, end = len(first), len(value) - len(last)
        for part in middle:
            found = value.find(part, position, end)
            if found < 0:
                return False
            position = found + len(part)
        return value.endswith(last)

    return matches


class Outline(NamedTuple):
    """What can be compared of two globs before they are worked through."""

    text: str
    """In the one spelling that equal globs have."""
    start: str
    """The letters before the first wildcard."""
    end: str
    """The letters after the last wildcard; all of them where there is none."""
    runs: tuple[str, ...]
    """The letters between wildcards, the longest first."""
    letters: int
    is_fixed: bool
    """Whether it has no star, and so matches texts of one length only."""


@lru_cache(maxsize=16384)
def outline(text: str) -> Outline:
    """Return the outline of the glob `text`."""
    normal = _normal(text)
    runs = re.split(r"[*?]+", normal)
    distinct = tuple(sorted(set(runs) - {""}, key=len, reverse=True))
    return Outline(normal, runs[0], runs[-1], distinct, len(normal) - normal.count("*"), "*" not in normal)


def may_cover(wide: Outline, narrow: Outline) -> bool:
    """Return whether `covers` is worth asking: letters are only matched by the same letters in a row."""
    if wide.letters > narrow.letters or (wide.is_fixed and not narrow.is_fixed):
        return False
    text = narrow.text
    return text.startswith(wide.start) and text.endswith(wide.end) and all(run in text for run in wide.runs)


def may_overlap(one: Outline, other: Outline) -> bool:
    """Return whether `overlap` is worth asking: beginnings and ends have to agree."""
    a, b = one.start, other.start
    if not (a.startswith(b) or b.startswith(a)):
        return False
    a, b = one.end, other.end
    return a.endswith(b) or b.endswith(a)


def covers(wide: str, narrow: str) -> bool:
    """Return whether every text that `narrow` matches is matched by `wide`.

    It never invents a case, and misses some in which a `?` of `wide` stands where `narrow` has a star.
    """
    if not may_cover(outline(wide), outline(narrow)):
        return False
    outer, inner = outline(wide).text, outline(narrow).text
    if outer in ("*", inner):
        return True
    # A star is a letter of its own here, and a `?` another: what takes the first is a star, which takes more.
    return _literally(outer)(inner.replace("*", _STAR).replace("?", _ANY))


_STAR, _ANY = "\ud800", "\ud801"
"""Letters that no pattern has, because they are none: halves of a surrogate pair."""


@lru_cache(maxsize=4096)
def _literally(outer: str) -> Matcher:
    """Return a test for whether stars of `outer` take all `_STAR` of a text: a `?` does not."""
    return _segments(outer, f"[^{_STAR}]")


def overlap(one: str, other: str) -> str | None:
    """Return a text that both globs match, None where there is none.

    Where both have a star, the text is the longer beginning, everything between, and the longer end: a star
    takes what is the other's. Where one has none, the other's parts are put into it from left to right.
    """
    if "*" not in one:
        return _fill_in(one, other)
    if "*" not in other:
        return _fill_in(other, one)
    (start, *middle, end), (other_start, *other_middle, other_end) = one.split("*"), other.split("*")
    begins, ends = _merge(start, other_start), _merge(end[::-1], other_end[::-1])
    if begins is None or ends is None:
        return None
    return "".join([begins, *middle, *other_middle, ends[::-1]]).replace("?", "x")


def _fill_in(fixed: str, glob: str) -> str | None:
    """Return a text of `fixed`, which has no star, that `glob` matches."""
    if "?" not in fixed:
        return fixed if compile_glob(glob).matches(fixed) else None
    parts = glob.split("*")
    if len(parts) == 1:
        merged = _merge(fixed, glob) if len(fixed) == len(glob) else None
        return None if merged is None else merged.replace("?", "x")
    if sum(map(len, parts)) > len(fixed):
        return None
    text, position = list(fixed), 0
    last = len(fixed) - len(parts[-1])
    for number, part in enumerate(parts):
        final = number == len(parts) - 1
        places = [last] if final else [0] if number == 0 else range(position, last - len(part) + 1)
        place = next((each for each in places if _fits(fixed, part, each)), None)
        if place is None or place < position:
            return None
        text[place : place + len(part)] = _merge(fixed[place : place + len(part)], part) or ""
        position = place + len(part)
    return "".join(text).replace("?", "x")


def _fits(fixed: str, part: str, place: int) -> bool:
    return all("?" in (a, b) or a == b for a, b in zip(fixed[place : place + len(part)], part, strict=True))


def _merge(one: str, other: str) -> str | None:
    """Return the longer of two beginnings, its wildcards filled in from the other, if they agree."""
    short, long = sorted((one, other), key=len)
    if "?" not in short and "?" not in long:
        return long if long.startswith(short) else None
    merged = []
    for a, b in zip(short, long, strict=False):
        if a != b and "?" not in (a, b):
            return None
        merged.append(b if a == "?" else a)
    return "".join(merged) + long[len(short) :]


def _normal(pattern: str) -> str:
    """Return one spelling for equal patterns: in a run of wildcards, question marks first, then one star."""
    if "**" not in pattern and "*?" not in pattern:
        return pattern
    return re.sub(r"[*?]+", lambda run: "?" * run[0].count("?") + ("*" if "*" in run[0] else ""), pattern)
