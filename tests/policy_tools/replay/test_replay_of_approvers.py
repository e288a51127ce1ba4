"""Recorded calls that a policy would ask other persons about are not called decided alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.model import Subject
from aegis_otel.policy_tools.replay.replay import replay
from aegis_otel.runtime.approval import ApprovalAnswer
from tests.support.kit import make_bench

FINANCE = {"roles": ["finance"], "count": 1}


def policy(approvers: dict[str, Any] | None, **keys: Any) -> dict[str, Any]:
    rule = {"name": "pay", "match": {"type": "pay"}, "approval": "approve", "risk_level": "high", **keys}
    rule |= {} if approvers is None else {"approvers": approvers}
    return {"defaults": {"approval": "auto", "risk_level": "low"}, "rules": [rule]}


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action=action, status=ResultStatus.SUCCESS)


async def recorded(audit: Path, said: dict[str, Any]) -> None:
    answers = [ApprovalAnswer(False, "dan", None, ("finance",))] * 2
    bench = make_bench(audit, *answers, policy=said, executor=Executor())
    for user in ("ann", "bob"):
        await bench.runtime.run_one(Action("pay", subject=Subject(user)))


@pytest.mark.parametrize(
    ("before", "after", "effects"),
    [
        (policy(FINANCE, expires="1h"), policy(FINANCE, expires="2h"), []),
        (policy(FINANCE), policy({"roles": ["finance"], "count": 2}), ["other approvers"]),
        (policy(None), policy(FINANCE), ["other approvers"]),
        (policy(FINANCE), policy(None), ["other approvers"]),
        (policy(None, expires="1h"), policy(None), []),
        (policy(FINANCE), policy(FINANCE, approval="auto"), ["looser"]),
        (policy(FINANCE, approval="block"), policy({"users": ["x"]}, approval="block"), []),
    ],
)
async def test_who_is_asked_is_compared(
    before: dict[str, Any], after: dict[str, Any], effects: list[str], tmp_path: Path
) -> None:
    await recorded(tmp_path / "audit", before)
    found = replay(Policy.from_dict(after), connect(tmp_path / "audit"), compile_filters(None, {}))
    assert [each.effect.value for each in found.differences] == effects
    assert (found.calls, found.same, found.obstacles) == (2, 0 if effects else 2, ())
