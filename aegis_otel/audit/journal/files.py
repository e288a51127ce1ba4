"""Journal files: their names, which writers may still write, and what the chain of a writer follows.

A reader judges a writer by the lock on its newest file (see `audit.journal.writer`). It only asks for a
shared lock and never waits, so it holds up neither writers nor other readers.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit import files
from aegis_otel.audit.location import audit_errors
from aegis_otel.audit.seals.hash_chain import whole_part
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, JOURNAL_FILE, Seal
from aegis_otel.errors import AuditError

WRITER = r"([^/]+?)(?:-([0-9]+))?\.jsonl$"
"""Matches the end of a journal file's path: the writer and the file's number. Read by Python and RE2."""


def is_text(name: str) -> bool:
    """Return whether a name is UTF-8, as all names in an audit are; readers ignore any other."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def shown_name(name: str) -> str:
    """Return a name as it can be printed, with escapes for bytes that are not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def not_text(folder: Path, pattern: str) -> list[str]:
    """Return the printable names of the files that match a pattern and whose names are not UTF-8."""
    names = (str(path.relative_to(folder)) for path in folder.glob(pattern))
    return sorted(shown_name(name) for name in names if not is_text(name))


def largest_file(journal: Path) -> int:
    """Return the size in bytes of the largest journal file; 0 without any.

    Raises:
        AuditError: the journal cannot be listed, or holds something else than journal files.
    """
    return largest_of(Path(entry.path) for entry in _entries(journal))


def largest_of(paths: Iterable[Path]) -> int:
    """Return the size in bytes of the largest file; 0 without any.

    Raises:
        AuditError: a file is larger than journal files can be; DuckDB would allocate as much memory.
    """
    largest = 0
    for path in paths:
        size = os.lstat(path).st_size
        if size > files.LARGEST:
            raise files.too_large(path, files.LARGEST)
        largest = max(largest, size)
    return largest


def journal_files(journal: Path) -> list[Path]:
    """Return the journal files, by name.

    Raises:
        AuditError: the journal cannot be listed, or holds something else than files.
    """
    return sorted(journal / entry.name for entry in _entries(journal))


def without_newer(names: Iterable[str], before: Iterable[str]) -> set[str]:
    """Return the names in a listing up to the newest file that each writer had in an earlier listing.

    A listing may miss a file that is made meanwhile and still contain a later one. A file of the earlier
    listing was made before this listing began, and so were the earlier files of its writer: none is missing.
    """
    newest = _newest(before)
    return {
        name for name in names if (file := _parsed(name)) is None or file[1] <= newest.get(file[0], _NONE)[0]
    }


def numbered(name: str) -> tuple[str, int] | None:
    """Return the writer and the number of a journal file; None for a name that no writer gives a file."""
    match = re.fullmatch(WRITER, name, re.DOTALL)
    if match is None or not JOURNAL_FILE.fullmatch(name) or CARRIED_FILE.fullmatch(name):
        return None
    number = int(match[2] or 0)
    return (match[1], number) if number > 0 and name == file_name(match[1], number) else None


def file_name(writer: str, number: int) -> str:
    """Return the name of a writer's file."""
    return f"{writer}-{number:06d}.jsonl"


def chain_before(
    number: int, origin: str, sealed: Callable[[int], str | None], end: Callable[[int], str | None]
) -> str | None:
    """Return the chain value that the first line of a writer's file follows; None if nothing is known of it.

    A writer numbers its files from 1 without a gap, and each file follows the one before it: a seal has that
    file's last chain value, or the file is there. Verification, sealing and the search for answers all use
    this function, so that none of them trusts a line that another one would not.

    Args:
        number: The number of the file.
        origin: The chain value that the writer's first line follows.
        sealed: Returns the last chain value of a file that a seal covers, by number; None for other files.
        end: Returns the last chain value of a file that is there. A file without a line ends as it begins.
    """
    if number == 1:
        return origin
    value = sealed(number - 1)
    return end(number - 1) if value is None else value


def process_of(writer: str) -> str:
    """Return the part of a writer's name that all writers of its process share: the host and the pid."""
    return writer.rpartition("-")[0]


def first_seals(seals: Sequence[Seal]) -> dict[str, int]:
    """Return the index of the first seal that covers a file of a process, by process."""
    first: dict[str, int] = {}
    for index, seal in enumerate(seals):
        for file in seal.journals:
            if (named := numbered(file.file)) is not None:
                first.setdefault(process_of(named[0]), index)
    return first


def torn_files(paths: Iterable[Path], patience_s: float = 0.0) -> dict[Path, bytes]:
    """Return the whole lines of the journal files whose last line has no newline, by path.

    A record counts once its line is whole. Bytes after the last newline may be a line that a crash cut just
    before its newline, or planted ones, and DuckDB would read both.

    Args:
        paths: The journal files.
        patience_s: Seconds that a file in use may take to end its line.

    Raises:
        AuditError: a file cannot be read.
    """
    torn = {}
    until = time.monotonic() + patience_s
    for path in paths:
        with audit_errors("read the audit at", path), suppress(FileNotFoundError):  # sealed and removed
            while not _ends_whole(path) and time.monotonic() < until:
                time.sleep(0.001)
            content = b"" if _ends_whole(path) else files.read_file(path.parent, path.name)
            if not content.endswith(b"\n") and content:
                torn[path] = whole_part(content)
    return torn


def _ends_whole(path: Path) -> bool:
    with files.open_stream(path.parent, path.name) as file:
        size = os.fstat(file.fileno()).st_size
        return size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n"


class Writers(NamedTuple):
    """Which writers have ended, and which of the journal's files are complete."""

    ended: list[str]
    """Writers whose process is gone or has closed its journal: nobody will complete their open calls."""
    complete: list[Path]
    """Files that nobody writes to any more, by name; the files of a writer come without a gap."""
    growing: list[Path]
    """All other files: their writers may still write."""
    alive: list[str]
    """The writers of the growing files."""


def find_writers(journal: Path) -> Writers:
    """Find out who still writes, by the locks on the files.

    Raises:
        AuditError: the journal cannot be listed, or one of its files cannot be opened.
    """
    before = {entry.name for entry in _entries(journal)}
    newest = _newest(before)
    free = {writer for writer, (_, name) in newest.items() if not _is_held(journal / name)}
    names = {entry.name for entry in _entries(journal)}
    judged = without_newer(names, before)
    # A writer that has a newer file by now was alive after its lock was tested: it rotated, or came back.
    ended = free - _newest(names - judged).keys()
    complete = {
        name
        for name in judged
        if (file := _parsed(name)) is None or file[0] in ended or file[1] < newest[file[0]][0]
    }
    return Writers(
        [writer for writer in newest if writer in ended],
        [journal / name for name in sorted(complete)],
        [journal / name for name in sorted(names - complete)],
        list(_newest(names - complete)),
    )


_NONE = (-1, "")


def _parsed(name: str) -> tuple[str, int] | None:
    """Return the writer and the number in a file's name, which need not be a name that a writer gives."""
    match = re.fullmatch(WRITER, name, re.DOTALL)
    return None if match is None else (match[1], int(match[2] or 0))


def _newest(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return the number and name of the newest file of each writer."""
    newest: dict[str, tuple[int, str]] = {}
    for name in names:
        if (file := _parsed(name)) is not None:
            newest[file[0]] = max((file[1], name), newest.get(file[0], _NONE))
    return newest


def _entries(journal: Path) -> list[os.DirEntry[str]]:
    found: list[os.DirEntry[str]] = []
    with audit_errors("read the audit at", journal), suppress(FileNotFoundError), os.scandir(journal) as all_:
        found = [entry for entry in all_ if entry.name.endswith(".jsonl") and is_text(entry.name)]
    if journal.is_symlink():
        raise AuditError(f"`{journal}` is a symbolic link, not a directory of the audit: move it away")
    for entry in found:
        # DuckDB would follow a link, or wait for a pipe.
        if not entry.is_file(follow_symlinks=False):
            raise AuditError(f"`{entry.path}` is not a regular file, as every journal file is: move it away")
    return found


def _is_held(path: Path) -> bool:
    with audit_errors("read the audit at", path), suppress(FileNotFoundError):
        descriptor = files.open_file(path.parent, path.name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
