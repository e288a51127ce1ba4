"""Put a gate before every `FunctionTool`, whenever and by whomever it was made.

The gate is asked where the SDK runs the input guardrails of a call, before them. A data descriptor on the
class puts it before the body, too, while what the user set stays in the instance. So MCP tools that are
rebuilt in each turn, agents as tools, tools of agents handed to, and tools made earlier or later are all
covered, and taking both away leaves no trace.

The two functions that run input guardrails are private to the SDK. An SDK without them, or in which they take
other arguments, is refused; where one no longer calls them, the gate before the body still decides.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from agents import FunctionTool, ToolInputGuardrailData
from agents import tool as sdk_tool
from agents.run_internal import tool_execution
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.capture.per_tool_cache import PerToolCache
from aegis_otel.adapters.openai_agents.gates.action_factory import LiveFactory, Targets, names_of
from aegis_otel.adapters.openai_agents.gates.argument_validation import SDK_INVOKER
from aegis_otel.adapters.openai_agents.gates.function_gate import (
    FactoryOf,
    Gate,
    GovernanceGuardrail,
    Guard,
    Invoke,
    is_governed,
    own_guardrail,
)
from aegis_otel.adapters.openai_agents.gates.gate_proxy import gate_of, unwrap
from aegis_otel.adapters.openai_agents.gates.invoker import GatedBody, gated
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor
from aegis_otel.policy import Policy

GUARDRAILS = "_execute_tool_input_guardrails"
"""The function that runs the input guardrails of a call, in `agents.run_internal.tool_execution`."""
REALTIME = "agents.realtime.session"
REALTIME_GUARDRAILS = "_run_tool_input_guardrails"
"""The method of a `RealtimeSession` that does the same."""
INVOKER = "on_invoke_tool"
_SdkInvoker: Any = getattr(sdk_tool, SDK_INVOKER, None)
_OUTPUT_NAME = "json_tool_call"
_OUTPUT_MAKER: Any = getattr(tool_execution, "build_litellm_json_tool_call", None)
_OUTPUT_CODE = [] if _OUTPUT_MAKER is None else [each for each in _OUTPUT_MAKER.__code__.co_consts if each]

Execute = Callable[..., Awaitable[str | None]]


class Gates:
    """The gates of function tools: each is made when the SDK first reads its tool, and freed with it."""

    def __init__(self, governor: Governor, targets: Targets) -> None:
        self.governor = governor
        self._targets = targets
        self.retired = False
        """True once the gates were taken away; those that are still held let every call pass."""
        self._gates: PerToolCache[Gate] = PerToolCache()
        self._invokers: PerToolCache[tuple[Invoke, bool, Invoke]] = PerToolCache()
        """Invokers behind their gates, each with what it was made from: the invoker, and `inspectable`."""

    def of(self, tool: FunctionTool) -> Gate:
        """Return the gate of `tool`."""
        found = self._gates.get(tool)
        if found is not None:
            return found
        return self.put(tool, self._make(LiveFactory(weakref.ref(tool), self._targets)))

    def _make(self, factory: FactoryOf) -> ToolGate:
        return ToolGate(self, factory)

    def put(self, tool: FunctionTool, gate: Gate) -> Gate:
        """Set the gate of `tool`, and return it."""
        self._invokers.drop(tool)
        return self._gates.put(tool, gate)

    def invoker(self, tool: FunctionTool, raw: Invoke) -> Invoke:
        """Return `raw` behind the gate of `tool`; always the same object, as the SDK compares by identity."""
        fields = vars(tool)  # no more than needed: the SDK reads an invoker ten times a call
        own = own_guardrail(tool) if fields.get("tool_input_guardrails") else None
        if isinstance(own, SharedGuardrail) and own.gates is not self:
            return own.gates.invoker(tool, raw)
        # The SDK inspects arguments for the user's own callable, and must not for ours: see `gated`.
        inspectable = callable(fields.get("needs_approval"))
        known = self._invokers.get(tool)
        if known is not None and known[0] is raw and known[1] is inspectable:
            return known[2]
        gate = gate_of(raw, GatedBody)
        if (gate is not None and not isinstance(gate, ToolGate)) or _is_output(tool):
            return raw
        # Any other gate in `raw` is that of another capture point, from which the invoker was read.
        invoker = gated(unwrap(raw, GatedBody), self._gate_before(tool, own), inspectable=inspectable)
        self._invokers.put(tool, (raw, inspectable, invoker))
        return invoker

    def around(self, tool: FunctionTool, raw: Invoke) -> Invoke:
        """Return `raw` behind the gate of `tool`: the SDK's invoker, read from it before it had a gate."""
        own = own_guardrail(tool)
        if self.retired or _is_output(tool) or isinstance(own, SharedGuardrail):
            return raw
        inspectable = callable(vars(tool).get("needs_approval"))
        return gated(raw, self._gate_before(tool, own), inspectable=inspectable)

    def _gate_before(self, tool: FunctionTool, own: GovernanceGuardrail | None) -> Gate:
        return self.of(tool) if own is None or own.gate is None else own.gate

    def decides_on(self, tool: FunctionTool) -> bool:
        """Return whether the guardrails' place decides on calls of `tool`: it has no gate of its own.

        For what only passes for a FunctionTool, such as a proxy, the gate before the body decides.
        """
        return issubclass(type(tool), FunctionTool) and not is_governed(tool) and not _is_output(tool)

    def retire(self) -> None:
        """Let every call pass from now on, and remove what tools hold of the gates."""
        self.retired = True
        self._gates.clear()
        self._invokers.clear()


class ToolGate(Gate):
    """A gate that belongs to the SDK's classes, and not to one tool of the user's making."""

    is_on_class = True

    def __init__(self, gates: Gates, factory: FactoryOf) -> None:
        super().__init__(gates.governor, factory)
        self.gates = gates
        self._may_stop: tuple[Policy, str | None, bool] | None = None

    @property
    def tool(self) -> FunctionTool | None:
        """Return the tool; None where it is gone, because nobody else holds it."""
        return self._factory.tool() if isinstance(self._factory, LiveFactory) else None

    @property
    def retired(self) -> bool:
        return self.gates.retired

    def _tools_behind(self, data: ToolInputGuardrailData) -> Callable[[], Sequence[FunctionTool]]:  # noqa: ARG002
        tool = self.tool  # held until the call is over, as the SDK makes tools of MCP servers for one turn
        return lambda: () if tool is None else (tool,)

    def own_approval(self) -> object:
        tool = self.tool
        return vars(tool).get("needs_approval", False) if tool is not None else False

    def may_stop(self) -> bool:
        policy, tool, known = self.governor.policy, self.tool, self._may_stop
        name = None if tool is None else tool.name
        if known is None or known[0] is not policy or known[1] != name:
            # A tool that is gone may have had any name.
            stops = tool is None or not all(map(policy.always_allows, names_of(tool)))
            known = self._may_stop = (policy, name, stops)
        return known[2] or self.governor.unavailable is not None

    def guards_same_tool(self, gate: Gate) -> bool:
        if gate is self or not isinstance(gate, ToolGate) or gate.governor is not self.governor:
            return gate is self
        tool, other = self.tool, gate.tool
        return tool is not None and other is not None and tool.qualified_name == other.qualified_name


class SharedGuardrail(GovernanceGuardrail):
    """One guardrail for many tools of the user's choice; each tool has its own gate behind it."""

    def __init__(self, guard: Guard, gates: Gates) -> None:
        super().__init__(guard, gates.governor)
        self.gates = gates


def _is_output(tool: FunctionTool) -> bool:
    """Return whether the SDK made `tool` for a final output, which models give as a call behind LiteLLM.

    The code of its invoker says so, because any tool may have the name.
    """
    fields = vars(tool)
    return fields["name"] == _OUTPUT_NAME and getattr(fields[INVOKER], "__code__", None) in _OUTPUT_CODE


def install(gates: Gates, patches: Patches) -> None:
    """Put a gate before the input guardrails of every `FunctionTool`, and before its body.

    Raises:
        ConfigError: this version of the SDK runs input guardrails in another way.
    """
    gates.retired = False
    patches.on_undo(gates.retire)

    def decide_first(owner: Any, name: str, parameters: set[str], wrapper: Callable[..., Any]) -> None:
        found: Any = vars(owner).get(name)
        known = (
            inspect.iscoroutinefunction(found) and parameters <= inspect.signature(found).parameters.keys()
        )
        if not known:
            raise ConfigError(
                f"this version of openai-agents has no `{owner.__name__}.{name}` as known here, where "
                "aegis-otel decides on calls: pin openai-agents to a version named in the README"
            )
        patches.wrap(owner, name, functools.partial(wrapper, gates))

    def decide_first_in_sessions(module: Any) -> None:
        decide_first(module.RealtimeSession, REALTIME_GUARDRAILS, {"self", "tool"}, _decide_first_in_session)

    # The one place before a body that can refuse the call with a text for the model.
    decide_first(tool_execution, GUARDRAILS, {"func_tool", "tool_context", "agent"}, _decide_first)
    # The same of a realtime session, whose module takes long to import.
    patches.when_imported(REALTIME, decide_first_in_sessions)
    # Whoever reads the invoker of a tool gets it behind the gate, which sees the body's end.
    patches.set(FunctionTool, INVOKER, _InvokerAttribute(gates))
    if _SdkInvoker is not None:
        # Invokers that a program has read from tools before this call.
        patches.wrap(_SdkInvoker, "__call__", functools.partial(_gate_ungated, gates))


async def _decide_first(gates: Gates, execute: Execute, **given: Any) -> str | None:
    """Decide on a call, then run its input guardrails with `execute`; return a refusal of either.

    So the gate is in none of the lists that a program reads: neither among a tool's guardrails, nor among
    the results of a run, nor in a saved state.
    """
    tool = given["func_tool"]
    if gates.decides_on(tool):  # else its own gate is among its guardrails
        data = ToolInputGuardrailData(context=given["tool_context"], agent=given["agent"])
        behavior = (await gates.of(tool).guard(data)).behavior
        if behavior["type"] == "reject_content":
            return behavior["message"]
    return await execute(**given)


async def _decide_first_in_session(gates: Gates, run: Execute, session: Any, **given: Any) -> str | None:
    """Do as `_decide_first` in a realtime session, which itself makes the context that the gate is given."""
    tool = given["tool"]
    if gates.decides_on(tool):
        only_ours = SimpleNamespace(tool_input_guardrails=[gates.of(tool).guardrail])  # all it reads
        refusal = await run(session, **given | {"tool": only_ours})
        if refusal is not None:
            return refusal
    return await run(session, **given)


def _gate_ungated(
    gates: Gates, call: Callable[..., Awaitable[Any]], invoker: Any, ctx: ToolContext[Any], input: str
) -> Awaitable[Any]:
    """Call an invoker of the SDK with `call`; one that was read from a tool earlier, behind the tool's gate.

    A program may have wrapped it: then the gate before the wrapper does not see what the SDK validates.
    """
    tool = getattr(invoker, "_function_tool", None)
    if tool is None or gate_of(invoker._invoke_tool_impl, GatedBody) is not None:
        return call(invoker, ctx, input)
    behind = gates.around(tool, invoker)
    return call(invoker, ctx, input) if behind is invoker else behind(ctx, input)


class _InvokerAttribute:
    """`on_invoke_tool`, with the gate before the body."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def __get__(self, tool: FunctionTool | None, owner: type[FunctionTool]) -> Any:
        if tool is None or INVOKER not in vars(tool):
            raise AttributeError(INVOKER)
        return self._gates.invoker(tool, vars(tool)[INVOKER])

    def __set__(self, tool: FunctionTool, invoker: Invoke) -> None:
        if isinstance(gate_of(invoker, GatedBody), ToolGate):  # read from a tool, for a copy of it
            invoker = unwrap(invoker, GatedBody)
        vars(tool)[INVOKER] = invoker
