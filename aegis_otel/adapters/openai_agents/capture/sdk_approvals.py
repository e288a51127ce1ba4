"""Where the SDK decides whether a call of a function tool needs an approval, and has one.

It does so before it runs a call, when a saved run is resumed, and in a realtime session. There, and nowhere
else, its questions are answered by the policy and the audit as well, so that a run is paused, saved and
resumed where the policy asks. Everybody else reads the tool's own `needs_approval`, and the SDK's own
status.

Where an SDK stops asking here, a gate finds no answer in the audit and falls back on the handler; the
self-test of the capture point finds it, too.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agents import FunctionTool, RunContextWrapper
from agents.items import ToolApprovalItem
from agents.run_internal import tool_execution, turn_resolution

from aegis_otel.adapters.openai_agents.capture.approval_answers import approving, rejecting
from aegis_otel.adapters.openai_agents.capture.approval_binding import Approvals
from aegis_otel.adapters.openai_agents.capture.function_tools import REALTIME, Gates
from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck, current_check
from aegis_otel.adapters.openai_agents.gates.runs import run_of

Wrapped = Callable[..., Any]

_planned: ContextVar[dict[tuple[int, str], ApprovalCheck] | None] = ContextVar(
    "aegis_otel_planned", default=None
)
"""Checks of the resumption that goes on, by tool call: each call is then executed in a task of its own."""


def install(gates: Gates, patches: Patches, *, asks: bool) -> None:
    """Bind approvals to the calls that they are for.

    Args:
        gates: The gates of function tools.
        patches: Undone later.
        asks: Whether the SDK puts the policy's questions, too, and the audit has the answers.
    """
    approvals = Approvals(gates, asks=asks)

    def wrap(owner: Any, name: str, wrapper: Callable[[Approvals, Any], Wrapped]) -> None:
        patches.wrap(owner, name, functools.partial(wrapper, approvals))

    def wrap_session(module: Any) -> None:
        wrap(module.RealtimeSession, "_function_needs_approval", _evaluate_in_session)
        wrap(module.RealtimeSession, "_maybe_request_tool_approval", _check_in_session)

    wrap(RunContextWrapper, "get_approval_status", _status)
    wrap(RunContextWrapper, "approve_tool", approving)
    wrap(RunContextWrapper, "reject_tool", rejecting)
    wrap(tool_execution, "function_needs_approval", _evaluate)
    wrap(tool_execution._FunctionToolBatchExecutor, "_maybe_execute_tool_approval", _check)
    wrap(turn_resolution, "_select_function_tool_runs_for_resume", _check_on_resume)
    patches.when_imported(REALTIME, wrap_session)


def _status(approvals: Approvals, original: Callable[..., bool | None]) -> Wrapped:
    def get_approval_status(self: Any, tool_name: str, call_id: str, **which: Any) -> bool | None:
        status = original(self, tool_name, call_id, **which)
        check = current_check.get()
        if check is None or not check.concerns(tool_name, call_id, self):
            return status
        return approvals.status(check, status)

    return get_approval_status


def _evaluate(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Wrapped:
    async def function_needs_approval(tool: FunctionTool, context: Any, tool_call: Any) -> Any:
        check = current_check.get()
        if check is None or not check.concerns(tool.name, tool_call.call_id, context):
            return await original(tool, context, tool_call)
        return await approvals.evaluate(check, lambda: original(tool, context, tool_call))

    return function_needs_approval


def _evaluate_in_session(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Wrapped:
    async def _function_needs_approval(self: Any, tool: FunctionTool, tool_call: Any) -> Any:
        check = current_check.get()
        if check is None or not check.concerns(tool.name, tool_call.call_id, self._context_wrapper):
            return await original(self, tool, tool_call)
        return await approvals.evaluate(check, lambda: original(self, tool, tool_call))

    return _function_needs_approval


def _check(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Wrapped:
    async def _maybe_execute_tool_approval(self: Any, **call: Any) -> Any:
        about = call["func_tool"], call["raw_tool_call"], self.public_agent, self.context_wrapper
        check = (_planned.get() or {}).pop((id(about[1]), about[1].arguments), None)
        if check is not None:
            check.open = True
            current_check.set(check)
        else:
            check = approvals.begin(*about, self.config)
            if check is not None and call.get("approval_evaluation") is not None:
                call["approval_evaluation"] = None  # it was not made by this check
        if check is None:
            result = await original(self, **call)
            if result is not None:
                approvals.record_rejection(*about)
            return result
        return await _until_end(
            approvals,
            check,
            original(self, **call),
            lambda result: isinstance(getattr(result, "run_item", None), ToolApprovalItem),
        )

    return _maybe_execute_tool_approval


def _check_in_session(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Wrapped:
    async def _maybe_request_tool_approval(self: Any, tool_call: Any, **call: Any) -> Any:
        about = call["function_tool"], tool_call, call["agent"], self._context_wrapper
        check = approvals.begin(*about, waited=tool_call.call_id in run_of(self._context_wrapper).paused)
        if check is None:
            result = await original(self, tool_call, **call)
            if result is False:
                approvals.record_rejection(*about)
            return result
        return await _until_end(
            approvals,
            check,
            original(self, tool_call, **call),
            lambda result: result is None and tool_call.call_id in self._pending_tool_calls,
        )

    return _maybe_request_tool_approval


async def _until_end(
    approvals: Approvals, check: ApprovalCheck, run: Awaitable[Any], is_paused: Callable[[Any], bool]
) -> Any:
    """Return the result of `run`, and end the check with it."""
    paused = False
    try:
        result = await run
        paused = is_paused(result)
    finally:
        approvals.end(check, paused=paused)
    return result


def _check_on_resume(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Wrapped:
    """Check each call of a resumed run between the callbacks that the SDK makes for it."""

    async def _select_function_tool_runs_for_resume(runs: Any, **how: Any) -> Any:
        build, evaluate = how["pending_item_builder"], how["needs_approval_checker"]
        pause, reject = how["pending_interruption_adder"], how["record_rejection"]
        context = how["context_wrapper"]
        planned: dict[tuple[int, str], ApprovalCheck] = {}
        agents: dict[int, object] = {}

        def end_last(*, paused: bool = False) -> None:
            check = current_check.get()
            if check is not None and check.open:
                approvals.end(check, paused=paused)

        def on_build(run: Any) -> ToolApprovalItem:
            end_last()
            item: ToolApprovalItem = build(run)
            agents[id(run.tool_call)] = item.agent
            waited = run.tool_call.call_id in how["approval_items_by_call_id"]
            check = approvals.begin(run.function_tool, run.tool_call, item.agent, context, waited=waited)
            if check is not None:
                planned[id(run.tool_call), run.tool_call.arguments] = check
            return item

        async def on_evaluate(run: Any) -> Any:
            check = current_check.get()
            if check is None:
                return await evaluate(run)
            return await approvals.evaluate(check, lambda: evaluate(run))

        def on_pause(item: ToolApprovalItem) -> None:
            end_last(paused=True)
            pause(item)

        async def on_reject(call_id: str | None, tool_call: Any, tool: FunctionTool) -> None:
            if current_check.get() is None:
                approvals.record_rejection(tool, tool_call, agents.get(id(tool_call)), context)
            await reject(call_id, tool_call, tool)

        how |= {
            "pending_item_builder": on_build,
            "needs_approval_checker": on_evaluate,
            "pending_interruption_adder": on_pause,
            "record_rejection": on_reject,
        }
        current_check.set(None)
        try:
            selected = await original(runs, **how)
        finally:
            end_last()
        _planned.set(planned)
        return selected

    return _select_function_tool_runs_for_resume
