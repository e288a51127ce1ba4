"""The base of approval handlers, and the handlers that do not ask."""

from __future__ import annotations

from abc import ABC, abstractmethod

from aegis_otel.governance.question import ApprovalAnswer
from aegis_otel.model import PolicyDecision


class ApprovalHandler(ABC):
    """Base of all approval handlers: subclass it and implement `request_approval`."""

    channel: str = "custom"
    """Where the human is asked, as signals name it; low cardinality."""
    approver: str | None = None
    """Who answers, where that is always the same; an `ApprovalAnswer` that names somebody wins."""

    @abstractmethod
    async def request_approval(self, decision: PolicyDecision) -> bool | ApprovalAnswer:
        """Ask about one decision. `current_question()` has its id and what may be shown.

        Returns:
            True to let the action run, False to deny it, or an `ApprovalAnswer`. Any other value counts
            as no answer.
        """


class AutoApprovalHandler(ApprovalHandler):
    """Approves everything. For demos and tests only."""

    channel = "auto"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        return True


class DenyApprovalHandler(ApprovalHandler):
    """Denies everything."""

    channel = "deny"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        return False
