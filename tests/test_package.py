"""What a newcomer gets: the wheel, an empty environment, a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.support.pages import blocks_of, commands_of, read_page, save, section_of

ROOT = Path(__file__).parents[1]
_NOT_SOURCE = shutil.ignore_patterns(".git", "__pycache__", "aegis_audit", "*.egg-info")


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The tree as it is now, as a clone would have it."""
    return shutil.copytree(ROOT, tmp_path / "clone", ignore=_NOT_SOURCE)


@pytest.mark.timeout(600)
def test_the_wheel(clone: Path, tmp_path: Path) -> None:
    """It carries py.typed and the package, and neither tests nor benchmarks."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", cwd=clone)
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert "aegis_otel/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"aegis_otel"}


@pytest.mark.timeout(600)
def test_use_it_in_a_new_folder(clone: Path, tmp_path: Path) -> None:
    """Every command of the README's "Use it", in one shell, beside a clone; then the import is free."""
    (clone.parent / "aegis-otel").symlink_to(clone)
    text = (ROOT / "README.md").read_text().partition("\n## Use it\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    folder = tmp_path / "mine"
    folder.mkdir()
    for language, name in (("yaml", "policy.yaml"), ("python", "app.py")):
        (content,) = (found for kind, found in blocks if kind == language)
        (folder / name).write_text(content)
    commands = [
        line.removeprefix("$ ") for kind, found in blocks if kind == "console" for line in found.splitlines()
    ]
    assert {"python3", "pip", "python", "aegis"} == {command.split()[0] for command in commands}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shown = run(
        "bash", "-e", "-c", "\n".join(commands), cwd=folder, PATH=path, PIP_DISABLE_PIP_VERSION_CHECK="1"
    )
    assert "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes" in shown

    binaries = folder / ".venv" / "bin"
    empty = tmp_path / "empty"
    empty.mkdir()
    imported = run(
        binaries / "python",
        "-c",
        "import sys, threading, os; before = set(os.listdir('.')); import aegis_otel;"
        "print(threading.active_count(), [m for m in ('agents', 'duckdb') if m in sys.modules],"
        " set(os.listdir('.')) - before)",
        cwd=empty,
    )
    assert imported.strip() == "1 [] set()"
    assert "audit" in run(binaries / "aegis", "--help", cwd=empty)
    assert "audit" in run(binaries / "aegis-otel", "--help", cwd=empty)


@pytest.mark.timeout(600)
def test_ten_minutes_in_an_empty_folder(clone: Path, tmp_path: Path) -> None:
    """That part of docs/policy-testing.md, in one shell beside a clone; then the steps of its workflow."""
    (clone.parent / "aegis-otel").symlink_to(clone)
    blocks = blocks_of(section_of(read_page("policy-testing.md"), "From an agent to CI in ten minutes"))
    folder = tmp_path / "mine"
    folder.mkdir()
    for block in blocks:
        if block.file:
            save(block, folder)
    commands = [
        command for block in blocks if block.language == "console" for command, _ in commands_of(block)
    ]
    (job,) = yaml.safe_load((folder / ".github/workflows/policy.yaml").read_text())["jobs"].values()
    commands += [step["run"] for step in job["steps"] if "run" in step]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shown = run(
        "bash", "-e", "-c", "\n".join(commands), cwd=folder, PATH=path, PIP_DISABLE_PIP_VERSION_CHECK="1"
    )
    assert shown.count("6 cases: 6 passed, 0 failed; 4 of 4 rules reached") == 2


@pytest.mark.timeout(600)
def test_make_demo_in_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    """The README's first command, with nothing but python3 and make."""
    cache, key = str(tmp_path / "cache"), "no-key"  # a key of the reader's is not used
    shown = run(
        *("make", "demo", f"PYTHON={sys.executable}"), cwd=clone, XDG_CACHE_HOME=cache, OPENAI_API_KEY=key
    )
    assert "scripted model, offline" in shown
    assert "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes" in shown
    assert "govern_tool delete_document" in shown


def test_ci_runs_what_the_readme_says() -> None:
    """`make test` is the README's test command, and CI's."""
    assert "$ make test" in (ROOT / "README.md").read_text()
    assert "make check\nmake test\n" in (ROOT / ".ci" / "run").read_text()
