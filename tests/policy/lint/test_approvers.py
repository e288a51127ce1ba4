"""Approvers that nobody asks, that are too few, or that anybody is."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_otel import Policy
from aegis_otel.policy.lint import lint


def found(**rule: Any) -> list[str]:
    rules = [{"name": "r", "match": {"type": "pay"}, "approval": "approve", "risk_level": "high", **rule}]
    policy = Policy.from_dict({"defaults": {"approval": "block"}, "rules": rules})
    return [str(each).removeprefix("<policy>: ") for each in lint(policy)]


TEN_PEOPLE = {"roles": ["finance"], "count": 10}


@pytest.mark.parametrize(
    "rule",
    [
        {"approvers": TEN_PEOPLE, "expires": "15m"},
        {"approvers": {"users": ["a", "b*"], "count": 3}},
        {"approvers": {"users": ["a", "b"], "count": 2}},
        {"approvers": {"users": ["*"]}},
        {"approvers": {"count": 20, "self": True}},
    ],
)
def test_what_may_be_meant_is_not_found(rule: dict[str, Any]) -> None:
    assert found(**rule) == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"approval": "auto", "approvers": TEN_PEOPLE},
            "error[never-asks]: rule `r` has `approvers` and is `auto`: nobody is asked, and calls run; "
            "write `approval: approve`",
        ),
        (
            {"approval": "auto", "approvers": TEN_PEOPLE, "expires": "1h"},
            "error[never-asks]: rule `r` has `approvers` and `expires` and is `auto`: nobody is asked, and "
            "calls run; write `approval: approve`",
        ),
        (
            {"approval": "block", "expires": "1h"},
            "warning[never-asks]: rule `r` has `expires` and blocks: nobody is asked; write "
            "`approval: approve` if somebody may say yes",
        ),
        (
            {"approvers": {"users": ["ann", "Ann", "bob"], "count": 3}},
            "error[too-few-approvers]: rule `r` needs 3 different persons, and `approvers.users` names 2: no "
            "call is ever approved; name more of them, or `roles`",
        ),
        (
            {"approvers": {"users": ["*", "ann"]}},
            "warning[any-approver]: `*` in `approvers.users` of rule `r` matches every name, so the other "
            "approvers say nothing: leave it out",
        ),
        (
            {"approvers": {"users": "**", "roles": "finance"}},
            "warning[any-approver]: `*` in `approvers.users` of rule `r` matches every name, so the other "
            "approvers say nothing: leave it out",
        ),
        (
            {"approvers": {"users": "ann@example.com, bob@example.com"}},
            "warning[glob-syntax]: pattern `ann@example.com, bob@example.com` is one text, in which "
            "everything but `*` and `?` is literal: write several as a list, so `ann@example.com` is not "
            'matched (did you mean `["ann@example.com", "bob@example.com"]`?)',
        ),
        (
            {"approvers": {"roles": "fin\u0430nce"}},
            "warning[pattern]: pattern `fin\u0430nce` mixes ASCII letters with `\u0430` (cyrillic "
            "small letter a), which may look like one of them",
        ),
    ],
)
def test_a_finding(rule: dict[str, Any], message: str) -> None:
    assert found(**rule) == [message]
