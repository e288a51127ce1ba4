"""Every kind of tool on the real SDK, with the capture point on its class: the body, the text, the record."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    ComputerProvider,
    ComputerTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    Runner,
    ShellTool,
    UserError,
)
from agents.editor import ApplyPatchEditor
from agents.mcp import MCPServerStdio
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from openai.types.responses import ResponseApplyPatchToolCall

from aegis_otel import ConfigError
from aegis_otel.adapters.openai_agents.capture import local_tools
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from tests.adapters.openai_agents.local_kinds import (
    KINDS,
    Body,
    Editor,
    Kind,
    Screen,
    a_call,
    a_function,
    an_agent,
    read_by,
    run,
)
from tests.adapters.openai_agents.test_call_table import assert_one_id
from tests.support.kit import Bench

INSTALL = Callable[..., Bench]


def policy(approval: str, **match: Any) -> dict[str, Any]:
    """The given verdict on what matches; everything else is allowed."""
    rule = {"name": "the_rule", "match": match or {"type": "*"}, "risk_level": "high", "approval": approval}
    rest = {"name": "rest", "match": {"type": "*"}, "risk_level": "low", "approval": "auto"}
    return {"version": "1", "rules": [rule, rest]}


every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
@pytest.mark.parametrize(
    ("approval", "answers", "outcome"),
    [("auto", [], "allowed"), ("approve", [True], "approved")],
    ids=["auto", "approved"],
)
async def test_a_permitted_call_runs(
    kind: Kind, approval: str, answers: list[bool], outcome: str, installed: INSTALL
) -> None:
    """The body sees what the model sent, the model reads what it gave, and the row says who and what."""
    b = installed(*answers, policy=policy(approval))
    body = Body()
    agent, model = an_agent(kind.make(body), calls=[a_call(kind)])
    await run(agent)
    assert body.seen == [kind.saw]
    assert read_by(model) == ["data:image/png;base64,AAAA" if kind.type == "computer" else "did it"]
    row = b.row()
    assert (row["action_type"], row["action_target"], row["agent_name"]) == (kind.type, "default", "Clerk")
    assert (row["tool_name"], row["tool_call_id"], row["conversation_id"]) == (kind.type, "call_1", "group")
    assert json.loads(json.dumps(row["action_params"])) == kind.params
    assert (row["result_status"], row["matched_rule"]) == ("success", "the_rule")
    assert row["duration_s"] is not None
    assert_one_id(b, outcome)


@every_kind
@pytest.mark.parametrize(
    "case",
    [
        ("block", [], "blocked", "[AEGIS BLOCKED] Action blocked by policy rule: the_rule"),
        ("approve", [False], "denied", "[AEGIS DENIED] Action denied by human operator"),
    ],
    ids=["blocked", "denied"],
)
async def test_a_refused_call_does_not_run(
    kind: Kind, case: tuple[str, list[bool], str, str], installed: INSTALL
) -> None:
    """The model reads why; a computer has no text to answer with, so there it ends the run."""
    approval, answers, outcome, text = case
    b = installed(*answers, policy=policy(approval))
    body = Body()
    agent, model = an_agent(kind.make(body), calls=[a_call(kind)])
    if kind.refusal_ends_the_run:
        with pytest.raises(UserError, match=text.replace("[", r"\[")):
            await run(agent)
        assert len(model.calls) == 1
    else:
        await run(agent)
        assert read_by(model) == [text]
    assert body.seen == []
    assert (b.row()["result_status"], b.row()["duration_s"]) == (outcome, None)
    assert_one_id(b, outcome)


@every_kind
async def test_a_body_that_raises(kind: Kind, installed: INSTALL) -> None:
    """Recorded as failed; what the SDK makes of the exception is what it makes of it without us."""
    b = installed(policy=policy("auto"))
    agent, model = an_agent(kind.make(Body(fails=LookupError("gone"))), calls=[a_call(kind)])
    if kind.failure_ends_the_run:
        with pytest.raises(LookupError, match="gone"):
            await run(agent)
    else:
        await run(agent)
        assert len(read_by(model)) == 1
    assert (b.row()["result_status"], b.row()["result_error"]) == ("failed", "LookupError: gone")
    assert_one_id(b, "allowed")


@every_kind
async def test_a_cancelled_body(kind: Kind, installed: INSTALL) -> None:
    """The run is cancelled while the body runs: the row is closed, and says so."""
    b = installed(policy=policy("auto"))
    body = Body(hangs=True)
    agent, _ = an_agent(kind.make(body), calls=[a_call(kind)])
    running = asyncio.create_task(run(agent))
    await asyncio.wait_for(body.started.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert b.row()["result_status"] == "cancelled"
    assert_one_id(b, "allowed")


@every_kind
async def test_a_call_without_a_record_does_not_run(kind: Kind, installed: INSTALL, tmp_path: Path) -> None:
    """Promise 1: where the verdict cannot be written, no kind of body runs."""
    (tmp_path / "audit").write_text("a file where the directory should be")
    installed(policy=policy("auto"))
    body = Body()
    agent, model = an_agent(kind.make(body), calls=[a_call(kind)])
    text = "[AEGIS ERROR] Action not run: governance is unavailable"
    if kind.refusal_ends_the_run:
        with pytest.raises(UserError, match="governance is unavailable"):
            await run(agent)
    else:
        await run(agent)
        assert read_by(model) == [text]
    assert body.seen == []


@every_kind
async def test_monitor_mode_stops_no_kind(kind: Kind, installed: INSTALL, monkeypatch: Any) -> None:
    """What would have been blocked is on record, and ran."""
    monkeypatch.setenv("AEGIS_MODE", "monitor")
    b = installed(policy=policy("block"))
    body = Body()
    agent, _ = an_agent(kind.make(body), calls=[a_call(kind)])
    await run(agent)
    assert body.seen == [kind.saw]
    assert (b.row()["approval"], b.row()["result_status"], b.row()["mode"]) == ("block", "success", "monitor")


@every_kind
async def test_a_rule_on_a_parameter_that_the_kind_lacks_is_the_stricter(
    kind: Kind, installed: INSTALL
) -> None:
    """A typo in a rule's path counts against the call."""
    rules = policy("block", type=kind.type)
    rules["rules"][0]["conditions"] = {"param_eq": {"no_such_thing": 1}}
    b = installed(policy=rules)
    body = Body()
    agent, _ = an_agent(kind.make(body), calls=[a_call(kind)])
    if kind.refusal_ends_the_run:
        with pytest.raises(UserError):
            await run(agent)
    else:
        await run(agent)
    assert (body.seen, b.row()["result_status"]) == ([], "blocked")


@pytest.mark.parametrize("kind", [KINDS[name] for name in KINDS if name != "function"])
def test_tools_are_as_they_were_afterwards(kind: Kind, installed: INSTALL) -> None:
    """Nothing is left in a tool made before, or copied while, the capture point was there."""
    tool = kind.make(Body())
    before = dict(vars(tool))
    installed(policy=policy("auto"))
    for each in (tool, copy.copy(tool), dataclasses.replace(tool)):
        assert {name: vars(each)[name] for name in before} == before
        assert all(type(vars(each)[name]) is type(value) for name, value in before.items())


async def test_match_by_agent_and_target(installed: INSTALL) -> None:
    """Rules tell apart who asks, by the agent whose turn it is; `targets` name what is acted on."""
    b = installed(policy=policy("block", agent="Clerk", target="host"), targets={"sh*": "host"})
    body = Body()
    shell = KINDS["shell"].make(body)
    clerk, _ = an_agent(shell, calls=[a_call(KINDS["shell"])])
    other = clerk.clone(
        name="Other", model=ScriptedModel([[a_call(KINDS["shell"])], [assistant_message("done")]])
    )
    await run(clerk)
    await run(other)
    assert [(row["agent_name"], row["action_target"], row["result_status"]) for row in b.rows()] == [
        ("Clerk", "host", "blocked"),
        ("Other", "host", "success"),
    ]


async def test_a_run_inside_a_body_or_an_approval_does_not_change_who_asks(installed: INSTALL) -> None:
    """A judge that is itself an agent runs in the same task, between the question and the body."""
    b = installed(policy=policy("auto"))

    async def judge(*_: Any) -> bool:
        await Runner.run(Agent(name="Judge", model=ScriptedModel([[assistant_message("fine")]])), "fine?")
        return False

    shell = ShellTool(executor=lambda request: "ran", needs_approval=judge)
    agent, _ = an_agent(shell, calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert b.row()["agent_name"] == "Clerk"


async def test_what_was_decided_is_what_runs(installed: INSTALL) -> None:
    """Promise 4: whoever holds the SDK's request cannot change it while a human thinks."""
    held: list[Any] = []

    def change(decision: Any) -> bool:
        held[0].commands[:] = ["rm -rf /"]
        return True

    async def hold(context: Any, action: Any, call_id: str) -> bool:
        held.append(action)
        return False

    b = installed(change, policy=policy("approve"))
    body = Body()
    shell = ShellTool(executor=lambda request: body.run(request.data.action.commands), needs_approval=hold)
    agent, _ = an_agent(shell, calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert body.seen == [KINDS["shell"].saw]
    assert b.row()["action_params"] == KINDS["shell"].params


@pytest.mark.parametrize("name", ["shell", "apply_patch", "custom"])
async def test_the_users_own_approval_comes_first(name: str, installed: INSTALL) -> None:
    """`needs_approval` interrupts the run as before; we decide when the call goes on, once."""
    b = installed(policy=policy("auto"))
    kind, body = KINDS[name], Body()
    agent, _ = an_agent(dataclasses.replace(kind.make(body), needs_approval=True), calls=[a_call(kind)])
    paused = await run(agent)
    assert (len(paused.interruptions), b.rows(), body.seen) == (1, [], [])
    state = paused.to_state()
    state.approve(paused.interruptions[0])
    await Runner.run(agent, state)
    assert body.seen == [kind.saw]
    assert_one_id(b, "allowed")


async def test_sync_parts_run_on_the_loop_as_before(installed: INSTALL) -> None:
    """The SDK calls sync executors, editors and computers in the event loop's thread, and so do we."""
    installed(policy=policy("auto"))
    seen = []

    def executor(request: Any) -> str:
        seen.append(asyncio.get_running_loop())
        return "sync"

    agent, model = an_agent(ShellTool(executor=executor), calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert (read_by(model), seen) == (["sync"], [asyncio.get_running_loop()])


async def test_a_patch_of_several_operations_is_decided_by_operation(installed: INSTALL) -> None:
    """One may be refused while the other is applied; the patch as a whole has then failed."""
    rules = policy("block", type="apply_patch")
    rules["rules"][0]["conditions"] = {"param_matches": {"path": "^/etc/"}}
    b = installed(policy=rules)
    kind, body = KINDS["apply_patch"], Body()
    calls = [
        a_call(kind, 1, operation={"type": "delete_file", "path": "/etc/passwd"}),
        a_call(kind, 2, operation={"type": "update_file", "path": "a.txt", "diff": "+x"}),
    ]
    agent, model = an_agent(kind.make(body), calls=calls)
    await run(agent)
    assert body.seen == ["a.txt"]
    assert read_by(model) == ["[AEGIS BLOCKED] Action blocked by policy rule: the_rule", "did it"]
    assert [row["action_params"] for row in b.rows()] == [
        {"type": "delete_file", "path": "/etc/passwd"},
        {"type": "update_file", "path": "a.txt", "diff": "+x"},
    ]


class TestComputer:
    """Its actions one by one; the picture after an action belongs to it."""

    CLICK_AND_TYPE = (
        {"type": "click", "x": 1, "y": 2, "button": "left"},
        {"type": "type", "text": "secret plan"},
    )

    async def test_each_action_of_a_batch_is_decided(self, installed: INSTALL) -> None:
        """What came before the refused action was done, and is on record; nothing after it is."""
        rules = policy("block", type="computer")
        rules["rules"][0]["conditions"] = {"param_eq": {"type": "type"}}
        b = installed(policy=rules)
        body = Body()
        screen = Screen(body)
        call = a_call(KINDS["computer"], actions=[*self.CLICK_AND_TYPE, {"type": "wait"}])
        agent, _ = an_agent(ComputerTool(computer=screen), calls=[call])
        with pytest.raises(UserError, match="the_rule"):
            await run(agent)
        assert (body.seen, screen.shots) == ([(1, 2, "left")], 0)
        assert [(row["action_params"]["type"], row["result_status"]) for row in b.rows()] == [
            ("click", "success"),
            ("type", "blocked"),
        ]

    async def test_a_screenshot_of_its_own_is_an_action(self, installed: INSTALL) -> None:
        """The SDK's picture after a click is no row; each that the model asks for is."""
        b = installed(policy=policy("auto"))
        body = Body()
        calls = [
            a_call(KINDS["computer"], 1),
            a_call(KINDS["computer"], 2, actions=[{"type": "screenshot"}] * 2),
        ]
        screen = Screen(body)
        agent, _ = an_agent(ComputerTool(computer=screen), calls=calls)
        await run(agent)
        assert screen.shots == 3
        assert [row["action_params"]["type"] for row in b.rows()] == ["click", "screenshot", "screenshot"]

    async def test_a_computer_made_for_each_run(self, installed: INSTALL) -> None:
        """By a factory given before the capture point was there: met where the SDK acts on it."""
        body = Body()
        made: list[Screen] = []
        disposed: list[Any] = []

        def create(*, run_context: Any) -> Screen:
            made.append(Screen(body))
            return made[-1]

        provider = ComputerProvider(
            create=create, dispose=lambda *, run_context, computer: disposed.append(computer)
        )
        tool = ComputerTool(computer=provider)
        b = installed(policy=policy("block"))
        agent, _ = an_agent(tool, calls=[a_call(KINDS["computer"])])
        with pytest.raises(UserError, match="BLOCKED"):
            await run(agent)
        assert (body.seen, b.row()["result_status"]) == ([], "blocked")
        assert disposed == made

    async def test_keywords_that_a_driver_takes_reach_it(self, installed: INSTALL) -> None:
        """The SDK looks at the driver's signature through ours; held keys are part of what is decided."""
        b = installed(policy=policy("auto"))
        click = {"type": "click", "x": 1, "y": 2, "button": "left", "keys": ["SHIFT"]}
        agent, _ = an_agent(
            ComputerTool(computer=Screen(Body())), calls=[a_call(KINDS["computer"], actions=[click])]
        )
        await run(agent)
        assert b.row()["action_params"] == click


def test_what_stands_in_looks_like_what_it_stands_for(installed: INSTALL) -> None:
    """The same object each time, equal to the user's, and of its class."""
    editor = Editor(Body())
    tools = [ApplyPatchTool(editor=editor), ShellTool(executor=print), LocalShellTool(executor=print)]
    installed(policy=policy("auto"))
    patch, shell, local = tools
    assert patch.editor is patch.editor
    assert shell.executor is shell.executor
    assert isinstance(patch.editor, Editor)
    assert isinstance(patch.editor, ApplyPatchEditor)
    assert patch.editor.body is editor.body
    patch.editor.body = "set on the user's"
    assert editor.body == "set on the user's"
    assert shell == ShellTool(executor=print)
    assert local.executor == print
    assert ShellTool(environment={"type": "container_auto"}).executor is None


async def test_a_tool_whose_part_is_replaced_stays_governed(installed: INSTALL) -> None:
    """Whatever is set later is governed like what was set first, and can be set from what was read."""
    b = installed(policy=policy("block"))
    body = Body()
    tool = ShellTool(executor=lambda request: "first")
    assert tool.executor is not None
    tool.executor = lambda request: body.run("second")
    tool.executor = tool.executor
    agent, _ = an_agent(tool, calls=[a_call(KINDS["shell"])])
    await run(agent)
    assert (body.seen, b.row()["result_status"]) == ([], "blocked")


async def test_a_subclass_of_a_custom_tool(installed: INSTALL) -> None:
    """The SDK's sandbox has such: what its constructor sets is governed."""

    class Special(CustomTool):
        def __init__(self) -> None:
            super().__init__(name="query", description="", on_invoke_tool=self._invoke)

        async def _invoke(self, context: Any, text: str) -> str:
            raise AssertionError("it ran")

    b = installed(policy=policy("block"))
    agent, model = an_agent(Special(), calls=[a_call(KINDS["custom"])])
    await run(agent)
    assert read_by(model) == ["[AEGIS BLOCKED] Action blocked by policy rule: the_rule"]
    assert b.row()["tool_name"] == "query"


async def test_all_kinds_in_one_turn(installed: INSTALL) -> None:
    """Run by the SDK side by side: each its own row, none mixed up with another."""
    b = installed(policy=policy("auto"))
    bodies = {name: Body() for name in KINDS}
    calls = [a_call(kind, number) for number, kind in enumerate(KINDS.values())]
    agent, _ = an_agent(*(kind.make(bodies[name]) for name, kind in KINDS.items()), calls=calls)
    await run(agent)
    assert {name: body.seen for name, body in bodies.items()} == {
        name: [kind.saw] for name, kind in KINDS.items()
    }
    rows = b.rows()
    assert {row["tool_call_id"]: (row["action_type"], row["action_params"]) for row in rows} == {
        f"call_{n}": (kind.type, kind.params) for n, kind in enumerate(KINDS.values())
    }
    assert len({row["decision_id"] for row in rows}) == len(KINDS)


async def test_streamed(installed: INSTALL) -> None:
    """The same for a streamed run."""
    b = installed(policy=policy("block", type="greet"))
    patched, greeted = Body(), Body()
    patch = ResponseApplyPatchToolCall.model_validate(a_call(KINDS["apply_patch"], 2))
    agent, _ = an_agent(
        KINDS["apply_patch"].make(patched), a_function(greeted), calls=[a_call(KINDS["function"]), patch]
    )
    async for _ in Runner.run_streamed(agent, "go").stream_events():
        pass
    assert (patched.seen, greeted.seen) == (["a.txt"], [])
    assert {(row["action_type"], row["agent_name"], row["result_status"]) for row in b.rows()} == {
        ("apply_patch", "Clerk", "success"),
        ("greet", "Clerk", "blocked"),
    }


SERVER = """
try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # before its second version
    from mcp.server.fastmcp import FastMCP as MCPServer
server = MCPServer("files")
@server.tool()
def read(path: str) -> str:
    return f"read {path}"
@server.tool()
def remove(path: str) -> str:
    open(path + ".removed", "w").close()
    return "removed"
server.run()
"""


async def test_mcp_tools_of_a_real_server(installed: INSTALL, tmp_path: Path) -> None:
    """The server is the target; the body of a blocked call never reaches it."""
    (tmp_path / "server.py").write_text(SERVER)
    b = installed(policy=policy("block", type="remove", target="files"))
    params: Any = {"command": sys.executable, "args": [str(tmp_path / "server.py")]}
    async with MCPServerStdio(params=params, name="files", client_session_timeout_seconds=30) as server:
        calls = [
            function_call("read", {"path": "a"}, call_id="call_1"),
            function_call("remove", {"path": str(tmp_path / "a")}, call_id="call_2"),
        ]
        agent, model = an_agent(calls=calls, mcp_servers=[server])
        await run(agent)
    read, removed = read_by(model)
    assert read == "read a"
    assert removed == "[AEGIS BLOCKED] Action blocked by policy rule: the_rule"
    assert not list(tmp_path.glob("*.removed"))
    rows = {row["action_type"]: (row["action_target"], row["result_status"]) for row in b.rows()}
    assert rows == {"read": ("files", "success"), "remove": ("files", "blocked")}


async def test_an_agent_as_a_tool_and_what_it_calls(installed: INSTALL) -> None:
    """The outer call is one decision, with the inner agent as its target; the inner calls are their own."""
    b = installed(policy=policy("block", agent="Inner"))
    body = Body()
    inner, inner_model = an_agent(a_function(body), calls=[a_call(KINDS["function"])])
    inner.name = "Inner"
    outer, model = an_agent(
        inner.as_tool("ask_inner", "Asks."),
        calls=[function_call("ask_inner", {"input": "hi"}, call_id="call_1")],
    )
    await run(outer)
    assert (read_by(model), body.seen) == (["done"], [])
    assert read_by(inner_model) == ["[AEGIS BLOCKED] Action blocked by policy rule: the_rule"]
    assert {
        (r["agent_name"], r["action_type"], r["action_target"], r["result_status"]) for r in b.rows()
    } == {
        ("Clerk", "ask_inner", "Inner", "success"),
        ("Inner", "greet", "default", "blocked"),
    }


@pytest.mark.parametrize(
    ("owner", "name"), [("ComputerAction", "_execute_action_and_capture"), ("ShellAction", "execute")]
)
def test_an_sdk_that_has_moved_is_refused(
    owner: str, name: str, installed: INSTALL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the SDK has not what is governed, nothing is installed, and the message says what is missing."""
    from agents.run_internal import tool_actions

    with monkeypatch.context() as moved:
        moved.delattr(getattr(tool_actions, owner), name)
        with pytest.raises(ConfigError, match=rf"no `{owner}\.{name}`.*pin openai-agents"):
            installed(policy=policy("auto"))


@pytest.mark.parametrize("kind", [kind for name, kind in KINDS.items() if name != "function"])
def test_the_self_test_sees_a_kind_that_is_not_captured(
    kind: Kind, installed: INSTALL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the SDK runs the body of one kind past us, nothing is installed."""
    if kind.type == "computer":
        monkeypatch.setattr(local_tools, "_govern_computer", lambda act, gate: act)
    else:
        owner = type(kind.make(Body()))
        left = [each for each in local_tools.LOCAL_TOOL_KINDS if each.tool is not owner]
        monkeypatch.setattr(local_tools, "LOCAL_TOOL_KINDS", left)
    with pytest.raises(ConfigError, match="the body was reached"):
        installed(policy=policy("auto"))


async def test_what_was_read_under_an_old_capture_point_is_judged_by_the_new(
    bench: INSTALL, tmp_path: Path
) -> None:
    """A stand-in does not bring its old policy along."""
    body = Body()
    old = CapturePoint(bench(policy=policy("auto"), audit=tmp_path / "old").runtime.governor, {})
    old.install()
    kind = KINDS["shell"]
    executor = kind.make(body).executor
    old.uninstall()
    kept = ShellTool(executor=executor)
    b = bench(policy=policy("block"))
    new = CapturePoint(b.runtime.governor, {})
    new.install()
    try:
        agent, model = an_agent(kept, calls=[a_call(kind)])
        await run(agent)
    finally:
        new.uninstall()
    assert body.seen == []
    assert "[AEGIS BLOCKED]" in read_by(model)[0]
    agent, _ = an_agent(kept, calls=[a_call(kind)])
    await run(agent)
    assert body.seen == [kind.saw]
    assert b.row()["result_status"] == "blocked"


async def test_an_invoker_of_one_tool_that_is_given_to_another_keeps_its_gate(installed: INSTALL) -> None:
    """What the policy blocks by its own name does not run under the name of the tool that it is given to."""
    b = installed(policy=policy("block", type="drop*"))
    ran: list[str] = []

    async def drop(context: Any, given: str) -> str:
        ran.append(given)
        return "dropped"

    nothing: dict[str, Any] = {"type": "object", "properties": {}}
    function = FunctionTool("drop_rows", "", nothing, drop)
    custom = CustomTool(name="drop_table", description="", on_invoke_tool=drop)
    by_custom = CustomTool(name="helper", description="", on_invoke_tool=function.on_invoke_tool)
    by_function = FunctionTool("other_helper", "", nothing, custom.on_invoke_tool)
    context = ToolContext(None, tool_name="helper", tool_call_id="c", tool_arguments="{}")
    for tool in (by_custom, by_function):
        assert "[AEGIS BLOCKED]" in str(await tool.on_invoke_tool(context, "{}"))
    assert ran == []
    # A function tool that may run is recorded as what it did, also where its invoker is a custom tool's.
    allowed = CustomTool(name="free", description="", on_invoke_tool=drop)
    outer = FunctionTool("free_too", "", nothing, allowed.on_invoke_tool)
    model = ScriptedModel([[function_call("free_too", {}, call_id="f")], [assistant_message("done")]])
    await Runner.run(Agent(name="A", tools=[outer], model=model), "go")
    assert ran == ["{}"]
    assert [row["result_status"] for row in b.rows() if row["action_type"] == "free_too"] == ["success"]
