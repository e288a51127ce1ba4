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
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit import files
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.cleanup import GRACE
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.audit.lake.segments import is_segment
from aegis_otel.audit.location import KEY, LAKE, MIRROR, REMOTE, SEALS, alone, prepare
from aegis_otel.audit.maintenance import object_store
from aegis_otel.audit.maintenance.object_store import (
    chunks_of,
    failing_as,
    list_folders,
    list_sizes,
    reaching,
    read_object,
)
from aegis_otel.audit.seals.hash_chain import check, seals_origin, whole_lines, whole_part
from aegis_otel.audit.seals.seal_log import (
    AUDIT_ID,
    Seal,
    Segment,
    live_segments,
    parse_seals,
    read_seal_lines,
    read_seals,
)
from aegis_otel.audit.seals.signing import is_signed_here
from aegis_otel.audit.verify.rows import taken_over
from aegis_otel.audit.verify.seals import Ledger, check_seals
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AegisError, AuditError

if TYPE_CHECKING:
    from obstore.store import S3Store


_LARGEST_SEALS = 128 << 20
"""Bytes that are read of the seals of others: those of a year have some 10 MiB."""


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
    with alone(directory, REMOTE), reaching(url) as store:
        audit = audit_id(load_key(directory))
        content = read_seal_lines(directory)
        proof = Proof(directory, audit=audit)
        ledger = check_seals(proof, [])  # then: all that `content` names, and what is sealed meanwhile
        if proof.findings:  # such as of a seal that somebody put there, to have files removed
            raise AuditError(
                f"the seals of `{directory}` contradict each other, and nothing is sent: "
                f"{proof.findings[0]} (see `aegis audit verify`)"
            )
        if not content.startswith(read_object(store, f"{audit}/{SEALS}", len(content)) or b""):
            raise AuditError(
                f"`{url}/{audit}/{SEALS}` has seals that `{directory}` does not have, which is an older "
                "state, or a copy that another machine uses: nothing is sent"
            )
        there = list_sizes(store, f"{audit}/{LAKE}/")
        live = {segment.file: segment for segment in live_segments(ledger.seals)}
        problems = [
            problem
            for file, segment in live.items()
            if there.get(file) != segment.bytes
            and (problem := _send(store, directory, f"{audit}/{LAKE}/{file}", segment))
        ]
        store.put(f"{audit}/{SEALS}", content)
        obsolete = {number: file for number, file in _obsolete(ledger.seals).items() if file in there}
        removable = _removable(directory, ledger, obsolete.keys())
        for number in sorted(removable):
            store.delete(f"{audit}/{LAKE}/{obsolete[number]}")
        if kept := sorted(obsolete.keys() - removable):
            problems.append(
                f"`{url}/{audit}/{LAKE}/{obsolete[kept[0]]}` and {len(kept) - 1} more files were replaced, "
                "and stay there: their rows are not found, as they were sealed, in what replaced them, or "
                f"were removed by a seal that the key of `{SEAL_KEY.env}` here has not signed"
            )
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
                if patience < 0:  # it is not one audit that cannot be fetched, or somebody wants us to wait
                    raise AuditError(f"cannot use `{url}`: {problems[-1]}") from None
        for mirror in find_mirrors(directory):
            if mirror.name not in audits:
                problems.append(
                    f"`{url}/{mirror.name}` is not there, and is shown as it was fetched last: it was taken "
                    f"away, or somebody put it into `{mirror}`, which is then to be moved away"
                )
        return problems


def _obsolete(seals: list[Seal]) -> dict[int, str]:
    """Return the segments that were replaced or pruned so long ago that no reader uses older seals."""
    names = {segment.segment: segment.file for seal in seals for segment in seal.segments}
    before = datetime.now(UTC) - GRACE
    past = [seal for seal in seals if datetime.fromisoformat(seal.sealed_at) < before]
    return {number: names[number] for seal in past for number in seal.replaces}


def _removable(directory: Path, ledger: Ledger, replaced: Collection[int]) -> set[int]:
    """Return those of replaced segments that may be removed where they were sent to.

    That is no copy of the directory, but what is left when somebody rewrites the directory. So their rows
    have to be in what replaced them, or retention has to have removed them, by a seal with a signature.
    """
    if not replaced:
        return set()
    pruned: set[int] = set()
    for seal in ledger.seals:
        if seal.removed is not None and is_signed_here(seal):
            pruned = pruned.union(seal.replaces, *(ledger.origins[number] for number in seal.replaces))
    gone = {number for number in replaced if number in pruned or ledger.origins[number] <= pruned}
    left = set(replaced) - gone
    return gone | (taken_over(directory, ledger, left) if left else set())


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
    """Fetch what one audit has sealed: its files first, so that readers see seals whose files are there."""
    content = read_object(store, f"{audit}/{SEALS}", _LARGEST_SEALS) or b""
    if len(content) > _LARGEST_SEALS:
        raise AuditError(f"its seals are larger than they can be ({_LARGEST_SEALS} bytes)")
    content = whole_part(content)
    before = read_seal_lines(directory / mirror)
    if not content.startswith(before):
        raise AuditError("its seals are not those of before with new ones behind them")
    if not content:
        return []
    live = live_segments(_seals_of(audit, content))
    problems = []
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


def _seals_of(audit: str, content: bytes) -> list[Seal]:
    """Return the seals of an audit on object storage, where others may have put them.

    Raises:
        AuditError: they are no seals, not of that audit, or do not follow one another.
    """
    seals = parse_seals(Path(audit, SEALS), content)
    head = seals_origin(audit)
    for number, (seal, line) in enumerate(zip(seals, whole_lines(content), strict=True), 1):
        found = check(head, line)
        if found is None or seal.audit != audit:
            raise AuditError(f"line {number} of its seals does not follow what is before it")
        head = found
    return seals


def _fetch_segment(store: S3Store, audit: str, directory: Path, segment: Segment) -> str | None:
    """Fetch one file; returns what is wrong with it, and then it is not kept."""
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
    """A file is not what it should be."""


def _is_there(path: Path, size: int) -> bool:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(state.st_mode) and state.st_size == size
