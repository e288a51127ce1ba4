"""The hash chain of journal, seals and changes: a line ends with a digest of itself and of the line before.

A line is a JSON object whose last member is `chain`, so it ends in `,"chain":"<64 hex>"}`. The value is the
SHA-256 of two texts, one after the other: the chain value before it, as 64 ASCII digits, and the line without
that member, with its closing brace and without its newline. So a line cannot be edited, removed, moved or
brought from elsewhere without a break that shows where.

The first line of a writer follows `sha256("aegis journal <audit> <writer>")`; the first line of the writer's
next file follows the last line of the file before. The first seal follows `sha256("aegis seals <audit>")`,
and the first change of policy `sha256("aegis policies <audit>")`. `<audit>` is the id of the audit
(`audit.keys.audit_id`).

A write that fails does not advance the chain, and the child of a fork is a writer of its own. A chain value
is not a signature: whoever can write to the directory can compute one. The witness (`audit.verify.witness`)
and the signature of a seal (`audit.seals.signing`) answer that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

_MARK = b',"chain":"'
_END = b'"}'
_LINKED = _MARK + b"%b" + _END + b"\n"
_TAIL = len(_MARK) + 64 + len(_END)
_STATED = re.compile(rb',"chain":"([0-9a-f]{64})"\}\Z')


def journal_origin(audit: str, writer: str) -> str:
    """Return the chain value that the first line of a writer follows."""
    return sha256(f"aegis journal {audit} {writer}".encode()).hexdigest()


def seals_origin(audit: str) -> str:
    """Return the chain value that the first seal of an audit follows."""
    return sha256(f"aegis seals {audit}".encode()).hexdigest()


def changes_origin(audit: str) -> str:
    """Return the chain value that the first change of policy of an audit follows."""
    return sha256(f"aegis policies {audit}".encode()).hexdigest()


def link(previous: str, body: bytes) -> tuple[str, bytes]:
    """Return the chain value of `body`, a JSON object with at least one member, and its whole line."""
    value = sha256(previous.encode() + body).hexdigest()
    return value, body[:-1] + _LINKED % value.encode()


def check(previous: str, line: bytes) -> str | None:
    """Return the chain value of a line without its newline; None if the line does not follow `previous`."""
    value = sha256(previous.encode() + without_chain(line)).hexdigest()
    return value if line[-_TAIL:] == b"%b%b%b" % (_MARK, value.encode(), _END) else None


def follow(content: bytes, previous: str, start: int = 0) -> Iterator[tuple[bytes, str | None]]:
    """Yield each whole line of a file and the chain value after it.

    The first line that does not follow the line before it comes with None and is the last one.

    Args:
        content: The file.
        previous: The chain value before the first line.
        start: The byte at which that line begins.
    """
    chain: str | None = previous
    while chain is not None and (end := content.find(b"\n", start)) >= 0:
        line = content[start:end]
        chain = check(chain, line)
        yield line, chain
        start = end + 1


def without_chain(line: bytes) -> bytes:
    """Return the part of a line that its chain value is a digest of."""
    return line[:-_TAIL] + b"}"


def stated(line: bytes) -> str | None:
    """Return the chain value in a line, without checking it; None if the line has none."""
    match = _STATED.search(line)
    return match[1].decode() if match else None


def whole_part(content: bytes) -> bytes:
    """Return a file's content up to its last newline; the rest is a torn write."""
    return content[: content.rfind(b"\n") + 1]


def whole_lines(content: bytes) -> Iterator[bytes]:
    """Yield the whole lines of a file, without newlines."""
    yield from content.split(b"\n")[:-1]
