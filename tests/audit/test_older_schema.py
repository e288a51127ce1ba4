"""An audit written by an earlier schema version is read, verified and sealed on.

`tests/fixtures/audit_schema_1.tar.gz` was written by the code of commit 29792a5. It holds two sealed segments
(one with a call of unknown outcome), a carried pending call, and a live journal with a late completion,
an open and a pending call.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import connect, problems
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION, encode
from aegis_otel.audit.seals.hash_chain import link
from aegis_otel.audit.seals.seal_log import VERSION, read_seals
from aegis_otel.audit.verify.verify import verify
from tests.support.records import completed, decided, select, wait_until_seen

FIXTURE = Path(__file__).parents[1] / "fixtures" / "audit_schema_1.tar.gz"
STATUSES = {
    "asks": "pending",
    "carried": "pending",
    "died": "unknown",
    "open": "unknown",
    "search_web": "success",
    "search_fails": "failed",
    "write_report": "success",
    "delete_document": "blocked",
}
COUNT = 15
"""Rows in the fixture."""


def test_the_versions_of_rows_and_of_seals_rise_together() -> None:
    """By its version a seal says which columns its segments have: `Lake.older` reads it there."""
    assert VERSION == SCHEMA_VERSION


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "audit"


def rows(audit: Path) -> dict[str, Any]:
    return dict(select(audit, "SELECT decision_id, result_status FROM audit"))


def test_an_older_audit_is_read_with_nulls_in_new_columns(audit: Path) -> None:
    """Every column of this version is there, and those that came later are null, but for the outcome."""
    later = [column.name for column in COLUMNS if column.since > 1 and column.name != "outcome"]
    with connect(audit) as connection:
        names = [name for name, *_ in connection.sql("SELECT * FROM audit LIMIT 0").description]
        values = connection.sql(f"SELECT {', '.join(later)} FROM audit").fetchall()
        assert problems(connection) == []
    assert names == [column.name for column in COLUMNS]
    assert later
    assert len(values) == COUNT
    assert {value for row in values for value in row} == {None}


def test_an_older_audit_is_verified(audit: Path) -> None:
    """Nothing in it is taken for tampering because a column came later."""
    assert verify(audit).findings == []


def test_an_older_audit_is_sealed_on(audit: Path) -> None:
    """Old and new segments are read side by side; a late completion amends a row of an old segment.

    That of the fixture is by a process that did not run the call: it is left in the journal, and said.
    """
    before = rows(audit)
    assert {each: before[each] for each in STATUSES if each in before} == {
        each: STATUSES[each] for each in STATUSES if each in before
    }
    assert before["late"] == "unknown"
    journal = Journal(audit)
    journal.append(
        decided(decision_id="new", tool_original_name="its own name", schema_version=SCHEMA_VERSION)
    )
    journal.append(completed(decision_id="new"))
    journal.close()
    (problem,) = seal(audit).problems
    assert "says how the sealed call `late` ended, and is not of the process that ran it" in problem
    wait_until_seen(audit)
    after = rows(audit)
    assert after == before | {"new": "success"}
    (audit / "journal" / problem.split("`")[1]).unlink()
    first = read_seals(audit)[0].journals[0]
    late = encode(completed(decision_id="late", timestamp="2026-11-20T10:00:01+00:00"))
    own = audit / "journal" / first.file.replace("-000001", "-000002")
    own.write_bytes(link(first.chain, late)[1])
    assert seal(audit).problems == []
    wait_until_seen(audit)
    assert rows(audit) == after | {"late": "success"}
    assert select(audit, "SELECT tool_original_name FROM audit WHERE decision_id = 'new'") == [
        ("its own name",)
    ]
    proof = verify(audit)
    assert proof.findings == []
    assert any("were sealed without a digest of rows" in each for each in proof.unproven)
    assert select(audit, "SELECT max(schema_version) FROM audit") == [(SCHEMA_VERSION,)]


def test_an_older_audit_is_exported(audit: Path, tmp_path: Path) -> None:
    """The command line reads it too."""
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "aegis_otel", "audit", "--path", str(audit), "--export", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert len(out.read_text().splitlines()) == COUNT
