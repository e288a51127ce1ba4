"""Seed phrases of wallets (BIP-39): twelve words and more of its English list, in a row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from re import compile as compile_fixed  # one class of characters: as linear, and quicker

from aegis_otel.redaction import data_files
from aegis_otel.redaction.masks import Span
from aegis_otel.redaction.secrets.patterns import compiled

_FEWEST = 12
_token = compile_fixed(rb"[a-z]+|[^a-z \t,\r\n]+")
_ENOUGH = b"\1" * _FEWEST
_KINDS = bytes(97 if byte in b"abcdefghijklmnopqrstuvwxyz \t,\r\n\\" else 0 for byte in range(256))
_ROW = b"a" * 47
"""The letters and blanks of twelve words, of which each has three letters at least."""
_STEPS = (5, 1)
"""Every fifth byte is looked at first, which takes a fraction of the time and rules most texts out."""
_like_phrase = compiled(rb"\\?(?:[a-z]{3,8}(?:[ \t,\r\n]|\\[nrt])+){%d,}[a-z]{3,8}" % (_FEWEST - 1))
"""As many words as long as those of the list. Ordinary text has shorter and longer ones between them."""
_AT_ONCE = 4_000
"""Words that are parted at once: no other thread runs meanwhile."""
_ESCAPES = (b"\\n", b"\\r", b"\\t", b",")
"""What parts two words in JSON, or in a list, besides blanks."""


@cache
def _listed() -> frozenset[bytes]:
    return frozenset(data_files.read("bip39_english.txt").split())


def has_phrase(data: bytes) -> bool:
    """Whether a seed phrase is in a text or in JSON."""
    if len(data) < len(_ROW):
        return False
    if any(_ROW[: len(_ROW) // step] not in data[::step].translate(_KINDS) for step in _STEPS):
        return False
    return any(_is_phrase(data[slice(*found.span())]) for found in _like_phrase.finditer(data))


def seed_phrases(data: bytes) -> list[Span]:
    """Seed phrases, each line for itself."""
    return [span for start, end in _runs(data) for span in _phrases(data, start, end)]


def _runs(data: bytes) -> Iterator[Span]:
    """Yield where as many letters and blanks stand in a row as in a seed phrase."""
    kinds = data.translate(_KINDS)
    start = kinds.find(_ROW)
    while start >= 0:
        end = kinds.find(b"\0", start)
        end = len(data) if end < 0 else end
        yield start, end
        start = kinds.find(_ROW, end)


def _is_phrase(run: bytes) -> bool:
    """Whether enough words of the list follow each other. Of so many, one stands at a twelfth place."""
    for escape in _ESCAPES:
        if escape in run:
            run = run.replace(escape, b" ")
    listed = _listed()
    before: list[bytes] = []
    while run:
        some = run.split(None, _AT_ONCE)
        run = some.pop() if len(some) > _AT_ONCE else b""
        words = before + some
        if any(word in listed for word in words[_FEWEST - 1 :: _FEWEST]) and _ENOUGH in bytes(
            word in listed for word in words
        ):
            return True
        before = words[1 - _FEWEST :]
    return False


def _phrases(data: bytes, start: int, end: int) -> list[Span]:
    listed = _listed()
    places = [token.span() for token in _token.finditer(data, start, end)]
    known = bytes(data[begin:stop] in listed for begin, stop in places)
    spans: list[Span] = []
    first = known.find(_ENOUGH)
    while first >= 0:
        last = known.find(0, first)
        last = len(known) if last < 0 else last
        spans += _lines(data, places[first:last])
        first = known.find(_ENOUGH, last)
    return spans


def _lines(data: bytes, row: list[Span]) -> list[Span]:
    spans: list[Span] = []
    for start, end in row:
        if spans and b"\n" not in data[spans[-1][1] : start]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
