"""The policies of examples/policies: sound, and tested by cases that notice when any rule matches nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from aegis_otel.cli import main as aegis

POLICIES = Path(__file__).parents[2] / "examples" / "policies"
FOLDERS = sorted(path.parent for path in POLICIES.glob("*/policy.yaml"))
each_policy = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def rules_of(folder: Path) -> list[str]:
    return [rule["name"] for rule in yaml.safe_load((folder / "policy.yaml").read_text())["rules"]]


def test_there_is_one_for_each_common_set_of_tools() -> None:
    assert [folder.name for folder in FOLDERS] == [
        *("airline", "coding_agent", "database", "github", "gmail", "kubernetes", "payments")
    ]
    readme = (POLICIES / "README.md").read_text()
    assert [folder.name for folder in FOLDERS if f"| [{folder.name}]({folder.name}) |" not in readme] == []


@each_policy
def test_every_case_passes_and_every_rule_is_reached(folder: Path) -> None:
    result = CliRunner().invoke(aegis, ["policy", "test", str(folder / "cases.yaml"), "--require-coverage"])
    assert result.exit_code == 0, result.output
    count = len(rules_of(folder))
    assert result.output.rstrip().endswith(f"0 failed; {count} of {count} rules reached")


@each_policy
def test_the_linter_has_nothing_to_say(folder: Path) -> None:
    result = CliRunner().invoke(aegis, ["policy", "check", "--strict", str(folder / "policy.yaml")])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("folder", "rule"),
    [(folder, rule) for folder in FOLDERS for rule in rules_of(folder)],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_a_case_fails_where_a_rule_matches_nothing(tmp_path: Path, folder: Path, rule: str) -> None:
    policy = yaml.safe_load((folder / "policy.yaml").read_text())
    next(each for each in policy["rules"] if each["name"] == rule)["match"] = {"type": "never called"}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
    shutil.copy(folder / "cases.yaml", tmp_path)
    result = CliRunner().invoke(aegis, ["policy", "test", str(tmp_path / "cases.yaml")])
    assert result.exit_code == 1, result.output
    assert "FAIL" in result.output
