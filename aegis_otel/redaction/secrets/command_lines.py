"""Secrets in the arguments of well-known programs: `7z -px`, `sshpass -p x`, `net user ann x`.

A row of a table names programs and the pattern of what is secret behind them. The words of a list of
arguments (`["mysql", "-px"]`) are looked at as the command line that they make.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import re2

from aegis_otel.redaction.masks import Masked, Span, after_mask, bounded
from aegis_otel.redaction.secrets.names import OPTIONS
from aegis_otel.redaction.secrets.shapes import unbounded

_GAP = r"(?:[ \t]+|\\?[\"'],[ \t]*\\?[\"'])"
"""Between two words of a command line, or of a list in JSON."""
VALUE = r"(?:\\?\"([^\"\\\r\n]+)\\?\"|'([^'\r\n]+)'|([^\s\"';|&`<>]+))"
_WORD = r"[^\s\"';|&`<>]+"
_LONGEST_VALUE = 1_024
_MOST_WORDS = 1_000
"""Words of a list that are looked at as a command line."""


class _Use(NamedTuple):
    programs: str
    secret: str
    """The pattern behind the program's name; its first group that matches is the secret."""
    needs: bytes = b""
    """What else has to be in the command."""
    most: int = 16
    """How many secrets a command has at most."""


def _next(flags: str) -> str:
    return rf"{_GAP}(?:{flags})(?:{_GAP}|=){VALUE}"


def _glued(flags: str) -> str:
    return rf"{_GAP}(?:{flags})(?:{_GAP}|=)?{VALUE}"


_ARG = rf"{_GAP}[^\s\"';|&`<>\-]{_WORD[:-1]}*"
_FLAGS = rf"(?:{_GAP}-{_WORD})*"
_SETTING = rf"{_GAP}[\"']?[A-Za-z_][\w.\-]*={VALUE}"

_LOGINS = "docker|podman|nerdctl|buildah|skopeo|crane|helm|oc|az"
_USERS = "curl|smbclient|lftp|winexe|rpcclient|smbget"
_OPTIONS = (  # programs that take a secret behind a flag
    _Use(
        r"mysql|mysqldump|mysqladmin|mysqlimport|mysqlsh|mysqlcheck|mycli|mariadb(?:-\w{1,16})?", _glued("-p")
    ),
    _Use("sshpass", _glued("-p"), most=1),
    _Use(_LOGINS, _glued("-p"), b"login"),
    _Use(
        r"mongo\w{0,16}|cqlsh|arangosh|influx|beeline|psexec(?:64)?|rdesktop|crackmapexec|netexec|nxc"
        r"|evil-winrm"
        r"|twine|yt-dlp|youtube-dl|rabbitmqadmin|ncftp\w{0,8}|hdbsql|fence_\w{1,16}|racadm|usermod|useradd"
        r"|hydra",
        _next("-p"),
    ),
    _Use("plink|pscp|psftp|putty|nzsql", _next("-pw")),
    _Use("redis-cli|valkey-cli", _next("-a|--pass")),
    _Use("openssl", rf"{_next('-k|-K')}|{_GAP}passwd{_FLAGS}{_GAP}{VALUE}"),
    _Use("7z[azr]?|rar|unrar", rf"{_GAP}-h?p{VALUE}"),
    _Use(r"zip|unzip|zipcloak|sqlcmd|bcp|osql|isql|tsql|ipmitool|mosquitto_\w{3}|p4", _next("-P")),
    _Use(r"ldap(?:search|modify|add|delete|whoami|compare|modrdn)", _next("-w")),
    _Use("ldappasswd", _next("-w|-s|-a")),
    _Use(r"snmp\w{2,12}", _next("-A|-X")),
    _Use(r"[xw]?freerdp3?|mstsc", rf"{_GAP}/g?p:{VALUE}"),
    _Use("schtasks", _next("/rp")),
    _Use("security", _next("-w|-p|-P"), b"-"),
    _Use(
        _USERS,
        rf"{_GAP}(?:-u|--user|-U|--proxy-user)(?:{_GAP}|=)?\\?[\"']?[^\s:%,\"']{{1,80}}[:%,]([^\s\"';|&`<>]+)",
    ),
    _Use("swaks", _next("-ap")),
    _Use("dotnet|nuget|gem", _next("-k|-ApiKey|--api-key"), b"push"),
    _Use("gh|glab", _next("-b|--body"), b"secret"),
    _Use("aws", _next("--value"), b"SecureString"),
    _Use("az", _next("--value"), b"secret"),
    _Use("https?|xh", rf"{_GAP}(?:-a|--auth)(?:{_GAP}|=)[^\s:\"']{{1,80}}:([^\s\"']+)"),
    _Use("kubectl|oc", rf"--from-literal(?:=|{_GAP})[\"']?[\w.\-]+={VALUE}", b"secret"),
)
_PLACES = (  # and programs that take it at a place of its own
    _Use("htpasswd|mosquitto_passwd", rf"{_GAP}-[acdpBsDv]*b[acdpBsDv]*{_FLAGS}{_ARG}{_ARG}{_GAP}{VALUE}"),
    _Use("htpasswd", rf"{_GAP}-(?:\w*nb|\w*bn)\w*{_FLAGS}{_ARG}{_GAP}{VALUE}"),
    _Use("vault", rf"{_GAP}(?:login|operator{_GAP}unseal){_FLAGS}{_GAP}(?:token=)?{VALUE}"),
    _Use("vault", _SETTING, b"kv p"),
    _Use("fly|flyctl|doppler|supabase", _SETTING, b"secrets set"),
    _Use(r"net1?", rf"{_GAP}user{_ARG}{_GAP}{VALUE}", most=1),
    _Use(r"net1?", rf"{_GAP}use(?:{_ARG}){{1,2}}{_GAP}{VALUE}{_GAP}/user:"
        rf"|/user:{_WORD}{_GAP}{VALUE}", b"use"),
    _Use("wpa_passphrase", rf"{_ARG}{_GAP}{VALUE}", most=1),
    _Use("rabbitmqctl", rf"{_GAP}(?:add_user|change_password|authenticate_user){_ARG}{_GAP}{VALUE}"),
    _Use("ngrok|cargo", rf"{_GAP}(?:(?:config{_GAP})?(?:add-)?authtoken|login){_FLAGS}{_GAP}{VALUE}"),
    _Use("poetry|composer", rf"{_GAP}http-basic\.\S+{_ARG}{_GAP}{VALUE}"),
    _Use("poetry|composer", rf"{_GAP}(?:pypi-token|[a-z]+-(?:oauth|token))\.\S+{_GAP}{VALUE}"),
    _Use("sqlplus|expdp|impdp|sqlldr", rf"{_FLAGS}{_GAP}(?:userid=)?[\w$]{{1,64}}/([^\s\"'@;|&`<>]+)"),
    _Use("iwconfig", rf"{_GAP}key{_GAP}s:{VALUE}"),
    _Use("mkpasswd", rf"{_FLAGS}{_GAP}{VALUE}", most=1),
    _Use("rclone|bw", rf"{_GAP}(?:obscure|unlock){_FLAGS}{_GAP}{VALUE}"),
    _Use("networksetup", rf"{_GAP}-setairportnetwork{_ARG}{_ARG}{_GAP}{VALUE}"),
)  # fmt: skip


def _named(uses: Sequence[_Use]) -> str:
    return "|".join(use.programs for use in uses)


_BEFORE = r"(?:^|[^A-Za-z0-9_\-.])"
_AFTER = r"(?:\.exe)?(?:[ \t]|\\?[\"'],)"
_FLAGGED = _named([use for use in _OPTIONS if use.programs not in (_LOGINS, _USERS)])
GATE = unbounded(
    rf"{_BEFORE}(?:(?:{_FLAGGED}){_AFTER}(?:[^\r\n]*?[ \t\"'])?(?:-{{1,2}}[pPwWaAkKsXhbvf]|/g?p:|/rp|passwd)"
    rf"|(?:{_USERS}){_AFTER}(?:[^\r\n]*?[ \t\"'])?-{{1,2}}[uUp]|(?:{_LOGINS}){_AFTER}[^\r\n]*?login"
    rf"|(?:htpasswd|mosquitto_passwd|wpa_passphrase|rabbitmqctl|sqlplus|expdp|impdp|sqlldr|mkpasswd){_AFTER}"
    rf"|net1?(?:\.exe)?{_GAP}user?{_GAP}|vault{_GAP}(?:login|operator|kv{_GAP}p)|networksetup{_AFTER}"
    rf"|(?:rclone|bw){_GAP}(?:obscure|unlock)"
    rf"|(?:fly|flyctl|doppler|supabase){_GAP}secrets|(?:ngrok|cargo){_GAP}(?:login|authtoken|config)"
    rf"|iwconfig{_AFTER}"
    rf"|(?:poetry|composer){_GAP}config)"
)
"""A pattern found wherever one of the programs is called with what may be a secret."""
_PROGRAM = rf"{_BEFORE}({_named(_OPTIONS)}|{_named(_PLACES)}){_AFTER}"
CLUE = unbounded(_PROGRAM)
"""A pattern for the name of one of the programs, in a text or in JSON."""
_program = re2.compile(_PROGRAM.encode(), OPTIONS)
_uses = [
    (re2.compile(use.programs.encode(), OPTIONS), re2.compile(use.secret.encode(), OPTIONS), use)
    for use in (*_OPTIONS, *_PLACES)
]


@lru_cache(maxsize=256)
def _uses_of(program: bytes) -> tuple[tuple[Any, _Use], ...]:
    return tuple((secret, use) for names, secret, use in _uses if names.fullmatch(program) is not None)


_called = re2.compile(GATE.encode(), OPTIONS)
_end_of_command = re2.compile(rb"[\r\n;|&]", OPTIONS)


def command_secrets(data: bytes) -> list[Span]:
    """Return the secrets in command lines."""
    spans: list[Span] = []
    at = 0
    while (called := _called.search(data, at)) is not None:
        line = data.find(b"\n", called.end())
        line = len(data) if line < 0 else line
        at = called.start()
        while (found := _program.search(data, at, line)) is not None:
            stop = _end_of_command.search(data, found.end(1), line)
            end = line if stop is None else stop.start()
            spans += _in_command(data, found, end)
            at = max(end, found.end(1))
        at = line
    return spans


def _in_command(data: bytes, first: Any, end: int) -> list[Span]:
    """Look once for each program that is named in the command, behind the first place where it is."""
    places: dict[bytes, int] = {first.group(1): first.end(1)}
    at = first.end(1)
    while (found := _program.search(data, at, end)) is not None:
        at = found.end(1)
        places.setdefault(found.group(1), at)
    spans: list[Span] = []
    for program, behind in places.items():
        for secret, use in _uses_of(program):
            if not use.needs or use.needs in data[behind:end]:
                spans += _matches(data, secret, behind, end, use.most)
    return spans


def _matches(data: bytes, secret: Any, at: int, end: int, most: int) -> list[Span]:
    """Return the secrets of one program; a quoted value may go on behind what ends a command."""
    line = data.find(b"\n", end, end + _LONGEST_VALUE)
    limit = end if data[end : end + 1] in (b"", b"\n", b"\r") else line if line >= 0 else end + _LONGEST_VALUE
    spans: list[Span] = []
    for _ in range(most):
        found = secret.search(data, at, limit)
        if found is None or found.start() >= end:
            break
        group = next(n for n in range(1, secret.groups + 1) if found.end(n) > found.start(n))
        start, stop = found.span(group)
        if data[start : start + 1] not in (b"-", b"$", b"*", b"/") and after_mask(data, start) == start:
            spans += bounded(data, start, stop)
        at = max(stop, at + 1)
    return spans


_blank = bytes.maketrans(b" \t\r\n\"'", b"\1\1\1\1\1\1")


def hide_arguments(words: list[str]) -> list[str]:
    """Return a list of arguments without the secrets that it has as a command line."""
    if len(words) > _MOST_WORDS:
        return words
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    line = b" ".join(word.translate(_blank) or b"\1" for word in encoded)
    spans = command_secrets(line)
    if not spans:
        return words
    hidden: list[str] = []
    at = 0
    for word, data in zip(words, encoded, strict=True):
        end = at + max(len(data), 1)
        inner = [
            part
            for start, stop in spans
            if at <= start < end and after_mask(data, start - at) == start - at
            for part in bounded(data, start - at, min(stop, end) - at)
        ]
        hidden.append(Masked(data, inner).text.decode("utf-8", "surrogatepass") if inner else word)
        at = end + 1
    return hidden
