"""Explain what is wrong with YAML that cannot be parsed, in words for the person who wrote it.

The parser knows where it gave up, and the text around that place shows why: a tab, an indent that no
line above has, a missing colon, a quote or bracket that is never closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from aegis_otel.policy.messages import quoted, shown

_INDENT = re.compile(r"[ \t]*")
_GLUED = re.compile(r"[ \t]*(?:- +)*([A-Za-z_][\w.]*):[^\s:/]")
_GLUED_DASH = re.compile(r"[ \t]*-[A-Za-z_\"'{\[]")
_KEY = re.compile(r"[ \t]*(?:- +)*(?:[\w.]+|\"[^\"]*\"|'[^']*') *:(?: |\t|$)")
_NO_COLON = re.compile(r"[ \t]*(?:- +)*([A-Za-z_][\w.]*) +\S")
_MEANINGFUL = "*&!@`%|>"
_UNEXPECTED = ("expected key", "'-' indicator", "block end", "document start")
"""The words of PyYAML's two parsers for a line that does not belong where it stands."""


class Fault(NamedTuple):
    """An explanation of what is wrong, with its place (1-based)."""

    message: str
    line: int
    column: int


class Mark(NamedTuple):
    """A place that the parser names, 0-based."""

    line: int
    column: int


class _Level(NamedTuple):
    """An indent at which lines above stand."""

    column: int
    is_item: bool
    line: int


def explain(text: str, problem: str, context: str, mark: Mark, start: Mark | None) -> Fault:
    """Say what the parser stumbled over.

    Args:
        problem: What the parser says of the place.
        context: What it was reading.
        mark: Where it gave up.
        start: Where that which it was reading begins.
    """
    lines = re.split(r"\r\n|\n", text.removeprefix("\ufeff"))
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = _INDENT.match(line)
    assert indent is not None
    if "\t" in indent[0]:
        wanted = _expected(lines, mark.line, line)
        spaces = f", here {wanted.column} of them" if wanted else ""
        message = f"the line is indented with a tab: YAML indents with spaces{spaces}"
        return Fault(message, mark.line + 1, indent[0].index("\t") + 1)
    for found in (
        _quote(lines, problem, context, mark, start),
        _special(lines, problem, context, mark, start),
        _flow(lines, context, mark, start),
        _colon(lines, problem, mark, start),
        _indentation(lines, problem, mark),
    ):
        if found is not None:
            return found
    if (character := _at(lines, mark)) in ("]", "}"):
        return Fault(f"`{character}` closes nothing that is open", mark.line + 1, mark.column + 1)
    if any(each.startswith("...") for each in lines[: mark.line]):
        return Fault("text follows `...`, which ends the document", mark.line + 1, mark.column + 1)
    what = ", ".join(part for part in (problem, context) if part)
    return Fault(what or "it cannot be read", mark.line + 1, mark.column + 1)


def _quote(lines: Sequence[str], problem: str, context: str, mark: Mark, start: Mark | None) -> Fault | None:
    if start is not None and "end of stream" in problem and "quoted scalar" in context:
        character = _at(lines, start)
        return Fault(
            f"the quote {character} that begins here is never closed", start.line + 1, start.column + 1
        )
    if "unknown escape" in problem:
        where = start or mark
        message = "a backslash in double quotes begins an escape: write the value in single quotes"
        return Fault(message, where.line + 1, where.column + 1)
    before = lines[mark.line][: mark.column].rstrip() if mark.line < len(lines) else ""
    if before.endswith(("'", '"')) and any(each in re.sub("[<>]", "", problem) for each in _UNEXPECTED):
        character = before[-1]
        message = (
            f"text follows a closing quote {character}: a quote before it is not closed, "
            "or the whole value needs quotes"
        )
        return Fault(message, mark.line + 1, mark.column + 1)
    return None


def _special(
    lines: Sequence[str], problem: str, context: str, mark: Mark, start: Mark | None
) -> Fault | None:
    """Explain a value that begins with a character that means something to YAML."""
    about = "cannot start any token", "alphabetic or numeric", "block scalar"
    if not any(each in problem or each in context for each in about):
        return None
    for place in (start, mark):
        if place is not None and (character := _at(lines, place)) and character in _MEANINGFUL:
            word = re.split(r"[\s,}\]]", lines[place.line][place.column :], maxsplit=1)[0]
            message = (
                f"a value may not begin with {shown(character)} unless it is quoted: "
                f"write {quoted(chr(34) + word + chr(34))}"
            )
            return Fault(message, place.line + 1, place.column + 1)
    return None


def _flow(lines: Sequence[str], context: str, mark: Mark, start: Mark | None) -> Fault | None:
    if start is None or "flow" not in context:
        return None
    opening = _at(lines, start)
    closing = {"[": "]", "{": "}"}.get(opening)
    if closing is None:
        return None
    where = f"`{opening}` on line {start.line + 1}, column {start.column + 1}"
    message = f"{where} is not closed: `,` or `{closing}` is missing before this"
    return Fault(message, mark.line + 1, mark.column + 1)


def _colon(lines: Sequence[str], problem: str, mark: Mark, start: Mark | None) -> Fault | None:
    """Explain a colon that is missing, has no space after it, or is one too many."""
    if "mapping values" not in problem and "expected ':'" not in problem:
        return None
    near = [mark.line, _previous(lines, mark.line)] if start is None else [start.line, mark.line]
    for number in near:
        line = lines[number] if 0 <= number < len(lines) else ""
        if found := _GLUED.match(line):
            column = found.end(1) + 1
            return Fault(f"a space is missing after {quoted(found[1] + ':')}", number + 1, column)
        if found := _GLUED_DASH.match(line):
            return Fault("a space is missing after `-`", number + 1, found.end() - 1)
    for number in reversed(near):
        line = lines[number] if 0 <= number < len(lines) else ""
        if not _KEY.match(line) and (found := _NO_COLON.match(line)):
            return Fault(f"a `:` is missing after {quoted(found[1])}", number + 1, found.end(1) + 1)
    if fault := _indentation(lines, "did not find expected key", mark):
        return fault
    line = lines[mark.line] if mark.line < len(lines) else ""
    if ": " in line[: mark.column].lstrip(" -"):
        message = "a value with `: ` in it must be quoted (mapping values are not allowed here)"
        return Fault(message, mark.line + 1, mark.column + 1)
    return None


def _indentation(lines: Sequence[str], problem: str, mark: Mark) -> Fault | None:
    if mark.line >= len(lines) or not any(each in re.sub("[<>]", "", problem) for each in _UNEXPECTED):
        return None
    line = lines[mark.line]
    found = len(line) - len(line.lstrip(" "))
    wanted = _expected(lines, mark.line, line)
    is_item = line[found:].startswith("-")
    if wanted is None or wanted.column == found:
        if is_item and any(level.column == found for level in _levels(lines[: mark.line])):
            return Fault(
                "an item (`- `) stands among keys: indent it, or drop its `-`", mark.line + 1, found + 1
            )
        return None
    what = "the item" if is_item else "the line"
    message = (
        f"{what} is indented by {_spaces(found)} where {_spaces(wanted.column)} "
        f"{'is' if wanted.column == 1 else 'are'} expected, to belong to line {wanted.line + 1}"
    )
    return Fault(message, mark.line + 1, found + 1)


def _expected(lines: Sequence[str], number: int, line: str) -> _Level | None:
    """Return the indent that the line was probably meant to have: the closest of those open above it."""
    is_item = line.lstrip(" \t").startswith("-")
    levels = [level for level in _levels(lines[:number]) if level.is_item is is_item]
    found = len(line.expandtabs(2)) - len(line.expandtabs(2).lstrip(" "))
    return min(levels, key=lambda level: (abs(level.column - found), -level.column), default=None)


def _levels(lines: Sequence[str]) -> list[_Level]:
    """Return the indents that are open at the end of `lines`, the outermost first."""
    levels: list[_Level] = []
    for number, line in enumerate(lines):
        content = line.lstrip(" ")
        if not content or content.startswith(("#", "---", "\t", "%")):
            continue
        column = len(line) - len(content)
        levels = [level for level in levels if level.column < column]
        while found := re.match(r"- +", content):
            levels.append(_Level(column, True, number))
            column += found.end()
            content = content[found.end() :]
        levels.append(_Level(column, False, number))
    if levels and re.fullmatch(r"[^#]*: *", lines[levels[-1].line]):
        column = levels[-1].column + 2  # what the last line opens
        levels += [_Level(column, kind, levels[-1].line) for kind in (True, False)]
    return levels


def _previous(lines: Sequence[str], number: int) -> int:
    """Return the number of the last line before `number` that says something."""
    return next((each for each in range(min(number, len(lines)) - 1, -1, -1) if lines[each].strip()), number)


def _at(lines: Sequence[str], place: Mark) -> str:
    return lines[place.line][place.column : place.column + 1] if place.line < len(lines) else ""


def _spaces(count: int) -> str:
    return {0: "no spaces", 1: "1 space"}.get(count, f"{count} spaces")
