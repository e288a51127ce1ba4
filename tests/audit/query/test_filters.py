"""Filters: every value that no row can have is refused, and says what can be given."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from aegis_otel.audit.query.filters import Filters, compile_filters
from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import ConfigError
from aegis_otel.model import ResultStatus, RiskLevel


def test_no_filter_is_every_row() -> None:
    assert compile_filters(None, {"risk_level": None}) == ("true", [])


def test_all_filters_must_hold() -> None:
    filters: Filters = {"matched_rule": "r'", "agent_name": "a", "tool_name": "o", "action_type": "t"}
    assert compile_filters("s", filters) == (
        "session_id = ? AND action_type = ? AND agent_name = ? AND tool_name = ? AND matched_rule = ?",
        ["s", "t", "a", "o", "r'"],
    )


@pytest.mark.parametrize(
    ("filters", "value"),
    [
        ({"risk_level": RiskLevel.HIGH}, "HIGH"),
        ({"risk_level": "high"}, "HIGH"),
        ({"risk_level": " High "}, "HIGH"),
        ({"result_status": "BLOCKED"}, "blocked"),
        ({"result_status": ResultStatus.BLOCKED}, "blocked"),
        ({"result_status": RecordStatus.UNKNOWN}, "unknown"),
        ({"since": datetime(2026, 11, 22, 14)}, "2026-11-22T14:00:00+00:00"),
        (
            {"since": datetime(2026, 11, 22, 14, tzinfo=timezone(timedelta(hours=2)))},
            "2026-11-22T12:00:00+00:00",
        ),
        ({"since": "2026-11-22T14:00:00+02:00"}, "2026-11-22T12:00:00+00:00"),
        ({"since": "2026-11-22T14:00:00Z"}, "2026-11-22T14:00:00+00:00"),
        ({"until": "2026-11-22"}, "2026-11-22T00:00:00+00:00"),
        ({"until": datetime.max.replace(tzinfo=UTC)}, "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_b45_values_are_understood(filters: Any, value: str) -> None:
    """B45: any case, enum members, and times of any offset."""
    assert compile_filters(None, filters).values == [value]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"risk_level": "bogus"}, "`risk_level` is `bogus`: expected one of LOW, MEDIUM, HIGH, CRITICAL"),
        ({"risk_level": 3}, "`risk_level` is `3`: expected one of"),
        ({"risk_level": ""}, "`risk_level` is ``: expected one of"),
        (
            {"result_status": "would_run"},
            "`result_status` is `would_run`: expected one of pending, open, success",
        ),
        ({"result_status": ResultStatus.WOULD_RUN}, "`result_status` is `would_run`: expected one of"),
        ({"since": "yesterday"}, "`since` is `yesterday`: expected an ISO 8601 time"),
        ({"since": 1700000000}, "`since` is `1700000000`: expected an ISO 8601 time"),
        ({"until": date(2026, 11, 22)}, "`until` is `2026-11-22`: expected an ISO 8601 time"),
        ({"until": "0001-01-01T00:00:00+23:00"}, "expected a time within the years 1 to 9999"),
        ({"matched_rule": 5}, "`matched_rule` is 5: expected a text"),
        ({"agent_name": "\ud800"}, "expected a text"),
    ],
)
def test_b45_nonsense_is_refused(filters: Any, message: str) -> None:
    """B45: a filter that can match nothing is an error, not an empty answer."""
    with pytest.raises(ConfigError) as caught:
        compile_filters(None, filters)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        (" 30m ", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(weeks=1)),
        ("0s", timedelta(0)),
    ],
)
def test_how_long_ago(ago: str, expected: timedelta) -> None:
    """A time can be given as its distance from now."""
    before = datetime.now(UTC)
    (value,) = compile_filters(None, {"since": ago}).values
    assert before - expected <= datetime.fromisoformat(value) <= datetime.now(UTC) - expected


@pytest.mark.parametrize(
    "value", ["2", "h", "-2h", "2 h", "1.5h", "2y", "2h30m", "999999999w", "9999999999s"]
)
def test_what_is_no_time_ago_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="expected a"):
        compile_filters(None, {"until": value})


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown filter `agent`: expected action_type"):
        compile_filters(None, {"agent": "x"})  # type: ignore[typeddict-unknown-key]
