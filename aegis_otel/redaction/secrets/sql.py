"""Values of SQL that belong to columns whose names say that they are secret."""

from __future__ import annotations

from aegis_otel.redaction.masks import Span, bounded, is_mask
from aegis_otel.redaction.secrets.names import held_by, name_part
from aegis_otel.redaction.secrets.patterns import compiled

_GAP = r"(?:\s|\\[nrt])+"
INTO = (
    rf"(?i:(?:insert|replace){_GAP}(?:ignore{_GAP}|overwrite{_GAP})?into{_GAP}[^\s(]{{1,128}}{_GAP[:-1]}*)"
    rf"\(([^()]+)\)(?i:{_GAP[:-1]}*values){_GAP[:-1]}*"
)
INTO_CLUE = rf"(?i:(?:insert|replace){_GAP}(?:ignore{_GAP}|overwrite{_GAP})?into){_GAP[:-1]}"
"""A pattern found wherever `INTO` is, with few states."""


def into(added: str = "") -> str:
    """Return a pattern found wherever values go into a column whose name may say that they are secret."""
    return INTO.replace(r"\(([^()]+)\)", rf"\([^()]*{name_part(added)}[^()]*\)", 1)


_into = compiled(INTO)
_item = compiled(
    rb"\s*(?:[nNeEbB]?'((?:[^'\\\r\n]|\\.|'')*)'|\"((?:[^\"\\\r\n]|\\.)*)\""
    rb"|([^\s,()'\";|&`]+(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?))\s*([,)])",
)
_next_tuple = compiled(rb"\s*,?\s*\(")
_MOST_VALUES = 10_000


def sql_values(data: bytes) -> list[Span]:
    """Return the passwords in `INSERT INTO t (name, password) VALUES ('b', '...')`."""
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
