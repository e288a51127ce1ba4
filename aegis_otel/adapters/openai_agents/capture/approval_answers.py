"""Record in the audit what humans answer to the SDK's interruptions, and who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from agents.items import ToolApprovalItem

from aegis_otel.adapters.openai_agents.capture.approval_binding import Approvals, identity_of
from aegis_otel.adapters.openai_agents.gates.body_watch import member
from aegis_otel.adapters.openai_agents.gates.runs import run_of
from aegis_otel.audit.record import Waiting
from aegis_otel.errors import AuditError
from aegis_otel.governance import refusal
from aegis_otel.model import Approval


class _Answer(NamedTuple):
    approver: str | None = None
    reason: str | None = None
    decision_id: str | None = None


_answer: ContextVar[_Answer] = ContextVar("aegis_otel_answer", default=_Answer())  # noqa: B039 - immutable


@contextmanager
def answered_by(
    approver: str, *, reason: str | None = None, decision_id: str | None = None
) -> Iterator[None]:
    """Say who gives the answers inside of this, for the audit:

        with answered_by("alice@example.com", reason="ticket 4711"):
            state.approve(interruption)

    Around `RunState.approve` and `reject`, and a realtime session's `approve_tool_call` and
    `reject_tool_call`.

    Args:
        approver: Who, as your program has proved it.
        reason: Why; a `rejection_message` stands for it where there is none.
        decision_id: The row that is answered, where it was shown to the human out of the audit; an answer
            to any other call then raises AuditError, and does not count.
    """
    token = _answer.set(_Answer(approver, reason, decision_id))
    try:
        yield
    finally:
        _answer.reset(token)


def approving(approvals: Approvals, original: Callable[..., None]) -> Callable[..., None]:
    """Return `approve_tool` such that it records the answer."""

    def approve_tool(self: Any, approval_item: ToolApprovalItem, always_approve: bool = False) -> None:
        waiting = _find(approvals, self, approval_item)
        original(self, approval_item, always_approve)
        if _is_function_call(approval_item):
            approvals.approved(approval_item, self, always=always_approve, found=waiting is not None)
        _record(approvals, waiting, approval_item, approved=True)

    return approve_tool


def rejecting(approvals: Approvals, original: Callable[..., None]) -> Callable[..., None]:
    """Return `reject_tool` such that it records the answer."""

    def reject_tool(
        self: Any,
        approval_item: ToolApprovalItem,
        always_reject: bool = False,
        rejection_message: str | None = None,
    ) -> None:
        waiting = _find(approvals, self, approval_item)
        text = rejection_message
        # The policy's question has a text of its own; the SDK has one for the question of the tool.
        if text is None and waiting is not None and waiting.row.approval == Approval.APPROVE.value:
            text = refusal.DENIED.text
        original(self, approval_item, always_reject, text)
        _record(approvals, waiting, approval_item, approved=False, message=rejection_message)

    return reject_tool


def _find(approvals: Approvals, context: object, item: ToolApprovalItem) -> Waiting | None:
    """Return the pending call in the audit that an answer is about, if there is one."""
    if not approvals.asks or not _is_function_call(item) or not item.call_id:
        return None
    _, tool, agent, arguments = identity_of(item)
    decision_id, run_id = _answer.get().decision_id, run_of(context).id
    try:
        return approvals.interruptions.find(
            item.call_id, tool, agent, arguments or "", run_id=run_id, decision_id=decision_id
        )
    except AuditError as error:
        raise AuditError(f"{error}; the answer does not count") from error


def _record(
    approvals: Approvals,
    waiting: Waiting | None,
    item: ToolApprovalItem,
    *,
    approved: bool,
    message: str | None = None,
) -> None:
    if waiting is not None:
        approver, reason, _ = _answer.get()
        approvals.interruptions.answer(
            waiting, item.arguments or "", approved=approved, approver=approver, reason=reason or message
        )


def _is_function_call(item: ToolApprovalItem) -> bool:
    return bool(member(item.raw_item, "type") == "function_call")
