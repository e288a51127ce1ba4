"""`aegis policy show`, and `aegis audit show` with the policy that the audit keeps."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel import Action, Policy
from aegis_otel.audit.journal.policy_changes import CHANGES, read_changes, text_name
from aegis_otel.audit.location import POLICIES
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.runtime import Runtime

TEXT = "# why\nrules:\n- {name: large, match: {type: pay}, conditions: {param_gt: {n: 9}}, approval: block}\n"
OTHER = "version: '1'\nrules: [{name: all, approval: block}]\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """The policy of the audit in the working directory, which has one call."""
    monkeypatch.chdir(tmp_path)
    made = Policy.from_text(TEXT)
    runtime = Runtime(policy=made, audit_logger=AuditLogger())
    runtime.audit.log("s", made.evaluate(Action("pay", "bank", {"n": 10})))
    runtime.update_policy(Policy.from_text(OTHER))
    runtime.audit.close()
    return made


def test_the_text_is_printed(policy: Policy) -> None:
    for digest in (policy.digest, policy.digest[7:], policy.digest[:15]):
        result = run("policy", "show", digest)
        assert (result.output, result.exit_code) == (TEXT, 0)


def test_what_is_not_kept_is_exit_1(policy: Policy) -> None:
    result = run("policy", "show", "0" * 64)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert "no policy is kept with the digest" in result.stderr


def test_a_beginning_of_two_is_exit_1(policy: Policy) -> None:
    result = run("policy", "show", "sha256:")
    assert (result.stdout, result.exit_code) == ("", 1)
    assert policy.digest in result.stderr


@pytest.mark.parametrize("text", [OTHER, "rules: [", "\x00"])
def test_a_changed_text_is_not_shown(policy: Policy, text: str) -> None:
    Path("aegis_audit", text_name(policy.digest)).write_text(text)
    result = run("policy", "show", policy.digest)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert "is not what was in force" in result.stderr


def test_a_hostile_text_does_not_reach_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Policy.from_text("# \u202e reversed\nrules: []\n")
    runtime = Runtime(policy=made, audit_logger=AuditLogger())
    runtime.check()
    shown = run("policy", "show", made.digest).output
    assert "\u202e" not in shown
    assert "reversed" in shown


def test_a_call_is_explained_by_the_text_in_the_audit(policy: Policy) -> None:
    (row,) = AuditLogger().get_log()
    result = run("audit", "show", row["decision_id"])
    assert "=> large (block) matches" in result.output
    assert "so it decided: block by `large` at medium risk: rule `large` matched" in result.output
    answer = json.loads(run("audit", "show", "--format", "json", row["decision_id"]).output)
    assert answer["explanation"]["is_the_policy_that_decided"] is True


@pytest.mark.parametrize("others", ['{"ab": 1}', "[]", "[", "5", '[["a"]]'])
def test_a_call_is_shown_whatever_its_other_names_are(policy: Policy, others: str) -> None:
    (journal,) = Path("aegis_audit", "journal").glob("*.jsonl")
    row = json.loads(journal.read_bytes().splitlines()[0])
    line = json.dumps(row | {"decision_id": "planted", "other_names": others})
    Path("aegis_audit", "journal", "planted-000001.jsonl").write_text(f"{line}\n")
    result = run("audit", "show", "planted")
    assert result.exit_code == 0
    assert "rule `large` matched" in result.output


def test_changes_are_shown_by_sql(policy: Policy) -> None:
    result = run(
        "audit", "sql", "--format", "json", "SELECT change, rules, mode, policy_digest FROM policy_changes"
    )
    rows = json.loads(result.output)
    assert [row["change"] for row in rows] == ["started", "reloaded"]
    assert (rows[0]["policy_digest"], rows[0]["rules"], rows[0]["mode"]) == (policy.digest, 1, "enforce")
    assert len(list(read_changes(Path("aegis_audit")))) == 2
    assert AuditLogger().count() == 1


@pytest.mark.parametrize("planted", ["a pipe", "a directory", "a pipe for all"])
def test_what_cannot_be_read_takes_no_other_command_away(policy: Policy, planted: str) -> None:
    """A call is shown without an explanation, the report is made, and `verify` names what is there."""
    (row,) = AuditLogger().get_log()
    where = Path("aegis_audit", text_name(policy.digest))
    if planted == "a pipe for all":
        where = where.parent
        where.rename("moved")
    else:
        where.unlink()
    if planted == "a directory":
        where.mkdir()
    else:
        os.mkfifo(where)
    if planted != "a pipe for all":
        assert run("audit", "show", row["decision_id"]).exit_code == 0
        assert run("report", "--output", "report.html").exit_code == 0
    found = run("audit", "verify")
    assert found.exit_code == 1
    assert str(where.relative_to("aegis_audit")) in found.output
    assert "findings" in found.output or "finding" in found.output


PLANTED: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a file": lambda path: path.write_text("x"),
    "a directory": Path.mkdir,
}


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        *((POLICIES, each) for each in list(PLANTED)[:4]),
        *((CHANGES, each) for each in PLANTED if each != "a file"),
    ],
)
def test_rows_stay_readable_whatever_is_in_the_place_of_the_changes(
    policy: Policy, name: str, planted: str
) -> None:
    (row,) = AuditLogger().get_log()
    path = Path("aegis_audit", name)
    path.rename("moved")
    PLANTED[planted](path)
    commands = (
        ["audit"],
        ["audit", "show", row["decision_id"]],
        ["audit", "stats"],
        ["report", "--output", "r.html"],
    )
    for command in commands:
        result = run(*command)
        assert (result.exit_code, result.stderr) == (0, ""), command
    for command in (
        ["audit", "sql", "FROM audit"],
        ["audit", "sql", "FROM policy_changes"],
        ["audit", "sql", "--views"],
    ):
        result = run(*command)
        assert result.exit_code == 0, command
        assert len(result.stderr.splitlines()) == 1, command
        assert f"{path.absolute()}" in result.stderr
        assert result.stderr.endswith("; `policy_changes` is without it\n")
    shown = run("policy", "show", policy.digest)
    if name == POLICIES:
        assert (shown.exit_code, shown.stdout) == (1, "")
        assert shown.stderr == f"Error: `{path.absolute()}` is not a directory: move it away\n"
    else:
        assert (shown.exit_code, shown.stdout) == (0, TEXT)
    verified = run("audit", "verify")
    assert verified.exit_code == 1
    assert name in verified.output


def test_without_a_digest_the_kept_policies_are_listed(policy: Policy) -> None:
    result = run("policy", "show")
    assert result.exit_code == 0
    assert sorted(result.output.split()) == sorted([policy.digest, Policy.from_text(OTHER).digest])


def test_a_call_says_what_the_candidate_would_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runtime = Runtime(
        policy=Policy.from_text(TEXT), candidate=Policy.from_text(OTHER), audit_logger=AuditLogger()
    )
    asyncio.run(runtime.governor.authorize(Action("pay", "bank", {"n": 5})))
    runtime.audit.close()
    (row,) = AuditLogger().get_log()
    assert "\n  candidate     block by all\n" in run("audit", "show", row["decision_id"]).output
