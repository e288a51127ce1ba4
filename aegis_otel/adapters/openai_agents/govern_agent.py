"""`govern_agent`: a governed copy of one agent, for those who want no class of the SDK patched.

The copy is of a subclass of the agent's own class. The SDK asks every agent for its tools on each turn,
and this one answers with governed ones: whatever was added later, and the tools of MCP servers, too. So it
does when its handoffs are read.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import weakref
from typing import Any, TypeVar

import agents
from agents import ComputerProvider, ComputerTool, FunctionTool, Handoff
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.capture.local_tools import LOCAL
from aegis_otel.adapters.openai_agents.capture.proxies import Computer
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.adapters.openai_agents.coverage.coverage import ALL_TOOLS, MODE, coverage
from aegis_otel.adapters.openai_agents.coverage.handoffs import Leading, target_of_handoff
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import AGENT, kind_of, name_of
from aegis_otel.adapters.openai_agents.coverage.ungoverned import Ungoverned
from aegis_otel.adapters.openai_agents.gates.actions import factory_of
from aegis_otel.adapters.openai_agents.gates.function_gate import Gate, is_governed
from aegis_otel.adapters.openai_agents.gates.local_gate import LocalGate, gate_of, own_of
from aegis_otel.adapters.openai_agents.governed_tool import behind_gate
from aegis_otel.config import ON_UNGOVERNED
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.runtime import Runtime

HANDOFFS = "handoffs"
AgentT = TypeVar("AgentT", bound=AgentBase[Any])


def govern_agent(agent: AgentT, *, runtime: Runtime, on_ungoverned: str | None = None) -> AgentT:
    """A copy of `agent` whose tools are under the policy of `runtime`; the agent itself is left as it is.

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
    if hasattr(type(agent), MODE):
        raise ConfigError(f"agent `{agent.name}` is governed already: remove one `govern_agent`")
    return _Governance(runtime, ON_UNGOVERNED.value(on_ungoverned)).agent(agent)


class _Governance:
    """The copies that were made of agents which lead to each other."""

    def __init__(self, runtime: Runtime, reaction: str) -> None:
        self.runtime = runtime
        self.ungoverned = Ungoverned(reaction, runtime.mode)
        # By id of the agent, which its copy keeps alive.
        self._copies: weakref.WeakValueDictionary[int, AgentBase[Any]] = weakref.WeakValueDictionary()

    def agent(self, agent: AgentT) -> AgentT:
        """The governed copy of `agent`: always the same."""
        known: Any = self._copies.get(id(agent))
        if known is not None or hasattr(type(agent), MODE):
            return known or agent
        if ALL_TOOLS in vars(agent):
            raise ConfigError(
                f"agent `{name_of(agent)}` has a `{ALL_TOOLS}` of its own, which the SDK would ask past its "
                "governed class: make it a method of a subclass"
            )
        governed = copy.copy(agent)
        object.__setattr__(governed, "__class__", _governed_class(agent, self))
        self._copies[id(agent)] = governed  # before its handoffs, which may lead back
        governed.tools = list(agent.tools)
        if hasattr(agent, HANDOFFS):
            setattr(governed, HANDOFFS, getattr(agent, HANDOFFS))
        return governed

    def handoff(self, handoff: Any) -> Any:
        """What leads to the governed copy of where `handoff` leads."""
        if isinstance(handoff, AgentBase):
            return self.agent(handoff)
        if not isinstance(handoff, Handoff) or isinstance(handoff.on_invoke_handoff, Leading):
            return handoff
        target: Any = target_of_handoff(handoff)
        known = None if target is None else self.agent(target)
        replaced = copy.copy(handoff)
        replaced.on_invoke_handoff = Leading(handoff.on_invoke_handoff, self.agent, known)
        replaced._agent_ref = None if known is None else weakref.ref(known)
        return replaced


class _Handoffs:
    """The handoffs of a governed agent: whatever is put in the list is governed when it is read."""

    def __init__(self, governance: _Governance) -> None:
        self._governance = governance

    def __get__(self, agent: Any, owner: type | None = None) -> Any:
        if agent is None:
            raise AttributeError(HANDOFFS)  # as of the SDK's class, whose field has no default there
        held = vars(agent)[HANDOFFS]
        for index, handoff in enumerate(held):
            held[index] = self._governance.handoff(handoff)
        return held

    def __set__(self, agent: Any, handoffs: Any) -> None:
        # A list of its own, because the one given may be that of an agent which is to stay as it is.
        vars(agent)[HANDOFFS] = list(handoffs)


def _governed_class(agent: AgentBase[Any], governance: _Governance) -> type:
    base = type(agent)
    tools = _Tools(governance, agent)

    class Governed(base):  # type: ignore[misc, valid-type]
        """Its tools are governed."""

        async def get_all_tools(self, run_context: Any) -> list[Any]:
            return tools.governed(self, await super().get_all_tools(run_context))

    if hasattr(agent, HANDOFFS):
        setattr(Governed, HANDOFFS, _Handoffs(governance))
    Governed.__name__, Governed.__qualname__ = base.__name__, base.__qualname__
    setattr(Governed, MODE, governance.runtime.mode)
    return Governed


class _Tools:
    """The governed copy of each tool of one agent: the same each turn, and gone with the tool."""

    def __init__(self, governance: _Governance, agent: AgentBase[Any]) -> None:
        self._governance = governance
        self._original = agent  # kept for `_Governance.agent`
        self._copies: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def governed(self, agent: AgentBase[Any], tools: list[Any]) -> list[Any]:
        """What the SDK gets in place of `tools`."""
        name = name_of(agent)
        self._governance.ungoverned.look(agent, tools)
        for tool in tools:
            if kind_of(tool) is AGENT:
                inside: Any = getattr(tool, "_agent_instance", None)
                self._governance.ungoverned.react(coverage(inside, installed=CapturePoint.installed).gaps)
        return [self._copy(name, tool) for tool in tools]

    def _copy(self, agent: str, tool: Any) -> Any:
        key = id(tool)
        known = self._copies.get(key)
        if known is None or known[0]() is not tool:
            reference = weakref.ref(tool, lambda _: self._copies.pop(key, None))
            known = self._copies[key] = (reference, self._made(agent, tool))
        return known[1]

    def _made(self, agent: str, tool: Any) -> Any:
        governor = self._governance.runtime.governor
        if isinstance(tool, FunctionTool):
            if is_governed(tool):
                return tool
            return behind_gate(tool, Gate(governor, factory_of(tool, {})))
        gate = LocalGate(governor, {}, agent)
        if isinstance(tool, ComputerTool):
            return dataclasses.replace(tool, computer=_computer(tool.computer, gate))
        for owner, local in LOCAL.items():
            part = own_of(vars(tool).get(local.attribute)) if isinstance(tool, owner) else None
            if part is not None:
                governed = copy.copy(tool)
                vars(governed)[local.attribute] = local.stand_in(part, gate, tool.name)
                return governed
        return tool


def _computer(computer: Any, gate: LocalGate) -> Any:
    """The computer, or what makes one for each run, with `gate` before it."""
    if gate_of(computer) is not None:
        return computer
    if isinstance(computer, agents.Computer | agents.AsyncComputer):
        return Computer(computer, gate)
    if callable(create := getattr(computer, "create", None)):
        dispose = getattr(computer, "dispose", None)
        return ComputerProvider(create=_maker(create, gate), dispose=dispose and _disposer(dispose))
    return _maker(computer, gate)


def _maker(create: Any, gate: LocalGate) -> Any:
    async def governed(*, run_context: Any) -> Any:
        made = create(run_context=run_context)
        return Computer(await made if inspect.isawaitable(made) else made, gate)

    return governed


def _disposer(dispose: Any) -> Any:
    def of_own(*, run_context: Any, computer: Any) -> Any:
        return dispose(run_context=run_context, computer=own_of(computer))

    return of_own
