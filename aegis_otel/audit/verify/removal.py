"""Judge which files may be removed from object storage, after seals have replaced them.

The files there are not a mere copy of the directory: they are what remains if somebody rewrites it, and
whoever can write a seal can state that one segment replaces another. So a file goes only if its rows are in
the segments that replaced it, or if retention removed them by a seal with a signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from aegis_otel.audit import files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.location import LAKE
from aegis_otel.audit.seals.signing import is_signed_here
from aegis_otel.audit.verify.rows import amendments, origin_faults
from aegis_otel.audit.verify.seals import Ledger


def removable(directory: Path, ledger: Ledger, replaced: Collection[int]) -> set[int]:
    """Return the replaced segments whose files may be removed from object storage.

    Args:
        directory: The audit's.
        ledger: What its seals state, without contradictions.
        replaced: The numbers of the segments.

    Raises:
        AuditError: a segment cannot be read.
        ConfigError: the key of `AEGIS_SEAL_KEY` cannot be used.
    """
    if not replaced:
        return set()
    pruned: set[int] = set()
    for seal in ledger.seals:
        if seal.removed is not None and is_signed_here(seal):
            pruned = pruned.union(seal.replaces, *(ledger.origins[number] for number in seal.replaces))
    gone = {number for number in replaced if number in pruned or ledger.origins[number] <= pruned}
    left = set(replaced) - gone
    held = _intact_rows(directory, ledger, left) if left else set()
    return gone | {number for number in left if ledger.origins[number] <= held}


def _intact_rows(directory: Path, ledger: Ledger, replaced: Collection[int]) -> set[int]:
    """Return the numbers whose rows are, as they were sealed, in segments that no seal replaced."""
    wanted = frozenset().union(*(ledger.origins[number] for number in replaced))
    held: set[int] = set()
    with amendments(ledger) as connection, TemporaryDirectory(prefix="aegis-taken-over-") as copies:
        for number, sealed in ledger.segments.items():
            if number in ledger.replaced or not wanted & ledger.origins[number]:
                continue
            with suppress(FileNotFoundError, duckdb.Error):
                content = files.read_file(directory, f"{LAKE}/{sealed.segment.file}")
                copy = files.write_copy(copies, f"{number}.parquet", content)
                is_intact = hashlib.sha256(content).hexdigest() == sealed.segment.sha256
                if is_intact and not any(origin_faults(connection, copy, ledger, sealed)):
                    held |= ledger.origins[number]
                files.remove_file(Path(copies), copy.name)
    return held
