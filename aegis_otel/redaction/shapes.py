"""Secrets that are known by their own shape: tokens, card numbers, passwords in URLs.

One search of RE2 is linear; finding all matches is linear only if a match, once it has begun, takes what it
has read, and a rejected one is short.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from re import compile as compile_fixed  # on a few characters
from typing import Any, NamedTuple

import re2

from aegis_otel.redaction.names import OPTIONS, SCRIPTS
from aegis_otel.redaction.rules import EDGE, entropy, fewer
from aegis_otel.redaction.spans import Span, after_mask, bounded

_SHAPES = tuple(
    shape
    for shapes in (
        r"[sr]k[-_](?:live|test|prod|proj|ant|svcacct|admin)[-_][\w\-]{3,}",  # OpenAI, Anthropic, Stripe
        r"sk-[\w\-]{8,}",
        r"gh[pousr]_[A-Za-z0-9]{6,}|github_pat_\w{6,}|gl(?:pat|rt|ptt|dt|ft|soat)-[\w\-.]{6,}",
        r"xox[abdeoprs]-[\w\-]{6,}|xapp-[\w\-]{8,}",  # Slack
        r"(?:AKIA|ASIA)[A-Z0-9]{12,}",  # AWS
        r"AIza[\w\-]{20,}|ya29\.[\w\-.]{10,}|GOCSPX-[\w\-]{10,}",  # Google
        r"npm_[A-Za-z0-9]{30,}|pypi-[\w\-]{16,}|hf_[A-Za-z0-9]{20,}|dapi[0-9a-f]{32}",
        r"whsec_[\w+/=]{8,}|SG\.[\w\-]{16,}(?:\.[\w\-]+)?|shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{16,}"
        r"|sq0[a-z]{3}-[\w\-]{16,}",
        r"gsk_\w{20,}|glsa_\w{16,}|glc_[\w=]{16,}|do[opr]_v1_[0-9a-f]{16,}|hv[sbr]\.[\w\-]{16,}"
        r"|lin_api_\w{16,}",
        r"AGE-SECRET-KEY-1[0-9A-Z]{20,}|NR(?:AK|II|JS|RA)-[\w\-]{16,}|PMAK-[\w\-]{16,}|sbp_[0-9a-f]{20,}",
        r"(?:dckr_pat_|sntry[su]_|nvapi-|xai-|pplx-|r8_|figd_|ntn_|rubygems_|xkeysib-|ATATT)[\w\-=]{16,}",
        r"tskey-[\w\-]{12,}",
        r"\d{8,10}:AA[\w\-]{30,}",  # Telegram
    )
    for shape in re.split(r"\|(?![^(]*\))", shapes)
)
TOKENS = "|".join(_SHAPES)
_TOKEN_GATE, _TOKEN_CLUE = (
    rf"{EDGE}(?:{'|'.join(fewer(shape, counted) for shape in _SHAPES)})" for counted in (6, 1)
)
_JWT = r"(eyJ[\w\-]+\.[\w\-]+(?:\.[\w\-]*)*)"
ALONE = (_JWT, TOKENS)
"""Families whose secrets nothing else belongs to, where they are whole words."""
# A prefix and a long random part: apify_api_..., lsv2_pt_...; see `_accept_prefixed`.
_PREFIXED = r"[A-Za-z][A-Za-z0-9]{1,15}[_\-.~](?:[A-Za-z0-9]{1,10}[_\-.]){0,2}[A-Za-z0-9_\-]{20,}"
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
_VALUE = r"(?:\"([^\"\r\n]+)\"|'([^'\r\n]+)'|([^\s\"';|&`<>]+))"
_LITERAL = r"[bBrRuU@$]{0,2}\\?[\"']([^\"'\\\r\n]{1,256})"
_BLANKS = r"[ \t]+"
_READERS = (
    r"sudo[ \t]+(?:-\w+[ \t]+)*-\w*S|sudo[ \t]+passwd|su\b|passwd|smbpasswd|kinit|cryptsetup|veracrypt"
    r"|ecryptfs|openssl"
    r"|secret-tool|wg[ \t]+pubkey|bw\b|pass[ \t]+insert|gpg[^\n|;&]{0,200}--passphrase-fd"
    r"|htpasswd[^\n|;&]{0,80}-\w*i"
    r"|docker[ \t]+secret|gh[ \t]+(?:auth|secret)|glab[ \t]+auth|vault[ \t]+login"
    r"|[^\n|;&]{1,200}--(?:password-stdin|with-token|passphrase-fd|stdin)"
)
"""Programs that read a secret from their input."""
_SCRIPTS_SAID = "|".join(SCRIPTS)
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


def _accept_login(data: bytes, start: int, end: int) -> bool:
    """Whether `user:x@host` has a password: no address of a mail, no version of an image, no clone by SSH."""
    if data[end : end + 8].startswith((b"@sha256:", b"@sha512:")):
        return False
    before = data[max(0, start - 100) : start].rpartition(b" ")[2].lower()
    if before.endswith((b"mailto:", b"sip:", b"sips:", b"xmpp:", b"acct:", b"im:")):
        return False
    return is_strong(data[start:end]) or (b"proxy" in before and is_thought_of(data[start:end]))


def _accept_code(data: bytes, start: int, end: int) -> bool:
    return is_thought_of(data[start:end])


def _accept_said(data: bytes, start: int, end: int) -> bool:
    return data[start - 3 : start] in (b"\xef\xbc\x9a", b"\xef\xbc\x9d") or is_thought_of(data[start:end])


def _accept_strong_or_quoted(data: bytes, start: int, end: int) -> bool:
    return data[start : start + 1] in (b"'", b'"') or is_strong(data[start:end])


class Family(NamedTuple):
    """The secret is the first group of the pattern that has matched, if `accept` says so."""

    source: str
    accept: Callable[[bytes, int, int], bool] | None = None
    gate: str = ""
    """A pattern with fewer states, found wherever `source` is."""
    whole: bool = False
    """Whether the secret is all that matches, where a token can begin: no group is found as quickly."""
    clues: tuple[str, ...] = ()
    """What `text.Engine` looks for before the gate; the gate itself where there is nothing."""
    may_be: Callable[[bytes], bool] | None = None
    """What it asks before the gate: says False only where that is not found."""


_ESCAPED = (  # what stands in JSON for a break
    (r"\r?\n", r"(?:\r?\n|\\r\\n|\\n)"),
    (r"(?:^|\n)", r"(?:^|\n|\\n|\")"),
    (r"(?:^|\s)", r"(?:^|\s|\\[nrt]|\")"),
    (r"\s+", r"(?:\s|\\[nrt])+"),
    ("(?:^|[\\s=\\\"'(])", "(?:^|[\\s=\"'(]|\\\\[nrt])"),
    ("\\\\?[\\\"']", "\\\\*[\"']"),
)
_BOUND = compile_fixed(r"\{(\d+),\d+\}")


def unbounded(source: str) -> str:
    """Return a pattern found wherever `source` is, in JSON as well.

    It counts nothing, so that one pass over all patterns stays small.
    """
    for written, also in _ESCAPED:
        source = source.replace(written, also)
    return _BOUND.sub(lambda found: "*" if found.group(1) == "0" else "+", source)


def _wide(
    source: str,
    accept: Callable[[bytes, int, int], bool] | None = None,
    gate: str | None = None,
    clues: tuple[str, ...] = (),
    may_be: Callable[[bytes], bool] | None = None,
) -> Family:
    return Family(source, accept, gate or unbounded(source), clues=clues, may_be=may_be)


_before_at = re2.compile(rb"[:/][^\s/@\"'<>|;&`]*@", OPTIONS)


def _has_at(data: bytes) -> bool:
    return b"@" in data


def _is_before_at(data: bytes) -> bool:
    """Whether a word with a colon or a slash in it goes on to an at sign."""
    return b"@" in data and _before_at.search(data) is not None


_ALNUM = bytes.maketrans(b"".join(bytes((n,)) for n in range(256) if bytes((n,)).isalnum()), b"a" * 62)


def _is_joined(data: bytes) -> bool:
    """Whether there is one of the signs behind a prefix, and enough letters in a row for what follows it."""
    return (b"_" in data or b"-" in data or b"." in data) and b"a" * 14 in data.translate(_ALNUM)


_BREAK = r"(?:\s|\\[nrt])"


FAMILIES = (
    Family(r"://[^\s/:@\"'<>]*:([^\s/\"'<>]+|[^\s@/\"'<>]*[^\s@/\"'<>0-9][^\s@/\"'<>]*/[^\s@\"'<>]*)@",
           clues=("://",), may_be=_has_at),
    Family(r"://([\w\-]{20,})@", clues=("://",), may_be=_has_at),
    Family(r"(?:hooks\.slack\.com/[a-z]+/|discord(?:app)?\.com/api/webhooks/\d+/)([\w\-/]+)",
           clues=(r"hooks\.slack\.com/|\.com/api/webhooks/",)),
    Family(
        r"(?:mysql|mysqldump|mysqladmin|mysqlimport|mysqlsh|mariadb|mariadb-dump|mariadb-admin) "
        rf"(?:[^\n|;&]*? )?-p ?{_VALUE}",
        _accept_value,
        clues=("mysql|mariadb", "-p"),
    ),
    Family(
        r"(?:sshpass|(?:docker|podman|az|oc) login|mongo\w*|cqlsh|arangosh|influx|plink|pscp|htpasswd) "
        rf"(?:[^\n|;&]*? )?-(?:p|pw) ?{_VALUE}",
        _accept_value,
        clues=("sshpass|(?:docker|podman|az|oc) login|mongo|cqlsh|arangosh|influx|plink|pscp|htpasswd", "-p"),
    ),
    Family(rf"redis-cli (?:[^\n|;&]*? )?(?:-a|--pass) {_VALUE}", _accept_value, clues=("redis-cli ",)),
    Family(r"curl [^\n|;&]*?(?:-u|--user|-U|--proxy-user)[ =]?\\?[\"']?[^\s:\"']+:([^\s\"']+)",
           clues=("curl ",)),
    Family(rf"[ \t]-(?:p|P|w|a|W|pw|pass)[ \t=]{{1,4}}{_VALUE}", _accept_strong,
           clues=(r"[ \t]-(?:[pPwaW]|pw|pass)[ \t=]",)),
    Family(r"[ \t](?:-u|-U|--user|--creds)[ \t=]{1,4}\\?[\"']?[^\s:%,\"']{1,80}[:%,]([^\s\"';|&`<>]+)",
           _accept_strong, clues=(r"[ \t](?:-u|-U|--user|--creds)[ \t=]",)),
    Family(r"pass(?:in|out)?[ \t]+\\?[\"']?pass:([^\s\"';|&`<>]+)", clues=("pass:",)),
    Family(r"(?i:password[ \t]{1,4}|(?:login|user(?:name)?)[ \t]+\S{1,80}[ \t]+pass(?:w(?:or)?d)?[ \t]+)"
           rf"{_VALUE}",
           _accept_strong, r"(?i:pass(?:word|wd)?)[ \t]+\\?[\"']?[^\s'\"]*[0-9]",
           clues=(r"(?i:pass(?:word|wd)?)[ \t]",)),
    Family(r":54\d\d:[\w\-*.]{1,64}:[\w\-*.]{1,64}:([^\s\"':;|&`<>]{4,})", clues=(r":54\d\d:",)),  # .pgpass
    Family(r"(?:oracle:thin:|sqlplus(?: -\S+)* )[\w$.\-]{1,64}/([^\s\"'@]+)@",
           clues=("oracle:thin:|sqlplus",), may_be=_has_at),
    _wide(rf"(?i:(?:log_?in|sign_?in|authenticate|auth|basic_?auth|http_?(?:basic|digest)_?auth"
          rf"|[a-z]{{0,40}}credentials?)"
           rf"\]?(?:::new|\.new|\.of)?[ \t]*(?:=[ \t]*)?[(\[])[ \t]*[^()\[\],\r\n]{{1,200}},"
           rf"[ \t]*{_LITERAL}",
          clues=(r"(?i:(?:log_?in|sign_?in|auth|authenticate|credentials?)\]?(?:::new|\.new|\.of)?)"
                 r"[ \t]*(?:=[ \t]*)?[(\[]",)),
    _wide(r"(?:(?i:mysqli?_connect|new (?:mysqli|pdo)|getconnection))"
           r"\((?:[^(),\r\n]{1,200},[ \t]*){2}" + _LITERAL,
          clues=("(?i:mysqli?_connect|new (?:mysqli|pdo)|getconnection)",)),
    _wide(rf"(?:bcrypt\.hashpw|generate_password_hash|make_password|hash_password"
          rf"|password_hash)\([ \t]*{_LITERAL}",
          clues=(r"bcrypt\.hashpw|generate_password_hash|(?:make|hash)_password|password_hash",)),
    _wide(r"(?i:credentials?|creds|login|zugangsdaten)[ \t]*[:=][ \t]*[^\s/|,]{1,64}[ \t]*/[ \t]*"
           r"([^\s\"'`;|&<>]+)",
          _accept_code, clues=(r"(?i:credentials?|creds|login|zugangsdaten)[ \t]*[:=]",)),
    _wide(rf"ConvertTo-SecureString[ \t]+(?:-String[ \t]+)?{_VALUE}", _accept_value,
          clues=("ConvertTo-SecureString",)),
    _wide(rf"(?:echo|printf){_BLANKS}(?:-\w{_BLANKS})*(?:[\"']%s(?:\\n)?[\"']{_BLANKS})?"
           rf"\\?[\"']?[\w.\-]{{1,64}}:([^\s\"'|;&`<>]+)\\?[\"']?[ \t]*\|[ \t]*(?:sudo[ \t]+)?chpasswd",
          clues=("chpasswd",)),
    _wide(rf"(?:echo|printf){_BLANKS}(?:-\w{_BLANKS})*(?:[\"']%s(?:\\n)?[\"']{_BLANKS})?{_VALUE}"
           rf"[ \t]*\|[ \t]*(?:\w+=\S*[ \t]+)*(?:{_READERS})", _accept_value,
          clues=(r"(?:echo|printf)[ \t]",)),
    _wide(rf"(?:sudo[^\n|;&]{{0,200}} -S|chpasswd|passwd|kinit|--password-stdin|--passphrase-fd 0)"
           rf"[^\n|;&<]{{0,200}}<<<[ \t]*{_VALUE}", _accept_value, clues=("<<<",)),
    _wide(r"(?i:assword:[^\r\n]{0,40}(?:\r?\n|[;{])[ \t]*(?:send|sendline|exp_send)[ \t(]+(?:--[ \t]+)?)"
           r"\\?[\"']([^\"'\r\n\\]+)", clues=("(?i:assword:)",)),
    _wide(r"(?:" + _SCRIPTS_SAID + r")[\x80-\xff]{0,18}?"
           r"(?:\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xe3\x81\xaf|\xe3\x81\x8c|\xec\x9d[\x80\xb4]"
           r"|\xeb\x8a\x94"
           r"|\xef\xbc[\x9a\x9d])[ \t]?([!-~]{4,})", _accept_said, clues=(r"[\x80-\xff]",)),
    _wide(r"(?:^|[\s=\"'(])(?:(?i:[\w]{0,20}proxy)[=: ][\"']?)?[^\s:/@\"'=]{1,64}:"
           r"([^\s/@\"'<>|;&`:]{4,})@[\w.\-]+",
           _accept_login, may_be=_is_before_at),
    _wide(r"(?:^|[\s=\"'(])[\w$.]{1,64}/([^\s/@\"'<>|;&`]{6,})@[\w.\-]+", _accept_strong,
          may_be=_is_before_at),
    _wide(r"(?i:connect)[ \t]+[\w$]{1,64}/([^\s/@\"'<>|;&`]+)@[\w.\-]+",
          clues=(r"(?i:connect)[ \t]",), may_be=_is_before_at),
    _wide(r"(?:^|\s)(?i:default|machine[ \t]+\S{1,200})\s+(?:login|user)\s+\S{1,200}\s+password\s+(\S+)",
          clues=("(?i:default|machine)", f"password{_BREAK}")),
    _wide(r"(?:^|\n)[ \t]*(?:masterauth|requirepass|AUTH|ENV \w{0,60}(?:PASSWORD|SECRET|TOKEN|KEY))[ \t]+"
           rf"(?:\w+[ \t]+)?{_VALUE}", _accept_code, clues=(r"masterauth|requirepass|AUTH[ \t]|ENV ",)),
    _wide(rf"(?:requirepass|insecure-password|isakmp key)[ \t]+{_VALUE}",
          clues=("requirepass|insecure-password|isakmp key",)),
    _wide(r"ACL SETUSER [^\r\n]{0,200}?[ \t]>(\S+)", clues=("ACL SETUSER ",)),
    _wide(r"([^\s\"'`;|&<>]{8,}|\"[^\"\r\n]{4,64}\"|'[^'\r\n]{4,64}')"
           r"[ \t]+(?:is|as|ist)[ \t]+(?:the|my|your|our|mein|das)[ \t]+(?:new |root |admin )?(?i:passw"
           r"|passc|pin\b)",
           _accept_strong_or_quoted,
           r"[ \t](?:is|as|ist)[ \t]+(?:the|my|your|our|mein|das)[ \t]+(?:new |root |admin )?(?i:passw|passc"
           r"|pin)", (r"[ \t](?i:passw|passc|pin)",)),
    Family(r"\$(?:1|2[abxy]?|5|6|y|apr1|argon2\w{1,2})\$([\w./$=,+\-]{20,})",
           clues=(r"\$(?:1|2[abxy]?|5|6|y|apr1|argon2\w{1,2})\$",)),  # crypt
    Family(_JWT, None, r"eyJ[\w\-]+\.[\w\-]"),  # JSON Web Token
    Family(r"((?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w\-]{35})", None, r"A(?:KI|SI|Iz)[Aa][\w\-]{6}"),  # in a word
    Family(TOKENS, _accept_token, _TOKEN_GATE, True, (_TOKEN_CLUE,)),
    Family(_PREFIXED, _accept_prefixed, r"[_\-.][A-Za-z0-9]{14}", True, may_be=_is_joined),
    Family(rf"{EDGE}(?i:bearer)(?:\s|\\[nrt]|%20){{1,8}}([\w.~+/=\-]{{6,}})", _accept_bearer,
           clues=(r"(?i:bearer)(?:\s|\\[nrt]|%20)",)),
    Family(rf"{EDGE}(?i:basic)(?:\s|\\[nrt]|%20){{1,8}}([\w+/\-]{{6,}}=*)", _accept_basic,
           clues=(r"(?i:basic)(?:\s|\\[nrt]|%20)",)),
    Family(rf"{EDGE}(\d{{3}}-\d\d-\d{{4}}|[2-6]\d{{12,18}}|[2-6]\d{{3}}(?:[ \-]\d{{4}}){{3}}"
           rf"|3\d{{3}}[ \-]\d{{6}}[ \-]\d{{4,5}})", _accept_number,
           clues=(r"\d{12}|\d{4}[ \-]\d{4}|\d{3}-\d\d-\d{4}",)),
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
