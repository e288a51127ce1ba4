"""What a word looks like: a password, a card number, a random key; and whether a match of a pattern does.

A function `accept_...` says of a match that it is a secret. Whatever it rejects stays.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from re import compile as compile_fixed  # on a few characters

import re2

from aegis_otel.redaction.secrets.names import OPTIONS
from aegis_otel.redaction.secrets.vendor_rules import entropy

_marked = re2.compile(
    rb"^(?i:[a-z0-9]{0,12}[_\-.]?[a-z0-9]{0,6}(?:sk|[pa]t|pat|api|key|tok|token|secret|live|prod|oauth|pw"
    rb"|sec)[_\-.])",
    OPTIONS,
)
_IDS = frozenset(  # what stands before ids, which are no secrets
    b"call resp msg rs fc conv file batch run thread req trace span group sha1 sha256 sha384 sha512"
    b" md5 img chatcmpl ws tooluse toolu cmpl asst user usr org proj project acct account evt event in"
    b" sub price prod product txn pay ord order build commit rev blob layer image snap vol i vpc ami"
    b" subnet sg rtb eni pod job task session sess conversation message item step id uuid hash digest"
    b" etag ref version v build release node host db doc page".split()
)
_LETTER, _DIGIT = compile_fixed(rb"[A-Za-z]"), compile_fixed(rb"[0-9]")
_MIXED = re2.compile(rb"[A-Z].*[a-z]|[a-z].*[A-Z]|[!#$%^*+~@?]", OPTIONS)
_CASES = re2.compile(rb"[A-Z].*[a-z]|[a-z].*[A-Z]", OPTIONS)
_PLACE = re2.compile(rb"[/\\=<>()\[\]{},]|^\d{4}-\d\d|://|^[0-9.:]+$", OPTIONS)
_segments = re2.compile(rb"[A-Za-z0-9]+", OPTIONS)

_card = re2.compile(
    rb"4\d{12}(?:\d{3}){0,2}|5[0-8]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14}|6\d{15}(?:\d{3})?",
    OPTIONS,
)
_SPOKEN = frozenset(  # words that follow `bearer` in a sentence
    b"token tokens authentication authorization auth scheme schemes format header headers credentials".split()
)


def is_card_number(digits: bytes) -> bool:
    """An issuer's prefix, that issuer's length and a right check digit."""
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
    """Whether a word looks like a password: letters, digits, both cases or a sign, and no path."""
    return (
        len(value) >= 8
        and _LETTER.search(value) is not None
        and _DIGIT.search(value) is not None
        and _MIXED.search(value) is not None
        and _PLACE.search(value) is None
    )


_TERMS = compile_fixed(
    rb"(?:sha|md|base|aes|rsa|utf|oauth|http|ssl|tls|x|v|s|erc|cl|bcrypt|argon|pbkdf|hs|rs|es|ed|fido|fa"
    rb"|web|ipv|h|p|r|k|gpt|py|python|level|version|option|part|field|line|row|user|test|page|item"
    rb"|step)-?_?\d{1,4}\w?(?:-[a-z]+)*$",
    2,
)


def is_thought_of(value: bytes, digits: bool = False) -> bool:
    """Whether a word looks like a password that a person chose: `hunter2`; not `sha256`, `v2` or a date.

    `digits` tells that a code of digits is one as well.
    """
    if not 5 <= len(value) <= 128 or _PLACE.search(value) is not None or _TERMS.match(value) is not None:
        return digits and 6 <= len(value) <= 10 and value.isdigit()
    return _DIGIT.search(value) is not None and _LETTER.search(value) is not None


def is_random(value: bytes) -> bool:
    """Whether a long word has too many different characters for one that was thought of, and is no path."""
    return (
        len(value) >= 20
        and value[:1] not in (b"/", b".", b"~")
        and b"://" not in value
        and _DIGIT.search(value) is not None
        and entropy(value) >= 4.0
    )


NO_VALUES = frozenset(
    b" true false null none nil undefined await new return required optional missing invalid expired".split(
        b" "
    )
)
TYPE_NAMES = frozenset([b"str", b"string", b"bytes"])  # password: str
PROSE = frozenset(  # reset your password: click ...
    b"click please enter visit see follow contact the a an is are was must should may can cannot to"
    b" your you for of in on and or not with it this that if when we i do does have has will use which"
    b" what expected got".split()
)
_reference = re2.compile(  # to where the secret is, which is none
    rb"[A-Za-z_]+(?:\.[A-Za-z_]+)*\([^()]{0,200}(?:\([^()]{0,200}\)?[^()]{0,50})?\)?"
    rb"|[A-Za-z_]+(?:\.[A-Za-z_]+)+\[.*|\$\{?[A-Z_][A-Z0-9_]*\}?|\$\{\{?[^{}]{0,200}\}\}?"
    rb"|\{\{[^{}]{0,200}\}\}|%\w|%[A-Z_]+%|self\.\w+|\*+|x{3,}|\.\.\.",
    OPTIONS,
)
_referring = compile_fixed(rb"[(\[${%*]|self\.|xxx|\.\.\.")
"""What is in every text of `_reference`."""


def is_reference(text: bytes) -> bool:
    """Whether a value says where the secret is: `$TOKEN`, `os.getenv("TOKEN")`, `{{ token }}`."""
    return _referring.search(text) is not None and _reference.fullmatch(text) is not None


def repeats_name(value: bytes, name: bytes) -> bool:
    """Whether a value is the name itself, or the end of it: `auth=auth`, `self._pwd = pwd`."""
    return name.endswith(value) and (len(name) == len(value) or name[-len(value) - 1] in b"._-")


def accept_token(data: bytes, start: int, end: int) -> bool:
    token = data[start:end]
    if (
        not token.startswith(b"sk-")
        or len(token) >= 20
        or token[3:8] in (b"live-", b"test-", b"proj-", b"prod-")
    ):
        return True
    return any(48 <= byte <= 57 for byte in token)  # else a word: sk-estimators


def accept_prefixed(data: bytes, start: int, end: int) -> bool:
    """Whether its longest part is random: a slug, a branch and the name of a file have words there.

    After a prefix that says `key` or `token` 14 characters do; after one that nobody knows 24 in both cases,
    or 30.
    """
    token = data[start:end]
    segments = _segments.findall(token)
    longest = max(segments, key=len)
    marked = _marked.search(token) is not None
    mixed = _CASES.search(longest) is not None
    if len(longest) < (14 if marked else 24 if mixed else 30) or (not marked and segments[0].lower() in _IDS):
        return False
    return _DIGIT.search(longest) is not None and entropy(longest) >= 3.2


def accept_bearer(data: bytes, start: int, end: int) -> bool:
    return data[start:end].lower().rstrip(b".-") not in _SPOKEN


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
    """Whether `user:x@host` has a password: no address of a mail, no version of an image, no clone by SSH."""
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
