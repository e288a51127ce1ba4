"""Every example runs as its README says, in a copy of its folder, and prints what its README prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel.cli import main as aegis
from aegis_otel.runtime.audit import AuditLogger

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/main.py"))
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TIME = re.compile(r"\b(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\b")
_SESSION = re.compile(r"--session \S+\)")
_ID = re.compile(r"\b[0-9a-f]{8}\b")

Rows = set[tuple[str, str, str | None, str, str]]
ROWS: dict[str, Rows] = {  # agent, tool, what the policy asks for, mode, what came of it
    "quickstart": {
        ("Research Assistant", "web_search", "auto", "enforce", "success"),
        ("Research Assistant", "write_report", "approve", "enforce", "success"),
        ("Research Assistant", "delete_document", "block", "enforce", "blocked"),
    },
    "drop_in": {
        ("Assistant", "read_file", "auto", "enforce", "success"),
        ("Assistant", "delete_file", "block", "enforce", "blocked"),
    },
    "monitor_mode": {
        ("Support", "refund", "auto", "monitor", "success"),
        ("Support", "refund", "approve", "monitor", "success"),
        ("Support", "refund", "block", "monitor", "success"),
        ("Support", "send_mail", "block", "monitor", "success"),
    },
    "sdk_approvals": {
        ("Clerk", "pay_invoice", "approve", "enforce", "success"),
        ("Clerk", "pay_invoice", "approve", "enforce", "denied"),
    },
    "slack_approvals": {
        ("Clerk", "pay_invoice", "approve", "enforce", "success"),
    },
    "mcp_server": {
        ("Storekeeper", "count_stock", "auto", "enforce", "success"),
        ("Storekeeper", "write_off", "block", "enforce", "blocked"),
    },
    "handoff": {
        ("Front desk", "refund", "block", "enforce", "blocked"),
        ("Billing", "refund", "auto", "enforce", "success"),
    },
    "beside_another_instrumentor": {
        ("Support", "find_customer", "auto", "enforce", "success"),
        ("Support", "delete_customer", "block", "enforce", "blocked"),
    },
}


def blocks(readme: Path) -> list[tuple[str, str]]:
    """Each command of the README, and what it says the command prints."""
    found = []
    for block in _CONSOLE.findall(readme.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def run(command: str, folder: Path) -> str:
    """What a reader in that folder sees at the terminal; without settings, and with warnings as errors."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AEGIS_", "OTEL_", "OPENAI_")) and name != "COLUMNS"
    }
    done = subprocess.run(
        re.sub(r"^aegis\b", "aegis-otel", command),  # its other name: a peer in this environment has `aegis`
        shell=True,
        cwd=folder,
        env={
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",  # so that what goes to stderr stays in its place
            "PYTHONWARNINGS": "error",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def meaning(output: str) -> list[str]:
    """The lines without what differs from run to run; equal ids stay equal, and different ones different."""
    names: dict[str, str] = {}
    output = _SESSION.sub("--session <id>)", _TIME.sub("<a moment ago>", output))
    output = _ID.sub(lambda id: names.setdefault(id[0], f"<id {len(names)}>"), output)
    return [line.rstrip() for line in output.splitlines() if line.strip()]


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An example's folder, where nothing of the repository is beside it."""
    folder = tmp_path / request.param.name
    shutil.copytree(request.param, folder, ignore=shutil.ignore_patterns("aegis_audit", "state.json"))
    return folder


@pytest.mark.timeout(300)  # up to four programs in turn, each with the SDK to import
@pytest.mark.parametrize("copied", EXAMPLES, ids=lambda path: path.name, indirect=True)
def test_an_example_does_what_its_readme_says(copied: Path) -> None:
    """Every command in turn, to the letter; and every row of the audit in the end."""
    promised = blocks(copied / "README.md")
    printed = [(command, run(command, copied)) for command, _ in promised]
    print(_transcript(printed))  # to paste, where the program is right
    assert meaning(_transcript(printed)) == meaning(_transcript(promised))
    rows: list[Any] = AuditLogger(copied / "aegis_audit").get_log()
    assert {
        (row["agent_name"], row["tool_name"], row["approval"], row["mode"], row["result_status"])
        for row in rows
    } == ROWS[copied.name]


def _transcript(outputs: list[tuple[str, str]]) -> str:
    return "\n".join(f"$ {command}\n{output}" for command, output in outputs)


def test_every_example_is_in_the_table_and_whole() -> None:
    """Each has a README, a program and a policy without findings."""
    listed = re.findall(r"^\| \[(\w+)\]\(\1\) \|", (ROOT / "examples" / "README.md").read_text(), re.M)
    assert sorted(listed) == [example.name for example in EXAMPLES] == sorted(ROWS)
    for example in EXAMPLES:
        checked = CliRunner().invoke(aegis, ["policy", "check", str(example / "policy.yaml")])
        assert checked.exit_code == 0, checked.output
        readme = example / "README.md"
        assert blocks(readme), example.name
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", readme.read_text()):
            assert (example / target).exists(), f"{readme} links to {target}"


@pytest.mark.parametrize(
    "copied", [ROOT / "examples" / "beside_another_instrumentor"], ids=["other"], indirect=True
)
def test_an_example_says_which_package_it_lacks(copied: Path) -> None:
    """In one line, and nothing runs."""
    without = "import sys, runpy; sys.modules['opentelemetry.instrumentation.genai'] = None"
    output = run(f"python -c \"{without}; runpy.run_path('main.py')\" || true", copied)
    assert output == "first: pip install opentelemetry-instrumentation-genai-openai-agents==1.3b0\n"
    assert not (copied / "aegis_audit").exists()
