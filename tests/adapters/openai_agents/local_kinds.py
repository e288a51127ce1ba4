"""The SDK's kinds of tools, each with a body that can be told what to do, and a call of it by a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents import (
    Agent,
    ApplyPatchTool,
    AsyncComputer,
    ComputerTool,
    CustomTool,
    LocalShellTool,
    RunConfig,
    Runner,
    ShellTool,
    function_tool,
)
from agents.editor import ApplyPatchResult
from agents.testing import ScriptedModel, assistant_message, function_call


@dataclass
class Body:
    """What runs if a call is let through."""

    fails: Exception | None = None
    hangs: bool = False
    seen: list[Any] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, what: Any) -> str:
        self.seen.append(what)
        self.started.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        return "did it"


class Editor:
    def __init__(self, body: Body) -> None:
        self.body = body

    async def create_file(self, operation: Any) -> ApplyPatchResult:
        return ApplyPatchResult("completed", await self.body.run(operation.path))

    update_file = delete_file = create_file


class Screen(AsyncComputer):
    """A computer whose clicks and typing are the body; screenshots are kept apart."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.shots = 0

    async def screenshot(self) -> str:
        self.shots += 1
        return "AAAA"

    async def click(self, x: int, y: int, button: str, *, keys: list[str] | None = None) -> None:
        await self.body.run((x, y, button))

    async def type(self, text: str) -> None:
        await self.body.run(text)

    async def double_click(self, x: int, y: int) -> None: ...
    async def scroll(self, x: int, y: int, scroll_x: int, scroll_y: int) -> None: ...
    async def wait(self) -> None: ...
    async def move(self, x: int, y: int) -> None: ...
    async def keypress(self, keys: list[str]) -> None: ...
    async def drag(self, path: list[tuple[int, int]]) -> None: ...


def a_function(body: Body) -> Any:
    @function_tool(name_override="greet")
    async def greet(name: str) -> str:
        return await body.run(name)

    return greet


@dataclass(frozen=True)
class Kind:
    make: Callable[[Body], Any]
    call: dict[str, Any]
    type: str
    params: dict[str, Any]
    """What a rule sees, and the audit keeps."""
    saw: Any
    """What the body sees."""
    failure_ends_the_run: bool = False
    """As the SDK has it, governed or not."""
    refusal_ends_the_run: bool = False


KINDS = {
    "function": Kind(
        a_function,
        {"type": "function_call", "name": "greet", "arguments": '{"name": "Ann"}'},
        "greet",
        {"name": "Ann"},
        "Ann",
    ),
    "shell": Kind(
        lambda body: ShellTool(executor=lambda request: body.run(request.data.action.commands)),
        {
            "type": "shell_call",
            "status": "completed",
            "action": {"commands": ["ls -l", "pwd"], "timeout_ms": 100},
        },
        "shell",
        {"commands": ["ls -l", "pwd"], "command_line": "ls -l\npwd", "timeout_ms": 100},
        ["ls -l", "pwd"],
    ),
    "local_shell": Kind(
        lambda body: LocalShellTool(executor=lambda request: body.run(request.data.action.command)),
        {
            "type": "local_shell_call",
            "status": "completed",
            "action": {
                "type": "exec",
                "command": ["ls", "-l"],
                "env": {"A": "b"},
                "working_directory": "/srv",
            },
        },
        "local_shell",
        {"command": ["ls", "-l"], "command_line": "ls -l", "env": {"A": "b"}, "working_directory": "/srv"},
        ["ls", "-l"],
        failure_ends_the_run=True,
    ),
    "apply_patch": Kind(
        lambda body: ApplyPatchTool(editor=Editor(body)),
        {
            "type": "apply_patch_call",
            "status": "completed",
            "operation": {"type": "create_file", "path": "a.txt", "diff": "+x"},
        },
        "apply_patch",
        {"type": "create_file", "path": "a.txt", "diff": "+x"},
        "a.txt",
    ),
    "custom": Kind(
        lambda body: CustomTool(
            name="query", description="", on_invoke_tool=lambda context, text: body.run(text)
        ),
        {"type": "custom_tool_call", "name": "query", "input": "select 1"},
        "query",
        {"input": "select 1"},
        "select 1",
    ),
    "computer": Kind(
        lambda body: ComputerTool(computer=Screen(body)),
        {
            "type": "computer_call",
            "status": "completed",
            "pending_safety_checks": [],
            "actions": [{"type": "click", "x": 1, "y": 2, "button": "left"}],
        },
        "computer",
        {"type": "click", "x": 1, "y": 2, "button": "left"},
        (1, 2, "left"),
        failure_ends_the_run=True,
        refusal_ends_the_run=True,
    ),
}


def an_agent(*tools: Any, calls: list[Any], **options: Any) -> tuple[Agent[Any], ScriptedModel]:
    """An agent named Clerk, whose model makes `calls` in one turn, and then is done."""
    model = ScriptedModel([calls, [assistant_message("done")]])
    return Agent(name="Clerk", tools=list(tools), model=model, **options), model


def a_call(kind: Kind, number: int = 1, **changed: Any) -> Any:
    """One call of that kind, as a model makes it."""
    if kind.call["type"] == "function_call":
        return function_call(kind.call["name"], kind.call["arguments"], call_id=f"call_{number}")
    return {**kind.call, "id": f"item_{number}", "call_id": f"call_{number}", **changed}


async def run(agent: Agent[Any], **options: Any) -> Any:
    return await Runner.run(agent, "go", run_config=RunConfig(group_id="group", **options))


def read_by(model: ScriptedModel) -> list[str]:
    """What the model read as the output of each call, as text."""
    outputs = [
        item["output"]
        for item in model.calls[-1].input
        if isinstance(item, dict) and str(item.get("type")).endswith("_output")
    ]
    return [_text(output) for output in outputs]


def _text(output: Any) -> str:
    if isinstance(output, list):
        return "".join(part.get("stdout") or part.get("text") for part in output)
    return output["image_url"] if isinstance(output, dict) else output
