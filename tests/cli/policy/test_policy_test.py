"""`aegis policy test`: what it prints, its files, and its exit codes."""

from __future__ import annotations

import json
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
        "         deletes (block) does not match  [policy.yaml:7:7]\n"
        "             `match.type` `delete_*`: no\n"
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
    assert report["unreached"] == [{"rule": "deletes", "source": "policy.yaml", "line": 7, "column": 7}]
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
