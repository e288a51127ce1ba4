"""K5: the tools of an agent as a file, and policies that are held against them."""

from __future__ import annotations

import json
import sys
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
        ({"pay": {"amount": "number"}}, "is not a JSON Schema"),
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


SERVER = """
try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # before its second version
    from mcp.server.fastmcp import FastMCP as MCPServer

server = MCPServer("files")

@server.tool()
def delete_folder(path: str, force: bool = False) -> str:
    return path

server.run()
"""
WITH_A_SERVER = """
import sys
from agents import Agent
from agents.mcp import MCPServerStdio

files = MCPServerStdio(params={{"command": sys.executable, "args": [{script!r}]}}, name="files")
clerk = Agent(name="Clerk", mcp_servers=[files])
"""


def with_a_server(folder: Path, script: str) -> None:
    (folder / "k5_with_a_server.py").write_text(WITH_A_SERVER.format(script=script))
    sys.modules.pop("k5_with_a_server", None)


def test_k5_policy_tools_lists_those_of_an_mcp_server(folder: Path) -> None:
    """With the server as target and the schema of each, and `check` finds what the policy misses of them."""
    (folder / "server.py").write_text(SERVER)
    with_a_server(folder, str(folder / "server.py"))
    assert run("tools", "k5_with_a_server:clerk", "--out", "tools.json").exit_code == 0
    (tool,) = json.loads((folder / "tools.json").read_text())["tools"]
    assert (tool["name"], tool["target"], tool["agent"]) == ("delete_folder", "files", "Clerk")
    assert set(tool["parameters"]["properties"]) == {"path", "force"}
    result = run("check", "p.yaml", "--tools", "tools.json")
    assert result.exit_code == 1
    assert "does not match the tool `delete_folder`" in result.output


def test_k5_policy_tools_says_that_a_server_could_not_be_asked(folder: Path) -> None:
    (folder / "server.py").write_text("raise SystemExit(3)\n")
    with_a_server(folder, str(folder / "server.py"))
    result = run("tools", "k5_with_a_server:clerk", "--out", "tools.json")
    assert result.exit_code == 1
    assert "the tools of a server could not be listed" in result.output


def test_k5_policy_tools_has_no_option_with_one_value() -> None:
    result = run("tools", "--help")
    assert result.exit_code == 0
    assert "--out" in result.output
    assert "--format [text|json]" in result.output


def doctor(policy: str, folder: Path) -> dict[str, dict[str, str]]:
    (folder / "p.yaml").write_text(policy)
    arguments = ["doctor", "--policy", "p.yaml", "--format", "json", "k5_program:clerk"]
    checks = json.loads(CliRunner().invoke(main, arguments).stdout)["checks"]
    return {each["name"]: each for each in checks}


def test_k5_doctor_says_nothing_of_a_policy_that_fits_the_tools_holds(folder: Path) -> None:
    policy = "defaults: {}\nrules:\n  - { name: r, match: { type: [delete_file, read_file] } }\n"
    assert "policy and tools" not in doctor(policy, folder)


@pytest.mark.parametrize(
    ("rule", "status", "said"),
    [
        ("{ type: delete_file }", "warning", "`read_file` is covered by no rule"),
        ("{ type: '*', agent: clerk }", "failed", "does not match the agent `Clerk`"),
        ("{ type: ['*_file', remove_file], target: web }", "warning", "matches no target that occurs"),
    ],
)
def test_k5_doctor_says_what_only_the_tools_show(folder: Path, rule: str, status: str, said: str) -> None:
    found = doctor(f"defaults: {{}}\nrules:\n  - {{ name: r, match: {rule}, approval: block }}\n", folder)
    assert found["policy and tools"]["status"] == status
    assert said in found["policy and tools"]["detail"]


@pytest.mark.parametrize("code", [0, "'bye'"])
@pytest.mark.parametrize(
    "command",
    [
        ["policy", "check", "p.yaml", "--agent", "k5_script:clerk"],
        ["policy", "tools", "k5_script:clerk", "--out", "tools.json"],
        ["doctor", "k5_script:clerk", "--policy", "p.yaml"],
    ],
)
def test_k5_a_module_that_ends_the_program_is_wrong_usage(
    command: list[str], code: object, folder: Path
) -> None:
    """Its exit code is not the command's: nothing was checked, and 0 would say that all is well."""
    (folder / "k5_script.py").write_text(f"import sys\nsys.exit({code})\n")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "`k5_script:clerk` cannot be loaded: importing `k5_script` ends the program" in result.stderr


def test_k5_a_module_that_raises_an_interrupt_is_wrong_usage(folder: Path) -> None:
    (folder / "k5_interrupt.py").write_text("raise KeyboardInterrupt\n")
    for command in ("tools", "init"):
        result = CliRunner().invoke(main, ["policy", command, "k5_interrupt:clerk"])
        assert result.exit_code == 2
        assert "`k5_interrupt:clerk` cannot be loaded: KeyboardInterrupt" in result.stderr


def test_k5_a_place_that_cannot_be_written_is_named() -> None:
    result = run("tools", "k5_program:clerk", "--out", "nowhere/tools.json")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: `nowhere/tools.json`: no such file or directory\n",
    )
