"""Which rows are meant: typed filters, checked before anything is read. Does not need DuckDB."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple, TypedDict

from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import ConfigError
from aegis_otel.model import ResultStatus, RiskLevel

RISK_LEVELS = tuple(level.name for level in RiskLevel)
STATUSES = tuple(status.value for status in RecordStatus)

_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Filters(TypedDict, total=False):
    """Every filter that is given must hold; None is the same as not given."""

    action_type: str | None
    risk_level: RiskLevel | str | None
    """A level, or its name in any case."""
    result_status: RecordStatus | ResultStatus | str | None
    """A status, or its value in any case."""
    agent_name: str | None
    tool_name: str | None
    matched_rule: str | None
    since: datetime | str | None
    """Rows of this time or later: a datetime or ISO 8601 text (without an offset, UTC), or how long ago
    that is, a number and `s`, `m`, `h`, `d` or `w`."""
    until: datetime | str | None
    """Rows before this time; given like `since`."""


class Condition(NamedTuple):
    """A condition on rows of the view `audit`, for `WHERE`."""

    sql: str
    values: list[str]
    """The values of the placeholders in `sql`, in order."""


def compile_filters(session_id: str | None, filters: Filters) -> Condition:
    """Return the condition that a session and filters stand for.

    Raises:
        ConfigError: for a value that no row can have; the message lists what can be given.
        TypeError: for a filter that does not exist.
    """
    if unknown := filters.keys() - Filters.__annotations__.keys():
        raise TypeError(f"unknown filter `{min(unknown)}`: expected {', '.join(Filters.__annotations__)}")
    parts: list[tuple[str, str]] = []
    for name, text in (
        ("session_id", session_id),
        ("action_type", filters.get("action_type")),
        ("agent_name", filters.get("agent_name")),
        ("tool_name", filters.get("tool_name")),
        ("matched_rule", filters.get("matched_rule")),
    ):
        if text is not None:
            parts.append((f"{name} = ?", _text(name, text)))
    if (risk := filters.get("risk_level")) is not None:
        parts.append(("risk_level = ?", _one_of("risk_level", risk, RISK_LEVELS)))
    if (status := filters.get("result_status")) is not None:
        parts.append(("result_status = ?", _one_of("result_status", status, STATUSES)))
    if (since := filters.get("since")) is not None:
        parts.append(("timestamp >= ?::TIMESTAMPTZ", _time("since", since)))
    if (until := filters.get("until")) is not None:
        parts.append(("timestamp < ?::TIMESTAMPTZ", _time("until", until)))
    return Condition(" AND ".join(sql for sql, _ in parts) or "true", [value for _, value in parts])


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or _NOT_UTF8.search(value):
        raise ConfigError(f"`{name}` is {value!r}: expected a text")
    return value


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    text = value.name if isinstance(value, RiskLevel) else value.value if isinstance(value, Enum) else value
    for each in allowed:
        if isinstance(text, str) and text.strip().lower() == each.lower():
            return each
    raise ConfigError(f"`{name}` is `{text}`: expected one of {', '.join(allowed)}")


def _time(name: str, value: object) -> str:
    """Return a point in time as ISO 8601 in UTC."""
    try:
        time = _read(value.strip()) if isinstance(value, str) else value
        if isinstance(time, datetime):
            return (time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)).isoformat()
    except OverflowError:
        raise ConfigError(f"`{name}` is `{value}`: expected a time within the years 1 to 9999") from None
    except ValueError:
        pass
    raise ConfigError(
        f"`{name}` is `{value}`: expected an ISO 8601 time such as `2026-11-22T14:30:00+01:00`, "
        "or how long ago, such as `90s`, `30m`, `2h` or `7d`"
    )


def _read(text: str) -> datetime:
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return datetime.fromisoformat(text)
