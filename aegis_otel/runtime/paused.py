"""A paused call, as its row in the journal has it: what was asked, what was answered, how it goes on."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from aegis_otel.audit.record import DESCRIBES, AuditRecord, RecordStatus, Waiting
from aegis_otel.model import Action, Approval, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.runtime.call import Call, Origin
from aegis_otel.runtime.timestamps import timestamp, unix_ns

CHANNEL = "sdk"
"""Where a human is asked, as signals name it."""
APPROVED, DENIED = "approved", "denied"

ANSWER = ("human_decision", "approver", "approval_reason", "approval_wait_s")
"""The columns of an answer."""
_VERDICT = ("approval", "risk_level", "matched_rule", "reason", "policy_digest")


def resolved(record: AuditRecord) -> dict[str, object]:
    """What an answer can change of the row."""
    return {name: getattr(record, name) for name in (*ANSWER, *_VERDICT, "result_error")}


def answers(waiting: Waiting, verdict: Verdict) -> bool:
    """Whether the yes to a paused call is a yes to what the policy asks now."""
    return waiting.answer == APPROVED and same_question(waiting, verdict)


def same_question(waiting: Waiting, verdict: Verdict) -> bool:
    """Whether a human was asked by the rule that asks now, and for no lower risk."""
    row = waiting.row
    return (
        row.approval == Approval.APPROVE.value
        and row.matched_rule == verdict.matched_rule
        and RiskLevel[row.risk_level or "LOW"] >= verdict.risk_level
    )


def take_up(call: Call, waiting: Waiting) -> None:
    """Go on with a paused call: what it is, its answer; and its verdict, where its body has begun."""
    record, row = call.record, waiting.row
    call.stamped_ns = unix_ns(waiting.last)
    record.timestamp = timestamp(call.stamp(call.started_ns))
    record.stage, record.decision_id = "resolved", row.decision_id
    for name in DESCRIBES + ANSWER + (_VERDICT if waiting.started else ()):
        setattr(record, name, getattr(row, name))
    call.channel = CHANNEL if row.human_decision else None
    call.prior = waiting
    if waiting.started:
        call.outcome = Outcome.APPROVED if row.human_decision == APPROVED else Outcome.ALLOWED
        call.status, call.announced = RecordStatus.OPEN, True


def reopened(waiting: Waiting, arguments: str, now_ns: int) -> Call:
    """A paused call as it was asked about, from its row."""
    row = msgspec.structs.replace(waiting.row, stage="resolved")
    try:
        params: Any = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        params = None
    action = Action(
        row.action_type or "",
        row.action_target or "",
        params if isinstance(params, dict) else {"": arguments},
        agent=row.agent_name,
    )
    verdict = Verdict(
        Approval(row.approval or Approval.APPROVE),
        RiskLevel[row.risk_level or "CRITICAL"],
        row.matched_rule or "",
        row.reason or "",
        policy_digest=row.policy_digest or "",
    )
    origin = Origin(row.tool_name, row.tool_call_id, row.conversation_id, len(arguments))
    decision, last = PolicyDecision(action, verdict), unix_ns(waiting.last)
    return Call(decision, origin, now_ns, row, b"", stamped_ns=last, channel=CHANNEL)
