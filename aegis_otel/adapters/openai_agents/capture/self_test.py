"""Whether the capture point captures: a real run on a written model, whose tool must not be reached.

Other people's classes are changed, and an SDK that no longer looks where we stand would run tools as if
nothing were installed. So before anything is trusted, two calls are made to be stopped: one by the
guardrail, one by the invoker behind it.

Whether the capture point captures the local tools: one call of each kind, made to be stopped.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
import weakref
from typing import Any

from agents import (
    Agent,
    ApplyPatchTool,
    AsyncComputer,
    ComputerTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    RunConfig,
    Runner,
    ShellTool,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrailData,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.capture.function_tools import INVOKER, Gates, ToolGate
from aegis_otel.adapters.openai_agents.gates.actions import LiveActions
from aegis_otel.adapters.openai_agents.gates.approval_check import Look
from aegis_otel.adapters.openai_agents.gates.function_gate import Invoke
from aegis_otel.adapters.openai_agents.gates.invoker import has_known_body
from aegis_otel.adapters.openai_agents.gates.local_gate import closed
from aegis_otel.errors import ConfigError
from aegis_otel.governance.interruptions import GOES, WAITS, Ruling

_NAME = "aegis_self_test"
_STOPPED_BY_PROXY = "stopped by the stand-in"
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
        ShellTool(executor=_unreached_body),
        LocalShellTool(executor=_unreached_body),
        ApplyPatchTool(editor=_Editor()),
        CustomTool(name=_NAME, description="", on_invoke_tool=_unreached_body),
        ComputerTool(computer=_Screen()),
    ]
    calls: Any = [
        {**call, "status": "completed", "id": f"id_{n}", "call_id": f"call_{n}"}
        for n, call in enumerate(_CALLS)
    ]
    model = ScriptedModel([calls, [assistant_message("done")]])
    agent = Agent(name=_NAME, tools=tools, model=model)
    token = closed.set(_STOPPED_BY_PROXY)
    try:
        await Runner.run(agent, "", run_config=RunConfig(tracing_disabled=True))
    finally:
        closed.reset(token)
    read = [
        str(item.get("output"))
        for item in model.calls[-1].input
        if isinstance(item, dict) and str(item.get("type")).endswith("_output")
    ]
    if len(read) == len(calls) and all(_STOPPED_BY_PROXY in output for output in read):
        return None
    return f"of calls of local tools, the model read {read}"


def _unreached_body(*_: Any) -> str:
    return "the body was reached"


class _Editor:
    create_file = update_file = delete_file = staticmethod(_unreached_body)


async def _act(*_: Any) -> str:
    return _unreached_body()


_Screen: Any = type("_Screen", (AsyncComputer,), dict.fromkeys(AsyncComputer.__abstractmethods__, _act))


_PATIENCE_S = 30.0
_STEP_S = 0.5
_STOPPED = ["stopped by the guardrail", "stopped by the invoker"]


def self_test(gates: Gates, *, interrupts: bool = False) -> None:
    """Check that the SDK asks the installed capture point before it runs a tool's body.

    Nothing is decided, recorded or traced.

    Args:
        gates: What is installed.
        interrupts: Whether it pauses runs too, and that is to be seen.

    Raises:
        ConfigError: it does not; the message says what was seen.
    """
    attempt = _Attempt(gates, interrupts)
    thread = threading.Thread(target=attempt.run, name="aegis-self-test", daemon=True)
    thread.start()  # a loop of its own: the caller may be inside one
    while thread.is_alive() and not attempt.selector.is_stuck():
        thread.join(_STEP_S)
    if attempt.fault is not None:
        raise ConfigError(
            f"the self-test of the capture point failed, so tools would run ungoverned: {attempt.fault}; "
            "pin openai-agents to a version named in the README"
        )


class _Selector(selectors.DefaultSelector):
    """Knows for how long its loop has had nothing to do: on a busy machine a run is slow, and not stuck."""

    def __init__(self) -> None:
        super().__init__()
        self._idle_since: float | None = None

    def select(self, timeout: float | None = None) -> Any:
        """Wait; with work to do, a loop asks without waiting."""
        self._idle_since = time.monotonic() if timeout is None or timeout > 0 else None
        try:
            return super().select(timeout)
        finally:
            self._idle_since = None

    def is_stuck(self) -> bool:
        """Return whether the loop waits for what will not come: nothing in the run takes time."""
        since = self._idle_since
        return since is not None and time.monotonic() - since > _PATIENCE_S


class _Attempt:
    def __init__(self, gates: Gates, interrupts: bool) -> None:
        self._gates = gates
        self._interrupts = interrupts
        self.selector = _Selector()
        self.fault: str | None = f"it stood still for {_PATIENCE_S:g} s"

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(self.selector)) as runner:
                self.fault = runner.run(self._look())
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"

    async def _look(self) -> str | None:
        made = vars(function_tool(_body, name_override=_NAME))[INVOKER]
        if not has_known_body(made):
            return f"tools made of functions have an unknown `{type(made).__name__}`, so failures go unseen"
        return await self._calls() or await local_fault()

    async def _calls(self) -> str | None:
        reached = False

        async def body(context: ToolContext[Any], arguments: str) -> str:  # noqa: ARG001
            nonlocal reached
            reached = True
            return "reached"

        schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
        tool = FunctionTool(name=_NAME, description="", params_json_schema=schema, on_invoke_tool=body)
        actions = LiveActions(weakref.ref(tool), {})
        closed = _Closed(self._gates, self._gates.governor, actions)
        self._gates.put(tool, closed)
        model = ScriptedModel(
            [
                [function_call(_NAME, {}, call_id="guardrail")],
                [function_call(_NAME, {}, call_id="invoker")],
                [assistant_message("done")],
            ]
        )
        agent = Agent(name=_NAME, tools=[tool], model=model)
        quiet = RunConfig(tracing_disabled=True)
        result = await Runner.run(agent, "", run_config=quiet)
        for closed.open_questions in (1, 0) if self._interrupts else ():
            if len(result.interruptions) != 1:
                return "a call was not put to a human, or not again when only the SDK knew of an answer"
            state = result.to_state()
            state.approve(result.interruptions[0])
            result = await Runner.run(agent, state, run_config=quiet)
        read = [
            item["output"]
            for item in model.calls[-1].input
            if isinstance(item, dict) and item.get("type") == "function_call_output"
        ]
        if reached:
            return "the body of a tool was reached"
        return None if read == _STOPPED else f"the model read {read}"


def _body() -> None:
    """Stand as the body of a tool that is never called."""


class _Closed(ToolGate):
    """Lets nothing through: the first call not past the guardrail, the second not past the invoker."""

    open_questions = 2

    async def judge(self, look: Look, wanted: bool, trusted: bool) -> Ruling:  # noqa: ARG002
        return WAITS if self.open_questions else GOES

    def may_stop(self) -> bool:
        return True

    async def guard(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        if data.context.tool_call_id == "guardrail":
            return ToolGuardrailFunctionOutput.reject_content(_STOPPED[0])
        return ToolGuardrailFunctionOutput.allow()

    async def invoke(self, body: Invoke, context: ToolContext[Any], arguments: str) -> Any:  # noqa: ARG002
        return _STOPPED[1]
