"""Write down who may answer a question and for how long, as the audit and a channel have it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

from aegis_otel.model import Approvers


class ApprovalTerms(NamedTuple):
    """On what terms a question can be answered."""

    approvers: Approvers | None = None
    """Who may answer; None where the rule does not say it."""
    expires_s: float | None = None
    """For how many seconds; None where the rule does not say it."""


@lru_cache(maxsize=256)
def encode_terms(approvers: Approvers | None, expires_s: float | None) -> str | None:
    """Return the terms as the audit has them; None where the rule states none."""
    terms: dict[str, Any] = {} if approvers is None else approvers.as_written
    if expires_s is not None:
        terms["expires_s"] = expires_s
    return json.dumps(terms, ensure_ascii=False) if terms else None


def decode_terms(text: str | None) -> ApprovalTerms:
    """Return the terms that `encode_terms` wrote; of no text or an empty one there are none.

    Raises:
        ValueError: it wrote something else.
    """
    if not text:
        return ApprovalTerms()
    try:
        found = json.loads(text)
        expires_s = found.get("expires_s")
        approvers = _approvers(found) if "count" in found else None
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        raise ValueError("they cannot be read") from None
    if encode_terms(approvers, expires_s) != text:
        raise ValueError("they are not written as they should be")
    return ApprovalTerms(approvers, expires_s)


def _approvers(found: dict[str, Any]) -> Approvers:
    return Approvers(
        users=tuple(found["users"]),
        roles=tuple(found["roles"]),
        count=found["count"],
        allows_requester=found["self"],
        others=tuple(_approvers(each) for each in found.get("others", ())),
    )
