"""docs/coverage.md says what the code does: every kind, its status and reason, and what rules match."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from agents import FunctionTool
from agents.tool import Tool

from aegis_otel import Action, Policy
from aegis_otel.adapters.openai_agents.coverage import tool_kinds
from aegis_otel.adapters.openai_agents.coverage.coverage import Status
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import Kind
from aegis_otel.adapters.openai_agents.gates.local_tool_kinds import LOCAL_TOOL_KINDS, Schema
from aegis_otel.config import ON_UNGOVERNED

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """The cells of the first table under a heading; the first section is before any."""
    part = TEXT.partition(f"## {section}\n")[2] if section else TEXT
    table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", part, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table[1].splitlines()]


KINDS: list[Kind] = [
    *(tool_kinds.FUNCTION, tool_kinds.MCP, tool_kinds.AGENT, *tool_kinds.LOCAL.values()),
    *(tool_kinds.MCP_SERVER, tool_kinds.SANDBOX, tool_kinds.AGENT_CLASS),
    *(tool_kinds.HANDOFF, tool_kinds.HANDOFF_CODE),
    *(*tool_kinds.SEARCH.values(), *tool_kinds.HOSTED.values(), tool_kinds.HOSTED_SHELL),
    *(
        tool_kinds.STORED_PROMPT,
        tool_kinds.REQUEST_FIELD,
        tool_kinds.CODEX_AGENT,
        tool_kinds.CAPABILITY_CLASS,
    ),
]
SCHEMAS = {kind.name: kind.schema for kind in LOCAL_TOOL_KINDS}


def test_every_kind_with_its_status_and_reason() -> None:
    """Each kind that the code knows, in its order, and no other."""
    told = rows("Every kind of tool")
    assert [kind for kind, *_ in told] == [kind.name for kind in KINDS]
    for (_, status, why), kind in zip(told, KINDS, strict=True):
        reason = kind.ungovernable or kind.harmless
        expected = (
            Status.NOT_GOVERNABLE
            if kind.ungovernable
            else Status.OBSERVED
            if kind.harmless
            else Status.ENFORCED
        )
        assert status == expected
        assert reason is None or why == reason


def test_every_tool_of_the_sdk_has_a_kind() -> None:
    """The SDK's own list of tools, each known here: a new one in the SDK fails this test."""
    known = {FunctionTool, *tool_kinds.LOCAL, *tool_kinds.HOSTED, *tool_kinds.SEARCH}
    assert {getattr(tool, "__origin__", tool) for tool in get_args(Tool)} == known


def test_the_statuses_and_reactions() -> None:
    """All of them, in the code's order."""
    assert [status for status, _ in rows("")] == [f"`{status}`" for status in Status]
    reactions = [value.strip("`") for value, _ in rows("`on_ungoverned`")]
    assert [ON_UNGOVERNED.parse(value) for value in reactions] == ["allow", "warn", "refuse"]
    assert "(the default)" in rows("`on_ungoverned`")[reactions.index(ON_UNGOVERNED.default)][1]


def test_what_rules_match_is_what_the_actions_have() -> None:
    """The parameters of each kind are those of its schema."""
    told = {
        kind: re.findall(r"`(\w+)`", parameters.partition(";")[0])
        for kind, _, parameters in rows("What rules match")
    }
    assert {kind: set(names) for kind, names in told.items()} == {
        kind: set(schema["properties"]) for kind, schema in SCHEMAS.items()
    }


def test_the_policy_does_what_it_says() -> None:
    """On actions as they are made of calls."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    policy = Policy.from_text(text)

    def verdict(kind: str, schema: Schema, **params: str) -> str:
        return policy.evaluate(Action(kind, params=params, schema=schema)).matched_rule

    assert verdict("shell", SCHEMAS["shell"], command_line="ls\nrm -rf /") == "no_removals"
    assert verdict("shell", SCHEMAS["shell"], command_line="ls") == "<default>"
    assert verdict("apply_patch", SCHEMAS["apply_patch"], path="src/a.py") == "patches_of_the_sources"
    assert verdict("apply_patch", SCHEMAS["apply_patch"], path="/etc/src/") == "no_way_out"


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
def test_the_snippets_run(code: str, tmp_path: Path) -> None:
    """Each in a process of its own, without a warning."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    if "coverage(agent)" in code:
        assert [line.split()[:3] for line in ran.stdout.splitlines()] == [
            ["agent", "tool", "kind"],
            ["Clerk", "refund", "function"],
            ["Clerk", "web_search", "web"],
        ]
