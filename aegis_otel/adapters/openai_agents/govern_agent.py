"""`govern_agent`: a governed copy of one agent, for programs that want no class of the SDK changed.

The copy is of a subclass of the agent's own class. The SDK asks every agent for its tools in each turn, and
the copy answers with governed ones: also tools that were added later, and the tools of MCP servers. In the
same way its handoffs are governed when they are read.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import weakref
from typing import Any, TypeVar

import agents
from agents import ComputerProvider, FunctionTool, Handoff
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.adapters.openai_agents.coverage import tool_kinds
from aegis_otel.adapters.openai_agents.coverage.agent_walk import ALL_TOOLS, GOVERNED_MODE, abilities
from aegis_otel.adapters.openai_agents.coverage.coverage import coverage
from aegis_otel.adapters.openai_agents.coverage.ungoverned import UngovernedTools
from aegis_otel.adapters.openai_agents.gates.action_factory import factory_of
from aegis_otel.adapters.openai_agents.gates.function_gate import is_governed
from aegis_otel.adapters.openai_agents.gates.gate_proxy import gate_of, unwrap
from aegis_otel.adapters.openai_agents.gates.local_tool_kinds import (
    LOCAL_TOOL_KINDS,
    ComputerProxy,
    LocalGate,
    ToolProxy,
)
from aegis_otel.adapters.openai_agents.governed_tool import behind_gate
from aegis_otel.config import ON_UNGOVERNED
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.runtime import Runtime

HANDOFFS = "handoffs"
AgentT = TypeVar("AgentT", bound=AgentBase[Any])


def govern_agent(agent: AgentT, *, runtime: Runtime, on_ungoverned: str | None = None) -> AgentT:
    """Return a copy of `agent` whose tools are under the policy of `runtime`; leave the agent as it is.

    So are, recursively, the agents it hands off to, also those added later. What runs inside a tool made by
    `agent.as_tool()` is out of reach: govern the agent first, `govern_agent(inner,
    runtime=runtime).as_tool(...)`; otherwise it is treated as a tool that cannot be governed.

    Args:
        agent: An Agent or RealtimeAgent. Tools governed already stay as they are.
        runtime: Policy, audit and approvals.
        on_ungoverned: What a tool that cannot be governed leads to, when the agent runs: `allow`, `warn`
            or `refuse`; default `AEGIS_ON_UNGOVERNED`, else `warn`.

    Raises:
        ConfigError: an argument is unusable, `agent` is such a copy already, or it has a
            `get_all_tools` in the instance.
    """
    if not isinstance(runtime, Runtime):
        raise ConfigError(f"`runtime` is a `{type(runtime).__name__}`: pass Runtime(policy=...)")
    if not isinstance(agent, AgentBase):
        raise ConfigError(f"`agent` is a `{type(agent).__name__}`: pass an Agent or RealtimeAgent")
    if hasattr(type(agent), GOVERNED_MODE):
        raise ConfigError(f"agent `{agent.name}` is governed already: remove one `govern_agent`")
    return _GovernedAgents(runtime, ON_UNGOVERNED.value(on_ungoverned)).copy_of(agent)


class _GovernedAgents:
    """Makes the governed copies of agents that lead to each other."""

    def __init__(self, runtime: Runtime, reaction: str) -> None:
        self.runtime = runtime
        self.ungoverned = UngovernedTools(reaction, runtime.mode, runtime.tool_ungoverned)
        # By id of the agent, which its copy keeps alive.
        self._copies: weakref.WeakValueDictionary[int, AgentBase[Any]] = weakref.WeakValueDictionary()

    def copy_of(self, agent: AgentT) -> AgentT:
        """Return the governed copy of `agent`: always the same one."""
        known: Any = self._copies.get(id(agent))
        if known is not None or hasattr(type(agent), GOVERNED_MODE):
            return known or agent
        if ALL_TOOLS in vars(agent):
            raise ConfigError(
                f"agent `{tool_kinds.name_of(agent)}` has a `{ALL_TOOLS}` of its own, which the SDK would "
                "ask past its governed class: make it a method of a subclass"
            )
        governed = copy.copy(agent)
        object.__setattr__(governed, "__class__", _governed_class(agent, self))
        self._copies[id(agent)] = governed  # before its handoffs, which may lead back
        governed.tools = list(agent.tools)
        if hasattr(agent, HANDOFFS):
            setattr(governed, HANDOFFS, getattr(agent, HANDOFFS))
        return governed

    def govern_handoff(self, handoff: Any) -> Any:
        """Return a handoff that leads to the governed copy of the agent that `handoff` leads to."""
        if isinstance(handoff, AgentBase):
            return self.copy_of(handoff)
        if not isinstance(handoff, Handoff) or hasattr(
            handoff.on_invoke_handoff, tool_kinds.GOVERNED_HANDOFF
        ):
            return handoff
        target: Any = tool_kinds.target_of_handoff(handoff)
        known = None if target is None else self.copy_of(target)
        original = handoff.on_invoke_handoff

        async def invoke(context: Any, arguments: str) -> Any:
            return self.copy_of(await original(context, arguments))

        # A handoff holds its agent weakly, so the copy is kept here.
        vars(invoke).update({tool_kinds.GOVERNED_HANDOFF: original, "_aegis_target": known})
        replaced = copy.copy(handoff)
        replaced.on_invoke_handoff = invoke
        replaced._agent_ref = None if known is None else weakref.ref(known)
        return replaced


class _Handoffs:
    """The handoffs of a governed agent: whatever is put in the list is governed when it is read."""

    def __init__(self, governed: _GovernedAgents) -> None:
        self._governed = governed

    def __get__(self, agent: Any, owner: type | None = None) -> Any:
        if agent is None:
            raise AttributeError(HANDOFFS)  # as of the SDK's class, whose field has no default there
        handoffs = vars(agent)[HANDOFFS]
        handoffs[:] = map(self._governed.govern_handoff, handoffs)
        return handoffs

    def __set__(self, agent: Any, handoffs: Any) -> None:
        # A copy of the list, because the one given may be that of an agent which is to stay as it is.
        vars(agent)[HANDOFFS] = list(handoffs)


def _governed_class(agent: AgentBase[Any], governed: _GovernedAgents) -> type:
    base = type(agent)
    tools = _Tools(governed, agent)

    class Governed(base):  # type: ignore[misc, valid-type]
        """Its tools are governed."""

        async def get_all_tools(self, run_context: Any) -> list[Any]:
            return tools.govern(self, await super().get_all_tools(run_context))

    if hasattr(agent, HANDOFFS):
        setattr(Governed, HANDOFFS, _Handoffs(governed))
    Governed.__name__, Governed.__qualname__ = base.__name__, base.__qualname__
    setattr(Governed, GOVERNED_MODE, governed.runtime.mode)
    return Governed


class _Tools:
    """The governed copies of one agent's tools: each is the same in every turn, and freed with its tool."""

    def __init__(self, governed: _GovernedAgents, agent: AgentBase[Any]) -> None:
        self._governed = governed
        self._original = agent  # kept alive for `_GovernedAgents.copy_of`
        self._copies: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def govern(self, agent: AgentBase[Any], tools: list[Any]) -> list[Any]:
        """Return the tools that the SDK gets in place of `tools`."""
        ungoverned = self._governed.ungoverned
        ungoverned.check(abilities(agent, tools))
        for tool in tools:
            if tool_kinds.kind_of(tool) is tool_kinds.AGENT:
                inside: Any = getattr(tool, "_agent_instance", None)
                ungoverned.react(coverage(inside, installed=CapturePoint.installed).gaps)
        name = tool_kinds.name_of(agent)
        return [self._copy(name, tool) for tool in tools]

    def _copy(self, agent: str, tool: Any) -> Any:
        key = id(tool)
        known = self._copies.get(key)
        if known is None or known[0]() is not tool:
            reference = weakref.ref(tool, lambda _: self._copies.pop(key, None))
            known = self._copies[key] = (reference, self._make(agent, tool))
        return known[1]

    def _make(self, agent: str, tool: Any) -> Any:
        governor = self._governed.runtime.governor
        if isinstance(tool, FunctionTool):
            return tool if is_governed(tool) else behind_gate(tool, governor, factory_of(tool, {}))
        gate = LocalGate(governor, {}, agent)
        kind = next((kind for kind in LOCAL_TOOL_KINDS if isinstance(tool, kind.tool)), None)
        if kind is None:
            return tool
        if kind.proxy is ComputerProxy:
            return dataclasses.replace(tool, computer=_govern_computer(tool.computer, gate))
        part = unwrap(vars(tool).get(kind.attribute), ToolProxy)
        if part is None:
            return tool
        governed = copy.copy(tool)
        vars(governed)[kind.attribute] = kind.proxy(part, gate, tool.name)
        return governed


def _govern_computer(computer: Any, gate: LocalGate) -> Any:
    """Return the computer behind `gate`, or a factory of such computers where it is a factory."""
    if gate_of(computer, ToolProxy) is not None:
        return computer
    if isinstance(computer, agents.Computer | agents.AsyncComputer):
        return ComputerProxy(computer, gate)

    def maker(create: Any) -> Any:
        async def governed(*, run_context: Any) -> Any:
            made = create(run_context=run_context)
            return ComputerProxy(await made if inspect.isawaitable(made) else made, gate)

        return governed

    if not callable(create := getattr(computer, "create", None)):
        return maker(computer)
    dispose = getattr(computer, "dispose", None)

    def dispose_own(*, run_context: Any, computer: Any) -> Any:
        assert dispose is not None
        return dispose(run_context=run_context, computer=unwrap(computer, ToolProxy))

    return ComputerProvider(create=maker(create), dispose=dispose and dispose_own)
