"""Seed phrases of wallets (BIP-39): twelve words and more of its English list, in a row."""

from __future__ import annotations

from functools import cache
from re import compile as compile_fixed  # one class of characters: as linear, and quicker

from aegis_otel.redaction import data_files
from aegis_otel.redaction.masks import Span
from aegis_otel.redaction.secrets.value_patterns import compiled

_FEWEST = 12
_token = compile_fixed(rb"[a-z]+|[^a-z \t,\r\n]+")
_row = compile_fixed(b"\1{%d,}" % _FEWEST)
_escape = compile_fixed(rb"\\[nrt]")  # what stands between two words in JSON, besides blanks
_KINDS = bytes(97 if byte in b"abcdefghijklmnopqrstuvwxyz \t,\r\n\\" else 0 for byte in range(256))
_ROW = b"a" * 47
"""The letters and blanks of twelve words, of which each has three letters at least."""
_STEPS = (5, 1)
"""Every fifth byte is read first, which takes a fraction of the time and rules most texts out."""
_like_phrase = compiled(r"\\?(?:[a-z]{3,8}(?:[ \t,\r\n]|\\[nrt])+){11,}[a-z]{3,8}")
"""As many words as long as those of the list. Ordinary text has shorter and longer ones between them."""


@cache
def _listed() -> frozenset[bytes]:
    return frozenset(data_files.read("bip39_english.txt").split())


def has_phrase(data: bytes) -> bool:
    """Return whether a seed phrase is in a text or in JSON."""
    if len(data) < len(_ROW):
        return False
    if any(_ROW[: len(_ROW) // step] not in data[::step].translate(_KINDS) for step in _STEPS):
        return False
    return any(_phrases(_escape.sub(b"  ", found.group())) for found in _like_phrase.finditer(data))


def seed_phrases(data: bytes) -> list[Span]:
    """Return the spans of seed phrases, of each line for itself."""
    spans: list[Span] = []
    kinds = data.translate(_KINDS)
    start = kinds.find(_ROW)
    while start >= 0:
        end = kinds.find(b"\0", start)
        end = len(data) if end < 0 else end
        spans += [(first + start, last + start) for first, last in _phrases(data[start:end])]
        start = kinds.find(_ROW, end)
    return spans


def _phrases(run: bytes) -> list[Span]:
    """Return the lines of seed phrases in a run of letters and blanks."""
    listed = _listed()
    places = [token.span() for token in _token.finditer(run)]
    spans: list[Span] = []
    for row in _row.finditer(bytes(run[start:end] in listed for start, end in places)):
        lines: list[Span] = []
        for start, end in places[row.start() : row.end()]:
            if lines and b"\n" not in run[lines[-1][1] : start]:
                lines[-1] = (lines[-1][0], end)
            else:
                lines.append((start, end))
        spans += lines
    return spans
