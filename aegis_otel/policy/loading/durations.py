"""Check durations, such as `15m`: how they are written, what was meant, how many seconds they are."""

from __future__ import annotations

import re

from aegis_otel.policy.messages import Invalid, shown

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S = 400 * 86_400
DURATION = r"[1-9][0-9]{0,7}[smhd]"
_DURATION = re.compile(DURATION)
_ZERO = re.compile(r"\s*0+\s*[a-z]*\s*", re.IGNORECASE)
_WRITTEN = re.compile(r"\s*(?:([0-9]{1,8})\s*)?([a-z]+)\s*", re.IGNORECASE)
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), (1, "s")),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), (1, "m")),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "hourly"), (1, "h")),
    **dict.fromkeys(("d", "day", "days", "daily"), (1, "d")),
    **dict.fromkeys(("w", "week", "weeks", "weekly"), (7, "d")),
    **dict.fromkeys(("mo", "month", "months", "monthly"), (30, "d")),
    **dict.fromkeys(("y", "yr", "year", "years", "yearly"), (365, "d")),
}
"""How many of our units others are, for suggestions."""


def is_duration(text: str, longest_s: int = LONGEST_S) -> bool:
    """Return whether a text is a duration of at most `longest_s` seconds."""
    return _DURATION.fullmatch(text) is not None and seconds(text) <= longest_s


def seconds(duration: str) -> int:
    """Return the seconds of a checked duration."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def written(seconds: float) -> str:
    """Return a duration of whole seconds as it is written."""
    times, unit = max((per, unit) for unit, per in _SECONDS.items() if seconds % per == 0)
    return f"{seconds / times:g}{unit}"


def duration(value: object, longest_s: int = LONGEST_S) -> int:
    """Check a duration of at most `longest_s` seconds, whole days, and return its seconds."""
    if isinstance(value, str) and is_duration(value, longest_s):
        return seconds(value)
    raise Invalid(
        f"must be `30s`, `15m`, `1h` or `7d` (at most `{longest_s // 86_400}d`), not {shown_duration(value)}",
        meant(value, longest_s),
    )


def shown_duration(value: object) -> str:
    """Return what was given as a duration, for a message that refuses it."""
    is_zero = value == 0 if type(value) in (int, float) else isinstance(value, str) and _ZERO.fullmatch(value)
    return f"{shown(value)}, which is no time at all" if is_zero else shown(value)


def meant(value: object, longest_s: int = LONGEST_S) -> str | None:
    """Return the duration that was probably meant; None where it is none, or too long."""
    if not isinstance(value, str) or not (found := _WRITTEN.fullmatch(value)):
        return None
    count, word = found[1], found[2].lower()
    if word not in _UNITS:
        return None
    times, unit = _UNITS[word]
    text = f"{int(count or 1) * times}{unit}"
    return text if is_duration(text, longest_s) else None
