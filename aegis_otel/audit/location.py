"""Where an audit is: its directory, what lies in it, and whether it may be trusted to be written to."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.config import AUDIT_DIR, AUDIT_SPOOL
from aegis_otel.errors import AuditError, ConfigError

JOURNAL = "journal"
LAKE = "lake"
SEALS = "seals.jsonl"
KEY = "key"
REMOTE = "remote"
"""The file that says for which address on object storage the directory was made. It sends nothing anywhere:
an address comes from an argument or the environment only, and this one has to agree with it."""
MIRROR = "mirror"
"""Below it are the sealed parts of the other audits at that address, as they were fetched. Who reads or
verifies the audit under its address reads and verifies them too; a local audit has none."""

_LONGEST_ADDRESS = 4_096
_DATABASE_SUFFIXES = (".db", ".duckdb")
_ELSEWHERE = f"choose another directory with `{AUDIT_DIR.env}` or `AuditLogger(path)`"
_FIXES = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space within the quota",
    errno.EFBIG: "raise the process's file size limit (`ulimit -f`)",
    errno.EMFILE: "raise the process's limit of open files (`ulimit -n`)",
}


def locate(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the audit directory a name stands for, absolute. Touches no disk.

    A suffix `.db` or `.duckdb` is dropped, so that a name given for a database file means the
    directory beside it: `aegis_audit.db` and `aegis_audit` are one audit.

    Args:
        path: Its name. Default: `AEGIS_AUDIT_DIR`, else `aegis_audit`.

    Raises:
        ConfigError: when no directory can have that name.
    """
    text = AUDIT_DIR.value(None if path is None else os.fsdecode(path))
    url = address(text)
    if url is not None:
        text = (
            AUDIT_SPOOL.value() or f"{AUDIT_DIR.default}-{re.sub('[^A-Za-z0-9]+', '-', url[5:]).strip('-')}"
        )
    if not text.strip() or "\0" in text or text == ":memory:":
        raise ConfigError(f"an audit is a directory on disk and cannot be named {text!r}: give it a path")
    directory = Path(os.path.abspath(os.path.expanduser(text)))
    if directory.anchor == "//":  # which POSIX lets stand, and DuckDB's names of files do not
        directory = Path("/", *directory.parts[1:])
    # DuckDB takes a backslash for a separator and has no way to escape one; its text is UTF-8.
    if re.search(r"[\\\ud800-\udfff]", str(directory)):
        raise ConfigError(
            f"an audit cannot be at {str(directory)!r}: DuckDB cannot read below a name with a backslash "
            f"or with bytes that are not UTF-8; {_ELSEWHERE}"
        )
    return directory.with_suffix("") if directory.suffix in _DATABASE_SUFFIXES else directory


def address(path: str | os.PathLike[str] | None = None) -> str | None:
    """Return the place on object storage that a name stands for; None where it is a directory.

    Raises:
        ConfigError: it is at no such place that is known here.
    """
    text = AUDIT_DIR.value(None if path is None else os.fsdecode(path))
    if not re.match("[A-Za-z][A-Za-z0-9+.-]*://", text):
        return None
    if re.match("s3://[^/]{1,2}(/|$)", text):
        raise ConfigError(f"an audit cannot be at `{text}`: a bucket's name has at least 3 characters")
    if not re.fullmatch("s3://[A-Za-z0-9][A-Za-z0-9.-]+(/[!-.0-~]+)*/?", text):
        raise ConfigError(f"an audit cannot be at `{text}`: expected a directory, or `s3://bucket/prefix`")
    return text.rstrip("/")


def stated_address(directory: Path) -> str | None:
    """Return the address that the directory was made for, only to be compared and shown.

    Raises:
        AuditError: the directory says one, and it cannot be read.
    """
    try:
        content = files.read_file(directory, REMOTE, _LONGEST_ADDRESS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure("read the audit at", directory / REMOTE, error) from error
    try:
        return address(content.decode().strip())
    except (ConfigError, UnicodeDecodeError):
        raise AuditError(
            f"`{directory / REMOTE}` states no address on object storage: move it away"
        ) from None


def unsendable(url: str | None) -> str | None:
    """Return why nothing can be sent to that place from here, where the package for it is not installed."""
    if url is None or find_spec("obstore") is not None:
        return None
    return f"`{url}` needs object storage: pip install '.[s3]' in a clone"


def failure(verb: str, path: Path, error: OSError, otherwise: str = _ELSEWHERE) -> AuditError:
    """Return the error for what the system refuses: the path, the cause, and how to fix it."""
    if isinstance(error, AuditError):
        return error  # which says all that
    fix = _FIXES.get(error.errno or 0, otherwise)
    return AuditError(f"cannot {verb} `{path}`: {(error.strerror or str(error)).lower()}; {fix}")


def exists(directory: Path) -> bool:
    """Return whether there is an audit to read; an empty directory is one without rows.

    Raises:
        AuditError: when something else stands there, or it cannot be looked at.
    """
    try:
        return _exists(directory)
    except AuditError:
        raise
    except OSError as error:
        raise failure("read the audit at", directory, error) from error


def prepare(directory: Path, url: str | None = None) -> Path:
    """Make the directory and its journal, or see that nobody else can tamper with them.

    Args:
        directory: The audit's.
        url: Where on object storage its sealed part goes as well.

    Returns:
        The journal's directory.

    Raises:
        AuditError: when they cannot be made, or belong to others, or others may write to them; or the
            directory is the local part of an audit at another `url`.
    """
    journal = directory / JOURNAL
    try:
        if not _exists(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(directory, directory.stat())
        journal.mkdir(mode=0o700, exist_ok=True)
        _check(journal, journal.lstat())
        if url is not None:
            _state(directory, url)
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


def _state(directory: Path, url: str) -> None:
    stated = stated_address(directory)
    if stated is None:
        with files.replaced(directory, REMOTE) as draft:
            draft.file.write(f"{url}\n".encode())
    elif stated != url:
        raise AuditError(
            f"`{directory}` is the local part of the audit at `{stated}`, not of that at `{url}`: "
            f"choose another one with `{AUDIT_SPOOL.env}`"
        )


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


@contextmanager
def alone(directory: Path, name: str, patience: float | None = None) -> Iterator[None]:
    """Hold the lock of a file or folder of the audit: one process, and one thread in it, at a time.

    Args:
        patience: As for `files.lock`.

    Raises:
        AuditError: it is not there, or cannot be locked.
    """
    try:
        opened = files.open_folder if name == JOURNAL else files.open_file
        descriptor = opened(directory, name)
    except OSError as error:
        raise failure("read the audit at", directory / name, error) from error
    try:
        try:
            files.lock(descriptor, fcntl.LOCK_EX, patience)
        except TimeoutError as error:
            raise failure("lock", directory / name, error, "end it, and try again") from error
        yield
    finally:
        os.close(descriptor)
