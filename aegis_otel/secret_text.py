"""Finds secrets in text: by their own shape, and by a name beside them.

All patterns run on RE2, over UTF-8 bytes. One search there is linear; finding *all* matches is linear only
if no alternative looks far beyond where another one matches. Hence one pattern per family, in each of which
a match, once it has begun, takes what it has read.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from typing import Any, NamedTuple

import re2

from aegis_otel.secret_names import NAME_PART, OPTIONS, held_by

REDACTED = "[REDACTED]"
MASK = REDACTED.encode()

# --- by shape ------------------------------------------------------------------------------------------

# What may stand before a token: nothing, no letter or digit, or an escape inside a repr or JSON.
_EDGE = r"(?:^|[^A-Za-z0-9]|\\[abfnrtv]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})"

_TOKENS = "|".join(
    (
        r"[sr]k[-_](?:live|test|prod|proj|ant|svcacct|admin)[-_][\w\-]{3,}",  # OpenAI, Anthropic, Stripe
        r"sk-[\w\-]{8,}",
        r"gh[pousr]_[A-Za-z0-9]{6,}|github_pat_\w{6,}|glpat-[\w\-]{6,}",
        r"xox[abdeoprs]-[\w\-]{6,}|xapp-[\w\-]{8,}",  # Slack
        r"(?:AKIA|ASIA)[A-Z0-9]{12,}",  # AWS
        r"AIza[\w\-]{20,}|ya29\.[\w\-.]{10,}|GOCSPX-[\w\-]{10,}",  # Google
        r"npm_[A-Za-z0-9]{30,}|pypi-[\w\-]{16,}|hf_[A-Za-z0-9]{20,}|dapi[0-9a-f]{32}",
        r"whsec_\w{8,}|SG\.[\w\-]{16,}(?:\.[\w\-]+)?|shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{16,}|sq0[a-z]{3}-[\w\-]{16,}",
        r"gsk_\w{20,}|glsa_\w{16,}|glc_[\w=]{16,}|dop_v1_[0-9a-f]{16,}|hvs\.[\w\-]{16,}|lin_api_\w{16,}",
        r"AGE-SECRET-KEY-1[0-9A-Z]{20,}",
        r"(?:dckr_pat_|sntrys_|nvapi-|xai-|pplx-|r8_|figd_|ntn_|rubygems_|xkeysib-|ATATT)[\w\-=]{16,}",
        r"tskey-[\w\-]{12,}",
        r"\d{8,10}:AA[\w\-]{30,}",  # Telegram
    )
)

_GAP = r"(?:\s|\\[nrt])+"  # also as an escape inside a repr or JSON

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


def _accept_token(data: bytes, start: int, end: int) -> bool:
    token = data[start:end]
    if (
        not token.startswith(b"sk-")
        or len(token) >= 20
        or token[3:8] in (b"live-", b"test-", b"proj-", b"prod-")
    ):
        return True
    return any(48 <= byte <= 57 for byte in token)  # else a word: sk-estimators


def _accept_bearer(data: bytes, start: int, end: int) -> bool:
    return data[start:end].lower().rstrip(b".-") not in _SPOKEN


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


class _Family(NamedTuple):
    """Group 1 of the pattern stays, group 2 is the secret if `accept` says so."""

    source: str
    accept: Callable[[bytes, int, int], bool] | None = None


_FAMILIES = (
    _Family(r"()(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)"
            r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z))"),
    _Family(r"(://[^\s/:@\"'<>]*:)([^\s/\"'<>]+|[^\s@/\"'<>]*[^\s@/\"'<>0-9][^\s@/\"'<>]*/[^\s@\"'<>]*)@"),
    _Family(r"(://)([\w\-]{20,})@"),
    _Family(r"(hooks\.slack\.com/[a-z]+/|discord(?:app)?\.com/api/webhooks/\d+/)([\w\-/]+)"),
    _Family(r"(\bcurl [^\n|;&]*?-u ?[\"']?[^\s:\"']+:|\bsshpass -p ?[\"']?"
            r"|\b(?:mysql|mysqldump|mysqladmin|mariadb) (?:[^\n|;&]*? )?-p[\"']?)([^\s\"']+)"),
    _Family(rf"((?i:identified{_GAP}by){_GAP}')([^']+)"),
    _Family(r"()(eyJ[\w\-]+\.[\w\-]+(?:\.[\w\-]*)*)"),  # JSON Web Token
    _Family(rf"({_EDGE})({_TOKENS})", _accept_token),
    _Family(rf"({_EDGE}(?i:bearer)(?:\s|\\[nrt]|%20){{1,8}})([\w.~+/=\-]{{6,}})", _accept_bearer),
    _Family(rf"({_EDGE}(?i:basic)(?:\s|\\[nrt]|%20){{1,8}})([\w+/\-]{{6,}}=*)", _accept_basic),
    _Family(rf"({_EDGE})(\d{{3}}-\d\d-\d{{4}}|[2-6]\d{{12,18}}|[2-6]\d{{3}}(?:[ \-]\d{{4}}){{3}}"
            rf"|3\d{{3}}[ \-]\d{{6}}[ \-]\d{{4,5}})", _accept_number),
)  # fmt: skip

# --- a name and its value inside a text ----------------------------------------------------------------

# `api_key = x`, `"api_key": x`, `x['api_key'] = x`; `--api-key x`; SQL's `PASSWORD 'x'`; `<password>x<`.
_NAME = rf"[\w.\-]*{NAME_PART}[\w.\-]*"
_NAMED = (
    rf"({_NAME})([\"'\\\])]*[ \t]{{0,8}}(?:=>|:=|=+|:)[ \t]{{0,8}})"
    rf"|(--{_NAME})([ \t]{{1,4}})|(\w*(?i:pass)\w*)([ \t]{{1,4}})[\"']|<({_NAME})(>)"
)
_named = re2.compile(_NAMED.encode(), OPTIONS)
_opening = re2.compile(rb"[bBrRuUfF]{0,2}(\\*)(\"\"\"|'''|\"|')|[\[({]", OPTIONS)
_bracket = re2.compile(rb"[\[\](){}]", OPTIONS)
_rest_of_line = re2.compile(rb"[^\r\n\"'<>]+", OPTIONS)
_run = re2.compile(rb"(?:(?i:bearer|basic|digest|token|apikey|negotiate)[ \t]+)?[^\s&;\"'<>]+", OPTIONS)
_annotated = re2.compile(rb"[\])}]*[ \t]{0,8}=[ \t]{0,8}", OPTIONS)
_letter = re2.compile(rb"[A-Za-z\x80-\xff]", OPTIONS)
_block = re2.compile(rb"[|>][+\-0-9]{0,2}[ \t]*\r?\n([ \t]+)", OPTIONS)
_NOTHING = frozenset([b"", b"true", b"false", b"null", b"none"])
_TYPES = frozenset([b"str", b"string", b"bytes"])  # password: str
_PROSE = frozenset(b"click please enter visit see follow contact".split())  # reset your password: click ...


def _hide_named(data: bytes) -> bytes:
    parts: list[bytes] = []
    done = at = 0
    while (found := _named.search(data, at)) is not None:
        group = next(group for group in (1, 3, 5, 7) if found.start(group) >= 0)
        start, end = found.span(group)
        if data[start - 1 : start] == b"\\" and data[start] in b"nrt":  # an escaped line break, no letter
            start += 1
        name = data[start:end].decode("latin-1")
        held = held_by(name)
        if held == "no":
            at = end
            continue
        at = found.end(group + 1)
        colon = b":" in data[end:at]
        whole_line = group == 7 or (colon and name.lower().endswith(("authorization", "cookie")))
        if b"==" in data[found.end(group) : at] and data[at : at + 1] not in (b"'", b'"'):  # a comparison
            continue
        while True:
            start, end = _value_span(data, at, whole_line)
            value = data[start:end]
            if (
                not (colon and _is_word(data, start, end))
                and value.lower() not in _NOTHING
                and (held == "any" or _letter.search(value) is not None)
            ):
                parts += (data[done:start], MASK)
                done = end
            at = max(at, end)
            more = _annotated.match(data, at) if colon else None  # password: str = "..."
            if more is None:
                break
            at = more.end()
    return b"".join((*parts, data[done:])) if parts else data


def _is_word(data: bytes, start: int, end: int) -> bool:
    """Whether what follows a name and a colon is a type, or the next word of a sentence."""
    if data[start - 1 : start] in (b"'", b'"'):
        return False
    word = data[start:end]
    return word in _TYPES or (word in _PROSE and data[end : end + 1] == b" ")


def _value_span(data: bytes, at: int, whole_line: bool) -> tuple[int, int]:
    """Where the secret part of the value at `at` is; one that is not closed goes to the end of the text."""
    block = _block.match(data, at)
    if block is not None:  # YAML's text in lines of their own
        return block.end(), _end_of_block(data, block.end(), block.group(1))
    opening = _opening.match(data, at)
    if opening is not None and opening.group(2) is not None:
        return opening.end(), _closing_quote(data, opening.end(), len(opening.group(1)), opening.group(2))
    closed = at if opening is None else _closing_bracket(data, at)
    run = (_rest_of_line if whole_line else _run).match(data, closed)
    end = closed if run is None else run.end()
    while end > closed and data[end - 1] in b",.)]} \t" and not data.endswith(MASK, at, end):
        end -= 1
    return at, end


def _end_of_block(data: bytes, at: int, indent: bytes) -> int:
    """Where the lines that begin with `indent` end, of which the first goes on at `at`."""
    while (end := data.find(b"\n", at)) >= 0 and data.startswith(indent, end + 1):
        at = end + 1
    return len(data) if end < 0 else end


def _closing_bracket(data: bytes, at: int) -> int:
    depth = 0
    while (bracket := _bracket.search(data, at)) is not None:
        at = bracket.end()
        depth += 1 if bracket.group() in b"[({" else -1
        if depth == 0:
            return at
    return len(data)


def _closing_quote(data: bytes, start: int, escapes: int, quote: bytes) -> int:
    """Where the content ends: before a quote with no more backslashes than the opening one had."""
    end = data.find(quote, start)
    while end >= 0:
        content = end
        while content > start and data[content - 1] == ord("\\"):
            content -= 1
        slashes = end - content
        if escapes and slashes <= escapes:
            return content
        if not escapes and slashes % 2 == 0:
            return end
        end = data.find(quote, end + 1)
    return len(data)


# --- both ----------------------------------------------------------------------------------------------

_families = tuple((re2.compile(family.source.encode(), OPTIONS), family.accept) for family in _FAMILIES)

# Everything above at once, over a text or over the JSON of a whole structure: what this does not find holds
# nothing to hide. The additions are what only a look at the structure can tell.
_SUSPECT = "|".join(
    (
        *(family.source for family in _FAMILIES),
        _NAMED,
        rf"{NAME_PART}(?:[^\"\\]|\\.)*\":",  # anywhere in a key
        rf"{NAME_PART}[\w.\-]*\",",  # before its value in a list
        r"\"\$type\":|(?i:value)\\*\":|\\u00[2-7]",
    )
)
_gate = re2.Options()
_gate.encoding = OPTIONS.encoding
_gate.log_errors = False
_gate.never_capture = True
_suspect = re2.compile(_SUSPECT.encode(), _gate)


def is_suspect(data: bytes) -> bool:
    """Whether a text, or the JSON of a structure, may hold a secret. One pass; False is certain."""
    return _suspect.search(data) is not None


def hide_secrets(data: bytes) -> bytes:
    """`data` with every secret in it replaced by the mask."""
    for pattern, accept in _families:
        data = _hide_family(data, pattern, accept)
    return _hide_named(data)


def _hide_family(data: bytes, pattern: Any, accept: Callable[[bytes, int, int], bool] | None) -> bytes:
    parts: list[bytes] = []
    done = at = 0
    while (found := pattern.search(data, at)) is not None:
        start, end = found.span(2)
        if accept is None or accept(data, start, end):
            parts += (data[done:start], MASK)
            done = at = end
        else:
            at = start + 1  # a rejected match is short, so this stays linear
    return b"".join((*parts, data[done:])) if parts else data
