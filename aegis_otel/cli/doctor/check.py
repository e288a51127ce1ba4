"""What `aegis doctor` finds."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, FAILED, INVALID = "ok", "warning", "failed", "invalid"


class Check(NamedTuple):
    """What was looked at, how it is, and what to know about it."""

    name: str
    status: str
    detail: str
