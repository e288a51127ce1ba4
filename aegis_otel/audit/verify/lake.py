"""Check that the sealed segments are there, byte by byte as they were sealed, and nothing else is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import is_text
from aegis_otel.audit.lake.scan import SCHEMA
from aegis_otel.audit.location import LAKE, SEALS, failure
from aegis_otel.audit.seals.seal_log import SEGMENT_FILE
from aegis_otel.audit.verify.seals import Ledger, Sealed

_DRAFT = re.compile(r"\..*\.draft")


def check_lake(proof: Proof, ledger: Ledger) -> list[Sealed]:
    """Check every file of the lake and add the findings to the proof.

    Returns:
        The segments that no seal replaced and that are intact.

    Raises:
        AuditError: a file cannot be read.
    """
    known = {each.segment.file: each for each in ledger.segments.values()}
    last = max(ledger.segments, default=0)
    found = set(_files(proof))
    if found and not os.path.lexists(proof.directory / SEALS):
        proof.found(SEALS, f"is missing, and `{LAKE}/` has files")
    for name in sorted(found - known.keys() - {SCHEMA}):
        file = f"{LAKE}/{name}"
        match = SEGMENT_FILE.fullmatch(name)
        if match and int(match[1]) > last and match[2] == ledger.tag:
            proof.unfinished += [file] * (proof.digest(file) is not None)
        elif name.endswith(".parquet") and is_text(name):
            proof.found(file, "belongs to no seal")
        else:
            proof.note_other(file, is_draft=bool(_DRAFT.fullmatch(os.path.basename(name))))
    return [each for name, each in sorted(known.items()) if _is_intact(proof, ledger, each, name in found)]


def _is_intact(proof: Proof, ledger: Ledger, sealed: Sealed, is_there: bool) -> bool:
    """Return whether no seal replaced a segment and it is byte by byte what was sealed."""
    segment = sealed.segment
    is_live = segment.segment not in ledger.replaced
    file = f"{LAKE}/{segment.file}"
    holds = f"{segment.rows} rows of {segment.first} to {segment.last}"
    if not is_there:
        if is_live:
            proof.found(file, f"is missing, with {holds}")
        return False
    digest = proof.digest(file)
    if digest is None or not sealed.intact:
        return False
    if digest != (segment.bytes, segment.sha256):
        what = f"was changed: its {digest[0]} bytes are not those that were sealed, with {holds}"
        if digest[0] != segment.bytes:
            what = f"has {digest[0]} bytes, and {segment.bytes} were sealed, with {holds}"
        proof.found(file, what)
        return False
    proof.segments += is_live
    proof.rows += segment.rows * is_live
    return is_live


def _files(proof: Proof) -> Iterator[str]:
    """Yield everything below `lake/` that is not a directory."""
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
