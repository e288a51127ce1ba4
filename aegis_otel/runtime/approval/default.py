"""Choose the approval handler of a process that names none: the terminal, or a refusal that says why."""

from __future__ import annotations

import sys

from aegis_otel.config import APPROVALS
from aegis_otel.governance.approvals.question import NobodyToAsk
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval.handler import ApprovalHandler
from aegis_otel.runtime.approval.terminal import CLIApprovalHandler


class NoTerminal(ApprovalHandler):
    """Denies everything, and says why: the default of a process without a terminal."""

    channel = "none"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        raise NobodyToAsk(
            "no terminal to ask at; give instrument() or Runtime(...) an `approval_handler`, or set "
            f"{APPROVALS.env}=inbox"
        )


def default_handler() -> ApprovalHandler:
    """Return the handler for the terminal, if there is one."""
    try:
        interactive = sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        interactive = False
    return CLIApprovalHandler() if interactive else NoTerminal()
