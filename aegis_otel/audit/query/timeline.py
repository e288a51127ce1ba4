"""The timeline of one call, read from its row. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from aegis_otel.audit.query.rows import Row
from aegis_otel.audit.record import GRANT_PATTERN
from aegis_otel.model import Mode, Outcome


class TimelineEntry(NamedTuple):
    stage: str
    """`decided`, `resolved` or `completed`, as in the journal."""
    at: datetime | None
    """The earliest time that it can have been: a row has only durations for what followed its decision."""
    after_s: float
    """Seconds since the decision."""
    what: str


def timeline(row: Row) -> list[TimelineEntry]:
    """Return what happened to the call, in order."""
    begun = None if row["timestamp"] is None else datetime.fromisoformat(row["timestamp"])
    entries: list[TimelineEntry] = []

    def add(stage: str, after_s: float, what: str) -> None:
        at = None if begun is None else begun + timedelta(seconds=after_s)
        entries.append(TimelineEntry(stage, at, after_s, what))

    wait, duration, status = row["approval_wait_s"] or 0.0, row["duration_s"], row["result_status"]
    answered = row["human_decision"] is not None or row["approval_wait_s"] is not None
    asked = answered or status == "pending"
    grant = grant_of(row)
    if grant is not None:
        add("decided", 0.0, "a grant covers it, so nobody is asked")
    else:
        add("decided", 0.0, "a human is asked" if asked else _decision(row))
    if answered:
        by = f" by {row['approver']}" if row["approver"] else ""
        why = f": {row['approval_reason']}" if row["approval_reason"] else ""
        add("resolved", wait, f"{row['human_decision'] or 'no answer'}{by}{why}")
    if status in _NOT_OVER:
        add("completed", wait, _NOT_OVER[status])
    elif duration is not None or not (status == "blocked" or (asked and status == "denied")):
        error = f": {row['result_error']}" if row["result_error"] else ""
        add("completed", wait + (duration or 0.0), f"{status or 'nothing is known'}{error}")
    return entries


def grant_of(row: Row) -> tuple[str, str] | None:
    """Return the id of the grant that let a call run, and until when it held; None where none did."""
    if row["human_decision"] != "approved":
        return None
    found = re.search(GRANT_PATTERN, row["approval_reason"] or "")
    return None if found is None else (found[1], found[2])


def _decision(row: Row) -> str:
    """Return what was decided without asking a human; in monitor mode nothing is enforced."""
    watched = row["mode"] == Mode.MONITOR.value
    if row["approval"] == "approve" and (watched or row["outcome"] is None):
        return "a human would be asked" if watched else "approval needed"
    if row["outcome"] == Outcome.BLOCKED and watched:
        return "would be blocked"
    return row["outcome"] or "decided"


_NOT_OVER = {
    "pending": "not yet: the human has not answered",
    "open": "not yet: it is running",
    "unknown": "unknown: its process was gone before it said",
}
