"""Rank approvals and verdicts: the one order by which the strictest of several is found."""

from __future__ import annotations

from collections.abc import Mapping

from aegis_otel.model import Approval, Mode, Verdict

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
