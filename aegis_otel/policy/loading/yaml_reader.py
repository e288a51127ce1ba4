"""Read YAML text into plain values, each with its line and column.

A policy file may be hostile. No objects are made; depth and size are bounded; anchors, aliases, tags, their
directives and merge keys are refused, because a policy needs none and a reviewer must read what is in force.
`yaml.compose` is not enough: its nodes have lost anchors and aliases, and it recurses before the depth is
known.

PyYAML reads YAML 1.1 (`no` is false, `18:00` is 1080, `010` is 8), editors and other tools read 1.2. An
unquoted scalar that means two things is refused instead of guessed at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from aegis_otel.errors import Problem
from aegis_otel.policy.json_text import is_exact
from aegis_otel.policy.loading import yaml_errors
from aegis_otel.policy.messages import plain_number, quoted, shown

Plain = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OLD_BOOLEANS = frozenset(
    spelling for word in ("yes", "no", "on", "off") for spelling in (word, word.title(), word.upper())
)
_LOOKS_SPECIAL = frozenset("0123456789+-.~tTfFnNyYoO")

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]*(?:[eE][-+][0-9]+)?|\.[0-9]+(?:[eE][-+][0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

# Other texts that one version of YAML, but not the other, takes for a number or a date.
_DISPUTED = re.compile(
    r"""
      [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?         # 18:00 is sexagesimal in 1.1
    | [-+]?0(?:b[01_]+|o[0-7]+|x[0-9a-fA-F_]+)                 # other bases
    | [-+]?[0-9][0-9_]*                                        # 010, 1_000
    | [-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?  # 1e3, 1_0.5
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?             # a date in 1.1
    """,
    re.VERBOSE,
)
_MAX_DIGITS = 400


# `amount: 50,000`: text in block style, and in flow style the number 50 and a key 000.
_COMMAS = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:,[0-9]{3}){1,9}(?:\.[0-9]{1,20})?(?![\w.]|,[0-9])")
_AFTER_COMMA = re.compile(r"[0-9]{3}(?:\.[0-9]+)?")


class DisputedScalar(ValueError):
    """The scalar has more than one meaning; the message continues the sentence that begins with it."""


def resolve(text: str) -> Plain:
    """Return the value of the unquoted scalar `text`.

    Raises:
        DisputedScalar: YAML versions read it differently, or it is too long a number.
    """
    if text and text[0] not in _LOOKS_SPECIAL:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text in _OLD_BOOLEANS:
        raise DisputedScalar(
            "is a boolean to some YAML readers and text to others: write true or false, or quote it"
        )
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise DisputedScalar(f"has more than {_MAX_DIGITS} digits: quote it if it is text")
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isfinite(value) and not is_exact(value, text):
            raise DisputedScalar(
                f"has more digits than a number keeps, and is read as `{value!r}`: write fewer"
            )
        return value
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    if _DISPUTED.fullmatch(text):
        raise DisputedScalar(
            "is a number or a date to some YAML readers and something else to others: "
            "quote it, or write a plain number"
        )
    return text


MAX_CHARACTERS = 4 * 1024 * 1024
MAX_DEPTH = 24
_SHORT = 60
"""Characters of a text that a suggestion repeats."""
_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
MAX_NODES = 200_000
"""Keys and values together; each takes hundreds of bytes and is validated."""

# What YAML allows in a document, inverted: the parser's own complaint has no line.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# To YAML these may end a line, and with it a comment; to an editor and to a reviewer they do not.
_HIDDEN_BREAK = re.compile("[\x85\u2028\u2029]|(?<!^)\ufeff|\r(?!\n)")
_REFUSED_CHARACTERS = (
    (_UNPRINTABLE, "not valid YAML: unprintable character {}"),
    (_HIDDEN_BREAK, "{} may break the line or not, depending on who reads it: use plain line breaks"),
)

# Before any event the parser compares each with all others. One can also stand behind the end of a document.
_TAG_DIRECTIVE = re.compile(r"^\ufeff?%TAG[ \t]", re.MULTILINE)
_NO_DIRECTIVES = "the directive `%TAG` is not supported: remove the line, and write plain values without tags"


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """Stands for a value whose problem has been reported already."""

    text: str = ""
    """As it was written, where versions of YAML disagree on it."""
    problem: Problem | None = None
    """What was reported then."""


REFUSED: Final = Refused()
_KEY = -1
"""The last step to a key itself, and to a value whose key is wrong: nobody asks for their places."""


Location = tuple[str | int, ...]
"""The keys and indexes that lead to a value from the top of the document."""


@dataclass(slots=True)
class Document:
    """The value of a YAML text, and the lines and columns (1-based) at which its parts begin."""

    value: Any = REFUSED
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)
    """The places of the keys of mappings, by the locations of their values."""

    def find(self, location: Location, *, at_key: bool) -> tuple[int, int]:
        """Return where `location` is, or its key; else the last part on the way to it that has a place."""
        places = self.keys if at_key else self.values
        while location and location not in places:
            location = location[:-1]
        return places.get(location) or self.values[()]


def read(text: str, source: str) -> tuple[Document | None, list[Problem]]:
    """Return the document in `text`, None when it cannot be read to its end, and every problem found."""
    if len(text) > MAX_CHARACTERS:
        limit = MAX_CHARACTERS // 1024 // 1024
        return None, [Problem(f"is longer than {limit} MiB: split the policy into several files", source)]
    for refused, why in _REFUSED_CHARACTERS:
        if found := refused.search(text):
            line = text.count("\n", 0, found.start()) + 1
            column = found.start() - text.rfind("\n", 0, found.start())
            return None, [Problem(why.format(shown(found[0])), source, line, column)]
    if found := _TAG_DIRECTIVE.search(text):
        return None, [Problem(_NO_DIRECTIVES, source, text.count("\n", 0, found.start()) + 1, 1)]
    reader = _Reader(source)
    return reader.read(text), reader.problems


class _Stop(Exception):
    """The text is not read to its end; the problem is reported."""


class _Reader:
    """Builds the document from the parser's events. It recurses as deep as `MAX_DEPTH` and no deeper."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._document = Document()
        self._nodes = 0
        self._events: Iterator[Any] = iter(())
        self._text = ""

    def read(self, text: str) -> Document | None:
        import yaml  # noqa: PLC0415 - only who loads a policy file pays for the parser

        self._text = text
        self._events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        document = self._document
        try:
            for event in self._events:
                match type(event).__name__:
                    case "DocumentStartEvent" if document.values:
                        self._stop(event, "a second YAML document begins here: one file holds one policy")
                    case "StreamStartEvent" | "StreamEndEvent" | "DocumentStartEvent" | "DocumentEndEvent":
                        pass
                    case _:
                        document.value = self._value(event, ())
        except yaml.MarkedYAMLError as error:
            self.problems.append(self._unparsable(text, error))
        except yaml.YAMLError as error:
            self.problems.append(Problem(f"not valid YAML: {error}", self.source))
        except _Stop:
            pass
        else:
            return document if document.values else None
        return None

    def _unparsable(self, text: str, error: Any) -> Problem:
        mark, start = error.problem_mark or error.context_mark, error.context_mark
        problem, context = error.problem or "", error.context or ""
        if mark is None:
            return Problem(f"not valid YAML: {problem or context}", self.source)
        # The parser looks ahead in flow style, and has a limit of its own.
        if "nesting depth" in problem:
            return Problem(_TOO_DEEP, self.source, mark.line + 1, mark.column + 1)
        start = None if start is None else yaml_errors.Mark(start.line, start.column)
        place = yaml_errors.Mark(mark.line, mark.column)
        fault = yaml_errors.explain_syntax(text, problem, context, place, start)
        line, column = fault.place
        return Problem(f"not valid YAML: {fault.message}", self.source, line + 1, column + 1)

    def _value(self, event: Any, at: Location) -> Any:
        """Return the value that begins with `event`."""
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES} keys and values: split the policy into several files")
        self._nodes += 1
        self._document.values[at] = _place(event)
        kind = type(event).__name__
        if kind == "AliasEvent":
            alias = "*" + event.anchor
            message = f"alias {quoted(alias)} is not supported: write the value out, or quote a glob"
            self._problem(event, message, suggestion=f'"{alias}"' if len(alias) < _SHORT else None)
            return REFUSED
        if event.anchor is not None:
            anchor = quoted("&" + event.anchor)
            self._problem(event, f"anchor {anchor} is not supported: write values out where they are used")
        if event.tag is not None:
            self._problem(event, f"tag {shown(event.tag)} is not supported: write the plain value")
        if kind == "ScalarEvent":
            return self._scalar(event)
        if len(at) >= MAX_DEPTH:
            self._stop(event, _TOO_DEEP)
        if kind == "MappingStartEvent":
            return self._mapping(at)
        found: list[Any] = []
        while type(each := next(self._events)).__name__ != "SequenceEndEvent":
            found.append(self._value(each, (*at, len(found))))
        return found

    def _scalar(self, event: Any) -> Any:
        if not event.implicit[0]:
            return event.value
        try:
            return resolve(event.value)
        except DisputedScalar as error:
            short = len(event.value) < _SHORT
            meant = plain_number(event.value) or f'"{event.value}"' if short else None
            return Refused(
                event.value, self._problem(event, f"{quoted(event.value)} {error}", suggestion=meant)
            )

    def _mapping(self, at: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        value: Any = None
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            if self._goes_on(value, event):
                self._value(next(self._events), (*at, _KEY))
                continue
            key = self._value(event, (*at, _KEY))
            problem = self._wrong_key(key, event, found, at)
            if problem:
                self._problem(event, problem)
            if problem or isinstance(key, Refused):
                self._value(next(self._events), (*at, _KEY))
                continue
            self._document.keys[*at, key] = _place(event)
            found[key] = self._value(value := next(self._events), (*at, key))
        return found

    def _goes_on(self, value: Any, key: Any) -> bool:
        """Return whether `key` is the rest of the number that the value before it begins, after a comma."""
        if type(key).__name__ != "ScalarEvent" or not (key.implicit[0] and _AFTER_COMMA.fullmatch(key.value)):
            return False
        if type(value).__name__ != "ScalarEvent" or not value.implicit[0]:
            return False
        whole = _COMMAS.match(self._text, value.start_mark.index)
        if whole is None or key.end_mark.index > whole.end():
            return False
        if key.start_mark.index == value.end_mark.index + 1:
            message = f"{quoted(whole[0])} is several values to YAML: write the number without commas"
            self._problem(value, message, suggestion=whole[0].replace(",", ""))
        return True

    def _wrong_key(self, key: Any, event: Any, found: dict[str, Any], at: Location) -> str | None:
        if isinstance(key, Refused):
            return None
        if not isinstance(key, str):
            return f"a key must be text, not {shown(key)}: put it in quotes"
        if key == "<<" and event.implicit[0]:
            return "merge keys (`<<`) are not supported: write the keys out"
        if key in found:
            line, _ = self._document.keys[*at, key]
            return f"duplicate key {shown(key)}: it is already on line {line}"
        return None

    def _problem(self, event: Any, message: str, suggestion: str | None = None) -> Problem:
        self.problems.append(Problem(message, self.source, *_place(event), suggestion))
        return self.problems[-1]

    def _stop(self, event: Any, message: str) -> NoReturn:
        self._problem(event, message)
        raise _Stop


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
