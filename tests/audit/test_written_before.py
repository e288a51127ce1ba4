"""An audit that the code of commit 29792a5 wrote is read, verified, sealed on, exported and reported.

`tests/fixtures/write_audit.py` made the archive with that code: two signed seals and a live journal, each
with allowed, blocked, denied, approved, expired, failed, cancelled, skipped, watched, pending and unknown
calls. The expected rows are those that the old code exported.
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
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, files, select, wait_until_seen

FIXTURE = Path(__file__).parents[1] / "fixtures" / "audit_29792a5.tar.gz"
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


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(tmp_path / "seal.pem"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "audit"


def expected(audit: Path) -> dict[str, dict[str, Any]]:
    """The rows that the old code read, by decision, with null in the columns that came later.

    `outcome` is what the decision event of the old code said; null where there was no such event.
    """
    later = {column.name: None for column in COLUMNS if column.since > 1}
    outcomes: dict[str, str] = json.loads((audit.parent / "outcomes.json").read_text())
    lines = (audit.parent / "rows.jsonl").read_text().splitlines()
    rows: list[dict[str, Any]] = [later | json.loads(line) for line in lines]
    return {row["decision_id"]: row | {"outcome": outcomes.get(row["decision_id"])} for row in rows}


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
