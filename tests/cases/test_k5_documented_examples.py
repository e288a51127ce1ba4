"""K5: the policy that docs/coverage.md teaches, attacked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aegis_otel import Action, Policy

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")


def taught() -> Policy:
    (text,) = [
        each
        for each in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        if "apply_patch" in each
    ]
    return Policy.from_text(text)


@pytest.mark.parametrize(
    "params",
    [
        {"path": "src/../../etc/cron.d/x"},
        {"path": "src/x/../../../etc/cron.d/x"},
        {"path": "src/a.py", "move_to": "../.bashrc"},
        {"path": "src/a.py", "move_to": "/etc/cron.d/x"},
        {"path": "src/%2e%2e/x"},
        {"path": "src\\..\\x"},
        {"path": "src/..\n/x"},
    ],
)
def test_k5_coverage_example_is_not_left_by_a_path(params: dict[str, str]) -> None:
    action = Action("apply_patch", params={"type": "update_file", "diff": "", **params})
    assert taught().evaluate(action).approval != "auto"


def test_k5_coverage_example_lets_the_sources_be_patched_holds() -> None:
    action = Action("apply_patch", params={"type": "update_file", "diff": "", "path": "src/a/b.py"})
    assert taught().evaluate(action).approval == "auto"


def test_k5_the_join_of_commands_is_documented() -> None:
    assert "joined by line breaks" in PAGE
