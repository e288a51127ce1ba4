"""The sealed Parquet, read by Spark and by ClickHouse's engine: the same answers as DuckDB's.

They are large (`pip install --group engines`, and Java for Spark), so they have a run of their own: `make
test-engines`. Without them these tests are skipped, and fail where `AEGIS_REQUIRE_STACK` is set.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from tests.support.records import completed, decided

Ask = Callable[[str], list[tuple[Any, ...]]]

_MISSING = [name for name in ("pyspark", "chdb") if importlib.util.find_spec(name) is None]
if shutil.which("java") is None:
    _MISSING.append("java")
if _MISSING and os.environ.get("AEGIS_REQUIRE_STACK") != "1":
    pytest.skip(
        f"needs {', '.join(_MISSING)}: pip install --group engines, and a Java runtime",
        allow_module_level=True,
    )

CALLS = 200


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls of two days, with nulls, text of every kind and times to the microsecond, sealed."""
    audit = tmp_path_factory.mktemp("engines") / "audit"
    journal = Journal(audit)
    for n in range(CALLS):
        journal.append(
            decided(
                decision_id=f"call-{n:04d}",
                timestamp=f"2026-11-{21 + n % 2}T23:59:{n % 60:02d}.{n:06d}+00:00",
                session_id=f"session-{n % 7}",
                risk_level=("LOW", "MEDIUM", "HIGH", "CRITICAL")[n % 4],
                matched_rule=None if n % 5 == 0 else f"rule-{n % 3}",
                action_params=json.dumps({"path": f"/srv/{n}", "quote": '"é\n', "deep": {"n": n}}),
                approval_wait_s=None if n % 2 else n / 8,
                pid=2**40 + n,
            )
        )
        journal.append(completed(decision_id=f"call-{n:04d}", duration_s=n / 1000))
    journal.close()
    assert seal(audit).problems == []
    return audit / "lake"


@pytest.fixture(scope="module")
def duck(lake: Path) -> Iterator[Ask]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        files = f"{lake}/date=*/[0-9]*.parquet"
        connection.execute(
            f"CREATE VIEW lake AS SELECT * REPLACE (date::VARCHAR AS date) "
            f"FROM read_parquet('{files}', hive_partitioning = true)"
        )
        yield lambda sql: connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def spark(lake: Path) -> Iterator[Ask]:
    """A local Spark of one thread; the partition column comes from the names of the folders."""
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        .getOrCreate()
    )
    session.read.parquet(str(lake)).createOrReplaceTempView("lake")
    yield lambda sql: [tuple(row) for row in session.sql(sql).collect()]
    session.stop()


@pytest.fixture(scope="module")
def clickhouse(lake: Path) -> Iterator[Ask]:
    """ClickHouse's engine in this process."""
    from chdb.session import Session

    session = Session()
    files = f"file('{lake}/date=*/*.parquet', Parquet)"
    session.query("CREATE DATABASE here")
    session.query(f"CREATE VIEW here.lake AS SELECT * FROM {files} SETTINGS use_hive_partitioning = 1")

    def ask(sql: str) -> list[tuple[Any, ...]]:
        text = session.query(f"USE here; {sql}", "JSONCompactEachRow").bytes().decode()
        return [tuple(json.loads(line)) for line in text.splitlines()]

    yield ask
    session.close()


QUESTIONS = {
    "count": "SELECT count(*), count(matched_rule), count(approval_wait_s) FROM lake",
    "by risk": "SELECT risk_level, count(*), round(sum(duration_s), 6) FROM lake GROUP BY 1 ORDER BY 1",
    "by rule, with null": "SELECT coalesce(matched_rule, 'none'), count(*) FROM lake GROUP BY 1 ORDER BY 1",
    "by day": "SELECT date, count(*), min(decision_id) FROM lake GROUP BY date ORDER BY date",
    "one day": "SELECT count(*) FROM lake WHERE date = '2026-11-22'",
    "waits": "SELECT round(avg(approval_wait_s), 6), max(approval_wait_s) FROM lake WHERE pid > 1e12",
    "text": "SELECT decision_id, action_params FROM lake WHERE session_id = 'session-3' ORDER BY 1",
    "statuses": "SELECT result_status, mode, count(*) FROM lake GROUP BY 1, 2 ORDER BY 1",
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("engine", ["spark", "clickhouse"])
def test_the_answers_are_the_same(
    engine: str, question: str, duck: Ask, request: pytest.FixtureRequest
) -> None:
    answer = request.getfixturevalue(engine)(QUESTIONS[question])
    expected = duck(QUESTIONS[question])
    assert expected
    assert [tuple(map(_plain, row)) for row in answer] == [tuple(map(_plain, row)) for row in expected]


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("duck", "SELECT decision_id, epoch_us(timestamp) FROM lake ORDER BY 1"),
        ("spark", "SELECT decision_id, unix_micros(timestamp) FROM lake ORDER BY 1"),
        ("clickhouse", "SELECT decision_id, toUnixTimestamp64Micro(timestamp) FROM lake ORDER BY 1"),
    ],
)
def test_times_are_the_same_moments(engine: str, sql: str, request: pytest.FixtureRequest) -> None:
    """To the microsecond, in UTC, wherever it is read."""
    answer = [tuple(map(_plain, row)) for row in request.getfixturevalue(engine)(sql)]
    assert answer == [
        (
            f"call-{n:04d}",
            int(datetime(2026, 11, 21 + n % 2, 23, 59, n % 60, tzinfo=UTC).timestamp()) * 1_000_000 + n,
        )
        for n in range(CALLS)
    ]


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("duck", "SELECT (action_params->>'$.deep.n')::INT FROM lake ORDER BY decision_id"),
        ("spark", "SELECT int(get_json_object(action_params, '$.deep.n')) FROM lake ORDER BY decision_id"),
        ("clickhouse", "SELECT JSONExtractInt(action_params, 'deep', 'n') FROM lake ORDER BY decision_id"),
    ],
)
def test_arguments_are_json_everywhere(engine: str, sql: str, request: pytest.FixtureRequest) -> None:
    """Each engine's own JSON functions read them."""
    assert [int(value) for (value,) in request.getfixturevalue(engine)(sql)] == list(range(CALLS))


def _plain(value: Any) -> Any:
    """ClickHouse writes 64-bit integers as text and has JSON for a type; Spark has decimals."""
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return float(value) if isinstance(value, Decimal) else value
