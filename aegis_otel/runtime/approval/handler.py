"""The base of approval handlers, and the handlers that do not ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from aegis_otel.governance.approvals.question import ApprovalAnswer
from aegis_otel.model import PolicyDecision


class ApprovalHandler(ABC):
    """Base of all approval handlers: subclass it and implement `request_approval`."""

    channel: str = "custom"
    """Where the human is asked, as signals name it; low cardinality."""
    approver: str | None = None
    """Who answers, where that is always the same; an `ApprovalAnswer` that names somebody wins."""
    asks_one_person: bool = False
    """Whether `approver` is the only person that it asks, by a yes or a no: where that is not enough for the
    rule, nobody is asked."""
    asks_in_inbox: bool = False
    """Whether it asks in the inbox, where people also give grants."""

    @abstractmethod
    async def request_approval(
        self, decision: PolicyDecision
    ) -> bool | ApprovalAnswer | Sequence[ApprovalAnswer]:
        """Ask about one decision. `current_question()` has its id and what may be shown.

        Returns:
            True to let the action run, False to deny it, or an `ApprovalAnswer`; of several persons a list
            of these. Any other value counts as no answer.
        """


class AutoApprovalHandler(ApprovalHandler):
    """Approves everything. For demos and tests only."""

    channel = "auto"
    asks_one_person = True

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        return True


class DenyApprovalHandler(ApprovalHandler):
    """Denies everything."""

    channel = "deny"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        return False
