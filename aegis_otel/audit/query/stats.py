"""An audit in numbers: calls of each kind, and how long people took to answer. One pass over the rows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import run_query
from aegis_otel.audit.query.views import ANSWER, HOUR

if TYPE_CHECKING:
    import duckdb

_DIMENSIONS = {
    "result_status": "result_status",
    "risk_level": "risk_level",
    "matched_rule": "matched_rule",
    "tool_name": "coalesce(tool_name, action_type)",
    "agent_name": "agent_name",
    "answer": ANSWER,
    "hour": HOUR,
}


class Spread(NamedTuple):
    """Seconds; None where there was nothing to measure."""

    p50: float | None = None
    p95: float | None = None
    max: float | None = None


class Stats(NamedTuple):
    calls: int
    first: datetime | None
    last: datetime | None
    wait_s: Spread
    """How long humans took to answer; a question that expired has no answer."""
    duration_s: Spread
    """How long tools ran."""
    by: dict[str, list[tuple[str | datetime | None, int]]]
    """For each dimension its values with their numbers of calls, the most frequent first, hours in order. The
    tool is the action's type where there is none, and the human answer is None where nobody was asked."""


def take_stats(audit: duckdb.DuckDBPyConnection, condition: Condition) -> Stats:
    """Count the rows that match.

    Raises:
        AuditError: the audit cannot be read.
    """
    names = ", ".join(_DIMENSIONS)
    which = " ".join(f"WHEN grouping({name}) = 0 THEN '{name}'" for name in _DIMENSIONS)
    sql = f"""
        SELECT CASE {which} END AS dimension,
            {names}, count(*) AS calls, min("timestamp"), max("timestamp"),
            {_spread("approval_wait_s")}, {_spread("duration_s")}
        FROM (
            SELECT {", ".join(f"{sql} AS {name}" for name, sql in _DIMENSIONS.items())},
                "timestamp", duration_s,
                CASE WHEN human_decision IN ('approved', 'denied') THEN approval_wait_s END AS approval_wait_s
            FROM audit WHERE {condition.sql}
        )
        GROUP BY GROUPING SETS ((), {", ".join(f"({name})" for name in _DIMENSIONS)})
        ORDER BY hour, calls DESC, {names}"""  # noqa: S608
    by: dict[str, list[tuple[str | datetime | None, int]]] = {name: [] for name in _DIMENSIONS}
    total = Stats(0, None, None, Spread(), Spread(), by)
    for dimension, *values in run_query(audit, sql, condition.values):
        calls, first, last, *seconds = values[len(_DIMENSIONS) :]
        if dimension is None:
            total = Stats(calls, first, last, Spread(*seconds[:3]), Spread(*seconds[3:]), by)
        else:
            by[dimension].append((values[list(_DIMENSIONS).index(dimension)], calls))
    return total


def _spread(column: str) -> str:
    return f"quantile_cont({column}, 0.5), quantile_cont({column}, 0.95), max({column})"
