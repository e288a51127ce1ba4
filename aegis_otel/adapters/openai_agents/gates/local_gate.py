"""The gate of local tools, where a call of an executor, editor, invoker or computer meets the governor.

These tools have no guardrails. The SDK asks for approval where the user wants one, and then calls a part that
the user gave to the tool. It is handed a proxy of that part, which asks the gate first; the part itself is
never changed. `local_tool_kinds` has the proxy of each kind of tool.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

import wrapt

from aegis_otel.adapters.openai_agents.gates.actions import (
    DEFAULT_TARGET,
    Targets,
    conversation_of,
    named_target,
)
from aegis_otel.adapters.openai_agents.gates.body_watch import returned_failure
from aegis_otel.adapters.openai_agents.tracing.span_bridge import at_current_span
from aegis_otel.governance import refusal
from aegis_otel.governance.call import Origin
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.governor import Governor
from aegis_otel.governance.recording import rough_size
from aegis_otel.model import Action

_log = logging.getLogger("aegis_otel")

Schema = Mapping[str, Any]


class LocalCall(NamedTuple):
    """The SDK's call that is carried out in this context; the user's part is given nothing of it."""

    agent: str | None = None
    call_id: str | None = None
    run_config: Any = None


local_call: ContextVar[LocalCall | None] = ContextVar("aegis_otel_local_call", default=None)
self_test_output: ContextVar[str | None] = ContextVar("aegis_otel_self_test_output", default=None)
"""During the self-test, the output of every local tool: no body runs, and nothing is decided or recorded."""


class LocalGate:
    """Decides on the calls of local tools.

    Args:
        governor: Decides.
        targets: What rules match as `match.target`, by tool name.
        agent: The agent that has the tools, where the SDK's call is not known.
        is_on_class: Whether the gate belongs to the SDK's classes, so that any copy of a tool has it, too.
    """

    def __init__(
        self, governor: Governor, targets: Targets, agent: str | None = None, *, is_on_class: bool = False
    ) -> None:
        self._governor = governor
        self._targets = targets
        self._agent = agent
        self.is_on_class = is_on_class
        self._retired = False

    def retire(self) -> None:
        """Let every call pass, undecided, from whoever still holds a proxy."""
        self._retired = True

    async def govern(
        self,
        tool: str,
        schema: Schema,
        params: Callable[[], Mapping[str, Any]],
        body: Callable[[], Any],
        *,
        refused: Callable[[str], Any],
        call_id: str | None,
    ) -> Any:
        """Decide on a call; return what `body` returns, or what `refused` makes of the refusal.

        Args:
            tool: The tool's name, which is the type of the action.
            schema: JSON Schema of the parameters.
            params: Returns the parameters that a rule sees.
            body: Runs the user's part; it may return an awaitable. Its exceptions pass through.
            refused: Called with the text for the model.
            call_id: The id of the model's call, where the user's part is given it.
        """
        if (output := self_test_output.get()) is not None:
            return output

        async def run() -> Any:
            value = body()
            return await value if inspect.isawaitable(value) else value

        if self._retired:
            return await run()
        current = local_call.get() or LocalCall(self._agent)
        fault = None
        target = named_target(tool, self._targets) or DEFAULT_TARGET
        try:
            action = Action(tool, target, params(), agent=current.agent, schema=schema)
        except Exception as error:
            _log.error("the call of `%s` could not be understood: %s", tool, traced(error))
            action, fault = Action(tool, target, agent=current.agent), refusal.UNAVAILABLE
        origin = Origin(
            tool_name=tool,
            tool_call_id=call_id or current.call_id,
            conversation_id=conversation_of(current.run_config),
            size=rough_size(action.params),
        )
        with at_current_span():
            call = await self._governor.authorize(action, origin, fault=fault)
            if call.refusal is not None:
                return refused(call.refusal)
            return await self._governor.run(call, run, failed=returned_failure)


class ToolProxy(wrapt.BaseObjectProxy[Any]):
    """A proxy of the user's part of a local tool: all attributes but the governed calls are of the part."""

    _self_schema: ClassVar[Schema]

    def __init__(self, part: Any, gate: LocalGate, tool: str) -> None:
        super().__init__(part)
        self._self_gate = gate
        self._self_tool = tool

    def _self_govern(
        self,
        params: Callable[[], Mapping[str, Any]],
        body: Callable[[], Any],
        *,
        refused: Callable[[str], Any] = str,
        call_id: str | None = None,
    ) -> Awaitable[Any]:
        return self._self_gate.govern(
            self._self_tool, self._self_schema, params, body, refused=refused, call_id=call_id
        )

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> ToolProxy:
        return type(self)(copy.copy(self.__wrapped__), self._self_gate, self._self_tool)

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolProxy:
        return type(self)(copy.deepcopy(self.__wrapped__, memo), self._self_gate, self._self_tool)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self._self_gate.is_on_class:
            raise TypeError("a tool with a gate of its own cannot be pickled: it would come back without")
        return unwrap, (self.__wrapped__,)


def unwrap(part: Any) -> Any:
    """Return the user's part, whether or not it is behind a proxy."""
    return part.__wrapped__ if isinstance(part, ToolProxy) else part


def gate_of(part: Any) -> LocalGate | None:
    """Return the gate before a part, if there is one."""
    return part._self_gate if isinstance(part, ToolProxy) else None
