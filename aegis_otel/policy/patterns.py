"""The globs and the regular expressions of policies.

In a glob `*` is any run of characters, `?` is any one character, and everything else stands for itself; case
counts. A glob has a shape, by which the compiler finds literals and prefixes without trying each. Regular
expressions are RE2's, whose time is linear in the text: Python's engine could run for minutes on a value that
a model sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

MAX_REGEX = 1000
"""Characters. A limit keeps the compiled program small, and with it the time for each character."""
MAX_PROGRAMS = 5_000_000
"""Steps of the programs of all regular expressions of a policy, which compile in some 2 s; `abc` has 7."""


class BadRegex(ValueError):
    """The pattern is not RE2 syntax, or compiles to too large a program; the message says which."""


class TooLarge(BadRegex):
    """The pattern compiles to too large a program."""

    size = 100_000
    """The steps of a program that compiles in the time after which RE2 gives up."""


class Regex:
    """One compiled pattern."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str) -> None:
        import re2  # noqa: PLC0415 - only policies with regular expressions pay for it

        try:
            self._pattern: Any = re2.compile(pattern, _re2_options())
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0] if error.args else ""
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
            raise (TooLarge if text.startswith("pattern too large") else BadRegex)(text) from None

    @property
    def size(self) -> int:
        """The steps of the compiled program."""
        return int(self._pattern.programsize)

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


def compile_regex_set(patterns: Iterable[str]) -> Callable[[str], list[int]]:
    """Return the function that returns the numbers of the patterns, each valid, that are found in a text.

    Raises:
        BadRegex: the patterns are too large together.
    """
    import re2  # noqa: PLC0415

    together = re2.Set.SearchSet(_re2_options())
    for pattern in patterns:
        together.Add(pattern)
    try:
        together.Compile()
    except re2.error:
        raise BadRegex("the patterns are too large together") from None
    return lambda text: together.Match(text) or []


def _re2_options() -> Any:
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.log_errors = False  # RE2 would write the pattern to stderr
    options.never_capture = True
    return options


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
    """The letters beside the stars; empty for `MIXED`."""
    matches: Matcher
    ignores_case: bool = False

    @property
    def matches_all(self) -> bool:
        return self.shape is Shape.PREFIX and not self.literal


@lru_cache(maxsize=4096)
def compile_glob(text: str, ignores_case: bool = False) -> Glob:
    """Compile the glob written as `text`."""
    normal = re.sub(r"\*+", "*", text)
    if ignores_case and normal != "*":
        return Glob(text, Shape.MIXED, "", _in_any_case(normal.casefold()), ignores_case=True)
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


def matches_any(globs: Iterable[str], texts: Iterable[str]) -> bool:
    """Return whether one of the texts matches one of the globs."""
    found = [compile_glob(glob).matches for glob in globs]
    return any(matches(text) for text in texts for matches in found)


def _in_any_case(folded: str) -> Matcher:
    """Match letters by their case folding; a wildcard takes whole characters of the text, as in other globs.

    Folding makes some characters longer: `ß` is then `ss`, and stays one character to a `?`.
    """
    of_equal_length = compile_glob(folded).matches

    def matches(value: str) -> bool:
        plain = value.casefold()
        if len(plain) == len(value):
            return of_equal_length(plain)
        return (
            _by_characters(folded).fullmatch("".join([_JOINT.join(c.casefold()) for c in value])) is not None
        )

    return matches


_JOINT = "X"
"""Stands between the letters that one character is folded to: no folding has it, because it is a capital."""
_CHARACTER = f"(?:.(?:{_JOINT}.)*+)"


@lru_cache(maxsize=1024)
def _by_characters(folded: str) -> re.Pattern[str]:
    """Compile a folded glob for texts with joints. What was found between two stars is never given back."""

    def part(text: str) -> str:
        return _CHARACTER.join(run and f"{run}(?!{_JOINT})" for run in map(letters, text.split("?")))

    def letters(run: str) -> str:
        return f"{_JOINT}?".join(map(re.escape, run))

    first, *others = map(part, folded.split("*"))
    *middle, last = others or [""]
    found = "".join(f"(?>{_CHARACTER}*?{each})" for each in middle)
    return re.compile(f"{first}{found}{_CHARACTER}*{last}" if others else first, re.DOTALL)


def _segments(pattern: str) -> Matcher:
    """Match the parts between stars from left to right, each as early as it fits: never backtracks."""
    parts = pattern.split("*")
    if "?" not in pattern:
        return _literals(parts)
    first, *others = map(_part, parts)
    if not others:
        return lambda value: first.fullmatch(value) is not None
    *middle, last = others
    shortest, tail = sum(map(len, parts)), len(parts[-1])

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
def _part(text: str) -> re.Pattern[str]:
    """Compile the letters and question marks between two stars; long globs repeat the same ones."""
    return re.compile(".".join(map(re.escape, text.split("?"))), re.DOTALL)


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
    """What tells most pairs of globs apart without comparing them letter by letter."""

    text: str
    """The spelling that all equal globs share."""
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
    """Return False where `covers` is False for sure: each run of letters of `wide` must stand in `narrow`."""
    if wide.letters > narrow.letters or (wide.is_fixed and not narrow.is_fixed):
        return False
    text = narrow.text
    return text.startswith(wide.start) and text.endswith(wide.end) and all(run in text for run in wide.runs)


def may_overlap(one: Outline, other: Outline) -> bool:
    """Return False where `overlap` finds nothing for sure: beginnings and ends have to agree."""
    a, b = one.start, other.start
    if not (a.startswith(b) or b.startswith(a)):
        return False
    a, b = one.end, other.end
    return a.endswith(b) or b.endswith(a)


_OTHER = "\ud800"
"""A letter that no pattern has, because it is none: half of a surrogate pair."""
_MAX_SETS = 100
"""Sets of states that `covers` follows at once; only long runs of `?` next to stars need more."""


def covers(wide: str, narrow: str) -> bool:
    """Return whether every text that `narrow` matches is matched by `wide`.

    The answer is exact, except that a pair which needs more than `_MAX_SETS` counts as not covered.
    """
    if not may_cover(outline(wide), outline(narrow)):
        return False
    outer, inner = outline(wide).text, outline(narrow).text
    if outer in ("*", inner):
        return True
    # What `wide` takes with a letter that it does not name, it takes with every other letter there. So a
    # wildcard of `narrow` need only stand for that letter: a `?` for one of it, a star for any number.
    inner = inner.replace("?", _OTHER)
    matches = compile_glob(outer).matches
    if not (matches(inner.replace("*", "")) and matches(inner.replace("*", _OTHER))):
        return False
    return "?" not in outer or _takes_every_length(outer, inner)


_MAX_SPELLINGS = 64
"""Ways to write the letters of one glob that `covers_in_any_case` compares."""


def covers_in_any_case(wide: Glob, narrow: str) -> bool:
    """Return whether every text that `narrow` matches in any case is matched by `wide`, which ignores case.

    `ss` is the folding of `ß`, too, which is one character to a wildcard of `wide`. So each way to write the
    letters of `narrow` is compared. The answer may be False where that takes too long, or is not known.
    """
    outer, inner = wide.text.casefold(), narrow.casefold()
    if _normal(outer) in ("*", _normal(inner)):
        return True
    if not covers(outer, inner):
        return False
    others = _other_spellings(outline(inner).text)
    if others and "?" in outer and "*" in inner:
        return False
    return others is not None and all(
        wide.matches(each.replace("?", _OTHER).replace("*", some)) for each in others for some in ("", _OTHER)
    )


def _other_spellings(folded: str) -> list[str] | None:
    """Return the ways to write a folded glob with characters that are folded to several letters.

    Returns:
        Without the glob itself; None where there are more than `_MAX_SPELLINGS`.
    """
    found, waiting = [], [(folded, 0)]
    while waiting:
        text, start = waiting.pop()
        for place in range(start, len(text) - 1):
            for length in (2, 3):
                if character := _foldings().get(text[place : place + length]):
                    other = text[:place] + character + text[place + length :]
                    found.append(other)
                    waiting.append((other, place + 1))
        if len(found) > _MAX_SPELLINGS:
            return None
    return found


@lru_cache(maxsize=1)
def _foldings() -> dict[str, str]:
    """Return by several letters a character that is folded to them: none beyond U+FFFF is."""
    return {folded: c for c in map(chr, range(0x10000)) if len(folded := c.casefold()) > 1}


def _takes_every_length(outer: str, inner: str) -> bool:
    """Return whether `outer` matches `inner` however many `_OTHER` each of its stars stands for.

    `outer` is a small automaton: the state n has matched its first n letters. A set of states is an integer
    with the bit n for each. Of the sets that a star leads to only the smallest are kept, because a larger set
    matches whatever a smaller one does.
    """
    size = loops = 0
    takes: dict[str, int] = {}
    for letter in outer:
        if letter == "*":
            loops |= 1 << size
        else:
            takes[letter] = takes.get(letter, 0) | 1 << size
            size += 1
    any_letter = takes.pop("?", 0)
    reached = {1}
    for letter in inner:
        if letter != "*":
            moves = any_letter | takes.get(letter, 0)
            reached = {states & loops | (states & moves) << 1 for states in reached}
            continue
        smallest = list(reached)
        for states in smallest:
            longer = states & loops | (states & any_letter) << 1
            if not any(each & longer == each for each in smallest):
                smallest.append(longer)
            if len(smallest) > _MAX_SETS:
                return False
        reached = {each for each in smallest if not any(other & each == other != each for other in smallest)}
    return all(states >> size for states in reached)


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
    *parts, end = glob.split("*")
    stop = len(fixed) - len(end)
    if sum(map(len, parts)) > stop or (not parts and stop):
        return None
    text, position = fixed, 0
    for number, part in enumerate(parts):
        for place in range(position, stop - len(part) + 1) if number else (0,):
            merged = _merge(text[place : place + len(part)], part)
            if merged is not None:
                break
        else:
            return None
        position = place + len(part)
        text = text[:place] + merged + text[position:]
    merged = _merge(text[stop:], end)
    return None if merged is None else (text[:stop] + merged).replace("?", "x")


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
