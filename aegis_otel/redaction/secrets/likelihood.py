"""What a word looks like: a password, a card number, a random key; and whether a match of a pattern does.

A function `accept_<name>` says whether a match is a secret: `accept = <name>` in `data/shapes.txt` names it.
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections import Counter
from re import compile as compile_fixed  # on a few characters

from aegis_otel.redaction.data_files import byte_words
from aegis_otel.redaction.secrets.patterns import compiled

_marked = compiled(
    r"^(?i:[a-z0-9]{0,12}[_\-.]?[a-z0-9]{0,6}(?:sk|[pa]t|pat|api|key|tok|token|secret|live|prod|oauth|pw"
    r"|sec)[_\-.])"
)
_letter, _digit = compile_fixed(rb"[A-Za-z]"), compile_fixed(rb"[0-9]")
_mixed = compiled(r"[A-Z].*[a-z]|[a-z].*[A-Z]|[!#$%^*+~@?]")
_cases = compiled(r"[A-Z].*[a-z]|[a-z].*[A-Z]")
_place = compiled(r"[/\\=<>()\[\]{},]|^\d{4}-\d\d|://|^[0-9.:]+$")
_segments = compiled(r"[A-Za-z0-9]+")
_card = compiled(
    r"4\d{12}(?:\d{3}){0,2}|5[0-8]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14}|6\d{15}(?:\d{3})?"
)
_term = compile_fixed(
    rb"(?:sha|md|base|aes|rsa|utf|oauth|http|ssl|tls|x|v|s|erc|cl|bcrypt|argon|pbkdf|hs|rs|es|ed|fido|fa"
    rb"|web|ipv|h|p|r|k|gpt|py|python|level|version|option|part|field|line|row|user|test|page|item"
    rb"|step)-?_?\d{1,4}\w?(?:-[a-z]+)*$",
    2,
)
_ID_PREFIXES = byte_words("id_prefixes")
_BEHIND_BEARER = byte_words("behind_bearer")


def is_card_number(digits: bytes) -> bool:
    """Return whether digits have an issuer's prefix, that issuer's length and a right check digit (Luhn)."""
    if _card.fullmatch(digits) is None:
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
        and _letter.search(value) is not None
        and _digit.search(value) is not None
        and _mixed.search(value) is not None
        and _place.search(value) is None
    )


def is_thought_of(value: bytes, digits: bool = False) -> bool:
    """Return whether a word looks like a password that a person chose: `hunter2`; not `sha256` or a date.

    Args:
        value: The word.
        digits: Whether a code of 6 to 10 digits is one as well.
    """
    if not 5 <= len(value) <= 128 or _place.search(value) is not None or _term.match(value) is not None:
        return digits and 6 <= len(value) <= 10 and value.isdigit()
    return _digit.search(value) is not None and _letter.search(value) is not None


def is_random(value: bytes) -> bool:
    """Return whether a long word has too many different characters for a chosen one, and is no path."""
    return (
        len(value) >= 20
        and value[:1] not in (b"/", b".", b"~")
        and b"://" not in value
        and _digit.search(value) is not None
        and entropy(value) >= 4.0
    )


def entropy(token: bytes) -> float:
    """Return Shannon's entropy, in bits a byte."""
    size = len(token)
    return -sum(n / size * math.log2(n / size) for n in Counter(token).values()) if size else 0.0


def accept_token(data: bytes, start: int, end: int) -> bool:
    token = data[start:end]
    if (
        not token.startswith(b"sk-")
        or len(token) >= 20
        or token[3:8] in (b"live-", b"test-", b"proj-", b"prod-")
    ):
        return True
    return _digit.search(token) is not None  # else a word: sk-estimators


def accept_prefixed(data: bytes, start: int, end: int) -> bool:
    """Return whether its longest part is random: a slug, a branch and the name of a file have words there.

    After a prefix that says `key` or `token` 14 characters do; after one that nobody knows 24 in both cases,
    or 30.
    """
    token = data[start:end]
    segments = _segments.findall(token)
    longest = max(segments, key=len)
    marked = _marked.search(token) is not None
    mixed = _cases.search(longest) is not None
    is_id = not marked and segments[0].lower() in _ID_PREFIXES
    if len(longest) < (14 if marked else 24 if mixed else 30) or is_id:
        return False
    return _digit.search(longest) is not None and entropy(longest) >= 3.2


def accept_bearer(data: bytes, start: int, end: int) -> bool:
    return data[start:end].lower().rstrip(b".-") not in _BEHIND_BEARER


def accept_basic(data: bytes, start: int, end: int) -> bool:
    try:
        return b":" in b64decode(data[start:end] + b"==")
    except binascii.Error:
        return False


def accept_number(data: bytes, start: int, end: int) -> bool:
    if data[end : end + 1].isalnum() or (
        data[start - 1 : start] == b"." and data[start - 2 : start - 1].isdigit()
    ):
        return False
    number = data[start:end]
    if number[3:4] == b"-" and number[6:7] == b"-" and len(number) == 11:
        return True
    return is_card_number(number.translate(None, b" -"))


def accept_strong(data: bytes, start: int, end: int) -> bool:
    return is_strong(data[start:end])


def accept_value(data: bytes, start: int, end: int) -> bool:  # noqa: ARG001
    return data[start : start + 1] not in (b"-", b"$")


def accept_login(data: bytes, start: int, end: int) -> bool:
    """Return whether `user:x@host` has a password, and is no address of a mail, image or clone by SSH."""
    if data[end : end + 8].startswith((b"@sha256:", b"@sha512:")):
        return False
    before = data[max(0, start - 100) : start].rpartition(b" ")[2].lower()
    if before.endswith((b"mailto:", b"sip:", b"sips:", b"xmpp:", b"acct:", b"im:")):
        return False
    return is_strong(data[start:end]) or (b"proxy" in before and is_thought_of(data[start:end]))


def accept_code(data: bytes, start: int, end: int) -> bool:
    return is_thought_of(data[start:end])


def accept_said(data: bytes, start: int, end: int) -> bool:
    return data[start - 3 : start] in (b"\xef\xbc\x9a", b"\xef\xbc\x9d") or is_thought_of(data[start:end])


def accept_strong_or_quoted(data: bytes, start: int, end: int) -> bool:
    return data[start : start + 1] in (b"'", b'"') or is_strong(data[start:end])
