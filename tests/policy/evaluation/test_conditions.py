"""Conditions: what is true, what is false, what is unknown and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aegis_otel import Action, Policy
from tests.support.conditions import answer

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "note": {"type": ["string", "null"]},
        "order": {
            "anyOf": [
                {"type": "object", "properties": {"n": {"type": "integer"}}},
                {"type": "null"},
            ]
        },
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("path", "params", "schema", "result"),
    [
        ("n", {}, None, False),
        ("n", {}, SCHEMA, False),
        ("n", {}, {"type": "object"}, False),
        ("n", {"n": None}, None, "the value is null"),
        ("n", {"n": None}, SCHEMA, "the value is null"),
        ("n", {"n": None}, {"type": "object"}, "the value is null"),
        ("note", {"note": None}, SCHEMA, False),
        ("m", {"n": 1}, SCHEMA, "the tool has no such parameter"),
        ("m", {"n": 1}, None, False),
        ("m", {}, {"$ref": "#/nowhere"}, "the tool's schema cannot be read"),
        ("order.n", {}, SCHEMA, False),
        ("order.n", {"order": {}}, SCHEMA, False),
        ("order.n", {"order": {"n": 1}}, SCHEMA, True),
        ("order.n", {"order": None}, SCHEMA, False),
        ("order.n", {"order": None}, None, "the value is null"),
        ("order.n", {"order": {"n": None}}, SCHEMA, "the value is null"),
        ("order.m", {"order": {"n": 1}}, SCHEMA, "the tool has no such parameter"),
        ("order.n", {"order": "1"}, SCHEMA, "the path leads through a value that is not a mapping"),
        ("order.n", {"order.n": 1}, None, True),
        ("order.n", {"order.n": None}, None, "the value is null"),
        (
            "order.n",
            {"order.n": 1, "order": {"n": 5}},
            None,
            "both the dotted name and the path it spells have a value",
        ),
        ("a.b.c", {"a": {"b": {"c": 1}}}, None, True),
        ("a.b.c", {"a": {"b.c": 1}}, None, False),
    ],
)
def test_absent_and_null(path: str, params: dict[str, Any], schema: Any, result: bool | str) -> None:
    """DESIGN 3, which amends inventory 22."""
    assert answer({"param_eq": {path: 1}}, params, schema) == result


NESTED = {
    "properties": {
        "a": {
            "type": "object",
            "properties": {"n": {"type": "object", "properties": {"m": {"type": ["integer", "null"]}}}},
        }
    }
}


@pytest.mark.parametrize("extra", [{}, {"a.n": 1}, {"a.n": {"m": None}}, {"a.n": None}])
def test_an_extra_parameter_does_not_hide_where_the_null_is(extra: dict[str, Any]) -> None:
    """`a.n` may not be null, `a.n.m` may; a key named `a.n` is neither."""
    assert answer({"param_gt": {"a.n.m": 5}}, {"a": {"n": None}, **extra}, NESTED) == "the value is null"
    assert answer({"param_gt": {"a.n.m": 5}}, {"a": {"n": {"m": None}}, **extra}, NESTED) is False


def test_a_null_is_allowed_only_as_it_is_spelled() -> None:
    """The schema allows null for the key with a dot, not for what the dots lead to."""
    schema = {"properties": {"a.n": {"type": "null"}, "a": {"properties": {"n": {"type": "object"}}}}}
    assert answer({"param_gt": {"a.n": 5}}, {"a.n": None}, schema) is False
    assert answer({"param_gt": {"a.n": 5}}, {"a": {"n": None}}, schema) == "the value is null"


def test_a_schema_that_changes_in_place_is_read_anew() -> None:
    """What a schema said is not kept from one decision to the next."""
    schema: dict[str, Any] = {"properties": {"a": {}}}
    policy = Policy.from_dict(
        {"defaults": {"approval": "auto"}, "rules": [{"conditions": {"param_gt": {"a": 1}}}]}
    )
    assert policy.evaluate(Action("t", schema=schema)).errors == ()
    schema["properties"] = {"b": {}}
    assert len(policy.evaluate(Action("t", schema=schema)).errors) == 1


class CountedSchema(dict[str, Any]):
    """A schema that knows how often its properties were looked at."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += key == "properties"
        return super().get(key, default)


@pytest.mark.parametrize("operator", ["eq", "contains", "matches"])
@pytest.mark.parametrize("params", [{}, {"p": None}])
def test_a_schema_is_read_once_for_all_rules_of_a_decision(operator: str, params: dict[str, Any]) -> None:
    rules = [{"conditions": {f"param_{operator}": {"p": f"x{n}"}}, "approval": "block"} for n in range(50)]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    schema = CountedSchema(properties={"p": {"type": ["string", "null"]}})
    for _ in range(2):
        schema.looks = 0
        assert policy.evaluate(Action("t", params=params, schema=schema)).matched_rule == "<default>"
        assert schema.looks <= 2, "its path once, and once whether it is required: not for every rule"


def test_several_parameters_and_conditions_are_all_required() -> None:
    """Inventory 10 and 22."""
    both = {"param_gt": {"a": 1, "b": 1}, "param_lt": {"a": 9}}
    assert answer(both, {"a": 5, "b": 5}) is True
    assert answer(both, {"a": 5, "b": 0}) is False
    assert answer(both, {"a": 10, "b": 5}) is False


def test_no_reason_repeats_a_value() -> None:
    secret = "hunter2"
    policy = Policy.from_dict({"rules": [{"conditions": {"param_gt": {"a": 1}, "param_eq": {"b": True}}}]})
    decision = policy.evaluate(Action("t", params={"a": secret, "b": [secret]}))
    assert len(decision.errors) == 2
    assert secret not in decision.reason + "".join(decision.errors)


def test_time_after_and_before() -> None:
    """Inventory 11 and 12: from `time_after`, inclusive, until `time_before`, exclusive."""
    late, early = {"time_after": "18:00"}, {"time_before": "08:00"}
    day = datetime(2026, 3, 4, tzinfo=UTC)
    assert [answer(late, {}, now=day.replace(hour=h)) for h in (17, 18, 23, 0)] == [False, True, True, False]
    assert [answer(early, {}, now=day.replace(hour=h)) for h in (23, 0, 7, 8)] == [False, True, True, False]
    assert answer(early, {}, now=day.replace(hour=7, minute=59, second=59, microsecond=999_999)) is True


def test_weekdays() -> None:
    """Inventory 13: 1 is Monday. 2026-03-02 is one."""
    days = [datetime(2026, 3, 2 + n, 12, tzinfo=UTC) for n in range(7)]
    assert [answer({"weekdays": [1, "sat"]}, {}, now=day) for day in days] == [
        *(True, False, False, False, False),
        *(True, False),
    ]


def test_a_window_that_does_not_wrap() -> None:
    window = {"time_after": "09:00", "time_before": "17:00"}
    day = datetime(2026, 3, 4, tzinfo=UTC)
    assert [answer(window, {}, now=day.replace(hour=h)) for h in (8, 9, 16, 17)] == [False, True, True, False]


def test_now_may_be_in_any_zone() -> None:
    now = datetime(2026, 3, 4, 1, tzinfo=timezone(timedelta(hours=9)))  # 16:00 UTC the day before
    assert answer({"time_after": "16:00", "weekdays": ["tue"]}, {}, now=now) is True


def test_a_time_that_cannot_be_converted_is_unknown() -> None:
    """The year 1 has no morning west of Greenwich."""
    result = answer({"time_after": "08:00", "timezone": "America/New_York"}, {}, now=datetime.min)
    assert result == "the comparison failed with OverflowError"


def test_the_clock_is_read_when_a_rule_needs_it_and_no_time_is_given() -> None:
    always = {"time_after": "00:00"}
    assert answer(always, {}) is True
    assert answer({"time_after": "12:00", "time_before": "12:00"}, {}) is False
