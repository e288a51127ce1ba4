"""Secrets that are known by their own shape: tokens, card numbers, keys in PEM, passwords in URLs.

One search of RE2 is linear; finding all matches is linear only if a match, once it has begun, takes what it
has read, and a rejected one is short.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from re import compile as compile_fixed  # on a few characters
from typing import Any, NamedTuple

import re2

from aegis_otel.redaction.names import OPTIONS
from aegis_otel.redaction.rules import EDGE, entropy
from aegis_otel.redaction.spans import Span, after_mask, bounded, is_command

_TOKENS = "|".join(
    (
        r"[sr]k[-_](?:live|test|prod|proj|ant|svcacct|admin)[-_][\w\-]{3,}",  # OpenAI, Anthropic, Stripe
        r"sk-[\w\-]{8,}",
        r"gh[pousr]_[A-Za-z0-9]{6,}|github_pat_\w{6,}|gl(?:pat|rt|ptt|dt|ft|soat)-[\w\-.]{6,}",
        r"xox[abdeoprs]-[\w\-]{6,}|xapp-[\w\-]{8,}",  # Slack
        r"(?:AKIA|ASIA)[A-Z0-9]{12,}",  # AWS
        r"AIza[\w\-]{20,}|ya29\.[\w\-.]{10,}|GOCSPX-[\w\-]{10,}",  # Google
        r"npm_[A-Za-z0-9]{30,}|pypi-[\w\-]{16,}|hf_[A-Za-z0-9]{20,}|dapi[0-9a-f]{32}",
        r"whsec_[\w+/=]{8,}|SG\.[\w\-]{16,}(?:\.[\w\-]+)?|shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{16,}|sq0[a-z]{3}-[\w\-]{16,}",
        r"gsk_\w{20,}|glsa_\w{16,}|glc_[\w=]{16,}|do[opr]_v1_[0-9a-f]{16,}|hv[sbr]\.[\w\-]{16,}|lin_api_\w{16,}",
        r"AGE-SECRET-KEY-1[0-9A-Z]{20,}|NR(?:AK|II|JS|RA)-[\w\-]{16,}|PMAK-[\w\-]{16,}|sbp_[0-9a-f]{20,}",
        r"(?:dckr_pat_|sntry[su]_|nvapi-|xai-|pplx-|r8_|figd_|ntn_|rubygems_|xkeysib-|ATATT)[\w\-=]{16,}",
        r"tskey-[\w\-]{12,}",
        r"\d{8,10}:AA[\w\-]{30,}",  # Telegram
    )
)
# A prefix and a long random part: apify_api_..., lsv2_pt_...; see `_accept_prefixed`.
_PREFIXED = r"[A-Za-z][A-Za-z0-9]{1,15}[_\-.~](?:[A-Za-z0-9]{1,10}[_\-.]){0,2}[A-Za-z0-9_\-]{20,}"
_marked = re2.compile(
    rb"^(?i:[a-z0-9]{0,12}[_\-.]?[a-z0-9]{0,6}(?:sk|[pa]t|pat|api|key|tok|token|secret|live|prod|oauth|pw|sec)[_\-.])",
    OPTIONS,
)
_IDS = frozenset(  # what stands before ids, which are no secrets
    b"call resp msg rs fc conv file batch run thread req trace span group sha1 sha256 sha384 sha512"
    b" md5 img chatcmpl ws tooluse toolu cmpl asst user usr org proj project acct account evt event in"
    b" sub price prod product txn pay ord order build commit rev blob layer image snap vol i vpc ami"
    b" subnet sg rtb eni pod job task session sess conversation message item step id uuid hash digest"
    b" etag ref version v build release node host db doc page".split()
)
_VALUE = r"(?:\"([^\"\r\n]+)\"|'([^'\r\n]+)'|([^\s\"';|&`<>]+))"
_LETTER, _DIGIT = re2.compile(rb"[A-Za-z]", OPTIONS), re2.compile(rb"[0-9]", OPTIONS)
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


def is_random(value: bytes) -> bool:
    """Whether a long word has too many different characters for one that was thought of, and is no path."""
    return (
        len(value) >= 20
        and value[:1] not in (b"/", b".", b"~")
        and b"://" not in value
        and _DIGIT.search(value) is not None
        and entropy(value) >= 4.0
    )


def _accept_token(data: bytes, start: int, end: int) -> bool:
    token = data[start:end]
    if (
        not token.startswith(b"sk-")
        or len(token) >= 20
        or token[3:8] in (b"live-", b"test-", b"proj-", b"prod-")
    ):
        return True
    return any(48 <= byte <= 57 for byte in token)  # else a word: sk-estimators


def _accept_prefixed(data: bytes, start: int, end: int) -> bool:
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


def _accept_strong(data: bytes, start: int, end: int) -> bool:
    return is_strong(data[start:end])


def _accept_value(data: bytes, start: int, end: int) -> bool:  # noqa: ARG001
    return data[start : start + 1] not in (b"-", b"$")


class Family(NamedTuple):
    """The secret is the first group of the pattern that has matched, if `accept` says so."""

    source: str
    accept: Callable[[bytes, int, int], bool] | None = None
    gate: str = ""
    """A pattern with fewer states, found wherever `source` is."""
    whole: bool = False
    """Whether the secret is all that matches, where a token can begin: no group is found as quickly."""


FAMILIES = (
    Family(r"://[^\s/:@\"'<>]*:([^\s/\"'<>]+|[^\s@/\"'<>]*[^\s@/\"'<>0-9][^\s@/\"'<>]*/[^\s@\"'<>]*)@"),
    Family(r"://([\w\-]{20,})@"),
    Family(r"(?:hooks\.slack\.com/[a-z]+/|discord(?:app)?\.com/api/webhooks/\d+/)([\w\-/]+)"),
    Family(
        r"(?:mysql|mysqldump|mysqladmin|mysqlimport|mysqlsh|mariadb|mariadb-dump|mariadb-admin) "
        rf"(?:[^\n|;&]*? )?-p ?{_VALUE}",
        _accept_value,
    ),
    Family(
        r"(?:sshpass|(?:docker|podman|az|oc) login|mongo\w*|cqlsh|arangosh|influx|plink|pscp|htpasswd) "
        rf"(?:[^\n|;&]*? )?-(?:p|pw) ?{_VALUE}",
        _accept_value,
    ),
    Family(rf"redis-cli (?:[^\n|;&]*? )?(?:-a|--pass) {_VALUE}", _accept_value),
    Family(r"curl [^\n|;&]*?(?:-u|--user|-U|--proxy-user)[ =]?\\?[\"']?[^\s:\"']+:([^\s\"']+)"),
    Family(rf"[ \t]-(?:p|P|w|a|W|pw|pass)[ \t=]{{1,4}}{_VALUE}", _accept_strong),
    Family(r"[ \t](?:-u|-U|--user|--creds)[ \t=]{1,4}\\?[\"']?[^\s:%,\"']{1,80}[:%,]([^\s\"';|&`<>]+)",
           _accept_strong),
    Family(r"pass(?:in|out)?[ \t]+\\?[\"']?pass:([^\s\"';|&`<>]+)"),
    Family(r"(?i:password[ \t]{1,4}|(?:login|user(?:name)?)[ \t]+\S{1,80}[ \t]+pass(?:w(?:or)?d)?[ \t]+)"
           rf"{_VALUE}",
           _accept_strong, r"(?i:pass(?:word|wd)?)[ \t]+\\?[\"']?[^\s'\"]*[0-9]"),
    Family(r":54\d\d:[\w\-*.]{1,64}:[\w\-*.]{1,64}:([^\s\"':;|&`<>]{4,})"),  # .pgpass
    Family(r"(?:oracle:thin:|sqlplus(?: -\S+)* )[\w$.\-]{1,64}/([^\s\"'@]+)@"),
    Family(r"\$(?:1|2[abxy]?|5|6|y|apr1|argon2\w{1,2})\$([\w./$=,+\-]{20,})"),  # crypt
    Family(r"(eyJ[\w\-]+\.[\w\-]+(?:\.[\w\-]*)*)"),  # JSON Web Token
    Family(_TOKENS, _accept_token, rf"{EDGE}(?:{_TOKENS})", whole=True),
    Family(_PREFIXED, _accept_prefixed, r"[_\-.][A-Za-z0-9]{14}", whole=True),
    Family(rf"{EDGE}(?i:bearer)(?:\s|\\[nrt]|%20){{1,8}}([\w.~+/=\-]{{6,}})", _accept_bearer),
    Family(rf"{EDGE}(?i:basic)(?:\s|\\[nrt]|%20){{1,8}}([\w+/\-]{{6,}}=*)", _accept_basic),
    Family(rf"{EDGE}(\d{{3}}-\d\d-\d{{4}}|[2-6]\d{{12,18}}|[2-6]\d{{3}}(?:[ \-]\d{{4}}){{3}}"
           rf"|3\d{{3}}[ \-]\d{{6}}[ \-]\d{{4,5}})", _accept_number),
)  # fmt: skip


_escape = compile_fixed(rb"\\(?:[abfnrtv]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})$")


def can_begin(data: bytes, at: int) -> bool:
    """Whether a token can begin here: see `EDGE`."""
    if data[at - 1 : at] == b"\\" and data[at] in b"abfnrtv" and at > 0:  # the letter of an escape
        return False
    return at == 0 or not data[at - 1 : at].isalnum() or _escape.search(data[max(0, at - 6) : at]) is not None


class FamilyFinder:
    """One family at work."""

    def __init__(self, family: Family) -> None:
        self._compiled = re2.compile(family.source.encode(), OPTIONS)
        self._accept = family.accept
        self._whole = family.whole

    def __call__(self, data: bytes) -> list[Span]:
        spans: list[Span] = []
        at = 0
        while (found := self._compiled.search(data, at)) is not None:
            start, end = self._secret(found)
            if self._whole and not can_begin(data, start):
                at = start + 1
            elif after_mask(data, start) == start and (
                self._accept is None or self._accept(data, start, end)
            ):
                spans += bounded(data, start, end)
                at = max(end, at + 1)
            else:
                at = max(start + 1, at + 1)  # a rejected match is short, so this stays linear
        return spans

    def _secret(self, found: Any) -> Span:
        if self._whole:
            return found.start(), found.end()
        group = next(n for n in range(1, self._compiled.groups + 1) if found.end(n) > found.start(n))
        start, end = found.span(group)
        return start, end


# --- keys in PEM ---------------------------------------------------------------------------------------

_GAP = r"(?:\s|\\+[nrt])+"  # also as an escape inside a repr or JSON
PEM = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|Private-Lines: \d{1,4}"
_pem = re2.compile(PEM.encode(), OPTIONS)
_HEADER = r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): [^\r\n\\;|&`$\"'<>]{0,100}"
_body = re2.compile(
    rf"(?:{_GAP}(?:{_HEADER}|[A-Za-z0-9+/]{{16,}}={{0,2}}))*(?:{_GAP}([A-Za-z0-9+/]{{1,15}}={{0,2}}))?"
    rf"(?:{_GAP}=[A-Za-z0-9+/]{{4}})?"
    r"(?:(?:\s|\\+[nrt])*(-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----))?".encode(),
    OPTIONS,
)  # fmt: skip


def pem_keys(data: bytes) -> list[Span]:
    """Private keys: from the header over lines of base64 and no others, to the end line where one follows."""
    spans: list[Span] = []
    at = 0
    while (found := _pem.search(data, at)) is not None:
        body = _body.match(data, found.end())
        end = body.end()
        if body.group(2) is None and body.group(1) is not None and is_command(body.group(1)):
            end = body.start(1)
        block = data[found.start() : end].rstrip()
        end = found.start() + len(block)
        spans.append((found.start(), end))
        at = max(end, found.end())
    return spans
