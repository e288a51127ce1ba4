"""Judge `date_from` and `date_until`: whether a date or date-time in text is before, or after, a bound.

Only the extended form of ISO 8601 is read, with whole dates: `2026-12-01`, `2026-12-01T09:30`, with seconds,
with up to six digits of a second, and with `Z` or an offset; a space may stand for the `T`. A date is all of
its day: `date_from` begins with its start, `date_until` ends with its end. The date of a policy may depend on
the time of the call: `today` (in UTC), `today+30d`, `now-24h`.
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
_OFFSET = r"[+-][1-9][0-9]{0,3}"
_RELATIVE = re.compile(rf"today(?P<days>{_OFFSET}d)?|now(?P<time>{_OFFSET}[dh])?")
_SHORTENED = re.compile(rf"(today|now)? ?({_OFFSET}) ?([dh])[a-z]*")
_WRITTEN = rf"{_DATE}([T ]{_TIME}({_ZONE})?)?|today({_OFFSET}d)?|now({_OFFSET}[dh])?"
SCHEMA: Mapping[str, Any] = {"type": "string", "pattern": rf"^({_WRITTEN})$(?!\n)"}


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
    """Return the date or date-time, which may be relative. Raises Invalid."""
    if isinstance(value, str) and (is_relative(value) or parse(value) is not None):
        return value
    raise Invalid(
        'must be a date, as in "2026-12-31", a date-time, as in "2026-12-31T18:00:00Z", or relative to the '
        f"call, as in `today+7d` or `now-24h`, not {shown(value)}",
        _meant(value),
    )


def _meant(value: object) -> str | None:
    if value == "tomorrow":
        return "today+1d"
    found = _SHORTENED.fullmatch(value.lower()) if isinstance(value, str) else None
    if found is None:
        return None
    unit = found[3]
    return f"{'now' if unit == 'h' else found[1] or 'today'}{found[2]}{unit}"


def is_relative(text: str) -> bool:
    """Return whether a checked value depends on the time of the call."""
    return _RELATIVE.fullmatch(text) is not None


def at_time(text: str, now: datetime) -> str:
    """Return the date or date-time that a relative value is at `now`, which is in UTC."""
    found = _RELATIVE.fullmatch(text)
    assert found is not None
    offset = found["days"] or found["time"] or "+0h"
    moment = now + timedelta(**{"hours" if offset[-1] == "h" else "days": int(offset[:-1])})
    return moment.isoformat() if text.startswith("now") else moment.date().isoformat()


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


def prepare(text: str) -> Span | None:
    """Return what the judges need of a checked value; None of a relative one, which has to be fixed first."""
    return parse(text)


def judge_from(value: Any, bound: Span | None) -> Answer:
    """Return whether `value` is at or after the start of `bound`."""
    compared = _comparison(value, bound, bound and bound.first)
    if isinstance(compared, str):
        return compared
    if compared.first >= compared.latest_bound:
        return True
    return compared.doubt if compared.last >= compared.earliest_bound else False


def judge_until(value: Any, bound: Span | None) -> Answer:
    """Return whether `value` is at or before the end of `bound`."""
    compared = _comparison(value, bound, bound and bound.last)
    if isinstance(compared, str):
        return compared
    if compared.last <= compared.earliest_bound:
        return True
    return compared.doubt if compared.first <= compared.latest_bound else False


def _comparison(value: Any, bound: Span | None, limit: datetime | None) -> Comparison | str:
    """Return how to compare `value` with the `limit` of `bound`; or why they cannot be compared."""
    if bound is None or limit is None:
        return "the date in the policy depends on the time"
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
