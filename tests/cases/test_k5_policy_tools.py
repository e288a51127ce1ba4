"""K5: the tools of an agent as a file, and policies that are held against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main

PROGRAM = """
from agents import Agent, function_tool

@function_tool
def delete_file(path: str) -> str:
    return path

@function_tool
def read_file(path: str) -> str:
    return path

helper = Agent(name="Helper", tools=[read_file])
clerk = Agent(name="Clerk", tools=[delete_file], handoffs=[helper])
"""
POLICY = """
defaults: { approval: auto }
rules:
  - name: never
    match: { type: "Delete_*" }
    approval: block
"""
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k5_program.py").write_text(PROGRAM)
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments])


def test_k5_policy_tools_writes_what_check_reads(folder: Path) -> None:
    assert run("tools", "k5_program:clerk", "--out", "tools.json").exit_code == 0
    written = json.loads((folder / "tools.json").read_text())
    assert written["agents"] == ["Clerk", "Helper"]
    assert [(tool["name"], tool["agent"]) for tool in written["tools"]] == [
        ("delete_file", "Clerk"),
        ("read_file", "Helper"),
    ]
    result = run("check", "p.yaml", "--tools", "tools.json")
    assert result.exit_code == 1
    assert "does not match the tool `delete_file`" in result.output


def test_k5_check_agent() -> None:
    result = run("check", "p.yaml", "--agent", "k5_program:clerk")
    assert result.exit_code == 1
    assert "does not match the tool `delete_file`" in result.output


def test_k5_doctor_compares_the_policy_with_the_tools() -> None:
    """It is given both, and says what `check` says of them."""
    arguments = ["doctor", "--policy", "p.yaml", "--format", "json", "k5_program:clerk"]
    checks = json.loads(CliRunner().invoke(main, arguments).stdout)["checks"]
    (found,) = [each for each in checks if each["name"] == "policy and tools"]
    assert found["status"] == "failed"
    assert "does not match the tool `delete_file`" in found["detail"]


@pytest.mark.parametrize(
    "content",
    [
        {"tools": [{"name": "delete_file", "inputSchema": SCHEMA}]},
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "delete_file", "inputSchema": SCHEMA}]}},
        [{"type": "function", "name": "delete_file", "parameters": SCHEMA, "strict": True}],
        [{"type": "function", "function": {"name": "delete_file", "parameters": SCHEMA}}],
        [{"type": "web_search"}, {"type": "function", "name": "delete_file", "parameters": SCHEMA}],
    ],
)
def test_k5_lists_of_mcp_and_openai_are_read(folder: Path, content: Any) -> None:
    (folder / "tools.json").write_text(json.dumps(content))
    result = run("check", "p.yaml", "--tools", "tools.json")
    assert "does not match the tool `delete_file`" in result.output


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"pay": {"amount": "number"}}, "is no JSON Schema"),
        ({"pay": {"type": "string"}}, "not `object`"),
        ({"pay": {"properties": []}}, "`properties` are a list"),
        ({"pay": {"properties": {"a": "number"}}}, "not a schema"),
        ([{"type": "function"}], "has no `name`"),
        ([5], "a tool must be an object"),
    ],
)
def test_k5_what_is_no_schema_is_refused(folder: Path, content: Any, why: str) -> None:
    (folder / "tools.json").write_text(json.dumps(content))
    result = run("check", "p.yaml", "--tools", "tools.json")
    assert result.exit_code == 2
    assert why in " ".join(result.output.split())
