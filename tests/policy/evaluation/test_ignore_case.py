"""`match.ignore_case`: all globs of a rule in any case, on every way of deciding."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from aegis_otel import Action, Policy, Subject
from aegis_otel.policy.evaluation.evaluator import decide
from aegis_otel.policy.lint import lint
from aegis_otel.policy.patterns import compile_glob

WHO = Subject(user="Ann", tenant="ACME", roles=["Clerk"])


def matches(match: dict[str, Any], **action: Any) -> bool:
    policy = Policy.from_dict({"rules": [{"name": "r", "match": match, "approval": "block"}]})
    call = Action(**{"type": "Delete_File", "target": "Prod-DB", "agent": "Intern", "subject": WHO} | action)
    found = policy.evaluate(call)
    assert policy.evaluate(call) == found
    assert decide(policy.compiled, call, datetime.now(UTC)) == found.verdict
    return found.matched_rule == "r"


@pytest.mark.parametrize(
    "match",
    [
        {"type": "delete_file"},
        {"type": "DELETE_*"},
        {"type": "*_file"},
        {"type": "*LETE*"},
        {"type": "delete?file"},
        {"type": ["x", "dELETE_FILE"]},
        {"target": "prod-*"},
        {"target": "prod-db", "agent": "INTERN"},
        {"agent": ["x*", "int*n"]},
        {"user": "ann", "tenant": "acme"},
        {"role": "CL*"},
    ],
)
def test_every_glob_of_the_match_matches_in_any_case(match: dict[str, Any]) -> None:
    assert matches({**match, "ignore_case": True})
    assert not matches(match)
    assert not matches({**match, "ignore_case": False})


def test_letters_beyond_ascii_have_cases_too() -> None:
    assert matches({"type": "löschen_straße", "ignore_case": True}, type="LÖSCHEN_STRASSE")
    assert not matches({"type": "delete", "ignore_case": True}, type="délete")


def test_what_is_not_text_is_unknown_as_before() -> None:
    policy = Policy.from_dict(
        {"rules": [{"match": {"agent": "a", "ignore_case": True}, "approval": "block"}]}
    )
    assert policy.evaluate(Action("t")).errors == (
        "rule `rule_0`: `match.agent` is unknown: the action does not say",
    )


def test_a_star_matches_all_in_any_case() -> None:
    assert compile_glob("*", True).matches_all
    assert compile_glob("**", True).matches_all


def test_the_digest_covers_it() -> None:
    forms: list[dict[str, Any]] = [
        {"type": "a"},
        {"type": "a", "ignore_case": True},
        {"type": "A", "ignore_case": True},
        {"role": "a", "type": "a"},
        {"role": "a", "type": "a", "ignore_case": True},
    ]
    digests = {Policy.from_dict({"rules": [{"match": form}]}).digest for form in forms}
    assert len(digests) == len(forms)
    plain = Policy.from_dict({"rules": [{"match": {"type": "a", "ignore_case": False}}]})
    assert plain == Policy.from_dict({"rules": [{"match": {"type": "a"}}]})


def kinds(*rules: dict[str, Any], tools: Any = None) -> list[str]:
    return [finding.kind for finding in lint(Policy.from_dict({"defaults": {}, "rules": list(rules)}), tools)]


def test_the_linter_knows_that_case_does_not_count() -> None:
    """It neither calls the wider rule shadowed, nor a pattern a near miss."""
    exact, wide = {"match": {"type": "delete_*"}}, {"match": {"type": "delete_x", "ignore_case": True}}
    assert kinds(exact, wide) == []
    assert kinds({"match": {"type": "delete_*", "ignore_case": True}}, {"match": {"type": "delete_x"}}) == [
        "shadowed"
    ]
    tools: dict[str, Any] = {"Delete_X": {"properties": {}}}
    assert kinds(wide, tools=tools) == []
    assert kinds({"match": {"type": "delete_x"}}, tools=tools) == ["uncovered", "near-miss"]
