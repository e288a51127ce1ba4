"""The words in which commands and page say what a question has."""

from __future__ import annotations

import pytest

from aegis_otel.cli.approvals.wording import iso, moment, role_names

SECOND = 1_000_000_000


def test_a_time_for_people_and_for_programs() -> None:
    at = 1_796_040_000 * SECOND + 123_456_789
    assert moment(at) == "2026-11-30 12:00:00 UTC"
    assert iso(at) == "2026-11-30T12:00:00.123456+00:00"
    assert iso(at, "seconds") == "2026-11-30T12:00:00+00:00"
    assert moment(-1) == "1969-12-31 23:59:59 UTC"


@pytest.mark.parametrize("at", [1 << 80, -(1 << 80), 1 << 2000])
def test_a_time_that_is_in_no_calendar(at: int) -> None:
    """Somebody can have written it into the inbox."""
    assert moment(at) == "at no calendar time"
    assert iso(at) is None


def test_roles_that_nobody_has() -> None:
    """An agent can write megabytes of them: they are shown as they are written, which takes no time."""
    assert role_names('["clerk", "a, b"]') == 'clerk, "a, b"'
    many = f"[{'1, ' * 40_000}1]"
    assert role_names(many) == many
    assert role_names("[" * 5_000) == "[" * 5_000
    assert role_names(None) is None
