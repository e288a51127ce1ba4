"""Other people's SQL: it reads the audit, and can do nothing else, for no longer than it may."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pytest

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.sandbox import locked, only_read, select, select_parquet
from aegis_otel.errors import AuditError, ConfigError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided, wait_until_seen, write_call


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Two rows, and the key."""
    logger = AuditLogger(tmp_path / "it's an [audit]")
    for n in range(2):
        logger.append(decided(decision_id=f"id-{n}"))
    logger.digest(b"")
    logger.close()
    return logger.path


@pytest.fixture
def connection(audit: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """What the query runs on, without the process around it."""
    with locked(audit) as connection:
        yield connection


def ask(audit: Path, sql: str, **options: Any) -> list[list[Any]]:
    answer = select(audit, sql, **options)
    return list(answer.rows)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestReading:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT count(*) FROM audit",
            "select count(*) from audit;",
            "FROM audit SELECT count(*) -- how many",
            "/* how many */ WITH a AS (FROM audit) SELECT count(*) FROM a",
            "VALUES (2)",
            "SELECT 1 UNION SELECT 2 ORDER BY 1 DESC",
            "(SELECT count(*) FROM audit)",
        ],
    )
    def test_all_forms_of_select(self, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
        row = connection.execute(only_read(sql)).fetchone()
        assert row == (2,)

    @pytest.mark.parametrize("sql", ["DESCRIBE audit", "SUMMARIZE audit", "SHOW TABLES", "DESCRIBE SELECT 1"])
    def test_questions_about_the_views(self, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
        assert connection.execute(only_read(sql)).fetchall()

    def test_the_answer_has_columns_and_plain_values(self, audit: Path) -> None:
        """In the order asked for; times as ISO 8601, arguments as what they are, names told apart."""
        answer = select(
            audit,
            """SELECT decision_id, "timestamp" AS at, action_params, 1.5::DECIMAL(3, 1) AS x, 2 AS x,
            'nan'::DOUBLE, DATE '2026-11-22' AS day, [1, NULL] AS list, {'a': 'b'} AS pair, NULL AS nothing,
            true AS yes,
            INTERVAL 90 MINUTE AS span, 'é' AS text FROM audit ORDER BY 1 DESC""",
        )
        assert answer.columns[:5] == ["decision_id", "at", "action_params", "x", "x_1"]
        rows = list(answer.rows)
        assert rows[0] == [
            "id-1",
            "2026-11-22T14:30:00.000000+00:00",
            {"document_id": "42"},
            1.5,
            2,
            "nan",
            "2026-11-22",
            [1, None],
            {"a": "b"},
            None,
            True,
            "1:30:00",
            "é",
        ]
        assert [row[0] for row in rows] == ["id-1", "id-0"]

    def test_sealed_rows(self, audit: Path) -> None:
        """The files of the lake are named by patterns and by their own names, which differ here."""
        for name in ("sealed", "later"):
            write_call(audit, name)
            assert seal(audit).problems == []
        wait_until_seen(audit)
        with locked(audit) as connection:
            found = connection.execute(only_read("SELECT decision_id FROM audit ORDER BY 1")).fetchall()
        assert found == [("id-0",), ("id-1",), ("later",), ("sealed",)]

    def test_into_parquet(self, audit: Path, tmp_path: Path) -> None:
        draft = tmp_path / "o'ut"
        draft.touch(0o600)
        assert select_parquet(audit, "SELECT decision_id FROM audit ORDER BY ALL", draft) == (2, [])
        assert duckdb.read_parquet(str(draft)).fetchall() == [("id-0",), ("id-1",)]
        assert draft.stat().st_mode & 0o777 == 0o600


SECRET = "/etc/passwd"
REFUSED = [
    # what changes something, anywhere
    "COPY audit TO 'out.csv'",
    "COPY (SELECT 1) TO '{journal}/z.jsonl'",
    "WITH x AS (COPY (SELECT 1) TO '{journal}/z.jsonl') SELECT * FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{journal}/z.jsonl') SELECT * FROM x)",
    "WITH x AS (INSERT INTO journal.nothing VALUES ('f') RETURNING 1) SELECT * FROM x",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{journal}/z.jsonl'') SELECT * FROM x')",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{journal}/z.jsonl'",
    "CREATE TABLE t (a INT)",
    "CREATE OR REPLACE VIEW audit AS SELECT 1",
    "CREATE MACRO count(x) AS 1",
    "DROP VIEW audit",
    "INSERT INTO journal.nothing VALUES ('f')",
    "DELETE FROM journal.nothing",
    "UPDATE journal.nothing SET filename = 'f'",
    "ALTER VIEW audit RENAME TO other",
    "EXPORT DATABASE 'out'",
    "IMPORT DATABASE 'in'",
    "PREPARE p AS SELECT 1",
    "VACUUM",
    "CHECKPOINT",
    "COMMIT",
    "BEGIN",
    # more than one statement, and what only looks like one
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{journal}/z.jsonl'",
    "SELECT 1) TO '{journal}/z.jsonl'; --",
    "SELECT 1'); COPY (SELECT 1) TO '{journal}/z.jsonl'; --",
    "SELECT '/*'; COPY (SELECT 1) TO '{journal}/z.jsonl' --*/",
    "-- only a comment",
    "/* open",
    "",
    # other files
    "FROM read_csv('/etc/passwd')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/proc/self/environ')",
    "FROM '/etc/passwd'",
    "FROM read_json('/etc/passwd')",
    "FROM read_parquet('/etc/passwd')",
    "FROM parquet_metadata('/etc/passwd')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM glob('/etc/*')",
    "FROM read_text('{audit}/key')",
    "FROM read_blob('{journal}/../key')",
    "FROM read_text('{audit}/[k]ey')",
    "FROM glob('{audit}/*')",
    "FROM read_text('{journal}/../../views.sql')",
    "FROM read_text('file:///etc/passwd')",
    # other databases, the network, extensions
    "ATTACH 'other.db' AS other",
    "ATTACH ':memory:' AS other",
    "FROM read_csv('https://example.com/x.csv')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FROM duckdb_secrets()",
    # settings and the process
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "FROM enable_logging('QueryLog')",
    "CALL pragma_version()",
    "SELECT getenv('HOME')",
    "SELECT ?",
    "SELECT $1",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_reading_the_audit_is_refused(
    audit: Path, connection: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str
) -> None:
    """By the statement's form, by the transaction, or by what may be opened; and nothing has changed."""
    (tmp_path / "views.sql").write_text("beside the audit")
    before = files(tmp_path)
    place = str(audit).replace("'", "''")
    with pytest.raises((duckdb.Error, ValueError)):
        connection.execute(only_read(sql.format(journal=f"{place}/journal", audit=place))).fetchall()
    assert files(tmp_path) == before
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT count(*) FROM audit").fetchall() == [(2,)]
    assert connection.execute("SELECT count(*) FROM journal.nothing").fetchall() == [(1,)]


def test_the_second_wall_holds_alone(connection: duckdb.DuckDBPyConnection) -> None:
    """Where the form of a statement were not refused, the transaction and the configuration still are."""
    for sql, message in (
        ("CREATE TABLE t (a INT)", "read-only"),
        ("COPY (SELECT 1) TO 'out.csv'", "disabled by configuration"),
        ("SET threads = 1", "locked"),
        ("ATTACH 'other.db'", "disabled by configuration"),
    ):
        with pytest.raises(duckdb.Error, match=message):
            connection.execute(sql)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN TRANSACTION READ ONLY")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DROP VIEW audit", "the statement is not one SELECT: only reading is possible here"),
        ("SELCT 1", 'syntax error at or near "SELCT"'),
        ("SELECT nope FROM audit", 'Referenced column "nope" not found in FROM clause!'),
        ("FROM read_text('/etc/passwd')", "Cannot access file"),
    ],
)
def test_wrong_sql_is_named_in_one_line(audit: Path, sql: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(audit, sql)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_nothing_is_read_by_way_of_a_link_or_a_descriptor(
    audit: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    """Not even through a link that somebody has put into the audit."""
    (audit / "journal" / "link.txt").symlink_to("/etc/passwd")
    place = str(audit / "journal" / "[l]ink.txt").replace("'", "''").replace("[a", "[[]a")
    with open("/etc/passwd") as file:
        for name in (place, f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
            with pytest.raises(duckdb.PermissionException):
                connection.execute(only_read(f"FROM read_text('{name}')")).fetchall()


def test_nothing_is_read_behind_a_mirror_that_is_a_link(audit: Path) -> None:
    """DuckDB allows what is behind a folder that it may read, and nobody asked for mirrors here."""
    (audit / "mirror").symlink_to("/")
    with pytest.raises(ConfigError, match="Cannot access file"):
        ask(audit, "SELECT content FROM read_text('/etc/passwd')")


def test_a_name_is_no_variable_of_the_program(connection: duckdb.DuckDBPyConnection) -> None:
    """DuckDB for Python would look for one, in whoever calls it."""
    frame = pandas.DataFrame({"secret": [1]})
    assert duckdb.sql("SELECT count(*) FROM frame").fetchall() == [(len(frame),)]
    with pytest.raises(duckdb.CatalogException):
        connection.execute(only_read("FROM frame")).fetchall()


class TestBounds:
    @pytest.mark.parametrize(
        "sql",
        [
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
            "SELECT sum(length(md5(repeat('x', 1000) || i))) FROM range(1000000000000) t(i)",
            "SELECT lpad('x', 2000000000, 'y')",  # one function: DuckDB alone could not stop it
        ],
    )
    def test_time(self, audit: Path, sql: str) -> None:
        begun = time.monotonic()
        with pytest.raises(AuditError, match=r"took longer than 1.5 s and was stopped"):
            ask(audit, sql, timeout=1.5)
        assert time.monotonic() - begun < 10

    def test_only_waiting_for_it_counts(self, audit: Path) -> None:
        """Whoever reads the rows slowly is not cut off."""
        answer = select(audit, "FROM range(3)", timeout=60)
        rows = [next(answer.rows)]
        assert rows + list(answer.rows) == [[0], [1], [2]]

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT list_sum(range(1000000000))",
            "SELECT array_agg(i) FROM range(1000000000000) t(i)",
            "SELECT count(*) FROM range(1000000000000) a, range(1000000000000) b",
            "SELECT length(repeat('x', 4000000000))",
        ],
    )
    def test_memory(self, audit: Path, sql: str) -> None:
        with pytest.raises(AuditError, match=r"more (than the 1000 MB of )?memory"):
            ask(audit, sql, timeout=60)

    def test_memory_of_the_engine(self, connection: duckdb.DuckDBPyConnection) -> None:
        """DuckDB's own bound comes first: it stops a query, and what the process has beside it goes on."""
        with pytest.raises(duckdb.OutOfMemoryException):
            connection.execute(
                only_read("SELECT length(array_agg(i)) FROM range(150_000_000) t(i)")
            ).fetchall()

    @pytest.mark.skipif(
        sys.platform != "linux", reason="only there the bounds of another process can be read"
    )
    def test_whoever_asked_may_be_gone(self, audit: Path) -> None:
        """Nobody would stop the process then, so it has a bound of its own on processor time."""
        answer = select(audit, "SELECT i FROM range(1000000000000) t(i)", timeout=5)
        next(answer.rows)
        (child,) = (
            int(each)
            for path in Path("/proc/self/task").glob("*/children")
            for each in path.read_text().split()
        )
        soft, hard = resource.prlimit(child, resource.RLIMIT_CPU)
        assert soft == hard == 5 * (os.cpu_count() or 1) + 10
        answer.rows.close()

    def test_rows_without_end_can_be_left(self, audit: Path) -> None:
        """They come as they are found, and the process ends with who reads them."""
        answer = select(audit, "SELECT i FROM range(1000000000000) t(i)")
        assert next(answer.rows)[0] == 0
        answer.rows.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
