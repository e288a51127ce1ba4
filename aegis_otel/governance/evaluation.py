"""Ask policies about a call: the one in force, which decides, and a candidate, for the record alone."""

from __future__ import annotations

import logging
from typing import NamedTuple

from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.call import Signals
from aegis_otel.governance.error_text import describe
from aegis_otel.governance.recording import utc
from aegis_otel.model import ERROR_RULE, Action, Approval, PolicyDecision, RiskLevel, Verdict
from aegis_otel.policy import Policy

_log = logging.getLogger("aegis_otel")
_UNVALIDATED = "the policy said otherwise when the arguments were read, so the tool has not validated them"


class Policies(NamedTuple):
    """The policies that one decision is made by, whatever replaces them meanwhile."""

    in_force: Policy
    candidate: Policy | None


def decide(policy: Policy, action: Action, now_ns: int) -> PolicyDecision:
    """Ask a policy.

    It, or what it says at this time of day, may have changed since the arguments were read. Where it reads
    parameters that the tool has not validated and does not block, what the body gets is not known, and so no
    condition on them can be answered.
    """
    now = utc(now_ns) if policy.reads_time else None  # else nothing reads it
    decision = policy.evaluate(action, now=now)
    if (
        action.is_unvalidated
        and decision.enforced_approval is not Approval.BLOCK
        and policy.reads_arguments(action.type, *[each.type for each in action.forms])
    ):
        return PolicyDecision(action, policy.evaluate(action.with_doubt(_UNVALIDATED), now=now).verdict)
    return decision


def error_verdict(reason: str, digest: str = "") -> Verdict:
    """Return the verdict on a call that no policy could decide on."""
    return Verdict(Approval.BLOCK, RiskLevel.CRITICAL, ERROR_RULE, reason, policy_digest=digest)


class CandidateVerdicts:
    """Puts on records what candidates say, by which nothing is decided."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._failed: Policy | None = None

    def add(self, candidate: Policy, action: Action, now_ns: int, record: AuditRecord) -> None:
        """Ask a candidate and put its verdict on the record; where it fails, none. Never raises."""
        record.candidate_approval = record.candidate_rule = None
        try:
            verdict = decide(candidate, action, now_ns).verdict
            why = verdict.reason if verdict.matched_rule == ERROR_RULE else None
        except Exception as error:
            why = describe(error)
        if why is None:
            record.candidate_approval = verdict.enforced_approval._value_
            record.candidate_rule = verdict.matched_rule
            return
        self._signals.candidate_failed()
        if self._failed is not candidate:
            self._failed = candidate
            _log.warning(
                "the candidate policy could not be asked about a call, which changes nothing: %s", why
            )
