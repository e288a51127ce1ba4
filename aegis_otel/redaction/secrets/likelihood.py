"""Judge what a word looks like: a password, a card number, a random key; and whether a match is a secret."""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections import Counter
from collections.abc import Callable

from aegis_otel.redaction.data_files import byte_words
from aegis_otel.redaction.secrets import value_patterns

_P = value_patterns.load("words")
_ID_PREFIXES = byte_words("id_prefixes")
_BEHIND_BEARER = byte_words("behind_bearer")


def is_card_number(digits: bytes) -> bool:
    """Return whether digits have an issuer's prefix, that issuer's length and a right check digit (Luhn)."""
    if _P.card.fullmatch(digits) is None:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = digit - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def is_strong(value: bytes) -> bool:
    """Return whether a word looks like a password: letters, digits, both cases or a sign, and no path."""
    return (
        len(value) >= 8
        and _P.letter.search(value) is not None
        and _P.digit.search(value) is not None
        and _P.mixed.search(value) is not None
        and _P.place.search(value) is None
    )


def is_thought_of(value: bytes, digits: bool = False) -> bool:
    """Return whether a word looks like a password that a person chose: `hunter2`; not `sha256` or a date.

    Args:
        value: The word.
        digits: Whether a code of 6 to 10 digits is one as well.
    """
    if not 5 <= len(value) <= 128 or _P.place.search(value) is not None or _P.term.match(value) is not None:
        return digits and 6 <= len(value) <= 10 and value.isdigit()
    return _P.digit.search(value) is not None and _P.letter.search(value) is not None


def is_random(value: bytes) -> bool:
    """Return whether a long word has too many different characters for a chosen one, and is not a path."""
    return (
        len(value) >= 20
        and value[:1] not in (b"/", b".", b"~")
        and b"://" not in value
        and _P.digit.search(value) is not None
        and entropy(value) >= 4.0
    )


def entropy(token: bytes) -> float:
    """Return Shannon's entropy, in bits a byte."""
    size = len(token)
    return -sum(n / size * math.log2(n / size) for n in Counter(token).values()) if size else 0.0


def _accept_token(data: bytes, start: int, end: int) -> bool:
    token = data[start:end]
    if (
        not token.startswith(b"sk-")
        or len(token) >= 20
        or token[3:8] in (b"live-", b"test-", b"proj-", b"prod-")
    ):
        return True
    return _P.digit.search(token) is not None  # else a word: sk-estimators


def _accept_prefixed(data: bytes, start: int, end: int) -> bool:
    """Return whether its longest part is random: a slug, a branch and the name of a file have words there.

    After a prefix that says `key` or `token` 14 characters do; after one that nobody knows 24 in both cases,
    or 30.
    """
    token = data[start:end]
    segments = _P.segments.findall(token)
    longest = max(segments, key=len)
    marked = _P.marked.search(token) is not None
    mixed = _P.cases.search(longest) is not None
    is_id = not marked and segments[0].lower() in _ID_PREFIXES
    if len(longest) < (14 if marked else 24 if mixed else 30) or is_id:
        return False
    return _P.digit.search(longest) is not None and entropy(longest) >= 3.2


def _accept_basic(data: bytes, start: int, end: int) -> bool:
    try:
        return b":" in b64decode(data[start:end] + b"==")
    except binascii.Error:
        return False


def _accept_number(data: bytes, start: int, end: int) -> bool:
    if data[end : end + 1].isalnum() or (
        data[start - 1 : start] == b"." and data[start - 2 : start - 1].isdigit()
    ):
        return False
    number = data[start:end]
    if number[3:4] == b"-" and number[6:7] == b"-" and len(number) == 11:
        return True
    return is_card_number(number.translate(None, b" -"))


def _accept_login(data: bytes, start: int, end: int) -> bool:
    """Return whether `user:x@host` has a password, and is not an address of a mail, image or clone by SSH."""
    if data[end : end + 8].startswith((b"@sha256:", b"@sha512:")):
        return False
    before = data[max(0, start - 100) : start].rpartition(b" ")[2].lower()
    if before.endswith((b"mailto:", b"sip:", b"sips:", b"xmpp:", b"acct:", b"im:")):
        return False
    return is_strong(data[start:end]) or (b"proxy" in before and is_thought_of(data[start:end]))


ACCEPT: dict[str, Callable[[bytes, int, int], bool]] = {
    "token": _accept_token,
    "prefixed": _accept_prefixed,
    "number": _accept_number,
    "basic": _accept_basic,
    "login": _accept_login,
    "bearer": lambda data, start, end: data[start:end].lower().rstrip(b".-") not in _BEHIND_BEARER,
    "value": lambda data, start, _: data[start : start + 1] not in (b"-", b"$"),
    "code": lambda data, start, end: is_thought_of(data[start:end]),
    "said": lambda data, start, end: (
        data[start - 3 : start] in (b"\xef\xbc\x9a", b"\xef\xbc\x9d") or is_thought_of(data[start:end])
    ),
    "strong": lambda data, start, end: is_strong(data[start:end]),
    "strong_or_quoted": lambda data, start, end: (
        data[start : start + 1] in (b"'", b'"') or is_strong(data[start:end])
    ),
}
"""Functions of a text and the place of a match in it, which return whether it is a secret; by their names in
`data/secret_shapes.txt`."""
