"""The audit as SQL: an in-memory DuckDB whose view `audit` has one row for each call, live.

Nothing is copied and no database file exists: the view reads the journal whenever it is queried, so it
shows a call as soon as it is decided, and no reader stands in the way of a writer or of another reader.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path

import duckdb

from aegis_otel.audit.location import JOURNAL, exists, locate
from aegis_otel.audit.record import COLUMNS
from aegis_otel.audit.writers import WRITER, ended_writers, largest_file
from aegis_otel.errors import AuditError

_LONGEST_LINE = 16 << 20
"""DuckDB's own bound on a line in bytes; raised where a file is larger, and so a line could be."""

# Read as text and cast where they are shown, so that a value of the wrong kind costs its cell, not its line.
_AS_TEXT = ("JSON", "TIMESTAMPTZ")

# Of an empty list of files DuckDB makes a relation without our columns: hence the empty file at its head.
_LINES = """
CREATE VIEW journal.line AS
SELECT
    * REPLACE (CASE WHEN moment BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN moment END AS moment),
    decision_id <> '' AND step IS NOT NULL AS readable
FROM (
    SELECT
        *,
        try_cast("timestamp" AS TIMESTAMPTZ) AS moment,
        list_position(['decided', 'resolved', 'completed'], stage) AS step,
        regexp_extract(filename, '{writer}', 1) AS writer,
        row_number() OVER () AS place
    FROM read_json(['/dev/null', '{files}'], allow_empty = true, filename = true, ignore_errors = true,
        format = 'newline_delimited', records = 'true', columns = {columns}, maximum_object_size = {longest})
)
"""

# Lines of one call are ordered by what they say, then by their time, then by their place. Within a writer
# that is their place, unless its clock was set back; across writers (a call that a second process took
# over after an approval) places mean nothing.
_LAST = "last({0} ORDER BY step, moment, place) FILTER ({0} IS NOT NULL)"

_ROWS = """
CREATE VIEW audit AS
SELECT {columns}
FROM (
    SELECT {folded}, {writer} AS writer FROM journal.line WHERE readable GROUP BY decision_id
)
"""

_SHOWN = {
    **{c.name: f"CASE WHEN isfinite({c.name}) THEN {c.name} END" for c in COLUMNS if c.sql_type == "DOUBLE"},
    "result_status": "CASE WHEN result_status = 'open' AND writer IN (SELECT writer FROM journal.ended) "
    "THEN 'unknown' ELSE result_status END",
    "action_params": "coalesce(try_cast(action_params AS JSON), to_json(action_params))",
}
_FOLDED = {
    "decision_id": "decision_id",
    "timestamp": "first(moment ORDER BY step, moment, place) FILTER (moment IS NOT NULL)",
}


def connect(path: str | os.PathLike[str] | None = None) -> duckdb.DuckDBPyConnection:
    """Open an audit for SQL: `connect().sql("SELECT * FROM audit")`.

    The view `audit` has the columns of `audit.record.COLUMNS`, in that order; times are UTC. It shows
    rows as they are written, also by other processes. A call found open whose process was gone by the
    time of `connect` has the `result_status` `unknown`.

    Args:
        path: The audit directory. Default: `AEGIS_AUDIT_DIR`, else `aegis_audit`.

    Returns:
        A connection to an in-memory database of its own; nothing done in it changes the audit.

    Raises:
        AuditError: when there is no audit at that place, or it cannot be read.
    """
    directory = locate(path)
    if not exists(directory):
        raise AuditError(f"no audit at `{directory}`: it is made with the first record")
    return open_view(directory)


def open_view(directory: Path) -> duckdb.DuckDBPyConnection:
    """`connect` for a directory that may not be there yet: the view is empty until it is."""
    exists(directory)
    journal = directory / JOURNAL
    ended = ended_writers(journal)
    source = {"stage": "VARCHAR"} | {
        column.name: "VARCHAR" if column.sql_type in _AS_TEXT else column.sql_type for column in COLUMNS
    }
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA journal")
    connection.execute("CREATE TABLE journal.ended AS SELECT unnest(?::VARCHAR[]) AS writer", [ended])
    connection.execute(
        _LINES.format(
            files=f"{glob.escape(str(journal))}/*.jsonl".replace("'", "''"),
            columns="{" + ", ".join(f"'{name}': '{sql_type}'" for name, sql_type in source.items()) + "}",
            longest=max(_LONGEST_LINE, largest_file(journal)),
            writer=WRITER,
        )
    )
    connection.execute(
        _ROWS.format(
            columns=", ".join(f'{_SHOWN.get(c.name, _quoted(c.name))} AS "{c.name}"' for c in COLUMNS),
            folded=", ".join(
                f'{_FOLDED.get(c.name, _LAST.format(_quoted(c.name)))} AS "{c.name}"' for c in COLUMNS
            ),
            writer=_LAST.format("writer"),
        )
    )
    return connection


def unreadable_lines(connection: duckdb.DuckDBPyConnection) -> int:
    """How many lines of the journal are no records: torn by a crash, or written by something else."""
    found = connection.execute("SELECT count(*) FROM journal.line WHERE readable IS NOT TRUE").fetchone()
    return found[0] if found else 0


def _quoted(name: str) -> str:
    return f'"{name}"'
