"""The answer of a condition, for the tests of operators, paths and groups."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aegis_otel import Action, Policy
from aegis_otel.policy.evaluation.evaluator import decide


def answer(condition: dict[str, Any], params: dict[str, Any], schema: Any = None, now: Any = None) -> Any:
    """True, False, or why it is unknown: read from a decision on a rule with this condition."""
    policy = Policy.from_dict(
        {
            "defaults": {"approval": "auto"},
            "rules": [{"name": "r", "conditions": condition, "approval": "block"}],
        }
    )
    action = Action("t", params=params, schema=schema)
    decision = policy.evaluate(action, now=now)
    assert policy.evaluate(action, now=now) == decision  # the second time, by the plan
    assert decide(policy.compiled, action, now or datetime.now(UTC))[0] == decision.verdict
    if decision.errors:
        assert decision.approval == "block"
        (error,) = decision.errors
        return error.partition(" is unknown: ")[2]
    assert decision.matched_rule == ("r" if decision.approval == "block" else "<default>")
    return decision.approval == "block"
