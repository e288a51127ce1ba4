"""Comparisons with one value: equal, more, less, part, pattern."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.support.conditions import answer


@pytest.mark.parametrize(
    ("operator", "expected", "value", "result"),
    [
        ("param_eq", "a", "a", True),
        ("param_eq", "a", "A", False),
        ("param_eq", "1", 1, "the value is a number, not text"),
        ("param_eq", 1, "1", "the value is text, not a number"),
        ("param_eq", 1, 1.0, True),
        ("param_eq", 1.5, 1, False),
        ("param_eq", 1, True, "the value is a boolean, not a number"),
        ("param_eq", True, True, True),
        ("param_eq", True, False, False),
        ("param_eq", True, 1, "the value is a number, not a boolean"),
        ("param_eq", False, None, "the value is null"),
        ("param_eq", 1, Decimal(1), "the value is of a type that conditions cannot compare, not a number"),
        ("param_eq", 0, float("nan"), "the value is not a number (NaN)"),
        ("param_gt", 5, 6, True),
        ("param_gt", 5, 5, False),
        ("param_gt", 5, 10**1000, True),
        ("param_gt", 5.5, -(10**1000), False),
        ("param_gt", 5, float("inf"), True),
        ("param_gt", 5, "9", "the value is text, not a number"),
        ("param_lt", 5, 4.99, True),
        ("param_lt", 5, 5, False),
        ("param_gte", 5, 5.0, True),
        ("param_gte", 5, 4, False),
        ("param_lte", 5, 5, True),
        ("param_lte", 5, 6, False),
        ("param_contains", "b", "abc", True),
        ("param_contains", "B", "abc", False),
        ("param_contains", 1, "a1", "the value is text, not a number"),
        ("param_contains", "b", ["a", "b"], True),
        ("param_contains", "b", ["a", "c"], False),
        ("param_contains", "b", [], False),
        ("param_contains", "b", ("b",), True),
        ("param_contains", "b", {"b", "c"}, True),
        ("param_contains", 1, [1.0, 2], True),
        ("param_contains", 1, [True, 2], "an item cannot be compared: the value is a boolean, not a number"),
        ("param_contains", "b", ["a", 1], "an item cannot be compared: the value is a number, not text"),
        ("param_contains", "b", [1, "b"], True),
        (
            "param_contains",
            1.5,
            [0.5, float("nan")],
            "an item cannot be compared: the value is not a number (NaN)",
        ),
        ("param_contains", "b", {"b": 1}, True),
        ("param_contains", "c", {"b": 1}, False),
        ("param_contains", 1, {"b": 1}, "a mapping has no key that is not text"),
        ("param_contains", 1, 1, "the value is a number, which contains nothing"),
        ("param_matches", "^a.c$", "abc", True),
        ("param_matches", "b", "abc", True),
        ("param_matches", "^b", "abc", False),
        ("param_matches", "(?i)B", "abc", True),
        ("param_matches", r"\p{Cyrillic}", "del\u0435te", True),
        ("param_matches", "1", 1, "the value is a number, not text"),
        ("param_matches", "a", ["a"], "the value is a list, not text"),
    ],
)
def test_comparisons(operator: str, expected: Any, value: Any, result: bool | str) -> None:
    """Inventory 14 to 20; every answer again through a dotted path, which is tested another way."""
    assert answer({operator: {"p": expected}}, {"p": value}) == result
    assert answer({operator: {"o.p": expected}}, {"o": {"p": value}}) == result
