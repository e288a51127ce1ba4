"""The ready views, and the same views in a DuckDB without this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.sandbox import select as ask
from aegis_otel.audit.query.views import VIEWS, views_sql
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Done, failed, blocked, approved, denied, without an answer, waiting and lost, by two policies."""
    logger = AuditLogger(tmp_path / "it's [an] audit")
    asked = {"approval": "approve", "risk_level": "HIGH", "matched_rule": "ask"}
    for n, values in enumerate(
        (
            {"result_status": "success"},
            {"result_status": "failed"},
            {"result_status": "blocked", "approval": "block", "matched_rule": "no", "policy_digest": "new"},
            asked | {"result_status": "success", "human_decision": "approved", "approval_wait_s": 2.0},
            asked | {"result_status": "denied", "human_decision": "denied", "approval_wait_s": 1.0},
            asked | {"result_status": "denied", "reason": "approval_error", "approval_wait_s": 0.5},
            asked | {"result_status": "pending"},
            {"risk_level": "LOW"},
        )
    ):
        time = f"2026-11-22T12:00:0{n}+00:00"
        logger.append(decided(**{"decision_id": str(n), "timestamp": time, "policy_digest": "old"} | values))
    logger.close()  # number 7 is open, and nobody can end it
    return logger.path


def ids(audit: Path, view: str) -> str:
    with connect(audit) as connection:
        return "".join(
            id for (id,) in connection.execute(f"SELECT decision_id FROM {view} ORDER BY 1").fetchall()
        )


def select(audit: Path, sql: str) -> Any:
    with connect(audit) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("view", "found"),
    [("audit", "01234567"), ("approvals", "3456"), ("critical", "012"), ("unknown_outcomes", "7")],
)
def test_rows(audit: Path, view: str, found: str) -> None:
    assert ids(audit, view) == found


def test_decisions_by_rule(audit: Path) -> None:
    """A row a rule as it was at the time, the busiest first, counts as whole numbers."""
    columns = "matched_rule, risk_level, calls, succeeded, failed, blocked, denied"
    assert select(audit, f"SELECT {columns} FROM decisions_by_rule") == [
        ("ask", "HIGH", 4, 1, 0, 0, 2),
        ("rule", "CRITICAL", 2, 1, 1, 0, 0),
        ("no", "CRITICAL", 1, 0, 0, 1, 0),
        ("rule", "LOW", 1, 0, 0, 0, 0),
    ]
    types = select(audit, "SELECT column_type FROM (DESCRIBE decisions_by_rule) WHERE column_name = 'calls'")
    assert types == [("BIGINT",)]


def test_policy_versions(audit: Path) -> None:
    columns = "policy_digest, second(first_seen), second(last_seen), calls, rules, blocked"
    assert select(audit, f"SELECT {columns} FROM policy_versions") == [
        ("old", 0, 7, 7, 2, 0),
        ("new", 2, 2, 1, 1, 1),
    ]


def test_a_view_lives(audit: Path) -> None:
    """It shows what is written after it was made."""
    with connect(audit) as connection:
        logger = AuditLogger(audit)
        logger.append(decided(decision_id="8"))
        assert connection.execute("SELECT count(*) FROM critical").fetchall() == [(4,)]
        logger.append(completed(decision_id="8"))
        found = connection.execute("SELECT result_status FROM critical WHERE decision_id = '8'").fetchall()
        assert found == [("success",)]


def test_every_view_says_what_it_is() -> None:
    assert [view.name for view in VIEWS] == [
        "decisions_by_rule",
        "approvals",
        "decisions_by_hour",
        "critical",
        "unknown_outcomes",
        "policy_versions",
        "policy_changes",
    ]
    assert all(len(view.meaning) > 20 for view in VIEWS)


class TestElsewhere:
    """`views_sql` in a plain DuckDB."""

    @pytest.mark.parametrize("view", ["audit", *(view.name for view in VIEWS)])
    def test_the_answers_are_the_same(self, audit: Path, view: str) -> None:
        with connect(audit) as ours, duckdb.connect() as plain:
            plain.execute(views_sql(ours))
            sql = f"SELECT * FROM {view} ORDER BY ALL"
            assert plain.execute(sql).fetchall() == ours.execute(sql).fetchall()

    def test_it_can_be_run_again_and_then_is_still_live(self, audit: Path) -> None:
        with connect(audit) as ours, duckdb.connect() as plain:
            script = views_sql(ours)
            plain.execute(script)
            plain.execute(script)
            AuditLogger(audit).append(decided(decision_id="8"))
            assert plain.execute("SELECT count(*) FROM audit").fetchall() == [(9,)]

    def test_in_a_database_that_another_attaches(self, audit: Path, tmp_path: Path) -> None:
        """As a tool for dashboards does, which has no search path of ours and may write nothing."""
        with connect(audit) as ours, duckdb.connect(str(tmp_path / "views.db")) as plain:
            plain.execute(views_sql(ours))
        with duckdb.connect() as other:
            other.execute(f"ATTACH '{tmp_path}/views.db' AS theirs (READ_ONLY)")
            assert other.execute("SELECT count(*) FROM theirs.audit").fetchall() == [(8,)]

    def test_while_another_database_is_in_use(self, audit: Path) -> None:
        with connect(audit) as ours:
            ours.execute("ATTACH ':memory:' AS mine")
            ours.execute("USE mine")
            assert ours.execute("SELECT count(*) FROM memory.audit").fetchall() == [(8,)]

    def test_sealed_rows(self, audit: Path) -> None:
        """The same answers from Parquet; and other engines read it as it is, without the views."""
        with connect(audit) as ours:
            before = ours.execute("SELECT * FROM audit ORDER BY 1").fetchall()
        assert sum(segment.rows for each in seal(audit).seals for segment in each.segments) == 7  # one waits
        with connect(audit) as ours, duckdb.connect() as plain:
            plain.execute(views_sql(ours))
            assert plain.execute("SELECT * FROM audit ORDER BY 1").fetchall() == before
        frame = polars.concat(
            [polars.read_parquet(path, glob=False) for path in (audit / "lake").glob("*/*.parquet")]
        )
        assert frame["decision_id"].sort().to_list() == [row[0] for row in before if row[0] != "6"]
        assert [row[0] for row in ask(audit, "SELECT decision_id FROM audit ORDER BY 1").rows] == list(
            "01234567"
        )

    def test_an_empty_audit(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with connect(tmp_path / "empty") as ours, duckdb.connect() as plain:
            plain.execute(views_sql(ours))
            assert plain.execute("SELECT count(*) FROM audit").fetchall() == [(0,)]

    def test_pandas_and_polars(self, audit: Path) -> None:
        """In a process that never imports this package."""
        with connect(audit) as ours:
            Path("views.sql").write_text(views_sql(ours))
        code = """
import sys, duckdb, polars
duckdb.execute(open("views.sql").read())
frame = duckdb.sql("FROM decisions_by_rule").df()
print(dict(zip(frame["matched_rule"], frame["calls"])))
duckdb.sql("FROM approvals").write_parquet("approvals.parquet")
print(polars.read_parquet("approvals.parquet")["decision_id"].sort().to_list())
print([name for name in sys.modules if "aegis" in name])
"""
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines() == ["{'ask': 4, 'rule': 1, 'no': 1}", "['3', '4', '5', '6']", "[]"], (
            done.stderr
        )


def test_the_script_has_no_secret(audit: Path) -> None:
    """It names the directory, and nothing of the audit's key."""
    AuditLogger(audit).digest(b"")
    with connect(audit) as ours:
        script = views_sql(ours)
    key = (audit / "key").read_bytes()
    assert "CREATE OR REPLACE VIEW audit AS" in script
    assert key.hex() not in script.lower()
    assert "key" not in script
