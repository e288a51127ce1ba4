"""Decide the calls of an audit anew under another policy, and tell what would be decided otherwise.

Calls that the policy cannot tell apart are decided once (`call_groups`). What it decides by what went before
is decided in the order of time (`time_order`). A call is replayed only where the
audit leaves no doubt about the verdict (`decider`), so nothing is called the same that may not be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import run_query
from aegis_otel.model import Approval, Approvers, Verdict
from aegis_otel.policy.evaluation.precedence import APPROVAL_RANKS
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.policy import Policy
from aegis_otel.policy_tools.replay.call_groups import CallGroup, group_calls
from aegis_otel.policy_tools.replay.decider import Decider
from aegis_otel.policy_tools.replay.time_order import decide_in_order

if TYPE_CHECKING:
    import duckdb

_EXAMPLES = 3


class Effect(StrEnum):
    """What the policy would do to calls, against what was decided."""

    LOOSER = "looser"
    STRICTER = "stricter"
    OTHER_RULE = "other rule"
    """The same, by another rule."""
    OTHER_APPROVERS = "other approvers"
    """Asked about as well, by the same rule, and others may answer."""
    OTHER_RISK = "other risk"
    """The same, by the same rule, at another risk: alerts and sampling go by it."""


class Difference(NamedTuple):
    """Calls that would be decided otherwise, by the same rules."""

    effect: Effect
    approval: str
    """What was decided: auto, approve or block; auto where the rule is only monitored."""
    rule: str
    new_approval: str
    new_rule: str
    risk: str
    """LOW, MEDIUM, HIGH or CRITICAL, as it was recorded."""
    new_risk: str
    calls: int
    examples: tuple[str, ...]
    """The ids of the newest of them."""


class Obstacle(NamedTuple):
    """Calls that cannot be replayed, all for one reason."""

    reason: str
    calls: int
    example: str


class Replay(NamedTuple):
    calls: int
    differences: tuple[Difference, ...]
    """The looser ones first, and of these the most frequent."""
    same: int
    """Calls that would be decided alike, by the same rule and at the same risk."""
    obstacles: tuple[Obstacle, ...]
    """Why calls cannot be replayed, the most frequent reason first."""
    policies: int
    """How many policies decided these calls."""
    by_others: int
    """Calls that were decided by another policy than the last of them."""
    monitored: int
    """Calls of programs in monitor mode; they are compared by what their rule said."""

    @property
    def unreplayed(self) -> int:
        return sum(each.calls for each in self.obstacles)

    @property
    def other_risk(self) -> int:
        """Calls that would be decided alike but for their risk."""
        return sum(each.calls for each in self.differences if each.effect is Effect.OTHER_RISK)

    @property
    def loosens(self) -> bool:
        return any(each.effect is Effect.LOOSER for each in self.differences)


def replay(
    policy: Policy,
    audit: duckdb.DuckDBPyConnection,
    condition: Condition,
    inventory: Inventory | None = None,
) -> Replay:
    """Decide the rows that match anew.

    Args:
        policy: The policy to try.
        audit: A connection of `audit.query.connection`.
        condition: Which rows.
        inventory: The tools, whose schemas say what an absent or a null parameter means; None where they are
            not known.

    Raises:
        AuditError: the audit cannot be read.
    """
    decider = Decider(policy, inventory)
    differences: dict[tuple[Effect, str, str, str, str, str, str], _Tally] = {}
    obstacles: dict[str, _Tally] = {}
    same = 0
    for calls, found in _decided(policy, decider, audit, condition):
        if isinstance(found, str):
            obstacles.setdefault(found, _Tally()).add(calls)
            continue
        effect = _effect(calls, found)
        if effect is None:
            same += calls.number
            continue
        after = found.enforced_approval.value
        risks = calls.risk or "", found.risk_level.name
        key = (effect, calls.approval or "", calls.rule or "", after, found.matched_rule, *risks)
        differences.setdefault(key, _Tally()).add(calls)
    counted = list(
        run_query(
            audit,
            "SELECT policy_digest, count(*), count(*) FILTER ("  # noqa: S608
            "mode = 'monitor' AND enforced_approval IS NULL) "
            f"FROM audit WHERE {condition.sql} GROUP BY ALL ORDER BY max(timestamp) DESC, policy_digest",
            condition.values,
        )
    )
    order = list(Effect)
    return Replay(
        sum(calls for _, calls, _ in counted),
        tuple(
            sorted(
                (Difference(*key, tally.calls, tuple(tally.newest)) for key, tally in differences.items()),
                key=lambda each: (order.index(each.effect), -each.calls, *each[1:7]),
            )
        ),
        same,
        tuple(
            sorted(
                (
                    Obstacle(why, tally.calls, next(iter(tally.newest), ""))
                    for why, tally in obstacles.items()
                ),
                key=lambda each: (-each.calls, each.reason),
            )
        ),
        sum(1 for digest, _, _ in counted if digest is not None),
        sum(calls for _, calls, _ in counted[1:]),
        sum(monitored for _, _, monitored in counted),
    )


def _decided(
    policy: Policy, decider: Decider, audit: duckdb.DuckDBPyConnection, condition: Condition
) -> Iterator[tuple[CallGroup, Verdict | str]]:
    for calls in group_calls(audit, condition, decider.interest):
        yield calls, decider.decide(calls)
    if policy.has_history:
        yield from decide_in_order(decider, audit, condition)


@dataclass
class _Tally:
    calls: int = 0
    newest: list[str] = field(default_factory=list)
    """Ids of calls, which sort by time."""

    def add(self, calls: CallGroup) -> None:
        self.calls += calls.number
        self.newest = sorted({*self.newest, *filter(None, calls.examples)}, reverse=True)[:_EXAMPLES]


def _asks_others(recorded: str | None, approvers: Approvers | None) -> bool:
    now = {} if approvers is None else json.loads(json.dumps(approvers.as_written))
    try:
        before = json.loads(recorded or "{}")
        before.pop("expires_s", None)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return True
    return bool(before != now)


def _effect(calls: CallGroup, verdict: Verdict) -> Effect | None:
    before, after = APPROVAL_RANKS[calls.approval or ""], APPROVAL_RANKS[verdict.enforced_approval]
    if before != after:
        return Effect.LOOSER if after < before else Effect.STRICTER
    if calls.rule != verdict.matched_rule:
        return Effect.OTHER_RULE
    if verdict.enforced_approval is Approval.APPROVE and _asks_others(calls.terms, verdict.approvers):
        return Effect.OTHER_APPROVERS
    return None if calls.risk == verdict.risk_level.name else Effect.OTHER_RISK
