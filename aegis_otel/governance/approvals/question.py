"""The questions to a human, and what the answers mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.entitlement import GivenAnswer, Judgement, judge, why_unanswerable
from aegis_otel.governance.call import Approver, Call
from aegis_otel.governance.error_text import describe, safe_description, safe_text, traced
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Action, Approvers, Verdict
from aegis_otel.redaction.serialize import is_cut

if TYPE_CHECKING:
    from aegis_otel.governance.approvals.shared_questions import SharedQuestions

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
    approval_terms: str | None = None
    """Who may answer, as JSON; None or empty where the rule does not say it."""


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
    roles: tuple[str, ...] = ()
    """Their roles, as the channel has proved them; a rule may ask for one (`approvers.roles`)."""

    def __post_init__(self) -> None:
        if not isinstance(self.approved, bool):
            raise TypeError(f"`approved` of an answer must be a bool, not `{type(self.approved).__name__}`")
        for name in ("approver", "reason"):
            if not isinstance(getattr(self, name), str | None):
                raise TypeError(f"`{name}` of an answer must be a text or None")
        is_list = isinstance(self.roles, list | tuple | set | frozenset)
        if not is_list or not all(isinstance(each, str) for each in self.roles):
            raise TypeError("`roles` of an answer must be a list of texts")
        msgspec.structs.force_setattr(self, "roles", tuple(self.roles))

    @property
    def given(self) -> GivenAnswer:
        """The answer as it is judged."""
        return GivenAnswer(self.approved, self.approver, self.roles)


@dataclass(slots=True)
class Asked:
    """A question under way, as its handler has it in its task and in threads with its context."""

    question: Question
    call: Call
    """What is asked about."""
    shared: SharedQuestions | None = None
    """Puts it into the inbox; None where this program has none."""
    why_not_asked_yet: str | None = None
    """Why nobody has been asked yet, for as long as that is so."""
    out_of_reach: str | None = None
    """Why no answer can come, for as long as that is so: where it lasts to the end, nobody could answer."""
    is_over: bool = False
    """True once its time is over."""


_asked: ContextVar[Asked] = ContextVar("aegis_otel_question")


def current_question() -> Question:
    """Return the question that this handler is asked, in its own task and in threads with its context.

    Raises:
        LookupError: nothing is being asked here.
    """
    try:
        return _asked.get().question
    except LookupError:
        raise LookupError("no question is being asked: call this inside `request_approval`") from None


def current_asked() -> Asked:
    """Return all that is known of the question that this handler is asked; raises what that raises."""
    current_question()
    return _asked.get()


def wait_for_turn(why: str) -> Callable[[], None]:
    """Return a function to call when the turn begins; a question that expires before has `why` in its row."""
    asked = _asked.get(None)
    if asked is None:
        return lambda: None
    asked.why_not_asked_yet = why

    def begin() -> None:
        asked.why_not_asked_yet = None

    return begin


async def ask(
    approver: Approver,
    call: Call,
    timeout: float,
    monotonic: Callable[[], float],
    shared: SharedQuestions | None = None,
) -> Refusal | None:
    """Ask once, for at most `timeout` seconds or as the rule says, and keep the answer on the call's record.

    Args:
        approver: Asks.
        call: What is asked about.
        timeout: The seconds that a human has, where the rule does not say it.
        monotonic: The clock.
        shared: Knows grants, by which nobody needs to be asked; None where there are none.

    Returns:
        None for a yes, which is True, an approving ApprovalAnswer, or a list of these of as many persons as
        the rule asks for, and nothing else; otherwise why the call is refused.
    """
    record = call.record
    record.human_decision = record.approver = record.approval_reason = None
    if shared is not None and await shared.apply_grant(call):
        return None
    return await _ask(approver, call, timeout, monotonic, shared)


async def _ask(
    approver: Approver,
    call: Call,
    timeout: float,
    monotonic: Callable[[], float],
    shared: SharedQuestions | None,
) -> Refusal | None:
    """Ask, where no grant covers the call."""
    started = monotonic()
    record, verdict = call.record, call.decision.verdict
    if verdict.approvers is not None and (why := _why_not_asked(approver, call, verdict.approvers)):
        return _unobtainable(call, why)
    timeout = timeout if verdict.expires_s is None else verdict.expires_s
    asked = Asked(make_question(call, timeout), call, shared)
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
        asked.is_over = not done
    finally:  # also where the call is cancelled: the row then says that a human was asked, and for how long
        task.cancel()  # a handler that ignores this is left behind: nobody waits for it
        waited = monotonic() - started
        record.approval_wait_s = round(waited, 6)
    if not done or waited > timeout:  # a handler that holds the event loop is late without being stopped
        return _too_late(call, asked)
    try:
        answer: object = task.result()
    except NobodyToAsk as error:
        return _unobtainable(call, str(error) or "there is nobody to ask")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return _unobtainable(call, f"the handler raised {describe(error)}", error)
    answers = _answers(answer, approver.approver)
    if answers is None:
        return _unobtainable(call, f"the handler answered `{type(answer).__name__}`, not True or False")
    judged = judge_answers(answers, verdict.approvers, requester_of(call.decision.action))
    if judged.ignored:
        _log.warning("decision %s: %s", record.decision_id, safe_text(why_no_yes(judged)))
    if judged.outcome == "open":
        return _unobtainable(call, why_no_yes(judged))
    record_answers(record, judged, answers)
    return None if judged.outcome == "yes" else refusal.DENIED


def is_yes_to(verdict: Verdict, approved: Verdict) -> bool:
    """Return whether the yes to what `approved` asked is one to what `verdict` asks: of the same persons.

    It may come from a grant, which is none to a rule that asks each time.
    """
    return (
        verdict.matched_rule == approved.matched_rule
        and verdict.risk_level <= approved.risk_level
        and verdict.asks_each_time <= approved.asks_each_time
        and verdict.approvers in (None, approved.approvers)
    )


def requester_of(action: Action) -> str | None:
    """Return the user that an action is done for, as the program says it; None where it is not known."""
    return None if action.subject is None else action.subject.user


def judge_answers(
    answers: Iterable[ApprovalAnswer], approvers: Approvers | None, requester: str | None
) -> Judgement:
    """Return what answers come to; arguments as for `entitlement.judge`."""
    return judge(approvers, [each.given for each in answers], requester)


def why_no_yes(judged: Judgement) -> str:
    """Return why answers are no yes, or which of them did not count; names are those of the channel."""
    ignored = [
        f"{f'the answer of {name}' if name else 'an answer without a name'} does not count: {why}"
        for (_, name, _), why in judged.ignored
    ]
    missing = "1 more person has" if judged.missing == 1 else f"{judged.missing} more persons have"
    return "; ".join([*([f"{missing} to say yes"] if judged.missing else []), *ignored])


def record_answers(record: AuditRecord, judged: Judgement, answers: Iterable[ApprovalAnswer]) -> None:
    """Put answers that come to a yes or a no on the record: who gave those that count, and why."""
    counted = [each for each in answers if any(each.given == its for its in judged.counted)]
    names = dict.fromkeys(each.approver for each in counted if each.approver is not None)
    reasons = dict.fromkeys(each.reason for each in counted if each.reason is not None)
    record.approver = safe_text(", ".join(names)) if names else None
    record.approval_reason = safe_text("; ".join(reasons)) if reasons else None
    record.human_decision = "approved" if judged.outcome == "yes" else "denied"


def _why_not_asked(approver: Approver, call: Call, approvers: Approvers) -> str | None:
    """Return why no answer can be a yes, so that nobody needs to be asked; None where one can."""
    requester = requester_of(call.decision.action)
    if why := why_unanswerable(approvers, requester):
        return why
    if not approver.asks_one_person:
        return None
    judged = judge(approvers, [GivenAnswer(True, approver.approver)], requester)
    return None if judged.outcome == "yes" else f"`{approver.channel}` asks one person; {why_no_yes(judged)}"


def _answers(answer: object, author: str | None) -> list[ApprovalAnswer] | None:
    """Return what a handler answered, each with its author; None where it is no answer."""
    if isinstance(answer, bool):
        answer = ApprovalAnswer(answer)
    given = answer if isinstance(answer, list | tuple) else [answer]
    answers = [each for each in given if isinstance(each, ApprovalAnswer)]
    if not answers or len(answers) < len(given):
        return None
    return [each if each.approver else msgspec.structs.replace(each, approver=author) for each in answers]


def _too_late(call: Call, asked: Asked) -> Refusal:
    if asked.out_of_reach is not None:
        return _unobtainable(call, asked.out_of_reach)
    call.record.human_decision = "expired"
    return replace(refusal.EXPIRED, detail=asked.why_not_asked_yet)


def _unobtainable(call: Call, why: str, error: BaseException | None = None) -> Refusal:
    """Return the refusal of a call for which there is no answer; the log and the row say why."""
    which = f"call of `{call.tool}`, decision {call.record.decision_id}"
    if error is None:
        _log.warning("%s denied: %s", which, safe_text(why))
    else:
        _log.warning("%s denied: the approval handler failed: %s", which, traced(error))
    return replace(refusal.UNOBTAINABLE, detail=safe_text(why)[:_LONGEST_DETAIL])


def make_question(call: Call, timeout: float) -> Question:
    """Return the question about a call, which has `timeout` seconds."""
    recorded = {name: getattr(call.record, name) for name in _RECORDED}
    description = safe_description(call.decision.action.description)
    return Question(
        action_description=description, action_params=call.shown.decode(), timeout=timeout, **recorded
    )
