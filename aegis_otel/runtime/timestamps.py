"""Unix nanoseconds as the audit writes them and as policies read them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def utc(ns: int) -> datetime:
    """The moment, to the microsecond."""
    return datetime.fromtimestamp(ns // 1000 / 1e6, UTC)


def timestamp(ns: int) -> str:
    """RFC 3339 in UTC with microseconds: `2026-01-31T23:59:59.000001+00:00`."""
    return f"{_second(ns // 1_000_000_000)}.{ns // 1000 % 1_000_000:06d}+00:00"


def unix_ns(text: str) -> int:
    """The moment of such a text, in Unix nanoseconds."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    """All lines of one second share it: formatting a date costs more than writing the line."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
