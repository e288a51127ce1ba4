"""Whether sealed rows can be true, and are those that their seal speaks of."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

import duckdb

from aegis_otel.audit.fold import literal
from aegis_otel.audit.lake import SCHEMA
from aegis_otel.audit.location import JOURNAL, LAKE, SEALS
from aegis_otel.audit.proof import Proof
from aegis_otel.audit.segments import held_elsewhere, opened, schema_version
from aegis_otel.audit.verify_seals import Sealed
from aegis_otel.audit.writers import journal_files

_REFUSED = "coalesce(mode, '') <> 'monitor' AND result_status IN ('success', 'failed')"
CONTRADICTIONS = {
    "was blocked by policy, and its tool ran": f"approval = 'block' AND {_REFUSED}",
    "was refused by a human, and its tool ran": f"human_decision IN ('denied', 'expired') AND {_REFUSED}",
    "is sealed and has not ended": "result_status IN ('open', 'pending')",
    "has the number of another segment": "segment IS DISTINCT FROM {number}",
    "has no id": "coalesce(decision_id, '') = ''",
}
"""What no row can be, and a condition that finds it."""

_ROWS = """
SELECT count(*), strftime(min("timestamp"), '%Y-%m-%dT%H:%M:%S.%f+00:00'),
    strftime(max("timestamp"), '%Y-%m-%dT%H:%M:%S.%f+00:00'), {counts}
FROM read_parquet({file}, hive_partitioning = false)
"""


def check_rows(proof: Proof, intact: Sequence[Sealed]) -> None:
    """Check the rows of segments that are as they were sealed; what is wrong is added to the proof."""
    with opened() as connection:
        if os.path.lexists(proof.directory / LAKE / SCHEMA):
            _check_schema(proof, connection)
        for each in intact:
            try:
                for what in _wrong(proof, connection, each):
                    proof.found(f"{LAKE}/{each.segment.file}", what)
            except duckdb.Error as error:
                what = str(error).partition("\n")[0]
                proof.found(f"{LAKE}/{each.segment.file}", f"is no segment of this audit: {what}")


def check_unfinished(proof: Proof, intact: Sequence[Sealed]) -> None:
    """Whether what looks like a killed sealing's is one: then everything in it is elsewhere too."""
    if not proof.unfinished:
        return
    root = proof.directory
    paths = [root / file for file in proof.unfinished]
    journals = [path for path in journal_files(root / JOURNAL) if path not in paths]
    safe = held_elsewhere(paths, journals, [root / LAKE / each.segment.file for each in intact])
    for file, path in zip(proof.unfinished, paths, strict=True):
        if path in safe:
            proof.notes.append(f"{file}: of a sealing that did not end; the next one removes it")
        else:
            proof.found(
                file, f"no seal names it, and what is in it is not elsewhere: `{SEALS}` was shortened"
            )


def _check_schema(proof: Proof, connection: duckdb.DuckDBPyConnection) -> None:
    if schema_version(connection, proof.directory / LAKE) is None:
        what = "has not the columns of a segment, or cannot be read"
        proof.found(f"{LAKE}/{SCHEMA}", f"{what}: remove it, the next sealing makes it anew")
        return
    path = literal(glob.escape(str(proof.directory / LAKE / SCHEMA)))
    sql = f"FROM read_parquet({path}) WHERE segment <> 0 OR decision_id IS NOT NULL LIMIT 1"
    if connection.execute(sql).fetchall():
        proof.found(f"{LAKE}/{SCHEMA}", "has rows of a segment, and is only there for its columns")


def _wrong(proof: Proof, connection: duckdb.DuckDBPyConnection, sealed: Sealed) -> Iterator[str]:
    segment, seal, _ = sealed
    pattern = literal(glob.escape(str(proof.directory / LAKE / segment.file)))
    conditions = [each.format(number=segment.segment) for each in CONTRADICTIONS.values()]
    counts = ", ".join(f"min(decision_id) FILTER ({c}), count(*) FILTER ({c})" for c in conditions)
    ((rows, first, last, *found),) = connection.execute(_ROWS.format(counts=counts, file=pattern)).fetchall()
    if (rows, first, last) != (segment.rows, segment.first, segment.last):
        stated = f"{segment.rows} of {segment.first} to {segment.last}"
        yield f"has {rows} rows of {first} to {last}, and its seal says {stated}"
    for what, (call, count) in zip(CONTRADICTIONS, zip(found[::2], found[1::2], strict=True), strict=True):
        if count:
            more = f" (and {count - 1} more rows like it)" if count > 1 else ""
            yield f"the call `{call}` {what}{more}"
    metadata = {
        "aegis_version": str(seal.version),
        "aegis_audit": seal.audit,
        "aegis_seal": str(seal.seal),
        "aegis_segment": str(segment.segment),
        "aegis_previous": seal.previous,
    }
    pairs = connection.execute(
        f"SELECT decode(key), decode(value) FROM parquet_kv_metadata({pattern}) "  # noqa: S608
        "WHERE starts_with(decode(key), 'aegis_')"
    ).fetchall()
    for key, value in metadata.items():
        if dict(pairs).get(key) != value:
            yield f"says `{key}` is `{dict(pairs).get(key)}`, and its seal says `{value}`"
