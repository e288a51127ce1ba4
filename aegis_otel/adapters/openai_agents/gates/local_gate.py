"""The gate of the tools whose body is a part the user gave them: an executor, an editor, a computer.

These tools have no guardrails. The SDK asks for approval where the user wants one, then calls the part;
so what it calls is a stand-in that decides first. The part itself is never changed.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import wrapt

from aegis_otel.adapters.openai_agents.gates.actions import (
    DEFAULT_TARGET,
    Targets,
    conversation_of,
    named_target,
)
from aegis_otel.adapters.openai_agents.gates.body_failure import returned_failure
from aegis_otel.adapters.openai_agents.gates.local_actions import Schema
from aegis_otel.adapters.openai_agents.tracing.span_bridge import at_current_span
from aegis_otel.governance import refusal
from aegis_otel.governance.call import Origin
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.governor import Governor
from aegis_otel.governance.recording import rough_size
from aegis_otel.model import Action

_log = logging.getLogger("aegis_otel")


class Turn(NamedTuple):
    """Whose call it is that the SDK carries out, where the part is told nothing of it."""

    agent: str | None = None
    call_id: str | None = None
    run_config: Any = None


turn: ContextVar[Turn | None] = ContextVar("aegis_otel_turn", default=None)
closed: ContextVar[str | None] = ContextVar("aegis_otel_closed", default=None)
"""The text that a tool gives instead of running its body, without a record, for the self-test."""


class LocalGate:
    """The way of local tools to the governor."""

    is_on_class = False
    """Whether the tools themselves know nothing of it, and any copy of one has it all the same."""

    def __init__(self, governor: Governor, targets: Targets, agent: str | None = None) -> None:
        """
        Args:
            governor: Decides.
            targets: What rules match as `match.target`, by tool name.
            agent: Whose tools these are, where no turn tells.
        """
        self._governor = governor
        self._targets = targets
        self._agent = agent
        self.retired = False
        """Whether calls are let by, undecided."""

    async def through(
        self,
        tool: str,
        schema: Schema,
        params: Callable[[], Mapping[str, Any]],
        body: Callable[[], Any],
        refused: Callable[[str], Any],
        *,
        call_id: str | None = None,
    ) -> Any:
        """Decide, then run `body` and give what it gives; else what `refused` makes of the reason.

        Args:
            tool: Its name, the type of the action.
            schema: Of `params`.
            params: What a rule sees.
            body: May give an awaitable. Its exceptions pass.
            refused: Called with the text for the model.
            call_id: Of the model's call, where the part is told.
        """
        if closed.get() is not None:
            return closed.get()

        async def run() -> Any:
            value = body()
            return await value if inspect.isawaitable(value) else value

        if self.retired:
            return await run()
        now = turn.get() or Turn(self._agent)
        fault = None
        target = named_target(tool, self._targets) or DEFAULT_TARGET
        try:
            action = Action(tool, target, params(), agent=now.agent, schema=schema)
        except Exception as error:
            _log.error("the call of `%s` could not be understood: %s", tool, traced(error))
            action, fault = Action(tool, target, agent=now.agent), refusal.UNAVAILABLE
        origin = Origin(
            tool_name=tool,
            tool_call_id=call_id or now.call_id,
            conversation_id=conversation_of(now.run_config),
            size=rough_size(action.params),
        )
        with at_current_span():
            call = await self._governor.authorize(action, origin, fault=fault)
            if call.refusal is not None:
                return refused(call.refusal)
            return await self._governor.run(call, run, failed=returned_failure)


class StandIn(wrapt.BaseObjectProxy[Any]):
    """Something of the user's with a gate before it; whatever else is read from it or set on it is its."""

    def __init__(self, own: Any, gate: LocalGate, tool: str) -> None:
        super().__init__(own)
        self._self_gate = gate
        self._self_tool = tool

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> StandIn:
        return type(self)(copy.copy(self.__wrapped__), self._self_gate, self._self_tool)

    def __deepcopy__(self, memo: dict[int, Any]) -> StandIn:
        return type(self)(copy.deepcopy(self.__wrapped__, memo), self._self_gate, self._self_tool)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self._self_gate.is_on_class:
            raise TypeError("a tool with a gate of its own cannot be pickled: it would come back without")
        return own_of, (self.__wrapped__,)


def own_of(value: Any) -> Any:
    """Return what the user gave, whether or not something stands in for it."""
    return value.__wrapped__ if isinstance(value, StandIn) else value


def gate_of(value: Any) -> LocalGate | None:
    """Return the gate before it, if there is one."""
    return value._self_gate if isinstance(value, StandIn) else None


Part = Callable[[Any, LocalGate, str], StandIn]
"""Makes the stand-in for what the user gave: it, its gate, the tool's name."""
