"""One question to a human, and what its answer means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace

import msgspec

from aegis_otel.governance import refusal
from aegis_otel.governance.call import Approver, Call
from aegis_otel.governance.error_text import describe, safe_description, safe_text, traced
from aegis_otel.governance.refusal import Refusal
from aegis_otel.redaction.serialize import is_cut

_log = logging.getLogger("aegis_otel")


_LONGEST_DETAIL = 500


class NobodyToAsk(Exception):
    """A handler cannot put the question to anybody: the call is denied, and the row has the message."""


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


@dataclass(slots=True)
class _Asked:
    """A question under way, as its handler has it in its task and in threads with its context."""

    question: Question
    held_up: str | None = None
    """Why nobody has been asked yet, for as long as that is so."""


_asked: ContextVar[_Asked] = ContextVar("aegis_otel_question")


def current_question() -> Question:
    """Return the question that this handler is asked, in its own task and in threads with its context.

    Raises:
        LookupError: nothing is being asked here.
    """
    try:
        return _asked.get().question
    except LookupError:
        raise LookupError("no question is being asked: call this inside `request_approval`") from None


def wait_for_turn(why: str) -> Callable[[], None]:
    """Have the row say `why`, should the question expire before what this returns is called."""
    asked = _asked.get(None)
    if asked is None:
        return lambda: None
    asked.held_up = why

    def begin() -> None:
        asked.held_up = None

    return begin


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
    asked = _Asked(_question(call, timeout))
    if not _shows_all(asked.question.action_params):
        return _unobtainable("its arguments cannot be shown whole: too deep, too large, or hidden altogether")
    token = _asked.set(asked)
    try:
        # A handler that is no coroutine function has held the event loop and gave no answer that counts.
        task = asyncio.ensure_future(approver.request_approval(call.decision))
    except Exception as error:
        return _unobtainable("`request_approval` of the handler must be `async def`", error)
    finally:
        _asked.reset(token)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
    finally:
        task.cancel()  # a handler that ignores this is left behind: nobody waits for it
    waited = monotonic() - started
    record.approval_wait_s = round(waited, 6)
    if not done or waited > timeout:  # a handler that holds the event loop is late without being stopped
        record.human_decision = "expired"
        return replace(refusal.EXPIRED, detail=asked.held_up)
    try:
        answer: object = task.result()
    except NobodyToAsk as error:
        return _unobtainable(str(error) or "there is nobody to ask")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return _unobtainable(f"the handler raised {describe(error)}", error)
    if isinstance(answer, bool):
        answer = ApprovalAnswer(answer)
    if not isinstance(answer, ApprovalAnswer):
        return _unobtainable(f"the handler answered `{type(answer).__name__}`, not True or False")
    record.approver = _optional(answer.approver or approver.approver)
    record.approval_reason = _optional(answer.reason)
    record.human_decision = "approved" if answer.approved else "denied"
    return None if answer.approved else refusal.DENIED


def _shows_all(params: str) -> bool:
    """Return whether a reader of the redacted arguments sees all of them, but for the secrets in them."""
    return params.startswith("{") and not is_cut(params)


def _unobtainable(why: str, error: BaseException | None = None) -> Refusal:
    """Return the refusal of a call for which no answer was had; the log and the row say why."""
    if error is None:
        _log.warning("denied: %s", safe_text(why))
    else:
        _log.warning("the approval handler failed; denied: %s", traced(error))
    return replace(refusal.UNOBTAINABLE, detail=safe_text(why)[:_LONGEST_DETAIL])


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
        action_description=safe_description(call.decision.action.description),
        action_params=call.shown.decode(),
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
