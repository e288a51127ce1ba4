"""Unquoted scalars: what both YAML versions read alike, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aegis_otel.policy.loading.yaml_reader import DisputedScalar, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("1.5", 1.5),
        ("-0.5e+3", -500.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("delete_*", "delete_*"),
        ("nothing", "nothing"),
        ("truely", "truely"),
        ("08:00", "08:00"),
        ("1.2.3", "1.2.3"),
        ("2fa", "2fa"),
        ("-", "-"),
        ("y", "y"),
        ("-x", "-x"),
    ],
)
def test_what_has_one_meaning(text: str, value: Any) -> None:
    resolved = resolve(text)
    assert (type(resolved), resolved) == (type(value), value)


def test_not_a_number_has_one_meaning() -> None:
    resolved = resolve(".nan")
    assert isinstance(resolved, float)
    assert math.isnan(resolved)


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "No", "ON", "off"),
        *("010", "1_000", "0x1F", "0o17", "0b1", "1e3", "1.5e3", "1_0.5"),
        *("18:00", "190:20:30.15", "2026-03-04", "2026-3-4 10:00:00"),
    ],
)
def test_what_has_two_meanings_is_refused(text: str) -> None:
    with pytest.raises(DisputedScalar):
        resolve(text)
