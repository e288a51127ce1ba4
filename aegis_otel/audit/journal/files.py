"""Which journal files there are, and which of their writers are gone.

A reader judges a writer by the lock on its newest file (see `audit.journal.writer`). It only ever asks for a
shared lock and never waits, so it holds up neither writers nor other readers.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit import files
from aegis_otel.audit.location import failure
from aegis_otel.audit.seals.hash_chain import whole_part
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, JOURNAL_FILE, Seal
from aegis_otel.errors import AuditError

WRITER = r"([^/]+?)(?:-([0-9]+))?\.jsonl$"
"""Matches the end of a journal file's path: the writer and the file's number. Read by Python and RE2."""


def is_text(name: str) -> bool:
    """Return whether a name is UTF-8, as all names in an audit are; a reader passes over any other."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def shown_name(name: str) -> str:
    """Return a name as it can be printed, with escapes for bytes that are not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def not_text(folder: Path, pattern: str) -> list[str]:
    """Return what matches a pattern in a folder and has a name that is not UTF-8, as it can be printed."""
    names = (str(path.relative_to(folder)) for path in folder.glob(pattern))
    return sorted(shown_name(name) for name in names if not is_text(name))


def largest_file(journal: Path) -> int:
    """Return the size in bytes of the largest journal file; 0 without any.

    Raises:
        AuditError: when the journal cannot be listed, or holds what is no file of a journal.
    """
    return largest_of(Path(entry.path) for entry in _entries(journal))


def largest_of(paths: Iterable[Path]) -> int:
    """Return the size in bytes of the largest of some files; 0 without any.

    Raises:
        AuditError: one is larger than any file of a journal; DuckDB would ask for as much memory.
    """
    largest = 0
    for path in paths:
        size = os.lstat(path).st_size
        if size > files.LARGEST:
            raise files.too_large(path, files.LARGEST)
        largest = max(largest, size)
    return largest


def journal_files(journal: Path) -> list[Path]:
    """Return the journal files there are, by name.

    Raises:
        AuditError: when the journal cannot be listed, or holds what is no file.
    """
    return sorted(journal / entry.name for entry in _entries(journal))


def without_newer(names: Iterable[str], before: Iterable[str]) -> set[str]:
    """Return the names in a listing that can be judged: those up to each writer's newest before.

    A listing may miss a file that is made while it goes on, and have a later one. What is in it was made
    before the next listing began; so were the earlier files of its writer, and none of those is missed again.
    """
    newest = _newest(before)
    return {
        name for name in names if (file := _parsed(name)) is None or file[1] <= newest.get(file[0], _NONE)[0]
    }


def numbered(name: str) -> tuple[str, int] | None:
    """Return the writer and the number of a journal file; None for a name that no writer gives one."""
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
    """Return the chain value that the first line of a writer's file follows; None where it follows nothing.

    A writer numbers its files from 1 without a gap. So a file follows the one before it, which a seal covers
    or which is there, and nothing where that is missing or follows nothing itself. Verification, sealing and
    whoever acts on answers all ask this, or one would take lines for true that another has not looked at.

    Args:
        number: Of the file.
        origin: What the first line of the writer follows.
        sealed: The chain value at the end of a file that a seal covers; None for one that none covers.
        end: That at the end of one that is there, which is what it follows where it has no line.
    """
    if number == 1:
        return origin
    value = sealed(number - 1)
    return end(number - 1) if value is None else value


def process_of(writer: str) -> str:
    """Return what all writers of one process have in common: its host and id."""
    return writer.rpartition("-")[0]


def first_seals(seals: Sequence[Seal]) -> dict[str, int]:
    """Return, by process, the index of the first seal that covers a file which it wrote."""
    first: dict[str, int] = {}
    for index, seal in enumerate(seals):
        for file in seal.journals:
            if (named := numbered(file.file)) is not None:
                first.setdefault(process_of(named[0]), index)
    return first


def torn_files(paths: Iterable[Path], patience_s: float = 0.0) -> dict[Path, bytes]:
    """Return what is whole of the files whose last line has no newline.

    A record counts once its line is whole. What comes after the last newline can be a line that a crash has
    cut by its newline alone, or one that was put there, and DuckDB reads both.

    Args:
        paths: Of journal files.
        patience_s: So long a file that is written to may take to end its line.

    Raises:
        AuditError: one of them cannot be read.
    """
    torn = {}
    until = time.monotonic() + patience_s
    for path in paths:
        try:
            while not _ends_whole(path) and time.monotonic() < until:
                time.sleep(0.001)
            content = b"" if _ends_whole(path) else files.read_file(path.parent, path.name)
        except FileNotFoundError:  # sealed and removed meanwhile
            continue
        except OSError as error:
            raise failure("read the audit at", path, error) from error
        if not content.endswith(b"\n") and content:
            torn[path] = whole_part(content)
    return torn


def _ends_whole(path: Path) -> bool:
    with files.open_stream(path.parent, path.name) as file:
        size = os.fstat(file.fileno()).st_size
        return size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n"


class Writers(NamedTuple):
    ended: list[str]
    """Those whose process is gone, or has let the audit go: what they left open stays open."""
    complete: list[Path]
    """The files that nobody writes to any more, by name; of each writer without a gap."""
    growing: list[Path]
    """The others, of writers that may still write."""


def find_writers(journal: Path) -> Writers:
    """See who still writes, by the locks on the files.

    Raises:
        AuditError: when the journal cannot be listed, or a file of it cannot be opened.
    """
    before = {entry.name for entry in _entries(journal)}
    newest = _newest(before)
    free = {writer for writer, (_, name) in newest.items() if not _is_held(journal / name)}
    names = {entry.name for entry in _entries(journal)}
    judged = without_newer(names, before)
    # Who has a newer file by now was alive after the look at its lock: it rotated, or came back.
    ended = free - {file[0] for name in names - judged if (file := _parsed(name)) is not None}
    complete = {
        name
        for name in judged
        if (file := _parsed(name)) is None or file[0] in ended or file[1] < newest[file[0]][0]
    }
    return Writers(
        [writer for writer in newest if writer in ended],
        [journal / name for name in sorted(complete)],
        [journal / name for name in sorted(names - complete)],
    )


_NONE = (-1, "")


def _parsed(name: str) -> tuple[str, int] | None:
    """Return the writer and the number of a journal file."""
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
    try:
        with os.scandir(journal) as entries:
            found = [entry for entry in entries if entry.name.endswith(".jsonl") and is_text(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure("read the audit at", journal, error) from error
    if journal.is_symlink():
        raise AuditError(f"`{journal}` is a symbolic link, not a directory of the audit: move it away")
    for entry in found:
        # DuckDB would follow a link, or wait for a pipe.
        if not entry.is_file(follow_symlinks=False):
            raise AuditError(f"`{entry.path}` is not a regular file, as every journal file is: move it away")
    return found


def _is_held(path: Path) -> bool:
    try:
        descriptor = files.open_file(path.parent, path.name)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise failure("read the audit at", path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise failure("read the audit at", path, error) from error
    finally:
        os.close(descriptor)
    return False
