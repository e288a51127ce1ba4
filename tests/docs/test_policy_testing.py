"""docs/policy-testing.md: every block works in turn, from an empty folder; so do its workflows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from aegis_otel.policy_tools.case_keys import SECTIONS
from tests.support.pages import (
    blocks_of,
    commands_of,
    follow,
    read_page,
    run_in_shell,
    section_of,
    unnamed_files,
)

TEXT = read_page("policy-testing.md")
BLOCKS = blocks_of(TEXT)
TEN_MINUTES = blocks_of(section_of(TEXT, "From an agent to CI in ten minutes"))
WORKFLOW, DIFF = [block.text for block in BLOCKS if block.file.startswith(".github/")]
_OF_ANOTHER_TEST = ("python3 -m venv", "pip ", "ls vendor/")  # tests/test_package.py


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("shop", None)  # each folder has its own
    return tmp_path


@pytest.mark.timeout(300)
def test_every_block_works_in_turn(folder: Path) -> None:
    follow(BLOCKS, folder, _OF_ANOTHER_TEST)


@pytest.mark.timeout(300)
def test_the_steps_of_the_first_workflow_pass_and_notice_a_change_of_the_agent(folder: Path) -> None:
    follow(TEN_MINUTES, folder, _OF_ANOTHER_TEST)
    install, *commands = commands_in(WORKFLOW)
    assert install == "pip install -r requirements.txt"
    for command in commands:
        ran = run_in_shell(command, folder)
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    (uploaded,) = [step["with"]["path"] for step in steps_of(WORKFLOW) if "upload" in step.get("uses", "")]
    assert (folder / uploaded).exists()

    shop = (folder / "shop.py").read_text()
    changes = [("amount: float", "total: float"), ("delete_customer", "delete_everything")]
    for old, new in changes:  # rules match the other tool all the same, by `delete_*`
        (folder / "shop.py").write_text(shop.replace(old, new))
        assert any(run_in_shell(command, folder).returncode for command in commands)


@pytest.mark.timeout(300)
def test_the_second_workflow_compares_with_the_base_branch(folder: Path) -> None:
    """In a clone of a repository whose branch `main` has the first policy."""
    follow(TEN_MINUTES, folder, _OF_ANOTHER_TEST)
    git = "git -c user.name=a -c user.email=a@example.org"
    made = run_in_shell(
        f"git init -qb main && git add . && {git} commit -qm one && git clone -q . clone", folder
    )
    assert made.returncode == 0, made.stderr
    clone, summary = folder / "clone", folder / "summary.md"
    _, command = commands_in(DIFF)
    settings = {"GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(summary)}
    assert run_in_shell(command, clone, **settings).returncode == 0

    (new,) = [block for block in BLOCKS if block.file == "new-policy.yaml"]
    (clone / "policy.yaml").write_text(new.text)
    ran = run_in_shell(command, clone, **settings)
    assert ran.returncode == 1, ran.stderr
    assert "looser: block at critical risk by `large_refund`" in ran.stdout
    assert ran.stdout in summary.read_text()


@pytest.mark.parametrize("text", [WORKFLOW, DIFF], ids=["test", "diff"])
def test_a_ci_file_is_a_workflow(text: str) -> None:
    """YAML 1.1 reads its key `on` as true."""
    workflow = yaml.safe_load(text)
    assert set(workflow) == {"name", True, "permissions", "jobs"}
    assert "pull_request" in workflow[True]
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest"
    for step in job["steps"]:
        assert len({"uses", "run"} & set(step)) == 1
        assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        # Only bash that is named fails where a command before a pipe does; `diff` fails without its input.
        assert " | tee" not in step.get("run", "") or step["shell"] == "bash"


def steps_of(workflow: str) -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(workflow)["jobs"].values()
    return list(job["steps"])


def commands_in(workflow: str) -> list[str]:
    return [step["run"] for step in steps_of(workflow) if "run" in step]


def test_the_page_says_where_to_save_each_file() -> None:
    assert unnamed_files(BLOCKS) == []


def test_every_command_is_of_a_kind_that_a_test_runs() -> None:
    commands = [
        command for block in BLOCKS if block.language == "console" for command, _ in commands_of(block)
    ]
    others = [command for command in commands if not re.match(r"(AEGIS_\w+=\S+ )?(aegis|python) ", command)]
    assert [command for command in others if not command.startswith(_OF_ANOTHER_TEST)] == []


def test_every_key_is_described() -> None:
    tables = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    keys = {
        f"{name}.{key}" if name in ("action", "expect") else key
        for name, section in SECTIONS.items()
        for key in section
    }
    keys -= {"action", "expect"}
    assert {key for key in keys if f"`{key}`" not in tables} == set()
