"""Query the audit for the report. Calls are grouped in one pass, so that the numbers of a page add up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.views import ANSWER
from aegis_otel.report.buckets import FIRST_TIME, KINDS, LAST_TIME, TimeBuckets

if TYPE_CHECKING:
    import duckdb


MAX_GROUPS = 25
MAX_CALLS = 50

# Long names that begin alike stay apart when they are cut, by their digest.
_MACROS = """
CREATE OR REPLACE TEMP MACRO cut(text) AS CASE WHEN length(text) > 100
    THEN left(text, 80) || '... ' || length(text) || ' characters, md5 ' || left(md5(text), 8) ELSE text END;
CREATE OR REPLACE TEMP MACRO head(text) AS CASE WHEN length(text) > 200
    THEN left(text, 200) || '... ' || length(text) || ' characters' ELSE text END;
"""
_KIND = " ".join(f"WHEN '{status}' THEN '{kind.name}'" for kind in KINDS for status in kind.statuses)
_CALL_GROUPS = f"""
CREATE OR REPLACE TEMP TABLE call_group AS
SELECT cut(result_status) AS status, cut(risk_level) AS risk, cut(approval) AS approval,
    cut(matched_rule) AS rule, cut(agent_name) AS agent, cut(coalesce(tool_name, action_type)) AS tool,
    cut(service) AS service, cut(policy_digest) AS policy, mode = 'monitor' AS monitored,
    human_decision IS NOT NULL AND decision_id IN (FROM unproven_answer) AS unproven,
    CASE result_status {_KIND} ELSE '{KINDS[-1].name}' END AS kind,
    cut(outcome) AS outcome, cut({ANSWER}) AS answer,
    CASE WHEN epoch_us("timestamp") BETWEEN {FIRST_TIME} AND {LAST_TIME}
        THEN (epoch_us("timestamp") - {{start:d}}) // {{width:d}} END AS bucket,
    count(*) AS calls, min(epoch_us("timestamp")) AS first, max(epoch_us("timestamp")) AS last
FROM audit WHERE {{condition}} GROUP BY ALL"""  # noqa: S608
_KIND_COUNTS = ", ".join(
    f"coalesce(sum(calls) FILTER (kind = '{kind.name}'), 0)::BIGINT AS {kind.name}" for kind in KINDS
)
_CALLS = """
SELECT epoch_us("timestamp") AS time, cut(agent_name) AS agent, cut(action_type) AS action,
    cut(action_target) AS target, cut(matched_rule) AS rule,
    cut(coalesce(human_decision, approval)) AS decision, cut(result_status) AS status,
    head(action_params::VARCHAR) AS arguments,
    right(cut(decision_id), 8) AS id, mode = 'monitor' AS monitored, cut(approver) AS approver,
    head(coalesce(approval_reason, reason)) AS reason,
    human_decision IS NOT NULL AND decision_id IN (FROM unproven_answer) AS unproven,
    count(*) OVER () AS total
FROM audit WHERE {condition} AND {where} ORDER BY "timestamp" DESC NULLS LAST, decision_id DESC
LIMIT {limit:d}"""
_TOOL_TIMES = """
SELECT cut(coalesce(tool_name, action_type)) AS tool, count(*) AS calls,
    quantile_cont(duration_s, 0.5) AS median, quantile_cont(duration_s, 0.95) AS p95,
    max(duration_s) AS longest, count(*) OVER () AS total
FROM audit WHERE {condition} AND duration_s IS NOT NULL
GROUP BY tool ORDER BY p95 DESC, tool LIMIT {limit:d}"""
_APPROVERS = """
SELECT cut(approver) AS approver, count(*) AS answers,
    count(*) FILTER (human_decision = 'approved') AS yes, count(*) FILTER (human_decision = 'denied') AS no,
    median(approval_wait_s) AS median, max(approval_wait_s) AS longest, count(*) OVER () AS total
FROM audit WHERE {condition} AND human_decision IN ('approved', 'denied')
GROUP BY ALL ORDER BY answers DESC, 1 NULLS LAST LIMIT {limit:d}"""
_WAITS = """
SELECT quantile_cont(approval_wait_s, 0.5) AS median, quantile_cont(approval_wait_s, 0.95) AS p95,
    max(approval_wait_s) AS longest, 1 AS total
FROM audit WHERE {condition} AND human_decision IN ('approved', 'denied')"""
_FAILURES = """
SELECT cut(coalesce(tool_name, action_type)) AS tool, cut(result_status) AS status,
    head(result_error) AS error, count(*) AS calls, max(epoch_us("timestamp")) AS last,
    count(*) OVER () AS total
FROM audit WHERE {condition} AND result_status IN ('failed', 'cancelled', 'skipped')
GROUP BY tool, status, error ORDER BY calls DESC, tool, status, error LIMIT {limit:d}"""


class TopRows(NamedTuple):
    """The first rows of an answer, each by the names of its columns."""

    rows: list[dict[str, Any]]
    total: int
    """The number of rows of the whole answer."""


class ReportQueries:
    """Query the calls of an audit that a condition holds for.

    Args:
        audit: A connection with the view `audit`.
        condition: Selects the calls.
        unproven: The decisions whose answers are not proven.
    """

    def __init__(
        self, audit: duckdb.DuckDBPyConnection, condition: Condition, unproven: Iterable[str] = ()
    ) -> None:
        self._audit = audit
        self._condition = condition
        audit.execute(_MACROS)
        sql = "CREATE OR REPLACE TEMP TABLE unproven_answer AS SELECT unnest(?::VARCHAR[]) AS decision_id"
        audit.execute(sql, [sorted(unproven)])
        times = """
            SELECT min(epoch_us("timestamp")) AS first, max(epoch_us("timestamp")) AS last, 1 AS total
            FROM audit WHERE {condition}"""
        span = self._select(times).rows[0]
        self.first: int | None = span["first"]
        self.last: int | None = span["last"]
        self.buckets = TimeBuckets.covering(self.first, self.last)
        self._execute(_CALL_GROUPS, start=self.buckets.start, width=self.buckets.width)

    def count(self, where: str = "true") -> int:
        """Return the number of calls that a condition on the table `call_group` holds for."""
        sql = f"SELECT coalesce(sum(calls), 0)::BIGINT FROM call_group WHERE {where}"  # noqa: S608
        return int(self._audit.execute(sql).fetchall()[0][0])

    def groups(self, *names: str, where: str = "true", order: str = "calls DESC") -> TopRows:
        """Return the calls by some of their properties, the largest groups first."""
        named = ", ".join(names)
        sql = f"""
            SELECT {named}, sum(calls)::BIGINT AS calls, {_KIND_COUNTS}, min(first) AS first,
                max(last) AS last, count(*) OVER () AS total
            FROM call_group WHERE {where} GROUP BY {named}
            ORDER BY {order} NULLS LAST, {named} LIMIT {MAX_GROUPS}"""  # noqa: S608
        return _rows(self._audit.execute(sql))

    def time_line(self) -> list[dict[str, Any]]:
        """Return the calls of each kind in each bucket of time."""
        sql = f"""
            SELECT bucket, sum(calls)::BIGINT AS calls, {_KIND_COUNTS}, 1 AS total
            FROM call_group WHERE bucket IS NOT NULL GROUP BY bucket"""  # noqa: S608
        found = _rows(self._audit.execute(sql)).rows
        return self.buckets.rows({row.pop("bucket"): row for row in found})

    def calls(self, where: str, limit: int = MAX_CALLS) -> TopRows:
        """Return the newest calls that a condition on the audit holds for."""
        return self._select(_CALLS, where=where, limit=limit)

    def tool_times(self) -> TopRows:
        """Return by tool how often its body ran and how many seconds it took, the slowest first."""
        return self._select(_TOOL_TIMES)

    def approvers(self) -> TopRows:
        """Return by approver how often they answered, and how many seconds they needed."""
        return self._select(_APPROVERS)

    def waits(self) -> dict[str, float | None]:
        """Return the median, 95th percentile and longest wait for an answer, in seconds."""
        return self._select(_WAITS).rows[0]

    def failures(self) -> TopRows:
        """Return by tool and error how often a call failed, and when it last did."""
        return self._select(_FAILURES)

    def _select(self, sql: str, **parts: Any) -> TopRows:
        return _rows(self._execute(sql, **{"limit": MAX_GROUPS} | parts))

    def _execute(self, sql: str, **parts: Any) -> duckdb.DuckDBPyConnection:
        return self._audit.execute(sql.format(condition=self._condition.sql, **parts), self._condition.values)


def _rows(answer: duckdb.DuckDBPyConnection) -> TopRows:
    """Return the rows of an answer whose last column is the total."""
    names = [column[0] for column in answer.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    return TopRows(rows, rows[0]["total"] if rows else 0)
