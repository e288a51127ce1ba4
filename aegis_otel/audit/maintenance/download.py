"""Fetch what other audits have sealed at the same place on object storage, to be read beside one's own.

`audit.maintenance.upload` says what lies there. It is fetched into `mirror/` and checked against its seals.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit import files
from aegis_otel.audit.journal.policy_changes import (
    CHANGES,
    TEXT_BYTES,
    read_change_lines,
    sealed_part,
    stated_texts,
)
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.audit.lake.segments import is_segment
from aegis_otel.audit.location import KEY, LAKE, MIRROR, POLICIES, REMOTE, SEALS, alone, prepare
from aegis_otel.audit.maintenance import object_store
from aegis_otel.audit.maintenance.object_store import (
    chunks_of,
    failing_as,
    list_folders,
    reaching,
    read_object,
)
from aegis_otel.audit.seals.hash_chain import check, seals_origin, whole_lines, whole_part
from aegis_otel.audit.seals.seal_log import (
    AUDIT_ID,
    Seal,
    SealedChanges,
    Segment,
    live_segments,
    parse_seals,
    read_seal_lines,
    read_seals,
    sealed_changes,
)
from aegis_otel.errors import AegisError, AuditError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_LARGEST_SEALS = 128 << 20
"""The most bytes that are read of the seals of others: a year of seals has some 10 MiB."""


def fetch(directory: Path, url: str | None) -> list[str]:
    """Bring the mirror up to what the other audits have sealed at the same place.

    Args:
        directory: The audit's.
        url: As for `audit.maintenance.upload.push`.

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
    with alone(directory, REMOTE), reaching(url) as store:
        names = {name.rstrip("/").rpartition("/")[2] for name in list_folders(store)}
        audits = {name for name in names if AUDIT_ID.fullmatch(name)}
        patience = object_store.RETRIED.total_seconds()
        for audit in sorted(audits - {own}):
            begun = time.monotonic()
            try:
                with failing_as("it cannot be fetched"):
                    problems += _fetch(store, audit, directory, f"{MIRROR}/{audit}")
            except AegisError as error:
                problems.append(f"`{url}/{audit}` is shown as it was fetched last: {error}")
                patience -= time.monotonic() - begun
                if patience < 0:  # the place is out of reach as a whole, or somebody wants us to wait
                    raise AuditError(f"cannot use `{url}`: {problems[-1]}") from None
        for mirror in find_mirrors(directory):
            if mirror.name not in audits:
                problems.append(
                    f"`{url}/{mirror.name}` is not there, and is shown as it was fetched last: it was taken "
                    f"away, or somebody put it into `{mirror}`, which is then to be moved away"
                )
        return problems


def _fetch(store: ObjectStore, audit: str, directory: Path, mirror: str) -> list[str]:
    """Fetch what one audit has sealed: its files first, so that readers see seals whose files are there."""
    content = read_object(store, f"{audit}/{SEALS}", _LARGEST_SEALS) or b""
    if len(content) > _LARGEST_SEALS:
        raise AuditError(f"its seals are larger than they can be ({_LARGEST_SEALS} bytes)")
    content = whole_part(content)
    if not content.startswith(read_seal_lines(directory / mirror)):
        raise AuditError("its seals are not those of before with new ones behind them")
    if not content:
        return []
    seals = _parse_seals(audit, content)
    live = live_segments(seals)
    problems = _fetch_policies(store, audit, directory, mirror, sealed_changes(seals))
    for segment in live:
        name = f"{LAKE}/{segment.file}"
        if not _is_there(directory / mirror / name, segment.bytes) and (
            what := _fetch_segment(store, audit, directory, segment)
        ):
            problems.append(f"`{audit}/{name}` {what}, and is not shown")
    kept = {each.file for each in live + live_segments(read_seals(directory / mirror))}  # perhaps being read
    files.make_folder(directory, f"{mirror}/{LAKE}")
    with files.replaced(directory, f"{mirror}/{SEALS}") as draft:
        draft.file.write(content)
    for path in (directory / mirror / LAKE).glob("date=*/*.parquet"):
        file = f"{path.parent.name}/{path.name}"
        if file not in kept:
            files.remove_file(directory, f"{mirror}/{LAKE}/{file}")
    return problems


def _fetch_policies(
    store: ObjectStore, audit: str, directory: Path, mirror: str, sealed: SealedChanges | None
) -> list[str]:
    """Fetch what is sealed of the log of changes of policy, and the texts that it names."""
    if sealed is None:
        return []
    content = sealed_part(read_change_lines(directory / mirror), audit, sealed)
    if content is None:
        there = read_object(store, f"{audit}/{CHANGES}", _LARGEST_SEALS) or b""
        content = sealed_part(there, audit, sealed)
        if content is None:
            return [f"`{audit}/{CHANGES}` is not as it was sealed, and is not shown"]
        files.make_folder(directory, f"{mirror}/{POLICIES}")
        with files.replaced(directory, f"{mirror}/{CHANGES}") as draft:
            draft.file.write(content)
    problems = []
    for name, sha256 in stated_texts(content).items():
        if os.path.lexists(directory / mirror / name):
            continue
        text = read_object(store, f"{audit}/{name}", TEXT_BYTES) or b""
        if hashlib.sha256(text).hexdigest() != sha256:
            problems.append(f"`{audit}/{name}` is missing or not as it was sealed, and is not shown")
            continue
        with files.replaced(directory, f"{mirror}/{name}") as draft:
            draft.file.write(text)
    return problems


def _parse_seals(audit: str, content: bytes) -> list[Seal]:
    """Return the seals of an audit on object storage, where others may have put them.

    Raises:
        AuditError: a line is no seal, is not of that audit, or does not follow the line before it.
    """
    seals = parse_seals(Path(audit, SEALS), content)
    head = seals_origin(audit)
    for number, (seal, line) in enumerate(zip(seals, whole_lines(content), strict=True), 1):
        found = check(head, line)
        if found is None or seal.audit != audit:
            raise AuditError(f"line {number} of its seals does not follow what is before it")
        head = found
    return seals


def _fetch_segment(store: ObjectStore, audit: str, directory: Path, segment: Segment) -> str | None:
    """Fetch one file, and return what is wrong with it: it is then not kept."""
    name = f"{LAKE}/{segment.file}"
    files.make_folder(directory, f"{MIRROR}/{audit}/{LAKE}/{segment.file.rpartition('/')[0]}")
    digest = hashlib.sha256()
    try:
        with files.replaced(directory, f"{MIRROR}/{audit}/{name}") as draft:
            for chunk in chunks_of(store, f"{audit}/{name}", min(segment.bytes, files.LARGEST)):
                digest.update(chunk)
                draft.file.write(chunk)
            draft.file.flush()
            if digest.hexdigest() != segment.sha256:
                raise _Refused("is not as it was sealed")
            if not is_segment(draft.path):
                raise _Refused("has not the columns of a segment that this version knows")
    except FileNotFoundError:
        return "is missing"
    except _Refused as why:
        return str(why)
    return None


class _Refused(Exception):
    """A fetched file is not what it should be, so it does not take its place."""


def _is_there(path: Path, size: int) -> bool:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(state.st_mode) and state.st_size == size
