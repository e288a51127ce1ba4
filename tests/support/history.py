"""Calls that went before, for the tests of conditions on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aegis_otel import Action, Policy
from aegis_otel.model import Mark, Past, PolicyDecision, SeriesQuery, Subject, Tally, Where
from aegis_otel.policy.history.ledger import Ledger
from aegis_otel.policy.history.series_queries import marks_of, queries_of

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WHERE = Where(session="s1", conversation="c1", run="r1", tool="pay", tokens=100)
ANN = Subject(user="ann", tenant="acme")


def blocking(condition: Mapping[str, Any], **rule: Any) -> Policy:
    """A policy that blocks where a condition holds, and lets everything else run."""
    one = {"name": "r", "conditions": condition, "approval": "block", **rule}
    return Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [one]})


class Calls:
    """Calls one after another, with a ledger: as a governor makes them, without its locks."""

    def __init__(self, policy: Policy, where: Where = WHERE) -> None:
        self.policy = policy
        self.where = where
        self.ledger = Ledger()
        self._count = 0

    def queries(self, action: Action, where: Where | None = None) -> tuple[SeriesQuery, ...]:
        return queries_of(self.policy, action, where or self.where)

    def marks(self, action: Action, where: Where | None = None, now: datetime = NOON) -> tuple[Mark, ...]:
        return marks_of(self.policy, action, where or self.where, now)

    def decide(self, action: Action, where: Where | None = None, now: datetime = NOON) -> PolicyDecision:
        where = where or self.where
        past = Past(where, self.ledger.answers(self.queries(action, where), now))
        return self.policy.evaluate(action.with_past(past), now=now)

    def make(
        self, action: Action, outcome: str = "success", where: Where | None = None, now: datetime = NOON
    ) -> str:
        """Make a call and return what was decided; what is blocked leaves no mark but for its tokens."""
        decision = self.decide(action, where, now)
        self._count += 1
        name = str(self._count)
        permitted = decision.is_allowed
        marks = marks_of(self.policy, action, where or self.where, now, is_permitted=permitted)
        self.ledger.add(name, marks, now)
        if permitted and outcome:
            self.ledger.settle(name, outcome)
        return decision.approval.value


def past_of(policy: Policy, action: Action, tally: Tally, where: Where = WHERE) -> Past:
    """What went before, the same in answer to every query."""
    return Past(where, dict.fromkeys(queries_of(policy, action, where), tally))
