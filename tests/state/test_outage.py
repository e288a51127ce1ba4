"""The state is out of reach while a program runs: what needs it is refused within seconds, all else runs."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy
from aegis_otel.errors import StateError
from aegis_otel.governance.call import Call, Origin
from aegis_otel.model import Outcome
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.opening import open_state
from tests.support.kit import Bench, make_bench
from tests.support.postgres import Server, wait_for
from tests.support.state import mark_one, tally

LIMITED = Policy.from_text(
    """
version: "1"
defaults: {approval: auto}
rules:
- {name: limit, match: {type: charge}, conditions: {calls_over: {limit: 1000, within: 1h}}, approval: block}
"""
)
CHARGE, SEARCH = Action("charge"), Action("search", params={"query": "a" * 100_000})


async def authorize(bench: Bench, action: Action) -> Call:
    return await bench.runtime.governor.authorize(
        action, Origin(tool_name=action.type, size=len(str(action)))
    )


async def run(bench: Bench, action: Action, body: Any = None) -> Call:
    async def nothing() -> None:
        return None

    call = await authorize(bench, action)
    if call.refusal is None:
        await bench.runtime.governor.run(call, body or nothing)
    return call


class Lock:
    """Another process has the file, and lets it go when it is asked to."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


def marks(path: Path) -> list[int | None]:
    """How the marked calls have ended: 1, 0, or None where it is not known."""
    connection = sqlite3.connect(path)
    found = [ended for (ended,) in connection.execute("SELECT succeeded FROM mark ORDER BY marked_at")]
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


async def test_who_needs_no_state_does_not_wait_for_those_that_do(tmp_path: Path, path: Path) -> None:
    """A large call goes on at once, and a hundred that need the state are refused within seconds."""
    bench = make_bench(tmp_path, policy=LIMITED)
    await run(bench, CHARGE)
    lock = Lock(path)
    began = time.monotonic()
    limited = [asyncio.ensure_future(authorize(bench, CHARGE)) for _ in range(100)]
    await asyncio.sleep(0.05)
    call = await authorize(bench, SEARCH)
    assert call.outcome is Outcome.ALLOWED
    assert time.monotonic() - began < 1.9
    assert {call.outcome for call in await asyncio.gather(*limited)} == {Outcome.BLOCKED}
    assert time.monotonic() - began < 30
    lock.let_go()


async def test_threads_that_hang_hold_up_no_other_call(tmp_path: Path) -> None:
    """Every thread that asks the state waits, for a disk or a name server, longer than anybody should."""
    bench, end = make_bench(tmp_path, policy=LIMITED), threading.Event()
    await run(bench, CHARGE)
    hanging = [asyncio.ensure_future(RealSystem.with_state(lambda: end.wait(60))) for _ in range(8)]
    try:
        began = time.monotonic()
        calls = await asyncio.gather(*[authorize(bench, CHARGE) for _ in range(20)])
        assert 2 < time.monotonic() - began < 20
        assert {call.outcome for call in calls} == {Outcome.BLOCKED}
        assert (await authorize(bench, SEARCH)).outcome is Outcome.ALLOWED
    finally:
        end.set()
        await asyncio.gather(*hanging)
    assert (await run(bench, CHARGE)).outcome is Outcome.ALLOWED
    assert marks(tmp_path / "state.sqlite3") == [1, 1], "what was given up has left no mark"


@pytest.mark.parametrize("approval", ["block", "approve"])
async def test_where_the_state_is_stands_in_the_log_alone(
    tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture, approval: str
) -> None:
    """Its path or host is nothing that a model, or whoever reads the audit, has to know."""
    policy = Policy.from_text(
        f"""
version: "1"
defaults: {{approval: auto}}
rules:
- name: limit
  match: {{type: charge}}
  conditions: {{calls_over: {{limit: 1, within: 1h}}}}
  approval: {approval}
"""
    )
    bench = make_bench(tmp_path, policy=policy)
    await run(bench, CHARGE)
    lock = Lock(path)
    call = await authorize(bench, CHARGE)
    lock.let_go()
    assert call.refusal is not None
    text = f"{call.refusal} {call.refused_for} {call.decision} {bench.rows()} {bench.heard}"
    assert "cannot be reached" in text
    assert path.name not in text
    assert f"`{path}` was locked by another process" in caplog.text


async def test_answers_of_tools_do_not_wait_for_one_another(tmp_path: Path, path: Path) -> None:
    """Bodies that have run return within seconds. How they ended is kept once the state is back."""
    bench = make_bench(tmp_path, policy=LIMITED)
    await run(bench, CHARGE)
    end = asyncio.Event()
    calls = [asyncio.ensure_future(run(bench, CHARGE, end.wait)) for _ in range(12)]
    while len(marks(path)) < 13:
        await asyncio.sleep(0.01)
    lock = Lock(path)
    began = time.monotonic()
    end.set()
    await asyncio.gather(*calls)
    assert time.monotonic() - began < 12, "12 times 2 seconds, one after the other"
    lock.let_go()
    await goes_on(bench)
    assert marks(path) == [1] * 14


async def goes_on(bench: Bench) -> None:
    """Wait until a call runs that needs the state."""
    until = time.monotonic() + 15
    while (await run(bench, CHARGE)).outcome is not Outcome.ALLOWED:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_a_server_that_is_gone_under_load(
    tmp_path: Path, own_server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nothing more runs that needs it, everything else does; it comes back, and all goes on."""
    monkeypatch.setenv("AEGIS_STATE", own_server.address())
    bench = make_bench(tmp_path, policy=LIMITED)
    await run(bench, CHARGE)
    is_over, seen = False, list[tuple[bool, Outcome | None, float]]()
    is_gone = False

    async def agent(action: Action) -> None:
        while not is_over:
            began, before = time.monotonic(), is_gone
            call = await run(bench, action)
            if before is is_gone:  # else nobody knows which of both it found
                seen.append((is_gone and action is CHARGE, call.outcome, time.monotonic() - began))
            await asyncio.sleep(0.01)

    agents = [asyncio.ensure_future(agent(action)) for action in [CHARGE] * 12 + [SEARCH] * 4]
    await asyncio.sleep(1)
    await asyncio.to_thread(own_server.stop if how == "stopped" else own_server.freeze)
    is_gone = True
    await asyncio.sleep(5)
    is_gone = False
    await asyncio.to_thread(own_server.start if how == "stopped" else own_server.go_on)
    await asyncio.to_thread(wait_for, own_server)
    await goes_on(bench)
    is_over = True
    await asyncio.gather(*agents)
    assert {outcome for needs, outcome, _ in seen if needs} == {Outcome.BLOCKED}
    assert max(took for _, _, took in seen) < 7
    others = [(outcome, took) for needs, outcome, took in seen if not needs]
    assert len(others) > 100
    (row,) = own_server.run("SELECT count(*) FROM aegis.mark")
    assert row >= (
        sum(row["action_type"] == "charge" and row["outcome"] == "allowed" for row in bench.rows()),
    )


def test_a_state_that_was_out_of_reach_for_long_is_not_tried_by_everybody(path: Path) -> None:
    """The failure of one caller is that of those after it, for as long as it took; then one tries again."""
    state = open_state(f"sqlite:///{path}")
    mark_one(state, "d", "a")
    lock = Lock(path)
    assert failing(lambda: mark_one(state, "d2", "a")) > 1.5
    assert failing(lambda: mark_one(state, "d2", "a")) < 0.1
    assert failing(lambda: state.read([])) < 0.1
    lock.let_go()
    time.sleep(2.1)
    assert tally(state, "a").calls == 1


def failing(call: Callable[[], object]) -> float:
    """Return the seconds after which a call raises StateError."""
    began = time.monotonic()
    with pytest.raises(StateError):
        call()
    return time.monotonic() - began


def test_how_calls_ended_meanwhile_is_kept_later(path: Path) -> None:
    """With the next call that ends, or when the program closes the state."""
    state = open_state(f"sqlite:///{path}")
    for number in range(4):
        mark_one(state, f"d{number}", "a")
    lock = Lock(path)
    for number, outcome in enumerate(["success", "failed", None]):
        with suppress(StateError):
            state.settle(f"d{number}", outcome)
    lock.let_go()
    assert marks(path) == [None] * 4
    time.sleep(2.1)
    state.settle("d3", "success")
    assert marks(path) == [1, 0, 1]
