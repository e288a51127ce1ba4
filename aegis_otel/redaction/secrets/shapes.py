"""Private keys in PEM: from the header over lines of base64 and no others.

Secrets that are known by their own shape: tokens, card numbers, passwords in URLs.

One search of RE2 is linear; finding all matches is linear only if a match, once it has begun, takes what it
has read, and the rejected ones together are not much longer than the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import compile as compile_fixed  # on a few characters
from typing import Any, NamedTuple

import re2

from aegis_otel.redaction import masks
from aegis_otel.redaction.masks import Span, after_mask, bounded, is_command
from aegis_otel.redaction.secrets.likelihood import (
    accept_basic,
    accept_bearer,
    accept_code,
    accept_login,
    accept_number,
    accept_prefixed,
    accept_said,
    accept_strong,
    accept_strong_or_quoted,
    accept_token,
    accept_value,
)
from aegis_otel.redaction.secrets.names import NAME_CLUE, OPTIONS, SCRIPTS
from aegis_otel.redaction.secrets.vendor_rules import EDGE, fewer

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
        r"rzp_(?:live|test)_[A-Za-z0-9]{10,}|ATCTT3[\w\-=]{20,}|ATBB[A-Za-z0-9]{20,}",  # Razorpay, Atlassian
        r"HRKU-[0-9a-f\-]{30,}|(?:sdk|mob)-[0-9a-f]{8}-[0-9a-f\-]{20,}",  # Heroku, LaunchDarkly
        r"access_token\$(?:production|sandbox)\$[0-9a-z]{8,}\$[0-9a-f]{16,}",  # Braintree
        r"amzn\.mws\.[0-9a-f\-]{30,}|(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[\w+/=]{20,}",  # Amazon
        r"[0-9a-f]{32}-us\d{1,2}|oy2[a-z0-9]{43}|cio[A-Za-z0-9]{32}",  # Mailchimp, NuGet, crates.io
        r"gAAAAA[\w\-]{40,}={0,2}|AQE[a-z]hmfx[\w+/=]{40,}",  # Fernet, Adyen
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
# A prefix and a long random part: apify_api_..., lsv2_pt_...; see `accept_prefixed`.
_PREFIXED = r"[A-Za-z][A-Za-z0-9]{1,15}[_\-.~](?:[A-Za-z0-9]{1,10}[_\-.]){0,2}[A-Za-z0-9_\-]{20,}"
_LONG_PART = (
    "[_\\-.](?:"
    + "|".join(rf"[A-Za-z]{{{letters}}}[0-9][A-Za-z0-9]{{{max(0, 13 - letters)}}}" for letters in range(13))
    + "|[A-Za-z]{13,}[0-9])"
)
"""Fourteen letters and digits behind a sign, with at least one digit: no random part is without."""
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


class Family(NamedTuple):
    """The secret is the first group of the pattern that has matched, if `accept` says so."""

    source: str
    accept: Callable[[bytes, int, int], bool] | None = None
    gate: str = ""
    """A pattern with fewer states, found wherever `source` is."""
    whole: bool = False
    """Whether the secret is all that matches, where a token can begin: no group is found as quickly."""
    clues: tuple[str, ...] = ()
    """Patterns that `text.Engine` searches before the gate; without any, it searches the gate first."""
    may_be: Callable[[bytes], bool] | None = None
    """A check before the gate that returns False only for texts without the gate."""
    within: str = ""
    """The class of all bytes of a match and of its gate. It is set where `source` has very many states, so
    that it is searched only around a gate."""


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
    *,
    within: str = "",
) -> Family:
    return Family(source, accept, gate or unbounded(source), clues=clues, may_be=may_be, within=within)


_before_at = re2.compile(rb"[:/][^\s/@\"'<>|;&`]*@", OPTIONS)


def _is_before_at(data: bytes) -> bool:
    """Whether a word with a colon or a slash in it goes on to an at sign."""
    return _before_at.search(data) is not None


_ALNUM = bytes.maketrans(b"".join(bytes((n,)) for n in range(256) if bytes((n,)).isalnum()), b"a" * 62)


def _has_a_run(data: bytes) -> bool:
    """Whether there are a digit, and enough letters and digits in a row for what stands behind a prefix."""
    return any(digit in data for digit in b"0123456789") and b"a" * 14 in data.translate(_ALNUM)


_BREAK = r"(?:\s|\\[nrt])"


FAMILIES = (
    Family(r"://[^\s/:@\"'<>]*:([^\s/\"'<>]+|[^\s@/\"'<>]*[^\s@/\"'<>0-9][^\s@/\"'<>]*/[^\s@\"'<>]*)@",
           clues=("://", "@")),
    Family(r"://([\w\-]{20,})@", clues=("://", "@")),
    Family(r"(?:hooks\.slack\.com/[a-z]+/|discord(?:app)?\.com/api/webhooks/\d+/)([\w\-/]+)",
           clues=(r"hooks\.slack\.com/|\.com/api/webhooks/",)),
    Family(
        r"(?:mysql|mysqldump|mysqladmin|mysqlimport|mysqlsh|mariadb|mariadb-dump|mariadb-admin) "
        rf"(?:[^\n|;&]*? )?-p ?{_VALUE}",
        accept_value,
        clues=("mysql|mariadb", "-p"),
    ),
    Family(
        r"(?:sshpass|(?:docker|podman|az|oc) login|mongo\w*|cqlsh|arangosh|influx|plink|pscp|htpasswd) "
        rf"(?:[^\n|;&]*? )?-(?:p|pw) ?{_VALUE}",
        accept_value,
        clues=("sshpass|(?:docker|podman|az|oc) login|mongo|cqlsh|arangosh|influx|plink|pscp|htpasswd", "-p"),
    ),
    Family(rf"redis-cli (?:[^\n|;&]*? )?(?:-a|--pass) {_VALUE}", accept_value, clues=("redis-cli ",)),
    Family(r"curl [^\n|;&]*?(?:-u|--user|-U|--proxy-user)[ =]?\\?[\"']?[^\s:\"']+:([^\s\"']+)",
           clues=("curl ",)),
    Family(rf"[ \t]-(?:p|P|w|a|W|pw|pass)[ \t=]{{1,4}}{_VALUE}", accept_strong,
           clues=(r"[ \t]-(?:[pPwaW]|pw|pass)[ \t=]",)),
    Family(r"[ \t](?:-u|-U|--user|--creds)[ \t=]{1,4}\\?[\"']?[^\s:%,\"']{1,80}[:%,]([^\s\"';|&`<>]+)",
           accept_strong, clues=(r"[ \t](?:-u|-U|--user|--creds)[ \t=]",)),
    Family(r"pass(?:in|out)?[ \t]+\\?[\"']?pass:([^\s\"';|&`<>]+)", clues=("pass:",)),
    Family(r"(?i:password[ \t]{1,4}|(?:login|user(?:name)?)[ \t]+\S{1,80}[ \t]+pass(?:w(?:or)?d)?[ \t]+)"
           rf"{_VALUE}",
           accept_strong, r"(?i:pass(?:word|wd)?)[ \t]+\\?[\"']?[^\s'\"]*[0-9]",
           ),
    Family(r":54\d\d:[\w\-*.]{1,64}:[\w\-*.]{1,64}:([^\s\"':;|&`<>]{4,})", clues=(r":54\d\d:",)),  # .pgpass
    Family(r"(?:oracle:thin:|sqlplus(?: -\S+)* )[\w$.\-]{1,64}/([^\s\"'@]+)@",
           clues=("oracle:thin:|sqlplus", "@")),
    _wide(rf"(?i:(?:log_?in|sign_?in|authenticate|auth|basic_?auth|http_?(?:basic|digest)_?auth"
          rf"|[a-z]{{0,40}}credentials?)"
           rf"\]?(?:::new|\.new|\.of)?[ \t]*(?:=[ \t]*)?[(\[])[ \t]*[^()\[\],\r\n]{{1,200}},"
           rf"[ \t]*{_LITERAL}",
          clues=(r"(?i:(?:log_?in|sign_?in|auth|authenticate|credentials?)\]?(?:::new|\.new|\.of)?)"
                 r"[ \t]*(?:=[ \t]*)?[(\[][^()\[\],\r\n]+,[ \t]*[bBrRuU@$]*\\*[\"']",)),
    _wide(r"(?:(?i:mysqli?_connect|new (?:mysqli|pdo)|getconnection))"
           r"\((?:[^(),\r\n]{1,200},[ \t]*){2}" + _LITERAL,
          clues=("(?i:mysqli?_connect|new (?:mysqli|pdo)|getconnection)",)),
    _wide(rf"(?:bcrypt\.hashpw|generate_password_hash|make_password|hash_password"
          rf"|password_hash)\([ \t]*{_LITERAL}",
          clues=(r"bcrypt\.hashpw|generate_password_hash|(?:make|hash)_password|password_hash",)),
    _wide(r"(?i:credentials?|creds|login|zugangsdaten)[ \t]*[:=][ \t]*[^\s/|,]{1,64}[ \t]*/[ \t]*"
           r"([^\s\"'`;|&<>]+)",
          accept_code, clues=(r"(?i:credentials?|creds|login|zugangsdaten)[ \t]*[:=]",)),
    _wide(r"(?:^|\n)[ \t]*\|[ \t]*[*_]{0,2}(?i:[\w .\-]{0,40}(?:passw(?:or)?d|passphrase|secret|token"
           r"|api[ _\-]?key)[\w .\-]{0,20})[*_]{0,2}[ \t]*\|[ \t]*[*_]{0,2}([^\s|;&`$<>*]+)[*_]{0,2}[ \t]*\|",
          accept_code, clues=(NAME_CLUE, r"\|")),  # a table in Markdown
    _wide(rf"ConvertTo-SecureString[ \t]+(?:-String[ \t]+)?{_VALUE}", accept_value,
          clues=("ConvertTo-SecureString",)),
    _wide(rf"(?:echo|printf){_BLANKS}(?:-\w{_BLANKS})*(?:[\"']%s(?:\\n)?[\"']{_BLANKS})?"
           rf"\\?[\"']?[\w.\-]{{1,64}}:([^\s\"'|;&`<>]+)\\?[\"']?[ \t]*\|[ \t]*(?:sudo[ \t]+)?chpasswd",
          clues=("chpasswd",)),
    _wide(rf"(?:echo|printf){_BLANKS}(?:-\w{_BLANKS})*(?:[\"']%s(?:\\n)?[\"']{_BLANKS})?{_VALUE}"
           rf"[ \t]*\|[ \t]*(?:\w+=\S*[ \t]+)*(?:{_READERS})", accept_value,
          clues=(r"(?:echo|printf)[ \t]",)),
    _wide(rf"(?:sudo[^\n|;&]{{0,200}} -S|chpasswd|passwd|kinit|--password-stdin|--passphrase-fd 0)"
           rf"[^\n|;&<]{{0,200}}<<<[ \t]*{_VALUE}", accept_value, clues=("<<<",)),
    _wide(r"(?i:assword:[^\r\n]{0,40}(?:\r?\n|[;{])[ \t]*(?:send|sendline|exp_send)[ \t(]+(?:--[ \t]+)?)"
           r"\\?[\"']([^\"'\r\n\\]+)", clues=("(?i:assword:)",)),
    _wide(r"(?:" + _SCRIPTS_SAID + r")[\x80-\xff]{0,18}?"
           r"(?:\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xe3\x81\xaf|\xe3\x81\x8c|\xec\x9d[\x80\xb4]"
           r"|\xeb\x8a\x94"
           r"|\xef\xbc[\x9a\x9d])[ \t]?([!-~]{4,})", accept_said, clues=(r"[\x80-\xff]",)),
    _wide(r"(?:^|[\s=\"'(])(?:(?i:[\w]{0,20}proxy)[=: ][\"']?)?[^\s:/@\"'=]{1,64}:"
           r"([^\s/@\"'<>|;&`:]{4,})@[\w.\-]+",
           accept_login, clues=("@",), may_be=_is_before_at),
    _wide(r"(?:^|[\s=\"'(])[\w$.]{1,64}/([^\s/@\"'<>|;&`]{6,})@[\w.\-]+", accept_strong,
          clues=("@",), may_be=_is_before_at),
    _wide(r"(?i:connect)[ \t]+[\w$]{1,64}/([^\s/@\"'<>|;&`]+)@[\w.\-]+",
          clues=(r"(?i:connect)[ \t]+[\w$]+/",), may_be=_is_before_at),
    _wide(r"(?:^|\s)(?i:default|machine[ \t]+\S{1,200})\s+(?:login|user)\s+\S{1,200}\s+password\s+(\S+)",
          clues=(rf"(?i:default|machine[ \t]+\S+){_BREAK}+(?:login|user){_BREAK}",)),
    _wide(r"(?:^|\n)[ \t]*(?:masterauth|requirepass|AUTH|ENV \w{0,60}(?:PASSWORD|SECRET|TOKEN|KEY))[ \t]+"
           rf"(?:\w+[ \t]+)?{_VALUE}", accept_code,
          clues=(r"(?:^|\n|\\n|\")[ \t]*(?:masterauth|requirepass|AUTH|ENV \w*(?:PASSWORD|SECRET|TOKEN|KEY))"
                 r"[ \t]",)),
    _wide(rf"(?:requirepass|insecure-password|isakmp key)[ \t]+{_VALUE}",
          clues=("requirepass|insecure-password|isakmp key",)),
    _wide(r"ACL SETUSER [^\r\n]{0,200}?[ \t]>(\S+)", clues=("ACL SETUSER ",)),
    _wide(r"([^\s\"'`;|&<>]{8,}|\"[^\"\r\n]{4,64}\"|'[^'\r\n]{4,64}')"
           r"[ \t]+(?:is|as|ist)[ \t]+(?:the|my|your|our|mein|das)[ \t]+(?:new |root |admin )?(?i:passw"
           r"|passc|pin\b)",
           accept_strong_or_quoted,
           r"[ \t](?:is|as|ist)[ \t]+(?:the|my|your|our|mein|das)[ \t]+(?:new |root |admin )?(?i:passw|passc"
           r"|pin)", within=r"[^\r\n]"),
    Family(r"\$(?:1|2[abxy]?|5|6|y|apr1|argon2\w{1,2})\$([\w./$=,+\-]{20,})",
           clues=(r"\$(?:1|2[abxy]?|5|6|y|apr1|argon2\w{1,2})\$",)),  # crypt
    Family(_JWT, None, r"eyJ[\w\-]+\.[\w\-]"),  # JSON Web Token
    Family(r"((?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w\-]{35})", None, r"A(?:KI|SI|Iz)[Aa][\w\-]{6}"),  # in a word
    Family(TOKENS, accept_token, _TOKEN_GATE, True, (_TOKEN_CLUE,)),
    Family(_PREFIXED, accept_prefixed, _LONG_PART, True, (r"[_\-.][A-Za-z0-9]{3}",), _has_a_run,
           r"[\w\-.~]"),
    Family(rf"{EDGE}(?i:bearer)(?:\s|\\[nrt]|%20){{1,8}}([\w.~+/=\-]{{6,}})", accept_bearer,
           clues=(r"(?i:bearer)(?:\s|\\[nrt]|%20)",)),
    Family(rf"{EDGE}(?i:basic)(?:\s|\\[nrt]|%20){{1,8}}([\w+/\-]{{6,}}=*)", accept_basic,
           clues=(r"(?i:basic)(?:\s|\\[nrt]|%20)",)),
    Family(rf"{EDGE}(\d{{3}}-\d\d-\d{{4}}|[2-6]\d{{12,18}}|[2-6]\d{{3}}(?:[ \-]\d{{4}}){{3}}"
           rf"|3\d{{3}}[ \-]\d{{6}}[ \-]\d{{4,5}})", accept_number,
           clues=(r"\d{12}|\d{4}[ \-]\d{4}|\d{3}-\d\d-\d{4}",)),
)  # fmt: skip


_escape = compile_fixed(rb"\\(?:[abfnrtv]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})$")


def can_begin(data: bytes, at: int) -> bool:
    """Whether a token can begin here: see `EDGE`."""
    if data[at - 1 : at] == b"\\" and data[at] in b"abfnrtv" and at > 0:  # the letter of an escape
        return False
    return at == 0 or not data[at - 1 : at].isalnum() or _escape.search(data[max(0, at - 6) : at]) is not None


_REJECTED = 1 << 20
"""Bytes, and four times a text's length, of matches that were no secrets. Only a word that has the beginnings
of thousands of tokens in it gets there: what is left of it is hidden, so that it takes no quadratic time."""


class _Around:
    """Finds the places around the gate of a family, which reach as far as bytes of a kind."""

    def __init__(self, gate: str, within: str) -> None:
        self._gate = re2.compile(gate.encode(), OPTIONS)
        self._rest = re2.compile(f"{within}*".encode(), OPTIONS)
        self._within = bytes(byte for byte in range(256) if self._rest.match(bytes((byte,))).end())

    def places(self, data: bytes) -> Iterator[Span]:
        """Yield them in order, and apart."""
        at = 0
        while (gate := self._gate.search(data, at)) is not None:
            begin = at + len(data[at : gate.start()].rstrip(self._within))
            at = self._rest.match(data, gate.end()).end()
            yield begin, at


class FamilyFinder:
    """One family at work."""

    def __init__(self, family: Family) -> None:
        self._compiled = re2.compile(family.source.encode(), OPTIONS)
        self._accept = family.accept
        self._whole = family.whole
        self._around = _Around(family.gate, family.within) if family.within else None

    def __call__(self, data: bytes) -> list[Span]:
        spans: list[Span] = []
        rejected = 0  # bytes of matches, which may overlap
        most = _REJECTED + 4 * len(data)
        for begin, limit in [(0, len(data))] if self._around is None else self._around.places(data):
            at = begin
            while (found := self._compiled.search(data, at, limit)) is not None:
                masks.spend()
                start, end = self._secret(found)
                if after_mask(data, start) == start and (
                    self._is_secret(data, start, end) or rejected > most
                ):
                    spans += bounded(data, start, end)
                    at = max(end, at + 1)
                else:
                    at = max(start + 1, at + 1)
                    rejected += end - start
        return spans

    def _is_secret(self, data: bytes, start: int, end: int) -> bool:
        if self._whole and not can_begin(data, start):
            return False
        return self._accept is None or self._accept(data, start, end)

    def _secret(self, found: Any) -> Span:
        if self._whole:
            start, end = found.span()
            return start, end
        group = next(n for n in range(1, self._compiled.groups + 1) if found.end(n) > found.start(n))
        start, end = found.span(group)
        return start, end


_GAP = r"(?:\s|\\+[nrt])+"  # also as an escape inside a repr or JSON
PEM = (
    r"-----BEGIN (?:[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?|OpenVPN Static key V1)-----|Private-Lines: \d{1,4}"
)
_pem = re2.compile(PEM.encode(), OPTIONS)
_HEADER = r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): [^\r\n\\;|&`$\"'<>]{0,100}"
_body = re2.compile(
    rf"(?:{_GAP}(?:{_HEADER}|[A-Za-z0-9+/]{{16,}}={{0,2}}))*(?:{_GAP}([A-Za-z0-9+/]{{1,15}}={{0,2}}))?"
    rf"(?:{_GAP}=[A-Za-z0-9+/]{{4}})?"
    r"(?:(?:\s|\\+[nrt])*(-----END (?:[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"
    r"|OpenVPN Static key V1)-----))?".encode(),
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
