"""Two policies that ask other persons: what is written otherwise, and whether it is looser."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_otel import Policy
from aegis_otel.policy_tools.diff import PolicyDiff, diff_policies

ANN = {"users": "ann@ops"}


def diff(old: dict[str, Any], new: dict[str, Any]) -> PolicyDiff:
    asking = {"name": "r", "match": {"type": "pay"}, "approval": "approve", "risk_level": "high"}
    old_policy, new_policy = (
        Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [asking | each]}) for each in (old, new)
    )
    return diff_policies(old_policy, new_policy)


@pytest.mark.parametrize(
    ("old", "new", "details"),
    [
        (
            {},
            {"approvers": ANN | {"count": 2}, "expires": "90m"},
            (
                "approvers.users: whoever is asked -> `ann@ops`",
                "approvers.count: 1 -> 2",
                "approvers.self: true -> false",
                "expires: not stated -> 90m",
            ),
        ),
        (
            {"approvers": {"roles": ["finance"]}, "expires": "60m"},
            {"approvers": {"self": True, "roles": ["finance", "board"]}, "expires": "1d"},
            ("approvers.roles: + `board`", "approvers.self: false -> true", "expires: 1h -> 1d"),
        ),
        (
            {"approvers": {"count": 1}},
            {"approvers": ANN},
            ("approvers.users: anybody whose name is known -> `ann@ops`",),
        ),
    ],
)
def test_what_is_written_otherwise(
    old: dict[str, Any], new: dict[str, Any], details: tuple[str, ...]
) -> None:
    assert [change.details for change in diff(old, new).rules] == [details]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, {"count": 1}),
        ({"self": True}, {"count": 1}),
        ({"count": 1}, {"count": 2}),
        ({"count": 1}, ANN),
        ({"users": "*@ops"}, ANN),
        ({"users": "*@ops", "roles": "finance"}, ANN),
        ({"users": "*@ops", "roles": "fin*"}, {"users": "ann@ops", "roles": "finance", "count": 3}),
    ],
)
def test_fewer_who_may_answer_or_more_who_must_are_stricter(
    one: dict[str, Any] | None, other: dict[str, Any]
) -> None:
    loose, strict = ({} if each is None else {"approvers": each} for each in (one, other))
    assert {each.effect.value for each in diff(loose, strict).differences} == {"stricter"}
    assert not diff(loose, strict).loosens
    assert {each.effect.value for each in diff(strict, loose).differences} == {"looser"}
    assert diff(strict, loose).loosens


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ANN, {"users": "bob@ops"}),
        (ANN, {"roles": "finance"}),
        (ANN | {"count": 2}, {"users": "*@ops", "count": 3}),
    ],
)
def test_somebody_else_who_may_answer_is_looser(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Whoever might not say yes before may now."""
    for old, new in ((one, other), (other, one)):
        found = {each.effect.value for each in diff({"approvers": old}, {"approvers": new}).differences}
        assert found == {"looser"}


def test_how_long_it_can_be_answered_decides_no_call_otherwise() -> None:
    found = diff({"expires": "1h"}, {"expires": "2h"})
    assert [change.details for change in found.rules] == [("expires: 1h -> 2h",)]
    assert found.differences == ()
