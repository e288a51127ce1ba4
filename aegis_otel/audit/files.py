"""The one place where files of an audit directory are opened, made, replaced and removed.

Whoever can write to the directory can put anything in the place of a file: a symbolic link, a named pipe that
never answers, a device. So these functions follow no link and wait for no pipe, also in the folders below the
directory, and only read and write regular files; anything else raises a NotAFile error that names it.
DuckDB opens files in its own way: `audit.lake.scan` and `audit.journal.files` check their names first, and
docs/threat-model.md says what this leaves open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aegis_otel.errors import AuditError, ConfigError

LARGEST = 1 << 30
"""Bytes that a file may have to be read as a whole. Journal files have 1 MiB, a year of seals some 10 MiB."""

PATIENCE_S = 900.0
"""Seconds to wait for a lock that others hold: a sealing ends within ten minutes."""
_PAUSES_S = 0.0, 0.001, 0.002, 0.004
"""Seconds before each of the first tries: most locks are held for less, and no thread is needed."""
_ATTEMPT_S = 0.001
"""Seconds between the attempts of who does not wait in turn."""

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _SAFE
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
_MODE = 0o600
_KINDS = (
    (stat.S_ISREG, None),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class NotAFile(AuditError):
    """Something else than a regular file has the name of a file of the audit."""

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind
        """The kind of thing that was found, as a sentence names it: `a named pipe`."""
        super().__init__(
            f"`{path}` is {kind} and is not a regular file, as every file of an audit is: move it away"
        )


def open_file(root: Path, name: str, flags: int = os.O_RDONLY, *, single_link: bool = False) -> int:
    """Open a regular file and return its descriptor.

    Args:
        root: A trusted directory, such as the audit's; links on the way to it are followed.
        name: The file's name below `root`, with `/` between folders.
        flags: The flags of `os.open`.
        single_link: Refuse a file with another hard link, because the caller is about to change it.

    Raises:
        NotAFile: something else has its name, or that of a folder on the way.
        OSError: it is not there, or cannot be opened.
    """
    try:
        with _parent(root, name) as (base, folder):
            descriptor = os.open(base, flags | _SAFE, _MODE, dir_fd=folder)
    except OSError:
        if (kind := _kind_at(root, name)) is not None:
            raise NotAFile(root / name, kind) from None
        raise
    state = os.fstat(descriptor)
    kind = _kind(state.st_mode)
    if kind is None and single_link and state.st_nlink > 1:
        kind = f"a file with {state.st_nlink} names (hard links)"
    if kind is not None:
        os.close(descriptor)
        raise NotAFile(root / name, kind)
    return descriptor


def open_stream(root: Path, name: str) -> BufferedReader:
    """Open a regular file for reading; arguments and errors as for `open_file`."""
    return open(open_file(root, name), "rb")


def read_file(root: Path, name: str, limit: int = LARGEST) -> bytes:
    """Return the content of a regular file; other arguments and errors as for `open_file`.

    Args:
        limit: The bytes that it may have.

    Raises:
        AuditError: it is larger.
    """
    with open_stream(root, name) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise too_large(root / name, limit)
    return content


def too_large(path: Path, limit: int) -> AuditError:
    """Return the error for a file with more bytes than a file of its kind can have."""
    return AuditError(f"`{path}` is larger than any file of its kind ({limit} bytes): move it away")


def create_file(root: Path, name: str) -> int:
    """Make a file of mode 0600 to append to, and return its descriptor.

    Raises:
        OSError: the name is taken, or the file cannot be made.
    """
    return open_file(root, name, _NEW)


def write_copy(folder: str, name: str, content: bytes) -> Path:
    """Write content that was checked to a file outside of the audit, where DuckDB can open it.

    In the audit, somebody could change the file after the check, and put it back after DuckDB has read it.
    """
    with os.fdopen(create_file(Path(folder), name), "wb") as file:
        file.write(content)
    return Path(folder, name)


def make_folder(root: Path, name: str, *, durable: bool = True) -> None:
    """Make a folder of mode 0700, and those on the way to it, unless they are there.

    Args:
        durable: Whether to wait until its name is on the disk.

    Raises:
        NotAFile: something else has the name of one of them.
        OSError: a folder cannot be made.
    """
    made = ""
    for part in name.split("/"):
        made = f"{made}/{part}" if made else part
        with _parent(root, made) as (base, folder), suppress(FileExistsError):
            os.mkdir(base, 0o700, dir_fd=folder)
            if durable:
                os.fsync(folder)
        if not stat.S_ISDIR(os.lstat(root / made).st_mode):
            raise NotAFile(root / made, _kind_at(root, made) or "a file")


class Draft(NamedTuple):
    """A file in the making, beside the file that it will become."""

    path: Path
    file: BinaryIO


@contextmanager
def replaced(root: Path, name: str, *, once: bool = False, durable: bool = True) -> Iterator[Draft]:
    """Write a draft of mode 0600 that becomes the file when the block ends without an error.

    Args:
        root: As for `open_file`.
        name: As for `open_file`.
        once: Keep a file that is there already, or that another process makes first.
        durable: Whether to wait until the file is on the disk.

    Raises:
        OSError: the file cannot be written; no draft is left.
    """
    folder, slash, last = name.rpartition("/")
    beside = f".aegis-{os.urandom(8).hex()}.draft"
    draft = f"{folder}{slash}{beside}"
    descriptor = create_file(root, draft)
    try:
        with open(descriptor, "wb") as file:
            yield Draft(root / draft, file)
            file.flush()
            if durable:
                os.fsync(descriptor)
        if once:
            with _parent(root, name) as (_, inside), suppress(FileExistsError):
                os.link(beside, last, src_dir_fd=inside, dst_dir_fd=inside)
        else:
            rename_file(root, draft, last)
    finally:
        remove_file(root, draft)


def rename_file(root: Path, name: str, last: str) -> None:
    """Give a file the name `last` in its folder, and replace a file that has it.

    Raises:
        OSError: the file cannot be renamed.
    """
    with _parent(root, name) as (base, folder):
        os.rename(base, last, src_dir_fd=folder, dst_dir_fd=folder)


def remove_file(root: Path, name: str) -> None:
    """Remove a file if it is there; of a link, the link itself.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError), _parent(root, name) as (base, folder):
        os.unlink(base, dir_fd=folder)


def lock(descriptor: int, kind: int, patience: float | None = None) -> None:
    """Take the lock of an open file or folder, within a time: whoever can open it could hold it for ever.

    Args:
        kind: `LOCK_SH` or `LOCK_EX` of `fcntl`.
        patience: Seconds to wait. Default: `PATIENCE_S`.

    Raises:
        TimeoutError: somebody else still holds the lock.
        OSError: it cannot be locked.
    """
    patience = PATIENCE_S if patience is None else patience
    for pause in _PAUSES_S if patience > 0 else (0.0,):
        if pause:
            time.sleep(pause)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
    if patience <= 0 or not _lock_in_turn(descriptor, kind, patience):
        raise _held(patience)


def lock_by_attempts(descriptor: int, kind: int, patience: float) -> None:
    """Take the lock as `lock` does, but without a turn: no thread waits for it, and none is left behind.

    It may miss the lock where many others take it all the time.
    """
    until = time.monotonic() + patience
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        if time.monotonic() >= until:
            raise _held(patience)
        time.sleep(_ATTEMPT_S)


def _held(patience: float) -> TimeoutError:
    what = f"another process has held its lock for {patience:g} seconds (`lsof` says which)"
    return TimeoutError(errno.ETIMEDOUT, what)


def _lock_in_turn(descriptor: int, kind: int, patience: float) -> bool:
    """Wait in the kernel's queue for the lock; attempts now and then may never meet a gap between others.

    A thread waits, for only a thread can be left waiting. It has a copy of the descriptor: if it gets the
    lock too late, closing the copy, then the last one, gives it back.
    """
    copy = os.dup(descriptor)
    failed: list[OSError] = []

    def wait() -> None:
        try:
            fcntl.flock(copy, kind)
        except OSError as error:
            failed.append(error)
        finally:
            os.close(copy)

    waiter = threading.Thread(target=wait, name="aegis-lock", daemon=True)
    try:
        waiter.start()
    except RuntimeError as error:
        os.close(copy)
        raise OSError(errno.EAGAIN, f"no thread can wait for its lock: {error}") from error
    waiter.join(patience)
    if failed:
        raise failed[0]
    return not waiter.is_alive()


def sync(root: Path, name: str = ".") -> None:
    """Wait until a file or folder is on the disk.

    Raises:
        OSError: it is not there, is a link, or cannot be synced.
    """
    with _parent(root, name) as (base, folder):
        descriptor = os.open(base, os.O_RDONLY | _SAFE, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_folder(root: Path, name: str = ".") -> int:
    """Open a folder, and no link to one, and return its descriptor.

    Raises:
        OSError: it is not there, or is something else.
    """
    with _parent(root, name) as (base, folder):
        return os.open(base, _FOLDER, dir_fd=folder)


def open_given(path: Path) -> BinaryIO:
    """Open a file outside of the audit that the user names, such as a witness or a pipe."""
    return open(path, "rb")


def read_secret(path: Path, what: str, limit: int, *, private: bool = True, guarded: bool = False) -> bytes:
    """Return up to `limit` bytes of a key outside of the audit; it may be a link, as secrets often are.

    Args:
        what: What messages call it, such as `the key`.
        limit: The most bytes to read.
        private: Whether it has to be this user's or root's, and closed to all others.
        guarded: Whether it has to be this user's or root's, and nobody else may write to it.

    Raises:
        ConfigError: it is not a file, or not private.
        OSError: it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"{what} `{path}` is not a regular file: name another one")
        if (private or guarded) and state.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"{what} `{path}` belongs to user {state.st_uid}: make it your own")
        if private and state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{what} `{path}` is open to other users: run `chmod 600` on it")
        if guarded and state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{what} `{path}` can be written by other users: run `chmod go-w` on it")
        return file.read(limit)


@contextmanager
def _parent(root: Path, name: str) -> Iterator[tuple[str, int]]:
    """Yield the last part of a name, and the descriptor of its folder."""
    *folders, base = name.split("/")
    if ".." in (*folders, base):
        raise NotAFile(root / name, "a name that leads out of the audit")
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inside = os.open(part, _FOLDER, dir_fd=current)
            os.close(current)
            current = inside
        yield base, current
    finally:
        os.close(current)


def _kind_at(root: Path, name: str) -> str | None:
    """Return what has the name of a file or of a folder on the way and is neither; None if nothing has."""
    path = root
    with suppress(OSError):
        for part in name.split("/"):
            path /= part
            mode = os.lstat(path).st_mode
            if path == root / name:
                return _kind(mode)
            if not stat.S_ISDIR(mode):
                return f"below {_kind(mode) or 'a file'}"
    return None


def _kind(mode: int) -> str | None:
    """Return what a file is; None for a regular file."""
    for fits, kind in _KINDS:  # no generator: an interrupt while it is closed would be lost
        if fits(mode):
            return kind
    return "a device"
