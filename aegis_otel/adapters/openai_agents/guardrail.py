"""`governance_guardrail`: governance by an input guardrail that you put on tools; no class is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from agents import FunctionTool, ToolGuardrailFunctionOutput, ToolInputGuardrail, ToolInputGuardrailData
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.capture.function_tools import Gates, SharedGuardrail, ToolGate
from aegis_otel.adapters.openai_agents.gates.action_factory import (
    DEFAULT_TARGET,
    ActionFactory,
    with_look_alikes,
)
from aegis_otel.adapters.openai_agents.gates.body_watch import is_sync
from aegis_otel.adapters.openai_agents.gates.function_gate import (
    FactoryOf,
    Gate,
    PermittedCall,
    Unfinished,
)
from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import ConfigError
from aegis_otel.governance.call import Call
from aegis_otel.governance.error_text import describe, error_type
from aegis_otel.runtime.runtime import Runtime

_UNSEEN = "Cancelled; a synchronous tool goes on in its thread, and nobody saw how it ended"


def governance_guardrail(runtime: Runtime) -> ToolInputGuardrail[Any]:
    """Return a guardrail for `tool_input_guardrails=[...]` of tools and MCP servers.

    Put it last: what a later guardrail rejects is recorded as if it had run. A guardrail does not see its
    tool's body. So a call is recorded as failed only if an exception leaves the tool (the SDK turns most
    into text), its duration is unknown, and `RuntimeHooks.on_execute` is called for refused calls only.
    `governed_tool`, `govern_agent` and `instrument` see all of that; beside them, no call is decided twice.

    Args:
        runtime: Policy, audit and approvals.

    Raises:
        ConfigError: `runtime` is not a Runtime.
    """
    if not isinstance(runtime, Runtime):
        raise ConfigError(f"`runtime` is a `{type(runtime).__name__}`: pass Runtime(policy=...)")
    gates = _WatchingGates(runtime.governor, {})

    async def guard(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        return await gates.find(data).guard(data)

    return SharedGuardrail(guard, gates)


class _WatchingGates(Gates):
    def find(self, data: ToolInputGuardrailData) -> Gate:
        """Return the gate of the tool that is called.

        It has no schema where the agent does not list the tool (MCP), or lists more than one of that name.
        """
        name, qualified = data.context.tool_name, data.context.qualified_tool_name
        listed = [each for each in getattr(data.agent, "tools", ()) if isinstance(each, FunctionTool)]
        called = [each for each in listed if each.qualified_name == qualified]
        if len(called) == 1:
            return self.of(called[0])
        target = data.context.tool_namespace or DEFAULT_TARGET
        factory = ActionFactory({}, [(each, target) for each in with_look_alikes(_names(name))], "")
        gate = self._make(lambda: factory)
        gate.unlisted_name = name
        return gate

    def _make(self, factory: FactoryOf) -> _WatchingGate:
        return _WatchingGate(self, factory)


def _names(shown: str) -> Iterator[str]:
    """Yield the names that an unlisted tool may have: the SDK puts `mcp_<server>__` before names of MCP."""
    yield shown
    if shown.startswith("mcp_"):
        parts = shown.split("__")
        yield from ("__".join(parts[number:]) for number in range(1, len(parts)))


class _WatchingGate(ToolGate):
    """Sees the end of the SDK's task for the call, because it does not see the body."""

    unlisted_name: str | None = None
    """The name of a tool that could not be found; the gate before its body may be another one then."""

    def admits_to(self, gate: Gate) -> bool:
        if self.unlisted_name is None or not isinstance(gate, ToolGate):
            return gate is self
        return gate.gates is self.gates and gate.tool is not None and gate.tool.name == self.unlisted_name

    def _is_preview(self, context: ToolContext[Any]) -> bool:  # noqa: ARG002
        return False  # no gate behind it could still decide

    def _let_proceed(self, permitted: PermittedCall, data: ToolInputGuardrailData) -> None:
        if permitted.prepared is not None:
            permitted.prepared.hand_on(data.context)
        super()._let_proceed(permitted, data)

    def _unfinished(self, call: Call, task: asyncio.Task[Any], tools: Sequence[FunctionTool]) -> Unfinished:  # noqa: ARG002
        if task.cancelled():
            # The end of the task is not the end of a function in a thread, which cannot be seen here.
            if self.tool is None or is_sync(self.tool.on_invoke_tool):
                return Unfinished(RecordStatus.UNKNOWN, _UNSEEN)
            return Unfinished(RecordStatus.CANCELLED, "Cancelled while running")
        if (error := task.exception()) is not None:
            call.error_type = error_type(type(error))
            return Unfinished(RecordStatus.FAILED, describe(error))
        return Unfinished(RecordStatus.SUCCESS)
