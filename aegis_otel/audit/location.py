"""Where an audit is: its directory, what lies in it, and whether others could tamper with it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.config import AUDIT_DIR, AUDIT_SPOOL
from aegis_otel.config.storage_schemes import PACKAGE, address_fault, missing_package
from aegis_otel.errors import AuditError, ConfigError

JOURNAL = "journal"
LAKE = "lake"
SEALS = "seals.jsonl"
KEY = "key"
POLICIES = "policies"
"""The folder with the text of each policy that was in force, and the log of changes of policy."""
REMOTE = "remote"
"""The file with the address on object storage that the directory was made for. Data is only sent to an
address from an argument or the environment, and that address has to be the same."""
MIRROR = "mirror"
"""The folder with the sealed parts of the other audits at that address, as they were fetched. They are read
and verified together with the audit; a local audit has none."""

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
    """Return the absolute audit directory that a name stands for, without touching the disk.

    A suffix `.db` or `.duckdb` is dropped: `aegis_audit.db` and `aegis_audit` are one audit.

    Args:
        path: The name. Default: `AEGIS_AUDIT_DIR`, else `aegis_audit`.

    Raises:
        ConfigError: no directory can have that name.
    """
    text = AUDIT_DIR.value(None if path is None else os.fsdecode(path))
    url = address(text)
    if url is not None:
        place = re.sub("[^A-Za-z0-9]+", "-", url.partition("://")[2]).strip("-")
        text = AUDIT_SPOOL.value() or f"{AUDIT_DIR.default}-{place}"
    if not text.strip() or "\0" in text or text == ":memory:":
        raise ConfigError(f"an audit is a directory on disk and cannot be named {text!r}: give it a path")
    directory = Path(os.path.abspath(os.path.expanduser(text)))
    if directory.anchor == "//":  # POSIX allows this, and DuckDB's file names do not
        directory = Path("/", *directory.parts[1:])
    # DuckDB takes a backslash for a separator and cannot escape one; its text is UTF-8.
    if re.search(r"[\\\ud800-\udfff]", str(directory)):
        raise ConfigError(
            f"an audit cannot be at {str(directory)!r}: DuckDB cannot read below a name with a backslash "
            f"or with bytes that are not UTF-8; {_ELSEWHERE}"
        )
    return directory.with_suffix("") if directory.suffix in _DATABASE_SUFFIXES else directory


def address(path: str | os.PathLike[str] | None = None) -> str | None:
    """Return the address on object storage that a name stands for; None for a directory.

    Raises:
        ConfigError: the address is not supported.
    """
    text = AUDIT_DIR.value(None if path is None else os.fsdecode(path))
    if not re.match("[A-Za-z][A-Za-z0-9+.-]*://", text):
        return None
    if (fault := address_fault(text)) is not None:
        raise ConfigError(f"an audit cannot be at `{text}`: {fault}")
    return text.rstrip("/")


def stated_address(directory: Path) -> str | None:
    """Return the address that the directory was made for, to be compared and shown; None for a local audit.

    Raises:
        AuditError: the address cannot be read.
    """
    path = directory / REMOTE
    with audit_errors("read the audit at", path), suppress(FileNotFoundError):
        try:
            return address(files.read_file(directory, REMOTE, _LONGEST_ADDRESS).decode().strip())
        except (ConfigError, UnicodeDecodeError):
            raise AuditError(f"`{path}` states no address on object storage: move it away") from None
    return None


def unsendable(url: str | None) -> str | None:
    """Return why nothing can be sent to an address: its package is not installed. None if it can."""
    return None if url is None or find_spec(PACKAGE) is not None else missing_package(url)


def user_folder(what: str, otherwise: str) -> Path:
    """Return the folder for the keys of this user, by the XDG Base Directory Specification.

    A relative `XDG_STATE_HOME` is ignored, as it says.

    Args:
        what: What is to be there, such as `the approval key`.
        otherwise: How to do without the folder.

    Raises:
        AuditError: the user has no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise AuditError(f"there is no home directory for {what}: {otherwise}") from error
    return base / "aegis-otel"


def failure(verb: str, path: Path, error: OSError, otherwise: str = _ELSEWHERE) -> AuditError:
    """Return an AuditError for an error of the system: the path, the cause, and how to fix it.

    Args:
        verb: What could not be done, such as `read the audit at`.
        path: The file or directory.
        error: The error. An AuditError is returned as it is.
        otherwise: How to fix what has no fix of its own.
    """
    if isinstance(error, AuditError):
        return error
    fix = _FIXES.get(error.errno or 0, otherwise)
    return AuditError(f"cannot {verb} `{path}`: {(error.strerror or str(error)).lower()}; {fix}")


@contextmanager
def audit_errors(verb: str, path: Path, otherwise: str = _ELSEWHERE) -> Iterator[None]:
    """Raise the AuditError of `failure` in place of each OSError; the arguments are those of `failure`."""
    try:
        yield
    except AuditError:
        raise
    except OSError as error:
        raise failure(verb, path, error, otherwise) from error


def exists(directory: Path, verb: str = "read") -> bool:
    """Return whether there is an audit; an empty directory is an audit without rows.

    Args:
        verb: What cannot be done with the audit if an error is raised.

    Raises:
        AuditError: something else has that name, or the directory cannot be listed.
    """
    with audit_errors(f"{verb} the audit at", directory):
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


def prepare(directory: Path, url: str | None = None) -> Path:
    """Make the directory and its journal, or check that nobody else can tamper with them.

    Args:
        url: The address on object storage that its sealed part is sent to.

    Returns:
        The journal's directory.

    Raises:
        AuditError: they cannot be made, belong to others, or can be written by others; or the directory is
            the local part of an audit at another address.
    """
    journal = directory / JOURNAL
    with audit_errors("write the audit at", directory):
        if not exists(directory, "write"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(directory, directory.stat())
        journal.mkdir(mode=0o700, exist_ok=True)
        _check_owner(journal, journal.lstat())
        if url is None or (stated := stated_address(directory)) == url:
            return journal
        if stated is not None:
            raise AuditError(
                f"`{directory}` is the local part of the audit at `{stated}`, not of that at `{url}`: "
                f"choose another one with `{AUDIT_SPOOL.env}`"
            )
        with files.replaced(directory, REMOTE) as draft:
            draft.file.write(f"{url}\n".encode())
    return journal


def _check_owner(directory: Path, state: os.stat_result) -> None:
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
    """Hold the lock of a file or of the journal's folder: one thread of one process holds it at a time.

    Args:
        name: The name of the file or folder in it.
        patience: Seconds to wait, as for `files.lock`.

    Raises:
        AuditError: the file is not there, or cannot be locked.
    """
    with audit_errors("read the audit at", directory / name):
        descriptor = (files.open_folder if name == JOURNAL else files.open_file)(directory, name)
    try:
        with audit_errors("lock", directory / name, "end it, and try again"):
            files.lock(descriptor, fcntl.LOCK_EX, patience)
        yield
    finally:
        os.close(descriptor)
