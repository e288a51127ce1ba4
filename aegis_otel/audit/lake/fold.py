"""SQL that folds lines of the journal into rows of the audit, for the live view and the sealer.

The row of a call has the last value of each column in the call's lines, and the first `timestamp`. Lines are
ordered by stage, then by time, also across writers: a second process may take over a call after an approval.
Their place in a file does not count, because one thread would have to read all lines to number them.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from aegis_otel.audit.journal.files import WRITER
from aegis_otel.audit.record import COLUMNS, Column
from aegis_otel.audit.seals.hash_chain import whole_lines

_LONGEST_LINE = 16 << 20
"""DuckDB's default bound on a line in bytes; raised where a file, and so perhaps a line, is larger."""

# These are read as text and cast where they are shown, so that a wrong value costs its cell and not its line.
_AS_TEXT = ("JSON", "TIMESTAMPTZ")
_STAGES = ("decided", "resolved", "completed")

_MEMBERS = {"stage": "VARCHAR", "writer": "VARCHAR"} | {
    column.name: "VARCHAR" if column.sql_type in _AS_TEXT else column.sql_type for column in COLUMNS
}

# A line is read as one column of this named type. Otherwise DuckDB would parse thirty type names for every
# file of every query.
_LINE_TYPE = "memory.main.journal_line"

_STRUCT = f"STRUCT({', '.join(f'{name} {sql_type}' for name, sql_type in _MEMBERS.items())})"

DECLARE = f"CREATE TYPE {_LINE_TYPE} AS {_STRUCT}"
"""Declares the type that the queries of `lines` need; run it once on an in-memory connection."""

# A rank has 60 bits for the moment, in microseconds since before the year 1; an unknown moment comes last.
_ANCIENT = 1 << 57
_NEVER = 1 << 59

_LINES = """
SELECT line, line.decision_id AS decision_id, filename, parse_filename(filename) AS file,
    CASE WHEN try_cast(line."timestamp" AS TIMESTAMPTZ) BETWEEN '0001-01-01 00:00:00+00' AND
        '9999-12-31 23:59:59.999999+00' THEN try_cast(line."timestamp" AS TIMESTAMPTZ) END AS moment,
    list_position({stages}, line.stage) AS step,
    (step::BIGINT << 60) + coalesce(epoch_us(moment) + {ancient}, {never}) AS rank,
    coalesce(line.writer, regexp_extract(filename, '{writer}', 1)) AS writer,
    line.decision_id <> '' AND step IS NOT NULL AS readable
FROM {source}
"""
# The list begins with an empty file: from an empty list DuckDB would make a relation without our columns.
_FILES = """
read_json({files}, allow_empty = true, filename = true, ignore_errors = true,
    format = 'newline_delimited', records = 'false', columns = {{'line': '{line_type}'}},
    maximum_sample_files = 1, maximum_object_size = {longest})
WHERE filename NOT IN ({closed})
"""
_TEXTS = """
(SELECT CASE WHEN json_valid(text) THEN json_transform(text, '{members}') END::{line_type} AS line, filename
    FROM (SELECT unnest([{texts}]) AS text, {filename} AS filename))
"""

LAST_WRITER = "arg_max(writer, rank)"
"""The writer of the last line of a call."""

BEGUN = "bool_or(line.stage = 'decided' OR line.action_type IS NOT NULL)"
"""Whether the first line of a call is among its lines."""


def lines(files: Iterable[str], largest: int, closed: Iterable[str] = ("",)) -> str:
    """Return a query for the lines of journal files.

    Args:
        files: Paths, or patterns of paths.
        largest: The bytes of the largest file.
        closed: Paths that are not opened though a pattern matches them.
    """
    return _of_source(
        _FILES.format(
            files="[" + ", ".join(map(literal, ("/dev/null", *files))) + "]",
            line_type=_LINE_TYPE,
            longest=max(_LONGEST_LINE, largest),
            closed=", ".join(map(literal, closed)),
        )
    )


def content_lines(path: Path, content: bytes) -> str:
    """Return a query for the lines of a file whose last line is torn, and for one more that is no record.

    Args:
        content: The whole lines of the file.
    """
    texts = ["''"]
    for line in whole_lines(content):
        try:
            texts.append(literal(line.decode()))
        except UnicodeDecodeError:
            texts.append("''")
    return _of_source(
        _TEXTS.format(
            members=json.dumps(_MEMBERS),
            line_type=_LINE_TYPE,
            texts=", ".join(texts),
            filename=literal(path),
        )
    )


def _of_source(source: str) -> str:
    return _LINES.format(source=source, stages=list(_STAGES), ancient=_ANCIENT, never=_NEVER, writer=WRITER)


def without_type(sql: str) -> str:
    """Return the same query without the named type, so that it runs on any connection."""
    return sql.replace(literal(_LINE_TYPE), literal(_STRUCT))


def rows(source: str) -> str:
    """Return a query for the rows that the readable lines of a relation fold to.

    Beside the columns of the audit it has `writer`, the call's last one, and `begun`, whether the call's
    first line is there.
    """
    columns = ", ".join(f"{folded(column.name)} AS {quoted(column.name)}" for column in COLUMNS)
    return (
        f"SELECT {columns}, {LAST_WRITER} AS writer, "  # noqa: S608
        f"{BEGUN} AS begun FROM {source} WHERE readable GROUP BY decision_id"
    )


def folded(name: str) -> str:
    """Return the SQL aggregate that folds a column of the lines of a call."""
    if name == "decision_id":
        return name
    return "arg_min(moment, rank)" if name == "timestamp" else f"arg_max(line.{name}, rank)"  # not null


_FAULTS = ("governance_unavailable", "arguments_changed", "approval_used", "invalid_arguments")
_DERIVED = f"""
CASE WHEN coalesce({{schema_version}}, 1) >= 3 THEN NULL
    WHEN {{result_status}} = 'pending' OR {{result_error}} = 'Skipped due to prior failure' THEN NULL
    WHEN {{reason}} IN {_FAULTS} AND ({{mode}} = 'monitor' OR {{result_status}} = 'blocked') THEN 'error'
    WHEN {{mode}} = 'monitor' THEN CASE {{approval}} WHEN 'block' THEN 'blocked' ELSE 'allowed' END
    WHEN {{result_status}} = 'blocked' THEN 'blocked'
    WHEN {{human_decision}} = 'expired' OR {{reason}} = 'cancelled' THEN 'expired'
    WHEN {{human_decision}} = 'denied' OR {{result_status}} = 'denied' THEN 'denied'
    WHEN {{human_decision}} = 'approved' THEN 'approved' ELSE 'allowed' END
"""
_DERIVED_FROM = re.findall(r"\{(\w+)\}", _DERIVED)


def outcome(value: Callable[[str], str]) -> str:
    """Return an SQL expression for the outcome of a call, derived if its lines are of a version before 3.

    Args:
        value: Returns the SQL expression for a column of the row, by its name.
    """
    derived = _DERIVED.format(**{name: value(name) for name in _DERIVED_FROM})
    return f"coalesce({value('outcome')}, {derived})"


def shown(column: Column, value: Callable[[str], str], gone: str) -> str:
    """Return an SQL expression for a column of a row as the audit shows it.

    Args:
        value: Returns the SQL expression for a column of the folded row, by its name.
        gone: An SQL condition for calls whose last writer has ended.
    """
    if column.name == "outcome":
        return outcome(value)
    folded = value(column.name)
    if column.sql_type == "DOUBLE":
        return f"CASE WHEN isfinite({folded}) THEN {folded} END"
    if column.name == "result_status":
        return f"CASE WHEN {folded} = 'open' AND {gone} THEN 'unknown' ELSE {folded} END"
    if column.sql_type == "JSON":
        return f"coalesce(try_cast({folded} AS JSON), to_json({folded}))"
    return folded


def literals(files: Iterable[Path]) -> str:
    """Return an SQL list of paths, in which no path is taken for a pattern."""
    return "[" + ", ".join(literal(glob.escape(str(file))) for file in files) + "]"


def literal(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def quoted(name: str) -> str:
    return f'"{name}"'
