"""Seed phrases of wallets (BIP-39): twelve words and more of its English list, in a row."""

from __future__ import annotations

import pkgutil
from functools import cache
from re import compile as compile_fixed  # one class of characters: as linear, and quicker

from aegis_otel.redaction.spans import Span

_FEWEST = 12
_token = compile_fixed(rb"[a-z]+|[^a-z \t,\r\n]+")
_ENOUGH = b"\1" * _FEWEST
_IN_GATE = 9
"""Words in a row that the gate looks for: as many as prose next to never has."""
_KINDS = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz \t,\r\n\\", b"a" * 32)
_ROW = b"a" * 47
"""The letters and blanks of twelve words, of which each has three letters at least."""


@cache
def _listed() -> frozenset[bytes]:
    return frozenset((pkgutil.get_data(__package__, "data/bip39_english.txt") or b"").split())


def pattern() -> str:
    """A pattern found in every text that `seed_phrases` finds something in. Four letters tell a word."""
    heads = sorted({word[:4].decode() for word in _listed()})
    word = rf"(?:{'|'.join(heads)})[a-z]{{0,4}}"
    return rf"(?:[ \t,\r\n]|\\[nrt]){word}(?:(?:[ \t,\r\n]|\\[nrt]){{1,4}}{word}){{{_IN_GATE - 1}}}"


def may_be(data: bytes) -> bool:
    """Whether as many letters and blanks stand in a row as in a seed phrase; first, in every second byte."""
    return (
        len(data) >= len(_ROW)
        and _ROW[: len(_ROW) // 2] in data[::2].translate(_KINDS)
        and _ROW in data.translate(_KINDS)
    )


def seed_phrases(data: bytes) -> list[Span]:
    """Seed phrases, each line for itself."""
    listed = _listed()
    spans: list[Span] = []
    known = bytes(word in listed for word in _token.findall(data))
    first = known.find(_ENOUGH)
    if first < 0:
        return spans
    places = [token.span() for token in _token.finditer(data)]
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
