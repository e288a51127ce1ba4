"""Where an audit is: its directory, what lies in it, and whether it may be trusted to be written to."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from aegis_otel.config import AUDIT_DIR
from aegis_otel.errors import AuditError, ConfigError

JOURNAL = "journal"
LAKE = "lake"
SEALS = "seals.jsonl"
KEY = "key"

_DATABASE_SUFFIXES = (".db", ".duckdb")
_ELSEWHERE = f"choose another directory with `{AUDIT_DIR.env}` or `AuditLogger(path)`"
_MEND = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space within the quota",
    errno.EFBIG: "raise the process's file size limit (`ulimit -f`)",
    errno.EMFILE: "raise the process's limit of open files (`ulimit -n`)",
}


def locate(path: str | os.PathLike[str] | None = None) -> Path:
    """The audit directory a name stands for, absolute. Touches no disk.

    A suffix `.db` or `.duckdb` is dropped, so that a name given for a database file means the
    directory beside it: `aegis_audit.db` and `aegis_audit` are one audit.

    Args:
        path: Its name. Default: `AEGIS_AUDIT_DIR`, else `aegis_audit`.

    Raises:
        ConfigError: when no directory can have that name.
    """
    text = AUDIT_DIR.value(None if path is None else os.fsdecode(path))
    if not text.strip() or "\0" in text or text == ":memory:":
        raise ConfigError(f"an audit is a directory on disk and cannot be named {text!r}: give it a path")
    directory = Path(os.path.abspath(os.path.expanduser(text)))
    # DuckDB takes a backslash for a separator and has no way to escape one; its text is UTF-8.
    if re.search(r"[\\\ud800-\udfff]", str(directory)):
        raise ConfigError(
            f"an audit cannot be at {str(directory)!r}: DuckDB cannot read below a name with a backslash "
            f"or with bytes that are not UTF-8; {_ELSEWHERE}"
        )
    return directory.with_suffix("") if directory.suffix in _DATABASE_SUFFIXES else directory


def failure(verb: str, path: Path, error: OSError, otherwise: str = _ELSEWHERE) -> AuditError:
    """What to raise when the system refuses something: the path, the cause, and how to mend it."""
    mend = _MEND.get(error.errno or 0, otherwise)
    return AuditError(f"cannot {verb} `{path}`: {(error.strerror or str(error)).lower()}; {mend}")


def exists(directory: Path) -> bool:
    """Whether there is an audit to read; an empty directory is one without rows.

    Raises:
        AuditError: when something else stands there, or it cannot be looked at.
    """
    try:
        return _exists(directory)
    except AuditError:
        raise
    except OSError as error:
        raise failure("read the audit at", directory, error) from error


def prepare(directory: Path) -> Path:
    """Make the directory and its journal, or see that nobody else can tamper with them.

    Returns:
        The journal's directory.

    Raises:
        AuditError: when they cannot be made, or belong to others, or others may write to them.
    """
    journal = directory / JOURNAL
    try:
        if not _exists(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(directory, directory.stat())
        journal.mkdir(mode=0o700, exist_ok=True)
        _check(journal, journal.lstat())
    except AuditError:
        raise
    except OSError as error:
        raise failure("write the audit at", directory, error) from error
    return journal


def _exists(directory: Path) -> bool:
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise AuditError(
            f"`{directory}` is a file, not an audit directory: give another path, or move the file away"
        ) from None
    if entries and JOURNAL not in entries:
        raise AuditError(
            f"`{directory}` is not an audit directory (it has files, but no `{JOURNAL}`): "
            "give the path of an audit, or of a new directory"
        )
    return True


def _check(directory: Path, state: os.stat_result) -> None:
    if not stat.S_ISDIR(state.st_mode):
        raise AuditError(f"`{directory}` is not a directory: move it away")
    if state.st_uid != os.geteuid():
        raise AuditError(
            f"`{directory}` belongs to user {state.st_uid}, and this process is user {os.geteuid()}: "
            f"change its owner, or {_ELSEWHERE}"
        )
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AuditError(
            f"`{directory}` can be written by others (mode {stat.S_IMODE(state.st_mode):04o}): "
            f"run `chmod go-w` on it, or {_ELSEWHERE}"
        )
