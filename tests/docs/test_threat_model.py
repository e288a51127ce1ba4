"""docs/threat-model.md: what it says is proven names a test that exists, and the other pages lead to it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def functions() -> set[str]:
    """The names of all tests there are."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_what_is_proven_names_a_test() -> None:
    """Each name is that of a test, and each line of a table that says what is prevented has one."""
    named = set(re.findall(r"\btest_\w+", TEXT))
    assert len(named) > 20
    assert named - functions() == set()
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "proven by" not in line]
    assert rows
    proven = [line for line in rows if "**not prevented**" not in line]
    assert [line for line in proven if "`test_" not in line.split("|")[-2]] == []


def test_every_section_says_what_is_not_proven() -> None:
    """But for the first and the last, which are of no actor."""
    _, *sections, places = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    assert len(sections) >= 8
    assert [each.splitlines()[0] for each in sections if "**Not proven:**" not in each] == []
    assert places.startswith("How to place")


def test_the_promises_lead_to_it() -> None:
    """The README's promises hold in its bounds, and every page of the audit can be reached from it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    promises = readme.partition("## What it promises")[2].partition("\n## ")[0]
    assert "docs/threat-model.md" in promises
    for page in re.findall(r"docs/[\w-]+\.md", TEXT):
        assert (ROOT / page).is_file()
