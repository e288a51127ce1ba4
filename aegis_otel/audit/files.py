"""The one place where files of an audit directory are opened, made, replaced and removed.

Whoever can write to the directory can put anything in the place of a file: a symbolic link, a named pipe that
never answers, a device. So nothing is followed and nothing is waited for, also in the folders below the
directory, and only a regular file is read or written. Everything else is a NotAFile error that names it.
Readers hand names to DuckDB, which opens files in its own way: `audit.lake.scan` and `audit.journal.files`
check them first. What is put there between that check and DuckDB's opening is not found;
docs/threat-model.md says so.
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

from aegis_otel.errors import AuditError

LARGEST = 1 << 30
"""Bytes that are read of a file as a whole. Journal files have 1 MiB, and a year of seals some 10 MiB."""

PATIENCE_S = 900.0
"""Seconds to wait for a lock that others hold: a sealing is done, or given up, in ten minutes."""
_PAUSES_S = 0.0, 0.001, 0.002, 0.004
"""Pauses before the first tries: most locks are held for less than a millisecond."""

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _SAFE
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
_MODE = 0o600
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
# What opening something else than a regular file, or a folder that is none, fails with.
_NO_FILE = {
    errno.ELOOP,
    errno.EMLINK,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EOPNOTSUPP,
    errno.ENODEV,
}


class NotAFile(AuditError):
    """Something that is no regular file stands where a file of the audit belongs."""

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind
        """With its article, such as `a named pipe`."""
        super().__init__(
            f"`{path}` is {kind} and is not a regular file, as every file of an audit is: move it away"
        )


def open_file(root: Path, name: str, flags: int = os.O_RDONLY, *, single_link: bool = False) -> int:
    """Open a regular file and return its descriptor.

    Args:
        root: A directory that is trusted, as the audit's own; links on the way to it are followed.
        name: Below it, with `/` between folders.
        flags: Of `os.open`.
        single_link: Refuse a file that has another name as well, because it is about to be changed.

    Raises:
        NotAFile: something else is in its place, or in that of a folder on the way.
        OSError: it is not there, or cannot be opened.
    """
    try:
        with _parent(root, name) as (base, folder):
            descriptor = os.open(base, flags | _SAFE, _MODE, dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotAFile(root / name, _kind_at(root, name)) from None
        raise
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise NotAFile(root / name, _kind(state.st_mode))
    if single_link and state.st_nlink > 1:
        os.close(descriptor)
        raise NotAFile(root / name, f"a file with {state.st_nlink} names (hard links)")
    return descriptor


def open_stream(root: Path, name: str) -> BufferedReader:
    """Open a regular file for reading; arguments and errors as for `open_file`."""
    return open(open_file(root, name), "rb")


def read_file(root: Path, name: str, limit: int = LARGEST) -> bytes:
    """Return what is in a regular file; other arguments and errors as for `open_file`.

    Args:
        limit: Bytes that it may have.

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
    """Make a file that is not there, to be appended to, of mode 0600; returns its descriptor.

    Raises:
        OSError: it is there, or cannot be made.
    """
    return open_file(root, name, _NEW)


def write_copy(folder: str, name: str, content: bytes) -> Path:
    """Write what was checked to a file outside of the audit, for DuckDB opens a file anew to read it.

    Who writes to the audit could change a file between its check and that, and put it back afterwards: then
    what is done is done with something else, and nothing shows it.
    """
    with os.fdopen(create_file(Path(folder), name), "wb") as file:
        file.write(content)
    return Path(folder, name)


def make_folder(root: Path, name: str) -> None:
    """Make a folder of mode 0700 where there is none, with those on the way to it.

    Raises:
        NotAFile: something else is in its place.
        OSError: it cannot be made.
    """
    made = ""
    for part in name.split("/"):
        made = f"{made}/{part}" if made else part
        with _parent(root, made) as (base, folder), suppress(FileExistsError):
            os.mkdir(base, 0o700, dir_fd=folder)
            os.fsync(folder)
        if not stat.S_ISDIR(os.lstat(root / made).st_mode):
            raise NotAFile(root / made, _kind_at(root, made))


class Draft(NamedTuple):
    """A file in the making, beside its place."""

    path: Path
    file: BinaryIO


@contextmanager
def replaced(root: Path, name: str, *, once: bool = False, durable: bool = True) -> Iterator[Draft]:
    """Write a file of mode 0600 beside its place, which it takes when the block ends well.

    Args:
        root: As for `open_file`.
        name: As for `open_file`.
        once: Leave a file that is there, or that another process puts there first, as it is.
        durable: Whether to wait until the file is on the disk itself.

    Raises:
        OSError: it cannot be written. Nothing is left behind then.
    """
    head, slash, last = name.rpartition("/")
    beside = f".aegis-{os.urandom(8).hex()}.draft"
    draft = f"{head}{slash}{beside}"
    descriptor = create_file(root, draft)
    try:
        with open(descriptor, "wb") as file:
            yield Draft(root / draft, file)
            file.flush()
            if durable:
                os.fsync(descriptor)
        if once:
            with _parent(root, name) as (base, folder), suppress(FileExistsError):
                os.link(beside, base, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            rename_file(root, draft, last)
    finally:
        remove_file(root, draft)


def rename_file(root: Path, name: str, last: str) -> None:
    """Give a file another name in its folder; a file of that name is replaced.

    Raises:
        OSError: it cannot be had.
    """
    with _parent(root, name) as (base, folder):
        os.rename(base, last, src_dir_fd=folder, dst_dir_fd=folder)


def remove_file(root: Path, name: str) -> None:
    """Remove a file, or a link to one and not what it links to; nothing happens where there is none.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError), _parent(root, name) as (base, folder):
        os.unlink(base, dir_fd=folder)


def lock(descriptor: int, kind: int, patience: float | None = None) -> None:
    """Take the lock of an open file or folder; whoever can open it can hold it, so nobody waits for ever.

    Args:
        kind: `LOCK_SH` or `LOCK_EX` of `fcntl`.
        patience: Seconds to wait; `PATIENCE_S` where none are given.

    Raises:
        TimeoutError: somebody else still holds it.
        OSError: it cannot be locked.
    """
    patience = PATIENCE_S if patience is None else patience
    until = time.monotonic() + patience
    for pause in _PAUSES_S:
        time.sleep(pause)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        if time.monotonic() >= until:
            break
    if not _lock_in_turn(descriptor, kind, until - time.monotonic()):
        what = f"another process has held its lock for {patience:g} seconds (`lsof` says which)"
        raise TimeoutError(errno.ETIMEDOUT, what)


def _lock_in_turn(descriptor: int, kind: int, patience: float) -> bool:
    """Wait where the kernel lets in who has waited; who only tries now and then may never meet a gap.

    Only a thread can be left behind there. Its copy of the descriptor is the last one when it gets the lock
    too late, and gives it back.
    """
    if patience <= 0:
        return False
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
    """Put a file or folder on the disk itself.

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
    """Open a folder that is no link, and return its descriptor.

    Raises:
        OSError: it is not there, or is no folder.
    """
    with _parent(root, name) as (base, folder):
        return os.open(base, _FOLDER, dir_fd=folder)


def open_given(path: Path) -> BinaryIO:
    """Open a file that the user names and that is none of the audit's, such as a witness or a pipe."""
    return open(path, "rb")


def open_key(path: Path) -> BinaryIO:
    """Open a key outside of the audit, which may be a link, as secrets often are; waits for no pipe."""
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


@contextmanager
def _parent(root: Path, name: str) -> Iterator[tuple[str, int]]:
    """Yield the last part of a name, and the descriptor of the folder that it is in."""
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


def _kind_at(root: Path, name: str) -> str:
    """Return the kind of what stands in place of a file, or of the first folder on the way to it."""
    *folders, _ = parts = name.split("/")
    for count in range(1, len(folders) + 1):
        with suppress(OSError):
            mode = os.lstat(root.joinpath(*parts[:count])).st_mode
            if not stat.S_ISDIR(mode):
                return f"below {_kind(mode)}"
    try:
        return _kind(os.lstat(root / name).st_mode)
    except OSError:
        return "something else"


def _kind(mode: int) -> str:
    return next((kind for fits, kind in _KINDS if fits(mode)), "a device")
