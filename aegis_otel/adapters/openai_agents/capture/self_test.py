"""Check that tool calls can be governed here: real runs on a scripted model, whose tools must not be reached.

Classes of the SDK are changed, and a version of the SDK that no longer asks them would run tools as if
nothing were installed. So before anything is trusted, calls of every kind are made that must be stopped: of
a function tool, one by the guardrail and one by the invoker behind it, and one of each kind of local tool.
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
    FunctionTool,
    RunConfig,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrailData,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.capture.function_tools import INVOKER, Gates, ToolGate
from aegis_otel.adapters.openai_agents.gates.action_factory import LiveFactory
from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck
from aegis_otel.adapters.openai_agents.gates.function_gate import Invoke
from aegis_otel.adapters.openai_agents.gates.invoker import has_known_body
from aegis_otel.adapters.openai_agents.gates.local_tool_kinds import (
    LOCAL_TOOL_KINDS,
    SELF_TEST,
    self_test_output,
)
from aegis_otel.errors import ConfigError
from aegis_otel.governance.approvals.paused.paused_rows import NextStep, Step

_PATIENCE_S = 30.0
"""Seconds for which the loop of the self-test may have nothing to do. The test takes some 20 ms and has no
deadline, which a busy machine would miss."""
_STEP_S = 0.5
_STOPPED = ["stopped by the guardrail", "stopped by the invoker"]
_STOPPED_BY_PROXY = "stopped by the proxy"
_UNTRACED = RunConfig(tracing_disabled=True)


def self_test(gates: Gates, *, interrupts: bool = False) -> None:
    """Check that the SDK asks the installed capture point before it runs the body of a tool.

    Nothing is decided, recorded or traced.

    Args:
        gates: The installed gates of function tools.
        interrupts: Whether the capture point pauses runs for a human; then that is checked, too.

    Raises:
        ConfigError: the SDK does not ask; the message says what happened.
    """
    selector = _IdleSelector()
    fault: str | None = f"it stood still for {_PATIENCE_S:g} s"

    def attempt() -> None:
        nonlocal fault
        try:
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
                fault = runner.run(_find_fault(gates, interrupts))
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"

    # In a thread with a loop of its own, because the caller may be inside a loop.
    thread = threading.Thread(target=attempt, name="aegis-self-test", daemon=True)
    thread.start()
    while thread.is_alive() and not selector.is_stuck():
        thread.join(_STEP_S)
    if fault is not None:
        raise ConfigError(
            f"the self-test of the capture point failed, so tools would run ungoverned: {fault}; "
            "pin openai-agents to a version named in the README"
        )


class _IdleSelector(selectors.DefaultSelector):
    """Measures how long its loop has had nothing to do: on a busy machine a run is slow, but not stuck."""

    _idle_since: float | None = None

    def select(self, timeout: float | None = None) -> Any:
        """Wait for events; a loop that has work to do calls this with a timeout of 0."""
        self._idle_since = time.monotonic() if timeout is None or timeout > 0 else None
        try:
            return super().select(timeout)
        finally:
            self._idle_since = None

    def is_stuck(self) -> bool:
        """Return whether the loop waits in vain: nothing in the run takes that much time."""
        since = self._idle_since
        return since is not None and time.monotonic() - since > _PATIENCE_S


async def _find_fault(gates: Gates, interrupts: bool) -> str | None:
    """Return what is wrong; None where every call was stopped."""
    invoker = vars(function_tool(lambda: None, name_override=SELF_TEST))[INVOKER]
    if not has_known_body(invoker):
        return f"tools made of functions have an unknown `{type(invoker).__name__}`, so failures go unseen"
    return await _find_fault_of_function_tools(gates, interrupts) or await _find_fault_of_local_tools()


async def _find_fault_of_function_tools(gates: Gates, interrupts: bool) -> str | None:
    reached = False

    async def body(context: ToolContext[Any], arguments: str) -> str:  # noqa: ARG001
        nonlocal reached
        reached = True
        return "reached"

    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tool = FunctionTool(name=SELF_TEST, description="", params_json_schema=schema, on_invoke_tool=body)
    gate = _ClosedGate(gates, LiveFactory(weakref.ref(tool), {}))
    gates.put(tool, gate)
    calls = [[function_call(SELF_TEST, {}, call_id=call_id)] for call_id in ("guardrail", "invoker")]
    model = ScriptedModel([*calls, [assistant_message("done")]])
    agent = Agent(name=SELF_TEST, tools=[tool], model=model)
    result = await Runner.run(agent, "", run_config=_UNTRACED)
    for gate.open_questions in (1, 0) if interrupts else ():
        if len(result.interruptions) != 1:
            return "a call was not put to a human, or not again when only the SDK knew of an answer"
        state = result.to_state()
        state.approve(result.interruptions[0])
        result = await Runner.run(agent, state, run_config=_UNTRACED)
    if reached:
        return "the body of a tool was reached"
    outputs = _outputs(model)
    return None if outputs == _STOPPED else f"the model read {outputs}"


async def _find_fault_of_local_tools() -> str | None:
    calls: Any = [
        {**kind.self_test_call, "status": "completed", "id": f"id_{n}", "call_id": f"call_{n}"}
        for n, kind in enumerate(LOCAL_TOOL_KINDS)
    ]
    model = ScriptedModel([calls, [assistant_message("done")]])
    tools = [
        kind.tool(**{kind.attribute: kind.self_test_part}, **(kind.self_test_fields or {}))
        for kind in LOCAL_TOOL_KINDS
    ]
    agent = Agent(name=SELF_TEST, tools=tools, model=model)
    token = self_test_output.set(_STOPPED_BY_PROXY)
    try:
        await Runner.run(agent, "", run_config=_UNTRACED)
    finally:
        self_test_output.reset(token)
    outputs = [str(output) for output in _outputs(model)]
    if len(outputs) == len(calls) and all(_STOPPED_BY_PROXY in output for output in outputs):
        return None
    return f"of calls of local tools, the model read {outputs}"


def _outputs(model: ScriptedModel) -> list[Any]:
    """Return the outputs of tools that the model was sent last."""
    return [
        item.get("output")
        for item in model.calls[-1].input
        if isinstance(item, dict) and str(item.get("type")).endswith("_output")
    ]


class _ClosedGate(ToolGate):
    """Stops the call `guardrail` at the guardrail, and the call `invoker` at the invoker."""

    open_questions = 2

    async def next_step(self, check: ApprovalCheck, tool_asks: bool, trusted: bool) -> NextStep:  # noqa: ARG002
        return NextStep(Step.PAUSE if self.open_questions else Step.PROCEED)

    def may_stop(self) -> bool:
        return True

    async def guard(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        if data.context.tool_call_id == "guardrail":
            return ToolGuardrailFunctionOutput.reject_content(_STOPPED[0])
        return ToolGuardrailFunctionOutput.allow()

    async def invoke(self, body: Invoke, context: ToolContext[Any], arguments: str) -> Any:  # noqa: ARG002
        return _STOPPED[1]
