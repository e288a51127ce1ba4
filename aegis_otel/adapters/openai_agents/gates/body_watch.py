"""Tool calls whose body is another agent's run, which can stop for a human in the middle of it.

The SDK then has the body return, keeps the inner run beside the call, and later calls the body again,
without the guardrails: one call, in parts.

The body of a function tool as the SDK implements it, so that its end can be seen from inside.

Two things never reach the invoker. A synchronous function goes on in its thread when the coroutine that
waits for it is cancelled; and `isError` of an MCP server's answer is dropped when the answer becomes the
tool's output. Both are seen from within the SDK's implementation, of which a copy is run: the user's tool
and its function stay as they are.
"""

from __future__ import annotations

import functools
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import ContextVar
from types import CellType, FunctionType
from typing import Any

from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.mcp import MCPUtil
from agents.tool_context import ToolContext
from openai.types.responses import ResponseFunctionToolCall

from aegis_otel.adapters.openai_agents.gates.body_failure import mcp_failure, returned_failure
from aegis_otel.governance.call import Ending, Failure

_SYNC = "__agents_sync_function_tool__"
_FUNCTION = "the_func"
"""The variable of the SDK's implementation that holds the user's function."""
_MCP_CALL = "invoke_mcp_tool"
_MCP_RESULT = "_extract_custom_data"
"""The method of the SDK that is given the MCP server's whole answer."""


class Watch:
    """A record of how one call's body goes: its end, and the failure that an MCP server reported."""

    __slots__ = ("ending", "failure")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.ending = Ending(whole=isinstance(body, WatchedFunction))
        self.failure: Failure | None = None

    def failed(self, value: object) -> Failure | None:
        """Return what went wrong in a body that has returned `value`."""
        return self.failure or returned_failure(value)


watch: ContextVar[Watch | None] = ContextVar("aegis_otel_watch", default=None)
"""The watch of the call whose body runs in this context, and in the threads that it starts."""


def watched(implementation: Callable[..., Any], *, sync: bool) -> Callable[..., Any]:
    """Return what to run in place of `implementation`, which is that of the SDK's invoker of a function tool.

    Args:
        implementation: It, as the SDK made it; given back where there is nothing more to see.
        sync: Whether the SDK runs the tool's function in a thread.
    """
    if isinstance(implementation, functools.partial):
        return _watched_mcp(implementation)
    return WatchedFunction(implementation) if sync else implementation


def is_sync(invoker: Callable[..., Any]) -> bool:
    """Return whether the SDK runs the function of this invoker in a thread."""
    return getattr(invoker, _SYNC, False) is True


class WatchedFunction:
    """The SDK's implementation of a synchronous tool, whose function says when it begins and ends."""

    def __init__(self, implementation: Callable[..., Any]) -> None:
        self._run = _with_function(implementation, _in_thread)

    def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        return self._run(context, arguments)


def _with_function(
    implementation: Callable[..., Any], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """Return a copy of `implementation` that calls the user's function by way of `wrap`."""
    names = implementation.__code__.co_freevars if isinstance(implementation, FunctionType) else ()
    if _FUNCTION not in names:
        return _unseen(implementation)
    assert isinstance(implementation, FunctionType)
    cells = dict(zip(names, implementation.__closure__ or (), strict=True))
    cells[_FUNCTION] = CellType(wrap(cells[_FUNCTION].cell_contents))
    copy = FunctionType(
        implementation.__code__,
        implementation.__globals__,
        implementation.__name__,
        implementation.__defaults__,
        tuple(cells.values()),
    )
    copy.__kwdefaults__ = implementation.__kwdefaults__
    vars(copy).update(vars(implementation))
    return copy


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    def followed(*positional: Any, **named: Any) -> Any:
        seen = watch.get()
        if seen is None:
            return function(*positional, **named)
        if not seen.ending.begin():
            raise CancelledError  # before it began: nobody waits for it, and its row says so
        try:
            value = function(*positional, **named)
        except BaseException as error:
            seen.ending.end(error, None)
            raise
        seen.ending.end(None, value)
        return value

    return followed


def _unseen(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an implementation whose function cannot be found: a body that has begun is never seen to end."""

    async def begun(context: ToolContext[Any], arguments: str) -> Any:
        seen = watch.get()
        if seen is not None:
            seen.ending.begin()
        return await implementation(context, arguments)

    return begun


def _watched_mcp(call: functools.partial[Any]) -> Callable[..., Any]:
    owner = getattr(call.func, "__self__", None)
    if (
        not isinstance(owner, type)
        or not issubclass(owner, MCPUtil)
        or call.func.__name__ != _MCP_CALL
        or not hasattr(owner, _MCP_RESULT)
    ):
        return call
    seeing = _seeing(owner)  # type: ignore[arg-type]  # a class has a hash
    return functools.partial(getattr(seeing, _MCP_CALL), *call.args, **call.keywords)


@functools.cache
def _seeing(owner: type[Any]) -> type[Any]:
    """Return a stand-in for `owner` that notes whether an MCP server's answer is an error."""

    async def extract(cls: type[Any], /, **given: Any) -> Any:
        seen = watch.get()
        if seen is not None:
            seen.failure = mcp_failure(given.get("result"))
        return await getattr(super(seeing, cls), _MCP_RESULT)(**given)

    seeing: type[Any] = type(owner.__name__, (owner,), {_MCP_RESULT: classmethod(extract)})
    return seeing


def waits_inside(context: ToolContext[Any]) -> bool:
    """Whether the inner run of this call has stopped for a human.

    So it is before a body that goes on with it, and after a body that has returned and not ended.
    """
    return runs_inside(getattr(context, "tool_call", None), context)


def runs_inside(call: Any, context: Any) -> bool:
    """Whether the inner run of a call has stopped for a human.

    Args:
        call: As the model made it.
        context: Of the run that the call belongs to, or of the call.
    """
    if not isinstance(call, ResponseFunctionToolCall):
        return False  # of a realtime session, where nothing stops inside
    inner = peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))
    return bool(getattr(inner, "interruptions", None))
