"""The kinds of results that charts tell apart, and the time axis of the chart of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class ResultKind(NamedTuple):
    """Results that a chart shows in one colour."""

    name: str
    """The name of its CSS class and of its column in a query."""
    title: str
    statuses: tuple[str, ...]


KINDS = (
    ResultKind("done", "Done", ("success",)),
    ResultKind("failed", "Failed", ("failed", "cancelled", "skipped")),
    ResultKind("denied", "Denied", ("denied",)),
    ResultKind("blocked", "Blocked", ("blocked",)),
    ResultKind("unsettled", "Unsettled", ()),
)
"""The last has every other status: pending, open, unknown, and what is not a status."""

MAX_BUCKETS = 60
_SECOND = 1_000_000
_DAY = 86_400
_YEAR = 365 * _DAY
_WIDTHS = (
    *((count, "second", 1) for count in (1, 2, 5, 10, 30)),
    *((count, "minute", 60) for count in (1, 2, 5, 10, 30)),
    *((count, "hour", 3600) for count in (1, 2, 6, 12)),
    *((count, "day", _DAY) for count in (1, 7, 30, 90)),
)
FIRST_TIME, LAST_TIME = -62_135_596_800 * _SECOND, 253_402_300_799 * _SECOND
"""The years 1 and 9999 in microseconds since 1970: Python has no date outside of them."""


class TimeBuckets(NamedTuple):
    """Stretches of time of one width, side by side; times are in microseconds since 1970."""

    start: int
    width: int
    size: int
    """The number of buckets."""
    width_text: str
    """The width for people, such as `5 minutes`."""

    @classmethod
    def covering(cls, first: int | None, last: int | None) -> TimeBuckets:
        """Return the finest buckets from `first` to `last` that are at most `MAX_BUCKETS`.

        They begin at a round time. Without times there is no bucket.
        """
        if first is None or last is None:
            return cls(0, _SECOND, 0, "1 second")
        first, last = max(first, FIRST_TIME), min(max(last, first), LAST_TIME)
        years = -(-(last - first) // (_YEAR * _SECOND * (MAX_BUCKETS - 1))) or 1
        for count, unit, seconds in (*_WIDTHS, (years, "year", _YEAR)):
            width = count * seconds * _SECOND
            start = first // width * width
            buckets = cls(start, width, (last - start) // width + 1, plural(count, unit))
            if buckets.size <= MAX_BUCKETS:
                break
        return buckets

    def rows(self, counts: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
        """Return one row of counts for each bucket, also for those without a call.

        Args:
            counts: The calls, in all and of each kind, by the index of their bucket.
        """
        empty = dict.fromkeys(("calls", *(kind.name for kind in KINDS)), 0)
        return [
            {"time": self.start + index * self.width, **counts.get(index, empty)}
            for index in range(self.size)
        ]


def stacked(row: Mapping[str, Any], scale: float) -> Iterator[tuple[str, str, str]]:
    """Yield kind, start and length of each part of a bar; one call has the length `scale`."""
    start = 0.0
    for kind in KINDS:
        if length := row[kind.name] * scale:
            yield kind.name, f"{start:.4g}", f"{length:.4g}"
            start += length


def plural(count: int, noun: str) -> str:
    """Return the count and its noun: `1 call`, `2 calls`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
