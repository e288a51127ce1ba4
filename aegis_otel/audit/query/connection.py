"""Open the audit as SQL: an in-memory DuckDB whose view `audit` has one row for each call, live.

Nothing is copied and no database file exists. The view reads the sealed segments and the journal whenever it
is queried, so it shows a call as soon as it is decided, and a reader never blocks a writer, a sealer or
another reader.

Each call is seen once. A query takes the seals that were made a second before it began. It reads the segments
that these name and none of them replaced, and the journal files that none of them covers. What such a seal
names was in place before the query listed any file, because the time of a seal is taken after that. What a
later seal covers or replaces is still there, because nothing is removed within a minute
(`audit.lake.cleanup.GRACE`). A carried line may be seen twice for a moment: a row is the fold of its lines,
and folding a line twice changes nothing. A query that takes more than a minute, or a sealer that stands still
as long between the time of its seal and its line, can leave a query without a file: it fails, and never
answers wrongly.

A clock that is set back leaves younger seals out of account until it has caught up, and their files in place
as long: the sealer goes by the same clock, and no seal is dated before another. One case is left: where the
clock is set back by more than a second while a query runs, and a seal is made in the rest of that query, the
segments of that seal may be missing in that one answer.

Other ways were weighed. A list of files bound to the connection is out of date with the first seal. A list
made for each query needs a Python function in DuckDB, which needs NumPy. An anti-join of ids over the lake
costs more than most queries. With a lock of readers, one dashboard could keep every file for ever.
"""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from pathlib import Path

from aegis_otel.audit.journal.files import find_writers, journal_files, largest_file, not_text, torn_files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.lake.fold import (
    BEGUN,
    DECLARE,
    LAST_WRITER,
    folded,
    lines,
    literal,
    literals,
    outcome,
    quoted,
    shown,
)
from aegis_otel.audit.lake.scan import PATTERN, SCHEMA, find_mirrors, scan_lake
from aegis_otel.audit.lake.segments import lines_of, schema_version
from aegis_otel.audit.location import JOURNAL, LAKE, SEALS, address, exists, locate
from aegis_otel.audit.query.views import create_views
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION
from aegis_otel.audit.seals.seal_log import Segment
from aegis_otel.errors import AuditError

# `now()` is when the query began: what a seal of before names was in place when files were listed, and the
# second is for clocks that are set while it happens. In a transaction that is long open `now()` stands still;
# then the seals of up to 30 s ago count, since what they cover may be gone 30 s later. The limit is asked for
# once and not for every seal, or one could count without the one before it.
_SEAL = """
SELECT * FROM read_json(['/dev/null', {file}], allow_empty = true, ignore_errors = true,
    format = 'newline_delimited', records = 'true', columns = {{
        'seal': 'BIGINT', 'sealed_at': 'TIMESTAMPTZ', 'replaces': 'BIGINT[]',
        'segments': 'STRUCT(segment BIGINT, file VARCHAR)[]', 'journals': 'STRUCT(file VARCHAR)[]'}})
WHERE seal IS NOT NULL AND sealed_at < (SELECT greatest(now() - INTERVAL 1 SECOND,
    uuid_extract_timestamp(uuidv7()) - INTERVAL 30 SECOND))
"""

# The files of the lake that count, by the names that reading them gives.
_LIVE = """
SELECT {lake} || made.file FROM (SELECT unnest(segments) AS made FROM seal)
ANTI JOIN (SELECT unnest(replaces) AS replaced FROM seal) ON made.segment = replaced
"""

# What `closed` names is not even opened: a file that is about to be removed, or that is damaged.
_LINE = """
SELECT * FROM (SELECT * FROM journal.kept UNION ALL {lines})
WHERE file NOT IN (SELECT unnest(journals).file FROM seal)
"""

# The name comes first, because it is all that a count needs, and no column is read for it. The file that is
# there for its columns is among `closed`: they are taken from it, and no row of it counts, whatever it holds.
# It is never removed, so no removal comes between listing it and opening it for the columns.
_LAKE = """
SELECT filename, {columns} FROM {segments} WHERE filename NOT IN ({closed}) AND filename IN (FROM live)
"""

# The seals are read once for a whole query. Were they read twice, a seal that comes between would count for
# the segments and not for the journals, or the other way round, and rows would be doubled or lost: the line
# of a seal comes after the time in it, on a machine that sleeps by more than the second above. Read once, it
# is there or not, and either answer is right.
_PARTS = """
WITH seal AS MATERIALIZED ({seal}), live AS ({live}), line AS NOT MATERIALIZED ({line})
"""

# Lines without the first of their call: it was sealed before they came, and the next seal works them in; or
# the first is lost, and they are all there is.
_LATE = """
SELECT decision_id, {begun} AS begun, max(coalesce(line.schema_version, 1)) < 3 AS older
FROM journal.line WHERE readable GROUP BY decision_id
HAVING NOT {begun} OR max(coalesce(line.schema_version, 1)) < 3
"""
_ORPHAN = """
{parts} SELECT decision_id FROM line
WHERE readable AND decision_id IN (SELECT decision_id FROM late WHERE NOT begun)
    AND decision_id NOT IN (SELECT decision_id FROM ({lake})) GROUP BY decision_id HAVING NOT {begun}
"""

# No layer that can be spared: to bind thirty columns once more takes a query half a millisecond. The last
# condition holds for every row. It asks for one column above the WITH: for a count, which asks for none,
# DuckDB would else read all columns of the lake.
_AUDIT = """
SELECT {columns} FROM (
    {parts} {lake}
    UNION ALL
    SELECT '', {shown} FROM line WHERE readable GROUP BY decision_id HAVING {counts}
    {mirrored}
) WHERE filename NOT IN (SELECT filename FROM journal.nothing)
"""

_TYPED = ", ".join(
    f"NULL::{sql_type} AS {quoted(name)}"
    for name, sql_type in (("filename", "VARCHAR"), *((column.name, column.sql_type) for column in COLUMNS))
)
_EMPTY = f"SELECT {_TYPED} WHERE false UNION ALL BY NAME"  # without `SCHEMA`, which takes less time
_PARQUET = "allow_empty = true, hive_partitioning = false, filename = true"

_KEPT_BYTES = 64 << 20
"""Bytes of complete files whose lines are read once a connection: they never change. To fold their calls once
as well was measured twice and gains nothing: the layers it adds take as long to bind as the folding."""
_PATIENCE_S = 0.02
"""How long a writer may take to end a line; a file that is torn by then is read as it is, and not again."""

_MIRRORED = """
UNION ALL SELECT '', {columns} FROM
    ({empty} SELECT * FROM read_parquet({files}, hive_partitioning = false, union_by_name = true))
"""


def connect(path: str | os.PathLike[str] | None = None) -> duckdb.DuckDBPyConnection:
    """Open an audit for SQL: `connect().sql("SELECT * FROM audit")`.

    The view `audit` has the columns of `audit.record.COLUMNS`, in that order; times are UTC. It shows
    rows as they are written, also by other processes. A call found open whose process was gone by the
    time of `connect` has the `result_status` `unknown`. The ready views are in `audit.query.views.VIEWS`.

    Files that are sealed or merged are removed after a minute. A query that takes longer, or that begins on
    an older connection at that very moment, may find one gone: it then fails, and has to be run again.

    Args:
        path: The audit directory. Default: `AEGIS_AUDIT_DIR`, else `aegis_audit`. For an address on
            object storage, the sealed part of every audit there is fetched, and this machine's own shown
            beside it.

    Returns:
        A connection to an in-memory database of its own; nothing done in it changes the audit.

    Raises:
        AuditError: there is no audit at that place, or it cannot be read.
    """
    import duckdb as _relations  # noqa: F401, PLC0415 - a connection then has `sql()` and its like

    directory, url = locate(path), address(path)
    unfetched: list[str] = []
    if url is not None:
        from aegis_otel.audit.maintenance.download import fetch  # noqa: PLC0415 - asyncio, for few

        unfetched = fetch(directory, url)
    if not exists(directory):
        raise AuditError(f"no audit at `{directory}`: it is made with the first record")
    connection = open_view(directory, mirrors=url is not None)
    connection.execute("INSERT INTO journal.problem SELECT unnest(?::VARCHAR[])", [unfetched])
    create_views(connection, directory, mirrors=url is not None)
    return connection


def open_view(directory: Path, *, keep: bool = True, mirrors: bool = False) -> duckdb.DuckDBPyConnection:
    """Open an audit as `connect` does, with the view `audit` alone, which is empty if there is no audit yet.

    To make the other views takes longer than most queries.

    Args:
        keep: Read the lines of complete files now, and not again for every query.
        mirrors: Show what others have sealed at the same address, as it was fetched. This is only for callers
            who name the audit by its address: a `mirror/` beside a local lake is foreign, and is not read.
    """
    exists(directory)
    lake = scan_lake(directory)
    fetched, problems = _scan_mirrors(directory) if mirrors else ({}, [])
    problems = [*lake.problems, *problems]
    journal = directory / JOURNAL
    writers = find_writers(journal)
    closed = {directory / file for file in lake.closed}
    kept = [file for file in _few(writers.complete) if file not in closed] if keep else []
    connection = duckdb.connect(":memory:")
    for setting in (
        "TimeZone = 'UTC'",
        "parquet_metadata_cache = true",  # segments never change
        "dynamic_or_filter_threshold = 0",  # each row's file against each live one
        "enable_progress_bar = false",  # it goes to stdout, among the rows
    ):
        connection.execute(f"SET {setting}")
    connection.execute("CREATE SCHEMA journal")
    connection.execute(DECLARE)
    patterns, growing = [_inside(directory / LAKE, PATTERN)], [_inside(journal, "*.jsonl")]
    # DuckDB's listing fails at a name that is not UTF-8: then what is there now is read, by its names.
    if foreign := not_text(directory / LAKE, PATTERN):
        problems += [f"`{LAKE}/{name}` is not named as a segment is and is not read" for name in foreign]
        patterns = [glob.escape(str(directory / LAKE / each.file)) for each in lake.segments]
        patterns = patterns or [_inside(directory / LAKE, SCHEMA)]
    if foreign := not_text(journal, "*.jsonl"):
        what = "is not named as a journal file is and is not read"
        problems += [f"`{JOURNAL}/{name}` {what}" for name in foreign]
        growing = [glob.escape(str(path)) for path in journal_files(journal)]
    version = schema_version(connection, directory / LAKE)
    if version == SCHEMA_VERSION:
        patterns.insert(0, _inside(directory / LAKE, SCHEMA))
    elif version is None and os.path.lexists(directory / LAKE / SCHEMA):
        problems.append(
            f"`{LAKE}/{SCHEMA}` has not the columns of a segment and is not read: "
            "the next sealing makes it anew"
        )
    _note(connection, problems, [*lake.segments, *fetched.values()])
    names = ", ".join(quoted(column.name) for column in COLUMNS)
    # Rows that an earlier version sealed have no outcome, also where they were merged into a new segment.
    filled = names.replace(quoted("outcome"), f"{outcome(quoted)} AS outcome")
    not_opened = ["", *map(str, closed)]
    gone = f"{LAST_WRITER} IN ({', '.join(map(literal, ['', *writers.ended]))})"
    largest = largest_file(journal)
    others = {*writers.complete, *writers.growing} - {*kept, *closed}
    read = kept + list(torn_files(sorted(others), _PATIENCE_S))
    connection.execute("SET preserve_insertion_order = false")  # or one thread would write them
    connection.execute(f"CREATE TABLE journal.kept AS {lines_of(read)}")
    connection.execute("RESET preserve_insertion_order")
    connection.execute("CREATE TABLE journal.nothing AS SELECT '/' AS filename")
    parts = _PARTS.format(
        seal=_SEAL.format(file=literal(_inside(directory, SEALS.replace("l", "[l]")))),
        live=_LIVE.format(lake=literal(f"{directory / LAKE}/")),
        line=_LINE.format(lines=lines(growing, largest, [*not_opened, *map(str, read)])),
    )
    options = f"{_PARQUET}, union_by_name = true" if lake.older else _PARQUET
    segments_of = f"read_parquet([{', '.join(map(literal, patterns))}], {options})"
    lake_sql = _LAKE.format(
        columns=filled if lake.began_older else names,
        segments=segments_of if len(patterns) > 1 else f"({_EMPTY} SELECT * FROM {segments_of})",  # noqa: S608
        closed=", ".join(map(literal, [*not_opened, str(directory / LAKE / SCHEMA)])),
    )
    connection.execute(f"CREATE VIEW journal.line AS {parts} FROM line")
    counts, older = _which_count(connection, parts, lake_sql)
    values = [
        # To bind the expression that derives the outcome takes a query half a millisecond.
        folded(each.name) if each.name == "outcome" and not older else shown(each, folded, gone)
        for each in COLUMNS
    ]
    view = _AUDIT.format(
        parts=parts,
        lake=lake_sql,
        counts=counts,
        columns=names,
        shown=", ".join(f"{sql} AS {quoted(each.name)}" for each, sql in zip(COLUMNS, values, strict=True)),
        mirrored=_MIRRORED.format(columns=filled, empty=_EMPTY, files=literals(fetched)) if fetched else "",
    )
    connection.execute(f"CREATE VIEW audit AS {view}")
    return connection


def unreadable_lines(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many lines of the journal are no records: torn by a crash, or written by something else."""
    sql = "SELECT count(*) FROM journal.line WHERE readable IS NOT TRUE"
    return sum(count for (count,) in connection.execute(sql).fetchall())


def problems(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return what of the sealed part is not shown, since it was missing, damaged or foreign at `connect`."""
    return [text for (text,) in connection.execute("SELECT text FROM journal.problem").fetchall()]


def left_out(connection: duckdb.DuckDBPyConnection, directory: Path) -> list[str]:
    """Return what of the audit cannot be read and is in no answer, a sentence each.

    Raises:
        AuditError: the audit was written by a newer version.
    """
    sentences = problems(connection)
    if unreadable := unreadable_lines(connection):
        sentences.append(f"Journal lines left out because they cannot be read: {unreadable}")
    ((version,),) = connection.execute("SELECT max(schema_version) FROM audit").fetchall()
    if version is not None and version > SCHEMA_VERSION:
        raise AuditError(
            f"the audit at `{directory}` has rows of schema {version}, and this version of aegis-otel "
            f"knows {SCHEMA_VERSION}: read it with a newer one"
        )
    return sentences


def _note(connection: duckdb.DuckDBPyConnection, problems: list[str], segments: list[Segment]) -> None:
    connection.execute("CREATE TABLE journal.problem AS SELECT unnest(?::VARCHAR[]) AS text", [problems])
    columns = [[getattr(each, name) for each in segments] for name in ("rows", "first", "last")]
    connection.execute(
        "CREATE TABLE journal.segment AS SELECT unnest(?::BIGINT[]) AS rows, "
        'unnest(?::TIMESTAMPTZ[]) AS "first", unnest(?::TIMESTAMPTZ[]) AS "last"',
        columns,
    )


def _which_count(connection: duckdb.DuckDBPyConnection, parts: str, lake: str) -> tuple[str, bool]:
    """Return the condition that makes lines a row: the first line of their call is among them, or lost.

    Also return whether some lines are of a version before 3, which stated no outcome.
    """
    connection.execute(f"CREATE TEMP TABLE late AS {_LATE.format(begun=BEGUN)}")
    ((late, older),) = connection.execute(
        "SELECT count(*) FILTER (NOT begun), count(*) FILTER (older) FROM late"
    ).fetchall()
    if late:  # else the lake is not asked at all
        orphans = _ORPHAN.format(parts=parts, lake=lake, begun=BEGUN)
        connection.execute(f"CREATE TABLE journal.orphan AS {orphans}")
    connection.execute("DROP TABLE late")
    return f"{BEGUN} OR decision_id IN (FROM journal.orphan)" if late else BEGUN, older > 0


def _few(files: list[Path]) -> list[Path]:
    """Return as many files as memory has room for; every query reads the rest of a journal."""
    room, few = _KEPT_BYTES, []
    for file in files:
        with suppress(FileNotFoundError):  # sealed and removed meanwhile
            room -= file.stat().st_size
            few.append(file)
        if room < 0:
            break
    return few


def _inside(directory: Path, pattern: str) -> str:
    return f"{glob.escape(str(directory))}/{pattern}"


def _scan_mirrors(directory: Path) -> tuple[dict[Path, Segment], list[str]]:
    """Return the readable files of others, and what is missing, damaged or foreign."""
    segments: dict[Path, Segment] = {}
    problems = []
    for mirror in find_mirrors(directory):
        try:
            lake = scan_lake(mirror)
        except AuditError as error:  # of one of many: the others are shown
            problems.append(f"`{mirror}` is not shown: {error}")
            continue
        segments |= {mirror / LAKE / each.file: each for each in lake.segments}
        problems += [f"`{mirror}`: {text}" for text in lake.problems]
    return segments, problems
