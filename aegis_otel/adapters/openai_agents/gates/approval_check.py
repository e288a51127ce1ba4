"""The SDK's approval check of one call of a function tool: does it need an approval, and has it one?

The SDK asks for the status of the approval, then whether one is needed, then for the status again. The gate
comes last, in the same context. Everybody else who asks for the status is given the SDK's own answer.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from agents import FunctionTool

from aegis_otel.adapters.openai_agents.gates.runs import Run
from aegis_otel.governance.call import Origin
from aegis_otel.governance.interruptions import Ruling


@dataclass(slots=True, eq=False)
class ApprovalCheck:
    """The state of one call while the SDK checks its approval: what was asked, and what was answered."""

    tool: FunctionTool
    call_id: str
    arguments: str
    agent: str | None
    """The name of the agent object that runs."""
    context: Any
    """The context of the run."""
    tool_call: Any
    run: Run
    conversation: str | None
    audited: bool = True
    """True where the SDK puts the policy's questions about the tool, and the audit has the answers."""
    waited: bool = False
    """True where the run was paused for the call before."""
    open: bool = True
    """True while the SDK works on the call; the gate may ask for the result later."""
    before: bool | None = None
    """The SDK's answer when it first asked: True (approved), False (rejected), or None."""
    ruling: Ruling | None = None
    suspended: bool = False
    """True once this check has put the call to a human."""
    settled: bool = False
    """True once what the SDK decided by itself is on record."""

    @property
    def origin(self) -> Origin:
        """Return where the call comes from."""
        return Origin(self.tool.name, self.call_id, self.conversation, len(self.arguments), self.run.id)

    @property
    def paused(self) -> bool:
        """Return whether the call is being put to a human."""
        return self.ruling is not None and self.ruling.verdict is None

    @property
    def resumed(self) -> bool:
        """Return whether the call goes on from a question that is in the audit, as the SDK sees it."""
        return self.audited and self.before is True

    @property
    def answered(self) -> bool:
        """Return whether the call goes on by an answer that is in the audit."""
        return self.ruling is not None and self.ruling.by_answer

    def concerns(self, name: str, call_id: str, context: object) -> bool:
        """Return whether the SDK, which asks about a call, works on the call of this check."""
        return self.open and call_id == self.call_id and name == self.tool.name and context is self.context


current_check: ContextVar[ApprovalCheck | None] = ContextVar("aegis_otel_approval_check", default=None)
"""The last approval check of the SDK in this context."""


def last_check(call_id: str, arguments: str) -> ApprovalCheck | None:
    """Return the approval check of this call, if it was the SDK's last one in this context."""
    check = current_check.get()
    return None if check is None or (check.call_id, check.arguments) != (call_id, arguments) else check
