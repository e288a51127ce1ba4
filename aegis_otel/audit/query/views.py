"""Define the views beside `audit`, and write all of them as SQL for tools without this package."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aegis_otel.audit.journal.policy_changes import CHANGE_COLUMNS, PolicyChange, read_changes
from aegis_otel.audit.lake.fold import literal, without_type
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.errors import AuditError

if TYPE_CHECKING:
    import duckdb

HOUR = 'make_timestamptz(epoch_us("timestamp") // 3_600_000_000 * 3_600_000_000)'
"""The hour of a row, UTC. `date_trunc` asks a calendar for every row, which takes four times as long."""
ANSWER = """CASE WHEN result_status = 'pending' THEN 'waiting'
            WHEN human_decision IS NOT NULL THEN human_decision
            WHEN approval_wait_s IS NOT NULL THEN 'none' END"""
"""What a human answered; `waiting` before, `none` where no answer could be had, null where nobody was asked.

The column `outcome` does not say it: a call can be blocked after a yes, and denied without an answer."""


class NamedQuery(NamedTuple):
    name: str
    meaning: str
    sql: str


def read_queries(package: str, file: str) -> dict[str, NamedQuery]:
    """Return the queries of a file of a package, by name: paragraphs that begin with `-- name: meaning`."""
    text = (pkgutil.get_data(package, file) or b"").decode()
    found = re.findall(r"^-- (\w+): (.+)\n((?:.+\n)+)", text, re.MULTILINE)
    return {query[0]: NamedQuery(*query) for query in found}


VIEWS = tuple(
    each._replace(sql=each.sql.format(hour=HOUR, answer=ANSWER))
    for each in read_queries("aegis_otel.audit.query", "data/views.sql").values()
)


def create_views(audit: duckdb.DuckDBPyConnection, directory: Path, *, mirrors: bool = False) -> None:
    """Make the views on a connection that has the view `audit`.

    `policy_changes` has the changes as they are now; the other views show what is written later, too. If a
    log of changes cannot be read, its changes are missing, and `connection.problems` says so.

    Args:
        audit: The connection.
        directory: The audit's.
        mirrors: As for `audit.query.connection.open_view`.
    """
    changes: list[PolicyChange] = []
    problems: list[str] = []
    for each in (directory, *(find_mirrors(directory) if mirrors else ())):
        try:
            changes += read_changes(each)
        except AuditError as error:
            problems.append(f"{error}; `policy_changes` is without it")
    audit.execute("INSERT INTO journal.problem SELECT unnest(?::VARCHAR[])", [problems])
    columns = ", ".join(f'unnest(?::{each.sql_type}[]) AS "{name}"' for name, each in CHANGE_COLUMNS)
    values = [[getattr(change, name) for change in changes] for name, _ in CHANGE_COLUMNS]
    audit.execute(f"CREATE TABLE journal.policy_change AS SELECT {columns}", values)
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
