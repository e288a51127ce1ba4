"""Values of SQL that belong to columns whose names say that they are secret, and passwords of SQL users."""

from __future__ import annotations

from aegis_otel.redaction.masks import Span, bounded, is_mask
from aegis_otel.redaction.secrets.names import held_by, name_part
from aegis_otel.redaction.secrets.patterns import compiled

_GAP = r"(?:\s|\\[nrt])+"
INTO = (
    rf"(?i:(?:insert|replace){_GAP}(?:ignore{_GAP}|overwrite{_GAP})?into{_GAP}[^\s(]{{1,128}}{_GAP[:-1]}*)"
    rf"\(([^()]+)\)(?i:{_GAP[:-1]}*values){_GAP[:-1]}*"
)
BY = (
    rf"(?i:identified{_GAP}(?:with{_GAP}\S{{1,64}}{_GAP})?(?:by|as){_GAP}(?:password{_GAP})?"
    rf"|\b(?:old_)?password[ \t]*\([ \t]*)[nN]?'((?:[^'\r\n]|'')+)'"
    rf"|(?i:identified{_GAP}by{_GAP})\\?\"([^\"\\\r\n]+)\\?\""
    rf"|(?i:(?:create|alter){_GAP}user{_GAP}\S{{1,128}}{_GAP}identified{_GAP}by{_GAP}"
    rf"|connect{_GAP}to{_GAP}\S{{1,128}}{_GAP}identified{_GAP}by{_GAP})([\w$#]+)"
    rf"|(?i:(?:password|passwd|pwd|secret)[ \t]*=[ \t]*\w{{1,40}}[ \t]*\([ \t]*)"
    r"(?:'[\w\-]{1,12}'[ \t]*,[ \t]*)?'((?:[^'\r\n]|'')+)'"
    r"|(?i:(?:pgp_sym_(?:en|de)crypt|aes_(?:en|de)crypt|encryptbypassphrase"
    r"|decryptbypassphrase)\([^()\r\n]{1,200},[ \t]*"
    rf"|pragma[ \t]+(?:hex)?key[ \t]*=[ \t]*|attach{_GAP}[^\r\n;]{{1,200}}{_GAP}key{_GAP})'((?:[^'\r\n]"
    rf"|'')+)'"
    rf"|'((?:[^'\r\n]|'')+)'{_GAP}(?i:as{_GAP}(?:password|passwd|pwd|secret|api_key|token)\b)"
)

INTO_CLUE = rf"(?i:(?:insert|replace){_GAP}(?:ignore{_GAP}|overwrite{_GAP})?into){_GAP[:-1]}"
BY_CLUE = (
    rf"(?i:identified{_GAP}(?:with|by|as)|password[ \t]*\([ \t]*n?'"
    r"|(?:password|passwd|pwd|secret)[ \t]*=[ \t]*\w+[ \t]*\([ \t]*'"
    rf"|_(?:en|de)crypt\(|bypassphrase\(|pragma[ \t]+(?:hex)?key|attach{_GAP[:-1]}"
    rf"|'{_GAP}as{_GAP}(?:password|passwd|pwd|secret|api_key|token))"
)
"""Patterns found wherever `INTO` and `BY` are, with few states."""


def into(added: str = "") -> str:
    """A pattern found wherever values go into a column whose name may say that they are secret."""
    return INTO.replace(r"\(([^()]+)\)", rf"\([^()]*{name_part(added)}[^()]*\)", 1)


_into = compiled(INTO)
_by = compiled(BY)
_item = compiled(
    rb"\s*(?:[nNeEbB]?'((?:[^'\\\r\n]|\\.|'')*)'|\"((?:[^\"\\\r\n]|\\.)*)\""
    rb"|([^\s,()'\";|&`]+(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?))\s*([,)])",
)
_next_tuple = compiled(rb"\s*,?\s*\(")
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
    """Passwords in `IDENTIFIED BY '...'`, `PASSWORD('...')`, `password = crypt('...')` and their like."""
    spans: list[Span] = []
    for found in _by.finditer(data):
        group = next(n for n in range(1, _by.groups + 1) if found.end(n) > found.start(n))
        if not is_mask(found.group(group)):
            spans += bounded(data, *found.span(group))
    return spans
