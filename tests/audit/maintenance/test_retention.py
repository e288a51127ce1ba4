"""Retention: the oldest rows go, by signed statement, and nothing else does."""

from __future__ import annotations

import json
import re
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake import cleanup
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.maintenance.retention import prune
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.seals.seal_log import Seal, live_segments, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError, ConfigError
from tests.audit.seals.test_signing import make_key
from tests.audit.verify.test_verify import remake
from tests.support.killed_at_every_step import killed_at_every_step
from tests.support.records import completed, decided, statuses

DAYS = (400, 200, 100, 10)
"""How long ago calls were made; each in a file of its own, for each is of another day."""


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    private, public = make_key(tmp_path / "seal-key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    return public


@pytest.fixture
def audit(tmp_path: Path, public: Path) -> Path:
    """Sealed calls of four days, and a question of a week that still waits."""
    audit = tmp_path / "audit"
    journal = Journal(audit)
    for days in DAYS:
        time = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        journal.append(decided(decision_id=f"{days}", timestamp=time))
        journal.append(completed(decision_id=f"{days}", timestamp=time))
    time = (datetime.now(UTC) - timedelta(days=7)).isoformat()
    journal.append(decided(decision_id="asks", timestamp=time, result_status="pending"))
    journal.close()
    assert len(seal(audit).seals[0].segments) == len(DAYS)
    return audit


def files(audit: Path) -> int:
    return len(list(audit.glob("lake/date=*/*")))


def seen(audit: Path) -> set[str]:
    """The sealed calls that count from now on."""
    names = [str(audit / "lake" / each.file) for each in live_segments(read_seals(audit))]
    return {name for path in names for (name,) in duckdb.read_parquet(path).project("decision_id").fetchall()}


def test_what_is_older_goes(audit: Path, public: Path) -> None:
    """By whole files; the seal says what, of when, and why, and is signed. What waits for a human stays."""
    before = read_seals(audit)[0]
    made = prune(audit, keep=timedelta(days=150)).seal
    assert made == read_seals(audit)[1]
    gone = [each for each in before.segments if each.last and each.last < (made.removed.last or "")]  # type: ignore[union-attr]
    assert made is not None
    assert made.removed is not None
    assert made.signature
    assert (made.replaces, made.removed.segments, made.removed.rows) == ((1, 2), (1, 2), 2)
    assert (made.removed.first, made.removed.last) == (before.segments[0].first, before.segments[1].last)
    assert made.removed.why == "150 days are kept"
    assert len(gone) == 1
    assert seen(audit) == {"100", "10"}
    proof = verify(audit, public_keys=[public])
    assert (proof.findings, proof.segments, len(proof.notes)) == ([], 2, 1)
    assert re.fullmatch(
        r"seals\.jsonl: seal 2 removed 2 segments with 2 rows, of .+: 150 days are kept", proof.notes[0]
    )


def test_what_is_too_much_goes_oldest_first(audit: Path) -> None:
    sizes = [each.bytes for each in read_seals(audit)[0].segments]
    assert prune(audit, max_bytes=sum(sizes)).seal is None
    made = prune(audit, max_bytes=sum(sizes) - 1).seal
    assert made is not None
    assert made.replaces == (1,)
    assert prune(audit, keep=timedelta(days=300), max_bytes=sizes[3]).seal is not None
    assert seen(audit) == {"10"}
    assert verify(audit).findings == []
    assert prune(audit, max_bytes=0).seal is not None
    assert seen(audit) == set()
    assert statuses(audit)["asks"] == "pending"


def test_nothing_is_old(audit: Path) -> None:
    assert prune(audit, keep=timedelta(days=500)).seal is None
    assert len(read_seals(audit)) == 1


def test_readers_of_before_and_after_do_not_fail(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files stay for a minute; the next sealing takes them, and views that were made before still answer."""
    sql = "SELECT count(*) FROM audit"
    with connect(audit) as early:
        assert prune(audit, keep=timedelta(days=150)).seal is not None
        assert files(audit) == 4
        assert early.execute(sql).fetchone() in ((5,), (3,))
        monkeypatch.setattr(cleanup, "GRACE", timedelta(0))
        assert seal(audit).problems == []
        assert files(audit) == 2
        stop = datetime.now(UTC) + timedelta(seconds=1.1)
        while datetime.now(UTC) < stop:
            threading.Event().wait(0.1)
        assert early.execute(sql).fetchone() == (3,)
    assert statuses(audit).keys() == {"100", "10", "asks"}
    assert verify(audit).findings == []


def test_sealing_and_merging_go_on(audit: Path, public: Path) -> None:
    """New calls of a removed day make a segment of their own, with a number of their own."""
    prune(audit, keep=timedelta(days=150))
    for days in DAYS:
        time = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        journal = Journal(audit)
        journal.append(decided(decision_id=f"more {days}", timestamp=time, result_status="blocked"))
        journal.close()
    made = seal(audit)
    assert made.problems == []
    assert seen(audit) == {"100", "10", *(f"more {days}" for days in DAYS)}
    assert verify(audit, public_keys=[public]).findings == []


class TestRefused:
    def test_without_a_key(self, audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AEGIS_SEAL_KEY")
        with pytest.raises(ConfigError, match="must be signed for: set `AEGIS_SEAL_KEY`"):
            prune(audit, keep=timedelta(days=150))
        assert len(read_seals(audit)) == 1
        assert files(audit) == 4

    def test_where_the_seals_are_broken(self, audit: Path) -> None:
        path = audit / "seals.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"rows":1', b'"rows":2', 1))
        with pytest.raises(AuditError, match="does not follow"):
            prune(audit, keep=timedelta(days=150))
        assert files(audit) == 4

    def test_no_audit(self, tmp_path: Path, public: Path) -> None:
        assert prune(tmp_path / "none", max_bytes=0).seal is None
        assert not (tmp_path / "none").exists()


class TestGaps:
    """What verification makes of a gap."""

    def test_a_file_that_is_missing_without_a_statement(self, audit: Path) -> None:
        next(iter(sorted(audit.glob("lake/date=*/*")))).unlink()
        assert ["is missing, with 1 rows" in each.what for each in verify(audit).findings] == [True]

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"signature": ""}, "removes 2 rows and is not signed"),
            ({"removed": None}, "replaces 1 rows of"),
            ({"replaces": [1, 2, 3]}, "states a removal that is not of the segments it names"),
            ({"removed.rows": 1}, "states a removal that is not of the segments it names"),
            ({"removed.segments": [1]}, "states a removal that is not of the segments it names"),
            ({"removed.last": "2026-01-01"}, "states a removal that is not of the segments it names"),
        ],
    )
    def test_a_statement_that_is_not_signed_or_not_true(
        self, audit: Path, public: Path, change: dict[str, Any], what: str
    ) -> None:
        """By one who can write to the directory, and chains the seals anew."""
        prune(audit, keep=timedelta(days=150))

        def edit(seals: list[dict[str, Any]]) -> None:
            for name, value in change.items():
                holder, _, key = name.rpartition(".")
                (seals[1][holder] if holder else seals[1])[key] = value
                if not value:  # a seal is written without members that say nothing, or is no seal
                    del seals[1][name]

        remake(audit, edit)
        assert [each for each in verify(audit).findings if what in each.what]
        assert "is not" in " ".join(each.what for each in verify(audit, public_keys=[public]).findings)

    def test_what_is_removed_twice(self, audit: Path) -> None:
        prune(audit, keep=timedelta(days=300))
        prune(audit, keep=timedelta(days=150))
        remake(audit, lambda seals: seals[2].update(replaces=[1, 2]))
        found = " ".join(each.what for each in verify(audit).findings)
        assert "replaces segment 1, which a seal before it does" in found

    def test_a_signature_that_somebody_made_up(self, audit: Path, public: Path) -> None:
        """Only the public key tells; without it, it is said that it was not checked."""
        prune(audit, keep=timedelta(days=150))
        remake(audit, lambda seals: seals[1].update(signature="0" * 128))
        assert "give --public-key" in " ".join(verify(audit).unproven)
        assert [each.what for each in verify(audit, public_keys=[public]).findings] == [
            "its signature is not of the key given"
        ]


def test_killed_at_any_step(audit: Path, public: Path, tmp_path: Path) -> None:
    """It passes verification as it is left, and what was begun is ended by the next."""
    copies = tmp_path / "copies"
    left = killed_at_every_step(
        audit,
        copies,
        ("files", "lake.cleanup", "maintenance.retention", "seals.seal_log"),
        ("os.unlink", "os.write", "os.fsync", "files.remove", "log.append(", "clear(", "locked("),
        "cleanup.GRACE = timedelta(0)\n"
        "for days in (150, 50):\n"
        "    retention.prune(audit, keep=timedelta(days=days))",
        again=True,
    )
    states = set()
    for step, copy in enumerate(left, 1):
        assert verify(copy, public_keys=[public]).findings == [], step
        states.add((len(read_seals(copy)), files(copy)))
        prune(copy, keep=timedelta(days=50))
        assert verify(copy, public_keys=[public]).findings == [], step
        assert seen(copy) == {"10"}, step
    assert {(1, 4), (2, 4), (2, 3), (2, 2), (3, 2)} <= states
    shutil.rmtree(copies)


def test_a_seal_of_before_there_was_retention_reads_the_same(audit: Path) -> None:
    """What was added to the format is left out where it says nothing."""
    line = json.loads((audit / "seals.jsonl").read_text())
    assert "removed" not in line
    assert isinstance(read_seals(audit)[0], Seal)
