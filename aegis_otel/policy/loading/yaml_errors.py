"""Explain what is wrong with YAML that cannot be parsed, in words for the person who wrote it.

The parser reports where it stopped, and the text around that place shows why: a tab, an indent that no line
above has, a missing colon, a quote or bracket that is never closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from aegis_otel.policy.messages import quoted, shown

_GLUED = re.compile(r"[ \t]*(?:- +)*([A-Za-z_][\w.]*):[^\s:/]")
_GLUED_DASH = re.compile(r"[ \t]*-[A-Za-z_\"'{\[]")
_KEY = re.compile(r"[ \t]*(?:- +)*(?:[\w.]+|\"[^\"]*\"|'[^']*') *:(?: |\t|$)")
_NO_COLON = re.compile(r"[ \t]*(?:- +)*([A-Za-z_][\w.]*) +\S")
_MEANINGFUL = "*&!@`%|>"
_UNEXPECTED = re.compile("expected <?key|'-' indicator|<?block end|<?document start")
"""The words of PyYAML's two parsers for a line that does not belong where it stands."""


class Mark(NamedTuple):
    """A place in the text, 0-based."""

    line: int
    column: int


class YamlFault(NamedTuple):
    """The explanation of what cannot be parsed, and its place."""

    message: str
    place: Mark


class _Level(NamedTuple):
    """An indent of the lines above."""

    column: int
    is_item: bool
    line: int


class Failure(NamedTuple):
    """What the parser reports, and the text."""

    lines: Sequence[str]
    problem: str
    """The parser's description of the problem."""
    context: str
    """The parser's description of what it was reading."""
    mark: Mark
    """The place where it gave up."""
    start: Mark | None
    """The place where what it was reading begins."""

    def line(self, number: int) -> str:
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def at(self, place: Mark) -> str:
        return self.line(place.line)[place.column : place.column + 1]

    @property
    def is_unexpected(self) -> bool:
        return _UNEXPECTED.search(self.problem) is not None


def explain_syntax(text: str, problem: str, context: str, mark: Mark, start: Mark | None) -> YamlFault:
    """Return what the parser could not read. The arguments are described in `Failure`."""
    lines = re.split(r"\r\n|\n", text.removeprefix("\ufeff"))
    failure = Failure(lines, problem, context, mark, start)
    for check in (_tab, _quote, _special, _flow, _colon, _indentation):
        if fault := check(failure):
            return fault
    if (character := failure.at(mark)) in ("]", "}"):
        return YamlFault(f"`{character}` closes nothing that is open", mark)
    if any(each.startswith("...") for each in lines[: mark.line]):
        return YamlFault("text follows `...`, which ends the document", mark)
    return YamlFault(", ".join(filter(None, (problem, context))) or "it cannot be read", mark)


def _tab(its: Failure) -> YamlFault | None:
    line = its.line(its.mark.line)
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    if "\t" not in indent:
        return None
    wanted = _expected(its, line)
    spaces = f", here {wanted.column} of them" if wanted else ""
    message = f"the line is indented with a tab: YAML indents with spaces{spaces}"
    return YamlFault(message, Mark(its.mark.line, indent.index("\t")))


def _quote(its: Failure) -> YamlFault | None:
    if its.start is not None and "end of stream" in its.problem and "quoted scalar" in its.context:
        return YamlFault(f"the quote {its.at(its.start)} that begins here is never closed", its.start)
    if "unknown escape" in its.problem:
        message = "a backslash in double quotes begins an escape: write the value in single quotes"
        return YamlFault(message, its.start or its.mark)
    before = its.line(its.mark.line)[: its.mark.column].rstrip()
    if before.endswith(("'", '"')) and its.is_unexpected:
        message = (
            f"text follows a closing quote {before[-1]}: a quote before it is not closed, "
            "or the whole value needs quotes"
        )
        return YamlFault(message, its.mark)
    return None


def _special(its: Failure) -> YamlFault | None:
    """Explain a value that begins with a character that means something to YAML."""
    about = "cannot start any token", "alphabetic or numeric", "block scalar"
    if not any(each in its.problem or each in its.context for each in about):
        return None
    for place in (its.start, its.mark):
        if place is not None and (character := its.at(place)) and character in _MEANINGFUL:
            word = re.split(r"[\s,}\]]", its.line(place.line)[place.column :], maxsplit=1)[0]
            message = f"a value may not begin with {shown(character)} unless it is quoted: write "
            return YamlFault(message + quoted(f'"{word}"'), place)
    return None


def _flow(its: Failure) -> YamlFault | None:
    opening = its.at(its.start) if its.start is not None and "flow" in its.context else ""
    if its.start is None or opening not in ("[", "{"):
        return None
    closing = "]" if opening == "[" else "}"
    where = f"`{opening}` on line {its.start.line + 1}, column {its.start.column + 1}"
    return YamlFault(f"{where} is not closed: `,` or `{closing}` is missing before this", its.mark)


def _colon(its: Failure) -> YamlFault | None:
    """Explain a colon that is missing, has no space after it, or is one too many."""
    if "mapping values" not in its.problem and "expected ':'" not in its.problem:
        return None
    mark = its.mark
    above = range(min(mark.line, len(its.lines)) - 1, -1, -1)
    previous = next((number for number in above if its.line(number).strip()), mark.line)
    near = [mark.line, previous] if its.start is None else [its.start.line, mark.line]
    for number in near:
        if found := _GLUED.match(its.line(number)):
            return YamlFault(f"a space is missing after {quoted(found[1] + ':')}", Mark(number, found.end(1)))
        if found := _GLUED_DASH.match(its.line(number)):
            return YamlFault("a space is missing after `-`", Mark(number, found.end() - 2))
    for number in reversed(near):
        if not _KEY.match(its.line(number)) and (found := _NO_COLON.match(its.line(number))):
            return YamlFault(f"a `:` is missing after {quoted(found[1])}", Mark(number, found.end(1)))
    if fault := _indentation(its._replace(problem="did not find expected key")):
        return fault
    if ": " in its.line(mark.line)[: mark.column].lstrip(" -"):
        return YamlFault("a value with `: ` in it must be quoted (mapping values are not allowed here)", mark)
    before, line = its.line(previous), its.line(mark.line)
    indent = len(line) - len(line.lstrip(" "))
    if _KEY.match(before) and indent > len(before) - len(before.lstrip(" ")):
        message = f"the line is indented more than line {previous + 1}, which has its value already"
        return YamlFault(f"{message}: one of the two has the wrong indent", Mark(mark.line, indent))
    return None


def _indentation(its: Failure) -> YamlFault | None:
    if its.mark.line >= len(its.lines) or not its.is_unexpected:
        return None
    line = its.line(its.mark.line)
    found = len(line) - len(line.lstrip(" "))
    place = Mark(its.mark.line, found)
    wanted = _expected(its, line)
    is_item = line[found:].startswith("-")
    if wanted is None or wanted.column == found:
        if is_item and any(level.column == found for level in _levels(its.lines[: its.mark.line])):
            return YamlFault("an item (`- `) stands among keys: indent it, or drop its `-`", place)
        return None
    message = (
        f"{'the item' if is_item else 'the line'} is indented by {_spaces(found)} where "
        f"{_spaces(wanted.column)} {'is' if wanted.column == 1 else 'are'} expected, to belong to line "
        f"{wanted.line + 1}"
    )
    return YamlFault(message, place)


def _expected(its: Failure, line: str) -> _Level | None:
    """Return the indent that the line was probably meant to have: the closest of those open above it."""
    is_item = line.lstrip(" \t").startswith("-")
    levels = [level for level in _levels(its.lines[: its.mark.line]) if level.is_item is is_item]
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


def _spaces(count: int) -> str:
    return {0: "no spaces", 1: "1 space"}.get(count, f"{count} spaces")
