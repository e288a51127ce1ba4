"""docs/subjects.md: its programs run, and a request is taken for nobody else's."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel.adapters.openai_agents.instrument import Instrumentation
from aegis_otel.governance.subject import SubjectSource
from aegis_otel.runtime.audit import AuditLogger
from tests.support.pages import ROOT, blocks_of, read_page, unnamed_files

BLOCKS = blocks_of(read_page("subjects.md"))
FILES = {block.file: block.text for block in BLOCKS if block.file}
AROUND, GENERATORS, CONTEXT = [b.text for b in BLOCKS if b.language == "python" and not b.file]
REFUND = function_call("refund_order", {"order_id": "4711", "amount": 20}, call_id="call_1")


def run(program: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", program.name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=program.parent, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_around_a_run(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(FILES["policy.yaml"])
    (tmp_path / "around.py").write_text(AROUND)
    ran = run(tmp_path / "around.py")
    assert ran.returncode == 0, ran.stderr
    rows = AuditLogger(tmp_path / "aegis_audit").get_log()
    assert [(row["user_id"], row["result_status"]) for row in reversed(rows)] == [
        ("alice", "success"),
        ("mallory", "blocked"),
    ]


def test_from_the_context(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(FILES["policy.yaml"])
    (tmp_path / "context.py").write_text(CONTEXT)
    ran = run(tmp_path / "context.py")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("name", "leaks"), [("wrong", True), ("right", False)])
async def test_a_generator_gives_its_subject_to_its_reader_where_the_page_says(
    name: str, leaks: bool
) -> None:
    """Where it is left early. Either way, the agent's own calls are for the subject."""
    seen: list[str | None] = []

    @function_tool
    def refund_order(order_id: str, amount: float) -> str:
        seen.append(user())
        return "refunded"

    def user() -> str | None:
        subject = SubjectSource().find(None)
        return None if subject is None else subject.user

    functions: dict[str, Any] = {}
    exec(GENERATORS, functions)
    model = ScriptedModel([[REFUND], [assistant_message("done")]])
    agent = Agent(name="Support", model=model, tools=[refund_order])
    events = functions[name](agent, "Refund order 4711")
    async for event in events:
        if event.type == "run_item_stream_event" and event.name == "tool_output":
            break
    assert seen == ["alice"]
    assert (user() == "alice") == leaks
    await events.aclose()


def test_the_page_says_how_to_name_each_file() -> None:
    assert unnamed_files(BLOCKS) == []


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Any]:
    """The module `app` of the page, in its folder."""
    (tmp_path / "policy.yaml").write_text(FILES["policy.yaml"])
    (tmp_path / "app.py").write_text(FILES["app.py"])
    spec = importlib.util.spec_from_file_location("subjects_app", tmp_path / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["subjects_app"] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["subjects_app"]
        if Instrumentation.current is not None:
            Instrumentation.current.shutdown()


async def post(program: Any, path: str, token: str) -> tuple[int, str]:
    """A request to the application, without a server; return its status and its body."""
    sent: list[dict[str, Any]] = []
    request = [{"type": "http.request", "body": json.dumps({"text": "Refund order 4711"}).encode()}]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if request:
            return request.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"content-type": "application/json", "authorization": token, "host": "here"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "server": ("here", 80),
        "client": ("there", 1),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await program.app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body.decode()


@pytest.mark.parametrize("path", ["/chat", "/stream"])
async def test_requests_at_once_are_each_decided_for_their_own_user(program: Any, path: str) -> None:
    tokens = ["Bearer of-alice", "Bearer of-mallory"] * 10
    program.agent.model = ScriptedModel(
        [[REFUND]] * len(tokens) + [[assistant_message("done")]] * len(tokens)
    )
    answers = await asyncio.gather(*[post(program, path, token) for token in tokens])
    assert {status for status, _ in answers} == {200}
    if path == "/stream":
        for token, (_, text) in zip(tokens, answers, strict=True):
            assert ("refunded 20.0" in text) == ("alice" in token)
            assert ("blocked by policy rule: nobody_else" in text) == ("mallory" in token)
    rows = AuditLogger("aegis_audit").get_log()
    found = sorted((row["user_id"], row["tenant_id"], row["result_status"]) for row in rows)
    assert found == [("alice", "acme", "success")] * 10 + [("mallory", "globex", "blocked")] * 10


async def test_who_is_not_known_is_turned_away(program: Any) -> None:
    assert (await post(program, "/chat", "Bearer of-nobody"))[0] == 401
