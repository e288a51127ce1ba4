"""The folder `policies/`: the text of each policy that was in force, and the log of changes of policy.

    <64 hex digits>.yaml    the text of the policy with this digest; made once, and never changed
    changes.jsonl           one chained line for each change, append only, of all processes together

Changes are few, so the processes share one file and its lock, and no line of it is among those of calls:
whatever counts calls does not see it. A seal has the number of its lines and the last chain value. A line
with a digest has the SHA-256 of the policy's text as well, so the seal vouches for the text, too.

A text is not redacted: it has the values of conditions as somebody wrote them into the policy.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.location import POLICIES, audit_errors, prepare
from aegis_otel.audit.record import cut_text
from aegis_otel.audit.seals.hash_chain import (
    changes_origin,
    follow,
    link,
    stated,
    whole_lines,
    without_chain,
)
from aegis_otel.audit.seals.seal_log import SealedChanges
from aegis_otel.errors import AuditError

CHANGES = f"{POLICIES}/changes.jsonl"
TEXT_FILE = re.compile(r"([0-9a-f]{64})\.yaml", re.ASCII)
TEXT_BYTES = 16 << 20
"""The most bytes of a policy's text: its 4 Mi characters have at most four bytes each."""
_LINE_BYTES = 256 << 10
PATIENCE_S = 1.0
"""Seconds to wait for the lock where nobody waits for a call. A process holds it for one line."""


class Meaning(NamedTuple):
    """A column of `policy_changes`; it annotates the member of `PolicyChange` that the column shows."""

    meaning: str
    sql_type: str = "VARCHAR"


class PolicyChange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the log. Every text in it is redacted."""

    change: Annotated[
        Literal["started", "reloaded", "refused", "stopped", "ungoverned"],
        Meaning(
            "`started`, `reloaded`, `refused` (changed files that were not taken), `stopped` "
            "(`uninstrument`) or `ungoverned` (a tool that cannot be governed)"
        ),
    ]
    timestamp: Annotated[str, Meaning("the time of the change (UTC)", "TIMESTAMPTZ")]
    session_id: Annotated[str | None, Meaning("the session of the `Runtime`")] = None
    mode: Annotated[str | None, Meaning("enforce or monitor")] = None
    policy_digest: Annotated[str | None, Meaning("the digest of the policy in force after the change")] = None
    text_sha256: Annotated[
        str | None, Meaning("the SHA-256 of the policy's text; null where it could not be kept")
    ] = None
    sources: Annotated[str | None, Meaning("the names of the policy's files, with a comma between them")] = (
        None
    )
    rules: Annotated[int | None, Meaning("how many rules the policy has", "BIGINT")] = None
    problem: Annotated[str | None, Meaning("why a policy was refused, or a tool cannot be governed")] = None
    service: Annotated[str | None, Meaning("`service.name` of the process")] = None
    host: Annotated[str | None, Meaning("host name of the process")] = None
    pid: Annotated[int | None, Meaning("process id", "BIGINT")] = None


CHANGE_COLUMNS = tuple((name, hint.__metadata__[0]) for name, hint in PolicyChange.__annotations__.items())
"""The columns of `policy_changes`, in their order."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PolicyChange)


def text_name(digest: str) -> str:
    """Return the name of the file with the text of the policy with that digest, below the audit."""
    return f"{POLICIES}/{digest.removeprefix('sha256:')}.yaml"


def record_change(
    directory: Path,
    url: str | None,
    change: PolicyChange,
    text: bytes | None,
    patience: float = PATIENCE_S,
) -> None:
    """Append a change to the log, and keep the text of its policy where there is none yet.

    On return both survive the death of the process, though not of the machine; the next seal makes them safe.

    Args:
        directory: The audit's.
        url: Where on object storage its sealed part is sent.
        change: The change. Its `text_sha256` is set here.
        text: The text of its policy; None where the change is of none, or its text cannot be had.
        patience: Seconds to wait for the lock of the log.

    Raises:
        AuditError: it could not be written; the message names the path and the cause.
    """
    prepare(directory, url)
    origin = changes_origin(audit_id(load_key(directory)))
    with audit_errors("write the audit at", directory / CHANGES):
        files.make_folder(directory, POLICIES, durable=False)  # an event loop may wait here
        descriptor = files.open_file(
            directory, CHANGES, os.O_RDWR | os.O_APPEND | os.O_CREAT, single_link=True
        )
        try:
            files.lock_by_attempts(descriptor, fcntl.LOCK_EX, patience)
            if text is not None and change.policy_digest is not None:
                _keep(directory, text_name(change.policy_digest), text)
                change.text_sha256 = hashlib.sha256(text).hexdigest()
            change.problem = None if change.problem is None else cut_text(change.problem)
            change.sources = None if change.sources is None else cut_text(change.sources)
            end, last = _end(directory, descriptor, origin)
            _, line = link(last, _encoder.encode(change))
            try:
                if os.write(descriptor, line) != len(line):
                    raise AuditError(f"the disk took only a part of a line of `{directory / CHANGES}`")
            except BaseException:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


def _keep(directory: Path, name: str, text: bytes) -> None:
    """Keep a text unless something has its name: that is not even opened, since a governed call waits.

    It may be the text of the same policy with other comments: then the first text stays. `verify` compares
    what is there with the SHA-256 in the first line that names it.
    """
    if not os.path.lexists(directory / name):
        with files.replaced(directory, name, once=True, durable=False) as draft:
            draft.file.write(text)


def _end(directory: Path, descriptor: int, origin: str) -> tuple[int, str]:
    """Cut off a torn last line, and return the size and the last chain value."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _LINE_BYTES, max(size - _LINE_BYTES, 0))
    if torn := len(tail) - (tail.rfind(b"\n") + 1):
        size -= torn
        os.ftruncate(descriptor, size)
        tail = tail[: len(tail) - torn]
    if not size:
        return size, origin
    last = stated(tail[:-1])
    if last is None:
        raise AuditError(
            f"`{directory / CHANGES}` does not end in a line of an audit: see what `aegis audit verify` "
            "says, and move the file away"
        )
    return size, last


def decode_change(line: bytes) -> PolicyChange:
    """Return the change in a line, without checking its chain.

    Raises:
        ValueError: the line is no change as this package writes it.
    """
    try:
        change = _decoder.decode(without_chain(line))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _encoder.encode(change) != without_chain(line):
        raise ValueError("it is not written as a change of policy is")
    digest = change.policy_digest
    if digest is not None and not TEXT_FILE.fullmatch(f"{digest.removeprefix('sha256:')}.yaml"):
        raise ValueError("its policy has no digest")
    moment = datetime.fromisoformat(change.timestamp)
    if moment.tzinfo != UTC or moment.isoformat(timespec="microseconds") != change.timestamp:
        raise ValueError("its time is not written as a time of an audit is")
    if not all(0 <= number < 1 << 63 for number in (change.rules or 0, change.pid or 0)):
        raise ValueError("it has a number that is none of a policy or of a process")
    return change


def read_change_lines(directory: Path) -> bytes:
    """Return the whole and torn lines of the log; empty where there is none.

    Raises:
        AuditError: it cannot be read.
    """
    with audit_errors("read the audit at", directory / CHANGES), suppress(FileNotFoundError):
        return files.read_file(directory, CHANGES)
    return b""


def read_changes(directory: Path) -> Iterator[PolicyChange]:
    """Yield the changes, oldest first, without checking their chain; what is no change is passed over.

    Raises:
        AuditError: the log cannot be read.
    """
    for line in whole_lines(read_change_lines(directory)):
        with suppress(ValueError):
            yield decode_change(line)


def sealed_part(content: bytes, audit: str, sealed: SealedChanges) -> bytes | None:
    """Return the lines that a seal covers; None where they are not as they were sealed.

    Args:
        content: The log.
        audit: The id of the audit.
        sealed: What the seal says.
    """
    lines = list(islice(follow(content, changes_origin(audit)), sealed.lines))
    if len(lines) < sealed.lines or not lines or lines[-1][1] != sealed.chain:
        return None
    return b"".join(line + b"\n" for line, _ in lines)


def stated_texts(content: bytes) -> dict[str, str]:
    """Return the SHA-256 of each text that lines of the log name, by the name of its file."""
    texts: dict[str, str] = {}
    for line in whole_lines(content):
        with suppress(ValueError):
            change = decode_change(line)
            if change.policy_digest and change.text_sha256:
                texts.setdefault(text_name(change.policy_digest), change.text_sha256)
    return texts


def read_text(directory: Path, digest: str) -> bytes | None:
    """Return the text that is kept of a policy; None where there is none.

    Anybody who can write to the directory can change it: compare the digest of the policy in it.

    Raises:
        AuditError: it cannot be read.
    """
    name = text_name(digest)
    with audit_errors("read the audit at", directory / name), suppress(FileNotFoundError):
        return files.read_file(directory, name, TEXT_BYTES)
    return None


def text_digests(directory: Path) -> list[str]:
    """Return the digests of the policies whose texts are kept.

    Raises:
        AuditError: they cannot be listed.
    """
    with audit_errors("read the audit at", directory / POLICIES), suppress(FileNotFoundError):
        try:
            folder = files.open_folder(directory, POLICIES)
        except NotADirectoryError:
            raise AuditError(f"`{directory / POLICIES}` is not a directory: move it away") from None
        try:
            matches = map(TEXT_FILE.fullmatch, os.listdir(folder))
            return sorted(f"sha256:{match[1]}" for match in matches if match)
        finally:
            os.close(folder)
    return []
