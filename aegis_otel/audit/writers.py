"""Which journal files there are, and which of their writers are gone.

A reader judges a writer by the lock on its newest file (see `audit.journal`). It only ever asks for a
shared lock and never waits, so it holds up neither writers nor other readers.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit.location import failure
from aegis_otel.errors import AuditError

WRITER = r"([^/]+?)(?:-([0-9]+))?\.jsonl$"
"""Matches the end of a journal file's path: the writer and the file's number. Read by Python and RE2."""


def largest_file(journal: Path) -> int:
    """Size in bytes of the largest journal file; 0 without any.

    Raises:
        AuditError: when the journal cannot be listed, or holds what is no file.
    """
    return max((entry.stat(follow_symlinks=False).st_size for entry in _entries(journal)), default=0)


def journal_files(journal: Path) -> list[Path]:
    """The journal files there are, by name.

    Raises:
        AuditError: when the journal cannot be listed, or holds what is no file.
    """
    return sorted(journal / entry.name for entry in _entries(journal))


class Writers(NamedTuple):
    ended: list[str]
    """Those whose process is gone, or has let the audit go: what they left open stays open."""
    complete: list[Path]
    """The files that nobody writes to any more, by name."""


def look_at_writers(journal: Path) -> Writers:
    """See who still writes, by the locks on the files.

    Raises:
        AuditError: when the journal cannot be listed, or a file of it cannot be opened.
    """
    newest: dict[str, tuple[int, str]] = {}
    names = []
    for entry in _entries(journal):
        names.append(entry.name)
        if match := re.fullmatch(WRITER, entry.name, re.DOTALL):
            file = (int(match[2] or 0), entry.name)
            newest[match[1]] = max(file, newest.get(match[1], file))
    held = {writer for writer, (_, name) in newest.items() if _is_alive(journal, name)}
    growing = {newest[writer][1] for writer in held}
    return Writers(
        [writer for writer in newest if writer not in held],
        [journal / name for name in sorted(names) if name not in growing],
    )


def _entries(journal: Path) -> list[os.DirEntry[str]]:
    try:
        found = [entry for entry in os.scandir(journal) if entry.name.endswith(".jsonl")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure("read the audit at", journal, error) from error
    for entry in found:
        # Following a link or opening a pipe would read, or wait for, what is no part of the audit.
        if not entry.is_file(follow_symlinks=False):
            raise AuditError(f"`{entry.path}` is not a regular file, as every journal file is: move it away")
    return found


def _is_alive(journal: Path, name: str) -> bool:
    """Whether the writer of this file lives; follows it to newer files made since it was listed."""
    while not _is_held(journal / name):
        match = re.fullmatch(r"(.+-)([0-9]+)\.jsonl", name, re.DOTALL)
        if match is None:
            return False
        name = f"{match[1]}{int(match[2]) + 1:0{len(match[2])}d}.jsonl"
        if not (journal / name).exists():
            return False
    return True


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
