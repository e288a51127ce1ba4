"""Approvals by the SDK's own interruptions: where the policy asks, the run is paused, saved, and resumed.

A descriptor on `FunctionTool.needs_approval` puts the policy's question beside the tool's own. Three
methods of `RunContextWrapper` are seen too: what the SDK takes for approved counts only if the audit has
the answer, and what a human answers goes into the audit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from agents import Agent, FunctionTool, RunContextWrapper
from agents.items import ToolApprovalItem

from aegis_otel.adapters.openai_agents.function_tools import Gates
from aegis_otel.adapters.openai_agents.gate import Gate, is_governed
from aegis_otel.adapters.openai_agents.look import Look, last_look, latest_look, look_at
from aegis_otel.adapters.openai_agents.patches import Patches
from aegis_otel.audit.record import Waiting
from aegis_otel.runtime import refusal
from aegis_otel.runtime.interruptions import Interruptions

SETTING = "needs_approval"


class _Answer(NamedTuple):
    approver: str | None = None
    reason: str | None = None


_NOBODY = _Answer()
_answer: ContextVar[_Answer] = ContextVar("aegis_otel_answer", default=_NOBODY)


@contextmanager
def answered_by(approver: str, *, reason: str | None = None) -> Iterator[None]:
    """Say who gives the answers inside of this, for the audit:

        with answered_by("alice@example.com", reason="ticket 4711"):
            state.approve(interruption)

    Around `RunState.approve` and `reject`, and a realtime session's `approve_tool_call` and
    `reject_tool_call`.

    Args:
        approver: Who, as your program has proved it.
        reason: Why; a `rejection_message` stands for it where there is none.
    """
    token = _answer.set(_Answer(approver, reason))
    try:
        yield
    finally:
        _answer.reset(token)


def install(gates: Gates, patches: Patches) -> None:
    """Have the SDK ask the policy before it runs a function tool, and tell the audit what humans answer."""
    interruptions = gates.governor.interruptions
    patches.set(FunctionTool, SETTING, _Setting(gates))
    for name, made in (
        ("get_approval_status", _status),
        ("approve_tool", functools.partial(_approve, interruptions)),
        ("reject_tool", functools.partial(_reject, interruptions)),
    ):
        original = getattr(RunContextWrapper, name)
        patches.set(RunContextWrapper, name, functools.wraps(original)(made(original)))


class _Setting:
    """`needs_approval`: what the user set stays in the tool; the SDK reads the policy's question with it."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def __get__(self, tool: FunctionTool | None, owner: type[FunctionTool]) -> Any:
        if tool is None:
            return False  # the field's default
        own = vars(tool).get(SETTING, False)
        if is_governed(tool) or not (isinstance(own, bool) or callable(own)):
            return own
        asks = _Asks(self._gates.of(tool), own)
        look = latest_look()
        if look is not None:
            look.judge = asks.now
        return asks

    def __set__(self, tool: FunctionTool, value: Any) -> None:
        # Read from a tool, for a copy of it: only what the user set goes with it.
        vars(tool)[SETTING] = value.own if isinstance(value, _Asks) else value


class _Asks:
    """The policy's question and the tool's own, as the callable that the SDK asks."""

    def __init__(self, gate: Gate, own: bool | Callable[..., Any]) -> None:
        self._gate = gate
        self.own = own

    async def __call__(self, context: RunContextWrapper[Any], params: dict[str, Any], call_id: str) -> bool:
        async def wants() -> bool:
            if isinstance(self.own, bool):
                return self.own
            answer = self.own(context, params, call_id)
            return bool(await answer if inspect.isawaitable(answer) else answer)

        look = last_look(call_id)
        if look is None:
            return await wants()  # without the agent nothing can be judged: the gate does, and asks itself
        return look.settle(await self._gate.judge(look, wants)) is None

    def now(self, look: Look) -> bool | None:
        """The SDK pauses without asking, because it cannot read the arguments, or what they come to."""
        return self._gate.judge_now(look, self.own is not False)

    def __bool__(self) -> bool:
        return bool(self.own)

    def __eq__(self, other: object) -> bool:
        return bool(self.own == (other.own if isinstance(other, _Asks) else other))

    def __hash__(self) -> int:
        return hash(self.own)


def _status(original: Callable[..., bool | None]) -> Callable[..., bool | None]:
    def get_approval_status(self: Any, tool_name: str, call_id: str, **which: Any) -> bool | None:
        status = original(self, tool_name, call_id, **which)
        item = _about_to_run(which.get("existing_pending"), which.get("current_invocation"))
        if item is None:
            return status
        look = look_at(item)
        begun, look.status = look.status_asked, status
        look.status_asked = True
        if look.judged:
            return look.verdict
        if look.judge is not None:
            return look.settle(look.judge(look))
        # So that the SDK asks `needs_approval`, where the answer is looked for in the audit. Of a tool
        # that is behind no gate of ours, the second time, it is told what it has.
        return status if begun else None

    return get_approval_status


def _about_to_run(
    pending: ToolApprovalItem | None, current: ToolApprovalItem | None
) -> ToolApprovalItem | None:
    """The function call that is about to run; None where the SDK only looks through paused ones."""
    owner: Any = None if pending is None else pending.agent
    if pending is None:
        item = current
    elif current is None and not isinstance(owner, Agent):
        item = pending  # in a realtime session
    else:
        item = None
    return item if item is not None and _is_function_call(item) else None


def _is_function_call(item: ToolApprovalItem) -> bool:
    raw: Any = item.raw_item
    return (raw.get("type") if isinstance(raw, dict) else getattr(raw, "type", None)) == "function_call"


def _approve(interruptions: Interruptions, original: Callable[..., None]) -> Callable[..., None]:
    def approve_tool(self: Any, approval_item: ToolApprovalItem, always_approve: bool = False) -> None:
        waiting = _waiting(interruptions, approval_item)
        original(self, approval_item, always_approve)
        if waiting is not None:
            approver, reason = _answer.get()
            arguments = approval_item.arguments or ""
            interruptions.answer(waiting, arguments, approved=True, approver=approver, reason=reason)

    return approve_tool


def _reject(interruptions: Interruptions, original: Callable[..., None]) -> Callable[..., None]:
    def reject_tool(
        self: Any,
        approval_item: ToolApprovalItem,
        always_reject: bool = False,
        rejection_message: str | None = None,
    ) -> None:
        waiting = _waiting(interruptions, approval_item)
        approver, reason = _answer.get()
        reason = reason or rejection_message
        if waiting is not None and rejection_message is None:
            rejection_message = refusal.DENIED.text
        original(self, approval_item, always_reject, rejection_message)
        if waiting is not None:
            arguments = approval_item.arguments or ""
            interruptions.answer(waiting, arguments, approved=False, approver=approver, reason=reason)

    return reject_tool


def _waiting(interruptions: Interruptions, item: ToolApprovalItem) -> Waiting | None:
    if not _is_function_call(item) or not item.call_id:
        return None
    agent = getattr(item.agent, "name", None)
    return interruptions.find(item.call_id, item.tool_name, agent, item.arguments or "")
