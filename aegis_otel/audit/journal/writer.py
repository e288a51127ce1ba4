"""The journal: one append-only file per process, where a record is durable once `append` returns.

Nobody else writes to a process's file, so lines never mix and a writer never waits for readers. A writer
holds the flock of its newest file for as long as its process lives: if the lock is free, readers know that
nobody can complete the calls that are open. A file gets its name only when it is locked, and the previous
file is unlocked only after that, so readers always find a locked file of a living writer.

Each line is chained to the one before it, across the files of a writer (see `audit.seals.hash_chain`). The
journal starts another process now and then to seal complete files (see `audit.journal.seal_trigger`).

With `durability="power"`, `sync` waits until all lines are on the disk, and `audit.journal.group_commit` owns
the descriptors, because a file must not be closed before that.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from time import monotonic  # not by its module, whose clock a program may replace

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import file_name
from aegis_otel.audit.journal.group_commit import GroupCommit
from aegis_otel.audit.journal.seal_trigger import SealTrigger
from aegis_otel.audit.keys import audit_id, keyed_digest, load_key
from aegis_otel.audit.location import address, audit_errors, failure, locate, prepare
from aegis_otel.audit.record import AuditRecord, encode
from aegis_otel.audit.seals.hash_chain import journal_origin, link
from aegis_otel.audit.seals.seal_log import Seal
from aegis_otel.config import DURABILITY
from aegis_otel.errors import AuditError

ROTATE_BYTES = 1 << 20
"""The size at which the next line goes to a new file: readers read files in parallel."""
ROTATE_S = 3_600.0
"""Seconds after which the next line goes to a new file, so that a quiet process is sealed too."""
LOOK_S = 0.001
"""Seconds between checks that the file is still at its path. A line in a file that was deleted or moved away
is lost, but so is a line just before the removal: a check for each line of a burst adds nothing, and costs as
much as the `write`."""


class Journal:
    """Writes records and digests arguments; implements `governance.call.Journal`. Threads may share it.

    The directory, the key and the file are made for the first record, not before.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, durability: str | None = None) -> None:
        self._descriptor = -1
        self._power = DURABILITY.value(durability) == "power"
        self._directory, self.address = locate(path), address(path)
        self._key: bytes | None = None
        self.on_seal: Callable[[Seal], None] | None = None
        """Called in a background thread with every seal that this journal started; its errors are logged."""
        self.on_seal_failed: Callable[[], None] | None = None
        """Called in the same way when a sealing failed."""
        self._begin()
        _journals.add(self)

    def _begin(self) -> None:
        """Become a new writer: at first, and in the child of a fork."""
        self._lock = threading.Lock()
        self._writer = f"{_host()}-{os.getpid()}-{os.urandom(4).hex()}"
        self._number = 0
        self._chain = ""
        self._torn = False
        self._size = 0
        self._path = ""
        self._look_at = self._rotate_at = 0.0
        self._unsealed = 0
        self._trigger = SealTrigger(self._directory, self.address)
        self._commit = GroupCommit(self._directory) if self._power else None

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
            body = encode(record)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise AuditError(f"the record of decision `{record.decision_id}` has no JSON: {error}") from error
        with self._lock:
            if (
                self._descriptor < 0
                or monotonic() >= self._look_at
                or self._size >= ROTATE_BYTES
                or self._torn
                or self._commit is not None
            ):
                self._ready()
            try:
                chain, line = link(self._chain, body)
                written = os.write(self._descriptor, line)
                while written < len(line):  # only where the system took a part
                    written += os.write(self._descriptor, line[written:])
                size = self._size + written
                # Last, and no call between or after: an interrupt comes before them or not at all.
                self._chain = chain
                self._size = size
            except BaseException as error:
                self._take_back()
                if isinstance(error, OSError):
                    raise failure("write the audit at", self._directory, error) from error
                raise
            if self._commit is not None:
                self._commit.written()

    def mark(self) -> int | None:
        """Return the mark with which `sync` waits for all later lines; None if `durability` asks for no wait.

        Take it before the lines are appended, because a loss while they are written counts.
        """
        return None if self._commit is None else self._commit.lost

    async def sync(self, mark: int | None) -> None:
        """Wait until the lines since `mark` survive what `durability` promises.

        Raises:
            AuditError: they may not survive it; the message names the path and the cause.
        """
        if self._commit is not None and mark is not None:
            await self._commit.wait(mark)

    def digest(self, payload: bytes) -> str:
        """Return the keyed digest of `payload`: `hmac-sha256:` and 64 hex digits.

        Raises:
            AuditError: the audit's key cannot be read or made.
        """
        key = self._key
        if key is None:
            with self._lock:
                prepare(self._directory, self.address)
                key = self._key = load_key(self._directory)
        return "hmac-sha256:" + keyed_digest(key, payload).hex()

    def close(self) -> None:
        """Unlock the file, so that open calls count as unknown. A later record begins a new file."""
        with self._lock:
            self._release()

    def __del__(self) -> None:
        self._release()

    def _ready(self) -> None:
        """Make sure that there is a file to write to."""
        if self._descriptor >= 0 and not (self._torn or (self._commit is not None and self._commit.broken)):
            now = monotonic()
            if now < self._look_at and self._size < ROTATE_BYTES:
                return
            if self._size < ROTATE_BYTES and now < self._rotate_at and self._is_in_place():
                self._look_at = now + LOOK_S
                return
            self._unsealed += self._size
        journal = prepare(self._directory, self.address)
        self._key = load_key(self._directory, self._key)
        self._chain = self._chain or journal_origin(audit_id(self._key), self._writer)
        number = self._number + 1
        name = file_name(self._writer, number)
        with audit_errors("write the audit at", journal):
            descriptor = _create_held(journal, name)
            path = os.path.join(journal, name)
        self._release()
        if self._commit is not None:
            self._commit.use(descriptor)
        self._path = path
        # Last, in case of an interrupt. A file that was not made takes no number: a gap looks like a loss.
        self._number, self._descriptor, self._torn, self._size = number, descriptor, False, 0
        self._have_sealed(journal)

    def _is_in_place(self) -> bool:
        """Return whether the path still leads to the open file."""
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except OSError:  # it was moved or removed, or its directory was
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def _have_sealed(self, journal: Path) -> None:
        """Start a sealing at a new file, if enough files are complete."""
        now = monotonic()
        late = self._rotate_at and now >= self._rotate_at
        if late or self._trigger.is_due(journal, self._unsealed, is_first=self._number == 1):
            self._unsealed = 0
            self._trigger.start(self.on_seal, self.on_seal_failed)
        self._look_at = now + LOOK_S
        self._rotate_at = now + ROTATE_S

    def _take_back(self) -> None:
        """Cut off the part of a line that was written before an error."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._torn = True  # no line may follow the fragment, which readers skip

    def _release(self) -> None:
        if (descriptor := self._descriptor) < 0:
            return
        if self._commit is None:
            self._descriptor = -1
            os.close(descriptor)
            return
        with self._commit.lock:
            self._commit.let_go += (descriptor,)  # with no call before the next line, for an interrupt
            self._descriptor = -1
            self._commit.gave_up(descriptor)

    def _forget_parent(self) -> None:
        """Close the copies of the parent's files after a fork, or their locks would outlive the parent."""
        if self._commit is not None:
            self._commit.forget()
            self._commit = None
        self._release()
        self._begin()


def _create_held(journal: Path, name: str) -> int:
    """Make a new file that is locked before it has its name, and return its descriptor."""
    draft = f".{name}.new"
    descriptor = files.create_file(journal, draft)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.rename_file(journal, draft, name)
    except BaseException:
        os.close(descriptor)
        files.remove_file(journal, draft)  # renamed already, when an interrupt came after it
        raise
    return descriptor


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname()).strip("-")[:40] or "host"


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal._forget_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)
