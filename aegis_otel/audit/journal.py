"""The journal: one append-only file per process, where a record is durable once `append` returns.

Nobody else writes to a process's file, so no two lines can mix and no reader is ever waited for. The
newest file of a writer is held by flock for as long as its process lives: a free lock is how a reader
knows that a call it finds open can no longer be completed. A file gets its name only when it is locked,
and its predecessor is let go only after that, so a living writer is never seen without a held file.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import socket
import threading
import weakref
from pathlib import Path

from aegis_otel.audit.key import load_key
from aegis_otel.audit.location import failure, locate, prepare
from aegis_otel.audit.record import AuditRecord, encode_line
from aegis_otel.errors import AuditError

ROTATE_BYTES = 4 << 20
"""Size from which on the next line goes to a new file: some 5,000 calls, which is what a reader folds in
milliseconds and what is worth sealing at a time."""


class Journal:
    """Writes records and digests arguments; implements `runtime.call.Journal`. Safe to share by threads.

    Making one touches no disk; the directory, the key and the file are made for the first record.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._descriptor = -1
        self._directory = locate(path)
        self._key: bytes | None = None
        self._begin()
        _journals.add(self)

    def _begin(self) -> None:
        """Become a writer of one's own: at first, and in the child of a fork."""
        self._lock = threading.Lock()
        self._writer = f"{_host()}-{os.getpid()}-{os.urandom(4).hex()}"
        self._number = 0
        self._torn = False

    @property
    def path(self) -> Path:
        """The audit directory, absolute."""
        return self._directory

    def append(self, record: AuditRecord) -> None:
        """Write one line. On return it survives the death of the process, though not of the machine.

        Raises:
            AuditError: nothing was written; the message names the path and the cause.
        """
        try:
            line = encode_line(record)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise AuditError(f"the record of decision `{record.decision_id}` has no JSON: {error}") from error
        with self._lock:
            start = self._ready()
            try:
                written = 0
                while written < len(line):  # a second round only where the system took a part
                    written += os.write(self._descriptor, line[written:])
            except BaseException as error:
                self._take_back(start)
                if isinstance(error, OSError):
                    raise failure("write the audit at", self._directory, error) from error
                raise

    def digest(self, payload: bytes) -> str:
        """Keyed digest of `payload`: `hmac-sha256:` and 64 hex digits.

        Raises:
            AuditError: when the audit's key cannot be read or made.
        """
        key = self._key
        if key is None:
            with self._lock:
                prepare(self._directory)
                key = self._key = load_key(self._directory)
        return "hmac-sha256:" + hmac.digest(key, payload, "sha256").hex()

    def close(self) -> None:
        """Let the file go; calls that are still open count as unknown. A later record begins a new file."""
        with self._lock:
            self._release()

    def __del__(self) -> None:
        self._release()

    def _ready(self) -> int:
        """Have a file to write to; returns its size."""
        if self._descriptor >= 0 and not self._torn:
            state = os.fstat(self._descriptor)
            # Without a link the file was deleted under us, and a line in it would be no record.
            if state.st_nlink and state.st_size < ROTATE_BYTES:
                return state.st_size
        journal = prepare(self._directory)
        self._key = load_key(self._directory, self._key)
        self._number += 1
        try:
            descriptor = _create_held(journal / f"{self._writer}-{self._number:06d}.jsonl")
        except OSError as error:
            raise failure("write the audit at", journal, error) from error
        self._release()
        self._descriptor, self._torn = descriptor, False
        return 0

    def _take_back(self, start: int) -> None:
        """Cut off what was written of a line that could not be written whole."""
        try:
            os.ftruncate(self._descriptor, start)
        except OSError:
            self._torn = True  # nothing may follow the fragment; readers skip it

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _forget_parent(self) -> None:
        """After a fork: close our copy of the parent's file, or its lock would outlive the parent."""
        self._release()
        self._begin()


def _create_held(path: Path) -> int:
    """Make a new file that is locked before it has its name; returns its descriptor."""
    draft = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(draft, path)
    except BaseException:
        os.close(descriptor)
        os.unlink(draft)
        raise
    return descriptor


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname()).strip("-")[:40] or "host"


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal._forget_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)
