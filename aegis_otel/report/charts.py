"""Cuts a span of time into stretches that people count in.

Charts as inline SVG: shapes alone. Words stay outside, so that they keep their size on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aegis_otel.report.markup import Markup, element, join, moment, number, plural
from aegis_otel.report.outcomes import KINDS

_HIGH = 100.0
_GAP = 0.2
"""The part of the width of a slot that stays free beside its bar."""


class Slot(NamedTuple):
    """A bar of the time line."""

    label: str
    calls: tuple[int, ...]
    """The number of calls of each kind, in the order of `outcomes.KINDS`."""


def bar(parts: Sequence[int], most: int) -> Markup:
    """A lying bar, as long as its sum is of `most`. The numbers stand beside it, so it has no text."""
    shapes, at = [], 0.0
    for kind, part in zip(KINDS, parts, strict=True):
        if part:
            width = 100 * part / most
            shapes.append(_rect(at, 0, width, 10, kind.name))
            at += width
    return element(
        "svg",
        *shapes,
        class_="bar",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def time_line(slots: Sequence[Slot], alternative: str) -> Markup:
    """Standing bars, one for each stretch of time; what each says is shown when it is pointed at."""
    most = max(1, *(sum(slot.calls) for slot in slots))
    lines = [_line(_HIGH * part) for part in (0, 0.5, 1)]
    groups = []
    for index, slot in enumerate(slots):
        shapes, below = [], _HIGH
        for kind, calls in zip(KINDS, slot.calls, strict=True):
            if calls:
                high = _HIGH * calls / most
                below -= high
                shapes.append(_rect(index + _GAP / 2, below, 1 - _GAP, high, kind.name))
        if shapes:
            groups.append(element("g", element("title", f"{slot.label}: {in_words(slot.calls)}"), *shapes))
    return element(
        "svg",
        *lines,
        *groups,
        class_="line",
        viewBox=f"0 0 {max(1, len(slots))} {_HIGH:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=alternative,
    )


def in_words(calls: Sequence[int]) -> str:
    """`12 done, 1 blocked`."""
    said = [
        f"{number(count)} {kind.title.lower()}" for kind, count in zip(KINDS, calls, strict=True) if count
    ]
    return ", ".join(said) or plural(0, "call")


def legend() -> Markup:
    """Which colour is which kind, in the order in which they are drawn."""
    swatch = [
        element(
            "li",
            element("svg", _rect(0, 0, 10, 10, kind.name), viewBox="0 0 10 10", aria_hidden="true"),
            kind.title,
        )
        for kind in KINDS
    ]
    return element("ul", join(swatch), class_="legend")


def _rect(x: float, y: float, width: float, height: float, name: str) -> Markup:
    return element("rect", x=_round(x), y=_round(y), width=_round(width), height=_round(height), class_=name)


def _line(y: float) -> Markup:
    return element("line", x1="0", x2="100%", y1=_round(y), y2=_round(y), class_="grid")


def _round(at: float) -> str:
    return f"{at:.2f}".rstrip("0").rstrip(".")


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
    for count, unit, seconds in _WIDTHS:
        made = _ruler(first, last, count * seconds, plural(count, unit))
        if made.slots <= MOST:
            return made
    years = -(-(last - first) // (_YEAR * _SECOND * (MOST - 1))) or 1
    return _ruler(first, last, years * _YEAR, plural(years, "year"))


def _ruler(first: int, last: int, seconds: int, words: str) -> Ruler:
    width = seconds * _SECOND
    begin = first // width * width
    return Ruler(begin, width, (last - begin) // width + 1, words)
