"""The human of the demo: answers as the script says, yes, no, or too late."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from aegis_otel.demo.script import Run
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import ApprovalAnswer, ApprovalHandler

current_run: ContextVar[Run] = ContextVar("aegis_demo_run")
"""The run that asks: a handler is called with the context of the call."""

_PEOPLE = ("dana", "lee", "robin")
_NO = ("not without a ticket", "the amount is wrong", "please ask the customer first")


class ScriptedApprover(ApprovalHandler):
    """Args:
    patience: The approval timeout, of which an answer takes a part.
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
