"""Rank approvals and verdicts: the one order by which the strictest of several is found.

Whose answer it takes is no matter of rank: `with_all_approvers` adds up what several verdicts ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from aegis_otel.model import Approval, Approvers, Mode, Verdict
from aegis_otel.policy.patterns import covers

APPROVAL_RANKS: Mapping[str, int] = {approval: rank for rank, approval in enumerate(Approval)}
"""How strict each approval is, auto the least."""
_ENFORCE = Mode.ENFORCE  # an attribute of an enum costs more to read than a global


def precedence(verdict: Verdict) -> tuple[int, ...]:
    """Return the rank by which a verdict is chosen, the highest first.

    First counts what is enforced, which is auto where the rule is only monitored. Where that is the same, a
    monitored rule comes before one that is enforced, so that it is recorded; then the stricter approval and
    the higher risk count.
    """
    if verdict.mode is _ENFORCE:
        return APPROVAL_RANKS[verdict.approval], 0, verdict.risk_level
    return APPROVAL_RANKS[Approval.AUTO], 1, APPROVAL_RANKS[verdict.approval], verdict.risk_level


def takes_precedence(verdict: Verdict, over: Verdict) -> bool:
    """Return whether a verdict is stricter than another one, or asks others or more often than that asks."""
    if precedence(verdict) > precedence(over):
        return True
    if not verdict.enforced_approval is over.enforced_approval is Approval.APPROVE:
        return False
    asks_others = verdict.approvers is not None and verdict.approvers != over.approvers
    return asks_others or verdict.asks_each_time > over.asks_each_time


def is_as_strict(approvers: Approvers | None, other: Approvers | None) -> bool:
    """Return whether nobody can approve by `approvers` who cannot by `other`, as far as globs tell it."""
    if approvers is None or other is None:
        return other is None
    return all(any(_is_as_strict(own, each) for own in approvers.all_of_them) for each in other.all_of_them)


def _is_as_strict(approvers: Approvers, other: Approvers) -> bool:
    if approvers.count < other.count or approvers.allows_requester > other.allows_requester:
        return False
    if not (other.users or other.roles):
        return True
    pairs = ((approvers.users, other.users), (approvers.roles, other.roles))
    covered = all(any(covers(wide, glob) for wide in wider) for own, wider in pairs for glob in own)
    return covered and bool(approvers.users or approvers.roles)


def with_all_approvers(verdict: Verdict, others: Iterable[Verdict]) -> Verdict:
    """Return the verdict that was chosen, with what all of `others` ask of whoever answers.

    Which approvers are stricter cannot be said where they are different persons. So where more than one rule
    may be the one that asks, each of them needs its own yes, and the shortest time counts.
    """
    if verdict.enforced_approval is not Approval.APPROVE:
        return verdict
    asking = [each for each in others if each.enforced_approval is Approval.APPROVE]
    needed = [each.approvers for each in (verdict, *asking) if each.approvers is not None]
    times = [each.expires_s for each in (verdict, *asking) if each.expires_s is not None]
    approvers = None
    if needed:
        first, *more = dict.fromkeys(one for each in needed for one in each.all_of_them)
        approvers = msgspec.structs.replace(first, others=tuple(more)) if more else first
    terms: dict[str, Any] = {
        "approvers": approvers,
        "expires_s": min(times, default=None),
        "asks_each_time": any(each.asks_each_time for each in (verdict, *asking)),
    }
    if all(getattr(verdict, name) == value for name, value in terms.items()):
        return verdict
    return msgspec.structs.replace(verdict, **terms)
