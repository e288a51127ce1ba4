"""Reading sealed segments and the live journal together, while they change and when they are damaged."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake import cleanup
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query import rows as rows_module
from aegis_otel.audit.query.connection import connect, problems
from aegis_otel.audit.seals.seal_log import VERSION, SealLog, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, files, python, statuses, wait_until_seen

SEAL_ALL_THE_TIME = """
import sys, time
from datetime import timedelta
from pathlib import Path
from aegis_otel.audit.lake import cleanup
from aegis_otel.audit.lake.sealing import seal
cleanup.GRACE = timedelta(seconds=float(sys.argv[2]))
while True:
    report = seal(Path(sys.argv[1]))
    assert not report.problems, report.problems
    print(len(report.seals), flush=True)
    time.sleep(0.05)
"""


def write(audit: Path, *names: str, **first: Any) -> None:
    """Calls of a writer that is gone afterwards."""
    journal = Journal(audit)
    for name in names:
        journal.append(decided(**{"decision_id": name, "timestamp": datetime.now(UTC).isoformat()} | first))
        journal.append(completed(decision_id=name))
    journal.close()


def test_no_row_is_double_or_missing_at_any_moment_of_sealing(
    audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On older connections and new ones, and in transactions, while files are sealed, merged, removed."""
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 4_000)
    day = {
        "timestamp": "2025-01-01T10:00:00+00:00"
    }  # is over: each new segment is merged into the one before
    journal = Journal(audit)
    written = 0

    def add() -> None:
        nonlocal written
        journal.append(decided(decision_id=str(written), **day))
        journal.append(completed(decision_id=str(written), **day))
        written += 1

    add()
    grace = 8.0
    sealer = python(SEAL_ALL_THE_TIME, audit, grace)
    looks = 0

    def check(connection: Any, born: float) -> None:
        nonlocal looks
        before = written
        try:
            found = connection.execute(
                "SELECT count(*), count(DISTINCT decision_id), count(*) FILTER (result_status = 'success'), "
                "count(DISTINCT decision_id) FILTER (decision_id::BIGINT < ?) FROM audit",
                [before],
            ).fetchone()
        except duckdb.IOException:
            if time.monotonic() - born < grace - 1.5:
                raise
            return  # on a machine so loaded that it took longer than files are kept
        assert found is not None
        count, distinct, ended, earlier = found
        assert count == distinct
        assert earlier == before
        assert before <= ended <= count <= written + 1
        looks += 1

    def removed() -> int:
        """How many segments are gone that once were read."""
        segments = [segment for each in read_seals(audit) for segment in each.segments]
        return sum(not (audit / "lake" / segment.file).exists() for segment in segments)

    stop = threading.Event()
    failed: list[BaseException] = []

    def write_on() -> None:
        while not stop.is_set():
            add()
            time.sleep(0.02)

    def read_on() -> None:
        try:
            while not stop.is_set():
                born = time.monotonic()
                with connect(audit) as old:
                    while not stop.is_set() and time.monotonic() < born + 3:
                        check(old, born)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for run in (write_on, read_on)]
    for thread in threads:
        thread.start()
    try:
        while (removed() < 2 or looks < 20) and not failed and sealer.poll() is None:
            born = time.monotonic()
            with connect(audit) as new:
                check(new, born)
                new.execute("BEGIN")
                check(new, born)
                check(new, born)
                new.execute("ROLLBACK")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sealer.kill()
        _, err = sealer.communicate()
    assert err == ""
    assert not failed, failed
    made = read_seals(audit)
    assert sum(len(each.journals) for each in made) > len(files(audit))


def test_a_seal_that_comes_while_a_query_reads_counts_wholly_or_not_at_all(audit: Path) -> None:
    """Its line may come seconds after the time it states: the sealer was stopped, or the machine asleep.

    Here the line comes and goes all the time, so that many a query meets it; a query that looked twice
    would take the segment of one look and the journals of the other.
    """
    for n in range(3):
        write(audit, f"{n}a", f"{n}b")
        seal(audit)
    wait_until_seen(audit)
    path, draft = audit / "seals.jsonl", audit / ".seals.other"
    whole = path.read_bytes()
    shorter = b"".join(whole.splitlines(keepends=True)[:-1])
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for content in (shorter, whole):
                draft.write_bytes(content)
                os.replace(draft, path)
                time.sleep(0.0005)

    sql = "SELECT count(*), count(DISTINCT decision_id) FROM audit"
    path.write_bytes(shorter)
    with connect(audit) as connection, ThreadPoolExecutor(1) as pool:
        pool.submit(come_and_go)
        try:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                assert connection.execute(sql).fetchone() == (6, 6)
        finally:
            stop.set()


@pytest.mark.parametrize("where", ["", "WHERE risk_level = 'HIGH'"])
def test_a_count_reads_no_column_that_it_does_not_need(audit: Path, where: str) -> None:
    write(audit, "x")
    seal(audit)
    wait_until_seen(audit)
    with connect(audit) as connection:
        ((_, plan),) = connection.execute(f"EXPLAIN SELECT count(*) FROM audit {where}").fetchall()
    assert "policy_digest" not in plan


def test_a_clock_that_was_ahead_costs_and_doubles_nothing(
    audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seals of the future count for nobody, and nothing they cover is removed, until the clock is there."""
    monkeypatch.setattr(cleanup, "GRACE", timedelta(0))
    ahead = datetime.now(UTC) + timedelta(hours=1)
    write(audit, "0")
    with monkeypatch.context() as patch:
        patch.setattr(SealLog, "time", lambda _: ahead.isoformat())
        seal(audit)
    for n in range(1, 4):
        write(audit, str(n))
        assert seal(audit).problems == []
        rows = AuditLogger(audit).get_log()
        assert sorted(row["decision_id"] for row in rows) == [str(each) for each in range(n + 1)]
    assert {each.sealed_at for each in read_seals(audit)} == {ahead.isoformat(timespec="microseconds")}
    assert len(files(audit)) == 4
    assert verify(audit).findings == []


def test_a_long_transaction_sees_what_was_sealed_since(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There time stands still; what a seal of half a minute ago covers may be gone soon."""
    write(audit, "x")
    with connect(audit) as connection:
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)
        (made,) = seal(audit).seals
        line = (audit / "seals.jsonl").read_text()
        earlier = (datetime.fromisoformat(made.sealed_at) - timedelta(seconds=31)).isoformat()
        connection.execute("COMMIT")
        connection.execute("BEGIN")
        connection.execute("SELECT now()").fetchall()
        (audit / "seals.jsonl").write_text(line.replace(made.sealed_at, earlier))
        files(audit)[0].unlink()
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)


class TestDamage:
    @pytest.fixture
    def lake(self, audit: Path) -> list[Path]:
        """Two segments of two days, and a row in the journal."""
        for n in range(2):
            write(audit, f"{n}a", f"{n}b", timestamp=f"2025-01-0{n + 1}T00:00:00+00:00")
            seal(audit)
        write(audit, "live")
        wait_until_seen(audit)
        assert len(statuses(audit)) == 5
        return sorted(audit.glob("lake/date=*/*.parquet"))

    def test_a_file_cut_in_half_is_named_and_the_rest_is_read(self, audit: Path, lake: list[Path]) -> None:
        content = lake[0].read_bytes()
        lake[0].write_bytes(content[: len(content) // 2])
        with connect(audit) as connection:
            assert problems(connection) == [
                f"the sealed file `{lake[0].relative_to(audit / 'lake')}` with 2 rows is damaged"
            ]
            names = connection.execute("SELECT decision_id FROM audit ORDER BY 1").fetchall()
        assert names == [("1a",), ("1b",), ("live",)]
        assert "is damaged" in seal(audit).problems[0]

    def test_a_missing_file_is_named_and_the_rest_is_read(self, audit: Path, lake: list[Path]) -> None:
        lake[1].unlink()
        with connect(audit) as connection:
            assert "with 2 rows is missing" in problems(connection)[0]
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (3,)

    def test_all_files_missing(self, audit: Path, lake: list[Path]) -> None:
        for path in lake:
            path.unlink()
        with connect(audit) as connection:
            assert len(problems(connection)) == 2
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)

    @pytest.mark.parametrize("name", ["00000001-00000000.parquet", "1-copy.parquet"])
    def test_a_foreign_file_is_named_and_not_read(self, audit: Path, lake: list[Path], name: str) -> None:
        """Such as a copy of a segment, whose rows would be there twice."""
        (lake[0].parent / name).write_bytes(lake[0].read_bytes())
        with connect(audit) as connection:
            assert problems(connection) == [
                f"`lake/{lake[0].parent.name}/{name}` belongs to no seal and is not read"
            ]
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (5,)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
    def test_what_is_no_file_is_not_opened(self, audit: Path, lake: list[Path], make: Any) -> None:
        lake[0].unlink()
        make(lake[0])
        with connect(audit) as connection:
            assert "is damaged" in problems(connection)[0]
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (3,)

    def test_a_connection_to_a_damaged_audit_goes_on(self, audit: Path, lake: list[Path]) -> None:
        """It shows what is sealed after it was made, as any other."""
        lake[0].write_bytes(b"PAR1")
        with connect(audit) as connection:
            write(audit, "later")
            seal(audit)
            wait_until_seen(audit)
            for file in files(audit):
                file.unlink()
            names = connection.execute("SELECT decision_id FROM audit ORDER BY 1").fetchall()
        assert names == [("1a",), ("1b",), ("later",), ("live",)]

    @pytest.mark.parametrize("content", [b"", b"PAR1", None])
    def test_the_file_without_rows_is_not_needed(
        self, audit: Path, lake: list[Path], content: bytes | None
    ) -> None:
        """It spares a query the race with a merge, and is written anew by the next seal."""
        schema = audit / "lake" / "_schema.parquet"
        schema.unlink()
        if content is not None:
            schema.write_bytes(content)
        assert len(statuses(audit)) == 5
        seal(audit)
        assert schema.stat().st_size > 100
        assert len(statuses(audit)) == 5

    def test_rows_in_the_file_without_rows_are_not_shown(self, audit: Path, lake: list[Path]) -> None:
        """Whatever number of a segment they carry, and whenever they came there."""
        forged = lake[0].read_bytes()
        with connect(audit) as before:
            (audit / "lake" / "_schema.parquet").write_bytes(forged)
            names = ["0a", "0b", "1a", "1b", "live"]
            for connection in (before, connect(audit)):
                found = connection.execute("SELECT decision_id FROM audit ORDER BY 1").fetchall()
                assert [name for (name,) in found] == names
                assert connection.execute("SELECT count(*) FROM audit").fetchone() == (5,)

    @pytest.mark.parametrize(
        "forged",
        [
            "SELECT 0::BIGINT AS segment, 'x' AS decision_id",  # a column that is left out is not shown
            "SELECT * REPLACE (timestamp::DATE AS timestamp) FROM old",  # nor is one as it is, cast to less
            "SELECT * REPLACE (1 AS decision_id) FROM old",  # or it cannot be cast at all
        ],
    )
    def test_columns_of_its_own_in_that_file_hide_nothing(
        self, audit: Path, lake: list[Path], forged: str
    ) -> None:
        schema = audit / "lake" / "_schema.parquet"
        rows = AuditLogger(audit).get_log()
        with duckdb.connect() as db:
            db.execute(f"CREATE VIEW old AS FROM read_parquet('{lake[0]}', hive_partitioning = false)")
            db.execute(f"COPY ({forged}) TO '{schema}' (FORMAT parquet)")
        assert AuditLogger(audit).get_log() == rows
        with connect(audit) as connection:
            assert problems(connection) == [
                "`lake/_schema.parquet` has not the columns of a segment and is not read: "
                "the next sealing makes it anew"
            ]
        assert [each for each in verify(audit).findings if each.file == "lake/_schema.parquet"]
        write(audit, "next")
        assert seal(audit).problems == []
        with connect(audit) as connection:
            assert problems(connection) == []

    def test_a_half_deleted_audit(self, audit: Path, lake: list[Path]) -> None:
        """What is left is shown; without the journal's directory it is not taken for an audit."""
        (audit / "seals.jsonl").unlink()
        assert statuses(audit) == {"0a": "success", "0b": "success", "1a": "success", "1b": "success"} | {
            "live": "success"
        }
        for file in files(audit):
            file.unlink()
        with connect(audit) as connection:
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (0,)
        (audit / "journal").rmdir()
        with pytest.raises(AuditError, match="is not an audit directory"):
            connect(audit)

    def test_seals_that_are_none(self, audit: Path, lake: list[Path]) -> None:
        (audit / "seals.jsonl").write_bytes(b"\xff\x00nonsense\n")
        with pytest.raises(AuditError, match=r"line 1 of `.*seals.jsonl` is no seal"):
            connect(audit)

    def test_a_newer_version_is_refused(self, audit: Path, lake: list[Path]) -> None:
        path = audit / "seals.jsonl"
        line = json.loads(path.read_text().splitlines()[-1]) | {
            "version": VERSION + 1,
            "segments": "elsewhere",
        }
        path.write_text(json.dumps(line) + "\n")
        with pytest.raises(
            AuditError, match="was written by a newer version of aegis-otel: upgrade this one"
        ):
            connect(audit)


@pytest.mark.parametrize("name", ["it's", 'say "x"', "[1]", "a*b?", "日本 é", "{a,b}", "new\nline"])
def test_the_path_may_have_any_characters(tmp_path: Path, name: str) -> None:
    """Sealing and reading take no part of it for SQL or for a pattern."""
    for place in (name, "ab"):
        write(tmp_path / place, place)
        assert seal(tmp_path / place).problems == []
        wait_until_seen(tmp_path / place)
        for file in files(tmp_path / place):
            file.unlink()
    assert statuses(tmp_path / name) == {name: "success"}


class TestNewest:
    @pytest.fixture
    def audit(self, tmp_path: Path) -> Path:
        """300 calls over 30 days in segments, 10 in the journal, and one without a time."""
        audit = tmp_path / "aegis_audit"
        start = datetime(2025, 1, 1, tzinfo=UTC)
        journal = Journal(audit)
        for n in range(310):
            if n == 300:
                journal.close()
                seal(audit)
            time = (start + timedelta(hours=2.4 * n)).isoformat()
            rare = "rare" if n == 3 else "common"
            journal.append(
                decided(decision_id=f"{n:03}", timestamp=time, session_id=str(n // 10), agent_name=rare)
            )
        journal.append(decided(decision_id="no time", timestamp="never"))
        journal.close()
        wait_until_seen(audit)
        return audit

    @pytest.fixture(autouse=True)
    def guess(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows_module, "_FEW", 0)

    @pytest.mark.parametrize("limit", [0, 1, 5, 10, 11, 12, 100, 310, 311, 400])
    def test_the_newest_are_the_newest(self, audit: Path, limit: int) -> None:
        """However few files are looked into; rows without a time come last."""
        expected = [f"{n:03}" for n in reversed(range(310))] + ["no time"]
        rows = AuditLogger(audit).get_log(limit=limit)
        assert [row["decision_id"] for row in rows] == expected[:limit]

    def test_the_newest_that_match(self, audit: Path) -> None:
        logger = AuditLogger(audit)
        assert [row["decision_id"] for row in logger.get_log("7", limit=3)] == ["079", "078", "077"]
        assert [row["decision_id"] for row in logger.get_log(agent_name="rare", limit=100)] == ["003"]
        assert logger.get_log(agent_name="nobody", limit=100) == []
        found = logger.get_log(until="2025-01-10T00:00:00+00:00", limit=2)
        assert [row["decision_id"] for row in found] == ["089", "088"]
