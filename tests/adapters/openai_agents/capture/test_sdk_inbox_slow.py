"""A state that does not answer holds up who takes a yes, and nobody else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import RunState

from aegis_otel.adapters.openai_agents import answered_by
from tests.support.machines import Desk, Machines

HOLDS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the file of the state in another process: this one would lose its own locks on it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@pytest.mark.parametrize("answered", ["in the program", "on the page"])
async def test_who_answers_does_not_wait_for_who_takes_a_yes(
    answered: str, machine: Machines, desk: Desk, tmp_path: Path
) -> None:
    """An answer in the program is written on the event loop, so it must not wait for the state."""
    with machine("a") as a:
        saved = await a.pause(1, "c1")
        if answered == "on the page":
            desk.say()
        else:
            state = await RunState.from_string(a.agent(), saved)
            with answered_by("ann@ops"):
                state.approve(state.get_interruptions()[0])
            saved = state.to_string()
        other = await RunState.from_string(a.agent(), await a.pause(2, "c2"))
        await asyncio.sleep(0.5)  # what follows the answer in the background is done
        with held(tmp_path / "state.sqlite3"):
            resumed = asyncio.ensure_future(a.resume(saved))
            await asyncio.sleep(0.5)
            began = time.monotonic()
            with answered_by("ann@ops"):
                other.approve(other.get_interruptions()[0])
            took = time.monotonic() - began
            assert not resumed.done()
            await resumed
        assert (a.ran, took < 0.75) == ([], True)
