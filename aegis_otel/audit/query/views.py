"""Define the views beside `audit`, and write all of them as SQL for tools without this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aegis_otel.audit.lake.fold import literal, without_type

if TYPE_CHECKING:
    import duckdb


HOUR = 'make_timestamptz(epoch_us("timestamp") // 3_600_000_000 * 3_600_000_000)'
"""The hour of a row, UTC. `date_trunc` asks a calendar for every row, which takes four times as long."""
ANSWER = """CASE WHEN result_status = 'pending' THEN 'waiting'
            WHEN human_decision IS NOT NULL THEN human_decision
            WHEN approval_wait_s IS NOT NULL THEN 'none' END"""
"""What a human answered; `waiting` before, `none` where no answer could be had, null where nobody was asked.

The column `outcome` does not say it: a call can be blocked after a yes, and denied without an answer."""


class View(NamedTuple):
    name: str
    meaning: str
    sql: str


VIEWS: tuple[View, ...] = (
    View(
        "decisions_by_rule",
        "calls by rule and result; a rule whose risk or approval was changed has a row for each version",
        """
        SELECT matched_rule, risk_level, approval, count(*) AS calls,
            count(*) FILTER (result_status = 'success') AS succeeded,
            count(*) FILTER (result_status = 'failed') AS failed,
            count(*) FILTER (result_status = 'blocked') AS blocked,
            count(*) FILTER (result_status = 'denied') AS denied,
            min("timestamp") AS first_seen, max("timestamp") AS last_seen
        FROM audit GROUP BY matched_rule, risk_level, approval ORDER BY calls DESC, matched_rule""",
    ),
    View(
        "approvals",
        "calls with a question to a human, answered or not",
        f"""
        SELECT decision_id, "timestamp", agent_name, action_type, action_target, action_params, risk_level,
            matched_rule, human_decision, approver, approval_reason, approval_wait_s, result_status
        FROM audit WHERE {ANSWER} IS NOT NULL""",  # noqa: S608
    ),
    View(
        "decisions_by_hour",
        "calls by hour, risk and result",
        f"""
        SELECT {HOUR} AS hour, risk_level, result_status, count(*) AS calls
        FROM audit GROUP BY ALL ORDER BY hour, risk_level, result_status""",  # noqa: S608
    ),
    View("critical", "calls of CRITICAL risk", "SELECT * FROM audit WHERE risk_level = 'CRITICAL'"),
    View(
        "unknown_outcomes",
        "allowed calls whose process died before it recorded their outcome",
        "SELECT * FROM audit WHERE result_status = 'unknown'",
    ),
    View(
        "policy_versions",
        "policies that decided calls, and when",
        """
        SELECT policy_digest, min("timestamp") AS first_seen, max("timestamp") AS last_seen,
            count(*) AS calls, count(DISTINCT matched_rule) AS rules,
            count(*) FILTER (approval = 'block') AS blocked
        FROM audit GROUP BY policy_digest ORDER BY first_seen""",
    ),
)


def create_views(audit: duckdb.DuckDBPyConnection) -> None:
    """Make the views on a connection that has the view `audit`."""
    for view in VIEWS:
        audit.execute(f"CREATE VIEW {view.name} AS {view.sql}")


def views_sql(audit: duckdb.DuckDBPyConnection) -> str:
    """Return a script that makes `audit` and the other views in any DuckDB, which then reads the same files.

    It names the directory by its absolute path. It knows which writers have ended by now: what a process that
    ends later leaves open stays `open`.
    """
    script = ["SET TimeZone = 'UTC'"]
    for (schema,) in audit.execute(
        "SELECT schema_name FROM duckdb_schemas() WHERE NOT internal AND schema_name <> 'main'"
    ).fetchall():
        script.append(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    for schema, table, sql in audit.execute(
        "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE NOT internal ORDER BY table_oid"
    ).fetchall():
        script.append(sql.rstrip(";").replace("CREATE TABLE", "CREATE OR REPLACE TABLE", 1))
        for row in audit.execute(f'FROM "{schema}"."{table}"').fetchall():
            values = ", ".join(map(_literal, row))  # DuckDB casts them to the types of the columns
            script.append(f'INSERT INTO "{schema}"."{table}" VALUES ({values})')  # noqa: S608
    for (sql,) in audit.execute(
        "SELECT sql FROM duckdb_views() WHERE NOT internal ORDER BY view_oid"
    ).fetchall():
        script.append(without_type(sql.rstrip(";")).replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
    return ";\n".join(script) + ";\n"


def _literal(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"'{name}': {_literal(each)}" for name, each in value.items()) + "}"
    return "NULL" if value is None else literal(str(value))
