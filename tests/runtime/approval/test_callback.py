"""A function is asked: what counts as its answer, and that it holds nothing up."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import ApprovalAnswer, CallbackApprovalHandler, current_question
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
UNOBTAINABLE = "Approval could not be obtained"
TIMED_OUT = "Approval timed out"


class Executor(BaseExecutor):
    """Remembers what it carried out."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def execute(self, action: Action) -> Result:
        self.did.append(action.type)
        return Result(action=action, status=ResultStatus.SUCCESS)


async def ask(bench: BENCH, callback: Any, *, timeout: float = 5.0) -> tuple[Bench, Result]:
    """One action that needs approval; its body ran exactly when the result is a success."""
    executor = Executor()
    b = bench(approver=CallbackApprovalHandler(callback), executor=executor, timeout=timeout)
    result = await b.runtime.run_one(Action("write_x", "store", {"table": "users"}))
    assert executor.did == (["write_x"] if result.ok else [])
    return b, result


async def coroutine(decision: PolicyDecision, answer: Any) -> Any:
    await asyncio.sleep(0)
    return answer


class Callable_:
    async def __call__(self, decision: PolicyDecision) -> bool:
        return decision.action.params["table"] == "users"


@pytest.mark.parametrize(
    ("callback", "outcome"),
    [
        (lambda decision: decision.action.params["table"] == "users", "approved"),
        (lambda decision: decision.action.params["table"] != "users", "denied"),
        (functools.partial(coroutine, answer=True), "approved"),
        (functools.partial(coroutine, answer=False), "denied"),
        (lambda decision: coroutine(decision, True), "approved"),
        (lambda decision: coroutine(decision, False), "denied"),
        (Callable_(), "approved"),
    ],
    ids=["sync yes", "sync no", "async yes", "async no", "coroutine yes", "coroutine no", "async object"],
)
async def test_inventory_84_sync_and_async(callback: Any, outcome: str, bench: BENCH) -> None:
    """Each kind of function is asked, and row, event, count and span say what it answered."""
    b, result = await ask(bench, callback)
    assert result.ok is (outcome == "approved")
    row = b.row()
    assert row["human_decision"] == outcome
    (event,) = b.telemetry.events("aegis.tool.decision")
    (asked,) = b.telemetry.spans("await_approval")
    assert event["aegis.decision.outcome"] == outcome
    assert event["aegis.decision.id"] == asked.attributes["aegis.decision.id"] == row["decision_id"]
    assert asked.attributes["aegis.approval.channel"] == "callback"
    assert [n for n in b.telemetry.points("aegis.decisions").values() if n] == [1]


@pytest.mark.parametrize("answer", [True, False])
async def test_b26_a_task_or_future_is_awaited(answer: bool, bench: BENCH) -> None:
    """A sync function that hands out a Task or a Future is answered by what that comes to."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(0.01, future.set_result, answer)
    for waited in (future, asyncio.create_task(coroutine(None, answer))):  # type: ignore[arg-type]
        b, result = await ask(bench, lambda decision, waited=waited: waited)
        assert result.ok is answer
        assert b.rows()[-1]["human_decision"] == ("approved" if answer else "denied")


@pytest.mark.parametrize(
    "answer",
    ["denied", "approved", "true", 1, 1.0, None, [True], {"approved": True}, object(), True.__class__],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_b26_only_true_approves(answer: Any, kind: str, bench: BENCH) -> None:
    """What is neither True nor False is no answer, whatever its truth value: denied, and so recorded."""

    async def asynchronous(decision: PolicyDecision) -> Any:
        return answer

    b, result = await ask(bench, asynchronous if kind == "async" else lambda decision: answer)
    assert (result.status, result.error) == (ResultStatus.DENIED, UNOBTAINABLE)
    row = b.row()
    assert (row["human_decision"], row["reason"], row["result_status"]) == (None, "approval_error", "denied")


async def test_an_awaitable_that_gives_an_awaitable_is_no_answer(bench: BENCH) -> None:
    """It is awaited once; what then still has to be waited for did not answer."""
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    future.set_result(True)
    _, result = await ask(bench, functools.partial(coroutine, answer=future))
    assert result.error == UNOBTAINABLE


@pytest.mark.parametrize("error", [RuntimeError("503"), SystemExit(1), StopIteration(), KeyboardInterrupt()])
async def test_b28_a_callback_that_raises_denies(error: BaseException, bench: BENCH) -> None:
    """At once, and neither the program nor the event loop is ended by it."""

    def raises(decision: PolicyDecision) -> bool:
        raise error

    began = time.monotonic()
    b, result = await ask(bench, raises, timeout=30)
    assert (result.error, b.row()["reason"]) == (UNOBTAINABLE, "approval_error")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_no_answer_in_time_is_expired(kind: str, bench: BENCH) -> None:
    """A function that goes on thinking does not keep the call, and its late yes counts for nothing."""
    late = threading.Event()
    left = threading.Event()

    def sync(decision: PolicyDecision) -> bool:
        late.wait(30)
        left.set()
        return True

    async def asynchronous(decision: PolicyDecision) -> bool:
        try:
            await asyncio.sleep(30)
        finally:
            left.set()
        return True

    b, result = await ask(bench, sync if kind == "sync" else asynchronous, timeout=0.05)
    assert (result.status, result.error) == (ResultStatus.DENIED, TIMED_OUT)
    assert b.row()["human_decision"] == "expired"
    late.set()
    assert await asyncio.to_thread(left.wait, 5)
    assert b.row()["result_status"] == "denied"


async def test_the_loop_turns_while_a_sync_callback_blocks(bench: BENCH) -> None:
    """The callback waits for what only the event loop can do: were the loop held, it would expire."""
    turned = threading.Event()
    asyncio.get_running_loop().call_later(0.05, turned.set)
    _, result = await ask(bench, lambda decision: turned.wait(5))
    assert result.ok


async def test_many_callbacks_wait_at_once(bench: BENCH) -> None:
    """Each has a thread of its own: fifty that wait for the fiftieth are all answered."""
    together = threading.Barrier(50)

    def callback(decision: PolicyDecision) -> bool:
        together.wait(10)
        return True

    b = bench(approver=CallbackApprovalHandler(callback), executor=Executor(), timeout=20)
    results = await asyncio.gather(*(b.runtime.run_one(Action("write_x")) for _ in range(50)))
    assert all(result.ok for result in results)


def test_a_callback_that_never_returns_holds_up_no_exit(tmp_path: Path) -> None:
    """The program is over when it is over."""
    program = """
import asyncio, threading
from aegis_otel import Action, Policy, Runtime
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.runtime.approval import CallbackApprovalHandler

class Nothing(BaseExecutor):
    async def execute(self, action): ...

handler = CallbackApprovalHandler(lambda decision: threading.Event().wait())
policy = Policy.from_dict({"version": "1"})
runtime = Runtime(policy=policy, executor=Nothing(), approval_handler=handler, approval_timeout=0.1)
print(asyncio.run(runtime.run_one(Action("pay"))).error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ran.stdout == f"{TIMED_OUT}\n"


async def test_the_callback_sees_which_question_it_is(bench: BENCH) -> None:
    """In its thread and in its coroutine: the row's id, and the arguments to show."""
    seen: list[Any] = []

    def sync(decision: PolicyDecision) -> Any:
        seen.append(current_question())
        return asynchronous()

    async def asynchronous() -> ApprovalAnswer:
        seen.append(current_question())
        return ApprovalAnswer(True, approver="ann@example.com", reason="as agreed")

    b, _ = await ask(bench, sync)
    row = b.row()
    assert seen[0] == seen[1]
    assert (seen[0].decision_id, seen[0].action_params) == (row["decision_id"], '{"table":"users"}')
    assert (row["approver"], row["approval_reason"]) == ("ann@example.com", "as agreed")


async def test_the_approver_named_at_construction(bench: BENCH) -> None:
    """Goes to the row where the answer names nobody."""
    for answer, approver in ((True, "desk"), (ApprovalAnswer(True, "ann"), "ann")):
        handler = CallbackApprovalHandler(lambda decision, answer=answer: answer, approver="desk")
        b = bench(approver=handler, executor=Executor())
        await b.runtime.run_one(Action("write_x"))
        assert b.rows()[-1]["approver"] == approver


def test_what_cannot_be_called_is_refused() -> None:
    """At construction, with what to pass."""
    with pytest.raises(ConfigError, match="`callback` is a `bool`: pass a function of one decision"):
        CallbackApprovalHandler(True)  # type: ignore[arg-type]
