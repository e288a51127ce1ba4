"""What a call came to, in the five kinds that charts and tables tell apart."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    name: str
    """In the style sheet, too."""
    title: str
    statuses: tuple[str, ...]


KINDS = (
    Kind("done", "Done", ("success",)),
    Kind("failed", "Failed", ("failed", "cancelled", "skipped")),
    Kind("denied", "Denied", ("denied",)),
    Kind("blocked", "Blocked", ("blocked",)),
    Kind("unsettled", "Unsettled", ()),
)
"""The last is all that has no result yet, or never will: pending, open, unknown, and what is no status."""

EXPLAINED = (
    "Done: the tool ran and returned. Failed: it raised, was cancelled or was skipped. Denied: a human said "
    "no, or none answered in time. Blocked: the policy, or governance itself, stopped it. Unsettled: it "
    "waits for a human, is running, or its process died and the outcome is unknown."
)
