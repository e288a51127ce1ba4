"""Segments: DuckDB folds the lines of journal files into rows, and writes a Parquet file a day.

A segment has the rows of one day, sorted by `timestamp` and `decision_id`: the columns of the audit, and last
`segment`, the number of the segment that the row was first sealed in. A row keeps that number when segments
are merged, and the seal of that segment has a digest of all such rows: so a row is the same wherever it is.

A query over a day takes 8 ms to plan and 4 ms to open thirty files, however little it reads. One file a month
would save most of the 4 ms, and make every merge and every retention thirty times as large.

The digest of a row is the SHA-256 of its columns that are not null, in their order, each as
`<place>=<length>:<value>` in UTF-8. The place counts from 0, the length is the bytes of the value. A time is
its microseconds since 1970, a `DOUBLE` the digits of its 64 bits. The digest of a segment's new rows is the
SHA-256 of their sorted digests in hexadecimal, one after the other. It costs 3 % of the processor time of a
sealing of 5,000 calls. A row that was amended is digested as it was before: its status was `unknown`, and the
seal has the other three columns. Segments of earlier versions have no digest: their rows count as new in the
first segment with a digest that they are merged into, and nothing proves that step.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import structs

from aegis_otel.audit.journal.files import largest_of, torn_files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.lake.fold import DECLARE, content_lines, lines, literal, literals, quoted, rows, shown
from aegis_otel.audit.lake.scan import SCHEMA
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION, Column
from aegis_otel.audit.seals.seal_log import Amended, Segment

OUTCOME = ("result_status", "result_error", "error_type", "duration_s")
"""The columns in which a row that was sealed with an unknown outcome may change afterwards."""
BEFORE = OUTCOME[1:]
"""Those whose earlier value is in the seal that changes them; the earlier status was `unknown`."""


def row_digest(values: Mapping[str, str] = {}) -> str:
    """Return an SQL expression for the digest of a row.

    It covers the columns that are not null, so a column that is added later changes no digest.

    Args:
        values: SQL expressions in place of some columns, by name.
    """
    parts = (_part(n, each, values.get(each.name, quoted(each.name))) for n, each in enumerate(COLUMNS))
    return f"sha256(concat({', '.join(parts)}))"


def digest_of(rows: str) -> str:
    """Return an SQL aggregate for the digest of rows, which covers their sorted digests.

    A sum of digests would need no number of a segment, but a short one can be forged by rows made to fit.

    Args:
        rows: An SQL expression for the digest of each row.
    """
    return f"sha256(coalesce(string_agg({rows}, '' ORDER BY {rows}), ''))"


def _part(number: int, column: Column, value: str) -> str:
    """Return SQL for a column's place, the length of its value, and the value: each row has another text."""
    if column.sql_type == "TIMESTAMPTZ":
        text = f"epoch_us({value})::VARCHAR"
    elif column.sql_type == "DOUBLE":
        text = (
            f"({value})::DOUBLE::BIT::VARCHAR"  # the bits, because DuckDB may spell a number in another way
        )
    else:
        text = value if column.sql_type == "VARCHAR" else f"({value})::VARCHAR"
    return f"'{number}=' || strlen({text}) || ':' || {text}"


ROW_GROUP = 24_576
"""Rows that are compressed together: small enough to find one session, large enough for a full scan."""

_NAMES = ", ".join(quoted(column.name) for column in COLUMNS)
_NAMED = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
_TYPES = [(column.name, column.sql_type) for column in COLUMNS] + [("segment", "BIGINT")]
_UNSEALED = "FROM call WHERE decision_id NOT IN (SELECT decision_id FROM known)"
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

# The rows of a day that no segment has yet, and the rows of segments.
_NEW = f"SELECT {_NAMES}, {{number}}::BIGINT AS segment {_UNSEALED} AND day = {{day}}"
_SEALED = f"""
SELECT {_NAMES}, {{segment}}::BIGINT AS segment FROM (
    SELECT {_EMPTY} WHERE false
    UNION ALL BY NAME
    SELECT * FROM read_parquet({{files}}, hive_partitioning = false, union_by_name = true)
)
"""  # noqa: S608

# Lines that came after a call was sealed as unknown change its outcome, and nothing else.
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
            connection: As `opened` opens it.
            files: Copies of the complete journal files, which nobody changes.
            elsewhere: All other journal files: a call with a line in one of them is not sealed.
            alive: The writers that may still end their open calls.
            lake: The segments, by number.
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
        """The numbers of the segments that are not Parquet any more; nothing is known of their calls."""
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

    def _values(self, sql: str, *parameters: object) -> set[Any]:
        """Return the values of a query's one column."""
        return {value for (value,) in self._db.execute(sql, list(parameters)).fetchall()}

    def relied_on(self) -> set[int]:
        """Return the numbers of the segments that have a row of a call which is to be sealed."""
        return self._values("SELECT DISTINCT segment FROM known")

    def reread(self, number: int, copy: Path) -> None:
        """Take what a segment says of calls from a copy of it, and no longer from the segment itself."""
        self._db.execute("DELETE FROM known WHERE segment = ?", [number])
        self._find_known([copy])

    def readable(self) -> dict[str, int]:
        """Return the number of lines that are records, for each journal file by name."""
        sql = "SELECT file, count(*) FROM line WHERE readable GROUP BY ALL"
        return dict(self._db.execute(sql).fetchall())

    def ended(self, changed: Iterable[int]) -> set[str]:
        """Return the calls that are sealed, without those in `changed` segments, which stay as they are."""
        return self._values(
            "SELECT decision_id FROM call WHERE decision_id NOT IN "
            "(SELECT decision_id FROM known WHERE segment IN (SELECT unnest(?::BIGINT[])))",
            list(changed),
        )

    def unknown(self) -> int:
        """Return the number of newly sealed calls whose outcome nobody knows."""
        return len(self._values(f"SELECT decision_id {_UNSEALED} AND result_status = 'unknown'"))

    def days(self) -> set[str]:
        """Return the days that have new rows."""
        return self._values(f"SELECT DISTINCT day {_UNSEALED}")

    def late(self) -> list[tuple[str, int, list[list[str]], list[int]]]:
        """Return the calls that were sealed with an unknown outcome, and whose end later lines state.

        Returns:
            For each call its decision, the segment that its row was first sealed in, the writer and the file
            of each line, and the segments with the row: one, unless somebody planted another.
        """
        return self._db.execute(_LATE).fetchall()

    def amend(self, calls: Iterable[str]) -> None:
        """Choose the calls of `late` that get their outcome."""
        self._db.execute("INSERT INTO amending SELECT unnest(?::VARCHAR[])", [list(calls)])

    def amended(self) -> set[int]:
        """Return the numbers of the segments with a row that gets its outcome."""
        return self._values(
            "SELECT DISTINCT segment FROM known WHERE decision_id IN (SELECT decision_id FROM amending)"
        )

    def has_schema(self, lake: Path) -> bool:
        """Return whether the lake's `SCHEMA` has the columns of this version."""
        return schema_version(self._db, lake) == SCHEMA_VERSION

    def write_schema(self, draft: Path) -> None:
        """Write a file with the columns of a segment, and with as many rows of nulls as a large one has."""
        self._db.execute(
            f"COPY (SELECT {_NAMES}, 0::BIGINT AS segment "  # noqa: S608
            "FROM range(100_000) LEFT JOIN call ON false) "
            f"TO {literal(draft)} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
        )

    def write(
        self, draft: Path, segment: Segment, replaced: Mapping[Path, bool], metadata: dict[str, str]
    ) -> tuple[Segment, list[Amended]]:
        """Write a day's new rows, and those of the segments that it replaces, to a file that exists.

        Args:
            segment: The new segment, with its number and its final name.
            replaced: The replaced segments, and whether a seal has a digest of their rows. Such rows keep
                their number; others count as new, and have a digest from now on.
            metadata: The key-value metadata of the Parquet file.

        Returns:
            The segment, but for the size and the digest of its file, and the rows that got their outcome.
        """
        number, day = segment.segment, segment.day
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
        # The digest covers the rows in memory: somebody could have changed the file by now.
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
        made = structs.replace(segment, rows=count, first=first, last=last, new=added, digest=digest)
        return made, [Amended(*row) for row in found]


def sealed_rows(files: Sequence[Path], segment: str = "segment") -> str:
    """Return a query for the rows of segments, with nulls for columns that they lack.

    Args:
        segment: An SQL expression for the number under which the rows are.
    """
    return _SEALED.format(segment=segment, files=literals(files))


def schema_version(connection: duckdb.DuckDBPyConnection, lake: Path) -> int | None:
    """Return the version of the row whose columns the lake's `SCHEMA` has.

    Returns:
        None if the file is missing or unreadable, or has other columns, which would lose or change rows.
    """
    path = lake / SCHEMA
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return columns_version(connection, path)
    except duckdb.Error:  # cut off, or no Parquet
        return None


def columns_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int | None:
    """Return the version of the row that has exactly the columns of a Parquet file; None if none has.

    Raises:
        duckdb.Error: the file is not Parquet.
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
    """Return the unfinished files of which every call is in other journal files or segments too.

    Args:
        unfinished: Segments and carried files that no seal names.
        journals: The other journal files.
        segments: The segments that seals name and did not replace.
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
            if path.suffix == ".parquet":
                calls = f"read_parquet({literals([path])}, hive_partitioning = false)"
            else:
                calls = f"({lines_of([path])})"
            lost = f"SELECT count(*) FROM {calls} WHERE decision_id NOT IN (FROM known)"  # noqa: S608
            with suppress(duckdb.Error):  # a file that cannot be read may have other calls
                if connection.execute(lost).fetchall() == [(0,)]:
                    safe.append(path)
    return safe


@contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty DuckDB in memory, which writes no files but those of its COPY statements."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = false")  # stdout is for the seals
        connection.execute(DECLARE)
        yield connection


def lines_of(files: Sequence[Path]) -> str:
    """Return a query for the whole lines of journal files."""
    torn = torn_files(files)
    whole = lines([glob.escape(str(file)) for file in files if file not in torn], largest_of(files))
    return " UNION ALL ".join([whole, *(content_lines(path, torn[path]) for path in torn)])
