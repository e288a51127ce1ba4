"""Running cases: what passes, what fails, which rules are reached, and what cannot be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_otel.errors import CasesError, PolicyError
from aegis_otel.policy_tools.case_runner import Report, run_cases
from aegis_otel.policy_tools.cases import read_case_files

POLICY = """
defaults: { approval: approve }
rules:
  - name: large
    match: { type: pay }
    conditions: { param_gt: { amount: 1000 } }
    approval: block
    risk_level: critical
  - name: small
    match: { type: pay }
    conditions: { param_gt: { amount: 0 }, param_lte: { amount: 50 } }
    approval: auto
  - name: nights
    match: { type: deploy }
    conditions: { time_after: "18:00", time_before: "08:00", timezone: Europe/Berlin }
    approval: block
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY)
    return tmp_path


def run(*cases: str, policies: tuple[Path, ...] = ()) -> Report:
    lines = "".join(f"  - {{ name: case {number}, {case} }}\n" for number, case in enumerate(cases))
    Path("cases.yaml").write_text(f"policy: policy.yaml\ncases:\n{lines}")
    return run_cases(read_case_files([Path("cases.yaml")]), policies)


def problems(*cases: str) -> list[str]:
    with pytest.raises(CasesError) as caught:
        run(*cases)
    return [str(problem) for problem in caught.value.problems]


PAY = "action: { type: pay, params: { amount: %s } }, expect: { %s }"


@pytest.mark.parametrize(
    ("case", "differences"),
    [
        (PAY % (20, "approval: auto"), []),
        (PAY % (20, "rule: small"), []),
        (PAY % (20, "rule: large"), ["rule"]),
        (PAY % (2000, "approval: auto, rule: small, risk_level: low"), ["approval", "rule", "risk_level"]),
        (PAY % (2000, "approval: block, risk_level: high"), ["risk_level"]),
        (PAY % (100, "approval: approve, rule: <default>, risk_level: medium"), []),
        (PAY % ("lots", "approval: block, rule: large"), []),
        ('action: { type: deploy }, at: "2026-01-05T17:30:00Z", expect: { rule: nights }', []),
        ('action: { type: deploy }, at: "2026-01-05T16:30:00Z", expect: { rule: nights }', ["rule"]),
    ],
)
def test_a_case_fails_where_the_verdict_is_another(case: str, differences: list[str]) -> None:
    report = run(case)
    (result,) = report.results
    assert result.differences == differences
    assert report.failed == ([result] if differences else [])


@pytest.mark.parametrize(
    ("expect", "differences"),
    [
        ("approval: block, rule: tried, mode: monitor", []),
        ("rule: tried", []),
        ("approval: block, rule: tried", ["mode"]),
        ("approval: block, rule: tried, mode: enforce", ["mode"]),
        ("approval: auto", ["approval"]),
    ],
)
def test_what_is_only_monitored_is_not_blocked(expect: str, differences: list[str]) -> None:
    """A case that says `block` and nothing about the mode means a call that is stopped."""
    Path("policy.yaml").write_text(
        "defaults: { approval: auto }\n"
        "rules: [{ name: tried, match: { type: x }, approval: block, mode: monitor }]\n"
    )
    (result,) = run(f"action: {{ type: x }}, expect: {{ {expect} }}").results
    assert result.differences == differences


def test_the_explanation_comes_to_the_verdict() -> None:
    (result,) = run(PAY % (2000, "approval: auto")).failed
    explanation = result.explain()
    assert explanation.verdict == result.verdict
    assert explanation.rules[0].match == "matches"


def test_rules_that_decided_no_case_are_unreached() -> None:
    report = run(PAY % (20, "rule: small"), PAY % (100, "rule: <default>"))
    assert [rule.name for rule in report.unreached] == ["large", "nights"]
    assert [rule.name for rule in report.rules] == ["large", "small", "nights"]
    assert report.unreached[0].place.line == 4


def test_rules_are_unreached_in_each_policy_by_itself() -> None:
    """Two files with cases, each with its policy; the rules of one are not reached by the other's cases."""
    Path("other.yaml").write_text("rules: [{ name: small, match: { type: pay } }]\n")
    Path("others.yaml").write_text(
        "policy: other.yaml\ncases: [{ name: o, action: { type: x }, expect: { rule: <default> } }]\n"
    )
    run(PAY % (20, "rule: small"))
    report = run_cases(read_case_files([Path("cases.yaml"), Path("others.yaml")]))
    assert [str(rule.place) for rule in report.unreached if rule.name == "small"] == ["other.yaml:1:11"]


def test_another_policy_can_be_tested() -> None:
    Path("other.yaml").write_text("defaults: { approval: block }\nrules: []\n")
    (result,) = run(PAY % (20, "approval: auto"), policies=(Path("other.yaml"),)).failed
    assert result.verdict.approval == "block"


def test_a_rule_that_the_policy_lacks_is_named() -> None:
    assert problems(PAY % (20, "rule: smal")) == [
        "cases.yaml:3:84: the policy has no rule `smal` (did you mean `small`?)"
    ]


def test_a_case_without_a_time_is_refused_where_a_rule_looks_at_it() -> None:
    """It would pass by day and fail by night. A case that no such rule is asked about needs none."""
    assert problems("action: { type: deploy }, expect: { approval: approve }") == [
        "cases.yaml:3:13: `at` is missing: a rule for `deploy` looks at the time"
    ]


def test_cases_without_a_policy_are_refused() -> None:
    Path("cases.yaml").write_text("cases: [{ name: a, action: { type: x }, expect: { rule: <default> } }]\n")
    with pytest.raises(CasesError, match=r"cases.yaml:1:1: no policy is named: .* --policy"):
        run_cases(read_case_files([Path("cases.yaml")]))


def test_an_invalid_policy_is_refused() -> None:
    Path("policy.yaml").write_text("rules: 5\n")
    with pytest.raises(PolicyError):
        run(PAY % (20, "rule: small"))


def test_the_last_of_a_thousand_cases_is_explained() -> None:
    report = run(*(PAY % (number, "approval: approve") for number in range(1000)))
    assert len(report.results) == 1000
    assert "large" in str(report.failed[-1].explain())
