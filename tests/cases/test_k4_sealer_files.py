"""What is done to the files of sealing, pruning and reading, by who writes beside them meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from aegis_otel import AuditError
from aegis_otel.audit.answers import pending_calls
from aegis_otel.audit.answers.pending_calls import taking_over
from aegis_otel.audit.lake import sealing
from aegis_otel.audit.lake.sealing import Drafts, seal
from aegis_otel.audit.lake.segments import SegmentBuilder
from aegis_otel.audit.maintenance.retention import prune
from aegis_otel.audit.seals import seal_log as seals_module
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from tests.audit.seals.test_signing import make_key
from tests.cases.test_k4_sealed_rows import merge, sealed
from tests.cases.test_k4_verify import forged_parquet, planted, segment_of
from tests.support.records import python, select, wait_until_seen, write_call


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit"


# --- locks ---


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A lock that another process holds, and does not let go."""
    code = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
    process = python(code, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.communicate()


def take_over(audit: Path) -> None:
    with taking_over(audit):
        pass


WAITING: dict[str, Callable[[Path], object]] = {
    "verify": verify,
    "seal": lambda audit: seal(audit, wait=True),
    "prune": lambda audit: prune(audit, max_bytes=0),
    "take over": take_over,
}


@pytest.mark.parametrize("what", WAITING)
def test_k4_a_lock_that_is_never_let_go_is_waited_for_and_said(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """No process hangs for ever; what did not get the lock did nothing."""
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(make_key(tmp_path / "key.pem")[0]))
    sealed(audit, "one")
    from aegis_otel.audit import files

    monkeypatch.setattr(pending_calls, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(files, "PATIENCE_S", 0.2)
    before = {path: path.read_bytes() for path in audit.rglob("*") if path.is_file()}
    with held(audit / ("journal" if what == "take over" else "seals.jsonl")):
        begun = time.monotonic()
        with pytest.raises(AuditError, match="another process has held its lock for"):
            WAITING[what](audit)
        assert time.monotonic() - begun < 30
    assert {path: path.read_bytes() for path in audit.rglob("*") if path.is_file()} == before
    WAITING[what](audit)


def test_k4_a_lock_that_is_let_go_is_waited_for(audit: Path) -> None:
    sealed(audit, "one")
    descriptor = os.open(audit / "seals.jsonl", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert verify(audit).findings == []
        assert seal(audit).busy
    finally:
        os.close(descriptor)
    assert not seal(audit, wait=True).busy


BUSY = """
import fcntl, os, sys, time
def held():
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
descriptor = held()
print("held", flush=True)
for _ in range(2_000):
    time.sleep(0.01)
    os.close(descriptor)
    descriptor = held()
"""


def test_k4_a_sealing_has_its_turn_between_verifications_that_follow_each_other(audit: Path) -> None:
    sealed(audit, "one")
    write_call(audit, "two")
    with python(BUSY, audit / "seals.jsonl") as verifying:
        assert verifying.stdout is not None
        verifying.stdout.readline()
        try:
            begun = time.monotonic()
            assert seal(audit, wait=True).seals
            assert time.monotonic() - begun < 5
        finally:
            verifying.kill()


# --- files in the place of others, during a sealing ---


@pytest.mark.parametrize("how", ["replaced", "removed", "link"])
def test_k4_seals_that_are_replaced_during_a_sealing_are_noticed(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The seal is then in no file that readers find: it is not told to a witness, and nothing is lost."""
    sealed(audit, "one")
    write_call(audit, "two")
    path = audit / "seals.jsonl"
    publish = Drafts.publish

    def and_replace(self: Drafts) -> None:
        publish(self)
        content = path.read_bytes()
        path.unlink()
        if how == "replaced":
            path.write_bytes(content)
        elif how == "link":
            (tmp_path / "aside").write_bytes(content)
            path.symlink_to(tmp_path / "aside")

    monkeypatch.setattr(Drafts, "publish", and_replace)
    content = path.read_bytes()
    with pytest.raises(AuditError, match="was replaced or removed meanwhile: nothing is sealed"):
        seal(audit)
    monkeypatch.undo()
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    assert len(seal(audit).seals) == 1
    wait_until_seen(audit)
    assert select(audit) == [("one", "success"), ("two", "success")]
    assert verify(audit).findings == []


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "hard link"])
def test_k4_what_stands_in_the_place_of_a_draft_is_not_written_to(
    audit: Path, tmp_path: Path, kind: str
) -> None:
    """It is removed or named; what it links to keeps its content, and rows are sealed."""
    sealed(audit, "one")
    write_call(audit, "two")
    notes = tmp_path / "notes"
    notes.write_text("mine")
    made = read_seals(audit)[-1]
    day = made.segments[0].day
    draft = audit / "lake" / f"date={day}" / f".00000002-{made.chain[:8]}.parquet.draft"
    if kind == "file":
        draft.write_text("x")
    elif kind == "link":
        draft.symlink_to(notes)
    elif kind == "pipe":
        os.mkfifo(draft)
    else:
        draft.hardlink_to(notes)
    assert len(seal(audit).seals) == 1
    assert notes.read_text() == "mine"
    assert verify(audit).findings == []


# --- files that are changed while they are read, and put back ---


def changed_while_read(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    path: Path,
    content: bytes,
) -> None:
    """Give a file another content whenever a step of sealing is taken, and its own before and after."""
    step, own = getattr(owner, name), path.read_bytes()

    def and_back(*arguments: Any) -> Any:
        path.write_bytes(content)
        try:
            return step(*arguments)
        finally:
            path.write_bytes(own)

    monkeypatch.setattr(owner, name, and_back)


def test_k4_a_journal_file_that_is_changed_while_it_is_read_is_sealed_as_it_was_checked(
    audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chain is followed, and what DuckDB folds is that same content."""
    write_call(audit, "one")
    (path,) = (audit / "journal").iterdir()
    lie = path.read_bytes().replace(b'"CRITICAL"', b'"LOW"').replace(b'"success"', b'"blocked"')
    changed_while_read(monkeypatch, SegmentBuilder, "__init__", path, lie)
    report = seal(audit)
    assert (len(report.seals), report.problems) == (1, [])
    wait_until_seen(audit)
    assert select(audit, "SELECT risk_level, result_status FROM audit") == [("CRITICAL", "success")]
    assert verify(audit).findings == []


def test_k4_an_answer_is_checked_in_the_content_that_is_sealed(
    audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has proven is not sealed though its file looks harmless whenever proofs are looked for."""
    sealed(audit, "one")
    path = planted(audit)
    changed_while_read(monkeypatch, sealing, "unsealable_files", path, b"")
    report = seal(audit)
    assert report.seals == []
    assert any("nobody has proven" in each or "cannot be checked" in each for each in report.problems)


def test_k4_a_call_is_not_taken_for_sealed_by_a_segment_that_was_changed(
    audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that names it while it is read, and is put back, does not have its row left out."""
    sealed(audit, "one")
    write_call(audit, "two")
    path = segment_of(audit)
    copy = audit.parent / "copy.parquet"
    with duckdb.connect() as connection:
        rows = (
            f"SELECT * REPLACE ('two' AS decision_id) FROM read_parquet('{path}', hive_partitioning = false)"
        )
        connection.execute(f"COPY ({rows}) TO '{copy}' (FORMAT parquet)")
    changed_while_read(monkeypatch, SegmentBuilder, "__init__", path, copy.read_bytes())
    report = seal(audit)
    assert len(report.seals) == 1
    wait_until_seen(audit)
    assert select(audit) == [("one", "success"), ("two", "success")]
    assert verify(audit).findings == []


# --- large files ---


def test_k4_a_huge_file_of_the_journal_is_named_and_takes_no_memory(audit: Path) -> None:
    """It is sparse, so it costs who puts it there nothing; DuckDB would ask for memory for all of it."""
    sealed(audit, "one")
    path = audit / "journal" / "x-1-aaaaaaaa-000001.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    held = os.open(path, os.O_RDONLY)
    try:
        for lock in (fcntl.LOCK_UN, fcntl.LOCK_EX):  # of a writer that is gone, and of one that is not
            fcntl.flock(held, lock)
            for use in (select, seal):
                with pytest.raises(AuditError, match=r"aaaaaaaa.*is larger than any file of its kind"):
                    use(audit)
            assert ["is larger than any" in each.what for each in verify(audit).findings] == [True]
    finally:
        os.close(held)


# --- retention ---


def test_k4_pruning_does_not_go_by_a_seal_that_contradicts(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted seal says that rows of this week are of last year: they are not removed by it."""
    sealed(audit, "one")
    merge(audit, first="2020-01-01T00:00:00.000000+00:00", last="2020-01-01T00:00:00.000000+00:00")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(make_key(tmp_path / "key.pem")[0]))
    with pytest.raises(AuditError, match="contradict each other, and nothing was removed"):
        prune(audit, keep=timedelta(days=3_000))
    assert len(read_seals(audit)) == 2


def test_k4_pruning_does_not_go_by_the_dates_of_files(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(audit, "one")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(make_key(tmp_path / "key.pem")[0]))
    for path in audit.rglob("*"):
        os.utime(path, (0, 0))
    assert prune(audit, keep=timedelta(days=3_000)).seal is None


# --- readers ---

READERS: dict[str, tuple[str, ...]] = {
    "table": ("audit", "--db", "{audit}", "--format", "jsonl"),
    "stats": ("audit", "stats", "--path", "{audit}"),
    "sql": ("audit", "sql", "--db", "{audit}", "--format", "json", "FROM audit"),
    "show": ("audit", "show", "--path", "{audit}", "forged"),
    "report": ("report", "--db", "{audit}", "-o", "-"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", ["of the next seal", "of a day of its own", "over a segment"])
def test_k4_no_reader_shows_a_file_that_no_seal_names(audit: Path, place: str, reader: str) -> None:
    sealed(audit, "ours")
    wait_until_seen(audit)
    segment = segment_of(audit)
    forged_parquet(
        audit,
        {
            "of the next seal": segment.parent / f"00000002-{read_seals(audit)[-1].chain[:8]}.parquet",
            "of a day of its own": audit / "lake" / "date=2020-01-01" / "00000009-aaaaaaaa.parquet",
            "over a segment": segment,
        }[place],
    )
    result: Any = CliRunner().invoke(aegis, [part.format(audit=audit) for part in READERS[reader]])
    shown = result.output.replace("`forged`", "")  # the id that `show` was asked for
    assert "forged" not in shown
    assert verify(audit).findings


def test_k4_rows_of_another_day_than_their_directory_are_found(audit: Path) -> None:
    """Such as rows that were put into an old day, for retention to take them along."""
    sealed(audit, "one")
    merge(audit, "* REPLACE (timestamp - INTERVAL 400 DAY AS timestamp)")
    findings = [each.what for each in verify(audit).findings]
    assert any(
        f"of {seals_module.live_segments(read_seals(audit))[0].day} has rows of" in each for each in findings
    )
