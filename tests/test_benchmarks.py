"""Every benchmark finds the modules and names of the project that it imports."""

from __future__ import annotations

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def imported(path: Path) -> list[tuple[str, str]]:
    """Return the names that a file imports from modules of the project, with their modules."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return [
        (str(node.module), alias.name)
        for node in found
        if str(node.module).startswith(("aegis_otel", "tests."))
        for alias in node.names
    ]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports(path: Path) -> None:
    for module, name in imported(path):
        assert hasattr(importlib.import_module(module), name) or find_spec(f"{module}.{name}"), name


def test_benchmarks_import_names_of_the_project() -> None:
    assert sum(len(imported(path)) for path in BENCHMARKS) > 20
