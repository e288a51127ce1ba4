"""K3: why no answer was had is in the row; what the model reads is as it was."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import aegis_otel
from aegis_otel import Action, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.runtime.approval import (
    ApprovalHandler,
    CallbackApprovalHandler,
    NobodyToAsk,
    NoTerminal,
    WebhookApprovalHandler,
)
from tests.support.kit import POLICY, Bench

BENCH = Callable[..., Bench]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
PLAIN = "Approval could not be obtained"


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        raise AssertionError("the body ran")


class NotAsync(ApprovalHandler):
    def request_approval(self, decision: Any) -> bool:  # type: ignore[override]
        return True


def raises(error: BaseException) -> CallbackApprovalHandler:
    def callback(decision: Any) -> bool:
        raise error

    return CallbackApprovalHandler(callback)


CAUSES: dict[str, tuple[Callable[[], ApprovalHandler], str]] = {
    "no terminal": (NoTerminal, "no terminal to ask at"),
    "raises": (lambda: raises(ValueError("not today")), "the handler raised ValueError: not today"),
    "raises a secret": (
        lambda: raises(ValueError("password=hunter2hunter2")),
        "the handler raised ValueError: password=",
    ),
    "answers a text": (
        lambda: CallbackApprovalHandler(lambda decision: "approved"),
        "the handler answered `str`, not True or False",
    ),
    "answers a number": (
        lambda: CallbackApprovalHandler(lambda decision: 1),
        "the handler answered `int`, not True or False",
    ),
    "answers nothing": (
        lambda: CallbackApprovalHandler(lambda decision: None),
        "the handler answered `NoneType`, not True or False",
    ),
    "is not async": (NotAsync, "`request_approval` of the handler must be `async def`"),
    "knows nobody": (lambda: raises(NobodyToAsk("nobody is on call")), "nobody is on call"),
    "says nothing": (lambda: raises(NobodyToAsk()), "there is nobody to ask"),
    "is long": (lambda: raises(ValueError("x" * 10_000)), "the handler raised ValueError: xxx"),
}


@pytest.mark.parametrize(("make", "cause"), CAUSES.values(), ids=CAUSES.keys())
async def test_k3_the_cause_is_in_the_row(
    make: Callable[[], ApprovalHandler], cause: str, bench: BENCH
) -> None:
    b = bench(approver=make(), executor=Executor())
    result = await b.runtime.run_one(Action("write_x"))
    row = b.row()
    assert row["result_error"].startswith(f"{PLAIN}: {cause}")
    assert (row["human_decision"], row["reason"], row["result_status"]) == (None, "approval_error", "denied")
    assert len(row["result_error"]) < 600
    assert "hunter2" not in str(row)
    assert (result.status, result.error) == (ResultStatus.DENIED, PLAIN)


@pytest.fixture
def service() -> Iterator[Callable[[int, bytes], str]]:
    """A web service that answers each question with this status and body; its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/ask"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (500, b"{}", "status 500"),
        (404, b"not-for-the-row", "status 404"),
        (200, b'{"approved": true}', "is not signed with the secret"),
    ],
)
async def test_k3_what_a_webhook_did_is_in_the_row(
    status: int, body: bytes, cause: str, bench: BENCH, service: Callable[[int, bytes], str]
) -> None:
    handler = WebhookApprovalHandler(service(status, body), secret=SECRET)
    b = bench(approver=handler, executor=Executor())
    await b.runtime.run_one(Action("write_x"))
    assert cause in b.row()["result_error"]
    assert "not-for-the-row" not in str(b.row())


async def test_k3_a_webhook_that_is_not_there_is_in_the_row(bench: BENCH) -> None:
    handler = WebhookApprovalHandler("http://127.0.0.1:1/ask?key=in-the-url", secret=SECRET)
    b = bench(approver=handler, executor=Executor())
    await b.runtime.run_one(Action("write_x"))
    assert "the webhook could not be reached (ConnectError)" in b.row()["result_error"]
    assert "in-the-url" not in str(b.row())


async def test_k3_a_webhook_without_an_answer_is_in_the_row(
    bench: BENCH, service: Callable[[int, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON that is none, or says something else; not a word of it is repeated."""
    monkeypatch.setattr("aegis_otel.runtime.approval.webhook.Signer.has_signed", lambda *_: True)
    for body in (b"not-for-the-row", b'{"approved": "not-for-the-row"}', b"[" * 60_000, b"\xff"):
        handler = WebhookApprovalHandler(service(200, body), secret=SECRET)
        b = bench(approver=handler, executor=Executor())
        await b.runtime.run_one(Action("write_x"))
        row = b.rows()[-1]
        assert "the webhook answered JSON that is no answer, or no JSON" in row["result_error"]
        assert "not-for-the-row" not in str(row)


async def test_k3_what_the_model_reads_is_as_it_was(tmp_path: Path) -> None:
    """The cause is for the row and `aegis audit show`, and none of the model's business."""

    @function_tool
    def write_x() -> str:
        return "written"

    instrumentation = aegis_otel.instrument(
        Policy.from_dict(POLICY), approval_handler=raises(ValueError("the pager is off")), audit_dir=tmp_path
    )
    try:
        model = ScriptedModel([[function_call("write_x", {}, call_id="1")], [assistant_message("done")]])
        result = await Runner.run(Agent(name="A", tools=[write_x]), "go", run_config=RunConfig(model=model))
        (output,) = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        (row,) = instrumentation.runtime.audit.get_log()
    finally:
        instrumentation.shutdown()
    assert output == f"[AEGIS DENIED] {PLAIN}"
    shown = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "aegis_otel", "audit", "show", row["decision_id"], "--path", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(aegis_otel.__file__).parents[1]), "COLUMNS": "200"},
    )
    assert "the handler raised ValueError: the pager is off" in shown.stdout, shown.stderr
    assert row["reason"] == "approval_error"
