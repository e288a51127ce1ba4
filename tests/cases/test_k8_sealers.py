"""How often short processes start a sealer, whatever lies in the journal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.seals.seal_log import read_seals
from tests.support.records import decided, files


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each process that was started."""
    wrapper = tmp_path / "python-that-counts"
    wrapper.write_text(f"#!/bin/sh\necho started >> {tmp_path}/started\n")
    wrapper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(wrapper))
    (tmp_path / "started").touch()
    return tmp_path / "started"


def short_process(audit: Path) -> None:
    """A journal that writes one record, as a process of a moment does, and the sealer that it starts."""
    journal = Journal(audit)
    journal.append(decided(decision_id=f"{time.monotonic_ns()}", result_status="blocked"))
    while journal._trigger._busy.locked():
        time.sleep(0.002)
    journal.close()


def count(started: Path) -> int:
    return len(started.read_text().splitlines())


def test_k8_litter_of_others_starts_no_sealer(tmp_path: Path, started: Path) -> None:
    """Only journal files count: what else lies there is never sealed."""
    audit = tmp_path / "audit"
    short_process(audit)
    for n in range(100):
        (audit / "journal" / f"notes {n}.txt").touch()
        (audit / "journal" / f".left-{n:06d}.jsonl.new").touch()
    for _ in range(10):
        short_process(audit)
    assert count(started) == 0


@pytest.mark.parametrize("content", ["", "no record\n"])
def test_k8_files_that_cannot_be_sealed_start_one_sealer_a_minute(
    tmp_path: Path, started: Path, content: str
) -> None:
    """Whatever comes of it: the next process knows that it was just tried."""
    audit = tmp_path / "audit"
    short_process(audit)
    for n in range(64):
        (audit / "journal" / f"foreign-{n}-aaaaaaaa-000001.jsonl").write_text(content)
    for _ in range(20):
        short_process(audit)
    assert count(started) == 1
    earlier = time.time() - 61
    os.utime(audit / "seals.jsonl", (earlier, earlier))
    for _ in range(5):
        short_process(audit)
    assert count(started) == 2


def test_k8_sealed_files_that_are_still_there_start_no_sealer(tmp_path: Path, started: Path) -> None:
    """They are removed a minute after they were sealed, and until then they are no work."""
    audit = tmp_path / "audit"
    for _ in range(64):
        short_process(audit)
    assert len(seal(audit).seals) == 1
    assert len(files(audit)) == 64
    for _ in range(10):
        short_process(audit)
    assert count(started) == 0
    assert len(read_seals(audit)) == 1


def test_k8_a_clock_that_was_set_back_does_not_end_sealing(tmp_path: Path, started: Path) -> None:
    """A time of the last attempt that lies ahead counts as none."""
    audit = tmp_path / "audit"
    for _ in range(70):
        short_process(audit)
    before = count(started)
    later = time.time() + 1e6
    os.utime(audit / "seals.jsonl", (later, later))
    short_process(audit)
    assert count(started) == before + 1
