"""YAML text to plain values, every one of them with its line and column.

A policy file is hostile until it has been read: no objects are made, anchors, aliases, tags and merge
keys are refused (a policy needs none, and a reviewer reads what is in force), depth and size are bounded.
Works on the parser's events, one at a time, so nothing here recurses.

What an unquoted YAML scalar means: only what YAML 1.1 and YAML 1.2 read alike.

PyYAML reads YAML 1.1 (`no` is false, `18:00` is 1080, `010` is 8), editors and other tools read 1.2.
A policy that means two things is refused instead of guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aegis_otel.errors import Problem
from aegis_otel.policy.loading import yaml_errors
from aegis_otel.policy.messages import quoted, shown

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

# What is left that one version or the other takes for a number or a date.
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


class DisputedScalar(ValueError):
    """The scalar has no one meaning; the message continues the sentence that begins with it."""


def resolve(text: str) -> Plain:
    """The value of the unquoted scalar `text`.

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
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    if _DISPUTED.fullmatch(text):
        raise DisputedScalar(
            "is a number or a date to some YAML readers and something else to others: "
            "quote it, or write a plain number"
        )
    return text


MAX_CHARACTERS = 4 * 1024 * 1024
MAX_DEPTH = 16
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


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """Stands for a value whose problem has been reported already."""

    text: str = ""
    """As it was written, where versions of YAML disagree on it."""
    problem: Problem | None = None
    """What was reported then."""


REFUSED: Final = Refused()


@dataclass(slots=True)
class Node:
    """One value of the document and where it begins (1-based)."""

    value: Any
    line: int
    column: int
    children: dict[str, Node] | list[Node] = field(default_factory=list)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where each key of a mapping stands."""


@dataclass(slots=True)
class _Open:
    """A mapping or sequence whose end has not come yet."""

    node: Node
    is_mapping: bool
    key: str | None = None
    """The key that waits for its value."""
    has_key: bool = False


def read(text: str, source: str) -> tuple[Node | None, list[Problem]]:
    """The document in `text`, or None when it cannot be read to its end, and every problem found."""
    if len(text) > MAX_CHARACTERS:
        limit = MAX_CHARACTERS // 1024 // 1024
        return None, [Problem(f"is longer than {limit} MiB: split the policy into several files", source)]
    for refused, why in _REFUSED_CHARACTERS:
        if found := refused.search(text):
            line = text.count("\n", 0, found.start()) + 1
            column = found.start() - text.rfind("\n", 0, found.start())
            return None, [Problem(why.format(shown(found[0])), source, line, column)]
    reader = _Reader(source)
    return reader.read(text), reader.problems


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.nodes = 0

    def read(self, text: str) -> Node | None:
        import yaml  # noqa: PLC0415 - only who loads a policy file pays for the parser

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            return self.root if self._consume(yaml.parse(text, Loader=loader)) else None
        except yaml.MarkedYAMLError as error:
            self.problems.append(self._unparsable(text, error))
        except yaml.YAMLError as error:
            self.problems.append(Problem(f"not valid YAML: {error}", self.source))
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
        fault = yaml_errors.explain(text, problem, context, place, start)
        return Problem(f"not valid YAML: {fault.message}", self.source, fault.line, fault.column)

    def _consume(self, events: Iterator[Any]) -> bool:
        """Build the tree from the parser's events. Returns False when it had to stop."""
        documents = 0
        for event in events:
            if self.nodes > MAX_NODES:
                self._problem(
                    event, f"more than {MAX_NODES} keys and values: split the policy into several files"
                )
                return False
            match type(event).__name__:
                case "ScalarEvent":
                    self._scalar(event)
                case "MappingStartEvent" | "SequenceStartEvent" as kind:
                    if len(self.stack) >= MAX_DEPTH:
                        self._problem(event, _TOO_DEEP)
                        return False
                    self._open(event, is_mapping=kind == "MappingStartEvent")
                case "MappingEndEvent" | "SequenceEndEvent":
                    self.stack.pop()
                case "AliasEvent":
                    alias = "*" + event.anchor
                    message = f"alias {quoted(alias)} is not supported: write the value out, or quote a glob"
                    self._problem(event, message, suggestion=f'"{alias}"' if len(alias) < 60 else None)
                    self._add(Node(REFUSED, *_place(event)), event)
                case "DocumentStartEvent":
                    documents += 1
                    if documents > 1:
                        self._problem(event, "a second YAML document begins here: one file holds one policy")
                        return False
        return True

    def _scalar(self, event: Any) -> None:
        value: Any = event.value
        self._no_properties(event)
        if event.implicit[0]:
            try:
                value = resolve(value)
            except DisputedScalar as error:
                meant = f'"{value}"' if len(value) < 60 else None
                value = Refused(value, self._problem(event, f"{quoted(value)} {error}", suggestion=meant))
        self._add(Node(value, *_place(event)), event)

    def _open(self, event: Any, *, is_mapping: bool) -> None:
        self._no_properties(event)
        children: dict[str, Node] | list[Node] = {} if is_mapping else []
        node = Node({} if is_mapping else [], *_place(event), children)
        self._add(node, event)
        self.stack.append(_Open(node, is_mapping))

    def _add(self, node: Node, event: Any) -> None:
        """Put a finished or opening node where it belongs: the root, an item, a key or its value."""
        self.nodes += 1
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if not top.is_mapping:
            assert isinstance(top.node.children, list)
            top.node.children.append(node)
            top.node.value.append(node.value)
        elif not top.has_key:
            top.key, top.has_key = self._key(top.node, node, event), True
        else:
            top.has_key = False
            if top.key is not None:
                assert isinstance(top.node.children, dict)
                top.node.children[top.key] = node
                top.node.value[top.key] = node.value

    def _key(self, mapping: Node, node: Node, event: Any) -> str | None:
        """The key, or None when its value is to be dropped."""
        key = node.value
        if isinstance(key, Refused):
            return None
        if not isinstance(key, str):
            self._problem(event, f"a key must be text, not {shown(key)}: put it in quotes")
            return None
        if key == "<<" and event.implicit[0]:
            self._problem(event, "merge keys (`<<`) are not supported: write the keys out")
            return None
        if key in mapping.keys:
            self._problem(event, f"duplicate key {shown(key)}: it is already on line {mapping.keys[key][0]}")
            return None
        mapping.keys[key] = (node.line, node.column)
        return key

    def _no_properties(self, event: Any) -> None:
        if event.anchor is not None:
            anchor = quoted("&" + event.anchor)
            self._problem(event, f"anchor {anchor} is not supported: write values out where they are used")
        if event.tag is not None:
            self._problem(event, f"tag {shown(event.tag)} is not supported: write the plain value")

    def _problem(self, event: Any, message: str, suggestion: str | None = None) -> Problem:
        self.problems.append(Problem(message, self.source, *_place(event), suggestion))
        return self.problems[-1]


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
