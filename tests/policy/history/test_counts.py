"""Limits and sequences over many calls, against a plain scan of the calls that ran."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy
from aegis_otel.model import Subject, Where
from tests.support.history import NOON, Calls

POLICY = Policy.from_dict(
    {
        "defaults": {"approval": "auto"},
        "rules": [
            {"name": "free", "match": {"type": "pay", "target": "own"}, "approval": "auto"},
            {
                "name": "count",
                "match": {"type": "pay"},
                "conditions": {"calls_over": {"limit": 3, "within": "1h", "by": ["user"]}},
                "approval": "block",
            },
            {
                "name": "total",
                "match": {"type": "pay"},
                "conditions": {
                    "total_over": {"param": "amount", "limit": 10, "within": "2h", "by": ["conversation"]}
                },
                "approval": "block",
            },
            {
                "name": "twice",
                "match": {"type": "pay"},
                "conditions": {"repeats": {"by": ["order"], "within": "30m"}},
                "approval": "block",
            },
            {
                "name": "leak",
                "match": {"type": "send"},
                "conditions": {"after": {"type": "read", "result": "success", "within": "conversation"}},
                "approval": "block",
            },
        ],
    }
)


class Made(NamedTuple):
    """One call, as a test makes it."""

    type: str
    target: str
    user: str
    conversation: str
    amount: int
    order: int
    outcome: str
    minutes: int
    """How long after the call before it."""

    @property
    def action(self) -> Action:
        params = {"amount": self.amount, "order": self.order}
        return Action(self.type, self.target, params, subject=Subject(self.user))


class Ran(NamedTuple):
    call: Made
    at: datetime


calls = st.builds(
    Made,
    st.sampled_from(["pay", "pay", "send", "read"]),
    st.sampled_from(["default", "default", "own"]),
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["c1", "c2"]),
    st.integers(0, 6),
    st.integers(1, 4),
    st.sampled_from(["success", "failed", ""]),
    st.integers(0, 40),
)


def expected(call: Made, now: datetime, ran: list[Ran]) -> str:
    """What must be decided, given the calls that ran: found by a scan of all of them."""

    def since(hours: float, **same: object) -> list[Made]:
        recent = [each.call for each in ran if each.at >= now - timedelta(hours=hours)]
        return [each for each in recent if all(getattr(each, key) == value for key, value in same.items())]

    if call.type == "send":
        before = since(24 * 90, type="read", conversation=call.conversation)
        stopped = any(each.outcome in ("success", "") for each in before)
        return "leak" if stopped else "<default>"
    if call.type == "read":
        return "<default>"
    if call.target == "own":
        return "free"
    if len(since(1, type="pay", user=call.user)) >= 3:
        return "count"
    if sum(each.amount for each in since(2, type="pay", conversation=call.conversation)) + call.amount > 10:
        return "total"
    return "twice" if since(0.5, type="pay", order=call.order) else "<default>"


@given(st.lists(calls, max_size=25))
def test_decisions_are_those_of_a_scan(made: list[Made]) -> None:
    world = Calls(POLICY)
    now, ran = NOON, list[Ran]()
    for call in made:
        now += timedelta(minutes=call.minutes)
        where = Where(conversation=call.conversation, run="r")
        wanted = expected(call, now, ran)
        assert world.decide(call.action, where, now).matched_rule == wanted
        if world.make(call.action, call.outcome, where, now) == "auto":
            ran.append(Ran(call, now))
