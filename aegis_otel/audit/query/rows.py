"""Read rows of the audit as dicts and as JSON, from a connection of `audit.query.connection`."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.record import COLUMNS
from aegis_otel.errors import AuditError, ConfigError

if TYPE_CHECKING:
    import duckdb


Row = dict[str, Any]
"""A call: every column of the audit by name, in order. `timestamp` is ISO 8601 with microseconds and
`+00:00`, `action_params` is the parsed JSON, and a column without a value is None."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 1_000
_FEW = 20_000
"""The number of sealed rows up to which no guess is worth its cost."""
_READ_AS = {"timestamp": "epoch_us(timestamp)", "action_params": "action_params::VARCHAR"}
_SELECTED = ", ".join(_READ_AS.get(column.name, column.name) for column in COLUMNS)
_NEWEST_FIRST = "timestamp DESC NULLS LAST, decision_id DESC"
_OLDEST_FIRST = "timestamp NULLS FIRST, decision_id"


def count_rows(audit: duckdb.DuckDBPyConnection, condition: Condition) -> int:
    """Return the number of rows that match; errors as for `read_rows`."""
    ((count,),) = run_query(audit, f"SELECT count(*) FROM audit WHERE {condition.sql}", condition.values)  # noqa: S608
    return int(count)


def read_rows(
    audit: duckdb.DuckDBPyConnection,
    condition: Condition,
    *,
    limit: int | None = None,
    oldest_first: bool = False,
) -> Iterator[Row]:
    """Return the rows, newest first.

    Args:
        limit: The most rows to return, which are then the newest of all.
        oldest_first: Return them in the order in which they were decided.

    Raises:
        ConfigError: the limit is not a number of rows.
        AuditError: the audit cannot be read.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ConfigError(f"`limit` is `{limit}`: expected a number of rows, 0 or more")
    order = _OLDEST_FIRST if oldest_first else _NEWEST_FIRST
    if limit is None:
        sql = f"SELECT {_SELECTED} FROM audit WHERE {condition.sql} ORDER BY {order}"  # noqa: S608
        return map(_row, run_query(audit, sql, condition.values))
    for since in _recent_times(audit, limit):
        recent = f"{condition.sql} AND timestamp >= ?::TIMESTAMPTZ"
        found = list(run_query(audit, _newest(recent, limit, order), [*condition.values, since]))
        if len(found) == limit:
            return map(_row, found)
    return map(_row, run_query(audit, _newest(condition.sql, limit, order), condition.values))


def _newest(condition: str, limit: int, order: str) -> str:
    found = f"SELECT * FROM audit WHERE {condition} ORDER BY {_NEWEST_FIRST} LIMIT {limit:d}"  # noqa: S608
    return f"SELECT {_SELECTED} FROM ({found}) ORDER BY {order}"  # noqa: S608


def _recent_times(audit: duckdb.DuckDBPyConnection, limit: int) -> Iterator[str]:
    """Yield times, each further back, after which there are perhaps `limit` rows.

    To sort all rows for the newest would decode all of them; rows after a time are found by the statistics of
    the segments. The first guess is by how dense the newest segment is.
    """
    sql = 'SELECT rows, epoch_us("first"), epoch_us("last") FROM journal.segment WHERE "last" IS NOT NULL'
    segments = list(run_query(audit, sql))
    if limit == 0 or sum(rows for rows, _, _ in segments) <= _FEW + limit:
        return
    rows, first, newest = max(segments, key=lambda segment: segment[2])
    oldest = min(first for _, first, _ in segments)
    span = (newest - first + 1_000_000) * 2 * limit // rows
    while newest - span > oldest:
        yield (_EPOCH + timedelta(microseconds=newest - span)).isoformat()
        span *= 32


def to_json(row: Row) -> str:
    """Return the row as a line of ASCII JSON, which cannot act on a terminal and can always be encoded."""
    return json.dumps(row, allow_nan=False)


def run_query(
    audit: duckdb.DuckDBPyConnection, sql: str, values: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query of the audit.

    Raises:
        AuditError: the audit cannot be read.
    """
    from aegis_otel.audit.lake.engine import duckdb  # noqa: PLC0415 - not to be loaded with this module

    try:
        answer = audit.execute(sql, values)
        while batch := answer.fetchmany(_BATCH):
            yield from batch
    except (duckdb.Error, UnicodeDecodeError) as error:  # the latter of a damaged file
        raise unreadable(error) from error


def unreadable(error: Exception) -> AuditError:
    return AuditError(
        f"cannot read the audit: {error}; where a sealed file is damaged, `aegis audit verify` names it: "
        "restore it, or move it away, and the rest can be read"
    )


def _row(values: tuple[Any, ...]) -> Row:
    row: Row = {column.name: value for column, value in zip(COLUMNS, values, strict=True)}
    if row["timestamp"] is not None:
        time = _EPOCH + timedelta(microseconds=row["timestamp"])
        row["timestamp"] = time.isoformat(timespec="microseconds")
    if row["action_params"] is not None:
        # Deeper, or with longer numbers, than Python reads, it stays the text it is.
        with contextlib.suppress(ValueError, RecursionError):
            row["action_params"] = json.loads(row["action_params"], parse_float=_number)
    return row


def _number(text: str) -> float | str:
    """Return a number of JSON; its text where it is too large for Python, which would make it infinite."""
    value = float(text)
    return value if math.isfinite(value) else text
