"""Check a policy's single values. The values of conditions on parameters are checked in `policy/operators/`.

A check returns the value in the form in which the rest of the package uses it, or raises Invalid.
"""

from __future__ import annotations

import json
import pkgutil
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from aegis_otel.model import DEFAULT_RULE, ERROR_RULE
from aegis_otel.policy.messages import Invalid, closest, listed, quoted, shown

APPROVALS = ("auto", "approve", "block")
MODES = ("enforce", "monitor")
RESULTS = ("success", "failed")
RISK_LEVELS = ("low", "medium", "high", "critical")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_NAME = 200
MAX_GLOB = 1000
MAX_MESSAGE = 500
MAX_APPROVERS = 20
"""The most persons that one yes can need."""
MAX_PERSONS = 100
"""Globs of one list of approvers."""
MAX_EXPIRES_S = 30 * 86_400
RESERVED = (DEFAULT_RULE, ERROR_RULE)

# Control characters, zero-width space, direction marks and overrides, line separators, byte order mark:
# they make a name read as what it is not, in a terminal and in a review.
DECEPTIVE = r"[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
_DECEPTIVE = re.compile(DECEPTIVE + r"|[\ud800-\udfff]")
# Tags and variation selectors spell whole sentences that only a model reads. Editors do not check them.
_TAGS = re.compile(r"[\U000e0000-\U000e0fff]")
HIDDEN = rf"{DECEPTIVE[:-1]}\u00ad\u061c\u180e\u200c\u200d\ufff9-\ufffb]"
"""What editors refuse in a message. The loader refuses all characters of Unicode's category Cf there."""
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap]m)?", re.IGNORECASE)


def by_synonym(words: Mapping[str, str]) -> dict[str, str]:
    """Return our word by each of its synonyms, which stand in one text by our word."""
    return {synonym: own for own, synonyms in words.items() for synonym in synonyms.split()}


DATA: Any = json.loads(pkgutil.get_data("aegis_otel.policy.loading", "data/synonyms.json") or b"")
"""The words of other policy languages by what they are called here, for suggestions: those of values, and, by
the section they may stand in, those of keys. `match.type` stands for `type` of the section `match`."""
MISSING_CONDITIONS = by_synonym(DATA["no_such_condition"])
"""What to write instead of conditions that do not exist: the closest name may mean the opposite."""
SYNONYMS = {key: by_synonym(DATA[key]) for key in ("approval", "risk_level", "mode", "result")}
CHOICES = {"approval": APPROVALS, "risk_level": RISK_LEVELS, "mode": MODES, "result": RESULTS}
TIMES = ("time_after", "time_before")


def synonym(value: object, others: Mapping[str, str]) -> str | None:
    """Return the word that stands here for `value`, a word of another policy language."""
    text = str(value) if isinstance(value, (str, bool)) else ""
    return others.get(text.strip().lower().replace("-", "_").replace(" ", "_"))


def version(value: object) -> str:
    if isinstance(value, bool) or value not in ("1", 1):
        raise Invalid(f'must be "1", not {shown(value)}', '"1"')
    return "1"


def choice(key: str) -> Callable[[object], str]:
    """Return the check of a key of `CHOICES`, whose words may be written in any case."""
    words = CHOICES[key]

    def check(value: object) -> str:
        if isinstance(value, str) and value.isascii() and value.lower() in words:
            return value.lower()
        raise Invalid(
            f"must be {listed(words)}, not {shown(value)}",
            lambda: (
                synonym(value, SYNONYMS[key]) or (closest(value, words) if isinstance(value, str) else None)
            ),
        )

    return check


def readable(value: object, longest: int) -> str:
    """Check and return a text of 1 to `longest` characters, none of which is hidden."""
    if not isinstance(value, str):
        raise Invalid(f"must be text, not {shown(value)}")
    if not 0 < len(value) <= longest:
        raise Invalid(f"must have 1 to {longest} characters, not {len(value)}")
    if found := _DECEPTIVE.search(value):
        raise _hidden(found[0], value)
    return value


def _hidden(char: str, text: str) -> Invalid:
    escaped = char.encode("unicode_escape").decode("ascii")
    return Invalid(f"has a control or invisible character, {quoted(escaped)}, in {shown(text)}")


def name(value: object) -> str:
    name = readable(value, MAX_NAME)
    if found := _TAGS.search(name):
        raise _hidden(found[0], name)
    if name in RESERVED:
        raise Invalid(f"{shown(name)} stands in signals where no rule decided: choose another name")
    return name


def glob(value: object) -> str:
    return readable(value, MAX_GLOB)


def message(value: object) -> str:
    text = readable(value, MAX_MESSAGE)
    # In a name some of these are needed, as in an emoji of two. Here a reviewer must see what a model reads.
    for char in text:
        if unicodedata.category(char) == "Cf" or _TAGS.match(char):
            raise _hidden(char, text)
    return text


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        suggestion = value.lower() if isinstance(value, str) and value.lower() in ("true", "false") else None
        raise Invalid(f"must be `true` or `false`, not {shown(value)}", suggestion)
    return value


def approver_count(value: object) -> int:
    """Check and return how many persons have to say yes."""
    counts = range(1, MAX_APPROVERS + 1)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in counts:
        return int(value)
    text = value.strip() if isinstance(value, str) else ""
    is_meant = text.isascii() and text.isdigit() and int(text[:3]) in counts
    raise Invalid(
        f"must be a whole number from 1 to {MAX_APPROVERS}, not {shown(value)}", text if is_meant else None
    )


def param_name(value: object) -> str:
    return readable(value, MAX_NAME)


def time_of_day(value: object) -> int:
    """Return the minutes since midnight."""
    if isinstance(value, str) and TIME_OF_DAY.fullmatch(value):
        return int(value[:2]) * 60 + int(value[3:])
    message = f'must be a time of day in quotes, "00:00" to "23:59", not {shown(value)}'
    raise Invalid(message, _meant_time(value))


def time_fault(text: str) -> Invalid | None:
    """Return what is wrong with `text` as a time of day in quotes."""
    try:
        time_of_day(text)
    except Invalid as error:
        return error
    return None


def _meant_time(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return f'"{value // 60:02}:{value % 60:02}"'  # YAML 1.1 reads an unquoted 18:00 as 1080
    if not isinstance(value, str) or not (found := _CLOCK.fullmatch(value.strip())):
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if found[3] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if found[3].lower() == "pm" else 0)
    return f'"{hour % 24:02}:{minute:02}"' if hour <= 24 and minute < 60 else None


def weekday(value: object) -> int:
    """Return the ISO weekday; 1 is Monday."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, 8):
        return int(value)
    text = value.lower() if isinstance(value, str) else ""
    for number, day in enumerate(WEEKDAYS, 1):
        if text in (day, day[:3]):
            return number
    message = f"must name days: 1 (Monday) to 7, or `mon` to `sun`, not {shown(value)}"
    raise Invalid(
        message, lambda: text.strip() if text.strip() in tuple("1234567") else closest(text, WEEKDAYS)
    )


def timezone(value: object) -> str:
    message = f"must be the name of an IANA time zone, like `Europe/Berlin`, not {shown(value)}"
    if not isinstance(value, str):
        raise Invalid(message)
    try:
        # `localtime` and its kind exist on some machines and mean something else on each.
        if value and "local" not in value and "posix" not in value:
            ZoneInfo(value)
            return value
    except (OSError, ValueError, KeyError):
        pass
    raise Invalid(message, lambda: _zones().get(closest(value, _zones()) or ""))


@cache
def _zones() -> dict[str, str]:
    """Return the names of all time zones by their spelling in small letters. This reads the disk."""
    return {zone.lower(): zone for zone in available_timezones()}
