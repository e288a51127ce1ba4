"""Judge `date_from` and `date_until`: whether a date or date-time in text is before, or after, a bound.

Only the extended form of ISO 8601 is read, with whole dates: `2026-12-01`, `2026-12-01T09:30`, with seconds,
with up to six digits of a second, and with `Z` or an offset; a space may stand for the `T`. A date is all of
its day: `date_from` begins with its start, `date_until` ends with its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, NamedTuple

from aegis_otel.policy.messages import Invalid, shown
from aegis_otel.policy.operators.answer import Answer, not_of_kind

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_ZONE = r"Z|[+-][0-9]{2}:[0-5][0-9]"
_FORM = re.compile(rf"({_DATE})(?:[T ]({_TIME})({_ZONE})?)?")
SCHEMA: Mapping[str, Any] = {"type": "string", "pattern": rf"^{_DATE}([T ]{_TIME}({_ZONE})?)?$(?!\n)"}


class Span(NamedTuple):
    """What a text stands for: a moment, or all of a day."""

    first: datetime
    """The moment itself, or the start of the day, which has no zone."""
    last: datetime
    is_day: bool


class Comparison(NamedTuple):
    """A value and a bound on one scale. Either is more than one moment where it is a day, or has no zone."""

    first: datetime
    last: datetime
    earliest_bound: datetime
    latest_bound: datetime
    doubt: str
    """Why the answer is not known where the bound is between `first` and `last`."""


_ZONE_DECIDES = "the time zone decides, and only one of the two has it"
_TIME_DECIDES = "the bound is within the day"


def check(value: object) -> str:
    """Return the date or date-time. Raises Invalid."""
    if isinstance(value, str) and parse(value) is not None:
        return value
    raise Invalid(
        'must be a date, as in "2026-12-31", or a date-time, as in "2026-12-31T18:00:00Z", not '
        f"{shown(value)}"
    )


def parse(text: str) -> Span | None:
    """Return the moments that `text` stands for; None where it is no date in the form that is read."""
    found = _FORM.fullmatch(text)
    if found is None or found[3] == "-00:00":  # which says that the zone is not known
        return None
    try:
        if found[2] is None:
            day = date.fromisoformat(text)
            return Span(datetime.combine(day, time.min), datetime.combine(day, time.max), True)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found[2][:2] == "24" else Span(moment, moment, False)


def prepare(text: str) -> Span:
    """Return what the judges need of a checked value."""
    span = parse(text)
    assert span is not None
    return span


def judge_from(value: Any, bound: Span) -> Answer:
    """Return whether `value` is at or after the start of `bound`."""
    compared = _comparison(value, bound, bound.first)
    if isinstance(compared, str):
        return compared
    if compared.first >= compared.latest_bound:
        return True
    return compared.doubt if compared.last >= compared.earliest_bound else False


def judge_until(value: Any, bound: Span) -> Answer:
    """Return whether `value` is at or before the end of `bound`."""
    compared = _comparison(value, bound, bound.last)
    if isinstance(compared, str):
        return compared
    if compared.last <= compared.earliest_bound:
        return True
    return compared.doubt if compared.first <= compared.latest_bound else False


def _comparison(value: Any, bound: Span, limit: datetime) -> Comparison | str:
    """Return how to compare `value` with the `limit` of `bound`; or why they cannot be compared."""
    if not isinstance(value, str):
        return not_of_kind(value, "text")
    span = parse(value)
    if span is None:
        return "the value is not a date in the form of ISO 8601"
    if (span.first.tzinfo is None) == (limit.tzinfo is None):
        return Comparison(span.first, span.last, limit, limit, _TIME_DECIDES)
    if span.is_day:
        return Comparison(_eastmost(span.first), _westmost(span.last), limit, limit, _ZONE_DECIDES)
    if bound.is_day:
        return Comparison(span.first, span.last, _eastmost(limit), _westmost(limit), _ZONE_DECIDES)
    return "one of the two date-times has no time zone"


def _eastmost(local: datetime) -> datetime:
    """Return the first moment at which a clock shows `local` somewhere."""
    return local.replace(tzinfo=timezone(timedelta(hours=14)))


def _westmost(local: datetime) -> datetime:
    """Return the last moment at which a clock shows `local` somewhere."""
    return local.replace(tzinfo=timezone(timedelta(hours=-12)))
