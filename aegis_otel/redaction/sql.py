"""Values of SQL that belong to columns whose names say that they are secret, and passwords of SQL users."""

from __future__ import annotations

import re2

from aegis_otel.redaction.names import OPTIONS, held_by
from aegis_otel.redaction.spans import Span, bounded, is_mask

_GAP = r"(?:\s|\\[nrt])+"
INTO = (
    rf"(?i:(?:insert|replace){_GAP}(?:ignore{_GAP}|overwrite{_GAP})?into{_GAP}[^\s(]{{1,128}}{_GAP[:-1]}*)"
    rf"\(([^()]+)\)(?i:{_GAP[:-1]}*values){_GAP[:-1]}*"
)
BY = (
    rf"(?i:identified{_GAP}(?:with{_GAP}\S{{1,64}}{_GAP})?(?:by|as){_GAP}(?:password{_GAP})?"
    rf"|password[ \t]*\([ \t]*)[nN]?'((?:[^'\r\n]|'')+)'"
)
_into = re2.compile(INTO.encode(), OPTIONS)
_by = re2.compile(BY.encode(), OPTIONS)
_item = re2.compile(
    rb"\s*(?:[nNeEbB]?'((?:[^'\\\r\n]|\\.|'')*)'|\"((?:[^\"\\\r\n]|\\.)*)\"|([^\s,()'\";|&`]+(?:\([^()]{0,200}\))?))\s*([,)])",
    OPTIONS,
)
_next_tuple = re2.compile(rb"\s*,?\s*\(", OPTIONS)
_MOST_VALUES = 10_000


def sql_values(data: bytes) -> list[Span]:
    """Passwords in `INSERT INTO t (name, password) VALUES ('b', '...')`."""
    spans: list[Span] = []
    at = 0
    while (found := _into.search(data, at)) is not None:
        names = found.group(1).decode("utf-8", "replace").split(",")
        held = [held_by(name.strip(" \t\r\n`\"'[]")) != "no" for name in names]
        at = found.end()
        if any(held):
            hidden, at = _tuples(data, at, held)
            spans += hidden
    return spans


def _tuples(data: bytes, at: int, held: list[bool]) -> tuple[list[Span], int]:
    spans: list[Span] = []
    place = 0
    opening = _next_tuple.match(data, at)
    if opening is None:
        return spans, at
    at = opening.end()
    for _ in range(_MOST_VALUES):
        item = _item.match(data, at)
        if item is None:
            break
        group = next((n for n in (1, 2, 3) if item.start(n) >= 0), 3)
        start, end = item.span(group)
        hidden = place < len(held) and held[place] and start < end and not is_mask(data[start:end])
        if hidden and item.group(group).lower() not in (b"null", b"default"):
            spans += bounded(data, start, end)
        at, place = item.end(), place + 1
        if item.group(4) == b")":
            opening = _next_tuple.match(data, at)
            if opening is None:
                break
            at, place = opening.end(), 0
    return spans, at


def sql_passwords(data: bytes) -> list[Span]:
    """Passwords in `IDENTIFIED BY '...'` and `PASSWORD('...')`."""
    return [
        span
        for found in _by.finditer(data)
        if not is_mask(found.group(1))
        for span in bounded(data, *found.span(1))
    ]
