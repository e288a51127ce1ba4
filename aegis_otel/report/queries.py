"""What the report asks the audit. Calls are counted in one pass, so that the numbers of a page add up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.report.charts import FIRST, LAST
from aegis_otel.report.outcomes import KINDS

if TYPE_CHECKING:
    import duckdb


# Names of any length stay apart when they are cut: the digest tells those with one beginning from each other.
_MACROS = """
CREATE OR REPLACE TEMP MACRO cut(text) AS CASE WHEN length(text) > 100
    THEN left(text, 80) || '... ' || length(text) || ' characters, md5 ' || left(md5(text), 8) ELSE text END;
CREATE OR REPLACE TEMP MACRO head(text) AS CASE WHEN length(text) > 200
    THEN left(text, 200) || '... ' || length(text) || ' characters' ELSE text END;
"""
_KIND = " ".join(f"WHEN '{status}' THEN '{kind.name}'" for kind in KINDS for status in kind.statuses)
_COUNTED = f"""
SELECT cut(result_status) AS status, cut(risk_level) AS risk, cut(approval) AS approval,
    cut(matched_rule) AS rule, cut(agent_name) AS agent, cut(coalesce(tool_name, action_type)) AS tool,
    cut(service) AS service, cut(policy_digest) AS policy, mode = 'monitor' AS watched,
    CASE result_status {_KIND} ELSE '{KINDS[-1].name}' END AS kind,
    CASE WHEN result_status = 'pending' THEN 'waiting'
        WHEN human_decision IS NOT NULL THEN cut(human_decision)
        WHEN approval_wait_s IS NOT NULL THEN 'none' END AS answer,
    {{slot}} AS slot, count(*) AS calls, min(epoch_us("timestamp")) AS first,
    max(epoch_us("timestamp")) AS last
FROM audit WHERE {{condition}} GROUP BY ALL"""  # noqa: S608
_OF_KINDS = ", ".join(f"sum(calls) FILTER (kind = '{kind.name}') AS {kind.name}" for kind in KINDS)
_ID = "right(cut(decision_id), 8)"
_LISTED = f"""
SELECT epoch_us("timestamp"), cut(agent_name), cut(action_type), cut(action_target), cut(matched_rule),
    cut(coalesce(human_decision, approval)), cut(result_status), head(action_params::VARCHAR), {_ID},
    mode = 'monitor', cut(approver), head(coalesce(approval_reason, reason)),
    human_decision IS NOT NULL AND decision_id IN (FROM unproven), count(*) OVER ()
FROM audit WHERE {{condition}} AND {{where}} ORDER BY "timestamp" DESC NULLS LAST, decision_id DESC
LIMIT {{limit:d}}"""  # noqa: S608


class Group(NamedTuple):
    """Calls that have something in common."""

    names: tuple[str | None, ...]
    calls: int
    kinds: tuple[int, ...]
    """The number of calls of each kind, in the order of `outcomes.KINDS`."""
    first: int | None
    """Microseconds since 1970."""
    last: int | None


class Listed(NamedTuple):
    """One call of a list."""

    time: int | None
    agent: str | None
    action: str | None
    target: str | None
    rule: str | None
    decision: str | None
    """What the human said, else what the rule asks for."""
    status: str | None
    arguments: str | None
    id: str
    """The end of it."""
    watched: bool
    approver: str | None
    reason: str | None
    """What the approver gave, else why it was decided so."""
    unproven: bool
    """Whether nobody has proven the answer."""


class Some(NamedTuple):
    """The first rows of an answer, and how many there are."""

    rows: list[Any]
    total: int


class Questions:
    """Asks about the calls of an audit that a condition holds for.

    Args:
        audit: A connection with the view `audit`.
        condition: Which calls.
        unproven: The decisions whose answers nobody has proven.
    """

    def __init__(
        self, audit: duckdb.DuckDBPyConnection, condition: Condition, unproven: Iterable[str] = ()
    ) -> None:
        self._audit = audit
        self._condition = condition
        sql = "CREATE OR REPLACE TEMP TABLE unproven AS SELECT unnest(?::VARCHAR[]) AS decision_id"
        audit.execute(sql, [sorted(unproven)])

    def span(self) -> tuple[int | None, int | None]:
        """The times of the first and the last call, microseconds since 1970."""
        sql = 'SELECT min(epoch_us("timestamp")), max(epoch_us("timestamp")) FROM audit WHERE {condition}'
        self._audit.execute(_MACROS)
        ((first, last),) = self._ask_audit(sql)
        return first, last

    def count(self, first: int, width: int) -> int:
        """Look at every call, once, for what is asked below; the time line begins at `first`.

        Returns:
            How many calls there are.
        """
        when = 'epoch_us("timestamp")'
        slot = f"CASE WHEN {when} BETWEEN {FIRST} AND {LAST} THEN ({when} - {first:d}) // {width:d} END"
        sql = _COUNTED.format(condition=self._condition.sql, slot=slot)
        self._audit.execute(f"CREATE OR REPLACE TEMP TABLE counted AS {sql}", self._condition.values)
        return self.calls("true")

    def calls(self, where: str) -> int:
        """How many calls a condition on what was counted holds for."""
        return int(self._ask(f"SELECT coalesce(sum(calls), 0) FROM counted WHERE {where}")[0][0])  # noqa: S608

    def unproven(self) -> int:
        """How many calls have an answer that nobody has proven."""
        sql = """
            SELECT count(*) FROM audit
            WHERE {condition} AND human_decision IS NOT NULL AND decision_id IN (FROM unproven)"""
        return int(self._ask_audit(sql)[0][0])

    def groups(self, *names: str, where: str = "true", limit: int = 1_000, by: str = "calls DESC") -> Some:
        """The calls, by one or several of their properties; the largest groups first."""
        named = ", ".join(names)
        rows = self._ask(
            f"""SELECT {named}, sum(calls) AS calls, {_OF_KINDS}, min(first) AS first, max(last) AS last,
                count(*) OVER () FROM counted WHERE {where} GROUP BY {named}
            ORDER BY {by} NULLS LAST, {named} LIMIT {limit:d}"""  # noqa: S608
        )
        return _some(rows, lambda row: _group(row, len(names)))

    def time_line(self) -> dict[int, tuple[int, ...]]:
        """By slot, the calls of each kind."""
        sql = f"SELECT slot, {_OF_KINDS} FROM counted WHERE slot IS NOT NULL GROUP BY slot ORDER BY slot"  # noqa: S608
        return {slot: tuple(int(each or 0) for each in kinds) for slot, *kinds in self._ask(sql)}

    def listed(self, where: str, limit: int) -> Some:
        """The newest calls that a condition on the audit holds for."""
        return _some(self._ask_audit(_LISTED, where=where, limit=limit), Listed._make)

    def spread(self, column: str, where: str = "true") -> tuple[float | None, ...]:
        """Median, 95th percentile and largest value of a column that holds seconds."""
        sql = """
            SELECT quantile_cont({column}, 0.5), quantile_cont({column}, 0.95), max({column})
            FROM audit WHERE {condition} AND {where}"""
        return self._ask_audit(sql, column=column, where=where)[0]

    def slow_tools(self, limit: int) -> Some:
        """By tool: how often its body ran, and how long it took (median, 95th percentile, longest)."""
        sql = """
            SELECT cut(coalesce(tool_name, action_type)) AS tool, count(*) AS calls,
                quantile_cont(duration_s, 0.5), quantile_cont(duration_s, 0.95) AS p95, max(duration_s),
                count(*) OVER ()
            FROM audit WHERE {condition} AND duration_s IS NOT NULL
            GROUP BY tool ORDER BY p95 DESC, tool LIMIT {limit:d}"""
        return _some(self._ask_audit(sql, limit=limit), tuple)

    def approvers(self, limit: int) -> Some:
        """By who answered: how often, how often yes, and how long that took (median, longest)."""
        sql = """
            SELECT cut(approver) AS who, count(*) AS answers, count(*) FILTER (human_decision = 'approved'),
                count(*) FILTER (human_decision = 'denied'), median(approval_wait_s), max(approval_wait_s),
                count(*) OVER ()
            FROM audit WHERE {condition} AND human_decision IN ('approved', 'denied')
            GROUP BY who ORDER BY answers DESC, who NULLS LAST LIMIT {limit:d}"""
        return _some(self._ask_audit(sql, limit=limit), tuple)

    def failures(self, limit: int) -> Some:
        """By tool and error: how often a call failed so, and when it last did."""
        sql = """
            SELECT cut(coalesce(tool_name, action_type)) AS tool, cut(result_status) AS status,
                head(result_error) AS error, count(*) AS calls, max(epoch_us("timestamp")),
                count(*) OVER ()
            FROM audit WHERE {condition} AND result_status IN ('failed', 'cancelled', 'skipped')
            GROUP BY tool, status, error ORDER BY calls DESC, tool, status, error LIMIT {limit:d}"""
        return _some(self._ask_audit(sql, limit=limit), tuple)

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self._audit.execute(sql).fetchall()

    def _ask_audit(self, sql: str, **parts: Any) -> list[tuple[Any, ...]]:
        asked = sql.format(condition=self._condition.sql, **parts)
        return self._audit.execute(asked, self._condition.values).fetchall()


def _some(rows: list[tuple[Any, ...]], make: Any) -> Some:
    """The last value of each row is how many rows there are."""
    return Some([make(row[:-1]) for row in rows], rows[0][-1] if rows else 0)


def _group(row: tuple[Any, ...], names: int) -> Group:
    calls, *kinds = (int(each or 0) for each in row[names:-2])
    return Group(row[:names], calls, tuple(kinds), *row[-2:])
