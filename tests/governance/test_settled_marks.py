"""How a call ended is kept with its marks, whatever becomes of the call, of the state and of the process."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, RuntimeHooks
from aegis_otel.governance import refusal
from aegis_otel.governance.call import Origin
from aegis_otel.governance.past_calls import PastCalls
from aegis_otel.model import Outcome
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.sqlite import SqliteState
from tests.governance.test_past_calls import FILE, ONCE, ONCE_TEXT, marks, run
from tests.support.kit import make_bench

ACTION, OTHER = (Action("charge", params={"order": order}) for order in "AB")
ORIGIN = Origin("charge", run_id="run")


class BrokenState(SqliteState):
    def settle(self, decision_id: str, outcome: str | None) -> None:
        raise MemoryError("none left")


async def test_a_tool_answers_though_how_it_ended_cannot_be_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(tmp_path / "audit", policy=ONCE)
    governor = bench.runtime.governor
    governor.past_calls = PastCalls(BrokenState(tmp_path / FILE), "session", RealSystem(), governor.signals)

    async def answer() -> str:
        return "charged"

    call = await governor.authorize(ACTION, ORIGIN)
    assert await governor.run(call, answer) == "charged"
    assert marks(tmp_path) == [(None,)]
    assert "MemoryError: none left" in caplog.text
    assert bench.row()["result_status"] == "success"


async def test_how_it_ended_is_kept_though_the_agent_is_cancelled_while_it_waits_for_that(
    tmp_path: Path,
) -> None:
    bench, has_run = make_bench(tmp_path, policy=ONCE), asyncio.Event()
    governor = bench.runtime.governor

    async def body() -> None:
        has_run.set()

    first = await governor.authorize(ACTION, ORIGIN)
    second = await governor.authorize(OTHER, ORIGIN)
    with locked(tmp_path / FILE):
        # The second waits for its turn: what has not begun is what a cancellation could take away.
        tasks = [asyncio.create_task(governor.run(call, body)) for call in (first, second)]
        await has_run.wait()
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [True, True]
    until = time.monotonic() + 5
    while marks(tmp_path) != [(1,), (1,)] and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert marks(tmp_path) == [(1,), (1,)]


class BrokenLogger(AuditLogger):
    def digest(self, payload: bytes) -> str:
        raise MemoryError("none left")


@pytest.mark.parametrize("hooks", [None, RuntimeHooks()], ids=["hooks", "no hooks"])
async def test_a_call_gives_its_mark_back_that_cannot_be_recorded(
    tmp_path: Path, hooks: RuntimeHooks | None
) -> None:
    bench = make_bench(tmp_path, policy=ONCE, hooks=hooks)
    governor = bench.runtime.governor
    journal, governor.journal = governor.journal, BrokenLogger(tmp_path)
    first = await run(bench, ACTION)
    governor.journal = journal
    second = await run(bench, ACTION)
    assert [first.outcome, second.outcome] == [Outcome.ERROR, Outcome.ALLOWED], (
        "nothing ran before the second"
    )
    assert marks(tmp_path) == [(1,)]
    assert {row["decision_id"] for row in bench.rows()} == {
        first.record.decision_id,
        second.record.decision_id,
    }


async def test_a_call_that_cannot_be_recorded_and_runs_all_the_same_keeps_its_mark(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=ONCE, mode="monitor")
    governor = bench.runtime.governor
    governor.journal = BrokenLogger(tmp_path)
    call = await run(bench, ACTION)
    assert (call.outcome, call.refusal) == (Outcome.ERROR, None)
    assert marks(tmp_path) == [(1,)]


@pytest.mark.parametrize(
    "options",
    [{"fault": refusal.UNAVAILABLE}, {"resumed": True, "answered": True}],
    ids=["not understood", "answer used before"],
)
async def test_what_monitor_mode_runs_in_spite_of_a_fault_has_left_a_mark(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    bench = make_bench(tmp_path, policy=ONCE, mode="monitor")

    async def answer() -> None:
        return None

    governor = bench.runtime.governor
    call = await governor.authorize(ACTION, ORIGIN, **options)
    assert (call.outcome, call.refusal) == (Outcome.ERROR, None)
    await governor.run(call, answer)
    assert marks(tmp_path) == [(1,)]


async def test_what_a_fault_refuses_leaves_no_mark(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=ONCE)
    call = await bench.runtime.governor.authorize(ACTION, ORIGIN, fault=refusal.UNAVAILABLE)
    assert call.refusal is not None
    await run(bench, OTHER)
    assert marks(tmp_path) == [(1,)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock for writing, as another process may."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


PROGRAM = """
import asyncio, sys
from aegis_otel import Action, Policy
from aegis_otel.governance.call import Origin
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.runtime import Runtime

policy, audit, patience = sys.argv[1:]
governor = Runtime(policy=Policy.from_text(policy), audit_logger=AuditLogger(audit)).governor

async def body():
    pass

async def main():
    actions = [Action("charge", params={"order": order}) for order in range(4)]
    calls = [await governor.authorize(action, Origin("charge", run_id="run")) for action in actions]
    print("permitted", flush=True)
    sys.stdin.readline()
    tasks = [asyncio.create_task(governor.run(call, body)) for call in calls]
    await asyncio.wait(tasks, timeout=float(patience))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print("over", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


@contextmanager
def process(audit: Path, patience: float = 0.1) -> Iterator[subprocess.Popen[str]]:
    """A process with outcomes that it could not keep. It ends with its next line, or after the context."""
    command, pipe = [sys.executable, "-c", PROGRAM, ONCE_TEXT, str(audit), str(patience)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "permitted\n"
        with locked(audit / FILE):
            end(program)
            assert program.stdout.readline() == "over\n"
            yield program


def end(program: subprocess.Popen[str]) -> None:
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()


def test_a_process_ends_when_it_has_kept_how_its_last_calls_ended(tmp_path: Path) -> None:
    with process(tmp_path / "audit") as program:
        end(program)
        time.sleep(0.3)
        assert program.poll() is None
    assert program.wait(10) == 0
    assert marks(tmp_path / "audit") == [(1,)] * 4


def test_a_process_ends_though_it_cannot_keep_how_its_last_calls_ended(tmp_path: Path) -> None:
    with process(tmp_path / "audit") as program:
        _, log = program.communicate("\n", timeout=60)
    assert program.returncode == 0
    assert "ended is not known to later calls" in log
    assert marks(tmp_path / "audit") == [(None,)] * 4


def test_a_process_that_ends_after_its_state_was_away_keeps_how_its_calls_ended(tmp_path: Path) -> None:
    with process(tmp_path / "audit", patience=10):  # until each call has waited for it in vain
        assert marks(tmp_path / "audit") == [(None,)] * 4
    assert marks(tmp_path / "audit") == [(1,)] * 4


def test_a_process_that_ends_while_its_state_is_away_tries_once_more(tmp_path: Path) -> None:
    """What its thread has tried in vain while the process ended is not lost."""
    with process(tmp_path / "audit") as program:
        end(program)
        time.sleep(2.6)  # its thread has waited for 2 seconds by then
        assert program.poll() is None
    assert program.wait(10) == 0
    assert marks(tmp_path / "audit") == [(1,)] * 4
