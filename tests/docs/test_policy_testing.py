"""docs/policy-testing.md: its commands print what is shown, and its CI file does what it says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner, Result

from aegis_otel.cli import main
from aegis_otel.policy_tools.case_keys import SECTIONS
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "policy-testing.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    language: str
    file: str
    """The file name after the language, where there is one."""
    text: str


BLOCKS = [
    Block(match[1], match[2] or "", match[3])
    for match in re.finditer(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
]
COMMANDS = [
    part
    for block in BLOCKS
    if block.language == "console"
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if part
]
(WORKFLOW,) = [yaml.safe_load(block.text) for block in BLOCKS if block.file.startswith(".github/")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder: every file the document shows is in it."""
    for block in BLOCKS:
        if block.file:
            path = tmp_path / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("shop", None)  # each folder has its own
    return tmp_path


def aegis(command: str) -> Result:
    program, *arguments = shlex.split(command)
    assert program == "aegis"
    return CliRunner().invoke(main, arguments)


def record_a_week() -> None:
    """Record the calls that the document's draft is from, as a program in monitor mode does."""
    calls = [("get_customer", {"customer_id": f"c{number}"}, "approve") for number in range(30)]
    calls += [("refund", {"amount": number, "currency": "EUR"}, "approve") for number in range(1, 13)]
    calls += [("delete_customer", {"customer_id": "c1"}, "block")]
    audit = AuditLogger("aegis_audit")
    for number, (name, params, approval) in enumerate(calls):
        audit.append(
            decided(
                decision_id=f"01930000-0000-7000-8000-{number:012}",
                timestamp=datetime.now(UTC).isoformat(timespec="microseconds"),
                action_type=name,
                action_target="default",
                agent_name="Clerk",
                action_params=json.dumps(params),
                approval=approval,
                mode="monitor",
            )
        )
    audit.close()


@pytest.mark.parametrize("shown", COMMANDS)
def test_every_command_prints_what_is_shown(shown: str) -> None:
    """`…` stands for what is left out."""
    command, _, output = shown.partition("\n")
    if "first-policy.yaml" in command and "--out" not in command:
        aegis("aegis policy init shop:clerk --out first-policy.yaml")  # as the command before it does
    if "--from-audit" in command:
        record_a_week()
    result = aegis(command)
    pattern = ".*".join(map(re.escape, output.split("…")))
    assert re.fullmatch(pattern, result.output, re.DOTALL), result.output


def test_the_ci_file_is_a_workflow() -> None:
    """YAML 1.1 reads its key `on` as true."""
    assert set(WORKFLOW) == {"name", True, "permissions", "jobs"}
    assert set(WORKFLOW[True]) == {"push", "pull_request"}
    (job,) = WORKFLOW["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest"
    for step in job["steps"]:
        assert len({"uses", "run"} & set(step)) == 1
        assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])


def test_the_commands_of_the_ci_file_pass(folder: Path) -> None:
    """And the file that is uploaded is there."""
    steps: list[dict[str, Any]] = WORKFLOW["jobs"]["policy"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands[0] == "pip install -r requirements.txt"
    for command in commands[1:]:
        result = aegis(command)
        assert result.exit_code == 0, result.output
    (uploaded,) = [step["with"]["path"] for step in steps if "upload" in step.get("uses", "")]
    assert (folder / uploaded).exists()


def test_every_key_is_described() -> None:
    tables = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    keys = {
        f"{name}.{key}" if name in ("action", "expect") else key
        for name, section in SECTIONS.items()
        for key in section
    }
    keys -= {"action", "expect"}
    assert {key for key in keys if f"`{key}`" not in tables} == set()
