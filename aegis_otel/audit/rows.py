"""Rows of the audit as plain dicts and lines of JSON, out of a connection made by `audit.store`."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aegis_otel.audit.filters import Condition
from aegis_otel.audit.record import COLUMNS
from aegis_otel.errors import AuditError, ConfigError

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]
"""One call: every column of the audit by name, in order; `timestamp` in ISO 8601 with microseconds and
`+00:00`, `action_params` as the parsed JSON, None where a column has no value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 1_000
_READ_AS = {"timestamp": "epoch_us(timestamp)", "action_params": "action_params::VARCHAR"}
_SELECTED = ", ".join(_READ_AS.get(column.name, column.name) for column in COLUMNS)
_NEWEST_FIRST = "timestamp DESC NULLS LAST, decision_id DESC"
_OLDEST_FIRST = "timestamp NULLS FIRST, decision_id"


def count_rows(audit: duckdb.DuckDBPyConnection, condition: Condition) -> int:
    """How many rows there are.

    Raises:
        AuditError: when the audit cannot be read.
    """
    ((count,),) = _run(audit, f"SELECT count(*) FROM audit WHERE {condition.sql}", condition.values)  # noqa: S608
    return int(count)


def read_rows(
    audit: duckdb.DuckDBPyConnection,
    condition: Condition,
    *,
    limit: int | None = None,
    oldest_first: bool = False,
) -> Iterator[Row]:
    """The rows, newest first.

    Args:
        limit: At most so many, and of all the newest.
        oldest_first: Give those in the order in which they were decided.

    Raises:
        ConfigError: for a limit that is no number of rows.
        AuditError: when the audit cannot be read.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ConfigError(f"`limit` is `{limit}`: expected a number of rows, 0 or more")
    found = f"SELECT * FROM audit WHERE {condition.sql} ORDER BY {_NEWEST_FIRST}"  # noqa: S608
    if limit is not None:
        found += f" LIMIT {limit:d}"
    order = _OLDEST_FIRST if oldest_first else _NEWEST_FIRST
    sql = f"SELECT {_SELECTED} FROM ({found}) ORDER BY {order}"  # noqa: S608
    return map(_row, _run(audit, sql, condition.values))


def to_json(row: Row) -> str:
    """The row as one line of ASCII JSON: nothing in it can act on a terminal or fail to be encoded."""
    return json.dumps(row, allow_nan=False)


def _run(audit: duckdb.DuckDBPyConnection, sql: str, values: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    import duckdb  # noqa: PLC0415 - loaded by whoever made the connection, and never before

    try:
        answer = audit.execute(sql, values)
        while batch := answer.fetchmany(_BATCH):
            yield from batch
    except duckdb.Error as error:
        raise AuditError(f"cannot read the audit: {error}") from error


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
    """A number of JSON; its text where it is too large for Python, which would make it infinite."""
    value = float(text)
    return value if math.isfinite(value) else text
