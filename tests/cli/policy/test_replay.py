"""`aegis policy replay`: what it prints, its exit codes, and what it says of audits that it cannot use."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import SCHEMA_VERSION
from aegis_otel.cli import main
from aegis_otel.governance.recording import record_call
from aegis_otel.model import Action
from aegis_otel.policy import Policy
from tests.support.recorded_calls import START_NS, FixedSystem, MadeCall, write_calls

OLD = Policy.from_text("""
version: "1"
defaults: {approval: approve}
rules:
  - {name: reads, match: {type: read}, approval: auto}
  - {name: drops, match: {type: drop}, approval: block}
""")
LOOSER = """
version: "1"
defaults: {approval: approve}
rules:
  - {name: reads, match: {type: read}, approval: auto}
  - {name: drops, match: {type: drop}, approval: approve}
"""
STRICTER = """
version: "1"
defaults: {approval: approve}
rules:
  - {name: secret, match: {type: read}, conditions: {param_contains: {password: x}}, approval: block}
  - {name: reads, match: {type: read}, approval: auto}
  - {name: drops, match: {type: drop}, approval: block}
  - {name: pays, match: {type: pay}, approval: block}
"""
CALLS = [
    Action("read", params={"password": "hunter2"}),
    Action("drop"),
    Action("drop", "other"),
    Action("pay"),
]


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    folder = tmp_path / "audit"
    write_calls(folder, [MadeCall(action, START_NS + n) for n, action in enumerate(CALLS)], OLD).close()
    return folder


def run(folder: Path, policy: str, *options: str) -> Result:
    path = folder.parent / "new.yaml"
    path.write_text(policy)
    arguments = ["policy", "replay", str(path), "--path", str(folder), "--since", "2026-01-01", *options]
    return CliRunner().invoke(main, arguments)


def test_what_is_loosened_is_shown_with_examples(audit: Path) -> None:
    result = run(audit, LOOSER)
    assert result.output.splitlines() == [
        "4 calls: 2 decided alike, 2 otherwise, 0 cannot be replayed",
        "  looser: block by `drops` -> approve by `drops`: 2 calls",
        "      drop -> other {}  -0000003",
        "      drop {}  -0000002",
    ]
    assert result.exit_code == 1


def test_what_is_stricter_or_unknown_is_no_failure(audit: Path) -> None:
    result = run(audit, STRICTER)
    assert result.output.splitlines() == [
        "4 calls: 2 decided alike, 1 otherwise, 1 cannot be replayed",
        "  stricter: approve by `<default>` -> block by `pays`: 1 call",
        "      pay {}  -0000004",
        "Cannot be replayed:",
        "  1 call: rules read parameter `password`, of which something was redacted or cut",
        '      read {"password": "[REDACTED 7 chars]"}  -0000001',
    ]
    assert result.exit_code == 0


def test_json_has_it_all(audit: Path) -> None:
    result = run(audit, LOOSER, "--format", "json")
    found = json.loads(result.output)
    assert found["policy"]["digest"] == Policy.from_text(LOOSER).digest
    assert (found["calls"], found["same"], found["loosens"]) == (4, 2, True)
    assert found["differences"] == [
        {
            "effect": "looser",
            "approval": "block",
            "rule": "drops",
            "new_approval": "approve",
            "new_rule": "drops",
            "risk": "MEDIUM",
            "new_risk": "MEDIUM",
            "calls": 2,
            "examples": ["d-0000003", "d-0000002"],
        }
    ]
    assert found["cannot_be_replayed"] == []
    assert found["other_risk"] == 0


RISKIER = """
version: "1"
defaults: {approval: approve, risk_level: high}
rules:
  - {name: reads, match: {type: read}, approval: auto}
  - {name: stops, match: {type: drop}, approval: block, risk_level: low}
"""


def test_another_risk_is_shown_apart_and_loosens_nothing(audit: Path) -> None:
    """Alerts and sampling go by the risk, so such calls are not alike."""
    result = run(audit, RISKIER)
    assert result.output.splitlines() == [
        "4 calls: 1 decided alike, 2 otherwise, 1 alike but for the risk, 0 cannot be replayed",
        "  other rule: block by `drops`, MEDIUM -> block by `stops`, LOW: 2 calls",
        "      drop -> other {}  -0000003",
        "      drop {}  -0000002",
        "  other risk: approve by `<default>`, MEDIUM -> approve by `<default>`, HIGH: 1 call",
        "      pay {}  -0000004",
    ]
    assert result.exit_code == 0
    assert run(audit, RISKIER, "--strict").exit_code == 0
    found = json.loads(run(audit, RISKIER, "--format", "json").output)
    assert (found["same"], found["other_risk"], found["loosens"]) == (1, 1, False)
    assert [(each["effect"], each["risk"], each["new_risk"]) for each in found["differences"]] == [
        ("other rule", "MEDIUM", "LOW"),
        ("other risk", "MEDIUM", "HIGH"),
    ]


def test_calls_of_another_policy_are_counted(audit: Path) -> None:
    later = Policy.from_text(LOOSER)
    logger = write_calls(audit, [], later)
    record, *_ = record_call(later.evaluate(Action("read")), FixedSystem(), "s", START_NS + 10**10)
    record.decision_id = "d-9"
    logger.append(record)
    logger.close()
    output = run(audit, LOOSER).output
    assert "4 calls of these were decided by another policy than the last one (2 policies in all)" in output


def test_no_calls_are_nothing_to_replay(audit: Path) -> None:
    result = run(audit, LOOSER, "--since", "2027-01-01")
    assert (result.output, result.exit_code) == ("No calls since 2027-01-01: nothing to replay\n", 0)


def test_half_an_audit_is_replayed_and_the_rest_said(audit: Path) -> None:
    (journal,) = (audit / "journal").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + b"no record\n")
    result = run(audit, LOOSER)
    assert "2 calls: 1 decided alike" in result.stdout
    assert "Journal lines left out because they cannot be read" in result.stderr
    assert result.exit_code == 1


def test_an_audit_that_lacks_a_sealed_file_fails(audit: Path) -> None:
    """Calls in it may be decided more loosely, so a pipeline must not pass."""
    seal(audit)
    assert run(audit, STRICTER).exit_code == 0
    (segment,) = (each for each in (audit / "lake").rglob("*.parquet") if not each.name.startswith("_"))
    segment.unlink()
    result = run(audit, STRICTER, "--format", "json")
    assert result.exit_code == 1
    (missing,) = json.loads(result.stdout)["left_out"]
    assert missing in result.stderr


@pytest.mark.parametrize(
    ("policy", "options", "code", "message"),
    [
        (LOOSER, ["--path", "/nowhere/audit"], 1, "/nowhere/audit"),
        ("version: [", [], 3, "not valid YAML"),
        (LOOSER, ["--since", "yesterday"], 2, "`since` is `yesterday`: expected an ISO 8601 time"),
    ],
)
def test_what_cannot_be_used_is_one_message(
    audit: Path, policy: str, options: list[str], code: int, message: str
) -> None:
    result = run(audit, policy, *options)
    assert message in result.output
    assert result.exit_code == code
    assert "Traceback" not in result.output


def test_an_audit_of_a_newer_version_is_refused(audit: Path) -> None:
    logger = write_calls(audit, [], OLD)
    record, *_ = record_call(OLD.evaluate(Action("read")), FixedSystem(), "s", START_NS)
    record.schema_version, record.decision_id = SCHEMA_VERSION + 1, "d-9"
    logger.append(record)
    logger.close()
    result = run(audit, LOOSER)
    assert f"has rows of schema {SCHEMA_VERSION + 1}" in result.output
    assert result.exit_code == 1


def test_strict_fails_where_a_call_is_not_replayed_or_there_is_none(audit: Path) -> None:
    """Else a step of a pipeline would pass that has compared nothing."""
    for options in ([], ["--until", "2026-01-02"]):
        assert run(audit, STRICTER, *options).exit_code == 0
        assert run(audit, STRICTER, *options, "--strict").exit_code == 1
    same = OLD.to_yaml() or ""
    assert run(audit, same, "--strict").exit_code == 0


def test_several_files_are_separated_as_in_the_setting(audit: Path) -> None:
    (audit.parent / "first.yaml").write_text("rules: [{name: first, match: {type: drop}, approval: block}]")
    (audit.parent / "second.yaml").write_text(LOOSER)
    files = os.pathsep.join(str(audit.parent / name) for name in ("first.yaml", "second.yaml"))
    result = CliRunner().invoke(
        main, ["policy", "replay", files, "--path", str(audit), "--since", "2026-01-01"]
    )
    assert "other rule: block by `drops` -> block by `first`: 2 calls" in result.output


def test_an_audit_without_policies_is_replayed(audit: Path) -> None:
    """The texts of the policies that decided are not needed."""
    expected = run(audit, LOOSER)
    shutil.rmtree(audit / "policies", ignore_errors=True)
    assert not (audit / "policies").exists()
    result = run(audit, LOOSER)
    assert (result.output, result.exit_code) == (expected.output, 1)


def test_an_empty_directory_is_no_audit_and_one_without_calls_has_nothing_to_replay(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    result = run(folder, LOOSER)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert result.stderr.startswith(f"no audit at `{folder}` (the directory is empty)")
    assert len(result.stderr.splitlines()) == 1
    (folder / "journal").mkdir()
    result = run(folder, LOOSER)
    assert (result.output, result.exit_code) == ("No calls since 2026-01-01: nothing to replay\n", 0)
    assert run(folder, LOOSER, "--strict").exit_code == 1


def test_malformed_rows_are_counted_with_their_reason(audit: Path) -> None:
    (journal,) = (audit / "journal").glob("*.jsonl")
    row = json.loads(journal.read_bytes().splitlines()[1])
    planted = {"other_names": '{"ab": 1}'}, {"arguments_reading": "guessed"}, {"action_type": None}
    for number, fields in enumerate(planted):
        line = json.dumps(row | fields | {"decision_id": f"planted-{number}"})
        (audit / "journal" / f"planted-00000{number}.jsonl").write_text(f"{line}\n")
    result = run(audit, STRICTER)
    assert "7 calls: 2 decided alike, 1 otherwise, 4 cannot be replayed" in result.output
    assert "1 call: the row says what this version does not understand of their other names" in result.output
    assert "1 call: the row says what this version does not understand of their arguments" in result.output
    assert result.exit_code == 0
    assert run(audit, STRICTER, "--strict").exit_code == 1
