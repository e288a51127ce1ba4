"""The places of the SDK where it decides whether a call of a function tool needs an approval, and has one.

There are three: before it runs a call, when a saved run is resumed, and in a realtime session. There, and
nowhere else, its questions are answered by the policy and the audit as well, so a run is paused, saved and
resumed where the policy asks. Everybody else reads the tool's own `needs_approval`, and the SDK's own status.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agents import FunctionTool, RunContextWrapper
from agents.agent import AgentBase
from agents.items import ToolApprovalItem
from agents.run_internal import tool_execution, turn_resolution

from aegis_otel.adapters.openai_agents.capture.approval_answers import approving, rejecting
from aegis_otel.adapters.openai_agents.capture.approval_binding import Approvals
from aegis_otel.adapters.openai_agents.capture.function_tools import Gates
from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.gates import approval_check as looks
from aegis_otel.adapters.openai_agents.gates.approval_check import Look
from aegis_otel.adapters.openai_agents.gates.runs import run_of
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.interruptions import GOES

_log = logging.getLogger("aegis_otel")

_planned: ContextVar[dict[tuple[int, str], Look] | None] = ContextVar("aegis_otel_planned", default=None)
"""Looks of the resumption that goes on, by the tool call: each is executed in a task of its own."""


def install(gates: Gates, patches: Patches, *, asks: bool) -> None:
    """Bind approvals to the calls that they are for.

    Args:
        gates: Of the tools.
        patches: To be undone.
        asks: Whether the SDK puts the policy's questions too, and the audit has the answers.
    """
    approvals = Approvals(gates, asks=asks)
    executor = tool_execution._FunctionToolBatchExecutor
    for owner, name, made in (
        (RunContextWrapper, "get_approval_status", _status),
        (RunContextWrapper, "approve_tool", functools.partial(approving, approvals)),
        (RunContextWrapper, "reject_tool", functools.partial(rejecting, approvals)),
        (tool_execution, "function_needs_approval", _needs),
        (executor, "_maybe_execute_tool_approval", functools.partial(_execute, approvals)),
        (turn_resolution, "_select_function_tool_runs_for_resume", functools.partial(_select, approvals)),
    ):
        original = getattr(owner, name)
        patches.set(owner, name, functools.wraps(original)(made(original)))
    _install_for_sessions(approvals, patches)


def _install_for_sessions(approvals: Approvals, patches: Patches) -> None:
    """The same for realtime sessions, once the program has loaded them: it takes a quarter of a second."""
    every, done = AgentBase.get_all_tools, False

    def look() -> None:
        nonlocal done
        module = sys.modules.get("agents.realtime.session")
        if done or module is None:
            return
        done, session = True, module.RealtimeSession
        for name, made in (
            ("_function_needs_approval", _needs_in_session),
            ("_maybe_request_tool_approval", functools.partial(_request, approvals)),
        ):
            original = getattr(session, name)
            patches.set(session, name, functools.wraps(original)(made(original)))

    look()
    if done:
        return

    @functools.wraps(every)
    async def get_all_tools(self: AgentBase[Any], run_context: Any) -> list[Any]:
        look()  # before a session calls a tool it asks which there are
        return await every(self, run_context)

    patches.set(AgentBase, "get_all_tools", get_all_tools)


def _status(original: Callable[..., bool | None]) -> Callable[..., bool | None]:
    def get_approval_status(self: Any, tool_name: str, call_id: str, **which: Any) -> bool | None:
        status = original(self, tool_name, call_id, **which)
        look = looks.current.get()
        if look is None or not look.is_of(tool_name, call_id, self):
            return status
        return look.answer(status)

    return get_approval_status


def _execute(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def _maybe_execute_tool_approval(self: Any, **call: Any) -> Any:
        tool, tool_call = call["func_tool"], call["raw_tool_call"]
        look = (_planned.get() or {}).pop((id(tool_call), tool_call.arguments), None)
        if look is not None:
            look.open = True
            looks.current.set(look)
        else:
            look = approvals.look_at(tool, tool_call, self.public_agent, self.context_wrapper, self.config)
            if look is not None and call.get("approval_evaluation") is not None:
                call["approval_evaluation"] = None  # it was not made by this look
        if look is None:
            result = await original(self, **call)
            if result is not None:
                approvals.without_look(tool, tool_call, self.public_agent, self.context_wrapper)
            return result
        result, paused = None, False
        try:
            result = await original(self, **call)
            paused = isinstance(getattr(result, "run_item", None), ToolApprovalItem)
        finally:
            look.over(paused=paused)
        return result

    return _maybe_execute_tool_approval


def _select(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def _select_function_tool_runs_for_resume(runs: Any, **how: Any) -> Any:
        build, check = how["pending_item_builder"], how["needs_approval_checker"]
        pause, reject = how["pending_interruption_adder"], how["record_rejection"]
        context = how["context_wrapper"]
        planned: dict[tuple[int, str], Look] = {}
        agents: dict[int, object] = {}

        def built(run: Any) -> ToolApprovalItem:
            over()
            item: ToolApprovalItem = build(run)
            agents[id(run.tool_call)] = item.agent
            waited = run.tool_call.call_id in how["approval_items_by_call_id"]
            look = approvals.look_at(run.function_tool, run.tool_call, item.agent, context, waited=waited)
            if look is not None:
                planned[id(run.tool_call), run.tool_call.arguments] = look
            return item

        async def checked(run: Any) -> Any:
            look = looks.current.get()
            return await (check(run) if look is None else _evaluated(look, lambda: check(run)))

        def paused(item: ToolApprovalItem) -> None:
            over(paused=True)
            pause(item)

        async def rejected(call_id: str | None, tool_call: Any, tool: FunctionTool) -> None:
            if looks.current.get() is None:
                approvals.without_look(tool, tool_call, agents.get(id(tool_call)), context)
            await reject(call_id, tool_call, tool)

        def over(*, paused: bool = False) -> None:
            look = looks.current.get()
            if look is not None and look.open:
                look.over(paused=paused)

        how |= {
            "pending_item_builder": built,
            "needs_approval_checker": checked,
            "pending_interruption_adder": paused,
            "record_rejection": rejected,
        }
        looks.current.set(None)
        try:
            selected = await original(runs, **how)
        finally:
            over()
        _planned.set(planned)
        return selected

    return _select_function_tool_runs_for_resume


def _request(approvals: Approvals, original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def _maybe_request_tool_approval(self: Any, tool_call: Any, **call: Any) -> Any:
        context = self._context_wrapper
        waited = tool_call.call_id in run_of(context).paused
        look = approvals.look_at(call["function_tool"], tool_call, call["agent"], context, waited=waited)
        if look is None:
            result = await original(self, tool_call, **call)
            if result is False:
                approvals.without_look(call["function_tool"], tool_call, call["agent"], context)
            return result
        paused = False
        try:
            result = await original(self, tool_call, **call)
            paused = result is None and tool_call.call_id in self._pending_tool_calls
        finally:
            look.over(paused=paused)
        return result

    return _maybe_request_tool_approval


def _needs(original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def function_needs_approval(
        function_tool: FunctionTool, context_wrapper: Any, tool_call: Any
    ) -> Any:
        look = looks.current.get()
        if look is None or not look.is_of(function_tool.name, tool_call.call_id, context_wrapper):
            return await original(function_tool, context_wrapper, tool_call)
        return await _evaluated(look, lambda: original(function_tool, context_wrapper, tool_call))

    return function_needs_approval


def _needs_in_session(original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def _function_needs_approval(self: Any, function_tool: FunctionTool, tool_call: Any) -> Any:
        look = looks.current.get()
        if look is None or not look.is_of(function_tool.name, tool_call.call_id, self._context_wrapper):
            return await original(self, function_tool, tool_call)
        return await _evaluated(look, lambda: original(self, function_tool, tool_call))

    return _function_needs_approval


async def _evaluated(look: Look, evaluate: Callable[[], Awaitable[Any]]) -> Any:
    """Return what the SDK is told where it asks whether a call needs an approval, in its own terms."""
    if look.before is None:
        evaluation = await evaluate()
    else:
        evaluation = _evaluation(look)  # the user's own callable is not asked about what was answered
    wanted = evaluation if isinstance(evaluation, bool) else evaluation.outcome != "invoke"
    try:
        look.ruling = await look.judge.judge(look, wanted)
    except Exception as error:
        _log.error("whether a call needs an approval could not be found out: %s", traced(error))
        look.ruling = GOES  # nobody is asked about what could not be judged; the gate refuses it
    pauses = look.ruling.verdict is None
    if isinstance(evaluation, bool):
        return pauses
    if pauses:
        evaluation.outcome, evaluation.prepared = "require_approval", None
    else:
        evaluation.outcome = "invoke"
    return evaluation


def _evaluation(look: Look) -> Any:
    """Return an evaluation as the SDK makes one: an object from 0.24 on, and a bool before."""
    try:
        from agents._function_tool_arguments import FunctionToolApproval  # noqa: PLC0415 - not in every version
    except ImportError:
        return False
    return FunctionToolApproval("invoke", look.tool, look.tool.on_invoke_tool, look.tool_call.arguments)
