"""Sealed rows: lines of journal files folded into Parquet, a file a day, by DuckDB."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from aegis_otel.audit.fold import DECLARE, lines, literal, quoted, rows, shown
from aegis_otel.audit.lake import SCHEMA
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION

ROW_GROUP = 24_576
"""Rows that are compressed together: small enough to find one session, large enough for a full scan."""

_NAMES = ", ".join(quoted(column.name) for column in COLUMNS)
_NAMED = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
_TYPES = [(column.name, column.sql_type) for column in COLUMNS] + [("segment", "BIGINT")]
_EMPTY = ", ".join(f"NULL::{sql_type} AS {quoted(name)}" for name, sql_type in _TYPES)

# A call is sealed when nothing more can come of it, and nothing of it lies elsewhere.
_CALLS = """
CREATE TABLE call AS
SELECT {shown}, coalesce(timestamp::DATE, current_date)::VARCHAR AS day
FROM ({rows})
WHERE decision_id NOT IN (SELECT decision_id FROM elsewhere)
    AND (coalesce(result_status, '') NOT IN ('open', 'pending')
        OR (result_status = 'open' AND writer NOT IN (SELECT writer FROM alive)))
"""

# What came for a call after it was sealed as unknown says what became of it.
_AMENDED = (
    ", ".join(
        quoted(column.name)
        if column.name in ("decision_id", "timestamp")
        else f"CASE WHEN late.decision_id IS NOT NULL AND sealed.result_status = 'unknown' THEN "
        f"coalesce(late.{quoted(column.name)}, sealed.{quoted(column.name)}) "
        f"ELSE sealed.{quoted(column.name)} END AS {quoted(column.name)}"
        for column in COLUMNS
    )
    .replace('"decision_id"', 'sealed."decision_id"', 1)
    .replace('"timestamp"', 'sealed."timestamp"', 1)
)

_COPY = """
COPY (
    SELECT {names}, {number}::BIGINT AS segment FROM (
        SELECT {names} FROM call WHERE day = {day} AND decision_id NOT IN (SELECT decision_id FROM known)
        UNION ALL
        {replaced}
    ) ORDER BY "timestamp", decision_id
) TO {draft} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {group}, USE_TMP_FILE false,
    KV_METADATA {{{metadata}}})
"""
_REPLACED = """
SELECT {amended} FROM (
    SELECT {empty} WHERE false
    UNION ALL BY NAME
    SELECT * FROM read_parquet({files}, hive_partitioning = false, union_by_name = true)
) AS sealed
LEFT JOIN (SELECT * FROM call WHERE decision_id IN (SELECT decision_id FROM known)) AS late
    ON late.decision_id = sealed.decision_id
"""


class Workshop:
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
            files: Complete journal files.
            elsewhere: All others: a call with a line in one of them is not sealed.
            alive: Writers that may still end what they left open.
            lake: The segments there are, by their numbers.
        """
        self._db = connection
        execute = connection.execute
        execute(f"CREATE TABLE line AS {lines(_escaped(files), _largest(files))}")
        execute(
            f"CREATE TABLE elsewhere AS SELECT DISTINCT decision_id "  # noqa: S608
            f"FROM ({lines(_escaped(elsewhere), _largest(elsewhere))}) WHERE decision_id IS NOT NULL"
        )
        execute("CREATE TABLE alive AS SELECT unnest(?::VARCHAR[]) AS writer", [list(alive)])
        columns = ", ".join(f"{shown(c, quoted(c.name), 'true')} AS {quoted(c.name)}" for c in COLUMNS)
        execute(_CALLS.format(shown=columns, rows=rows("line")))
        execute("CREATE TABLE known (decision_id VARCHAR, segment BIGINT, result_status VARCHAR)")
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
                f"INSERT INTO known SELECT decision_id, segment, result_status "  # noqa: S608
                f"FROM read_parquet({_list(segments)}, hive_partitioning = false) "
                "WHERE decision_id IN (SELECT decision_id FROM call)"
            )

    def readable(self) -> dict[str, int]:
        """How many lines of each file are records."""
        found = self._db.execute("SELECT filename, count(*) FROM line WHERE readable GROUP BY ALL").fetchall()
        return dict(found)

    def ended(self, changed: Iterable[int]) -> set[str]:
        """The calls that are sealed: not those of segments that are left as they are."""
        sql = (
            "SELECT decision_id FROM call WHERE decision_id NOT IN "
            "(SELECT decision_id FROM known WHERE segment IN (SELECT unnest(?::BIGINT[])))"
        )
        return {row for (row,) in self._db.execute(sql, [list(changed)]).fetchall()}

    def unknown(self) -> int:
        """How many of the calls that were not sealed before nobody will ever end."""
        sql = (
            "SELECT count(*) FROM call "
            "WHERE result_status = 'unknown' AND decision_id NOT IN (SELECT decision_id FROM known)"
        )
        ((count,),) = self._db.execute(sql).fetchall()
        return int(count)

    def days(self) -> set[str]:
        """The days of which there are new rows."""
        sql = "SELECT DISTINCT day FROM call WHERE decision_id NOT IN (SELECT decision_id FROM known)"
        return {day for (day,) in self._db.execute(sql).fetchall()}

    def amended(self) -> set[int]:
        """Numbers of the segments with a row of unknown outcome of which more is known now."""
        sql = "SELECT DISTINCT segment FROM known WHERE result_status = 'unknown'"
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
        self, draft: Path, day: str, number: int, replaced: Sequence[Path], metadata: dict[str, str]
    ) -> tuple[int, str | None, str | None]:
        """Write a day's new rows, and those of the segments that it replaces, to a file that exists.

        Returns:
            How many, and the timestamps of the oldest and the newest, ISO 8601 in UTC.
        """
        sealed = f"SELECT {_NAMES} FROM call WHERE false"  # noqa: S608
        if replaced:
            sealed = _REPLACED.format(amended=_AMENDED, empty=_EMPTY, files=_list(replaced))
        pairs = ", ".join(f"{literal(key)}: {literal(value)}" for key, value in metadata.items())
        self._db.execute(
            _COPY.format(
                names=_NAMES,
                number=number,
                day=literal(day),
                replaced=sealed,
                draft=literal(draft),
                group=ROW_GROUP,
                metadata=pairs,
            )
        )
        time = "strftime({}(\"timestamp\"), '%Y-%m-%dT%H:%M:%S.%f+00:00')"
        ((count, first, last),) = self._db.execute(
            f"SELECT count(*), {time.format('min')}, {time.format('max')} "  # noqa: S608
            f"FROM read_parquet({_list([draft])}, hive_partitioning = false)"
        ).fetchall()
        return count, first, last


def schema_version(connection: duckdb.DuckDBPyConnection, lake: Path) -> int | None:
    """Return the version of the row whose columns the lake's `SCHEMA` has.

    Returns:
        None if it is missing, unreadable, or has other columns: with those, rows would be lost or changed.
    """
    path = lake / SCHEMA
    if path.is_symlink() or not path.is_file():
        return None
    sql = f"DESCRIBE SELECT * FROM read_parquet({_list([path])}, hive_partitioning = false)"  # noqa: S608
    try:
        found = [(name, sql_type) for name, sql_type, *_ in connection.execute(sql).fetchall()]
    except duckdb.Error:  # cut off, or no Parquet
        return None
    for version in range(SCHEMA_VERSION, 0, -1):
        columns = [(each.name, each.sql_type) for each in COLUMNS if each.since <= version]
        if found == [(name, _NAMED.get(kind, kind)) for name, kind in (*columns, ("segment", "BIGINT"))]:
            return version
    return None


def held_elsewhere(
    unfinished: Sequence[Path], journals: Sequence[Path], segments: Sequence[Path]
) -> list[Path]:
    """Those of some files of a sealing of which every call is in other journal files or segments too.

    Args:
        unfinished: Segments and carried files that no seal names.
        journals: The other files of the journal.
        segments: The other segments that count.
    """
    safe = []
    with opened() as connection:
        connection.execute(
            "CREATE TABLE known AS SELECT DISTINCT decision_id "  # noqa: S608
            f"FROM ({lines(_escaped(journals), _largest(journals))})"
        )
        if segments:
            connection.execute(
                "INSERT INTO known SELECT decision_id "  # noqa: S608
                f"FROM read_parquet({_list(segments)}, hive_partitioning = false)"
            )
        for path in unfinished:
            is_segment = path.suffix == ".parquet"
            calls = (
                f"read_parquet({_list([path])}, hive_partitioning = false)"
                if is_segment
                else f"({lines(_escaped([path]), _largest([path]))})"
            )
            lost = f"SELECT count(*) FROM {calls} WHERE decision_id NOT IN (FROM known)"  # noqa: S608
            with suppress(duckdb.Error):  # what cannot be read is not shown to be elsewhere
                if connection.execute(lost).fetchall() == [(0,)]:
                    safe.append(path)
    return safe


@contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty DuckDB in memory that writes nothing beside what it is told to."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = false")  # stdout is for the seals
        connection.execute(DECLARE)
        yield connection


def _largest(files: Sequence[Path]) -> int:
    return max((os.stat(file).st_size for file in files), default=0)


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join(map(literal, _escaped(files))) + "]"


def _escaped(files: Sequence[Path]) -> list[str]:
    """Paths that no part of is taken for a pattern."""
    return [glob.escape(str(file)) for file in files]
