"""Every snippet and command of the README, docs/approvals.md and docs/executors.md runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from aegis_otel import Action, Policy
from aegis_otel.cli import main as aegis
from aegis_otel.config import SETTINGS
from aegis_otel.runtime.audit import AuditLogger
from tests.support.pages import blocks_of
from tests.support.records import decided

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "docs/approvals.md", "docs/executors.md"]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    document: str
    language: str
    text: str
    then: str
    """What follows the block in the document."""


def blocks(*languages: str) -> list[Block]:
    found = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        found += [
            Block(document, match[1], match[2], text[match.end() :])
            for match in _BLOCK.finditer(text)
            if match[1] in languages
        ]
    return found


def commands() -> list[str]:
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder: the README's policy is in it, and an audit."""
    (policy,) = [block.text for block in blocks("yaml")]
    (tmp_path / "policy.yaml").write_text(policy)
    audit = AuditLogger(tmp_path / "aegis_audit")
    audit.log("earlier", Policy.from_text(policy).evaluate(Action("delete_document")))
    audit.append(decided(mode="monitor", approval="block", matched_rule="would_block", action_type="drop"))
    audit.close()
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "block", blocks("python"), ids=lambda block: f"{block.document}: {block.text[-40:]!r}"
)
def test_python_snippets_run(block: Block, folder: Path) -> None:
    """Each in a process of its own, without a warning, and it prints what the text says it prints."""
    ran = python(folder, "-c", block.text)
    assert ran.returncode == 0, ran.stderr
    promised = re.match(r"\s*It prints:\s*```text\n(.*?)```", block.then, re.DOTALL)
    if promised:
        assert ran.stdout == promised[1]


def test_every_command_is_of_a_kind_that_a_test_runs() -> None:
    """`aegis` and `python` below, the rest by test_package.py and test_auto_instrument.py."""
    assert {command.split()[0] for command in commands()} == {
        *("aegis", "python", "make", "pip", "python3"),
        *("export", "opentelemetry-instrument"),
    }


def test_aegis_commands_run(folder: Path) -> None:
    """In the README's order, after an agent that had a document to delete."""
    (example,) = [block.text for block in blocks("python") if "delete_document" in block.text]
    (folder / "app.py").write_text(example)
    outputs = {}
    for command in commands():
        program, *arguments = shlex.split(command)
        if program == "python":
            ran = python(folder, *arguments)
            assert "tool:  [AEGIS BLOCKED]" in ran.stdout, ran.stderr
        elif command.startswith(("aegis demo", "aegis doctor")):  # they change the SDK, for the whole process
            ran = python(folder, "-m", "aegis_otel", *arguments)
            assert ran.returncode == 0, ran.stdout + ran.stderr
        elif command.startswith("aegis "):
            result = CliRunner().invoke(aegis, arguments)
            assert result.exit_code == 0, (command, result.output)
            outputs[command] = result.output
    assert "block_deletes" in outputs["aegis audit"]
    (watched,) = [output for command, output in outputs.items() if "'monitor'" in command]
    assert "would_block" in watched
    assert "block_deletes" not in watched, "it was enforced"
    assert "block_deletes" in (folder / "audit_export.jsonl").read_text()
    assert "PASSED" in (folder / "report.html").read_text()


def test_the_settings_table_is_the_settings() -> None:
    """Each setting is in the README with its variable, default and meaning."""
    readme = (ROOT / "README.md").read_text()
    for setting in SETTINGS:
        default = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
        assert f"| `{setting.env}` | {f'`{default}`' if default else ''} | {setting.meaning} |" in readme


def test_the_reference_names_each_document_once() -> None:
    rows = re.findall(r"^\| \[[^\]]*\]\(([^)]+)\) \|", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) > 5
    assert sorted(set(rows)) == sorted(rows)


def test_links_lead_somewhere() -> None:
    """Every relative link of every document is a file of the repository."""
    for document in ROOT.glob("**/*.md"):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_links_to_headings_lead_to_one() -> None:
    """By the anchors that GitHub makes of headings."""
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", document.read_text()):
            text = _FENCED.sub("", (document.parent / target if target else document).read_text())
            headings = [
                re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
                for title in re.findall(r"^#+ (.+)$", text, re.M)
            ]
            assert headings.count(anchor) == 1, f"{document.name} links to {target}#{anchor}"


def test_the_quickstart_example(tmp_path: Path) -> None:
    """`make demo`'s program: three calls, the audit's table, and one id in row, span and event."""
    shutil.copytree(ROOT / "examples" / "quickstart", tmp_path / "quickstart")
    ran = python(tmp_path, "quickstart/main.py", "--show-signals")
    assert ran.returncode == 0, ran.stderr
    shown = ran.stdout
    assert "scripted model, offline" in shown
    assert "tool:  Search results for 'AI governance best practices'" in shown
    assert "tool:  Report 'AI governance' saved" in shown
    assert "tool:  [AEGIS BLOCKED] Action blocked by policy rule: block_deletes" in shown
    spans, events = shown.split("Spans:")[1].split("Events:")
    for tool, outcome in (
        ("web_search", "allowed"),
        ("write_report", "approved"),
        ("delete_document", "blocked"),
    ):
        (span,) = [line for line in spans.splitlines() if line.strip().startswith(f"govern_tool {tool}")]
        (decision,) = re.findall(r"id=(\S+)", span)
        assert f"outcome={outcome}" in span
        assert f"id={decision}" in events
        assert decision in shown.split("Spans:")[0], "the id of the audit's table"
    assert "aegis.decisions = 1" in events
    assert "execute_tool delete_document" not in spans


def test_the_limits_of_the_readme_are_found_right(tmp_path: Path) -> None:
    (block,) = [each for each in blocks_of((ROOT / "README.md").read_text()) if each.file == "limits.yaml"]
    (tmp_path / block.file).write_text(block.text)
    checked = CliRunner().invoke(aegis, ["policy", "check", "--strict", str(tmp_path / block.file)])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("page", ["README.md", "docs/approvals.md", "docs/approvals-production.md"])
def test_pages_name_the_extra_that_they_need(page: str) -> None:
    """And no other name than those of this project."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lists = re.findall(r"'[a-z./-]+\[([a-z0-9,]+)\]'", (ROOT / page).read_text())
    named = {name for each in lists for name in each.split(",")}
    assert {"approvals", "postgres"} <= named <= set(extras)
