"""A process of the demo that dies while it works: `python crash.py AUDIT POLICY`.

The outcome of one of its calls is then `unknown`, and another call stays `pending`: nobody answers it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NoReturn

from aegis_otel.model import Action, PolicyDecision
from aegis_otel.policy import Policy
from aegis_otel.runtime.approval import ApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.plan import BaseExecutor
from aegis_otel.runtime.runtime import Runtime

_CALLS = (
    Action("restart_service", target="cluster", params={"service": "search"}, agent="ops"),
    Action("charge_card", target="payments", params={"order": "A-4711", "amount": 42.0}, agent="billing"),
)


class _Dying(BaseExecutor):
    async def execute(self, action: Action) -> NoReturn:  # noqa: ARG002
        os._exit(0)


class _Silent(ApprovalHandler):
    async def request_approval(self, decision: PolicyDecision) -> NoReturn:  # noqa: ARG002
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def main(audit: str, policy: str) -> None:
    """Ask a human and begin to charge a card; the process ends before either is done."""
    runtime = Runtime(
        policy=Policy.from_yaml(policy),
        executor=_Dying(),
        approval_handler=_Silent(),
        audit_logger=AuditLogger(audit),
        mode="enforce",
        on_audit_failure="block",
    )
    await runtime.execute(runtime.plan(_CALLS), parallel=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
