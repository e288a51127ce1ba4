"""Values of SQL that belong to columns whose names say that they are secret."""

from __future__ import annotations

from aegis_otel.redaction.masks import Span, bounded, is_mask
from aegis_otel.redaction.secrets import value_patterns
from aegis_otel.redaction.secrets.secret_names import held_by, name_part

_P = value_patterns.load("sql")
CLUE = _P.CLUE
"""A pattern found wherever values go into columns, with few states."""
_MOST_VALUES = 10_000


def gate(added: str = "") -> str:
    """Return a pattern found wherever values go into a column whose name may say that they are secret."""
    gate: str = _P.INTO_COLUMNS.replace("([^()]+)", f"[^()]*{name_part(added)}[^()]*")
    return gate


def sql_values(data: bytes) -> list[Span]:
    """Return the passwords in `INSERT INTO t (name, password) VALUES ('b', '...')`."""
    spans: list[Span] = []
    at = 0
    while (found := _P.into.search(data, at)) is not None:
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
    opening = _P.next_tuple.match(data, at)
    if opening is None:
        return spans, at
    at = opening.end()
    for _ in range(_MOST_VALUES):
        item = _P.item.match(data, at)
        if item is None:
            break
        group = next((n for n in (1, 2, 3) if item.start(n) >= 0), 3)
        start, end = item.span(group)
        hidden = place < len(held) and held[place] and start < end and not is_mask(data[start:end])
        if hidden and item.group(group).lower() not in (b"null", b"default"):
            spans += bounded(data, start, end)
        at, place = item.end(), place + 1
        if item.group(4) == b")":
            opening = _P.next_tuple.match(data, at)
            if opening is None:
                break
            at, place = opening.end(), 0
    return spans, at
