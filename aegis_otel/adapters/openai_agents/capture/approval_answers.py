"""Record in the audit what humans answer to the SDK's interruptions, and who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple

from agents.items import ToolApprovalItem

from aegis_otel.adapters.openai_agents.gates.body_watch import member
from aegis_otel.adapters.openai_agents.gates.runs import Mark, run_of
from aegis_otel.audit.record import Waiting
from aegis_otel.errors import AuditError
from aegis_otel.governance.approvals.paused.paused_calls import PausedCalls, ShownCall
from aegis_otel.governance.approvals.paused.paused_rows import is_asked_by_policy
from aegis_otel.governance.approvals.question import ApprovalAnswer


class _Answer(NamedTuple):
    approvers: tuple[str | None, ...] = (None,)
    roles: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    reason: str | None = None
    decision_id: str | None = None

    def given(self, *, approved: bool, message: str | None = None) -> list[ApprovalAnswer]:
        """Return the answer of each person."""
        return [
            ApprovalAnswer(approved, each, self.reason or message, self.roles.get(each or "", ()))
            for each in self.approvers
        ]


_answer: ContextVar[_Answer] = ContextVar("aegis_otel_answer", default=_Answer())  # noqa: B039 - immutable


@contextmanager
def answered_by(
    approver: str,
    *others: str,
    roles: Iterable[str] | Mapping[str, Iterable[str]] = (),
    reason: str | None = None,
    decision_id: str | None = None,
) -> Iterator[None]:
    """Say who gives the answers inside of this, for the audit:

        with answered_by("alice@example.com", reason="ticket 4711"):
            state.approve(interruption)

    Around `RunState.approve` and `reject`, and a realtime session's `approve_tool_call` and
    `reject_tool_call`. An answer that does not count by the rule's `approvers` raises AuditError there, and
    the call stays unanswered.

    Args:
        approver: Who, as your program has proved it.
        others: Who else says the same, where the rule asks for several persons.
        roles: The approver's roles, as your program has proved them; those of several by their names.
        reason: Why; a `rejection_message` stands for it where there is none.
        decision_id: The row that is answered, where it was shown to the human out of the audit; an answer
            to any other call then raises AuditError, and does not count.

    Raises:
        TypeError: `roles` is one text, or a list where several persons answer.
    """
    if isinstance(roles, str) or (others and roles and not isinstance(roles, Mapping)):
        raise TypeError("`roles` must be a list of texts, or a mapping by name where several persons answer")
    by_name = roles if isinstance(roles, Mapping) else {approver: roles}
    proven = {name: tuple(each) for name, each in by_name.items()}
    token = _answer.set(_Answer((approver, *others), MappingProxyType(proven), reason, decision_id))
    try:
        yield
    finally:
        _answer.reset(token)


class AnswerRecorder:
    """Records the answers that pass through a run's context.

    Args:
        paused_calls: The paused calls.
        audited: Whether the SDK puts the policy's questions, so that the audit has the questions.
    """

    def __init__(self, paused_calls: PausedCalls, *, audited: bool) -> None:
        self._paused_calls = paused_calls
        self._audited = audited

    def approve_tool(
        self,
        original: Callable[..., None],
        context: Any,
        approval_item: ToolApprovalItem,
        always_approve: bool = False,
    ) -> None:
        """Record an approval that `RunContextWrapper.approve_tool` (`original`) is given."""
        shown = _shown(approval_item)
        waiting = self._find(context, shown)
        self._check(waiting, approved=True)
        original(context, approval_item, always_approve)
        if shown is not None:
            self._mark(context, shown, waiting is not None, always_approve)
            self._record(waiting, shown, approved=True)

    def reject_tool(
        self,
        original: Callable[..., None],
        context: Any,
        approval_item: ToolApprovalItem,
        always_reject: bool = False,
        rejection_message: str | None = None,
    ) -> None:
        """Record a rejection that `RunContextWrapper.reject_tool` (`original`) is given."""
        shown = _shown(approval_item)
        waiting = self._find(context, shown)
        self._check(waiting, approved=False)
        text = rejection_message
        # The policy's question has a text of its own; the SDK has one for the question of the tool.
        if text is None and waiting is not None and is_asked_by_policy(waiting):
            text = self._paused_calls.rejection(waiting)
        original(context, approval_item, always_reject, text)
        self._record(waiting, shown, approved=False, message=rejection_message)

    def _find(self, context: object, shown: ShownCall | None) -> Waiting | None:
        """Return the pending call in the audit that an answer is about, if there is one."""
        if not self._audited or shown is None or not shown.call_id:
            return None
        try:
            return self._paused_calls.find(shown, run_of(context).id, _answer.get().decision_id)
        except AuditError as error:
            raise AuditError(f"{error}; the answer does not count") from error

    def _check(self, waiting: Waiting | None, *, approved: bool) -> None:
        """Raise AuditError where an answer does not count, before the SDK takes it for one."""
        if waiting is not None:
            self._paused_calls.judge(waiting, _answer.get().given(approved=approved))

    def _mark(self, context: object, shown: ShownCall, is_known: bool, always: bool) -> None:
        """Mark in the run that a human approved a call, or every call of that tool by that agent."""
        run, paused_calls = run_of(context), self._paused_calls
        paused_here = (Mark.PAUSED, Mark.PAUSED_AGAIN)
        if is_known or not run.restored or any(run.has(mark, shown, paused_calls) for mark in paused_here):
            if not self._audited:
                run.add(Mark.APPROVED, shown, paused_calls)
            if always:
                run.add(Mark.ALWAYS_APPROVED, shown, paused_calls)

    def _record(
        self, waiting: Waiting | None, shown: ShownCall | None, *, approved: bool, message: str | None = None
    ) -> None:
        if waiting is not None and shown is not None:
            answers = _answer.get().given(approved=approved, message=message)
            self._paused_calls.answer(waiting, shown.arguments, answers)


def _shown(item: ToolApprovalItem) -> ShownCall | None:
    """Return the function call that a human was shown; None where it is a call of another kind of tool."""
    if member(item.raw_item, "type") != "function_call":
        return None
    agent = getattr(item.agent, "name", None)
    return ShownCall(item.call_id or "", item.tool_name, agent, item.arguments or "")
