"""K8: megabytes in a call of every kind of tool are refused where a rule asks for it, and kept in bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    RunConfig,
    Runner,
    ShellTool,
    UserError,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from pydantic import BaseModel

from tests.adapters.openai_agents.local_kinds import Body, Editor, Screen
from tests.cases.test_k2_names import Server
from tests.cases.test_k8_schema_budget import MANY
from tests.support.kit import Bench


def blocks(name: str) -> dict[str, Any]:
    """A policy that blocks what is equal to a text, or cannot be compared with it."""
    rule = {"name": "large", "match": {"type": "*"}, "conditions": {"param_eq": {name: "small"}}}
    return {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [{**rule, "risk_level": "high", "approval": "block"}],
    }


MEGABYTES = "x" * 4_000_000
WIDE: dict[str, Any] = {"type": "object", "properties": {"text": {"anyOf": MANY}}}


class Text(BaseModel):
    text: Any


def raw(body: Body) -> FunctionTool:
    async def run(_context: Any, arguments: str) -> str:
        return await body.run(arguments)

    return FunctionTool("pay", "", WIDE, run, strict_json_schema=False)


def made(body: Body) -> FunctionTool:
    @function_tool(strict_mode=False)
    async def pay(text: str) -> str:
        return await body.run(text)

    return pay


def agent_as_tool(_body: Body) -> FunctionTool:
    inner = Agent(name="Inner", model=ScriptedModel([[assistant_message("did it")]]))
    return inner.as_tool("pay", "", parameters=Text)


LOCAL: dict[str, tuple[Callable[[Body], Any], dict[str, Any]]] = {
    "shell": (
        lambda body: ShellTool(executor=lambda _: body.run(1)),
        {"type": "shell_call", "action": {"commands": [MEGABYTES]}},
    ),
    "local shell": (
        lambda body: LocalShellTool(executor=lambda _: body.run(1)),
        {"type": "local_shell_call", "action": {"type": "exec", "command": [MEGABYTES], "env": {}}},
    ),
    "apply_patch": (
        lambda body: ApplyPatchTool(editor=Editor(body)),
        {
            "type": "apply_patch_call",
            "operation": {"type": "update_file", "path": "a", "diff": MEGABYTES},
        },
    ),
    "custom": (
        lambda body: CustomTool(name="c", description="", on_invoke_tool=lambda *_: body.run(1)),
        {"type": "custom_tool_call", "name": "c", "input": MEGABYTES},
    ),
    "computer": (
        lambda body: ComputerTool(computer=Screen(body)),
        {
            "type": "computer_call",
            "pending_safety_checks": [],
            "actions": [{"type": "type", "text": MEGABYTES}],
        },
    ),
}


async def said(agent: Agent[Any], call: Any) -> str:
    """What the model reads of one call, or of the refusal that ends the run."""
    agent.model = ScriptedModel([[call], [assistant_message("done")]])
    try:
        result = await Runner.run(agent, "go", run_config=RunConfig(tracing_disabled=True))
    except UserError as error:
        return str(error)
    return "".join(str(getattr(item, "output", "")) for item in result.new_items)


@pytest.mark.parametrize("kind", LOCAL)
async def test_k8_megabytes_in_a_call_of_a_local_tool_holds(
    kind: str, installed: Callable[..., Bench]
) -> None:
    """A rule on a parameter that no such call has counts against it; the row is bounded."""
    b, body = installed(policy=blocks("nowhere")), Body()
    make, call = LOCAL[kind]
    read = await said(
        Agent(name="A", tools=[make(body)]), {**call, "status": "completed", "id": "i", "call_id": "c"}
    )
    assert (body.seen, b.row()["result_status"]) == ([], "blocked")
    assert "[AEGIS BLOCKED]" in read
    assert len(json.dumps(b.row()["action_params"])) < 100_000


@pytest.mark.parametrize("make", [raw, made, agent_as_tool])
async def test_k8_megabytes_in_a_call_of_a_function_tool_holds(
    make: Callable[[Body], FunctionTool], installed: Callable[..., Bench]
) -> None:
    b, body = installed(policy=blocks("text")), Body()
    call = function_call("pay", {"text": [MEGABYTES]}, call_id="c")
    begun = time.process_time()
    assert "[AEGIS BLOCKED]" in await said(Agent(name="A", tools=[make(body)]), call)
    assert time.process_time() - begun < 5
    assert (body.seen, b.row()["result_status"]) == ([], "blocked")
    assert len(json.dumps(b.row()["action_params"])) < 100_000


async def test_k8_megabytes_in_a_call_of_an_mcp_server_holds(installed: Callable[..., Bench]) -> None:
    b, server = installed(policy=blocks("text")), Server("pay")
    call = function_call("pay", {"text": [MEGABYTES]}, call_id="c")
    assert "[AEGIS BLOCKED]" in await said(Agent(name="A", mcp_servers=[server]), call)
    assert (server.called, b.row()["result_status"]) == ([], "blocked")
