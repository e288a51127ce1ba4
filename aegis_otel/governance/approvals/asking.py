"""Ask about a call until the answer is no, or yes to what the policy says at that moment."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.paused.paused_rows import resolved_columns
from aegis_otel.governance.approvals.question import ask, is_yes_to
from aegis_otel.governance.call import Approver, Call, finished
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.evaluation import Policies
from aegis_otel.governance.hooks import fire
from aegis_otel.governance.recording import record_verdict
from aegis_otel.model import Approval, Mode, Outcome, PolicyDecision
from aegis_otel.redaction.serialize import encode_plain, to_plain

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor

_log = logging.getLogger("aegis_otel")


class CallApproval:
    """Gets the calls of one governor approved.

    Args:
        governor: Decides, and records what came of a question.
        approver: Asks a human.
        timeout: Seconds until a question expires.
    """

    def __init__(self, governor: Governor, approver: Approver, timeout: float) -> None:
        self._governor = governor
        self._approver = approver
        self._timeout = timeout

    async def settle(self, call: Call) -> None:
        """Ask until the answer is no, or yes to what the policy says at that moment."""
        governor = self._governor
        call.channel, asks_in_inbox = self._approver.channel, self._approver.asks_in_inbox
        shared = governor.shared_questions if asks_in_inbox or governor.paused_calls.inbox else None
        while call.outcome is None:
            with governor.signals.awaiting(call):
                why = await ask(self._approver, call, self._timeout, governor.system.monotonic, shared)
            asked, cut = call.decision, None
            if why is not None:
                governor.refuse(call, why)
            else:
                policies = governor.policies()
                if governor.takes_long(policies, asked.action, call.origin):
                    recheck = partial(self._recheck, call, policies)
                    work, cut = await finished(governor.off_loop(asked.action, recheck))
                    if cut is None:
                        work.result()
                else:
                    self._recheck(call, policies)
            line = governor.line(call, "resolved", **resolved_columns(call.record))
            line = governor.paused_calls.with_proof(call.record, line)
            if not governor.write(call, line) and governor.needs_audit:
                governor.refuse_unwritten(call)
            if cut is not None:
                raise cut
            await fire(governor.hooks.on_approval, governor.signals.hook_failed, asked, why is None)
            if call.decision.verdict is not asked.verdict:
                await fire(governor.hooks.on_decision, governor.signals.hook_failed, call.decision)

    def _recheck(self, call: Call, policies: Policies) -> None:
        """Check that the yes of a human is to these arguments, and to what the policy asks now."""
        governor = self._governor
        action, approved = call.decision.action, call.decision.verdict

        def runs_next(decision: PolicyDecision) -> bool:
            verdict = decision.verdict
            if verdict.enforced_approval is Approval.APPROVE:
                return is_yes_to(verdict, approved)
            return verdict.enforced_approval is Approval.AUTO

        record, now_ns = call.record, governor.system.now_ns()
        try:
            if encode_plain(to_plain(action.params)) != call.arguments:
                governor.refuse(call, refusal.CHANGED)
                return
            case = governor.candidate_case(policies, action, call.origin, call.outer)
            now, call.is_marked, failure = governor.evaluate(
                policies.in_force,
                action,
                call.origin,
                now_ns,
                decision_id=record.decision_id,
                runs_next=runs_next,
                outer=call.outer,
            )
        except Exception as error:
            _log.error("governance failed: %s", traced(error))
            governor.refuse(call, refusal.UNAVAILABLE)
            return
        if failure is not None:
            governor.refuse(call, refusal.STATE_UNAVAILABLE)
            return
        if now.verdict.mode is Mode.MONITOR:  # the policy only watches by now, and a human has said yes
            call.outcome, call.status = Outcome.APPROVED, RecordStatus.OPEN
            record.result_status = RecordStatus.OPEN.value
            return
        call.decision, verdict = now, now.verdict
        record_verdict(record, verdict)
        if case is not None:
            governor.candidate_verdicts.add(*case, now_ns, record)
        if verdict.approval is Approval.BLOCK:
            governor.refuse(call, refusal.blocked(verdict.matched_rule))
        elif runs_next(now):
            call.outcome, call.status = Outcome.APPROVED, RecordStatus.OPEN
            record.result_status = RecordStatus.OPEN.value
        else:  # the yes was to another question
            record.human_decision = record.approver = record.approval_reason = None
