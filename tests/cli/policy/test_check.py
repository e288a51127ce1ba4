"""`aegis policy`: what it prints, and its exit codes. Inventory 106, 107."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from aegis_otel import Policy
from aegis_otel.cli.policy import policy

GOOD = "version: '1'\ndefaults: { approval: auto, risk_level: low }\nrules: [{ name: a }]\n"
SHADOWED = "defaults: {}\nrules:\n  - name: a\n  - name: b\n"
WARNED = "defaults: {}\nrules:\n  - match: { type: 'x[1]' }\n"
INVALID = "rules:\n  - aproval: block\n    name: 5\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("policy.yaml")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(policy, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_a_valid_policy(file: Path) -> None:
    file.write_text(GOOD)
    result = run("check", "policy.yaml")
    digest = Policy.from_yaml(file).digest
    assert result.output == f"policy valid: 1 rule, default auto at low risk, {digest}\n"
    assert result.exit_code == 0


def test_a_rule_without_effect_is_exit_1(file: Path) -> None:
    file.write_text(SHADOWED)
    result = run("check", "policy.yaml")
    assert result.exit_code == 1
    assert result.output.splitlines()[0] == (
        "policy.yaml:4:5: error[shadowed]: rule `b` can never match: shadowed by `a` at policy.yaml:3:5"
    )
    assert result.output.splitlines()[1].startswith("policy loads, with 1 error: 2 rules, ")


def test_warnings_are_exit_0(file: Path) -> None:
    file.write_text(WARNED)
    result = run("check", "policy.yaml")
    assert result.exit_code == 0
    assert result.output.startswith("policy.yaml:3:20: warning[pattern]: pattern `x[1]` has a `[`")


def test_an_invalid_policy_is_exit_3(file: Path) -> None:
    file.write_text(INVALID)
    result = run("check", "policy.yaml")
    assert result.exit_code == 3
    assert result.output == (
        "policy.yaml:2:5: unknown key `aproval` in a rule (did you mean `approval`?)\n"
        "policy.yaml:3:11: `name` must be text, not the number `5`\n"
    )


def test_a_missing_file_is_exit_3(file: Path) -> None:
    result = run("check", "none.yaml")
    assert (result.exit_code, result.output) == (3, "none.yaml: policy file not found\n")


def test_no_file_is_wrong_usage() -> None:
    assert run("check").exit_code == 2


def test_several_files_are_merged_in_their_order(file: Path) -> None:
    Path("prod.yaml").write_text("rules: [{ name: p, match: { type: x } }]\n")
    file.write_text(GOOD)
    result = run("check", "prod.yaml", "policy.yaml")
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == (
        "prod.yaml:1:1: warning[defaults]: no `defaults` here: those of policy.yaml:2:1 hold, auto and low"
    )
    assert "policy valid: 2 rules, default auto" in result.output
    assert run("check", "policy.yaml", "prod.yaml").exit_code == 1  # then `p` stands behind `a`


def test_json_of_a_valid_policy(file: Path) -> None:
    file.write_text(SHADOWED)
    result = run("check", "policy.yaml", "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.output) == {
        "valid": True,
        "sources": ["policy.yaml"],
        "rules": 2,
        "defaults": {"approval": "approve", "risk_level": "medium"},
        "digest": Policy.from_yaml(file).digest,
        "findings": [
            {
                "severity": "error",
                "kind": "shadowed",
                "message": "rule `b` can never match: shadowed by `a` at policy.yaml:3:5",
                "source": "policy.yaml",
                "line": 4,
                "column": 5,
                "suggestion": None,
            }
        ],
        "allowed": 0,
        "not_governable": [],
    }


def test_json_of_an_invalid_policy(file: Path) -> None:
    file.write_text(INVALID)
    result = run("check", "policy.yaml", "--format", "json")
    assert result.exit_code == 3
    report = json.loads(result.output)
    assert report["valid"] is False
    assert report["problems"][0] == {
        "message": "unknown key `aproval` in a rule",
        "source": "policy.yaml",
        "line": 2,
        "column": 5,
        "suggestion": "approval",
    }


def test_tools(file: Path) -> None:
    file.write_text(
        "defaults: {}\nrules: [{ match: { type: pay }, conditions: { param_gt: { amuont: 1 } } }]\n"
    )
    Path("tools.json").write_text('{"pay": {"properties": {"amount": {}}}, "ask": {}}')
    result = run("check", "policy.yaml", "--tools", "tools.json")
    assert result.exit_code == 0
    assert "tool `ask` is covered by no rule" in result.output
    assert "(did you mean `amount`?)" in result.output


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pay": 5}', "[" * 100_000, "\xff"])
def test_tools_that_are_no_schemas_are_wrong_usage(file: Path, content: str) -> None:
    file.write_text(GOOD)
    Path("tools.json").write_bytes(content.encode("latin-1"))
    result = run("check", "policy.yaml", "--tools", "tools.json")
    assert result.exit_code == 2
    assert "--tools" in result.output


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_hostile_policy_cannot_steer_the_terminal(file: Path, form: str) -> None:
    hostile = r'"\e[2J\r\u202epolicy valid"'
    file.write_text(f"rules:\n  - name: {hostile}\n    match: {{ {hostile}: x }}\n    approval: {hostile}\n")
    name = "\x1b[2J.yaml"
    Path(name).write_text(file.read_text())
    for path in ("policy.yaml", name):
        result = run("check", path, "--format", form)
        assert result.exit_code == 3
        assert all(c.isprintable() or c == "\n" for c in result.output)
        if form == "text":
            assert len(result.output.splitlines()) == 3


def test_the_schema_is_printed() -> None:
    result = run("schema")
    assert result.exit_code == 0
    Draft202012Validator.check_schema(json.loads(result.output))


def test_standard_input_and_several_files_can_be_checked(file: Path) -> None:
    result = CliRunner().invoke(policy, ["check", "-"], input=SHADOWED)
    assert result.output.startswith("<stdin>:4:5: error[shadowed]: rule `b` can never match")
    file.write_text(GOOD)
    Path("more.yaml").write_text("rules: [{ name: b, match: { type: x }, approval: block }]\n")
    assert ": 2 rules, " in run("check", f"more.yaml{os.pathsep}policy.yaml").output
    merged = CliRunner().invoke(policy, ["check", "-", "policy.yaml"], input=SHADOWED)
    assert (merged.exit_code, "cannot be merged" in merged.output) == (2, True)


def test_a_kind_of_warning_can_be_allowed(file: Path) -> None:
    """Else one warning that is meant would keep --strict from ever passing."""
    file.write_text(WARNED)
    assert run("check", "--strict", "policy.yaml").exit_code == 1
    result = run("check", "--strict", "--allow", "pattern", "policy.yaml")
    assert result.exit_code == 0
    assert result.output.startswith("policy valid: 1 rule, ")
    assert result.output.endswith("; 1 warning allowed\n")
    report = json.loads(run("check", "--allow", "pattern", "policy.yaml", "--format", "json").output)
    assert (report["findings"], report["allowed"]) == ([], 1)


def test_an_error_cannot_be_allowed_and_neither_what_is_no_kind(file: Path) -> None:
    file.write_text(SHADOWED)
    assert run("check", "--allow", "shadowed", "policy.yaml").exit_code == 1
    result = run("check", "--allow", "shadow", "policy.yaml")
    assert (result.exit_code, "did you mean `shadowed`?" in result.output) == (2, True)
