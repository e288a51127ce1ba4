"""Whether the sealed segments are there, byte by byte as they were sealed, and nothing else is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import is_text, shown_name
from aegis_otel.audit.lake.scan import SCHEMA
from aegis_otel.audit.location import LAKE, SEALS, failure
from aegis_otel.audit.seals.seal_log import SEGMENT_FILE
from aegis_otel.audit.verify.seals import Ledger, Sealed

_DRAFT = re.compile(r"\..*\.draft")


def check_lake(proof: Proof, ledger: Ledger) -> list[Sealed]:
    """Check every file of the lake; what is wrong is added to the proof.

    Returns:
        The segments that count and are intact.

    Raises:
        AuditError: one of them cannot be read.
    """
    known = {each.segment.file: each for each in ledger.segments.values()}
    last = max(ledger.segments, default=0)
    found = set(_files(proof))
    if found and not os.path.lexists(proof.directory / SEALS):
        proof.found(SEALS, f"is missing, and `{LAKE}/` has files")
    for name in sorted(found - known.keys()):
        file = f"{LAKE}/{name}"
        match = SEGMENT_FILE.fullmatch(name)
        if not is_text(name):
            proof.found(shown_name(file), "does not belong to the audit: its name is not UTF-8")
        elif match and int(match[1]) > last and match[2] == ledger.tag:
            proof.unfinished += [file] * (proof.digest(file) is not None)
        elif name.endswith(".parquet") and name != SCHEMA:
            proof.found(file, "belongs to no seal")
        elif name != SCHEMA:
            left = _DRAFT.fullmatch(name.rpartition("/")[2])
            what = "left behind when a process was killed" if left else "does not belong to the audit"
            proof.notes.append(f"{file}: {what}; it is not read")
    return [each for name, each in sorted(known.items()) if _is_intact(proof, ledger, each, name in found)]


def _is_intact(proof: Proof, ledger: Ledger, sealed: Sealed, there: bool) -> bool:
    """Return whether a segment counts and is byte by byte what was sealed."""
    segment, _, believed = sealed
    live = segment.segment not in ledger.replaced
    file = f"{LAKE}/{segment.file}"
    holds = f"{segment.rows} rows of {segment.first} to {segment.last}"
    if not there:
        if live:
            proof.found(file, f"is missing, with {holds}")
        return False
    digest = proof.digest(file)
    if digest is None or not believed:
        return False
    size, sha256 = digest
    if size != segment.bytes:
        proof.found(file, f"has {size} bytes, and {segment.bytes} were sealed, with {holds}")
    elif sha256 != segment.sha256:
        proof.found(file, f"was changed: its {size} bytes are not those that were sealed, with {holds}")
    elif live:
        proof.segments += 1
        proof.rows += segment.rows
        return True
    return False


def _files(proof: Proof) -> Iterator[str]:
    """Yield all that is below `lake/` and no directory."""
    lake = proof.directory / LAKE
    if lake.is_symlink():
        proof.found(LAKE, "is a link, not a directory of the audit")
        return

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise failure("read the audit at", lake, error) from error

    for folder, folders, names in os.walk(lake, onerror=fail):
        inside = os.path.relpath(folder, lake)
        for name in (*names, *(each for each in folders if os.path.islink(os.path.join(folder, each)))):
            yield name if inside == "." else f"{inside}/{name}"
