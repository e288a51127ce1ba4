"""The sealed part of an audit on object storage: sent there after sealing, and fetched from there to be read.

Below the prefix each audit has a folder with its id, laid out as its directory is: `seals.jsonl` and `lake/`.
A file is sent before the seals that name it, so whoever reads sees whole seals only. What was sent is known
from a listing, nowhere else, so a crash at any moment leaves nothing to repair. Key and journal are not sent.

Readers fetch what the others sealed into `mirror/` beside their own lake, and check it against its seals.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit import files
from aegis_otel.audit.chain import whole_part
from aegis_otel.audit.key import audit_id, load_key
from aegis_otel.audit.leftovers import GRACE
from aegis_otel.audit.location import KEY, LAKE, MIRROR, REMOTE, SEALS, alone, prepare
from aegis_otel.audit.seals import AUDIT_ID, Seal, Segment, live_segments, read_seal_lines, read_seals
from aegis_otel.errors import AegisError, AuditError

if TYPE_CHECKING:
    from obstore.store import S3Store

RETRIED = timedelta(seconds=60)
"""So long a request is tried again and again before it counts as failed."""


def push(directory: Path, url: str | None) -> list[str]:
    """Send what is sealed and not yet there.

    Args:
        directory: The audit's.
        url: The address that an argument or the environment names; None for a local audit, which is not sent.

    Returns:
        What could not be sent and why, a sentence for each.

    Raises:
        AuditError: the place cannot be reached, or holds seals that this audit does not have.
    """
    if url is None or not os.path.lexists(directory / SEALS):
        return []
    prepare(directory, url)
    with alone(directory, REMOTE), _reaching(url) as store:
        audit = audit_id(load_key(directory))
        content = read_seal_lines(directory)
        seals = read_seals(directory)  # then: all that `content` names, and perhaps what is sealed meanwhile
        if not content.startswith(_read(store, f"{audit}/{SEALS}") or b""):
            raise AuditError(
                f"`{url}/{audit}/{SEALS}` has seals that `{directory}` does not have, which is an older "
                "state, or a copy that another machine uses: nothing is sent"
            )
        there = _sizes(store, f"{audit}/{LAKE}/")
        live = {segment.file: segment for segment in live_segments(seals)}
        problems = [
            problem
            for file, segment in live.items()
            if there.get(file) != segment.bytes
            and (problem := _send(store, directory, f"{audit}/{LAKE}/{file}", segment))
        ]
        store.put(f"{audit}/{SEALS}", content)
        for file in _needless(seals) & there.keys():
            store.delete(f"{audit}/{LAKE}/{file}")
        return problems


def fetch(directory: Path, url: str | None) -> list[str]:
    """Bring the mirror up to what the other audits have sealed at the same place.

    Args:
        directory: The audit's.
        url: As for `push`.

    Returns:
        What is not shown and why, a sentence for each.

    Raises:
        AuditError: the place cannot be reached.
    """
    if url is None:
        return []
    prepare(directory, url)
    own = audit_id(load_key(directory)) if os.path.lexists(directory / KEY) else None
    problems = []
    with alone(directory, REMOTE), _reaching(url) as store:
        for name in store.list_with_delimiter()["common_prefixes"]:
            audit = name.rstrip("/").rpartition("/")[2]
            if AUDIT_ID.fullmatch(audit) and audit != own:
                try:
                    problems += _fetch(store, audit, directory, f"{MIRROR}/{audit}")
                except AegisError as error:
                    problems.append(f"`{url}/{audit}` is shown as it was fetched last: {error}")
    return problems


def _needless(seals: list[Seal]) -> set[str]:
    """Files that were replaced or pruned so long ago that no reader goes by the seals of before."""
    names = {segment.segment: segment.file for seal in seals for segment in seal.segments}
    before = datetime.now(UTC) - GRACE
    past = [seal for seal in seals if datetime.fromisoformat(seal.sealed_at) < before]
    return {names[number] for seal in past for number in seal.replaces}


def _send(store: S3Store, directory: Path, name: str, segment: Segment) -> str | None:
    """Send one file and see that it arrived; returns why not, where it is the file's fault."""
    path = directory / LAKE / segment.file
    try:
        content = files.read_file(directory, f"{LAKE}/{segment.file}")
    except FileNotFoundError:
        return f"the sealed file `{path}` is missing and cannot be sent"
    if hashlib.sha256(content).hexdigest() != segment.sha256:
        return f"the sealed file `{path}` is damaged and is not sent"
    store.put(name, content)
    if store.head(name)["size"] != segment.bytes:
        return f"the sealed file `{path}` did not arrive whole"
    return None


def _fetch(store: S3Store, audit: str, directory: Path, mirror: str) -> list[str]:
    content = whole_part(_read(store, f"{audit}/{SEALS}") or b"")
    files.make_folder(directory, f"{mirror}/{LAKE}")
    if not content.startswith(read_seal_lines(directory / mirror)):
        raise AuditError("its seals are not those of before with new ones behind them")
    kept = {segment.file for segment in live_segments(read_seals(directory / mirror))}  # perhaps being read
    _write(directory, f"{mirror}/{SEALS}", content)
    problems = []
    for segment in live_segments(read_seals(directory / mirror)):
        kept.add(segment.file)
        name = f"{mirror}/{LAKE}/{segment.file}"
        if _is_there(directory / name, segment.bytes):
            continue
        content = _read(store, f"{audit}/{LAKE}/{segment.file}") or b""
        if hashlib.sha256(content).hexdigest() != segment.sha256:
            problems.append(f"`{audit}/{LAKE}/{segment.file}` is not as it was sealed, and is not shown")
            continue
        files.make_folder(directory, name.rpartition("/")[0])
        _write(directory, name, content)
    lake = directory / mirror / LAKE
    for path in lake.glob("date=*/*.parquet"):
        file = f"{path.parent.name}/{path.name}"
        if file not in kept:
            files.remove_file(directory, f"{mirror}/{LAKE}/{file}")
    return problems


@contextmanager
def _reaching(url: str) -> Iterator[S3Store]:
    """The place; what goes wrong with it is an AuditError."""
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
        from obstore.store import S3Store  # noqa: PLC0415
    except ImportError as error:
        raise AuditError(f"`{url}` needs object storage: pip install '.[s3]' in a clone") from error
    try:
        yield S3Store.from_url(url, retry_config={"retry_timeout": RETRIED})
    except BaseError as error:
        raise AuditError(f"cannot use `{url}`: {_first_line(error)}") from error
    except OSError as error:
        raise AuditError(f"cannot use `{url}`: {error}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _read(store: S3Store, name: str) -> bytes | None:
    try:
        return bytes(store.get(name).bytes())
    except FileNotFoundError:
        return None


def _sizes(store: S3Store, folder: str) -> dict[str, int]:
    """Bytes of every object below a folder, by its name in it."""
    return {each["path"].partition(folder)[2]: each["size"] for page in store.list(folder) for each in page}


def _is_there(path: Path, size: int) -> bool:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(state.st_mode) and state.st_size == size


def _write(directory: Path, name: str, content: bytes) -> None:
    with files.replaced(directory, name) as draft:
        draft.file.write(content)
