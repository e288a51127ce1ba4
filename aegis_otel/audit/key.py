"""The key of an audit directory, under which arguments are digested. It never leaves the directory.

A keyed digest lets rows with equal arguments be found, while a guess at the arguments cannot be checked
by somebody who holds only the rows or the signals.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path

from aegis_otel.audit.location import KEY, failure
from aegis_otel.errors import AuditError

KEY_BYTES = 32


def load_key(directory: Path, known: bytes | None = None) -> bytes:
    """The directory's key; made when it has none.

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
            _create(path, known or os.urandom(KEY_BYTES))
            return read_key(directory)
    except AuditError:
        raise
    except OSError as error:
        raise failure("use the audit's key", path, error) from error


def audit_id(key: bytes) -> str:
    """The name of the audit with this key, in chains and seals: 32 hex digits, which do not tell the key."""
    return hmac.digest(key, b"aegis audit", "sha256").hex()[:32]


def read_key(directory: Path) -> bytes:
    """The directory's key.

    Raises:
        AuditError: it is damaged, or others could read or have changed it.
        OSError: it is not there, or cannot be read.
    """
    path = directory / KEY
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
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


def _create(path: Path, key: bytes) -> None:
    """Write the whole key beside its place and link it there: of many processes, one is first."""
    draft = path.with_name(f".{KEY}-{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, key)
        finally:
            os.close(descriptor)
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; its key is the key
    finally:
        os.unlink(draft)
