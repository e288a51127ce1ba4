"""The row of a paused call: what it says of its question, and how a call goes on from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aegis_otel.audit.record import DESCRIBES, AuditRecord, RecordStatus, Waiting, recorded_subject
from aegis_otel.errors import AuditError
from aegis_otel.governance.approvals.entitlement import Judgement
from aegis_otel.governance.approvals.question import ApprovalAnswer, record_answers
from aegis_otel.governance.approvals.terms import ApprovalTerms, decode_terms
from aegis_otel.governance.call import Call, Origin
from aegis_otel.governance.recording import (
    VERDICT_COLUMNS,
    recorded_terms,
    timestamp,
    unix_ns,
    user_payload,
    utc,
)
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Action, Approval, Mode, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.redaction.serialize import encode_plain, to_plain

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor


CHANNEL = "sdk"
"""Where a human is asked, as signals name it."""
APPROVED, DENIED = "approved", "denied"
YES_LASTS_S = 365 * 86_400.0
"""Seconds after a question in which a yes to it counts, where an inbox says whether the call has run."""
ANSWER = ("human_decision", "approver", "approval_reason", "approval_wait_s")
"""The columns of an answer."""


class Step(Enum):
    """What the SDK does next with a call that it asks about."""

    PROCEED = auto()
    """The call goes on to its gate, which decides."""
    PAUSE = auto()
    """The run is paused until a human answers."""
    REJECT = auto()
    """The call is rejected: a human said no."""


class NextStep(NamedTuple):
    """The next step of one call."""

    step: Step
    question: Call | None = None
    """What is to be put to a human, where that is not on disk yet."""
    by_answer: bool = False
    """True where the call proceeds by an answer in the audit or the inbox, which its gate has to take."""
    fault: Refusal | None = None
    """Why the gate of a call that proceeds has to refuse it."""
    text: str | None = None
    """What the model reads of a call that is rejected by an answer which the SDK does not know."""


def resolved_columns(record: AuditRecord) -> dict[str, object]:
    """Return what an answer can change in the row."""
    return {name: getattr(record, name) for name in (*ANSWER, *VERDICT_COLUMNS, "result_error")}


def is_approved(waiting: Waiting, verdict: Verdict) -> bool:
    """Return whether the yes to a paused call is a yes to what the policy asks now."""
    return waiting.answer == APPROVED and is_same_question(waiting, verdict)


def is_asked_by_policy(waiting: Waiting) -> bool:
    """Return whether the policy asked; a rule that was only monitored did not, but the tool by itself."""
    return waiting.row.approval == Approval.APPROVE.value and waiting.row.mode != Mode.MONITOR.value


def is_unanswered(waiting: Waiting, call: Call) -> bool:
    """Return whether a paused call still waits for an answer to what the policy asks now."""
    return (
        waiting.answer is None
        and not is_lapsed(waiting, call.started_ns)
        and is_same_question(waiting, call.decision.verdict)
    )


def is_same_question(waiting: Waiting, verdict: Verdict) -> bool:
    """Return whether the rule that asks now has asked, for no lower risk, and the same persons."""
    row = waiting.row
    risk_level = RiskLevel.__members__.get(row.risk_level or "LOW")
    return (
        is_asked_by_policy(waiting)
        and row.matched_rule == verdict.matched_rule
        and risk_level is not None  # somebody else has written it
        and risk_level >= verdict.risk_level
        and (verdict.approvers is None or row.approval_terms == recorded_terms(verdict))
    )


def terms_of(row: AuditRecord) -> ApprovalTerms:
    """Return on what terms a paused call can be answered.

    Raises:
        AuditError: its row does not say it as it should.
    """
    try:
        return decode_terms(row.approval_terms)
    except ValueError as error:
        raise AuditError(f"who may answer decision `{row.decision_id}` is not known: {error}") from None


def is_lapsed(waiting: Waiting, now_ns: int) -> bool:
    """Return whether the time in which a paused call can be answered is over."""
    expires_s = terms_of(waiting.row).expires_s
    return expires_s is not None and now_ns > unix_ns(waiting.asked) + round(expires_s * 1e9)


def is_too_old(waiting: Waiting, now_ns: int) -> bool:
    """Return whether a yes to a paused call counts no more: no inbox knows what was used so long ago."""
    return now_ns > unix_ns(waiting.asked) + round(YES_LASTS_S * 1e9)


def continue_call(call: Call, waiting: Waiting) -> None:
    """Make `call` go on from the row of a paused call; with its verdict, where its body has begun."""
    record, row = call.record, waiting.row
    call.stamped_ns = unix_ns(waiting.last)
    record.timestamp = timestamp(call.stamp(call.started_ns))
    record.stage, record.decision_id = "resolved", row.decision_id
    for name in DESCRIBES + ANSWER + (VERDICT_COLUMNS if waiting.started else ()):
        setattr(record, name, getattr(row, name))
    if row.approval_terms and not record.approval_terms:
        record.approval_terms = ""  # else the row would keep those of the rule that asked before
    call.channel = CHANNEL if row.human_decision else None
    call.prior = waiting
    if waiting.started:
        call.outcome = Outcome.APPROVED if row.human_decision == APPROVED else Outcome.ALLOWED
        call.status, call.announced = RecordStatus.OPEN, True


def requester_of_row(
    row: AuditRecord, answers: Iterable[ApprovalAnswer], digest: Callable[[bytes], str | None]
) -> str | None:
    """Return the user that the agent acts for: under their own spelling if they answer, else as shown.

    The row may have the name masked or cut, but it has its digest, as `Journal.digest` makes it.
    """
    for each in answers:
        if each.approver and row.user_hash and row.user_hash == digest(user_payload(each.approver)):
            return each.approver
    return row.user_id


def call_of(waiting: Waiting, arguments: str, now_ns: int) -> Call:
    """Return a paused call as a human was asked about it, made from its row."""
    row = msgspec.structs.replace(waiting.row, stage="resolved")
    action = Action(
        *(row.action_type or "", row.action_target or "", _params(arguments)),
        agent=row.agent_name,
        subject=recorded_subject(row.user_id, row.tenant_id, row.user_roles),
    )
    terms = terms_of(row)
    verdict = Verdict(
        Approval(row.approval or Approval.APPROVE),
        RiskLevel[row.risk_level or "CRITICAL"],
        row.matched_rule or "",
        row.reason or "",
        policy_digest=row.policy_digest or "",
        approvers=terms.approvers,
        expires_s=terms.expires_s,
    )
    origin = Origin(size=len(arguments))  # the row has the rest
    decision, last = PolicyDecision(action, verdict), unix_ns(waiting.last)
    return Call(decision, origin, now_ns, row, b"", stamped_ns=last, channel=CHANNEL)


def answered_call(
    governor: Governor,
    waiting: Waiting,
    arguments: str,
    judged: Judgement,
    answers: Iterable[ApprovalAnswer],
) -> Call:
    """Return a paused call with what was answered on its record."""
    call = call_of(waiting, arguments, governor.system.now_ns())
    record = call.record
    record_answers(record, judged, answers)
    asked = datetime.fromisoformat(record.timestamp)
    record.timestamp = timestamp(call.stamp(call.started_ns))
    record.approval_wait_s = round(max(0.0, (utc(call.started_ns) - asked).total_seconds()), 6)
    return call


def write_answer(governor: Governor, call: Call) -> bool:
    """Write the yes on a call's record into its row, with its proof; return whether it is on disk."""
    line = governor.line(call, "resolved", **{name: getattr(call.record, name) for name in ANSWER})
    line.proof = governor.journal.prove(call.record, line)
    return governor.write(call, line)


def write_yes(
    governor: Governor,
    waiting: Waiting,
    arguments: str,
    judged: Judgement,
    answers: Iterable[ApprovalAnswer],
) -> Waiting:
    """Write a yes that was given elsewhere into the row of a paused call, under `Journal.answering`.

    Returns:
        The call as it waits then.

    Raises:
        AuditError: it cannot be written or proven.
    """
    call = answered_call(governor, waiting, arguments, judged, answers)
    if not write_answer(governor, call):
        raise AuditError("the answer could not be written to the audit, so it does not count")
    governor.signals.answered(call)
    return Waiting(call.record, APPROVED, timestamp(call.stamped_ns), waiting.asked)


def _params(arguments: str) -> dict[str, Any]:
    """Return the parameters in a JSON text; text that is not a JSON object stands under an empty name."""
    try:
        params = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        params = None
    return params if isinstance(params, dict) else {"": arguments}


def encoded_arguments(arguments: str) -> bytes | None:
    """Return arguments as they are digested; None where they are nested too deeply."""
    try:
        return encode_plain(to_plain(_params(arguments)))
    except (ValueError, RecursionError):
        return None
