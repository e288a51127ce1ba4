"""Watch how the body of a tool call ends: a failure that it returned, its thread, and a run inside of it.

Two things never reach the invoker of a function tool. A synchronous function goes on in its thread when the
coroutine that waits for it is cancelled; and `isError` of an MCP server's answer is dropped when the answer
becomes the tool's output. Both are seen from within the SDK's implementation, of which a copy is run: the
user's tool and its function stay as they are. What a coroutine itself hands to threads or processes is not
followed: cancelled, its row says `cancelled`.

The body may also be another agent's run that stops for a human. The SDK then has the body return, keeps the
inner run beside the call, and later calls the body again without the guardrails: one call, in parts.
"""

from __future__ import annotations

import functools
import subprocess
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import FunctionType
from typing import Any

from agents import ShellResult
from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.editor import ApplyPatchResult
from agents.mcp import MCPUtil
from agents.run_internal.tool_execution import normalize_shell_output
from agents.tool import ShellCommandOutput
from agents.tool_context import ToolContext
from openai.types.responses import ResponseFunctionToolCall

from aegis_otel.adapters.openai_agents.gates.argument_validation import with_cells
from aegis_otel.governance.call import Ending, Failure

MCP_ERROR = "tool_error"
"""The `error.type` that the semantic conventions for MCP have for a result with `isError`."""
TIMEOUT = "timeout"
NONZERO_EXIT = "nonzero_exit"
PATCH_FAILED = "patch_failed"
_LONGEST = 10_000
"""Characters of an output that are read: the row has room for fewer."""
_SYNC = "__agents_sync_function_tool__"
_FUNCTION = "the_func"
"""The variable of the SDK's implementation that holds the user's function."""
_AGENT_INPUT = "params_adapter"
"""The variable of its implementation of an agent as a tool that validates the input."""
_TELLS_BEGIN = "_aegis_tells_begin"
"""The attribute of an implementation that is sure to report that the body begins."""
_MCP_CALL = "invoke_mcp_tool"
_MCP_RESULT = "_extract_custom_data"
"""The method of the SDK that is given the MCP server's whole answer."""


class Watch:
    """A record of how one call's body goes: its end, and the failure that an MCP server reported."""

    __slots__ = ("ending", "failure")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.ending = Ending(
            whole=isinstance(body, WatchedFunction), tells_begin=getattr(body, _TELLS_BEGIN, False) is True
        )
        self.failure: Failure | None = None

    def failed(self, value: object) -> Failure | None:
        """Return what went wrong in a body that has returned `value`."""
        return self.failure or returned_failure(value)


watch: ContextVar[Watch | None] = ContextVar("aegis_otel_watch", default=None)
"""The watch of the call whose body runs in this context, and in the threads that it starts."""


def watched(implementation: Callable[..., Any], *, sync: bool) -> Callable[..., Any]:
    """Return what to run in place of the implementation of one of the SDK's invokers.

    Args:
        implementation: As the SDK made it; returned where there is nothing more to see.
        sync: Whether the SDK runs the tool's function in a thread.
    """
    if isinstance(implementation, functools.partial):
        return _watched_mcp(implementation)
    if sync:
        return WatchedFunction(implementation)
    if type(implementation) is FunctionType:  # and no proxy, around which another library may have put code
        for variable, reporting in ((_FUNCTION, _reporting_begin), (_AGENT_INPUT, _ReportingInput)):
            if variable in implementation.__code__.co_freevars:
                watched_copy: FunctionType = with_cells(implementation, {variable: reporting})
                setattr(watched_copy, _TELLS_BEGIN, True)
                return watched_copy
    return implementation


def is_sync(invoker: Callable[..., Any]) -> bool:
    """Return whether the SDK runs the function of this invoker in a thread."""
    return getattr(invoker, _SYNC, False) is True


class WatchedFunction:
    """The SDK's implementation of a synchronous tool, whose function reports its begin and its end.

    Where the function is not found, only its begin is reported: once it has begun, a cancelled call stays
    `open`.
    """

    def __init__(self, implementation: Callable[..., Any]) -> None:
        code: Any = getattr(implementation, "__code__", None)
        is_known = type(implementation) is FunctionType and _FUNCTION in code.co_freevars
        self._reports_end = is_known
        setattr(self, _TELLS_BEGIN, is_known)
        self._run = with_cells(implementation, {_FUNCTION: _reporting}) if is_known else implementation

    def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        seen = watch.get()
        if not self._reports_end and seen is not None:
            seen.ending.begin()
        return self._run(context, arguments)


def _reporting_begin(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a coroutine function is called by, so that it is known whether it was."""

    def reporting_begin(*positional: Any, **named: Any) -> Any:
        seen = watch.get()
        if seen is not None:
            seen.ending.begin_on_loop()
        return function(*positional, **named)

    return reporting_begin


class _ReportingInput:
    """What validates the input of an agent as a tool, whose run begins once that is valid."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def validate_python(self, data: Any) -> Any:
        """Validate the input, as a `TypeAdapter` does."""
        valid = self._adapter.validate_python(data)
        seen = watch.get()
        if seen is not None:
            seen.ending.begin_on_loop()
        return valid


def _reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    def reporting(*positional: Any, **named: Any) -> Any:
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

    return reporting


def _watched_mcp(call: functools.partial[Any]) -> Callable[..., Any]:
    owner = getattr(call.func, "__self__", None)
    if (
        not isinstance(owner, type)
        or not issubclass(owner, MCPUtil)
        or call.func.__name__ != _MCP_CALL
        or not hasattr(owner, _MCP_RESULT)
    ):
        return call
    subclass = _noting_failures(owner)  # type: ignore[arg-type]  # a class has a hash
    return functools.partial(getattr(subclass, _MCP_CALL), *call.args, **call.keywords)


@functools.cache
def _noting_failures(owner: type[Any]) -> type[Any]:
    """Return a subclass of `owner` that notes whether an MCP server's answer is an error."""

    async def extract(cls: type[Any], /, **given: Any) -> Any:
        seen = watch.get()
        if seen is not None:
            seen.failure = mcp_failure(given.get("result"))
        return await getattr(super(subclass, cls), _MCP_RESULT)(**given)

    subclass: type[Any] = type(owner.__name__, (owner,), {_MCP_RESULT: classmethod(extract)})
    return subclass


def waits_inside(context: ToolContext[Any]) -> bool:
    """Return whether the inner run of this call has stopped: the body is to go on, or returned unfinished."""
    return runs_inside(getattr(context, "tool_call", None), context)


def runs_inside(call: Any, context: Any) -> bool:
    """Return whether the inner run of a call has stopped for a human.

    Args:
        call: As the model made it.
        context: Of the run that the call belongs to, or of the call.
    """
    if not isinstance(call, ResponseFunctionToolCall):
        return False  # a call of a realtime session, where nothing stops inside
    inner = peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))
    return bool(getattr(inner, "interruptions", None))


def returned_failure(value: object) -> Failure | None:
    """Return what went wrong in a body that has returned `value`; None where nothing says that it failed."""
    if value is None or type(value) is str:  # nearly always
        return None
    try:
        return _failure(value)
    except Exception:  # an object of the user's, whose attributes are code
        return None


def _failure(value: object) -> Failure | None:
    if isinstance(value, ShellResult | ShellCommandOutput):
        for entry in value.output if isinstance(value, ShellResult) else [value]:
            output = normalize_shell_output(entry)
            if output.status == "timeout":
                return Failure(TIMEOUT, _with_stderr("The command timed out", output.stderr))
            if output.exit_code:
                return _exit_failure(output.exit_code, output.stderr)
        return None
    if isinstance(value, ApplyPatchResult):
        if value.status != "failed":
            return None
        return Failure(PATCH_FAILED, (value.output or "The patch could not be applied")[:_LONGEST])
    if isinstance(value, subprocess.CompletedProcess):
        return _exit_failure(value.returncode, value.stderr) if value.returncode else None
    return mcp_failure(value)


def mcp_failure(result: Any) -> Failure | None:
    """Return what went wrong in a call of an MCP server that gave `result`; None if nothing did."""
    if member(result, "isError") is not True and member(result, "is_error") is not True:
        return None
    content = member(result, "content")
    parts = [member(each, "text") for each in content] if isinstance(content, list | tuple) else []
    text = "\n".join(part[:_LONGEST] for part in parts if isinstance(part, str))
    return Failure(MCP_ERROR, text[:_LONGEST] or "The MCP server reported an error")


def _exit_failure(code: int, stderr: object) -> Failure:
    return Failure(NONZERO_EXIT, _with_stderr(f"The command exited with {code}", stderr))


def _with_stderr(sentence: str, stderr: object) -> str:
    text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    return f"{sentence}: {text[:_LONGEST]}" if isinstance(text, str) and text.strip() else sentence


def member(value: object, name: str) -> Any:
    """Return a member of what the SDK holds as a mapping or as an object."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
