"""Query the audit for the report. Calls are grouped in one pass, so that the numbers of a page add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.views import ANSWER, read_queries
from aegis_otel.audit.record import GRANT_PATTERN
from aegis_otel.report.buckets import FIRST_TIME, KINDS, LAST_TIME, TimeBuckets

if TYPE_CHECKING:
    import duckdb

MAX_GROUPS = 25
MAX_CALLS = 50
_QUERIES = read_queries("aegis_otel.report", "queries.sql")
_KIND = " ".join(f"WHEN '{status}' THEN '{kind.name}'" for kind in KINDS for status in kind.statuses)
_PARTS = {
    "kind": f"{_KIND} ELSE '{KINDS[-1].name}'",
    "kind_counts": ", ".join(
        f"coalesce(sum(calls) FILTER (kind = '{kind.name}'), 0)::BIGINT AS {kind.name}" for kind in KINDS
    ),
    "answer": ANSWER,
    "first_time": FIRST_TIME,
    "last_time": LAST_TIME,
    "limit": MAX_GROUPS,
    "granted": f"coalesce(regexp_matches(approval_reason, '{GRANT_PATTERN}'), false)",
    "grant": f"'{GRANT_PATTERN}'",
}


class RefusedRow(NamedTuple):
    """An answer to a question in the inbox that counted for nothing."""

    decision_id: str
    approver: str
    why: str
    time: int
    """Microseconds since 1970."""


class TopRows(NamedTuple):
    """The first rows of an answer, each by the names of its columns."""

    rows: list[dict[str, Any]]
    total: int
    """The number of rows of the whole answer."""


class ReportQueries:
    """Query the calls of an audit that match a condition.

    Args:
        audit: A connection with the view `audit`.
        condition: Selects the calls.
        unproven: The decisions whose answers are not proven.
        refused: The refused answers of the inbox, also those to other calls.
    """

    def __init__(
        self,
        audit: duckdb.DuckDBPyConnection,
        condition: Condition,
        unproven: Iterable[str] = (),
        refused: Sequence[RefusedRow] = (),
    ) -> None:
        self._audit = audit
        self._condition = condition
        sql = "CREATE OR REPLACE TEMP TABLE unproven_answer AS SELECT unnest(?::VARCHAR[]) AS decision_id"
        audit.execute(sql, [sorted(unproven)])
        self._execute(
            "refused_answers", values=[list(column) for column in zip(*refused, strict=True)] or [[]] * 4
        )
        self._execute("cut_macro")
        self._execute("head_macro")
        span = self.select("span").rows[0]
        self.first: int | None = span["first"]
        self.last: int | None = span["last"]
        self.buckets = TimeBuckets.covering(self.first, self.last)
        self._execute("call_groups", start=self.buckets.start, width=self.buckets.width)

    def count(self, where: str = "true") -> int:
        """Return the number of calls for which a condition on the table `call_group` is true."""
        sql = f"SELECT coalesce(sum(calls), 0)::BIGINT FROM call_group WHERE {where}"  # noqa: S608
        return int(self._audit.execute(sql).fetchall()[0][0])

    def groups(self, *names: str, where: str = "true", order: str = "calls DESC") -> TopRows:
        """Return the calls by some of their properties, the largest groups first."""
        return self.select("groups", names=", ".join(names), where=where, order=order)

    def unfired(self, policy: str, rules: Iterable[str]) -> list[str]:
        """Return the rules of a policy that decided no call.

        Args:
            policy: The digest of the policy.
            rules: The names of its rules.
        """
        found = self._execute("unfired", values=[list(rules), policy])
        return [name for (name,) in found.fetchall()]

    def time_line(self) -> list[dict[str, Any]]:
        """Return the calls of each kind in each bucket of time."""
        return self.buckets.rows({row.pop("bucket"): row for row in self.select("time_line").rows})

    def calls(self, where: str, limit: int = MAX_CALLS) -> TopRows:
        """Return the newest calls for which a condition on the audit is true."""
        return self.select("calls", where=where, limit=limit)

    def select(self, name: str, **parts: Any) -> TopRows:
        """Return the rows of a query of `queries.sql`; `parts` replace names in braces."""
        answer = self._execute(name, **parts)
        names = [column[0] for column in answer.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
        return TopRows(rows, rows[0]["total"] if rows else 0)

    def _execute(self, name: str, *, values: Sequence[Any] = (), **parts: Any) -> duckdb.DuckDBPyConnection:
        query = _QUERIES[name].sql
        values = self._condition.values if "{condition}" in query else values
        return self._audit.execute(
            query.format_map({**_PARTS, "condition": self._condition.sql, **parts}), values
        )
