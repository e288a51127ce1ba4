"""Select rows by typed filters, which are checked before anything is read. Does not need DuckDB."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypedDict

from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import ConfigError
from aegis_otel.model import Mode, ResultStatus, RiskLevel

RISK_LEVELS = tuple(level.name for level in RiskLevel)
STATUSES = tuple(status.value for status in RecordStatus)
MODES = tuple(mode.value for mode in Mode)

_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Filters(TypedDict, total=False):
    """Filters of rows, all of which must match; None is the same as not given."""

    action_type: str | None
    risk_level: RiskLevel | str | None
    """A level, or its name in any case."""
    result_status: RecordStatus | ResultStatus | str | None
    """A status, or its value in any case."""
    agent_name: str | None
    tool_name: str | None
    user_id: str | None
    tenant_id: str | None
    conversation_id: str | None
    approver: str | None
    """Who answered."""
    mode: Mode | str | None
    """`enforce` or `monitor`, in any case."""
    matched_rule: str | None
    since: datetime | str | None
    """Rows of this time or later: a datetime, ISO 8601 text (UTC if it has no offset), or how long ago, as a
    number and `s`, `m`, `h`, `d` or `w`."""
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
        ConfigError: no row can have a value; the message lists what can be given.
        TypeError: a filter does not exist.
    """
    if unknown := filters.keys() - Filters.__annotations__.keys():
        raise TypeError(f"unknown filter `{min(unknown)}`: expected {', '.join(Filters.__annotations__)}")
    given: dict[str, object] = {"session_id": session_id, **filters}
    parts = [
        (sql, read(name, value))
        for name, (sql, read) in _CONDITIONS.items()
        if (value := given.get(name)) is not None
    ]
    return Condition(" AND ".join(sql for sql, _ in parts) or "true", [value for _, value in parts])


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or _NOT_UTF8.search(value):
        raise ConfigError(f"`{name}` is {value!r}: expected a text")
    return value


def _one_of(*allowed: str) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        text = value.name if isinstance(value, RiskLevel) else value
        for each in allowed:
            if isinstance(text, str) and text.strip().lower() == each.lower():
                return each
        raise ConfigError(f"`{name}` is `{text}`: expected one of {', '.join(allowed)}")

    return read


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


_CONDITIONS: dict[str, tuple[str, Callable[[str, object], str]]] = {
    "session_id": ("session_id = ?", _text),
    "action_type": ("action_type = ?", _text),
    "agent_name": ("agent_name = ?", _text),
    "tool_name": ("tool_name = ?", _text),
    "user_id": ("user_id = ?", _text),
    "tenant_id": ("tenant_id = ?", _text),
    "conversation_id": ("conversation_id = ?", _text),
    "approver": ("approver = ?", _text),
    "mode": ("mode = ?", _one_of(*MODES)),
    "matched_rule": ("matched_rule = ?", _text),
    "risk_level": ("risk_level = ?", _one_of(*RISK_LEVELS)),
    "result_status": ("result_status = ?", _one_of(*STATUSES)),
    "since": ("timestamp >= ?::TIMESTAMPTZ", _time),
    "until": ("timestamp < ?::TIMESTAMPTZ", _time),
}
"""For each filter its condition in SQL, and the function that checks a value and returns its text."""
