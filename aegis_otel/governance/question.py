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
    """A question to a human, as the audit has it: all of it is redacted and may leave the process."""

    decision_id: str
    """The id of the audit row, the span and the event. The same if a changed policy asks anew."""
    session_id: str | None
    conversation_id: str | None
    agent_name: str | None
    user_id: str | None
    """The user that the agent acts for."""
    tenant_id: str | None
    user_roles: str | None
    """A JSON list; None where the roles are not known."""
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


_RECORDED = set(Question.__struct_fields__) - {"action_description", "action_params", "timeout"}
"""The fields that are columns of the record."""


class ApprovalAnswer(msgspec.Struct, frozen=True):
    """An answer with its author: what a handler returns in place of True or False where it knows more.

    Raises:
        TypeError: `approved` is not a bool, or another value not a text.
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
    """Return a function to call when the turn begins; a question that expires before has `why` in its row."""
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
    shown = asked.question.action_params
    if not shown.startswith("{") or is_cut(shown):
        return _unobtainable(
            call, "its arguments cannot be shown whole: too deep, too large, or hidden altogether"
        )
    token = _asked.set(asked)
    try:
        # A handler that is not a coroutine function has held the event loop and gave no answer that counts.
        task = asyncio.ensure_future(approver.request_approval(call.decision))
    except Exception as error:
        return _unobtainable(call, "`request_approval` of the handler must be `async def`", error)
    finally:
        _asked.reset(token)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
    finally:  # also where the call is cancelled: the row then says that a human was asked, and for how long
        task.cancel()  # a handler that ignores this is left behind: nobody waits for it
        waited = monotonic() - started
        record.approval_wait_s = round(waited, 6)
    if not done or waited > timeout:  # a handler that holds the event loop is late without being stopped
        record.human_decision = "expired"
        return replace(refusal.EXPIRED, detail=asked.held_up)
    try:
        answer: object = task.result()
    except NobodyToAsk as error:
        return _unobtainable(call, str(error) or "there is nobody to ask")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return _unobtainable(call, f"the handler raised {describe(error)}", error)
    if isinstance(answer, bool):
        answer = ApprovalAnswer(answer)
    if not isinstance(answer, ApprovalAnswer):
        return _unobtainable(call, f"the handler answered `{type(answer).__name__}`, not True or False")
    author = answer.approver or approver.approver
    record.approver = None if author is None else safe_text(author)
    record.approval_reason = None if answer.reason is None else safe_text(answer.reason)
    record.human_decision = "approved" if answer.approved else "denied"
    return None if answer.approved else refusal.DENIED


def _unobtainable(call: Call, why: str, error: BaseException | None = None) -> Refusal:
    """Return the refusal of a call for which there is no answer; the log and the row say why."""
    which = f"call of `{call.tool}`, decision {call.record.decision_id}"
    if error is None:
        _log.warning("%s denied: %s", which, safe_text(why))
    else:
        _log.warning("%s denied: the approval handler failed: %s", which, traced(error))
    return replace(refusal.UNOBTAINABLE, detail=safe_text(why)[:_LONGEST_DETAIL])


def _question(call: Call, timeout: float) -> Question:
    recorded = {name: getattr(call.record, name) for name in _RECORDED}
    description = safe_description(call.decision.action.description)
    return Question(
        action_description=description, action_params=call.shown.decode(), timeout=timeout, **recorded
    )
