"""The key of an audit directory, under which arguments are digested. It never leaves the directory.

A keyed digest lets rows with equal arguments be found, while a guess at the arguments cannot be checked
by somebody who holds only the rows or the signals.
"""

from __future__ import annotations

import hmac
import os
import stat
from functools import lru_cache
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.audit.location import KEY, failure
from aegis_otel.config import AUDIT_ID
from aegis_otel.errors import AuditError

KEY_BYTES = 32


def load_key(directory: Path, known: bytes | None = None) -> bytes:
    """Return the directory's key; make it when it has none.

    Args:
        directory: An audit directory that exists.
        known: What to make it from when it has gone missing, so that digests stay comparable.

    Raises:
        AuditError: when it cannot be read or made, or others could read or have changed it.
    """
    path = directory / KEY
    try:
        try:
            return read_key(directory)
        except FileNotFoundError:
            # Of many processes, one is first; its key is the key. The first call of an audit makes it, on the
            # event loop, which must not wait for a disk.
            with files.replaced(directory, KEY, once=True, durable=False) as draft:
                draft.file.write(known or os.urandom(KEY_BYTES))
            return read_key(directory)
    except AuditError:
        raise
    except OSError as error:
        raise failure("use the audit's key", path, error) from error


def audit_id(key: bytes) -> str:
    """Return the name of the audit with this key: 32 hex digits, which do not reveal the key."""
    return keyed_digest(key, b"aegis audit").hex()[:32]


def keyed_digest(key: bytes, payload: bytes) -> bytes:
    """Return the HMAC-SHA-256 of `payload`.

    Not by `hmac.digest`, which leaves the interpreter's lock while OpenSSL holds locks of its own: the child
    of a fork in that moment has them taken for ever, and hangs in its first digest.
    """
    digest = _keyed_hash(key).copy()
    digest.update(payload)
    return digest.digest()


@lru_cache(maxsize=16)
def _keyed_hash(key: bytes) -> hmac.HMAC:
    """Return the state behind a key: a copy of it costs a third of what making it does."""
    return hmac.new(key, digestmod="sha256")


def check_identity(directory: Path, expected: str) -> None:
    """See that the audit is the one that is meant; `expected` is its id, and empty where any will do.

    Raises:
        AuditError: another one, or none yet, is in its place.
        OSError: its key cannot be read.
    """
    if not expected:
        return
    try:
        found = audit_id(read_key(directory))
    except FileNotFoundError:
        found = ""
    if not hmac.compare_digest(found, expected):
        there = f"is the audit `{found}`" if found else "has no key"
        raise AuditError(
            f"`{directory}` {there}, and `{expected}` was expected ({AUDIT_ID.env}): "
            "another one is in its place"
        )


def read_key(directory: Path) -> bytes:
    """Return the directory's key.

    Raises:
        AuditError: it is damaged, or others could read or have changed it.
        OSError: it is not there, or cannot be read.
    """
    path = directory / KEY
    try:
        descriptor = files.open_file(directory, KEY)
    except files.NotAFile as error:
        raise AuditError(
            f"cannot use the audit's key `{path}`: it is {error.kind} and is not a file of this user: "
            "move it away"
        ) from None
    try:
        state = os.fstat(descriptor)
        if state.st_uid != os.geteuid():
            raise AuditError(f"the audit's key `{path}` is not a file of this user: move it away")
        if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise AuditError(f"the audit's key `{path}` is open to other users: run `chmod 600` on it")
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise AuditError(
            f"the audit's key `{path}` is damaged (not {KEY_BYTES} bytes): restore it, or move it away"
        )
    return key
