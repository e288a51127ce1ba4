"""Where the SDK decides whether a call of a function tool needs an approval, and has one.

It does so before it runs a call, when a saved run is resumed, and in a realtime session. There, and nowhere
else, its questions are answered by an `ApprovalCheck`, so that a run is paused, saved and resumed where the
policy asks. Everybody else reads the tool's own `needs_approval`, and the SDK's own status.

Where an SDK stops asking here, a gate finds no answer in the audit and falls back on the handler; the
self-test of the capture point finds it, too.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agents import FunctionTool, RunContextWrapper, run
from agents.items import ToolApprovalItem
from agents.run_internal import run_loop, tool_execution, turn_resolution

from aegis_otel.adapters.openai_agents.capture import nested_answers
from aegis_otel.adapters.openai_agents.capture.approval_answers import AnswerRecorder
from aegis_otel.adapters.openai_agents.capture.function_tools import REALTIME, Gates
from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck, current_check
from aegis_otel.adapters.openai_agents.gates.function_gate import Gate, is_governed
from aegis_otel.adapters.openai_agents.gates.runs import run_of

Evaluate = Callable[..., Awaitable[Any]]
Asked = tuple[Any, Any, object, Any]
"""What the SDK asks about: the tool, the call as the model made it, the agent, and the context of the run."""

_planned: ContextVar[dict[tuple[int, str], ApprovalCheck] | None] = ContextVar(
    "aegis_otel_planned", default=None
)
"""Checks of the resumption that goes on, by tool call: each call is then executed in a task of its own."""


def install(gates: Gates, patches: Patches, *, audited: bool) -> None:
    """Bind approvals to the calls that they are for.

    Args:
        gates: The gates of function tools.
        patches: Undone later.
        audited: Whether the SDK puts the policy's questions, too, and the audit has the answers.
    """
    checks = ApprovalChecks(gates, audited=audited)
    answers = AnswerRecorder(gates.governor.paused_calls, audited=audited)

    def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        patches.wrap(owner, name, functools.partial(wrapper, checks))

    def wrap_session(module: Any) -> None:
        # The same two in a realtime session: is an approval needed, and the check of one call as a whole.
        evaluate = functools.partial(_evaluate, lambda self, tool, call: (tool, self._context_wrapper, call))
        patches.wrap(module.RealtimeSession, "_function_needs_approval", evaluate)
        wrap(module.RealtimeSession, "_maybe_request_tool_approval", _check_in_session)

    # The SDK reads the status here, before and after it asks whether an approval is needed.
    patches.wrap(RunContextWrapper, "get_approval_status", _status)
    # Every answer ends in one of these: of `RunState`, and of a realtime session.
    patches.wrap(RunContextWrapper, "approve_tool", answers.approve_tool)
    patches.wrap(RunContextWrapper, "reject_tool", answers.reject_tool)
    # Here it asks whether an approval is needed, in a run that is not resumed.
    evaluate = functools.partial(_evaluate, lambda tool, context, call: (tool, context, call))
    patches.wrap(tool_execution, "function_needs_approval", evaluate)
    # The check of one call as a whole: it begins and ends here.
    wrap(tool_execution._FunctionToolBatchExecutor, "_maybe_execute_tool_approval", _check)
    # The checks of all calls of a resumed run, before any of them is executed.
    wrap(turn_resolution, "_select_function_tool_runs_for_resume", _check_on_resume)
    # The whole turn of a resumed run: what is asked inside of its calls is looked up before.
    for module in (run, run_loop):
        patches.wrap(
            module, "resolve_interrupted_turn", functools.partial(nested_answers.resume, checks.is_answered)
        )
    patches.when_imported(REALTIME, wrap_session)


class ApprovalChecks:
    """Begins the approval checks of calls.

    Args:
        gates: The gates of function tools.
        audited: Whether the SDK puts the policy's questions, and the audit has the answers.
    """

    def __init__(self, gates: Gates, *, audited: bool) -> None:
        self._gates = gates
        self._audited = audited

    def begin(self, call: Asked, config: Any = None, *, waited: bool = False) -> ApprovalCheck | None:
        """Begin the check of a call; return None where there is nothing to check, and the SDK decides alone.

        Args:
            call: What the SDK asks about.
            config: The configuration of the run, where it is known.
            waited: Whether the run was paused for the call before.
        """
        check, tool = None, call[0]
        if issubclass(type(tool), FunctionTool):  # what only passes for one has no gate
            gate = self._audited_gate(tool)
            stops = gate is not None and (waited or gate.may_stop())
            if stops or vars(tool).get("needs_approval", False) is not False:
                check = self._check(gate, call, config)
                check.waited = waited
        if check is not None or current_check.get() is not None:
            current_check.set(check)
        return check

    async def run(
        self,
        check: ApprovalCheck | None,
        call: Asked,
        run: Awaitable[Any],
        *,
        is_paused: Callable[[Any], bool],
        is_rejected: Callable[[Any], bool],
    ) -> Any:
        """Return the result of the SDK's own check, and end ours; where we have none, record a rejection."""
        if check is None:
            result = await run
            if is_rejected(result):
                self.record_rejection(call)
            return result
        paused = False
        try:
            result = await run
            paused = is_paused(result)
        finally:
            check.end(paused=paused)
        return result

    async def is_answered(self, call: Asked) -> bool:
        """Return whether the inbox has an answer to a call inside of an agent as a tool, whose run is paused.

        Where it has none, the question is put there, if the policy asks another one by now.
        """
        gate = self._audited_gate(call[0])
        if gate is None or self._gates.governor.paused_calls.inbox is None:
            return False
        check = self._check(gate, call)
        check.waited = True
        check.next_step = await check.decide(tool_asks=False)
        paused = check.pauses and check.status(None) is None
        check.end(paused=paused)
        return not paused

    def record_rejection(self, call: Asked) -> None:
        """Record that the SDK rejects by itself a call that was not checked."""
        if issubclass(type(call[0]), FunctionTool) and (gate := self._audited_gate(call[0])) is not None:
            self._check(gate, call).record_rejection()

    def _audited_gate(self, tool: FunctionTool) -> Gate | None:
        return self._gates.of(tool) if self._audited and not is_governed(tool) else None

    def _check(self, gate: Gate | None, call: Asked, config: Any = None) -> ApprovalCheck:
        tool, tool_call, agent, context = call
        name, paused_calls = getattr(agent, "name", None), self._gates.governor.paused_calls
        return ApprovalCheck(tool, tool_call, name, context, config, paused_calls, gate)


def _status(
    original: Callable[..., bool | None], context: Any, tool_name: str, call_id: str, **which: Any
) -> bool | None:
    status = original(context, tool_name, call_id, **which)
    check = current_check.get()
    if check is None or not check.concerns(tool_name, call_id, context):
        is_inside = status is None and nested_answers.is_answered_inside(context, call_id)
        return True if is_inside else status
    return check.status(status)


async def _evaluate(
    about: Callable[..., tuple[FunctionTool, object, Any]], original: Evaluate, *given: Any
) -> Any:
    """Answer whether a call needs an approval; `about` picks the tool, the context and the call."""
    tool, context, tool_call = about(*given)
    check = current_check.get()
    if check is None or not check.concerns(tool.name, tool_call.call_id, context):
        return await original(*given)
    return await check.evaluate(lambda: original(*given))


async def _check(checks: ApprovalChecks, original: Evaluate, executor: Any, **call: Any) -> Any:
    asked = call["func_tool"], call["raw_tool_call"], executor.public_agent, executor.context_wrapper
    check = (_planned.get() or {}).pop((id(asked[1]), asked[1].arguments), None)
    if check is not None:
        check.open = True
        current_check.set(check)
    else:
        check = checks.begin(asked, executor.config)
        if check is not None and call.get("approval_evaluation") is not None:
            call["approval_evaluation"] = None  # it was not made by this check
    return await checks.run(
        check,
        asked,
        original(executor, **call),
        is_paused=lambda result: isinstance(getattr(result, "run_item", None), ToolApprovalItem),
        is_rejected=lambda result: result is not None,
    )


async def _check_in_session(
    checks: ApprovalChecks, original: Evaluate, session: Any, tool_call: Any, **call: Any
) -> Any:
    asked = call["function_tool"], tool_call, call["agent"], session._context_wrapper
    check = checks.begin(asked, waited=tool_call.call_id in run_of(session._context_wrapper).paused)
    if check is not None:
        check.in_session = True
    return await checks.run(
        check,
        asked,
        original(session, tool_call, **call),
        is_paused=lambda result: result is None and tool_call.call_id in session._pending_tool_calls,
        is_rejected=lambda result: result is False,
    )


async def _check_on_resume(checks: ApprovalChecks, original: Evaluate, runs: Any, **how: Any) -> Any:
    """Check each call of a resumed run between the callbacks that the SDK makes for it."""
    build, evaluate = how["pending_item_builder"], how["needs_approval_checker"]
    pause, reject = how["pending_interruption_adder"], how["record_rejection"]
    context = how["context_wrapper"]
    planned: dict[tuple[int, str], ApprovalCheck] = {}
    items: dict[int, ToolApprovalItem] = {}

    def end_last(*, paused: bool = False) -> None:
        check = current_check.get()
        if check is not None and check.open:
            check.end(paused=paused)

    def on_build(run: Any) -> ToolApprovalItem:
        end_last()
        item: ToolApprovalItem = build(run)
        items[id(run.tool_call)] = item
        waited = run.tool_call.call_id in how["approval_items_by_call_id"]
        check = checks.begin((run.function_tool, run.tool_call, item.agent, context), waited=waited)
        if check is not None:
            planned[id(run.tool_call), run.tool_call.arguments] = check
        return item

    async def on_evaluate(run: Any) -> Any:
        check = current_check.get()
        if check is None:
            return await evaluate(run)
        return await check.evaluate(lambda: evaluate(run))

    def on_pause(item: ToolApprovalItem) -> None:
        end_last(paused=True)
        pause(item)

    async def on_reject(call_id: str | None, tool_call: Any, tool: FunctionTool) -> None:
        check, item = current_check.get(), items.get(id(tool_call))
        if check is None:
            checks.record_rejection((tool, tool_call, getattr(item, "agent", None), context))
        elif item is not None and check.next_step is not None and check.next_step.text is not None:
            context.reject_tool(item, rejection_message=check.next_step.text)  # the SDK knows of no answer
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
