"""The capture point: where a tool call of the SDK meets the governor.

It is the tool's first input guardrail, because the SDK runs that right before the body, outside the
tool's own timeout, gives it the agent and the call id, and hands its text to the model. The body's
invoker is wrapped too: it is where the body's end is seen, and it decides itself when user code calls
`tool.on_invoke_tool` directly and no guardrail ran.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agents import FunctionTool, ToolGuardrailFunctionOutput, ToolInputGuardrail, ToolInputGuardrailData
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.arguments import ActionFactory, origin_of
from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.call import Call
from aegis_otel.runtime.governor import LARGE_ARGUMENTS, Governor

Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]

_NOT_STARTED = "Its body was not started: stopped by another guardrail or a hook"
_SDK_INVOKER = "_FailureHandlingFunctionToolInvoker"
_SDK_IMPLEMENTATION = "_invoke_tool_impl"


@dataclasses.dataclass(slots=True, eq=False)
class _Admission:
    """A call that passed the guardrail, on its way to its body in the same context."""

    gate: Gate
    call: Call
    arguments: str
    used: bool = False


_admission: ContextVar[_Admission | None] = ContextVar("aegis_otel_admission", default=None)


class Gate:
    """One tool's way to the governor."""

    def __init__(self, governor: Governor, actions: ActionFactory) -> None:
        self._governor = governor
        self._actions = actions

    async def guard(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """The input guardrail: the refusal's text is the tool's output, and the run goes on."""
        context = data.context
        arguments = context.tool_arguments
        call = await self._authorize(context, arguments, getattr(data.agent, "name", None))
        if call.refusal is not None:
            return ToolGuardrailFunctionOutput.reject_content(
                call.refusal, output_info={"decision_id": call.record.decision_id}
            )
        _admission.set(_Admission(self, call, arguments))
        self._close_with_task(call)
        return ToolGuardrailFunctionOutput.allow(output_info={"decision_id": call.record.decision_id})

    async def invoke(self, body: Invoke, context: ToolContext[Any], arguments: str) -> Any:
        """Run the body of an admitted call; decide first where no guardrail did."""
        admission = _admission.get()
        if (
            admission is not None
            and admission.gate is self
            and not admission.used
            and admission.call.status is RecordStatus.OPEN
            and admission.arguments == arguments
            and admission.call.origin.tool_call_id == context.tool_call_id
        ):
            admission.used = True
            call = admission.call
        else:
            call = await self._authorize(context, arguments, getattr(context.agent, "name", None))
            if call.refusal is not None:
                return call.refusal
        return await self._governor.run(call, lambda: body(context, arguments))

    async def _authorize(self, context: ToolContext[Any], arguments: str, agent: str | None) -> Call:
        if len(arguments) >= LARGE_ARGUMENTS:
            action, fault = await asyncio.to_thread(self._actions.make, arguments, agent)
        else:
            action, fault = self._actions.make(arguments, agent)
        return await self._governor.authorize(action, origin_of(context, arguments), fault=fault)

    def _close_with_task(self, call: Call) -> None:
        """Close the row of a call whose body never starts: another guardrail rejects, a hook raises."""

        def close(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                self._governor.abandon(call, RecordStatus.CANCELLED, "Cancelled before it started")
            else:
                self._governor.abandon(call, RecordStatus.SKIPPED, _NOT_STARTED)

        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(close)


def governed(tool: FunctionTool, governor: Governor, actions: ActionFactory) -> FunctionTool:
    """A copy of `tool` behind a gate. Everything else of it stays as it was.

    Raises:
        ConfigError: the tool is governed already, or this SDK's tools are built in a way not known here.
    """
    guardrails = tool.tool_input_guardrails or []
    if is_governed(tool):
        raise ConfigError(f"tool `{tool.name}` is governed already: remove one `governed_tool`")
    gate = Gate(governor, actions)
    return dataclasses.replace(
        tool,
        tool_input_guardrails=[GovernanceGuardrail(gate.guard, name="aegis"), *guardrails],
        on_invoke_tool=_gated(tool.on_invoke_tool, gate),
    )


class GovernanceGuardrail(ToolInputGuardrail[Any]):
    """Our guardrail, told apart from others by its type."""


def is_governed(tool: FunctionTool) -> bool:
    """Whether `tool` carries a gate of its own."""
    return any(isinstance(guardrail, GovernanceGuardrail) for guardrail in tool.tool_input_guardrails or [])


def _gated(invoker: Invoke, gate: Gate) -> Invoke:
    """The invoker with the gate as close to the body as it can be.

    The SDK's own invoker turns the body's exceptions into text for the model (`failure_error_function`).
    The gate goes inside of it, so that a failure is seen and recorded, and then handled as without us.
    """
    if type(invoker).__name__ != _SDK_INVOKER:
        return _wrapped(invoker, gate)
    implementation = getattr(invoker, _SDK_IMPLEMENTATION, None)
    if implementation is None:
        raise ConfigError(
            "this version of openai-agents builds function tools in a way aegis-otel does not know: "
            "pin openai-agents to a version named in the README"
        )
    inside = copy.copy(invoker)
    setattr(inside, _SDK_IMPLEMENTATION, _wrapped(implementation, gate))
    return _Invoker(inside)


class _Invoker:
    """The SDK's invoker behind a plain call.

    Where the SDK knows its own invoker, it forces a manual approval instead of asking a callable
    `needs_approval` whenever arguments rely on defaults or coercion. Behind this it asks.
    """

    def __init__(self, invoker: Any) -> None:
        self._invoker = invoker
        # The mark by which the SDK refuses a time limit on a sync function, which it could not stop.
        vars(self).update({name: value for name, value in vars(invoker).items() if name.startswith("__")})

    def __agents_bind_function_tool__(self, tool: FunctionTool) -> _Invoker:
        """The SDK's way to tell an invoker which copy of a tool it belongs to."""
        return _Invoker(self._invoker.__agents_bind_function_tool__(tool))

    async def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        return await self._invoker(context, arguments)


def _wrapped(body: Invoke, gate: Gate) -> Invoke:
    @functools.wraps(body)
    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        return await gate.invoke(body, context, arguments)

    return invoke
