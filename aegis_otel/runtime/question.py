"""One question to a human, and what its answer means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar

import msgspec

from aegis_otel.redaction import redact_text
from aegis_otel.runtime import refusal
from aegis_otel.runtime.call import Approver, Call
from aegis_otel.runtime.describe import safe_text, traced
from aegis_otel.runtime.refusal import Refusal

_log = logging.getLogger("aegis_otel")


class NobodyToAsk(Exception):
    """A handler knows that it has nobody to ask; the message says how to change that."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a human is asked, as the audit has it: all of it is redacted and may leave the process."""

    decision_id: str
    """The id of the audit row, the span and the event. The same if a changed policy asks anew."""
    session_id: str | None
    conversation_id: str | None
    agent_name: str | None
    tool_name: str | None
    """None for an action that no SDK called."""
    action_type: str | None
    action_target: str | None
    action_description: str
    action_params: str
    """A JSON object."""
    args_digest: str | None
    risk_level: str | None
    approval: str | None
    matched_rule: str | None
    reason: str | None
    policy_digest: str | None
    timeout: float
    """Seconds from the beginning of the question until it expires."""


class ApprovalAnswer(msgspec.Struct, frozen=True):
    """An answer with its author: what a handler returns in place of True or False where it knows more.

    Raises:
        TypeError: `approved` is no bool, or another value no text.
    """

    approved: bool
    approver: str | None = None
    """Who answered, as the channel has proved it; goes to the audit row only."""
    reason: str | None = None
    """What they gave as the reason; goes to the audit row only."""

    def __post_init__(self) -> None:
        if not isinstance(self.approved, bool):
            raise TypeError(f"`approved` of an answer must be a bool, not `{type(self.approved).__name__}`")
        for name in ("approver", "reason"):
            if not isinstance(getattr(self, name), str | None):
                raise TypeError(f"`{name}` of an answer must be a text or None")


_asked: ContextVar[Question] = ContextVar("aegis_otel_question")


def current_question() -> Question:
    """The question that this handler is asked, in its own task and in threads with its context.

    Raises:
        LookupError: nothing is being asked here.
    """
    try:
        return _asked.get()
    except LookupError:
        raise LookupError("no question is being asked: call this inside `request_approval`") from None


async def ask(
    approver: Approver, call: Call, timeout: float, monotonic: Callable[[], float]
) -> Refusal | None:
    """Ask once, for at most `timeout` seconds, and keep the answer on the call's record.

    Returns:
        None for a yes, which is True or an approving ApprovalAnswer and nothing else; otherwise why the
        call is refused.
    """
    started = monotonic()
    record = call.record
    record.human_decision = record.approver = record.approval_reason = None
    asked = _asked.set(_question(call, timeout))
    try:
        # A handler that is no coroutine function has held the event loop and gave no answer that counts.
        task = asyncio.ensure_future(approver.request_approval(call.decision))
    except Exception as error:
        _log.warning("`request_approval` must be `async def`; denied: %s", traced(error))
        return refusal.UNOBTAINABLE
    finally:
        _asked.reset(asked)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
    finally:
        task.cancel()  # a handler that ignores this is left behind: nobody waits for it
    waited = monotonic() - started
    record.approval_wait_s = round(waited, 6)
    if not done or waited > timeout:  # a handler that holds the event loop is late without being stopped
        record.human_decision = "expired"
        return refusal.EXPIRED
    try:
        answer: object = task.result()
    except NobodyToAsk as error:
        _log.warning("denied: %s", error)
        return refusal.UNOBTAINABLE
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        _log.warning("the approval handler failed; denied: %s", traced(error))
        return refusal.UNOBTAINABLE
    if isinstance(answer, bool):
        answer = ApprovalAnswer(answer)
    if not isinstance(answer, ApprovalAnswer):
        _log.warning("the approval handler answered `%s`, not True or False; denied", type(answer).__name__)
        return refusal.UNOBTAINABLE
    record.approver = _optional(answer.approver or approver.approver)
    record.approval_reason = _optional(answer.reason)
    record.human_decision = "approved" if answer.approved else "denied"
    return None if answer.approved else refusal.DENIED


def _question(call: Call, timeout: float) -> Question:
    record = call.record
    return Question(
        decision_id=record.decision_id,
        session_id=record.session_id,
        conversation_id=record.conversation_id,
        agent_name=record.agent_name,
        tool_name=record.tool_name,
        action_type=record.action_type,
        action_target=record.action_target,
        action_description=redact_text(call.decision.action.description),
        action_params=record.action_params or "{}",
        args_digest=record.args_digest,
        risk_level=record.risk_level,
        approval=record.approval,
        matched_rule=record.matched_rule,
        reason=record.reason,
        policy_digest=record.policy_digest,
        timeout=timeout,
    )


def _optional(text: str | None) -> str | None:
    return None if text is None else safe_text(text)
