"""Texts that an RE2 pattern matches, and what could be put into them.

A pattern is parsed into groups, alternatives and repetitions. RE2 itself answers which characters a class or
an escape takes. A pattern that cannot be parsed has no samples, and no finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from aegis_otel.policy.patterns import BadRegex, compile_regex

_LETTERS = "ax1_/ .-@:=,;&|\n\t\"'(){}[]<>+*?!#$%^~`\\AXZbcdefghijklmnopqrstuvwyzé€"
_TOKEN = re.compile(
    r"(?P<open>\((?:\?P?<\w+>|\?(?P<flags>[a-zA-Z-]*)(?P<end>:|\)))?)"
    r"|(?P<anchor>[\^$]|\\[AzbB])"
    r"|(?P<set>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])"
    r"|(?P<escape>\\(?:[pP]\{\^?\w+\}|[pP]\w|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|[0-7]{1,3}|[^Q]))"
    r"|(?P<repeat>(?:[*+?]|\{(?P<least>\d+),?\d*\})\??)"
    r"|(?P<mark>[|)])"
    r"|(?P<letter>[^\\\[])",
    re.DOTALL,
)
_MAX_DEPTH = 50


@dataclass(eq=False, slots=True)
class Atom:
    """One character, or one of several."""

    source: str
    flags: str
    is_literal: bool = False
    """Whether `source` is the character itself."""

    @property
    def is_dot(self) -> bool:
        return self.source == "." and not self.is_literal

    @property
    def is_negated(self) -> bool:
        return self.source.startswith("[^") or self.source in ("\\W", "\\D", "\\S")

    def admits(self, text: str) -> bool:
        """Return whether it takes every character of `text`."""
        if self.is_literal:
            return text == self.source * len(text)
        return _admits(self.source, self.flags, text)

    def sample(self) -> str:
        """Return a character that it takes; nothing where none was found."""
        if self.is_literal or self.is_dot:
            return self.source
        return _sample(self.source, self.flags)


@dataclass(eq=False, slots=True)
class Group:
    """Nodes in a row, alternatives, or one node that is repeated."""

    kind: Literal["row", "choice", "repeat"]
    items: list[Node]
    least: int = 1
    """How often a repeated node stands there at least."""


Node = Atom | Group


@lru_cache(maxsize=4096)
def _admits(source: str, flags: str, text: str) -> bool:
    inner = f"(?{flags}:{source})" if flags else source
    try:
        return compile_regex(f"\\A{inner}*\\z").search(text)
    except (BadRegex, UnicodeEncodeError):
        return False


@lru_cache(maxsize=4096)
def _sample(source: str, flags: str) -> str:
    return next((each for each in _LETTERS if _admits(source, flags, each)), "")


class _Unreadable(ValueError):
    pass


def _parse(pattern: str) -> list[list[Node]]:
    """Return the items of each alternative of `pattern`. Raises _Unreadable or IndexError."""
    at, flags, is_item = 0, "", False
    rows: list[list[Node]] = [[]]
    outer: list[tuple[list[list[Node]], str]] = []
    while at < len(pattern):
        found = _TOKEN.match(pattern, at)
        if found is None or len(outer) > _MAX_DEPTH:
            raise _Unreadable
        at, kind, source = found.end(), found.lastgroup, found[0]
        was_item, is_item = is_item, kind in ("set", "escape", "letter") or source == ")"
        if kind == "open":
            if found["end"] != ")":
                outer.append((rows, flags))
                rows = [[]]
            if found["flags"] is not None:
                on, _, off = found["flags"].partition("-")
                flags = "".join(each for each in "ims" if each in flags + on and each not in off)
        elif source == "|":
            rows.append([])
        elif source == ")":
            group = _choice(rows)
            rows, flags = outer.pop()
            rows[-1].append(group)
        elif kind == "repeat" and was_item:
            rows[-1][-1] = Group("repeat", [rows[-1][-1]], int(found["least"] or source[0] == "+"))
        elif kind == "repeat":  # braces after nothing are letters
            if source[0] != "{":
                raise _Unreadable
            rows[-1] += [Atom(each, flags, is_literal=True) for each in source]
        elif kind == "escape" and len(source) == 2 and not source[1].isalnum():
            rows[-1].append(Atom(source[1], flags, is_literal=True))
        elif kind != "anchor":
            rows[-1].append(Atom(source, flags, is_literal=kind == "letter" and source != "."))
    return rows if not outer else []


def _choice(rows: list[list[Node]]) -> Group:
    return Group("choice", [Group("row", items) for items in rows])


@lru_cache(maxsize=1024)
def branches(pattern: str) -> tuple[Node, ...]:
    """Return the alternatives of `pattern`; none where it cannot be read."""
    try:
        return tuple(_choice(_parse(pattern)).items)
    except (_Unreadable, IndexError):
        return ()


def samples(pattern: str) -> Iterator[str]:
    """Yield texts in which the pattern is found: one for each of its alternatives, or none."""
    for branch in branches(pattern):
        for text in (render(branch), render(branch, more=True)):
            if is_found(pattern, text):
                yield text
                break


def inserted(pattern: str, payload: str, *, fits: bool = True) -> Iterator[tuple[str, Atom]]:
    """Yield texts of the pattern with `payload` where one of its atoms stands.

    Whether the pattern is found in them is for the caller to ask.

    Args:
        fits: Only at atoms that take every character of the payload.
    """
    for branch in branches(pattern):
        for atom in slots(branch):
            if not fits or atom.admits(payload):
                first, second = render(branch, atom, payload, more=True), render(branch, atom, payload)
                yield first, atom
                if second != first:
                    yield second, atom


def lone_dots(pattern: str, payload: str) -> Iterator[tuple[str, str]]:
    """Yield texts with `payload` for a single `.` between letters, and the letters before it."""
    for branch in branches(pattern):
        for items in _rows(branch):
            for before, dot, after in zip(items, items[1:], items[2:], strict=False):
                if isinstance(dot, Atom) and dot.is_dot and _is_letter(before) and _is_letter(after):
                    yield render(branch, dot, payload, more=True), render(before, more=True)


def ends_within_a_name(pattern: str) -> Iterator[str]:
    """Yield texts of the alternatives whose last item is a letter."""
    for branch in branches(pattern):
        last: Node = branch
        while isinstance(last, Group) and last.kind != "repeat" and last.items:
            last = last.items[-1 if last.kind == "row" else 0]
        if _is_letter(last):
            yield render(branch)


def _rows(node: Node) -> Iterator[list[Node]]:
    if isinstance(node, Group):
        if node.kind == "row":
            yield node.items
        for item in node.items:
            yield from _rows(item)


def _is_letter(node: Node) -> bool:
    if isinstance(node, Group):  # as in `[a-z]+.example`
        item = node.items[0] if node.kind == "repeat" else None
        return isinstance(item, Atom) and item.admits("x")
    return node.source.isalnum() if node.is_literal else node.admits("x")


@lru_cache(maxsize=16384)
def slots(node: Node) -> tuple[Atom, ...]:
    """Return all atoms below `node`."""
    if isinstance(node, Atom):
        return (node,)
    return tuple(atom for item in node.items for atom in slots(item))


def render(node: Node, slot: Atom | None = None, payload: str = "", *, more: bool = False) -> str:
    """Return a text of `node`, with `payload` for `slot`; `more` repeats once what may be left out."""
    if isinstance(node, Atom):
        return payload if node is slot else node.sample()
    items = node.items
    if node.kind == "choice":
        items = [next((each for each in items if slot is not None and slot in slots(each)), items[0])]
    text = "".join(render(item, slot, payload, more=more) for item in items)
    if node.kind != "repeat":
        return text
    if items[0] is slot:
        return payload
    inside = slot is not None and slot in slots(node)
    return text * min(max(node.least, 1 if inside or more else 0), 1000)


def is_found(pattern: str, text: str) -> bool:
    """Return whether RE2 finds the pattern in the text."""
    try:
        return compile_regex(pattern).search(text)
    except (BadRegex, UnicodeEncodeError):
        return False
