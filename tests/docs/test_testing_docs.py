"""docs/testing.md: the policy loads, every snippet runs in a folder with it, and the failure is as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
(POLICY,) = [text for language, text in BLOCKS if language == "yaml"]
SNIPPETS = [text for language, text in BLOCKS if language == "python"]
(PROGRAM,) = [text for text in SNIPPETS if "Runner.run" in text]


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (folder / "test_it.py").write_text(program, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "error", "test_it.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_runs(snippet: str, tmp_path: Path) -> None:
    """And leaves nothing behind, neither in the folder nor in the user's directories."""
    (tmp_path / "tmp").mkdir()
    ran = run(snippet, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.yaml", "test_it.py", "tmp"]


def test_a_failure_is_as_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (shown,) = [text for language, text in BLOCKS if language == "text"]
    ran = run(f'{PROGRAM}\nassert_blocked(run, "write_report")\n', tmp_path)
    assert shown in ran.stderr
