"""The leaves of a policy: checks of single values, each wording its own complaint.

A check returns the value in the form in which the rest of the package uses it, or raises; pydantic
calls it, and `problem_messages.py` puts the key in front of the complaint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo, available_timezones

from pydantic_core import PydanticCustomError

from aegis_otel.model import DEFAULT_RULE, ERROR_RULE
from aegis_otel.policy import messages
from aegis_otel.policy.evaluation.patterns import MAX_REGEX, BadRegex, compile_regex
from aegis_otel.policy.messages import closest, listed, shown

VERSIONS = ("1", 1)
APPROVALS = ("auto", "approve", "block")
RISK_LEVELS = ("low", "medium", "high", "critical")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_NAME = 200
MAX_GLOB = 1000
RESERVED = (DEFAULT_RULE, ERROR_RULE)
LARGEST = 10**400
"""Numbers beyond it are refused: whoever writes one means something else."""

# Control characters, zero-width space, direction marks and overrides, line separators, byte order mark:
# they make a name read as what it is not, in a terminal and in a review.
DECEPTIVE = r"[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
_DECEPTIVE = re.compile(DECEPTIVE + r"|[\ud800-\udfff]")
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap]m)?", re.IGNORECASE)
PARAM_PATH = re.compile(r"[^.]+(\.[^.]+)*")


def _refuse(message: str, suggestion: str | Callable[[Any], str | None] | None = None) -> NoReturn:
    """Fail the check; the message continues the sentence that begins with the key.

    A suggestion that takes long to find is a function of the value, for when the problem is shown.
    """
    raise PydanticCustomError("policy", "{message}", {"message": message, "suggestion": suggestion})


def _meant(choices: Iterable[str]) -> Callable[[object], str | None]:
    return lambda value: closest(value, choices) if isinstance(value, str) else None


def version(value: object) -> str:
    if isinstance(value, bool) or value not in VERSIONS:
        _refuse(f'must be "1", not {shown(value)}', '"1"')
    return "1"


def approval(value: object) -> str:
    return _word(value, APPROVALS, messages.APPROVALS)


def risk_level(value: object) -> str:
    return _word(value, RISK_LEVELS, messages.RISK_LEVELS)


def _word(value: object, words: tuple[str, ...], others: Mapping[str, str]) -> str:
    """Return one of `words` in small letters, which is how it may be written in any case."""
    if isinstance(value, str) and value.isascii() and value.lower() in words:
        return value.lower()

    def meant(value: object) -> str | None:
        return synonym(value, others) or _meant(words)(value)

    _refuse(f"must be {listed(words)}, not {shown(value)}", meant)


def synonym(value: object, others: Mapping[str, str]) -> str | None:
    """The word that stands here for `value`, a word of another policy language."""
    text = str(value) if isinstance(value, (str, bool)) else ""
    return others.get(text.strip().lower().replace("-", "_").replace(" ", "_"))


def _readable(value: object, longest: int) -> str:
    if not isinstance(value, str):
        _refuse(f"must be text, not {shown(value)}")
    if not 0 < len(value) <= longest:
        _refuse(f"must have 1 to {longest} characters, not {len(value)}")
    if found := _DECEPTIVE.search(value):
        _refuse(f"has a control or invisible character, {shown(found[0])}, in {shown(value)}")
    return value


def name(value: object) -> str:
    name = _readable(value, MAX_NAME)
    if name in RESERVED:
        _refuse(f"{shown(name)} stands in signals where no rule decided: choose another name")
    return name


def glob(value: object) -> str:
    return _readable(value, MAX_GLOB)


def time_of_day(value: object) -> int:
    """Minutes since midnight."""
    if isinstance(value, str) and TIME_OF_DAY.fullmatch(value):
        return int(value[:2]) * 60 + int(value[3:])
    _refuse(f'must be a time of day in quotes, "00:00" to "23:59", not {shown(value)}', _meant_time(value))


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
    """ISO weekday, 1 is Monday."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, 8):
        return int(value)
    if isinstance(value, str):
        for number, day in enumerate(WEEKDAYS, 1):
            if value.lower() in (day, day[:3]):
                return number
    _refuse(f"must name days: 1 (Monday) to 7, or `mon` to `sun`, not {shown(value)}", _meant_day)


def _meant_day(value: object) -> str | None:
    if isinstance(value, str) and value.strip() in "1234567":
        return value.strip()
    return _meant(WEEKDAYS)(value)


def timezone(value: object) -> str:
    if not isinstance(value, str):
        _refuse(f"must be the name of an IANA time zone, like `Europe/Berlin`, not {shown(value)}")
    try:
        # `localtime` and its kind exist on some machines and mean something else on each.
        if value and "local" not in value and "posix" not in value:
            ZoneInfo(value)
            return value
    except (OSError, ValueError, KeyError):
        pass
    _refuse(f"must be the name of an IANA time zone, like `Europe/Berlin`, not {shown(value)}", _meant_zone)


def _meant_zone(value: str) -> str | None:
    zones = _zones()
    return zones.get(value.strip().lower()) or zones.get(closest(value, zones) or "")


@cache
def _zones() -> dict[str, str]:
    """The names of all time zones, by what they are in small letters; listing them reads the disk."""
    return {zone.lower(): zone for zone in available_timezones()}


def param_path(value: object) -> str:
    path = _readable(value, MAX_NAME)
    if not PARAM_PATH.fullmatch(path):
        _refuse(f"needs parameter names between the dots, not {shown(path)}")
    return path


def _is_finite(value: float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST


def number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        suggestion = value if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) else None
        _refuse(f"must be a finite number, not {shown(value)}", suggestion)
    return value


def scalar(value: object) -> str | int | float | bool:
    if isinstance(value, str) and (found := _SURROGATE.search(value)):
        _refuse(f"must be valid Unicode, not text with {shown(found[0])}")
    if not isinstance(value, (str, int, float)) or not (isinstance(value, str) or _is_finite(value)):
        _refuse(f"must be text, a finite number, true or false, not {shown(value)}")
    return value


def regex(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REGEX:
        _refuse(f"must be a regular expression of 1 to {MAX_REGEX} characters, not {shown(value)}")
    if found := _CONTROL.search(value):
        # In double quotes YAML turns \b into a backspace, and a rule that should block never matches.
        _refuse(f"holds the control character {shown(found[0])}: write the pattern in single quotes")
    try:
        compile_regex(value)
    except BadRegex as error:
        _refuse(f"is not a regular expression in RE2 syntax: {error}")
    return value
