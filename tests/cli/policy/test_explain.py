"""`aegis policy explain`: what it prints about a call, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main

POLICY = """
rules:
  - name: large
    match: { type: pay, target: bank, agent: "clerk*" }
    conditions: { param_gt: { order.amount: 1000 } }
    approval: block
    risk_level: critical
  - name: nights
    match: { type: deploy }
    conditions: { time_after: "18:00", time_before: "08:00", timezone: UTC }
    approval: block
  - { name: rest, match: { type: "pay*" }, approval: auto, risk_level: low }
"""
CASES = """
policy: policy.yaml
cases:
  - name: deploys at night
    action: { type: deploy }
    at: "2026-01-14T20:00:00Z"
    expect: { approval: block }
"""
PAY = ("policy.yaml", "--type", "pay", "--target", "bank")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY)
    Path("cases.yaml").write_text(CASES)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["policy", "explain", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_every_rule_and_its_tests_are_shown() -> None:
    result = run(*PAY, "--agent", "clerk 7", "--param", 'order={"amount": 20}')
    assert result.exit_code == 0
    assert result.output == (
        "   large (block) does not match  [policy.yaml:3:5]\n"
        "       `match.type` `pay`: yes\n"
        "       `match.target` `bank`: yes\n"
        "       `match.agent` `clerk*`: yes\n"
        "       `param_gt` on `order.amount` the number `1000`: no\n"
        "   nights: for other tools\n"
        "=> rest (auto) matches  [policy.yaml:12:7]\n"
        "       `match.type` `pay*`: yes\n"
        "so it decides: auto by `rest` at low risk: rule `rest` matched\n"
    )


@pytest.mark.parametrize(
    ("param", "decides"),
    [
        ('order={"amount": 1001}', "block by `large` at critical risk: rule `large` matched"),
        (
            'order={"amount": "1001"}',
            "block by `large` at critical risk: rule `large` may match, so it counts",
        ),
        ("order=1001", "block by `large` at critical risk: rule `large` may match, so it counts"),
        ("order.amount=1001", "block by `large` at critical risk: rule `large` matched"),
        ("amount=1001", "auto by `rest` at low risk: rule `rest` matched"),
    ],
)
def test_a_value_is_json_or_else_text(param: str, decides: str) -> None:
    assert f"so it decides: {decides}" in run(*PAY, "--agent", "clerk", "--param", param).output


def test_the_time_can_be_given() -> None:
    night, day = (
        run("policy.yaml", "--type", "deploy", "--at", f"2026-01-14T{at}") for at in ("20:00", "12:00")
    )
    assert "decides: block by `nights`" in night.output
    assert "decides: approve by `<default>`" in day.output


def test_a_case_can_be_explained_with_its_own_policy_and_time() -> None:
    assert "decides: block by `nights`" in run("--case", "cases.yaml", "deploys at night").output
    Path("other.yaml").write_text("rules: []\n")
    assert (
        "decides: approve by `<default>`"
        in run("other.yaml", "--case", "cases.yaml", "deploys at night").output
    )


def test_tools_say_what_the_command_does_not() -> None:
    Path("tools.json").write_text(
        json.dumps([{"name": "pay", "target": "bank", "parameters": {"properties": {}}}])
    )
    result = run("policy.yaml", "--type", "pay", "--agent", "clerk", "--tools", "tools.json")
    assert "unknown: the tool has no such parameter" in result.output
    assert "decides: block by `large`" in result.output


def test_json_says_the_same() -> None:
    report = json.loads(run(*PAY, "--at", "2026-01-14T20:00", "--format", "json").output)
    assert report["at"] == "2026-01-14T20:00:00+00:00"
    assert (report["matched_rule"], report["approval"], report["risk_level"]) == ("rest", "auto", "LOW")
    assert [rule["match"] for rule in report["rules"]] == ["does not match", "does not match", "matches"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("policy.yaml",), "say what is called: give --type"),
        (("--type", "pay"), "name the policy"),
        ((*PAY, "--param", "amount"), "--param `amount` is not NAME=VALUE"),
        ((*PAY, "--param", "=5"), "--param `=5` is not NAME=VALUE"),
        ((*PAY, "--at", "noon"), "--at `noon` is not an ISO 8601 time"),
        ((*PAY, "--user", ""), "`user` of a subject has an empty text"),
        ((*PAY, "--case", "cases.yaml", "x"), "--type and --case exclude each other"),
        (("--case", "cases.yaml", "x"), "`cases.yaml` has no case `x`"),
        (("--case", "none.yaml", "x"), "none.yaml: file with cases not found"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...], why: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert why in " ".join(result.output.split())


def test_an_invalid_policy_is_exit_3() -> None:
    Path("policy.yaml").write_text("rules: 5\n")
    result = run(*PAY)
    assert (result.exit_code, result.stderr) == (
        3,
        "Error: policy.yaml:1:8: `rules` must be a list, not the number `5`\n",
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_texts_cannot_steer_the_terminal(form: str) -> None:
    Path("policy.yaml").write_text(
        'rules: [{ match: { type: "\\x7e*" }, conditions: { param_eq: { a: "\\e[2J\\u202e" } } }]'
    )
    result = run("policy.yaml", "--type", "~\x1b[2J", "--param", "a=\u202e\x1b[2J", "--format", form)
    assert result.exit_code == 0
    assert all(c.isprintable() or c == "\n" for c in result.output)


def test_a_parameter_that_the_call_does_not_have_is_named() -> None:
    tools = {"pay": {"type": "object", "properties": {"order": {"type": "object", "default": {"amount": 5}}}}}
    Path("tools.json").write_text(json.dumps(tools))
    result = run(*PAY, "--agent", "clerk")
    assert (
        "`param_gt` on `order.amount` the number `1000`: no: the call has no `order.amount`, and the tool's "
        "default is not known\n"
    ) in result.output
    assert result.output.endswith("the defaults of the tool were not filled in: give --tools FILE\n")
    known = run(*PAY, "--agent", "clerk", "--tools", "tools.json")
    assert "on `order.amount` the number `1000`: no\n" in known.output
    assert "defaults" not in known.output


def test_rules_for_other_tools_have_one_line() -> None:
    rules = "".join(f"  - {{ name: r{n}, match: {{ type: t{n} }}, approval: block }}\n" for n in range(7))
    Path("many.yaml").write_text(
        f"rules:\n{rules}  - {{ name: pays, match: {{ type: pay }}, approval: auto }}\n"
    )
    assert run("many.yaml", "--type", "pay").output == (
        "   r0, r1, r2, r3, r4 and 2 more: for other tools\n"
        "=> pays (auto) matches  [many.yaml:9:7]\n"
        "       `match.type` `pay`: yes\n"
        "so it decides: auto by `pays` at medium risk: rule `pays` matched\n"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--type", "pay"),
        ("--param", "query=x"),
        ("--agent-name", "clerk"),
        ("--target", "bank"),
        ("--role", "admin"),
    ],
)
def test_a_case_and_options_of_a_call_exclude_each_other(option: str, value: str) -> None:
    result = run("--case", "cases.yaml", "deploys at night", option, value)
    assert result.exit_code == 2
    assert f"{option} and --case exclude each other" in " ".join(result.stderr.split())


def test_a_tool_that_is_not_in_the_list_is_wrong_usage() -> None:
    Path("tools.json").write_text(json.dumps({"pay": {"type": "object", "required": ["order"]}}))
    result = run("policy.yaml", "--type", "pey", "--tools", "tools.json")
    assert result.exit_code == 2
    assert "the list of tools has no tool `pey` (did you mean `pay`?)" in " ".join(result.stderr.split())
    warned = run("policy.yaml", "--type", "pay", "--tools", "tools.json", "--format", "json")
    assert "warning: the schema of `pay` requires `order`" in warned.stderr
    assert json.loads(warned.stdout)["approval"] == "auto"


def test_several_files_are_separated_as_in_the_setting() -> None:
    Path("first.yaml").write_text("rules: [{ name: first, match: { type: pay }, approval: block }]\n")
    result = run(f"first.yaml{os.pathsep}policy.yaml", "--type", "pay")
    assert "so it decides: block by `first`" in result.output


def test_who_may_answer_is_shown() -> None:
    Path("policy.yaml").write_text(
        "rules: [{ name: pay, match: { type: pay }, approval: approve, risk_level: high, expires: 4h, "
        "approvers: { users: [ann@ops], roles: [finance], count: 2 } }]"
    )
    assert run("policy.yaml", "--type", "pay").output.splitlines()[-1] == (
        "who may answer, for 4h: 2 of: `ann@ops` or role `finance`, not the user that the agent acts for"
    )
    found = json.loads(run("policy.yaml", "--type", "pay", "--format", "json").output)
    assert found["approvers"] == {"users": ["ann@ops"], "roles": ["finance"], "count": 2, "self": False}
    assert found["expires_s"] == 14_400.0
    for rule, line in (
        ("expires: 90s", "who may answer, for 90s: whoever is asked"),
        ("approvers: { self: true }", "who may answer: anybody whose name is known"),
        (
            "approval: block, approvers: { self: true }",
            "so it decides: block by `pay` at medium risk: rule `pay`",
        ),
    ):
        Path("policy.yaml").write_text(f"rules: [{{ name: pay, match: {{ type: pay }}, {rule} }}]")
        assert run("policy.yaml", "--type", "pay").output.splitlines()[-1].startswith(line)
