"""The life of one call, as its row tells it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from aegis_otel.audit.query.rows import Row
from aegis_otel.model import Mode


class Moment(NamedTuple):
    stage: str
    """`decided`, `resolved` or `completed`, as in the journal."""
    at: datetime | None
    """When, at the earliest: of the later moments a row has durations only."""
    after_s: float
    """Seconds since it was decided."""
    what: str


def life(row: Row) -> list[Moment]:
    """What happened to the call, in order."""
    begun = None if row["timestamp"] is None else datetime.fromisoformat(row["timestamp"])
    moments: list[Moment] = []

    def add(stage: str, after_s: float, what: str) -> None:
        at = None if begun is None else begun + timedelta(seconds=after_s)
        moments.append(Moment(stage, at, after_s, what))

    wait, duration, status = row["approval_wait_s"] or 0.0, row["duration_s"], row["result_status"]
    answered = row["human_decision"] is not None or row["approval_wait_s"] is not None
    asked = answered or status == "pending"
    verdicts = _WATCHED if row["mode"] == Mode.MONITOR.value else _VERDICTS
    add("decided", 0.0, "a human is asked" if asked else verdicts.get(row["approval"], "decided"))
    if answered:
        by = f" by {row['approver']}" if row["approver"] else ""
        why = f": {row['approval_reason']}" if row["approval_reason"] else ""
        add("resolved", wait, f"{row['human_decision'] or 'no answer'}{by}{why}")
    if status in _NOT_OVER:
        add("completed", wait, _NOT_OVER[status])
    elif duration is not None or not (status == "blocked" or (asked and status == "denied")):
        error = f": {row['result_error']}" if row["result_error"] else ""
        add("completed", wait + (duration or 0.0), f"{status or 'nothing is known'}{error}")
    return moments


_VERDICTS = {"auto": "allowed", "approve": "approval needed", "block": "blocked"}
_WATCHED = _VERDICTS | {"approve": "a human would be asked", "block": "would be blocked"}
"""In monitor mode nothing is enforced."""
_NOT_OVER = {
    "pending": "not yet: the human has not answered",
    "open": "not yet: it is running",
    "unknown": "unknown: its process was gone before it said",
}
