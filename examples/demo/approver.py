"""The human of the demo, who answers as the script says: yes, no, or too late."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import ApprovalAnswer, ApprovalHandler

from .script import Run

current_run: ContextVar[Run] = ContextVar("aegis_demo_run")
"""The run that asks. A handler is called in the context of the call."""

_PEOPLE = ("dana", "lee", "robin")
_NO = ("not without a ticket", "the amount is wrong", "please ask the customer first")


class ScriptedApprover(ApprovalHandler):
    """Answer as the script says.

    Args:
        patience: The approval timeout in seconds; an answer takes a part of it.
    """

    channel = "demo"

    def __init__(self, patience: float) -> None:
        self._patience = patience

    async def request_approval(self, decision: PolicyDecision) -> ApprovalAnswer:
        run = current_run.get()
        step = run.step(decision.action.type, dict(decision.action.params))
        await asyncio.sleep(self._patience * (10 if step.answer == "late" else step.thinks))
        yes = step.answer == "yes"
        return ApprovalAnswer(
            yes,
            approver=_PEOPLE[run.number % len(_PEOPLE)],
            reason=None if yes else _NO[run.number % len(_NO)],
        )
