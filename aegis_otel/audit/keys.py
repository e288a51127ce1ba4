"""The key of an audit directory, under which arguments are digested. It never leaves the directory.

With a keyed digest, rows with equal arguments can be found, but somebody who has only the rows or the signals
cannot check a guess at the arguments.
"""

from __future__ import annotations

import hmac
import os
import stat
from functools import lru_cache
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.audit.location import KEY, audit_errors
from aegis_otel.config import AUDIT_ID
from aegis_otel.errors import AuditError

KEY_BYTES = 32


def load_key(directory: Path, known: bytes | None = None) -> bytes:
    """Return the directory's key; make it when there is none.

    Args:
        directory: An audit directory that exists.
        known: The key to write again when it has gone missing, so that digests stay comparable.

    Raises:
        AuditError: the key cannot be read or made, or others could read it or have changed it.
    """
    with audit_errors("use the audit's key", directory / KEY):
        try:
            return read_key(directory)
        except FileNotFoundError:
            # Of many processes, the first one makes the key. The first call of an audit does so on the event
            # loop, which must not wait for a disk.
            with files.replaced(directory, KEY, once=True, durable=False) as draft:
                draft.file.write(known or os.urandom(KEY_BYTES))
            return read_key(directory)


def audit_id(key: bytes) -> str:
    """Return the id of the audit with this key: 32 hex digits, which do not reveal the key."""
    return keyed_digest(key, b"aegis audit").hex()[:32]


def keyed_digest(key: bytes, payload: bytes) -> bytes:
    """Return the HMAC-SHA-256 of `payload`."""
    # `hmac.digest` would release the interpreter's lock while OpenSSL holds locks of its own: in the child of
    # a fork at that moment they stay locked, and its first digest hangs.
    digest = _keyed_hash(key).copy()
    digest.update(payload)
    return digest.digest()


@lru_cache(maxsize=16)
def _keyed_hash(key: bytes) -> hmac.HMAC:
    # A copy of the state costs a third of making it.
    return hmac.new(key, digestmod="sha256")


def check_identity(directory: Path, expected: str) -> None:
    """Check that the audit has the expected id; any audit will do where `expected` is empty.

    Raises:
        AuditError: another audit, or one without a key, is in the directory.
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
        AuditError: the key is damaged, or others could read it or have changed it.
        OSError: there is no key, or it cannot be read.
    """
    path = directory / KEY
    try:
        file = files.open_stream(directory, KEY)
    except files.NotAFile as error:
        raise AuditError(
            f"cannot use the audit's key `{path}`: it is {error.kind} and is not a file of this user: "
            "move it away"
        ) from None
    with file:
        state = os.fstat(file.fileno())
        key = file.read(KEY_BYTES + 1)
    if state.st_uid != os.geteuid():
        raise AuditError(f"the audit's key `{path}` is not a file of this user: move it away")
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AuditError(f"the audit's key `{path}` is open to other users: run `chmod 600` on it")
    if len(key) != KEY_BYTES:
        raise AuditError(
            f"the audit's key `{path}` is damaged (not {KEY_BYTES} bytes): restore it, or move it away"
        )
    return key
