"""What a mask covers: never what a shell would run as another command, and never more than a bound.

Text is bytes here, and a span is a pair of offsets into it. Whoever writes an argument also writes what
stands around a secret in it. So a span ends where a shell would end the command, unless a quote of the same
line, which a shell reads as one too, holds that together.
"""

from __future__ import annotations

from collections.abc import Iterable
from re import compile as compile_fixed  # on slices of bounded length

import re2

from aegis_otel.redaction.names import OPTIONS

Span = tuple[int, int]

REDACTED = "[REDACTED]"
"""In place of what could not be worked through; every other mask says how much it hides."""
MASKED = r"\[REDACTED(?: (?:object |list )?\d{1,9} chars)?\]"
"""A pattern for what stands in place of a secret, a text or a structure."""
LONGEST = 1_024
"""Bytes of a quoted or bracketed value with blanks that are hidden; a value of one word has no bound."""

_mask = re2.compile(MASKED.encode(), OPTIONS)
_boundary = re2.compile(rb"[\r\n;|&`]|\$\(", OPTIONS)
_shell = re2.compile(rb"[\s=$/\\{}()<>]", OPTIONS)  # in a word: a path, a variable or an assignment
_blank = re2.compile(rb"\s", OPTIONS)
_quotes = compile_fixed(rb"\\.|['\"]")
_LOOK_BACK = 4_096  # bytes of a line before a value, to see which quote is open

_COMMANDS = frozenset(
    b"ls rm mv cp sh bash zsh dash ksh csh fish su sudo id env set who w whoami ps top kill killall"
    b" pkill reboot halt poweroff shutdown init logout exit exec eval source nc ncat curl wget python"
    b" python3 perl ruby node php java go make gcc cc git ssh scp sftp ftp telnet docker podman"
    b" kubectl helm systemctl service crontab at batch chmod chown chgrp mkfs fdisk dd mount umount df"
    b" du free uname hostname ifconfig ip iptables netstat ss lsof find grep sed awk xargs tee cat tac"
    b" more less head tail sort uniq cut tr wc date cal echo printf read test true false sleep yes"
    b" watch time nohup screen tmux vi vim nano emacs ed tar gzip gunzip zip unzip apt yum dnf pip"
    b" pip3 npm npx yarn brew history alias export unset jobs fg bg wait trap pwd mkdir rmdir touch ln"
    b" stat file which whereis locate passwd useradd userdel usermod groupadd visudo last lastlog"
    b" dmesg journalctl sync lsblk blkid modprobe insmod rmmod sysctl nmap tcpdump socat base64"
    b" openssl gpg mysql psql redis-cli mongo sqlite3 aws gcloud az terraform ansible vagrant cmd"
    b" powershell pwsh del format dir type".split()
)


def is_mask(data: bytes) -> bool:
    """Whether `data` is a mask and nothing else."""
    return _mask.fullmatch(data) is not None


def after_mask(data: bytes, at: int) -> int:
    """Where the mask at `at` ends; `at` where there is none."""
    found = _mask.match(data, at) if data.startswith(b"[REDACTED", at) else None
    return at if found is None else found.end()


def is_command(word: bytes) -> bool:
    """Whether a shell that meets this word alone would plausibly run something."""
    return word.lower() in _COMMANDS or word[:1] in (b"/", b".", b"~", b"$", b"(", b"{", b"\\", b"<", b">")


def clip(data: bytes, start: int, end: int) -> list[Span]:
    """The parts of a value that are hidden: all of it, or what a command boundary in it leaves.

    Beyond a boundary only one word without blanks, which is no command, still belongs to the value.
    """
    if _boundary.search(data, start, end) is None or _held_together(data, start, end):
        return [(start, end)]
    parts: list[Span] = []
    at = start
    while at < end:
        found = _boundary.search(data, at, end)
        stop = end if found is None else found.start()
        if parts or at > start:
            word = data[at:stop]
            ended = found is not None or data[end : end + 1] not in (b" ", b"\t")
            runs = is_command(word) or _shell.search(word) is not None
            if word and (not ended or runs or data[at - 1 : at] != b";"):
                break
        if at < stop:
            parts.append((at, stop))
        if found is None or found.group() in (b"`", b"$(", b"\n", b"\r"):
            break
        at = found.end()
    return parts


def bounded(data: bytes, start: int, end: int) -> list[Span]:
    """`clip`, and at most `LONGEST` bytes where the value is more than one word."""
    if end - start > LONGEST and _blank.search(data, start, end) is not None:
        end = start + LONGEST
    return clip(data, start, end)


def _held_together(data: bytes, start: int, end: int) -> bool:
    """Whether a quote that a shell reads as one is open over all of the span and closes on its line."""
    if end - start > LONGEST or data.find(b"\n", start, end) >= 0 or data.find(b"\r", start, end) >= 0:
        return False
    begin = data.rfind(b"\n", max(0, start - _LOOK_BACK), start) + 1
    if begin == 0 and start > _LOOK_BACK:
        return False
    quote = b""
    for token in _quotes.findall(data[begin:start]):
        if token == quote:
            quote = b""
        elif not quote and len(token) == 1:
            quote = token
        elif quote == b"'" and token.endswith(b"'"):  # a backslash means nothing between single quotes
            quote = b""
    if not quote or quote in data[start:end].replace(b'\\"', b""):
        return False
    if quote == b'"' and (b"`" in data[start:end] or b"$(" in data[start:end]):
        return False
    line_end = data.find(b"\n", end)
    return data.find(quote, end, len(data) if line_end < 0 else line_end) >= 0


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those that overlap as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def without_substitutions(data: bytes, spans: list[Span]) -> list[Span]:
    """Leave what a shell would substitute out of spans, whatever found them. They must be in order."""
    if b"`" not in data and b"$(" not in data:
        return spans
    parts: list[Span] = []
    for start, end in spans:
        hidden = data[start:end]
        parts += clip(data, start, end) if b"`" in hidden or b"$(" in hidden else [(start, end)]
    return parts


def cover(data: bytes, spans: list[Span]) -> bytes:
    """`data` with a mask, which says how much it hides, in place of each span. They must be in order."""
    parts: list[bytes] = []
    done = 0
    for start, end in spans:
        hidden = data[start:end]
        size = end - start if hidden.isascii() else len(hidden.decode("utf-8", "replace"))
        parts += (data[done:start], b"[REDACTED %d chars]" % size)
        done = end
    return b"".join((*parts, data[done:]))
