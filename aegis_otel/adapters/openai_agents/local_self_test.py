"""Whether the capture point captures the local tools: one call of each kind, made to be stopped."""

from __future__ import annotations

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
)
from agents.testing import ScriptedModel, assistant_message

from aegis_otel.adapters.openai_agents.local_gate import closed

_NAME = "aegis_self_test"
_STOPPED = "stopped by the stand-in"
_CALLS: list[Any] = [
    {"type": "shell_call", "action": {"commands": ["true"]}},
    {"type": "local_shell_call", "action": {"type": "exec", "command": ["true"], "env": {}}},
    {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "none"}},
    {"type": "custom_tool_call", "name": _NAME, "input": ""},
    {"type": "computer_call", "pending_safety_checks": [], "actions": [{"type": "screenshot"}]},
]


async def local_fault() -> str | None:
    """What is wrong: the body of a tool was reached; None where nothing is."""
    tools: list[Any] = [
        ShellTool(executor=_body),
        LocalShellTool(executor=_body),
        ApplyPatchTool(editor=_Editor()),
        CustomTool(name=_NAME, description="", on_invoke_tool=_body),
        ComputerTool(computer=_Screen()),
    ]
    calls: Any = [
        {**call, "status": "completed", "id": f"id_{n}", "call_id": f"call_{n}"}
        for n, call in enumerate(_CALLS)
    ]
    model = ScriptedModel([calls, [assistant_message("done")]])
    agent = Agent(name=_NAME, tools=tools, model=model)
    token = closed.set(_STOPPED)
    try:
        await Runner.run(agent, "", run_config=RunConfig(tracing_disabled=True))
    finally:
        closed.reset(token)
    read = [
        str(item.get("output"))
        for item in model.calls[-1].input
        if isinstance(item, dict) and str(item.get("type")).endswith("_output")
    ]
    if len(read) == len(calls) and all(_STOPPED in output for output in read):
        return None
    return f"of calls of local tools, the model read {read}"


def _body(*_: Any) -> str:
    return "the body was reached"


class _Editor:
    create_file = update_file = delete_file = staticmethod(_body)


async def _act(*_: Any) -> str:
    return _body()


_Screen: Any = type("_Screen", (AsyncComputer,), dict.fromkeys(AsyncComputer.__abstractmethods__, _act))
