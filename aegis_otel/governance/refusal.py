"""The refusals of a body: one entry for each such row of the contract's table.

`error` goes to the audit row; the model reads it behind its tag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aegis_otel.audit.record import RecordStatus
from aegis_otel.model import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a refused call ends."""

    tag: str
    error: str
    outcome: Outcome
    status: RecordStatus
    cause: str | None = None
    """Goes to the row's `reason` and to `error.type`, where the policy's own reason does not say it."""
    detail: str | None = None
    """What only the row says behind `error`: what went wrong when a human was to be asked. Redacted."""

    @property
    def text(self) -> str:
        """Return what the model reads as the tool's output."""
        return f"[AEGIS {self.tag}] {self.error}"

    @property
    def recorded(self) -> str:
        """Return the row's `result_error`."""
        return self.error if self.detail is None else f"{self.error}: {self.detail}"

    def advised(self, verdict: Verdict) -> str:
        """Return what the model reads: also the rule's message, and which arguments could not be read.

        Each begins a line: a message may end without a full stop, and so does the name of a rule.
        """
        if self.outcome is Outcome.ERROR:
            return self.text
        return "\n".join(filter(None, (self.text, verdict.message, verdict.advice)))


def blocked(rule: str) -> Refusal:
    """Return the refusal of a call that the policy blocks by `rule`."""
    return Refusal("BLOCKED", f"Action blocked by policy rule: {rule}", Outcome.BLOCKED, RecordStatus.BLOCKED)


DENIED = Refusal("DENIED", "Action denied by human operator", Outcome.DENIED, RecordStatus.DENIED)
UNOBTAINABLE = Refusal(
    "DENIED", "Approval could not be obtained", Outcome.DENIED, RecordStatus.DENIED, "approval_error"
)
EXPIRED = Refusal("DENIED", "Approval timed out", Outcome.EXPIRED, RecordStatus.DENIED)
WITHDRAWN = Refusal(
    "DENIED",
    "Call cancelled while waiting for approval",
    Outcome.EXPIRED,
    RecordStatus.CANCELLED,
    "cancelled",
)
"""The row says `cancelled`, the decision event `expired`: nobody answered in time."""
UNAVAILABLE = Refusal(
    "ERROR",
    "Action not run: governance is unavailable",
    Outcome.ERROR,
    RecordStatus.BLOCKED,
    "governance_unavailable",
)

STATE_UNAVAILABLE = replace(
    UNAVAILABLE,
    error="Action not run: the state that limits are kept in cannot be reached",
    cause="state_unavailable",
)
"""A call that a limit or a later call has to know of, and that cannot be kept."""


def unavailable(why: str) -> Refusal:
    """Return the refusal of calls where governance could not start."""
    return replace(UNAVAILABLE, error=f"{UNAVAILABLE.error}: {why}")


SKIPPED = "Skipped due to prior failure"
"""`result_error` of an action of a plan that was never decided on."""
CHANGED = Refusal(
    "ERROR",
    "Action not run: its arguments changed while approval was pending",
    Outcome.ERROR,
    RecordStatus.BLOCKED,
    "arguments_changed",
)
USED = Refusal(
    "ERROR",
    "Action not run: its approval was used or withdrawn meanwhile",
    Outcome.ERROR,
    RecordStatus.BLOCKED,
    "approval_used",
)
