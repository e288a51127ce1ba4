"""The capture point: every `FunctionTool` behind a gate, whenever and by whomever it was made.

The gate is asked where the SDK runs the input guardrails of a call, before them. A data descriptor on the
class has it before the body, too: what the user set stays in the instance. So MCP tools that are rebuilt
each turn, agents as tools, tools of agents handed to and tools made before or after are all covered, and
taking both away leaves no trace.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from agents import FunctionTool, ToolInputGuardrailData
from agents import tool as sdk_tool
from agents.run_internal import tool_execution
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.capture.per_tool_cache import PerToolCache
from aegis_otel.adapters.openai_agents.gates.actions import LiveActions, Targets, names_of
from aegis_otel.adapters.openai_agents.gates.function_gate import (
    Actions,
    Gate,
    GovernanceGuardrail,
    Guard,
    Invoke,
    is_governed,
    own_guardrail,
)
from aegis_otel.adapters.openai_agents.gates.invoker import gate_of, gated, ungated
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor
from aegis_otel.policy import Policy

GUARDRAILS = "_execute_tool_input_guardrails"
"""What runs the input guardrails of a call, in `agents.run_internal.tool_execution`."""
_GUARDED = {"func_tool", "tool_context", "agent"}
REALTIME = "agents.realtime.session"
REALTIME_GUARDRAILS = "_run_tool_input_guardrails"
"""The same of a `RealtimeSession`."""
_GUARDED_REALTIME = {"self", "tool"}
INVOKER = "on_invoke_tool"
_OWN_GUARDRAILS = "tool_input_guardrails"
_SdkInvoker: Any = getattr(sdk_tool, "_FailureHandlingFunctionToolInvoker", None)
_OUTPUT_NAME = "json_tool_call"
_OUTPUT_MAKER: Any = getattr(tool_execution, "build_litellm_json_tool_call", None)
_OUTPUT_CODE = [] if _OUTPUT_MAKER is None else [each for each in _OUTPUT_MAKER.__code__.co_consts if each]

Execute = Callable[..., Awaitable[str | None]]


class _Made(NamedTuple):
    """An invoker with its gate: for which one, whether inspectable, and what was made of it."""

    raw: Invoke
    inspectable: bool
    invoker: Invoke


class Gates:
    """The gate of each tool, made when the SDK first looks at the tool, and gone with it."""

    def __init__(self, governor: Governor, targets: Targets) -> None:
        self.governor = governor
        self._targets = targets
        self.retired = False
        """Whether they were taken away: what is still held of them lets calls by."""
        self._gates: PerToolCache[Gate] = PerToolCache()
        self._invokers: PerToolCache[_Made] = PerToolCache()

    def of(self, tool: FunctionTool) -> Gate:
        """The gate of `tool`."""
        found = self._gates.get(tool)
        if found is not None:
            return found
        return self.put(tool, self._make(LiveActions(weakref.ref(tool), self._targets)))

    def _make(self, actions: Actions) -> ToolGate:
        return ToolGate(self, self.governor, actions)

    def put(self, tool: FunctionTool, gate: Gate) -> Gate:
        """Make `gate` the one of `tool`."""
        self._invokers.drop(tool)
        return self._gates.put(tool, gate)

    def invoker(self, tool: FunctionTool, raw: Invoke) -> Invoke:
        """`raw` behind the gate of `tool`; the same object each time, as the SDK compares by identity."""
        fields = vars(tool)  # no more than needed: the SDK asks ten times a call
        own = own_guardrail(tool) if fields.get(_OWN_GUARDRAILS) else None
        if isinstance(own, SharedGuardrail) and own.gates is not self:
            return own.gates.invoker(tool, raw)
        # The SDK looks at arguments for the user's own callable, and must not for ours: see `gated`.
        inspectable = callable(fields.get("needs_approval"))
        known = self._invokers.get(tool)
        if known is not None and known.raw is raw and known.inspectable is inspectable:
            return known.invoker
        there = gate_of(raw)
        if (there is not None and not isinstance(there, ToolGate)) or _is_output(tool):
            return raw
        # One of another capture point, read from a tool then, is none; and a governed tool has its own gate.
        gate = self.of(tool) if own is None or own.gate is None else own.gate
        invoker = gated(ungated(raw), gate, inspectable=inspectable)
        return self._invokers.put(tool, _Made(raw, inspectable, invoker)).invoker

    def around(self, tool: FunctionTool, raw: Invoke) -> Invoke:
        """Return `raw` behind the gate of `tool`: the SDK's own invoker, read from it before it had one."""
        own = own_guardrail(tool)
        if self.retired or _is_output(tool) or isinstance(own, SharedGuardrail):
            return raw
        gate = self.of(tool) if own is None or own.gate is None else own.gate
        return gated(raw, gate, inspectable=callable(vars(tool).get("needs_approval")))

    def stand_before(self, tool: FunctionTool) -> bool:
        """Return whether a call of `tool` is to be decided on here.

        What only passes for a FunctionTool, such as a proxy, is decided on before its body.
        """
        return issubclass(type(tool), FunctionTool) and not is_governed(tool) and not _is_output(tool)

    async def refusal(self, tool: FunctionTool, context: ToolContext[Any], agent: Any) -> str | None:
        """Decide on a call, and return the text that the model gets in place of it; None admits it.

        A tool with a gate of its own has that among its guardrails.
        """
        if not self.stand_before(tool):
            return None
        behavior = (await self.of(tool).guard(ToolInputGuardrailData(context=context, agent=agent))).behavior
        return behavior["message"] if behavior["type"] == "reject_content" else None

    def retire(self) -> None:
        """Stand aside from now on, and leave no trace in tools."""
        self.retired = True
        self._gates.clear()
        self._invokers.clear()


class ToolGate(Gate):
    """A gate that belongs to the class, and not to one tool of the user's making."""

    def __init__(self, among: Gates, governor: Governor, actions: Actions) -> None:
        super().__init__(governor, actions)
        self.among = among
        self._may_stop: tuple[Policy, str | None, bool] | None = None

    is_on_class = True

    @property
    def retired(self) -> bool:
        return self.among.retired

    def own_approval(self) -> object:
        tool = self._actions.tool() if isinstance(self._actions, LiveActions) else None
        return vars(tool).get("needs_approval", False) if tool is not None else False

    def may_stop(self) -> bool:
        policy, name = self.governor.policy, self.tool_name
        known = self._may_stop
        if known is None or known[0] is not policy or known[1] != name:
            stops = not (names := self.tool_names) or not all(map(policy.always_allows, names))
            known = self._may_stop = (policy, name, stops)
        return known[2] or self.governor.unavailable is not None

    @property
    def tool_name(self) -> str | None:
        """What its tool is called now."""
        tool = self._actions.tool() if isinstance(self._actions, LiveActions) else None
        return None if tool is None else tool.name

    @property
    def tool_names(self) -> list[str]:
        """Every name of its tool that a rule may match; none where it is gone."""
        tool = self._actions.tool() if isinstance(self._actions, LiveActions) else None
        return [] if tool is None else names_of(tool)

    def continues(self, gate: Gate) -> bool:
        return gate is self or (
            isinstance(gate, ToolGate)
            and gate.governor is self.governor
            and self._qualified_name is not None
            and gate._qualified_name == self._qualified_name
        )

    @property
    def _qualified_name(self) -> str | None:
        tool = self._actions.tool() if isinstance(self._actions, LiveActions) else None
        return None if tool is None else tool.qualified_name


class SharedGuardrail(GovernanceGuardrail):
    """One guardrail for many tools of the user's choice; each tool has its own gate behind it."""

    def __init__(self, guard: Guard, gates: Gates) -> None:
        super().__init__(guard, gates.governor)
        self.gates = gates


def _is_output(tool: FunctionTool) -> bool:
    """Return whether the SDK made `tool` of a final output, which LiteLLM has models give as a call.

    Told by its code: a name is the model's to choose.
    """
    fields = vars(tool)
    return fields["name"] == _OUTPUT_NAME and getattr(fields[INVOKER], "__code__", None) in _OUTPUT_CODE


def install(gates: Gates, patches: Patches) -> None:
    """Put the capture point before the input guardrails of every `FunctionTool`, and before its body.

    Raises:
        ConfigError: this SDK runs input guardrails in another way.
    """
    gates.retired = False
    patches.afterwards(gates.retire)
    execute = _known(tool_execution, GUARDRAILS, _GUARDED)
    patches.set(tool_execution, GUARDRAILS, _first(gates, execute))
    patches.set(FunctionTool, INVOKER, _Invoker(gates))
    if _SdkInvoker is not None:
        patches.set(_SdkInvoker, "__call__", _ungated_too(gates, vars(_SdkInvoker)["__call__"]))
    patches.when_imported(REALTIME, lambda module: _install_realtime(gates, patches, module))


def _install_realtime(gates: Gates, patches: Patches, module: Any) -> None:
    session = module.RealtimeSession
    run = _known(session, REALTIME_GUARDRAILS, _GUARDED_REALTIME)
    patches.set(session, REALTIME_GUARDRAILS, _first_in_realtime(gates, run))


def _known(owner: Any, name: str, parameters: set[str]) -> Execute:
    """Return the SDK's function; raises ConfigError where it takes something else than `parameters`."""
    found: Any = vars(owner).get(name)
    if not inspect.iscoroutinefunction(found) or not parameters <= inspect.signature(found).parameters.keys():
        raise ConfigError(
            f"this version of openai-agents has no `{owner.__name__}.{name}` as known here, where aegis-otel "
            "decides on calls: pin openai-agents to a version named in the README"
        )
    execute: Execute = found
    return execute


def _first(gates: Gates, execute: Execute) -> Execute:
    """Return the SDK's way to run the input guardrails of a call, with the gate before it.

    So the gate is in none of the lists that a program reads: neither among a tool's guardrails, nor among
    the results of a run, nor in a saved state.
    """

    @functools.wraps(execute)
    async def decided(**given: Any) -> str | None:
        refusal = await gates.refusal(given["func_tool"], given["tool_context"], given["agent"])
        return await execute(**given) if refusal is None else refusal

    return decided


def _ungated_too(gates: Gates, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return the SDK's way to call its invokers, with the gate before one that was read from a tool earlier.

    A program may have wrapped it: then the gate before the wrapper knows nothing of what the SDK validates.
    """

    @functools.wraps(call)
    def called(self: Any, ctx: ToolContext[Any], input: str) -> Awaitable[Any]:
        tool = getattr(self, "_function_tool", None)
        if tool is None or gate_of(self._invoke_tool_impl) is not None:
            return call(self, ctx, input)
        behind = gates.around(tool, self)
        return call(self, ctx, input) if behind is self else behind(ctx, input)

    return called


def _first_in_realtime(gates: Gates, run: Execute) -> Execute:
    """As `_first`, for a realtime session: the SDK itself makes the context that the gate is asked with."""

    @functools.wraps(run)
    async def decided(session: Any, **given: Any) -> str | None:
        tool = given["tool"]
        refusal = None
        if gates.stand_before(tool):
            refusal = await run(session, **given | {"tool": _Only([gates.of(tool).guardrail])})
        return await run(session, **given) if refusal is None else refusal

    return decided


class _Only(NamedTuple):
    """All that a realtime session reads of a tool to run its input guardrails."""

    tool_input_guardrails: list[GovernanceGuardrail]


class _Invoker:
    """`on_invoke_tool`, with the gate before the body."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def __get__(self, tool: FunctionTool | None, owner: type[FunctionTool]) -> Any:
        if tool is None or INVOKER not in vars(tool):
            raise AttributeError(INVOKER)
        return self._gates.invoker(tool, vars(tool)[INVOKER])

    def __set__(self, tool: FunctionTool, invoker: Invoke) -> None:
        if isinstance(gate_of(invoker), ToolGate):  # read from a tool, for a copy of it
            invoker = ungated(invoker)
        vars(tool)[INVOKER] = invoker
