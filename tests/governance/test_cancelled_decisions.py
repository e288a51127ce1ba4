"""Calls that are cancelled while a thread decides on them: each has its row, and none leaves a mark."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aegis_otel import Action
from aegis_otel.governance.approvals.paused.paused_calls import ShownCall
from aegis_otel.governance.approvals.paused.paused_rows import Step
from aegis_otel.governance.approvals.question import ApprovalAnswer
from aegis_otel.governance.call import Call, Origin
from aegis_otel.model import Outcome
from aegis_otel.runtime.system import RealSystem
from tests.governance.test_past_calls import ASKED_LIMIT, ONCE, marks, outcomes, run
from tests.support.kit import Bench, make_bench

T = TypeVar("T")
ORDER = {"order": "A"}
ORIGIN = Origin(tool_name="charge", tool_call_id="c1", run_id="run", size=20)


class CancellingSystem(RealSystem):
    """A system that cancels the task which waits for the nth piece of work in a thread, some times over."""

    def __init__(self, at: int, times: int = 1) -> None:
        super().__init__()
        self.left, self.times = at, times

    def off_loop(self, work: Callable[[], T]) -> Awaitable[T]:  # type: ignore[override]
        return RealSystem.off_loop(self._cancelling(work))

    def with_state(self, work: Callable[[], T]) -> Awaitable[T]:  # type: ignore[override]
        return RealSystem.with_state(self._cancelling(work))

    def _cancelling(self, work: Callable[[], T]) -> Callable[[], T]:
        self.left -= 1
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if self.left or task is None:
            return work

        def slow() -> T:
            for _ in range(self.times):
                loop.call_soon_threadsafe(task.cancel)
            done = work()
            loop.call_soon_threadsafe(task.cancel)
            return done

        return slow


async def cancelled(bench: Bench, system: RealSystem, deciding: Callable[[], Awaitable[Any]]) -> None:
    governor = bench.runtime.governor
    before, governor.system = governor.system, system
    governor.past_calls._system = system
    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(deciding())
    governor.system = governor.past_calls._system = before
    await settled()


async def settled() -> None:
    """Wait until what was given to the one thread for it is done."""
    await asyncio.wrap_future(RealSystem.in_background(lambda: None))


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
async def test_while_its_past_is_looked_up(tmp_path: Path, mode: str, times: int) -> None:
    bench = make_bench(tmp_path, policy=ONCE, mode=mode)
    action = Action("charge", params=ORDER)
    await cancelled(
        bench, CancellingSystem(1, times), lambda: bench.runtime.governor.authorize(action, ORIGIN)
    )
    row = bench.row()
    assert (row["action_type"], row["result_status"], row["outcome"]) == ("charge", "cancelled", "allowed")
    assert marks(tmp_path) == []
    assert await outcomes(bench, [action]) == [Outcome.ALLOWED], "it is none that went before"
    assert len(bench.telemetry.events("aegis.tool.decision")) == 2


async def test_while_its_arguments_are_judged(tmp_path: Path) -> None:
    """Large ones are, in a thread, whatever the policy asks about."""
    bench = make_bench(tmp_path)
    for type_, outcome in ("search", "allowed"), ("delete_x", "blocked"), ("write_x", "expired"):
        action, origin = Action(type_, params={"text": "x" * 9_000}), Origin(size=9_000)
        await cancelled(
            bench, CancellingSystem(1), lambda a=action, o=origin: bench.runtime.governor.authorize(a, o)
        )
        row = bench.rows()[-1]
        assert (row["action_type"], row["outcome"]) == (type_, outcome)
        assert row["result_status"] == ("blocked" if outcome == "blocked" else "cancelled")


async def test_while_a_yes_is_checked_again(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, True, True, policy=ASKED_LIMIT)
    await cancelled(bench, CancellingSystem(2), lambda: run(bench, Action("charge")))
    row = bench.row()
    assert (row["human_decision"], row["outcome"], row["result_status"]) == (
        "approved",
        "approved",
        "cancelled",
    )
    assert marks(tmp_path) == []
    assert await outcomes(bench, [Action("charge")]) == [Outcome.APPROVED]


@pytest.mark.parametrize(("at", "status"), [(1, "pending"), (2, "cancelled"), (3, "cancelled")])
async def test_while_it_is_resumed(tmp_path: Path, at: int, status: str) -> None:
    """Before its answer is claimed nothing has happened, and it can be resumed again."""
    bench = make_bench(tmp_path, policy=ASKED_LIMIT)
    governor, action = bench.runtime.governor, Action("charge", params=ORDER)
    paused, shown = governor.paused_calls, json.dumps(ORDER)
    step = await paused.next_step(
        action, ORIGIN, shown, None, tool_asks=False, trusted=False, waited=False, inside=False
    )
    assert step.step is Step.PAUSE
    assert paused.pause(step.question)
    waiting = paused.find(ShownCall("c1", "charge", None, shown), "run")
    assert waiting is not None
    paused.answer(waiting, shown, [ApprovalAnswer(True)])

    def resume() -> Awaitable[Call]:
        return governor.authorize(action, ORIGIN, resumed=True, answered=True)

    await cancelled(bench, CancellingSystem(at), resume)
    row = bench.row()
    assert (row["action_type"], row["human_decision"], row["result_status"]) == ("charge", "approved", status)
    assert marks(tmp_path) == []
    again = await resume()
    assert again.refusal is None if status == "pending" else again.record.reason == "approval_used"
