"""The capture point on the class: every `FunctionTool` behind a gate, whenever and by whomever it was made.

Two data descriptors on the SDK's class. What the user set stays in the instance; what the SDK reads has
the gate in front. So MCP tools that are rebuilt each turn, agents as tools, tools of agents handed to and
tools made before or after are all covered, and taking the descriptors away leaves no trace.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, NamedTuple, overload

from agents import FunctionTool, ToolInputGuardrail

from aegis_otel.adapters.openai_agents.actions import LiveActions, Targets, names_of
from aegis_otel.adapters.openai_agents.gate import (
    Actions,
    Gate,
    GovernanceGuardrail,
    Guard,
    Invoke,
    is_governed,
    own_guardrail,
)
from aegis_otel.adapters.openai_agents.invoker import gate_of, gated, ungated
from aegis_otel.adapters.openai_agents.kept import Kept
from aegis_otel.adapters.openai_agents.patches import Patches
from aegis_otel.policy import Policy
from aegis_otel.runtime.governor import Governor

GUARDRAILS = "tool_input_guardrails"
INVOKER = "on_invoke_tool"


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
        self._gates: Kept[Gate] = Kept()
        self._invokers: Kept[_Made] = Kept()

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
        own = own_guardrail(tool) if fields.get(GUARDRAILS) else None
        if isinstance(own, SharedGuardrail) and own.gates is not self:
            return own.gates.invoker(tool, raw)
        # The SDK looks at arguments for the user's own callable, and must not for ours: see `gated`.
        inspectable = callable(fields.get("needs_approval"))
        known = self._invokers.get(tool)
        if known is not None and known.raw is raw and known.inspectable is inspectable:
            return known.invoker
        there = gate_of(raw)
        if there is not None and not isinstance(there, ToolGate):
            return raw
        # One of another capture point, read from a tool then, is none; and a governed tool has its own gate.
        gate = self.of(tool) if own is None or own.gate is None else own.gate
        invoker = gated(ungated(raw), gate, inspectable=inspectable)
        return self._invokers.put(tool, _Made(raw, inspectable, invoker)).invoker

    def made(self, gate: object) -> bool:
        """Whether `gate` is one of these, whatever became of its tool."""
        return isinstance(gate, ToolGate) and gate.among is self

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


def install(gates: Gates, patches: Patches) -> None:
    """Put the capture point on `FunctionTool`."""
    gates.retired = False
    patches.afterwards(gates.retire)
    patches.set(FunctionTool, GUARDRAILS, _Guardrails(gates))
    patches.set(FunctionTool, INVOKER, _Invoker(gates))


class _Guardrails:
    """`tool_input_guardrails`: ours, then the user's own."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def __get__(self, tool: FunctionTool | None, owner: type[FunctionTool]) -> Any:
        if tool is None:
            return None  # the field's default
        own = vars(tool).get(GUARDRAILS)
        if is_governed(tool):
            return own
        return Guarded(tool, self._gates.of(tool).guardrail)

    def __set__(self, tool: FunctionTool, guardrails: Any) -> None:
        if isinstance(guardrails, Guarded):  # read from a tool, for a copy of it
            guardrails = guardrails.own
        elif guardrails and any(self._is_ours(each) for each in guardrails):
            guardrails = [each for each in guardrails if not self._is_ours(each)]
        vars(tool)[GUARDRAILS] = guardrails

    def _is_ours(self, guardrail: ToolInputGuardrail[Any]) -> bool:
        return self._gates.made(getattr(guardrail.guardrail_function, "__self__", None))


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


class Guarded(MutableSequence[ToolInputGuardrail[Any]]):
    """The input guardrails of a tool as the SDK sees them: ours first. Changes go to the tool's own list."""

    def __init__(self, tool: FunctionTool, ours: GovernanceGuardrail) -> None:
        self._tool = tool
        self._ours = ours

    @property
    def own(self) -> list[ToolInputGuardrail[Any]] | None:
        """What the user set."""
        own: list[ToolInputGuardrail[Any]] | None = vars(self._tool).get(GUARDRAILS)
        return own

    def _all(self) -> list[ToolInputGuardrail[Any]]:
        return [self._ours, *(self.own or ())]

    def _replace(self, every: Iterable[ToolInputGuardrail[Any]]) -> None:
        kept = [each for each in every if each is not self._ours]
        if self.own is None:
            vars(self._tool)[GUARDRAILS] = kept
        else:
            self.own[:] = kept

    @overload
    def __getitem__(self, index: int) -> ToolInputGuardrail[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[ToolInputGuardrail[Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._all()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        every = self._all()
        every[index] = value
        self._replace(every)

    def __delitem__(self, index: Any) -> None:
        every = self._all()
        del every[index]
        self._replace(every)

    def __len__(self) -> int:
        return 1 + len(self.own or ())

    def __iter__(self) -> Iterator[ToolInputGuardrail[Any]]:
        return iter(self._all())

    def insert(self, index: int, value: ToolInputGuardrail[Any]) -> None:
        every = self._all()
        every.insert(index, value)
        self._replace(every)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guarded) and (self.own or []) == (other.own or [])

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, more: Iterable[ToolInputGuardrail[Any]]) -> list[ToolInputGuardrail[Any]]:
        return [*self, *more]

    def __repr__(self) -> str:
        return repr(self._all())
