"""An audit that an earlier commit wrote is read, verified, sealed on, exported and reported.

`tests/fixtures/write_audit.py` made each archive with the code of the commit in its name: two signed seals
and a live journal, each with allowed, blocked, denied, approved, expired, failed, cancelled, skipped,
watched, pending and unknown calls. The expected rows are those that the old code exported.
"""

from __future__ import annotations

import fcntl
import json
import os
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import MANY, seal
from aegis_otel.audit.query.connection import connect, problems
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, files, select, wait_until_seen, write_call

FIXTURES = Path(__file__).parents[1] / "fixtures"
VERSIONS = {"29792a5": 1, "8e2de43": 3, "50f3825": 4, "72448e4": 5}
"""The `schema_version` of each commit's rows."""
ROUNDS = 3
EACH_ROUND = {
    "success": 7,
    "denied": 4,
    "blocked": 2,
    "failed": 2,
    "cancelled": 2,
    "pending": 2,
    "skipped": 1,
    "unknown": 1,
}
"""The calls of each round by `result_status`."""


@pytest.fixture(params=VERSIONS)
def commit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def version(commit: str) -> int:
    return VERSIONS[commit]


@pytest.fixture
def audit(commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(FIXTURES / f"audit_{commit}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(tmp_path / "seal.pem"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "audit"


def expected(audit: Path) -> dict[str, dict[str, Any]]:
    """The rows that the old code read, by decision, with null in the columns that came later.

    Where the old code had no column `outcome`, it is what its decision event said, or null.
    """
    later = {column.name: None for column in COLUMNS if column.since > 1}
    outcomes: dict[str, str] = json.loads((audit.parent / "outcomes.json").read_text())
    lines = (audit.parent / "rows.jsonl").read_text().splitlines()
    rows: list[dict[str, Any]] = [later | json.loads(line) for line in lines]
    for row in rows:
        row["outcome"] = row["outcome"] or outcomes.get(row["decision_id"])
    return {row["decision_id"]: row for row in rows}


def found(audit: Path) -> dict[str, dict[str, Any]]:
    """The rows that this code reads, by decision."""
    return {row["decision_id"]: row for row in AuditLogger(audit).get_log()}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_its_rows_are_read(audit: Path) -> None:
    """Every row is what the old code read."""
    rows = expected(audit)
    assert Counter(row["result_status"] for row in rows.values()) == {
        status: count * ROUNDS for status, count in EACH_ROUND.items()
    }
    assert found(audit) == rows


def test_its_open_calls_are_open_while_their_writer_lives(audit: Path) -> None:
    """A call of the live journal is unknown only because nobody holds the lock of its file."""
    (died,) = [
        name
        for name, row in expected(audit).items()
        if (row["session_id"], row["result_status"]) == ("live-dying", "unknown")
    ]
    (path,) = [each for each in files(audit) if died.encode() in each.read_bytes()]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert found(audit)[died]["result_status"] == "open"
    finally:
        os.close(descriptor)
    assert found(audit)[died]["result_status"] == "unknown"


def test_it_is_verified(audit: Path) -> None:
    """With the public key, nothing is found; with an edited row, something is."""
    proof = verify(audit, public_keys=[audit.parent / "public.pem"])
    assert proof.findings == []
    assert (proof.seals, proof.segments) == (2, 2)
    assert proof.rows == 2 * (sum(EACH_ROUND.values()) - EACH_ROUND["pending"])
    path = audit / "lake" / read_seals(audit)[0].segments[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert verify(audit).findings != []


def test_it_is_sealed_on(audit: Path) -> None:
    """The live journal and a call of today get sealed; what waits is carried on, and no row changes."""
    rows = expected(audit)
    journal = Journal(audit)
    journal.append(decided(decision_id="new", schema_version=SCHEMA_VERSION, outcome="allowed"))
    journal.append(completed(decision_id="new"))
    journal.close()
    report = seal(audit)
    assert report.problems == []
    assert len(report.seals) == 1
    wait_until_seen(audit)
    now = found(audit)
    assert now.pop("new")["result_status"] == "success"
    assert now == rows
    proof = verify(audit, public_keys=[audit.parent / "public.pem"])
    assert proof.findings == []
    waiting = EACH_ROUND["pending"] * ROUNDS
    assert proof.rows == len(rows) - waiting + 1
    assert select(audit, "SELECT count(*) FROM audit WHERE result_status = 'pending'") == [(waiting,)]


def test_it_is_exported_and_reported(audit: Path, tmp_path: Path) -> None:
    """By the command line: the same rows, and a page that lists what was blocked and what is unknown."""
    rows = expected(audit)
    done = run("audit", "--path", audit, "--export", tmp_path / "again.jsonl")
    assert done.exit_code == 0, done.output
    exported = map(json.loads, (tmp_path / "again.jsonl").read_text().splitlines())
    assert {row["decision_id"]: row for row in exported} == rows
    done = run("report", "--path", audit, "--out", tmp_path / "page.html", "--verify")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text()
    for name, row in rows.items():
        if row["result_status"] in ("blocked", "unknown"):
            assert name[-8:] in page


def test_its_rows_are_merged_with_new_ones(audit: Path) -> None:
    """A segment of this version takes the place of those of before; each row is as it was, and is proven."""
    rows = expected(audit)
    old = {segment.segment for seal in read_seals(audit) for segment in seal.segments}
    (day,) = {segment.day for seal in read_seals(audit) for segment in seal.segments}
    for number in range(MANY):
        write_call(audit, f"new{number}", day, user_id="ann")
        assert seal(audit).problems == []
    seals = read_seals(audit)
    assert old <= {number for each in seals for number in each.replaces}
    wait_until_seen(audit)
    with connect(audit) as connection:
        assert problems(connection) == []
    now = found(audit)
    assert [now.pop(f"new{number}")["user_id"] for number in range(MANY)] == ["ann"] * MANY
    assert now == rows
    assert verify(audit, public_keys=[audit.parent / "public.pem"]).findings == []


def test_its_waiting_calls_are_found(audit: Path, version: int) -> None:
    """Sealed or not, a question without an answer still waits, and can be answered."""
    logger = AuditLogger(audit)
    for name in ("first", "second", "live"):
        (waiting,) = logger.waiting(f"{name}-waits")
        assert (waiting.row.schema_version, waiting.answer, waiting.started) == (version, None, False)
        with logger.answering(waiting) as found_again:
            assert found_again == waiting


def test_it_is_queried_by_what_it_lacks(audit: Path, version: int) -> None:
    """Columns that came later are null for SQL and filters, and replay says why it cannot replay."""
    later = ", ".join(f"count({column.name})" for column in COLUMNS if column.since > max(version, 3))
    rows = expected(audit)
    done = run("audit", "sql", "--path", audit, "--format", "json", f"SELECT count(*), {later} FROM audit")
    assert done.exit_code == 0, done.output
    assert list(json.loads(done.output)[0].values()) == [len(rows), *[0] * (later.count("count"))]
    assert "No audit entries" in run("audit", "--path", audit, "--user", "ann").output
    assert run("audit", "stats", "--path", audit).exit_code == 0
    policy = audit.parent / "policy.yaml"
    policy.write_text("rules: [{name: all, approval: auto}]")
    done = run("policy", "replay", "--path", audit, policy)
    if version < 4:
        assert done.exit_code == 0, done.output
        assert f"{len(rows)} cannot be replayed" in done.output
        assert "an earlier version recorded them" in done.output
    else:
        assert done.exit_code == 1, "what was asked or blocked would run"
        assert "0 cannot be replayed" in done.output
