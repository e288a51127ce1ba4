"""K8: questions that wait have a budget of threads and connections; what it refuses is said in the row."""

from __future__ import annotations

import asyncio
import os
import pty
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aegis_otel import Action, PolicyDecision, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance.call import Origin
from aegis_otel.runtime.approval import (
    ApprovalHandler,
    CallbackApprovalHandler,
    CLIApprovalHandler,
    WebhookApprovalHandler,
    current_question,
)
from tests.cases.paused_runs import ASKS, Desk
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action=action, status=ResultStatus.SUCCESS)


class Threads:
    """The most threads there were at once while this lasts, beside those that were there before.

    The one that ends rows in the background is not counted: it works when the audit is sealed, whoever waits.
    """

    def __init__(self) -> None:
        self._before, self.most, self._done = self._count(), 0, asyncio.Event()

    @staticmethod
    def _count() -> int:
        return sum(thread.name != "aegis-background" for thread in threading.enumerate())

    async def __aenter__(self) -> Threads:
        self._task = asyncio.create_task(self._watch())
        return self

    async def _watch(self) -> None:
        while not self._done.is_set():
            self.most = max(self.most, self._count() - self._before)
            await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        await self._task


async def ask_at_once(b: Bench, count: int) -> list[Result]:
    return list(
        await asyncio.gather(*(b.runtime.run_one(Action("write_x", params={"n": n})) for n in range(count)))
    )


@pytest.fixture
def terminal() -> Iterator[CLIApprovalHandler]:
    keyboard, inside = pty.openpty()
    with open(inside) as stdin, open(os.devnull, "w") as out:
        yield CLIApprovalHandler(stdin=stdin, stdout=out)
    os.close(keyboard)


async def test_k8_questions_at_the_terminal_have_one_thread(
    bench: BENCH, terminal: CLIApprovalHandler
) -> None:
    """However many wait; those that were never shown say so."""
    b = bench(approver=terminal, executor=Executor(), timeout=1.0)
    async with Threads() as threads:
        results = await ask_at_once(b, 300)
    assert threads.most <= 1
    assert {result.error for result in results} == {"Approval timed out"}
    errors = [row["result_error"] for row in b.rows()]
    never_shown = "Approval timed out: it was never shown, because the terminal asks one at a time"
    # On a busy machine they do not all run out at one moment, and a few more have their turn meanwhile.
    assert 270 <= errors.count(never_shown) < 300


async def test_k8_questions_in_hundreds_start_one_thread(bench: BENCH, terminal: CLIApprovalHandler) -> None:
    """And no step of theirs holds the loop for long: measured as CPU of the loop's thread."""
    b = bench(approver=terminal, executor=Executor(), timeout=0.5)
    steps: list[float] = []
    run = asyncio.events.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begun = time.thread_time()
        run(handle)
        steps.append(time.thread_time() - begun)

    import gc

    gc.collect()
    gc.disable()  # a collection is no step of ours
    asyncio.events.Handle._run = timed  # type: ignore[method-assign]
    try:
        async with Threads() as threads:
            calls = [asyncio.ensure_future(b.runtime.run_one(Action("write_x"))) for _ in range(2_000)]
            steps.clear()
            await asyncio.wait(calls)
    finally:
        asyncio.events.Handle._run = run  # type: ignore[method-assign]
        gc.enable()
    assert threads.most <= 1
    assert sorted(steps)[-20] < 0.01  # but for what a busy machine adds to a few of ten thousand
    assert all(row["human_decision"] == "expired" for row in b.rows())


async def test_k8_functions_that_are_asked_have_64_threads_holds(bench: BENCH) -> None:
    """The others wait, and each gets its answer in its turn."""
    b = bench(approver=CallbackApprovalHandler(slow), executor=Executor(), timeout=30)
    async with Threads() as threads:
        results = await ask_at_once(b, 400)
    assert all(result.ok for result in results)
    assert 2 <= threads.most <= 64


def slow(decision: Any) -> bool:
    time.sleep(0.01)
    return True


async def test_k8_a_function_whose_turn_never_came_is_named(bench: BENCH) -> None:
    """64 that hang: the next questions are denied, and the row says that nobody was asked."""
    hanging = threading.Event()
    b = bench(
        approver=CallbackApprovalHandler(lambda decision: hanging.wait(60)), executor=Executor(), timeout=1
    )
    try:
        await ask_at_once(b, 70)
    finally:
        hanging.set()
    errors = [row["result_error"] for row in b.rows()]
    never = "Approval timed out: its turn never came, because 64 other functions had not returned"
    assert errors.count(never) == 6
    assert errors.count("Approval timed out") == 64


async def test_k8_more_questions_than_wait_are_denied_at_once(
    bench: BENCH, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the budget there is an answer: no, and why."""
    monkeypatch.setattr("aegis_otel.runtime.approval.handler_threads.MOST_WAITING", 10)
    hanging = threading.Event()
    b = bench(
        approver=CallbackApprovalHandler(lambda decision: hanging.wait(60)), executor=Executor(), timeout=1
    )
    try:
        await ask_at_once(b, 100)
    finally:
        hanging.set()
    errors = [row["result_error"] for row in b.rows()]
    refused = "Approval could not be obtained: 10 questions wait already"
    assert errors.count(refused) >= 20
    assert errors.count("Approval timed out") == 64


class Slow(BaseHTTPRequestHandler):
    """Counts how many requests there are at once."""

    lock = threading.Lock()
    now = most = 0

    def do_POST(self) -> None:
        with Slow.lock:
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
        time.sleep(0.02)
        self.rfile.read(int(self.headers["content-length"]))
        with Slow.lock:
            Slow.now -= 1
        self.send_response(500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1_000
    daemon_threads = True


async def test_k8_a_webhook_is_asked_by_100_requests_at_once(bench: BENCH) -> None:
    """And a question that waits holds no connection."""
    Slow.most = 0
    server = Server(("127.0.0.1", 0), Slow)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    handler = WebhookApprovalHandler(f"http://127.0.0.1:{server.server_port}/", secret=SECRET)
    b = bench(approver=handler, executor=Executor(), timeout=60)
    try:
        await ask_at_once(b, 300)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert 2 <= Slow.most <= 100
    assert all("status 500" in row["result_error"] for row in b.rows())


async def test_k8_a_program_that_uses_up_the_executor_holds_nobody_up(bench: BENCH) -> None:
    """Large arguments are decided on in threads of ours, whatever the program does with asyncio's."""
    loop, busy = asyncio.get_running_loop(), threading.Event()
    from concurrent.futures import ThreadPoolExecutor

    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, busy.wait, 60)
    b = bench(executor=Executor())
    try:
        result = await asyncio.wait_for(b.runtime.run_one(Action("search", params={"q": "x" * 50_000})), 10)
    finally:
        busy.set()
        await blocked
    assert result.ok


async def test_k8_threads_begin_again_after_a_fork_holds(bench: BENCH) -> None:
    """A forked worker that is asked has threads of its own."""
    b = bench(approver=CallbackApprovalHandler(slow), executor=Executor(), timeout=30)
    await ask_at_once(b, 3)
    await b.runtime.run_one(Action("search", params={"q": "x" * 50_000}))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            loop = asyncio.new_event_loop()
            asyncio.events._set_running_loop(None)
            large = loop.run_until_complete(b.runtime.run_one(Action("search", params={"q": "x" * 50_000})))
            asked = loop.run_until_complete(b.runtime.run_one(Action("write_x")))
            os.write(writer, b"ok" if large.ok and asked.ok else b"no")
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        assert await asyncio.wait_for(asyncio.to_thread(said.read), 30) == b"ok"
    os.waitpid(child, 0)


async def test_k8_a_withdrawn_question_is_never_put(bench: BENCH) -> None:
    """What waited for its turn and was cancelled is not asked when the turn comes."""
    asked: list[int] = []
    free = threading.Event()

    class Counting(ApprovalHandler):
        async def request_approval(self, decision: Any) -> bool:
            return await CallbackApprovalHandler(self.callback).request_approval(decision)

        def callback(self, decision: Any) -> bool:
            asked.append(decision.action.params["n"])
            return free.wait(30)

    b = bench(approver=Counting(), executor=Executor(), timeout=30)
    calls = [asyncio.ensure_future(b.runtime.run_one(Action("write_x", params={"n": n}))) for n in range(80)]
    while len(asked) < 64:
        await asyncio.sleep(0.005)
    last = calls[-1]
    last.cancel()
    await asyncio.wait({last})
    free.set()
    await asyncio.gather(*calls[:-1])
    assert sorted(asked) == list(range(79))


HOSTILE = "x password=hunter2222 "
"""A text that is nothing but secrets, of which redaction takes longest."""


async def test_k8_a_description_of_megabytes_does_not_hold_the_loop(bench: BENCH) -> None:
    """What an MCP server says of its tool is redacted and shown to its beginning, and says how long it is."""
    seen: list[str] = []

    class Asked(ApprovalHandler):
        channel = "asked"

        async def request_approval(self, decision: PolicyDecision) -> bool:
            seen.append(current_question().action_description)
            return True

    b = bench(approver=Asked(), executor=Executor())
    await b.runtime.run_one(Action("write_x", description=HOSTILE))
    begun = time.process_time()
    text = HOSTILE * 100_000
    assert (await b.runtime.run_one(Action("write_x", description=text))).ok
    assert time.process_time() - begun < 0.5
    assert "hunter2222" not in "".join(seen)
    assert len(seen[1]) < 3_000
    assert seen[1].endswith(f"[CUT {len(text):,} characters in all]")


async def test_k8_names_of_megabytes_do_not_hold_the_loop(bench: BENCH) -> None:
    """Names and ids come from servers and models; those that differ at their ends stay apart."""
    b = bench(executor=Executor())
    begun = time.process_time()
    for end in "xy":
        call = await b.runtime.governor.authorize(
            Action("search", agent=HOSTILE * 50_000 + end), Origin(tool_call_id=HOSTILE * 50_000 + end)
        )
        b.runtime.governor.abandon(call, RecordStatus.SKIPPED, None, never_ran=True)
    assert time.process_time() - begun < 0.5
    first, second = b.rows()
    for name in ("agent_name", "tool_call_id"):
        assert first[name] != second[name]
        assert "hunter2222" not in first[name]


async def test_k8_an_answer_to_a_call_with_a_long_id_counts(installed: BENCH) -> None:
    """The row has the id cut; the answer is found by it."""
    installed(policy=ASKS, approvals="sdk")
    desk = Desk()
    saved = await desk.paused(call_id="call_" + "0" * 5_000)
    await desk.resumed(await desk.approved(saved))
    assert desk.paid == [5]
