"""docs/policy.md: every policy loads, every snippet runs, every command prints what is shown."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.cli import main
from aegis_otel.policy.lint import lint
from aegis_otel.policy.lint.finding import TEXTS
from aegis_otel.policy.loading.schema import KEYS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    language: str
    file: str
    """The file name after the language, where there is one."""
    text: str


BLOCKS = [
    Block(match[1], match[2] or "", match[3])
    for match in re.finditer(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
]
POLICIES = [block for block in BLOCKS if block.language == "yaml"]
COMMANDS = [
    part
    for block in BLOCKS
    if block.language == "console"
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if part
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder: every file the document shows is in it."""
    for block in BLOCKS:
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", POLICIES, ids=lambda block: block.file or block.text[:40])
def test_every_policy_loads(block: Block) -> None:
    """But for the one that shows what is refused; and none has a finding, but for the one that shows some."""
    if block.file == "broken.yaml":
        with pytest.raises(PolicyError):
            Policy.from_text(block.text)
        return
    errors = [finding for finding in lint(Policy.from_text(block.text)) if finding.severity == "error"]
    assert len(errors) == (1 if block.file == "shadowed.yaml" else 0)


@pytest.mark.parametrize("snippet", [block.text for block in BLOCKS if block.language == "python"])
def test_every_snippet_runs(snippet: str, folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("shown", COMMANDS)
def test_every_command_prints_what_is_shown(shown: str) -> None:
    """`…` stands for what is left out."""
    command, _, output = shown.partition("\n")
    program, *arguments = shlex.split(command)
    assert program == "aegis"
    result = CliRunner().invoke(main, arguments)
    pattern = ".*".join(map(re.escape, output.split("…")))
    assert re.fullmatch(pattern, result.output, re.DOTALL), result.output


def test_every_key_is_described() -> None:
    """Each stands in a table, and in a policy that loads."""
    keys = {key for section in KEYS.values() for key in section} - {"match"}
    tables = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    policies = "\n".join(block.text for block in POLICIES)
    assert {key for key in keys if not re.search(rf"`(\w+\.)?{key}`", tables)} == set()
    assert {key for key in keys if f"{key}:" not in policies} == set()


def test_every_finding_is_described() -> None:
    """The table of docs/policy.md names what the linter can find, and nothing else."""
    kinds = {what.partition("/")[0] for what in TEXTS}
    table = TEXT[TEXT.index("| finding | severity |") :].partition("\n\n")[0]
    described = {
        kind for line in table.splitlines()[2:] for kind in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    assert kinds == described


def test_every_text_of_a_finding_is_used() -> None:
    """Each key of data/findings.json stands in a check."""
    source = "".join(path.read_text() for path in (ROOT / "aegis_otel/policy/lint").glob("*.py"))
    made = {f"no-{what}" for what in ("target", "agent")}
    assert {what for what in TEXTS if f'"{what}"' not in source} == made


def test_the_globs_do_not_match_what_is_said() -> None:
    """B23, as the document has it."""
    said = re.search(r"What `delete_\*` does \*\*not\*\* match:\n\n(.*?)\n\n", TEXT, re.DOTALL)
    assert said
    policy = Policy.from_dict({"rules": [{"name": "r", "match": {"type": "delete_*"}}]})
    names = re.findall(r"^- `(\w+|\w+-\w+)`", said[1], re.MULTILINE)
    assert len(names) == 4
    assert [policy.evaluate(Action(name)).matched_rule for name in names] == ["<default>"] * 4


def test_the_weekend_window_is_as_said() -> None:
    from datetime import UTC, datetime

    (policy,) = [Policy.from_text(block.text) for block in POLICIES if "weekend_nights" in block.text]
    hours = {
        datetime(2026, 3, 7, 5): "<default>",  # a Saturday
        datetime(2026, 3, 7, 22): "weekend_nights",
        datetime(2026, 3, 9, 5, 59): "weekend_nights",
        datetime(2026, 3, 9, 6): "<default>",
    }
    assert {
        hour: policy.evaluate(Action("deploys"), now=hour.replace(tzinfo=UTC)).matched_rule for hour in hours
    } == hours
