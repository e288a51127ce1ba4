"""docs/design.md: each row of "To change X, open Y" names a file that exists and defines what it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("## To change X, open Y")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith("| to change")
]


SECTIONS = {
    title: re.findall(r"^\| (?!to change)[^|]* \| `([^`]+)`", text, re.MULTILINE)
    for title, _, text in (section.partition("\n") for section in TABLE.split("\n### ")[1:])
}
"""The files of each section."""


def place_of(name: str) -> Path:
    """Return the path of a file as a row names it."""
    inside = ROOT / "aegis_otel" / name
    return inside if inside.exists() else ROOT / name


def defined_in(path: Path) -> set[str]:
    """Return the names that a module defines at its top."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_the_table_has_rows() -> None:
    """The kinds of change that the project promises one place for are in it."""
    assert len(ROWS) > 40
    changes = " ".join(change for change, _, _ in ROWS)
    for promised in ("condition", "local tool", "column", "label", "setting", "export", "storage", "alert"):
        assert promised in changes


def test_a_section_is_short_and_a_file_stands_in_one_of_them() -> None:
    """Who looks for a place reads the section alone."""
    assert sum(map(len, SECTIONS.values())) == len(ROWS)
    assert all(0 < len(files) <= 24 for files in SECTIONS.values())
    for title, files in SECTIONS.items():
        others = {file for other in SECTIONS if other != title for file in SECTIONS[other]}
        assert not others.intersection(files), title


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_a_file_that_defines_what_it_says(row: list[str]) -> None:
    """A module that was moved, or a name that is gone, makes its row red."""
    change, place, names = row
    file, *others = re.findall(r"`([^`]+)`", place)
    assert change
    assert not others, "a change has one place"
    path = place_of(file)
    assert path.is_file(), file
    missing = set(re.findall(r"`([^`]+)`", names)) - (defined_in(path) if path.suffix == ".py" else set())
    assert not missing, f"{file} does not define {sorted(missing)}"


def test_files_and_modules_that_the_design_names_exist() -> None:
    """A path or a dotted module in the text is there, below the package or below the root."""
    for name in re.findall(r"`([a-z_/]+/[a-z_]+\.(?:py|html|yaml|txt))`", TEXT):
        assert place_of(name).exists() or (ROOT / "aegis_otel/adapters/openai_agents" / name).exists(), name
    packages = "audit|policy|redaction|governance|telemetry|runtime|report|cli"
    for name in re.findall(rf"`((?:{packages})\.[a-z_.]+)(?:\.[A-Za-z_]+)?`", TEXT):
        parts = name.split(".")
        known = [ROOT.joinpath("aegis_otel", *parts[:end]) for end in range(2, len(parts) + 1)]
        assert any(path.is_dir() or path.with_suffix(".py").is_file() for path in known), name
