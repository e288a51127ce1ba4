"""`aegis policy test`: what it prints, its files, and its exit codes."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main

POLICY = """
rules:
  - name: large
    match: { type: pay }
    conditions: { param_gt: { amount: 1000 } }
    approval: block
  - { name: deletes, match: { type: "delete_*" }, approval: block }
"""
CASES = """
policy: policy.yaml
cases:
  - name: large payments are blocked
    action: { type: pay, params: { amount: 2000 } }
    expect: { approval: block, rule: large }
  - name: others are asked
    action: { type: pay, params: { amount: 5 } }
    expect: { approval: approve }
"""
WRONG = """
  - name: small payments run
    action: { type: pay, params: { amount: 7 } }
    expect: { approval: auto, rule: large }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY)
    Path("cases.yaml").write_text(CASES)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["policy", "test", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_cases_that_pass() -> None:
    result = run("cases.yaml")
    assert result.output == (
        "policy.yaml:7:7: no case reaches rule `deletes`\n2 cases: 2 passed, 0 failed; 1 of 2 rules reached\n"
    )
    assert result.exit_code == 0


def test_coverage_can_be_required() -> None:
    assert run("cases.yaml", "--require-coverage").exit_code == 1
    Path("cases.yaml").write_text(
        f"{CASES}  - {{ name: d, action: {{ type: delete_x }}, expect: {{ rule: deletes }} }}\n"
    )
    assert run("cases.yaml", "--require-coverage").exit_code == 0


def test_a_case_that_fails_says_what_came_and_why() -> None:
    Path("cases.yaml").write_text(CASES + WRONG)
    result = run("cases.yaml")
    assert result.exit_code == 1
    assert result.output.startswith(
        "FAIL  small payments run  [cases.yaml:11:11]\n"
        "      expected auto by `large`\n"
        "      decided approve by `<default>`: no rule matched\n"
        "         large (block) does not match  [policy.yaml:3:5]\n"
        "             `match.type` `pay`: yes\n"
        "             `param_gt` on `amount` the number `1000`: no\n"
        "         deletes: for other tools\n"
        "\n"
    )
    assert result.output.endswith("3 cases: 2 passed, 1 failed; 1 of 2 rules reached\n")


def test_a_verdict_that_is_only_monitored_is_said_to_be() -> None:
    monitored = POLICY.replace("approval: block\n  -", "approval: block\n    mode: monitor\n  -")
    Path("policy.yaml").write_text(f"defaults: {{ approval: auto }}\n{monitored}")
    result = run("cases.yaml")
    assert result.output.startswith(
        "FAIL  large payments are blocked  [cases.yaml:4:11]\n"
        "      expected block by `large` enforced\n"
        "      decided block by `large` only monitored: "
    )


def test_json_says_the_same() -> None:
    Path("cases.yaml").write_text(CASES + WRONG)
    result = run("cases.yaml", "--format", "json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert (report["valid"], report["passed"], report["failed"], report["rules"]) == (True, 2, 1, 2)
    assert report["unreached"] == [
        {"rule": "deletes", "source": "policy.yaml", "line": 7, "column": 7, "unknown": False}
    ]
    assert report["warnings"] == []
    passed, _, failed = report["cases"]
    assert (passed["passed"], passed["explanation"]) == (True, None)
    assert failed["expected"] == {"approval": "auto", "rule": "large", "risk_level": None, "mode": None}
    assert failed["decided"] == {
        "approval": "approve",
        "rule": "<default>",
        "risk_level": "medium",
        "mode": "enforce",
        "reason": "no rule matched",
    }
    assert [rule["match"] for rule in failed["explanation"]] == ["does not match", "does not match"]


def test_junit_has_every_case() -> None:
    Path("cases.yaml").write_text(CASES + WRONG)
    assert run("cases.yaml", "--junit", "out.xml").exit_code == 1
    cases = list(ElementTree.parse("out.xml").getroot().iter("testcase"))
    assert [(case.get("name"), len(case)) for case in cases] == [
        ("large payments are blocked", 0),
        ("others are asked", 0),
        ("small payments run", 1),
    ]
    failure = cases[2][0]
    assert failure.get("message") == (
        "expected auto by `large`; decided approve by `<default>`: no rule matched"
    )
    assert "`param_gt` on `amount` the number `1000`: no" in (failure.text or "")


def test_another_policy_can_be_tested() -> None:
    Path("other.yaml").write_text("rules: [{ name: large, approval: auto }]\n")
    result = run("cases.yaml", "--policy", "other.yaml")
    assert result.exit_code == 1
    assert "decided auto by `large`" in result.output


@pytest.mark.parametrize("form", ["text", "json"])
def test_cases_that_cannot_be_run_are_exit_2(form: str) -> None:
    Path("cases.yaml").write_text(CASES.replace("rule: large", "rule: larg"))
    result = run("cases.yaml", "--format", form, "--junit", "out.xml")
    assert result.exit_code == 2
    if form == "json":
        assert json.loads(result.output)["problems"][0]["suggestion"] == "large"
    else:
        assert result.output == ("cases.yaml:6:38: the policy has no rule `larg` (did you mean `large`?)\n")
    assert not Path("out.xml").exists()


@pytest.mark.parametrize("text", ["rules: 5\n", None])
def test_an_invalid_policy_is_exit_3(text: str | None) -> None:
    Path("policy.yaml").unlink()
    if text:
        Path("policy.yaml").write_text(text)
    result = run("cases.yaml")
    assert result.exit_code == 3
    assert result.output.startswith("policy.yaml:")


def test_no_file_is_wrong_usage() -> None:
    assert run().exit_code == 2


def test_a_place_that_cannot_be_written_is_named() -> None:
    result = run("cases.yaml", "--junit", "nowhere/out.xml")
    assert (result.exit_code, result.stderr) == (1, "Error: `nowhere/out.xml`: no such file or directory\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_cases_cannot_steer_the_terminal(form: str) -> None:
    hostile = r'"\e[2J\r\u202eok"'
    Path("cases.yaml").write_text(
        f"policy: policy.yaml\ncases:\n  - name: {hostile}\n    action: {{ type: {hostile} }}\n"
        "    expect: { approval: auto }\n"
    )
    result = run("cases.yaml", "--format", form)
    assert result.exit_code == 1
    assert all(c.isprintable() or c == "\n" for c in result.output)


def test_the_schema_of_cases_is_printed() -> None:
    result = CliRunner().invoke(main, ["policy", "schema", "--cases"])
    assert json.loads(result.output)["title"] == "aegis-otel policy cases"


REFUNDS = """
rules:
  - name: small
    match: { type: refund }
    conditions: { param_lt: { amount: 50 }, param_eq: { currency: EUR } }
    approval: auto
"""
TOOLS = [
    {
        "name": "refund",
        "target": "default",
        "agent": "Support",
        "parameters": {
            "type": "object",
            "properties": {
                "order": {"type": "string"},
                "amount": {"type": "number"},
                "currency": {"type": "string", "default": "EUR"},
            },
            "required": ["order", "amount", "currency"],
            "additionalProperties": False,
        },
    },
    {"name": "look", "target": "default", "agent": "Helper", "parameters": {"type": "object"}},
]
PROGRAM = """
from agents import Agent, function_tool

@function_tool
def refund(order: str, amount: float, currency: str = "EUR") -> str:
    return ""

support = Agent(name="Support", tools=[refund])
"""


def write_refund(action: str, expect: str = "auto", head: str = "") -> None:
    Path("refunds.yaml").write_text(REFUNDS)
    Path("tools.json").write_text(json.dumps({"agents": ["Support", "Helper"], "tools": TOOLS}))
    Path("cases.yaml").write_text(
        f"policy: refunds.yaml\n{head}cases:\n"
        f"  - {{ name: a, action: {{ {action} }}, expect: {{ approval: {expect} }} }}\n"
    )


def test_without_tools_a_case_says_that_defaults_are_not_known() -> None:
    """Live, the tool's default would be filled in, and the call would run."""
    write_refund("type: refund, params: { order: A, amount: 20 }", "approve")
    result = run("cases.yaml")
    assert result.exit_code == 0
    assert result.output.startswith(
        "cases.yaml: warning: `tools` is missing: rules look at `currency`, which cases leave out, and a "
        "default of the tool would count\n"
    )
    (warning,) = json.loads(run("cases.yaml", "--format", "json").output)["warnings"]
    assert warning["message"].startswith("`tools` is missing")
    with_tools = run("cases.yaml", "--tools", "tools.json")
    assert with_tools.exit_code == 1
    assert "warning" not in with_tools.output
    assert "decided auto by `small`" in with_tools.output


def test_a_case_that_names_all_parameters_needs_no_tools() -> None:
    write_refund("type: refund, params: { order: A, amount: 20, currency: EUR }")
    assert run("cases.yaml").output == "1 case: 1 passed, 0 failed; 1 of 1 rule reached\n"


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (
            "type: refnd, params: { amount: 5 }",
            "cases.yaml:4:32: the list of tools has no tool `refnd` (did you mean `refund`?)",
        ),
        (
            "type: refund, agent: Suport, params: { amount: 5 }",
            "cases.yaml:4:47: the list of tools has no agent `Suport` (did you mean `Support`?)",
        ),
        (
            "type: refund, agent: Helper, params: { amount: 5 }",
            "cases.yaml:4:47: in the list of tools, agent `Helper` has no tool `refund`",
        ),
    ],
)
def test_a_tool_or_agent_that_does_not_exist_cannot_be_run(action: str, problem: str) -> None:
    write_refund(action, "approve", "tools: tools.json\n")
    result = run("cases.yaml")
    assert (result.exit_code, result.output) == (2, f"{problem}\n")


def test_a_case_with_its_own_schema_may_be_of_another_tool() -> None:
    write_refund("type: mail, schema: { type: object }", "approve", "tools: tools.json\n")
    assert run("cases.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("action", "warning"),
    [
        (
            "type: refund, params: { amount: 5 }",
            "the schema of `refund` requires `order`, which the call does not have",
        ),
        ("type: refund, params: { order: A, amount: 5, to: me }", "the schema of `refund` allows no `to`"),
        (
            "type: refund, target: bank, params: { order: A, amount: 5 }",
            "the list of tools gives `refund` the target `default`, not `bank`",
        ),
    ],
)
def test_a_call_that_the_program_would_hardly_make_is_a_warning(action: str, warning: str) -> None:
    write_refund(action, "auto", "tools: tools.json\n")
    result = run("cases.yaml")
    assert result.output.splitlines()[0] == f"cases.yaml:4:13: warning: {warning}"
    assert result.exit_code == 0


def test_the_agent_as_it_is_now_replaces_the_list_of_the_file() -> None:
    write_refund("type: refund, params: { order: A, amount: 20 }", "auto", "tools: tools.json\n")
    Path("refunds_program.py").write_text(PROGRAM)
    sys.modules.pop("refunds_program", None)
    assert run("cases.yaml", "--agent", "refunds_program:support").exit_code == 0
    Path("refunds_program.py").write_text(PROGRAM.replace("refund(", "repay(").replace("[refund", "[repay"))
    sys.modules.pop("refunds_program", None)
    importlib.invalidate_caches()
    result = run("cases.yaml", "--agent", "refunds_program:support")
    assert result.exit_code == 2
    assert "the list of tools has no tool `refund`" in result.output


def test_tools_and_agent_exclude_each_other() -> None:
    write_refund("type: refund")
    result = run("cases.yaml", "--tools", "tools.json", "--agent", "a:b")
    assert (result.exit_code, "exclude each other" in result.stderr) == (2, True)


def test_a_rule_that_only_may_match_is_not_reached() -> None:
    Path("cases.yaml").write_text(
        "policy: policy.yaml\ncases:\n"
        "  - { name: a, action: { type: pay, params: { amount: lots } }, expect: { rule: large } }\n"
        "  - { name: b, action: { type: delete_x }, expect: { rule: deletes } }\n"
    )
    result = run("cases.yaml", "--require-coverage")
    assert result.output == (
        "policy.yaml:3:5: rule `large` is reached only where it is unknown whether it matches\n"
        "2 cases: 2 passed, 0 failed; 1 of 2 rules reached\n"
    )
    assert result.exit_code == 1
    (unreached,) = json.loads(run("cases.yaml", "--format", "json").output)["unreached"]
    assert (unreached["rule"], unreached["unknown"]) == ("large", True)


def test_several_policies_are_separated_as_in_the_setting() -> None:
    Path("first.yaml").write_text("rules: [{ name: large, match: { type: pay }, approval: block }]\n")
    Path("second.yaml").write_text("rules: [{ name: rest, approval: approve }]\n")
    result = run("cases.yaml", "--policy", f"first.yaml{os.pathsep}second.yaml")
    assert "1 of 2 rules reached" in result.output


EVERY_KIND = """
defaults: { approval: auto }
rules:
  - name: large
    match: { type: pay, agent: "Clerk*" }
    conditions: { param_gt: { amount: 1000 } }
    approval: block
  - name: nights
    match: { type: deploy }
    conditions: { time_after: "20:00", time_before: "06:00", timezone: UTC }
    approval: block
  - { name: admins, match: { type: grant, role: admin, tenant: acme, target: iam }, approval: auto }
  - { name: watched, match: { type: mail }, approval: block, mode: monitor }
  - { name: keys, match: { type: read }, conditions: { param_matches: { path: "pem$" } }, approval: block }
  - { name: deletes, match: { type: "delete_*" }, approval: block }
"""


def test_the_cases_that_are_suggested_reach_their_rules() -> None:
    Path("policy.yaml").write_text(EVERY_KIND)
    cases = "policy: policy.yaml\ncases:\n  - { name: a, action: { type: x }, expect: { approval: auto } }\n"
    Path("cases.yaml").write_text(cases)
    result = run("cases.yaml", "--suggest")
    assert result.exit_code == 0
    _, _, suggested = result.output.partition("reached\n")
    assert suggested.startswith(
        '  - name: "large decides"\n    action: { type: "pay", agent: "Clerk", params: {"amount": 1001} }\n'
    )
    Path("cases.yaml").write_text(cases + suggested)
    result = run("cases.yaml", "--require-coverage")
    assert (result.output, result.exit_code) == ("7 cases: 7 passed, 0 failed; 6 of 6 rules reached\n", 0)


def test_a_suggested_case_is_a_call_of_a_tool_that_is_listed() -> None:
    write_refund("type: look", "approve", "tools: tools.json\n")
    text = Path("cases.yaml").read_text()
    _, _, suggested = run("cases.yaml", "--suggest").output.partition("reached\n")
    Path("cases.yaml").write_text(text + suggested)
    assert (
        run("cases.yaml", "--require-coverage").output == "2 cases: 2 passed, 0 failed; 1 of 1 rule reached\n"
    )


def test_a_rule_that_decides_nothing_has_no_suggestion() -> None:
    Path("policy.yaml").write_text("rules: [{ name: a, approval: block }, { name: b, approval: block }]\n")
    Path("cases.yaml").write_text(
        "policy: policy.yaml\ncases:\n  - { name: a, action: { type: x }, expect: { rule: a } }\n"
    )
    assert run("cases.yaml", "--suggest").output.endswith("  # no call was found that rule `b` decides\n")


def test_one_case_can_be_run() -> None:
    Path("cases.yaml").write_text(CASES + WRONG)
    assert run("cases.yaml", "--case", "others are asked").exit_code == 0
    result = run("cases.yaml", "--case", "small payments run")
    assert (result.exit_code, "1 case: 0 passed, 1 failed" in result.output) == (1, True)
    unknown = run("cases.yaml", "--case", "small payment runs")
    assert unknown.exit_code == 2
    assert "did you mean `small payments run`?" in " ".join(unknown.stderr.split())
