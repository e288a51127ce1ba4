"""What a newcomer gets: the wheel, an empty environment, a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
def test_an_empty_environment(clone: Path, tmp_path: Path) -> None:
    """`pip install .`, then the import is free and `aegis --help` answers."""
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    run(binaries / "pip", "install", "--quiet", clone, cwd=tmp_path)
    imported = run(
        binaries / "python",
        "-c",
        "import sys, threading, os; before = set(os.listdir('.')); import aegis_otel;"
        "print(threading.active_count(), [m for m in ('agents', 'duckdb') if m in sys.modules],"
        " set(os.listdir('.')) - before)",
        cwd=tmp_path,
    )
    assert imported.strip() == "1 [] set()"
    assert "audit" in run(binaries / "aegis", "--help", cwd=tmp_path)
    assert "audit" in run(binaries / "aegis-otel", "--help", cwd=tmp_path)


@pytest.mark.timeout(600)
def test_make_demo_in_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    """The README's first command, with nothing but python3 and make."""
    shown = run("make", "demo", f"PYTHON={sys.executable}", cwd=clone, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes" in shown
    assert "govern_tool delete_document" in shown


def test_ci_runs_what_the_readme_says() -> None:
    """`make test` is the README's test command, and CI's."""
    assert "$ make test" in (ROOT / "README.md").read_text()
    assert "make check\nmake test\n" in (ROOT / ".ci" / "run").read_text()
