"""What came of a call: failures that are returned, and bodies that outlive the run that started them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    CustomTool,
    FunctionTool,
    InputGuardrailTripwireTriggered,
    LocalShellTool,
    ShellResult,
    ShellTool,
    function_tool,
    input_guardrail,
)
from agents.editor import ApplyPatchResult
from agents.exceptions import UserError
from agents.guardrail import GuardrailFunctionOutput
from agents.mcp import MCPServerStdio
from agents.testing import ScriptedModel, function_call
from agents.tool import ShellCallOutcome, ShellCommandOutput

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.runtime.audit import AuditLogger
from tests.adapters.openai_agents.conftest import installed  # noqa: F401 - a fixture
from tests.adapters.openai_agents.local_kinds import KINDS, a_call, an_agent, read_by, run
from tests.support.kit import Bench

INSTALL = Callable[..., Bench]
ALLOW = {
    "version": "1",
    "rules": [{"name": "all", "match": {"type": "*"}, "risk_level": "low", "approval": "auto"}],
}


def shell_result(*outcomes: tuple[str, int | None], stderr: str = "") -> ShellResult:
    return ShellResult([ShellCommandOutput("", stderr, ShellCallOutcome(*each)) for each in outcomes])


def assert_failed(b: Bench, kind: str, *words: str) -> None:
    """The row, both spans and the count of durations say `kind`; the row's text has the words."""
    row = b.row()
    assert (row["result_status"], row["error_type"]) == ("failed", kind), row["result_error"]
    for word in words:
        assert word in row["result_error"]
    for name in ("govern_tool", "execute_tool"):
        (span,) = b.telemetry.spans(name)
        assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", kind)
    ((labels, count),) = b.telemetry.points("gen_ai.execute_tool.duration").items()
    assert (dict(labels)["error.type"], count) == (kind, 1)
    assert [kind for _, kind in b.heard.results] == ["failed"]
    (decision,) = b.telemetry.events("aegis.tool.decision")
    assert decision["aegis.decision.outcome"] == "allowed"


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        (
            shell_result(("exit", 0), ("exit", 2), stderr="no such file"),
            "nonzero_exit",
            ("2", "no such file"),
        ),
        (shell_result(("exit", -9)), "nonzero_exit", ("-9",)),
        (shell_result(("timeout", None)), "timeout", ("timed out",)),
    ],
    ids=["exit", "signal", "timeout"],
)
async def test_k7_shell_result(
    result: ShellResult,
    kind: str,
    words: tuple[str, ...],
    installed: INSTALL,  # noqa: F811
) -> None:
    """A command that did not exit with 0, or timed out, has failed; the model reads what it always read."""
    b = installed(policy=ALLOW)

    async def execute(request: Any) -> ShellResult:
        return result

    agent, _ = an_agent(ShellTool(executor=execute), calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert_failed(b, kind, *words)


async def test_k7_shell_result_of_a_synchronous_executor(installed: INSTALL) -> None:  # noqa: F811
    """Also of an executor that is no coroutine; its secrets are redacted in the row."""
    b = installed(policy=ALLOW)
    result = shell_result(("exit", 1), stderr="bad password=hunter2hunter2")
    agent, _ = an_agent(ShellTool(executor=lambda request: result), calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert_failed(b, "nonzero_exit")
    assert "hunter2" not in b.row()["result_error"]


@pytest.mark.parametrize(
    "result",
    [shell_result(("exit", 0)), shell_result(("exit", None)), "exit code 1"],
    ids=["zero", "none", "text"],
)
async def test_k7_shell_results_that_succeeded_holds(
    result: Any,
    installed: INSTALL,  # noqa: F811
) -> None:
    """Exit code 0, none, and text are a success."""
    b = installed(policy=ALLOW)
    agent, _ = an_agent(ShellTool(executor=lambda request: result), calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert (b.row()["result_status"], b.row()["result_error"]) == ("success", None)


async def test_k7_patch_failed(installed: INSTALL) -> None:  # noqa: F811
    """A patch whose result says `failed`."""
    b = installed(policy=ALLOW)

    class Editor:
        def create_file(self, operation: Any) -> ApplyPatchResult:
            return ApplyPatchResult("failed", "the hunk does not apply")

        update_file = delete_file = create_file

    agent, _ = an_agent(ApplyPatchTool(editor=Editor()), calls=[a_call(KINDS["apply_patch"])])
    await run(agent)
    assert_failed(b, "patch_failed", "hunk")


async def test_k7_custom_and_local_shell(installed: INSTALL) -> None:  # noqa: F811
    """What a custom tool or a local shell returns is looked at in the same way."""
    done = subprocess.CompletedProcess(["x"], 3, b"", b"broken pipe")
    tool = CustomTool(name="query", description="", on_invoke_tool=lambda context, text: done)
    b = installed(policy=ALLOW)
    agent, _ = an_agent(tool, calls=[a_call(KINDS["custom"])])
    await run(agent)
    assert_failed(b, "nonzero_exit", "3", "broken pipe")

    def execute(request: Any) -> Any:
        raise TimeoutError("too slow")

    agent, _ = an_agent(LocalShellTool(executor=execute), calls=[a_call(KINDS["local_shell"])])
    with contextlib.suppress(TimeoutError):
        await run(agent)
    last = b.rows()[-1]
    assert (last["action_type"], last["error_type"]) == ("local_shell", "TimeoutError")


async def test_k7_function_tools(installed: INSTALL) -> None:  # noqa: F811
    """A failure that `failure_error_function` made a text of, a failed agent, a failure that is returned."""
    b = installed(policy=ALLOW)

    @function_tool(failure_error_function=lambda context, error: "sorry")
    async def raises() -> str:
        raise KeyError("x")

    @function_tool
    def exits() -> Any:
        return subprocess.CompletedProcess(["x"], 1, "", "no")

    @function_tool
    async def answers() -> Any:
        return {"isError": True, "content": [{"type": "text", "text": "upstream 502"}]}

    inner = Agent(name="Inner", model=ScriptedModel([]))
    calls = [function_call(name, "{}", call_id=name) for name in ("raises", "exits", "answers")]
    calls.append(function_call("ask", {"input": "hi"}, call_id="ask"))
    agent, model = an_agent(raises, exits, answers, inner.as_tool("ask", "Asks."), calls=calls)
    await run(agent)
    assert read_by(model)[0] == "sorry"
    found = {row["tool_name"]: (row["result_status"], row["error_type"]) for row in b.rows()}
    assert found == {
        "raises": ("failed", "KeyError"),
        "exits": ("failed", "nonzero_exit"),
        "answers": ("failed", "tool_error"),
        "ask": ("failed", found["ask"][1]),
    }
    assert found["ask"][1]


SERVER = """
try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError:  # before its second version
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.server.fastmcp.exceptions import ToolError

server = MCPServer("files")

@server.tool()
def read(path: str) -> str:
    if path == "missing":
        raise ToolError("no such file: missing, token=ghp_" + "a" * 36)
    return "read " + path

server.run()
"""


@pytest.mark.parametrize("structured", [False, True])
async def test_k7_mcp_is_error(structured: bool, installed: INSTALL, tmp_path: Path) -> None:  # noqa: F811
    """An answer of an MCP server with `isError` has failed; the model reads the server's text."""
    (tmp_path / "server.py").write_text(SERVER)
    b = installed(policy=ALLOW)
    params: Any = {"command": sys.executable, "args": [str(tmp_path / "server.py")]}
    async with MCPServerStdio(
        params=params, name="files", use_structured_content=structured, client_session_timeout_seconds=30
    ) as server:
        calls = [
            function_call("read", {"path": "a"}, call_id="call_1"),
            function_call("read", {"path": "missing"}, call_id="call_2"),
        ]
        agent, model = an_agent(calls=calls, mcp_servers=[server])
        await run(agent)
    assert "read a" in read_by(model)[0]
    assert "no such file: missing" in read_by(model)[1]
    rows = {row["tool_call_id"]: row for row in b.rows()}
    assert (rows["call_1"]["result_status"], rows["call_1"].get("error_type")) == ("success", None)
    failed = rows["call_2"]
    assert (failed["result_status"], failed["error_type"]) == ("failed", "tool_error")
    assert "no such file" in failed["result_error"]
    assert "ghp_" + "a" * 36 not in failed["result_error"]
    spans = {span.attributes["gen_ai.tool.call.id"]: span for span in b.telemetry.spans("govern_tool")}
    assert spans["call_2"].status.status_code.name == "ERROR"
    assert spans["call_1"].status.status_code.name == "UNSET"


async def test_k7_returned_object_with_hostile_attributes(installed: INSTALL) -> None:  # noqa: F811
    """An object whose attributes raise, or claim anything, ends nothing; other truths are no `isError`."""
    b = installed(policy=ALLOW)

    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("gotcha")

        def __str__(self) -> str:
            return "fine"

    class Claims:
        isError = "no"

        def __str__(self) -> str:
            return "fine"

    @function_tool
    def a() -> Any:
        return Hostile()

    @function_tool
    def c() -> Any:
        return Claims()

    @function_tool
    def d() -> Any:
        return {"is_error": True, "content": 7}

    calls = [function_call(name, "{}", call_id=name) for name in "acd"]
    agent, _ = an_agent(a, c, d, calls=calls)
    await run(agent)
    assert {row["tool_name"]: row["result_status"] for row in b.rows()} == {
        "a": "success",
        "c": "success",
        "d": "failed",
    }


# --- bodies that go on in their thread ---


class Slow:
    """A synchronous body that waits until it may end."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.begun, self.may_end, self.done = threading.Event(), threading.Event(), threading.Event()
        self.fails = fails
        self.runs = 0

    def tool(self) -> FunctionTool:
        @function_tool(name_override="slow")
        def slow() -> str:
            self.runs += 1
            self.begun.set()
            assert self.may_end.wait(30)
            self.done.set()
            if self.fails is not None:
                raise self.fails
            return "it is done"

        return slow

    async def cancel(self, tool: FunctionTool) -> None:
        """Start a run that calls it, and cancel the run once the body has begun."""
        task = asyncio.create_task(run(one_call(tool)))
        await asyncio.to_thread(self.begun.wait, 30)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def one_call(*tools: FunctionTool, **options: Any) -> Agent[Any]:
    calls = [function_call(tool.name, "{}", call_id=tool.name) for tool in tools]
    return an_agent(*tools, calls=calls, **options)[0]


async def row_when(b: Bench, status: str, call: str = "slow") -> dict[str, Any]:
    """The row of a call, as soon as it has that status."""
    for _ in range(200):
        row = next(row for row in b.rows() if row["tool_call_id"] == call)
        if row["result_status"] == status:
            return row
        await asyncio.sleep(0.05)
    raise AssertionError(f"{row['result_status']}: {row['result_error']}")


async def test_k7_cancelled_thread_is_followed(installed: INSTALL) -> None:  # noqa: F811
    """A cancelled synchronous body is open for as long as its thread works, then says what came."""
    b, slow = installed(policy=ALLOW), Slow()
    await slow.cancel(slow.tool())
    assert b.row()["result_status"] == "open"
    assert not b.telemetry.spans("govern_tool")
    slow.may_end.set()
    row = await row_when(b, "success")
    assert "went on in its thread" in row["result_error"]
    (span,) = b.telemetry.spans("govern_tool")
    assert span.attributes["aegis.result.status"] == "success"


async def test_k7_cancelled_thread_that_fails(installed: INSTALL) -> None:  # noqa: F811
    """Where the thread then fails, the row and the span say with what."""
    b, slow = installed(policy=ALLOW), Slow(fails=ValueError("no funds"))
    await slow.cancel(slow.tool())
    slow.may_end.set()
    row = await row_when(b, "failed")
    assert (row["error_type"], "no funds" in row["result_error"]) == ("ValueError", True)
    (span,) = b.telemetry.spans("govern_tool")
    assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", "ValueError")


async def test_k7_cancelled_thread_of_governed_tool(bench: Callable[..., Bench]) -> None:
    """The same without a patch of the SDK."""
    b, slow = bench(policy=ALLOW), Slow()
    await slow.cancel(governed_tool(runtime=b.runtime)(slow.tool()))
    assert b.row()["result_status"] == "open"
    slow.may_end.set()
    await row_when(b, "success")


async def test_k7_tripwire_beside_a_thread(installed: INSTALL) -> None:  # noqa: F811
    """A guardrail in parallel that trips while the body runs."""
    b, slow = installed(policy=ALLOW), Slow()

    @input_guardrail
    async def trips(context: Any, agent: Any, text: Any) -> GuardrailFunctionOutput:
        await asyncio.to_thread(slow.begun.wait, 30)
        return GuardrailFunctionOutput(None, tripwire_triggered=True)

    with pytest.raises(InputGuardrailTripwireTriggered):
        await run(one_call(slow.tool(), input_guardrails=[trips]))
    slow.may_end.set()
    await row_when(b, "success")
    assert slow.runs == 1


async def test_k7_sibling_raises_beside_a_thread(installed: INSTALL) -> None:  # noqa: F811
    """Another tool of the same turn raises, and the SDK gives the first one up."""
    b, slow = installed(policy=ALLOW), Slow()

    @function_tool(name_override="raises", failure_error_function=None)
    async def raises() -> str:
        await asyncio.to_thread(slow.begun.wait, 30)
        raise RuntimeError("boom")

    with pytest.raises(UserError, match="boom"):
        await run(one_call(slow.tool(), raises))
    slow.may_end.set()
    await row_when(b, "success")


async def test_k7_timeout_around_the_run(installed: INSTALL) -> None:  # noqa: F811
    """`asyncio.wait_for` around the run."""
    b, slow = installed(policy=ALLOW), Slow()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run(one_call(slow.tool())), 2.0)
    assert slow.begun.is_set()
    assert b.row()["result_status"] == "open"
    slow.may_end.set()
    await row_when(b, "success")


async def test_k7_cancelled_before_its_thread_began(installed: INSTALL) -> None:  # noqa: F811
    """A body that still waits for a thread never runs, and the row says that it did not start."""
    from concurrent.futures import ThreadPoolExecutor

    b, slow = installed(policy=ALLOW), Slow()
    loop, free = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocker = asyncio.ensure_future(asyncio.to_thread(free.wait, 30))
    await asyncio.sleep(0)
    task = asyncio.create_task(run(one_call(slow.tool())))
    while not b.telemetry.events("aegis.tool.decision"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    free.set()
    slow.may_end.set()
    await blocker
    await asyncio.to_thread(lambda: None)  # whatever was queued has had its turn
    row = b.row()
    assert (row["result_status"], row["result_error"]) == ("cancelled", "Cancelled before it started")
    assert slow.runs == 0


async def test_k7_cancelled_coroutine_holds(installed: INSTALL) -> None:  # noqa: F811
    """What runs on the event loop is stopped by a cancellation, and the row says so at once."""
    b, begun = installed(policy=ALLOW), asyncio.Event()

    @function_tool(name_override="slow")
    async def slow() -> str:
        begun.set()
        await asyncio.sleep(60)
        return ""

    task = asyncio.create_task(run(one_call(slow)))
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert b.row()["result_status"] == "cancelled"


PROGRAM = """
import asyncio, os, sys, threading
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel

begun, may_end = threading.Event(), threading.Event()

@function_tool
def slow() -> str:
    begun.set()
    may_end.wait(30)
    return "done"

async def main():
    model = ScriptedModel([[function_call("slow", "{}", call_id="slow")], [assistant_message("done")]])
    running = asyncio.ensure_future(Runner.run(Agent(name="A", tools=[slow], model=model), "go"))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        pass
    if sys.argv[1] == "dies":
        os._exit(1)
    threading.Timer(0.3, may_end.set).start()

aegis_otel.instrument(policy="policy.yaml")
asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "status"), [("ends", "success"), ("dies", "unknown")])
def test_k7_cancelled_thread_at_the_end_of_the_program(how: str, status: str, tmp_path: Path) -> None:
    """A program that ends waits for its threads, and the row is right; one that dies leaves it unknown."""
    (tmp_path / "policy.yaml").write_text(
        'version: "1"\nrules:\n  - {name: all, match: {type: "*"}, risk_level: low, approval: auto}\n'
    )
    subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=tmp_path, timeout=60, check=how == "ends")
    (row,) = AuditLogger(tmp_path / "aegis_audit").get_log()
    assert row["result_status"] == status


TERMINATED = """
import asyncio, threading
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel

@function_tool
def slow() -> str:
    print("begun", flush=True)
    threading.Event().wait(60)
    return "done"

aegis_otel.instrument(policy="policy.yaml")
model = ScriptedModel([[function_call("slow", "{}", call_id="slow")], [assistant_message("done")]])
asyncio.run(Runner.run(Agent(name="A", tools=[slow], model=model), "go"))
"""


def test_k7_sigterm_leaves_a_call_unknown_as_the_docs_say(tmp_path: Path) -> None:
    """A program that handles SIGTERM nowhere ends at once: nobody can say what came of the call in flight."""
    (tmp_path / "policy.yaml").write_text(
        'version: "1"\nrules:\n  - {name: all, match: {type: "*"}, risk_level: low, approval: auto}\n'
    )
    command = [sys.executable, "-c", TERMINATED]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    (row,) = AuditLogger(tmp_path / "aegis_audit").get_log()
    assert row["result_status"] == "unknown"
    root = Path(__file__).parents[2]
    (meaning,) = re.findall(r"^\| `unknown` \| (.*)$", (root / "README.md").read_text(encoding="utf-8"), re.M)
    assert "SIGTERM" in meaning
