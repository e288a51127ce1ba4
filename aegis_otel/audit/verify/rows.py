"""Check that sealed rows can be true, and are those that their seals have the digests of."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import journal_files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.lake.fold import literal, literals, quoted
from aegis_otel.audit.lake.scan import SCHEMA
from aegis_otel.audit.lake.segments import (
    BEFORE,
    columns_version,
    digest_of,
    held_elsewhere,
    opened,
    row_digest,
    schema_version,
    sealed_rows,
)
from aegis_otel.audit.location import JOURNAL, LAKE, MIRROR, SEALS
from aegis_otel.audit.record import COLUMNS
from aegis_otel.audit.verify.seals import Ledger, Sealed
from aegis_otel.model import Outcome

_ENFORCED = "coalesce(mode, '') <> 'monitor'"
_REFUSED = f"{_ENFORCED} AND result_status IN ('success', 'failed')"
# The check of `answers.call_history`. Rows of earlier versions state no outcome, and a row without its first
# line has no schema version.
_OUTCOME = f"""
schema_version >= 3 AND outcome IS NOT NULL
AND (outcome NOT IN {tuple(map(str, Outcome))} OR ({_ENFORCED} AND CASE
    WHEN outcome IN ('allowed', 'approved') THEN result_status IN ('blocked', 'denied')
        OR (outcome = 'approved') <> (coalesce(human_decision, '') = 'approved')
    ELSE result_status IN ('success', 'failed') END))
"""
CONTRADICTIONS = {
    "was blocked by policy, and its tool ran": f"approval = 'block' AND {_REFUSED}",
    "was refused by a human, and its tool ran": f"human_decision IN ('denied', 'expired') AND {_REFUSED}",
    "says an outcome that contradicts its result or its answer": _OUTCOME,
    "is sealed and has not ended": "result_status IN ('open', 'pending')",
    "has no id": "coalesce(decision_id, '') = ''",
}
"""What cannot be true of a row, and the condition that finds it."""

_ROWS = """
SELECT count(*), strftime(min("timestamp"), '%Y-%m-%dT%H:%M:%S.%f+00:00'),
    strftime(max("timestamp"), '%Y-%m-%dT%H:%M:%S.%f+00:00'), {counts}
FROM ({rows})
"""
# The rows under each number, with the digest of what they were when they were first sealed.
_ORIGINS = """
SELECT segment, count(*), {digest} FROM (
    SELECT sealed.segment, {row} AS row FROM ({rows}) AS sealed
    LEFT JOIN amended ON amended.decision_id = sealed.decision_id
) GROUP BY segment
"""
_ROW = {each.name: f"sealed.{quoted(each.name)}" for each in COLUMNS}
_BEFORE = row_digest(
    _ROW
    | {"result_status": "CASE WHEN amended.row IS NULL THEN sealed.result_status ELSE 'unknown' END"}
    | {name: f"CASE WHEN amended.row IS NULL THEN sealed.{name} ELSE amended.{name} END" for name in BEFORE}
)
_AMENDED = """
SELECT min(sealed.decision_id), count(*) FROM ({rows}) AS sealed
JOIN amended ON amended.decision_id = sealed.decision_id WHERE {row} <> amended.row
"""
_METADATA = """
SELECT decode(key), decode(value) FROM parquet_kv_metadata({path}) WHERE starts_with(decode(key), 'aegis_')
"""
_PARQUET = "read_parquet({files}, hive_partitioning = false)"
_TWICE = "SELECT decision_id FROM {rows} GROUP BY ALL HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
_AGAIN = """
SELECT DISTINCT decision_id FROM {rows} WHERE decision_id IN (SELECT unnest(?::VARCHAR[]))
ORDER BY ALL LIMIT 10
"""


def check_rows(proof: Proof, ledger: Ledger, intact: Sequence[Sealed], begun: Mapping[str, str]) -> None:
    """Check the rows of segments and add the findings to the proof.

    Args:
        proof: The proof to add to.
        ledger: What the seals state.
        intact: The segments, which are byte by byte what was sealed.
        begun: For each call that is not sealed, by decision id, the journal file with its first line.
    """
    with amendments(ledger) as connection:
        if os.path.lexists(proof.directory / LAKE / SCHEMA):
            proof.report(f"{LAKE}/{SCHEMA}", _schema_faults(connection, proof.directory / LAKE))
        for each in intact:
            faults = _segment_faults(connection, proof.directory / LAKE / each.segment.file, ledger, each)
            proof.report(f"{LAKE}/{each.segment.file}", faults)
        if not proof.findings:
            _check_once(proof, connection, intact, begun)


@contextmanager
def amendments(ledger: Ledger) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty DuckDB in memory whose table `amended` has the amended rows, for `origin_faults`."""
    with opened() as connection:
        connection.execute(
            "CREATE TABLE amended (decision_id VARCHAR, row VARCHAR, result_error VARCHAR, "
            "error_type VARCHAR, duration_s DOUBLE)"
        )
        for amended in ledger.amended.values():
            values = [getattr(amended, name) for name in ("decision_id", "row", *BEFORE)]
            connection.execute("INSERT INTO amended VALUES (?, ?, ?, ?, ?)", values)
        yield connection


def _segment_faults(
    connection: duckdb.DuckDBPyConnection, path: Path, ledger: Ledger, sealed: Sealed
) -> Iterator[str]:
    """Yield what is wrong with the rows of a segment."""
    try:
        if columns_version(connection, path) is None:
            yield "has not the columns of a segment"
        else:
            rows = _row_faults(connection, path, sealed)
            yield from (*rows, *origin_faults(connection, path, ledger, sealed))
    except duckdb.Error as error:
        what = str(error).partition("\n")[0]
        yield f"is no segment of this audit: {what}"


def _row_faults(connection: duckdb.DuckDBPyConnection, path: Path, sealed: Sealed) -> Iterator[str]:
    """Yield the contradictions in rows, and where rows or metadata are not those that the seal states."""
    segment, seal, _ = sealed
    conditions = CONTRADICTIONS.values()
    counts = ", ".join(f"min(decision_id) FILTER ({c}), count(*) FILTER ({c})" for c in conditions)
    ((rows, first, last, *found),) = connection.execute(
        _ROWS.format(counts=counts, rows=sealed_rows([path]))
    ).fetchall()
    if (rows, first, last) != (segment.rows, segment.first, segment.last):
        stated = f"{segment.rows} of {segment.first} to {segment.last}"
        yield f"has {rows} rows of {first} to {last}, and its seal says {stated}"
    for what, call, count in zip(CONTRADICTIONS, found[::2], found[1::2], strict=True):
        if count:
            more = f" (and {count - 1} more rows like it)" if count > 1 else ""
            yield f"the call `{call}` {what}{more}"
    expected = {
        "aegis_version": str(seal.version),
        "aegis_audit": seal.audit,
        "aegis_seal": str(seal.seal),
        "aegis_segment": str(segment.segment),
        "aegis_previous": seal.previous,
    }
    sql = _METADATA.format(path=literal(glob.escape(str(path))))
    metadata = dict(connection.execute(sql).fetchall())
    for key, value in expected.items():
        if metadata.get(key) != value:
            yield f"says `{key}` is `{metadata.get(key)}`, and its seal says `{value}`"


def origin_faults(
    connection: duckdb.DuckDBPyConnection, path: Path, ledger: Ledger, sealed: Sealed
) -> Iterator[str]:
    """Yield where the rows of a segment, own or taken over, are not those that seals have the digests of.

    Args:
        connection: One of `amendments`.
        path: The file of the segment, or a copy of it.
        ledger: What the seals state.
        sealed: The segment.
    """
    number = sealed.segment.segment
    expected = {each: ledger.segments[each].segment for each in ledger.origins[number]}
    digest = digest_of("row") if sealed.segment.digest else "''"
    sql = _ORIGINS.format(digest=digest, row=_BEFORE, rows=sealed_rows([path]))
    found = {origin: (rows, value) for origin, rows, value in connection.execute(sql).fetchall()}
    for origin in sorted(found.keys() - expected.keys(), key=str):
        yield f"has rows of segment {origin}, which it cannot have"
    for origin, segment in sorted(expected.items()):
        stated = (segment.new, segment.digest) if segment.digest else (segment.rows, "")
        rows, value = found.get(origin, (0, ""))
        if (rows, value) != stated:
            which = f"rows that were first sealed as segment {origin}"
            what = f"the {rows} {which} are not as they were sealed"
            if rows != stated[0]:
                what = f"has {rows} of the {stated[0]} {which}"
            yield f"{what}: rows were changed after seal {ledger.segments[origin].seal.seal}"
    if ledger.amended:
        sql = _AMENDED.format(rows=sealed_rows([path]), row=row_digest(_ROW))
        ((call, count),) = connection.execute(sql).fetchall()
        if count:
            yield f"the call `{call}` is not as the seal that amended it says ({count} such rows)"


def _check_once(
    proof: Proof, connection: duckdb.DuckDBPyConnection, intact: Sequence[Sealed], begun: Mapping[str, str]
) -> None:
    """Check that every call has one row, in sealed files and in the journal: readers show both."""
    if not intact:
        return
    rows = _PARQUET.format(files=literals(proof.directory / LAKE / each.segment.file for each in intact))
    for call in _twice(connection, rows):
        proof.found(LAKE, f"the call `{call}` is sealed twice: its rows are in more than one place")
    for (call,) in connection.execute(_AGAIN.format(rows=rows), [list(begun)]).fetchall():
        proof.found(
            f"{JOURNAL}/{begun[call]}",
            f"begins the call `{call}` anew, which is sealed: readers would show it twice",
        )


def check_across(proof: Proof, segments: Sequence[Path]) -> None:
    """Check that no call is in more than one of several audits, each of which has its calls once."""
    with opened() as connection:
        for call in _twice(connection, _PARQUET.format(files=literals(segments))) if segments else ():
            proof.found(MIRROR, f"the call `{call}` is sealed twice: more than one audit has a row of it")


def _twice(connection: duckdb.DuckDBPyConnection, rows: str) -> Iterator[str]:
    """Yield the first call that has more than one row; digests are compared first, to save memory."""
    sql = f"SELECT count(decision_id) = count(DISTINCT hash(decision_id)) FROM {rows}"  # noqa: S608
    if connection.execute(sql).fetchall() != [(True,)]:
        yield from (call for (call,) in connection.execute(_TWICE.format(rows=rows)).fetchall())


def check_unfinished(proof: Proof, intact: Sequence[Sealed]) -> None:
    """Check that what looks like an unfinished sealing is one: everything in it is then elsewhere too."""
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
            what = f"no seal names it, and what is in it is not elsewhere: `{SEALS}` was shortened"
            proof.found(file, what)


def _schema_faults(connection: duckdb.DuckDBPyConnection, lake: Path) -> Iterator[str]:
    """Yield what is wrong with the file that is there for its columns."""
    if schema_version(connection, lake) is None:
        what = "has not the columns of a segment, or cannot be read"
        yield f"{what}: remove it, the next sealing makes it anew"
        return
    path = literal(glob.escape(str(lake / SCHEMA)))
    sql = f"FROM read_parquet({path}) WHERE segment <> 0 OR decision_id IS NOT NULL LIMIT 1"
    if connection.execute(sql).fetchall():
        yield "has rows of a segment, and is only there for its columns"
