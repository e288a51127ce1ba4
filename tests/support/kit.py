"""What the tests share beside `aegis_otel.testing`: a policy, and a Runtime on a real audit directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aegis_otel import Policy, Runtime, RuntimeHooks
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import ApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.testing import ScriptedApprover
from aegis_otel.testing import Signals as Telemetry

__all__ = ["POLICY", "Bench", "Heard", "ScriptedApprover", "Telemetry", "make_bench"]

POLICY: dict[str, Any] = {
    "version": "1",
    "defaults": {"risk_level": "medium", "approval": "approve"},
    "rules": [
        {"name": "search_auto", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"},
        {"name": "write_asks", "match": {"type": "write_*"}, "risk_level": "high", "approval": "approve"},
        {
            "name": "block_deletes",
            "match": {"type": "delete_*"},
            "risk_level": "critical",
            "approval": "block",
        },
    ],
}


@dataclass
class Heard:
    """What the hooks were told."""

    decisions: list[Any] = field(default_factory=list)
    approvals: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def hooks(self) -> RuntimeHooks:
        async def approval(decision: PolicyDecision, approved: bool) -> None:
            self.approvals.append((decision.matched_rule, approved))

        return RuntimeHooks(
            on_decision=lambda decision: self.decisions.append(decision.matched_rule),
            on_approval=approval,
            on_execute=lambda result: self.results.append((result.action.type, result.status.value)),
        )


@dataclass
class Bench:
    """A Runtime with everything real behind it, and the means to see what it did."""

    runtime: Runtime
    telemetry: Telemetry
    audit: Path
    heard: Heard
    approver: ApprovalHandler

    def rows(self) -> list[dict[str, Any]]:
        """The audit's rows, oldest first."""
        return list(reversed(AuditLogger(self.audit).get_log()))

    def row(self) -> dict[str, Any]:
        (row,) = self.rows()
        return row


def make_bench(
    audit: Path,
    *answers: Any,
    policy: dict[str, Any] | Policy | None = None,
    executor: Any = None,
    approver: ApprovalHandler | None = None,
    timeout: float = 5.0,
    hooks: RuntimeHooks | None = None,
    mode: str | None = None,
) -> Bench:
    telemetry, heard = Telemetry(), Heard()
    approver = approver or ScriptedApprover(*answers)
    chosen = POLICY if policy is None else policy
    runtime = Runtime(
        policy=chosen if isinstance(chosen, Policy) else Policy.from_dict(chosen),
        executor=executor,
        approval_handler=approver,
        audit_logger=AuditLogger(audit),
        session_id="session",
        hooks=hooks or heard.hooks(),
        approval_timeout=timeout,
        mode=mode,
        recorder=telemetry.recorder(),
    )
    return Bench(runtime, telemetry, audit, heard, approver)
