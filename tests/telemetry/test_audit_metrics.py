"""`aegis.audit.*`: what alerts compare decisions with."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Result, ResultStatus, semconv
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.verify.verify import verify
from tests.support.kit import Bench
from tests.support.records import completed, decided, files


class Succeed(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS)


def counted(made: Bench) -> tuple[int, int, int]:
    """Decisions, records and errors."""
    decisions = sum(made.telemetry.points(semconv.METRIC_DECISIONS).values())
    records, errors = (
        made.telemetry.points(name)[()]
        for name in (semconv.METRIC_AUDIT_RECORDS, semconv.METRIC_AUDIT_ERRORS)
    )
    return decisions, records, errors


async def test_every_decision_has_a_record(bench: Callable[..., Bench]) -> None:
    """Allowed, blocked, approved and denied: as many records as decisions, and as rows."""
    made = bench(True, False, executor=Succeed())
    for kind in ("search", "delete_all", "write_file", "write_file"):
        await made.runtime.run_one(Action(kind, "web"))
    assert counted(made) == (4, 4, 0)
    assert len(made.rows()) == 4


async def test_a_decision_without_a_record_is_a_gap(bench: Callable[..., Bench]) -> None:
    """The audit cannot be written: the call is decided, refused, and missing among the records."""
    made = bench(executor=Succeed())
    await made.runtime.run_one(Action("search", "web"))
    made.runtime.audit.close()
    (made.audit / "journal").chmod(0o777)  # others could write to it
    assert not (await made.runtime.run_one(Action("search", "web"))).ok
    decisions, records, errors = counted(made)
    assert (decisions, records) == (2, 1)
    assert errors > 0


UNKNOWN, SEAL_ERRORS = semconv.METRIC_AUDIT_UNKNOWN_OUTCOMES, semconv.METRIC_AUDIT_SEAL_ERRORS


@pytest.fixture
def sealing(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Has the audit of a bench sealed by another process, as its journal does, to the end."""
    made = bench(executor=Succeed())
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 100)
    monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 100)

    async def run() -> Bench:
        for _ in range(2):
            await made.runtime.run_one(Action("search", "web"))
        while made.runtime.audit._journal._trigger._busy.locked():
            await asyncio.sleep(0.01)
        return made

    return run


async def test_a_call_whose_process_died_is_counted_once(
    sealing: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is sealed, and from zero on, so that an alert sees the first one as an increase."""
    made = await sealing()
    assert made.telemetry.points(UNKNOWN) == {(): 0}
    died = Journal(made.audit)
    monkeypatch.setattr(died._trigger, "start", lambda *_: None)
    died.append(decided(decision_id="a"))
    died.append(decided(decision_id="b"))
    died.append(decided(decision_id="asked", result_status="pending"))
    died.append(decided(decision_id="ended"))
    died.append(completed(decision_id="ended"))
    died.close()
    await sealing()
    assert made.telemetry.points(UNKNOWN) == {(): 2}
    assert [each[semconv.AUDIT_UNKNOWN] for each in made.telemetry.events("aegis.audit.sealed")][-1] == 2
    await sealing()
    assert made.telemetry.points(UNKNOWN) == {(): 2}
    assert verify(made.audit).findings == []


def test_a_seal_tells_how_many_it_sealed_as_unknown(tmp_path: Path) -> None:
    """Not those of before that it merges, and of its line, which must stay as it was, it is no part."""
    audit = tmp_path / "audit"
    for name in ("a", "b"):
        died = Journal(audit)
        died.append(decided(decision_id=name, timestamp="2025-01-01T00:00:00+00:00"))
        died.close()
        (made,) = seal(audit).seals
        assert made.unknown == 1
    assert made.segments[0].rows == 2, "merged"
    died.append(completed(decision_id="b"))
    died.close()
    assert [each.unknown for each in seal(audit).seals] == [0]
    assert "unknown" not in (audit / "seals.jsonl").read_text()


async def test_a_sealing_that_fails_is_counted(
    sealing: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each time, and said once; records are taken as before."""
    made = await sealing()
    assert made.telemetry.points(SEAL_ERRORS) == {(): 0}
    (made.audit / "seals.jsonl").write_text("{}\n")
    await sealing()
    failed = made.telemetry.points(SEAL_ERRORS)[()]
    assert failed >= 1
    await sealing()
    assert made.telemetry.points(SEAL_ERRORS)[()] > failed
    assert len([each for each in caplog.records if "its journal stays" in each.getMessage()]) == 1
    assert counted(made)[0] == counted(made)[1]


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sealer takes the Python to be that it is started with."""
    path = tmp_path / "python-fake"
    monkeypatch.setattr(seal_trigger.sys, "executable", str(path))
    monkeypatch.setattr(seal_trigger, "_LONGEST_S", 0.5)
    return path


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "no such file"),
        ("#!/nowhere/sh\n", "no such file"),
        ("#!/bin/sh\nkill -9 $$\n", "ended with status -9"),
        ("#!/bin/sh\nexec sleep 60\n", "timed out after 0.5 seconds"),
        ("#!/bin/sh\necho nonsense\n", "JSON is malformed"),
    ],
)
async def test_a_sealer_that_cannot_do_its_work_is_said_and_counted(
    sealing: Callable[[], Any],
    interpreter: Path,
    caplog: pytest.LogCaptureFixture,
    script: str | None,
    why: str,
) -> None:
    """It cannot be started, dies, hangs or writes what is no seal: nothing is held up, and files stay."""
    if script is not None:
        interpreter.write_text(script)
        interpreter.chmod(0o700)
    made = await sealing()
    assert made.telemetry.points(SEAL_ERRORS)[()] >= 1
    (warning,) = [each.getMessage() for each in caplog.records if "its journal stays" in each.getMessage()]
    assert why in warning.lower() or why in warning
    assert len(files(made.audit)) == 4


def test_one_sealer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often there is something to seal while it is at work, nothing queues up behind it."""
    started, go_on = [], threading.Event()
    it = seal_trigger.SealTrigger(tmp_path)
    monkeypatch.setattr(it, "_seal", lambda: (started.append(os.getpid()), go_on.wait(10), [])[2])
    for _ in range(100):
        it.start(None, None)
    assert len([each for each in threading.enumerate() if each.name == "aegis-sealer"]) == 1
    go_on.set()
    while it._busy.locked():
        pass
    assert len(started) == 1
