"""Segments: lines of journal files folded into Parquet by DuckDB, and digests of the rows.

A segment has the rows of one day, sorted by `timestamp` and `decision_id`: the columns of the audit, and last
`segment`, the number of the segment that the row was first sealed in. A row keeps that number when segments
are merged, and the seal of that segment has a digest of all such rows: so a row is the same wherever it is.

A query over a day takes 8 ms to plan and 4 ms to open thirty files, however little it reads. One file a month
would save most of the 4 ms, and make every merge and every retention thirty times as large.

The digest of a row is the SHA-256 of its columns that are not null, in their order, each as
`<place>=<length>:<value>` in UTF-8. The place counts from 0, the length is the bytes of the value. A time is
its microseconds since 1970, a `DOUBLE` the digits of its 64 bits. The digest of a segment's new rows is the
SHA-256 of their sorted digests in hexadecimal, one behind the other. It costs 3 % of the processor time of a
sealing of 5,000 calls. A row that was amended is digested as it was before: its status was `unknown`, and the
seal has the other three columns. Segments of earlier versions have no digest: their rows count as new in the
first segment with one that they are merged into, and nothing proves that step.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit.journal.files import largest_of, torn_files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.lake.fold import (
    DECLARE,
    lines,
    lines_of_content,
    literal,
    literals,
    quoted,
    rows,
    shown,
)
from aegis_otel.audit.lake.scan import SCHEMA
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION, Column
from aegis_otel.audit.seals.seal_log import Amended

OUTCOME = ("result_status", "result_error", "error_type", "duration_s")
"""The columns in which a row that was sealed with an unknown outcome may change afterwards."""
BEFORE = OUTCOME[1:]
"""Those of which a seal that changes them says what they were: the status was `unknown`."""


def row_digest(values: Mapping[str, str] = {}) -> str:
    """Return an SQL expression for the digest of a row.

    It is of the columns that are not null, so a column that is added later changes no digest.

    Args:
        values: Expressions to take for some columns in place of what the row has.
    """
    parts = (_part(n, each, values.get(each.name, quoted(each.name))) for n, each in enumerate(COLUMNS))
    return f"sha256(concat({', '.join(parts)}))"


def digest_of(rows: str) -> str:
    """Return an SQL aggregate for the digest of rows: that of their sorted digests.

    A sum of digests would need no number of a segment, but a short one can be forged by rows made to fit.

    Args:
        rows: The expression that has the digest of each row.
    """
    return f"sha256(coalesce(string_agg({rows}, '' ORDER BY {rows}), ''))"


def _part(number: int, column: Column, value: str) -> str:
    """Return SQL for a column's place, the length of its value, and the value: no two rows have one text."""
    if column.sql_type == "TIMESTAMPTZ":
        text = f"epoch_us({value})::VARCHAR"
    elif column.sql_type == "DOUBLE":
        text = f"({value})::DOUBLE::BIT::VARCHAR"  # its bits: how a number is spelled may change
    else:
        text = value if column.sql_type == "VARCHAR" else f"({value})::VARCHAR"
    return f"'{number}=' || strlen({text}) || ':' || {text}"


ROW_GROUP = 24_576
"""Rows that are compressed together: small enough to find one session, large enough for a full scan."""

_NAMES = ", ".join(quoted(column.name) for column in COLUMNS)
_NAMED = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
_TYPES = [(column.name, column.sql_type) for column in COLUMNS] + [("segment", "BIGINT")]
_WAS = ", ".join(f"was_{name}" for name in BEFORE)
_EMPTY = ", ".join(f"NULL::{sql_type} AS {quoted(name)}" for name, sql_type in _TYPES)

# A call is sealed when nothing more can come of it, and nothing of it lies elsewhere. A question outlives the
# process that asked it, so `pending` is never sealed.
_CALLS = """
CREATE TABLE call AS
SELECT {shown}, writer, coalesce(timestamp::DATE, current_date)::VARCHAR AS day
FROM ({rows})
WHERE decision_id NOT IN (SELECT decision_id FROM elsewhere)
    AND (coalesce(result_status, '') NOT IN ('open', 'pending')
        OR (result_status = 'open' AND writer NOT IN (SELECT writer FROM alive)))
"""

# The rows of a day that no segment has yet, and those of segments.
_NEW = f"""
SELECT {_NAMES}, {{number}}::BIGINT AS segment FROM call
WHERE day = {{day}} AND decision_id NOT IN (SELECT decision_id FROM known)
"""  # noqa: S608
_SEALED = f"""
SELECT {_NAMES}, {{segment}}::BIGINT AS segment FROM (
    SELECT {_EMPTY} WHERE false
    UNION ALL BY NAME
    SELECT * FROM read_parquet({{files}}, hive_partitioning = false, union_by_name = true)
)
"""  # noqa: S608

# What came for a call after it was sealed as unknown says what became of it, and nothing else.
_AMENDED = f"""
SELECT {
    ", ".join(
        f"coalesce(late.{quoted(column.name)}, sealed.{quoted(column.name)}) AS {quoted(column.name)}"
        if column.name in OUTCOME
        else f"sealed.{quoted(column.name)}"
        for column in COLUMNS
    )
}, segment, writer, {", ".join(f"sealed.{name} AS was_{name}" for name in BEFORE)} FROM ({{sealed}}) AS sealed
LEFT JOIN (SELECT * FROM call WHERE decision_id IN (SELECT decision_id FROM amending)) AS late
    ON late.decision_id = sealed.decision_id
"""  # noqa: S608

_COPY = f"""
COPY (
    SELECT {_NAMES}, segment FROM ({{rows}}) ORDER BY "timestamp", decision_id
) TO {{draft}} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP}, USE_TMP_FILE false,
    KV_METADATA {{metadata}})
"""  # noqa: S608

# The late lines that say how a call of unknown outcome ended.
_LATE = """
SELECT known.decision_id, known.origin,
    list(DISTINCT [line.writer, line.file]), list(DISTINCT known.segment)
FROM known JOIN call ON call.decision_id = known.decision_id JOIN line ON line.decision_id = call.decision_id
WHERE known.result_status = 'unknown' AND coalesce(call.result_status, 'unknown') <> 'unknown'
GROUP BY ALL
"""


class Late(NamedTuple):
    """Lines that say what became of a call that was sealed as unknown."""

    decision_id: str
    origin: int
    """The segment that the row was first sealed in."""
    lines: list[list[str]]
    """The writer and the file of each."""
    segments: list[int]
    """Those that the row is in; one, but for what was put there."""


class Written(NamedTuple):
    """What a new segment has."""

    rows: int
    first: str | None
    """Timestamps of the oldest and the newest row, ISO 8601 in UTC."""
    last: str | None
    new: int
    """Rows that are under its own number."""
    digest: str
    """That of these rows."""
    amended: list[Amended]


class SegmentBuilder:
    """The calls of some complete journal files, in an in-memory DuckDB, on their way into segments."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: Sequence[Path],
        elsewhere: Sequence[Path],
        alive: Sequence[str],
        lake: Mapping[int, Path],
    ) -> None:
        """
        Args:
            files: Complete journal files, in copies that nobody changes.
            elsewhere: All others: a call with a line in one of them is not sealed.
            alive: Writers that may still end what they left open.
            lake: The segments there are, by their numbers.
        """
        self._db = connection
        execute = connection.execute
        execute(f"CREATE TABLE line AS {lines_of(files)}")
        execute(
            f"CREATE TABLE elsewhere AS SELECT DISTINCT decision_id "  # noqa: S608
            f"FROM ({lines_of(elsewhere)}) WHERE decision_id IS NOT NULL"
        )
        execute("CREATE TABLE alive AS SELECT unnest(?::VARCHAR[]) AS writer", [list(alive)])
        columns = ", ".join(f"{shown(c, quoted, 'true')} AS {quoted(c.name)}" for c in COLUMNS)
        execute(_CALLS.format(shown=columns, rows=rows("line")))
        execute(
            "CREATE TABLE known (decision_id VARCHAR, segment BIGINT, origin BIGINT, result_status VARCHAR)"
        )
        execute("CREATE TABLE amending (decision_id VARCHAR)")
        self.unreadable: list[int] = []
        """Numbers of the segments that are no Parquet any more; nothing is known of their calls."""
        try:
            self._find_known(list(lake.values()))
        except duckdb.Error:
            for number, path in lake.items():
                try:
                    self._find_known([path])
                except duckdb.Error:
                    self.unreadable.append(number)

    def _find_known(self, segments: list[Path]) -> None:
        if segments:
            self._db.execute(
                "INSERT INTO known "  # noqa: S608
                "SELECT decision_id, regexp_extract(parse_filename(filename), '[0-9]+')::BIGINT, segment, "
                "result_status "
                f"FROM read_parquet({literals(segments)}, filename = true, hive_partitioning = false) "
                "WHERE decision_id IN (SELECT decision_id FROM call)"
            )

    def relied_on(self) -> set[int]:
        """Return the numbers of the segments that have a row of a call which is to be sealed."""
        return {number for (number,) in self._db.execute("SELECT DISTINCT segment FROM known").fetchall()}

    def reread(self, number: int, copy: Path) -> None:
        """Take what is known of calls from a copy of a segment, and not from the segment, as it was read."""
        self._db.execute("DELETE FROM known WHERE segment = ?", [number])
        self._find_known([copy])

    def readable(self) -> dict[str, int]:
        """Return how many lines of each file are records, by its name."""
        found = self._db.execute("SELECT file, count(*) FROM line WHERE readable GROUP BY ALL").fetchall()
        return dict(found)

    def ended(self, changed: Iterable[int]) -> set[str]:
        """Return the calls that are sealed: not those of segments that are left as they are."""
        sql = (
            "SELECT decision_id FROM call WHERE decision_id NOT IN "
            "(SELECT decision_id FROM known WHERE segment IN (SELECT unnest(?::BIGINT[])))"
        )
        return {row for (row,) in self._db.execute(sql, [list(changed)]).fetchall()}

    def unknown(self) -> int:
        """Return how many of the calls that were not sealed before nobody will ever end."""
        sql = (
            "SELECT count(*) FROM call "
            "WHERE result_status = 'unknown' AND decision_id NOT IN (SELECT decision_id FROM known)"
        )
        ((count,),) = self._db.execute(sql).fetchall()
        return int(count)

    def days(self) -> set[str]:
        """Return the days of which there are new rows."""
        sql = "SELECT DISTINCT day FROM call WHERE decision_id NOT IN (SELECT decision_id FROM known)"
        return {day for (day,) in self._db.execute(sql).fetchall()}

    def late(self) -> list[Late]:
        """Return what came for calls that were sealed as unknown."""
        return [Late(*row) for row in self._db.execute(_LATE).fetchall()]

    def amend(self, calls: Iterable[str]) -> None:
        """Say which of the calls that `late` found are given their outcome."""
        self._db.execute("INSERT INTO amending SELECT unnest(?::VARCHAR[])", [list(calls)])

    def amended(self) -> set[int]:
        """Return the numbers of the segments with a row that is given its outcome."""
        sql = "SELECT DISTINCT segment FROM known WHERE decision_id IN (SELECT decision_id FROM amending)"
        return {number for (number,) in self._db.execute(sql).fetchall()}

    def has_schema(self, lake: Path) -> bool:
        """Return whether the lake's `SCHEMA` has the columns of this version."""
        return schema_version(self._db, lake) == SCHEMA_VERSION

    def write_schema(self, draft: Path) -> None:
        """Write the columns of a segment, with as many rows of nulls as a large one has, to `draft`."""
        self._db.execute(
            f"COPY (SELECT {_NAMES}, 0::BIGINT AS segment "  # noqa: S608
            "FROM range(100_000) LEFT JOIN call ON false) "
            f"TO {literal(draft)} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
        )

    def write(
        self, draft: Path, day: str, number: int, replaced: Mapping[Path, bool], metadata: dict[str, str]
    ) -> Written:
        """Write a day's new rows, and those of the segments that it replaces, to a file that exists.

        Args:
            replaced: Segments, and whether there is a digest of their rows. These then keep their number;
                others count as new, and have a digest from now on.
        """
        new = _NEW.format(number=number, day=literal(day))
        older = [path for path, digested in replaced.items() if not digested]
        newer = [path for path, digested in replaced.items() if digested]
        taken = [sealed_rows(older, str(number))] if older else []
        kept = [sealed_rows(newer)] if newer else []
        sealed = [_AMENDED.format(sealed=each) for each in kept + taken]
        rows = [new, *(f"SELECT {_NAMES}, segment FROM ({each})" for each in sealed)]  # noqa: S608
        pairs = ", ".join(f"{literal(key)}: {literal(value)}" for key, value in metadata.items())
        self._db.execute(
            _COPY.format(rows=" UNION ALL ".join(rows), draft=literal(draft), metadata=f"{{{pairs}}}")
        )
        time = "strftime({}(\"timestamp\"), '%Y-%m-%dT%H:%M:%S.%f+00:00')"
        ((count, first, last),) = self._db.execute(
            f"SELECT count(*), {time.format('min')}, {time.format('max')} "  # noqa: S608
            f"FROM read_parquet({literals([draft])}, hive_partitioning = false)"
        ).fetchall()
        # Of the rows as they are here, and not as the file has them: others could have changed it by now.
        own = " UNION ALL ".join([new, *taken])
        ((added, digest),) = self._db.execute(
            f"SELECT count(*), {digest_of('row')} FROM (SELECT {row_digest()} AS row FROM ({own}))"  # noqa: S608
        ).fetchall()
        found = [
            row
            for each in sealed
            for row in self._db.execute(
                f"SELECT decision_id, writer, {row_digest()}, {_WAS} FROM ({each}) "  # noqa: S608
                "WHERE writer IS NOT NULL ORDER BY decision_id"
            ).fetchall()
        ]
        return Written(count, first, last, added, digest, [Amended(*row) for row in found])


def sealed_rows(files: Sequence[Path], segment: str = "segment") -> str:
    """Return a query for the rows of segments, with nulls for columns that they lack.

    Args:
        segment: An expression for their number.
    """
    return _SEALED.format(segment=segment, files=literals(files))


def schema_version(connection: duckdb.DuckDBPyConnection, lake: Path) -> int | None:
    """Return the version of the row whose columns the lake's `SCHEMA` has.

    Returns:
        None if it is missing, unreadable, or has other columns: with those, rows would be lost or changed.
    """
    path = lake / SCHEMA
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return columns_version(connection, path)
    except duckdb.Error:  # cut off, or no Parquet
        return None


def columns_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int | None:
    """Return the version of the row that a file has exactly the columns of; None where it has others.

    Raises:
        duckdb.Error: it is no Parquet.
    """
    sql = f"DESCRIBE SELECT * FROM read_parquet({literals([path])}, hive_partitioning = false)"  # noqa: S608
    found = [(name, sql_type) for name, sql_type, *_ in connection.execute(sql).fetchall()]
    for version in range(SCHEMA_VERSION, 0, -1):
        columns = [(each.name, each.sql_type) for each in COLUMNS if each.since <= version]
        if found == [(name, _NAMED.get(kind, kind)) for name, kind in (*columns, ("segment", "BIGINT"))]:
            return version
    return None


def is_segment(path: Path) -> bool:
    """Return whether a file is Parquet with the columns of a segment, of this version or an earlier one."""
    with opened() as connection:
        try:
            return columns_version(connection, path) is not None
        except duckdb.Error:
            return False


def held_elsewhere(
    unfinished: Sequence[Path], journals: Sequence[Path], segments: Sequence[Path]
) -> list[Path]:
    """Return those of some files of a sealing of which every call is in other journal files or segments too.

    Args:
        unfinished: Segments and carried files that no seal names.
        journals: The other files of the journal.
        segments: The other segments that count.
    """
    safe = []
    with opened() as connection:
        connection.execute(
            "CREATE TABLE known AS SELECT DISTINCT decision_id "  # noqa: S608
            f"FROM ({lines_of(journals)})"
        )
        if segments:
            connection.execute(
                "INSERT INTO known SELECT decision_id "  # noqa: S608
                f"FROM read_parquet({literals(segments)}, hive_partitioning = false)"
            )
        for path in unfinished:
            is_segment = path.suffix == ".parquet"
            calls = (
                f"read_parquet({literals([path])}, hive_partitioning = false)"
                if is_segment
                else f"({lines_of([path])})"
            )
            lost = f"SELECT count(*) FROM {calls} WHERE decision_id NOT IN (FROM known)"  # noqa: S608
            with suppress(duckdb.Error):  # what cannot be read is not shown to be elsewhere
                if connection.execute(lost).fetchall() == [(0,)]:
                    safe.append(path)
    return safe


@contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty DuckDB in memory that writes only the files that it is asked to write."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = false")  # stdout is for the seals
        connection.execute(DECLARE)
        yield connection


def lines_of(files: Sequence[Path]) -> str:
    """Return a query for the lines of journal files, without what follows the last newline of a file."""
    torn = torn_files(files)
    whole = lines([glob.escape(str(file)) for file in files if file not in torn], largest_of(files))
    return " UNION ALL ".join([whole, *(lines_of_content(path, torn[path]) for path in torn)])
