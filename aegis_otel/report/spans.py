"""Cuts a span of time into stretches that people count in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aegis_otel.report.charts import Slot
from aegis_otel.report.markup import moment, plural
from aegis_otel.report.outcomes import KINDS

MOST = 60
"""Bars of a time line."""
_SECOND = 1_000_000
_DAY = 86_400
_YEAR = 365 * _DAY
_WIDTHS = (
    *((number, "second", 1) for number in (1, 2, 5, 10, 30)),
    *((number, "minute", 60) for number in (1, 2, 5, 10, 30)),
    *((number, "hour", 3600) for number in (1, 2, 6, 12)),
    *((number, "day", _DAY) for number in (1, 7, 30, 90)),
)
FIRST, LAST = -62_135_596_800 * _SECOND, 253_402_300_799 * _SECOND
"""The years 1 and 9999: a row that is of another time has no place on a time line."""


class Ruler(NamedTuple):
    """A time line's beginning, the width of its slots, both in microseconds, and how many there are."""

    first: int
    width: int
    slots: int
    in_words: str
    """How wide a slot is."""

    def fill(self, calls: Mapping[int, tuple[int, ...]]) -> list[Slot]:
        """Every slot in turn, those without a call too."""
        none = (0,) * len(KINDS)
        return [
            Slot(moment(self.first + index * self.width), calls.get(index, none))
            for index in range(self.slots)
        ]


def ruler(first: int | None, last: int | None) -> Ruler:
    """The finest that takes at most `MOST` slots, beginning at a round time."""
    if first is None or last is None:
        return Ruler(0, _SECOND, 0, "1 second")
    first, last = max(first, FIRST), min(max(last, first), LAST)
    for number, unit, seconds in _WIDTHS:
        made = _ruler(first, last, number * seconds, plural(number, unit))
        if made.slots <= MOST:
            return made
    years = -(-(last - first) // (_YEAR * _SECOND * (MOST - 1))) or 1
    return _ruler(first, last, years * _YEAR, plural(years, "year"))


def _ruler(first: int, last: int, seconds: int, words: str) -> Ruler:
    width = seconds * _SECOND
    begin = first // width * width
    return Ruler(begin, width, (last - begin) // width + 1, words)
