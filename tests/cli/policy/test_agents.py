"""`aegis policy tools`, `init` and `check --agent`: what they make of an agent, and of what is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main

PROGRAM = """
from enum import Enum
from agents import Agent, function_tool

class Kind(str, Enum):
    new = "new"
    old = "old"

@function_tool
def delete_file(path: str, kind: Kind | None = None) -> str:
    return path

@function_tool
def get_customer(customer_id: int) -> str:
    return ""

helper = Agent(name="Helper", tools=[get_customer])
clerk = Agent(name="Clerk\\x1b[2J", tools=[delete_file], handoffs=[helper])
number = 5

async def later() -> Agent:
    return clerk

def make_agent(name: str = "Made") -> Agent:
    print("made")
    return Agent(name=name, tools=[get_customer])

def needs_a_name(name: str) -> Agent:
    return Agent(name=name)

def fails() -> Agent:
    raise ValueError("no key")

coroutine = later()
coroutine.close()
"""
SERVED = """
import mcp.types
from agents import Agent, FunctionTool

tool = FunctionTool("tidy", "", {"type": "object", "properties": {}}, None)
tool._mcp_annotations = mcp.types.ToolAnnotations(destructiveHint=True)
clerk = Agent(name="Clerk", tools=[tool])
"""
LOCAL = """
from unittest.mock import create_autospec
from agents import Agent, ApplyPatchTool, Computer, ComputerTool, ShellTool, WebSearchTool

computer = ComputerTool(computer=create_autospec(Computer, instance=True))
tools = [ShellTool(executor=lambda _: ""), WebSearchTool(), ApplyPatchTool(editor=None), computer]
clerk = Agent(name="Clerk", tools=tools)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents_program.py").write_text(PROGRAM)
    (tmp_path / "broken_program.py").write_text("raise KeyError('\\x1b[2Jno key')\n")
    (tmp_path / "served_program.py").write_text(SERVED)
    (tmp_path / "local_program.py").write_text(LOCAL)
    for name in ("agents_program", "broken_program", "served_program", "local_program"):
        sys.modules.pop(name, None)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["policy", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_tools_are_shown_by_agent_as_rules_match_them() -> None:
    result = run("tools", "agents_program:clerk")
    assert result.output == (
        "agent Clerk\\x1b[2J: 1 tool\n"
        "\n"
        "  type delete_file\n"
        "    target default\n"
        "    param path: string, required\n"
        '    param kind: one of "new", "old" or null, required\n'
        "\n"
        "agent Helper: 1 tool\n"
        "\n"
        "  type get_customer\n"
        "    target default\n"
        "    param customer_id: integer, required\n"
        "\n"
    )
    assert result.exit_code == 0


def test_json_is_what_check_and_cases_read() -> None:
    result = run("tools", "agents_program:clerk", "--format", "json")
    Path("tools.json").write_text(result.output)
    assert json.loads(result.output)["agents"] == ["Clerk\x1b[2J", "Helper"]
    Path("p.yaml").write_text("defaults: {}\nrules: [{ match: { type: delete_fle }, approval: block }]\n")
    assert "delete_file" in run("check", "p.yaml", "--tools", "tools.json").output


def test_a_first_policy_passes_the_strict_check_with_the_agent() -> None:
    assert run("init", "agents_program:clerk", "--out", "p.yaml").exit_code == 0
    result = run("check", "--strict", "--agent", "agents_program:clerk", "p.yaml")
    assert (result.exit_code, result.output.count("\n")) == (0, 1)
    assert run("init", "agents_program:clerk").output == Path("p.yaml").read_text()


def test_a_policy_is_not_replaced() -> None:
    Path("p.yaml").write_text("mine\n")
    result = run("init", "agents_program:clerk", "--out", "p.yaml")
    assert (result.exit_code, result.stderr) == (1, "Error: `p.yaml` exists: it is not replaced\n")
    assert Path("p.yaml").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nothing", "is not MODULE:AGENT"),
        ("no_such_module:clerk", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("agents_program:nobody", "cannot be loaded: AttributeError:"),
        ("broken_program:clerk", "cannot be loaded: KeyError: '\\x1b[2Jno key'"),
        ("agents_program:number", "is a `int`, not an agent"),
        ("agents_program:later", "is a `function`, not an agent"),
        ("agents_program:needs_a_name", "or a function that needs no arguments and returns one"),
        ("agents_program:fails", "cannot be loaded: ValueError: no key"),
        ("agents_program.py:clerk", "is a file: write `agents_program:clerk`"),
        ("below:clerk", "it is below `src`: set PYTHONPATH=src"),
        ("agents_program:coroutine", "is a `coroutine`, not an agent"),
        ("agents_program:Agent", "is a `type`, not an agent"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [("tools",), ("init",), ("check", "p.yaml", "--agent"), ("diff", "p.yaml", "p.yaml", "--agent")],
)
def test_what_is_no_agent_is_wrong_usage(command: tuple[str, ...], target: str, why: str) -> None:
    Path("p.yaml").write_text("rules: []\n")
    Path("src", "below").mkdir(parents=True)
    result = run(*command, target)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "\x1b" not in result.stderr


def test_local_tools_are_listed_as_rules_see_them_and_hosted_ones_not_at_all() -> None:
    """No policy is asked about a call that the model's service carries out."""
    listed = json.loads(run("tools", "local_program:clerk", "--format", "json").output)["tools"]
    assert [tool["name"] for tool in listed] == ["shell", "apply_patch", "computer"]
    assert [sorted(tool["parameters"]["properties"])[0] for tool in listed] == [
        "command_line",
        "diff",
        "arguments",
    ]
    text = run("init", "local_program:clerk").output
    assert '        - "shell" # Clerk; it takes commands\n' in text


def test_hints_of_mcp_servers_count() -> None:
    (listed,) = json.loads(run("tools", "served_program:clerk", "--format", "json").output)["tools"]
    assert listed["annotations"] == {"destructiveHint": True}
    assert "its server says that it destroys" in run("init", "served_program:clerk").output


def test_strict_fails_on_warnings() -> None:
    Path("p.yaml").write_text("defaults: {}\nrules: [{ match: { type: delete_file }, approval: block }]\n")
    arguments = ("check", "p.yaml", "--agent", "agents_program:clerk")
    assert "`get_customer` is covered by no rule" in run(*arguments).output
    assert (run(*arguments).exit_code, run(*arguments, "--strict").exit_code) == (0, 1)


def test_an_agent_may_be_made_by_a_function() -> None:
    result = run("tools", "agents_program:make_agent", "--format", "json")
    assert json.loads(result.stdout)["agents"] == ["Made"]


def test_what_no_policy_governs_is_named() -> None:
    line = "not governable: `web_search` of Clerk (web search; see docs/coverage.md)\n"
    assert run("tools", "local_program:clerk").output.endswith(line)
    assert json.loads(run("tools", "local_program:clerk", "--format", "json").output)["not_governable"] == [
        {"agent": "Clerk", "name": "web_search", "kind": "web search"}
    ]
    assert line in run("tools", "local_program:clerk", "--out", "tools.json").output
    comment = "# No policy governs `web_search` of Clerk (web search): see docs/coverage.md.\n"
    assert comment in run("init", "local_program:clerk").output
    Path("p.yaml").write_text("rules: []\n")
    assert line in run("check", "p.yaml", "--agent", "local_program:clerk").output


def test_a_file_that_is_written_is_named() -> None:
    result = run("init", "agents_program:clerk", "--out", "p.yaml")
    assert result.output == "wrote p.yaml; next: aegis policy check p.yaml\n"
    assert run("tools", "agents_program:clerk", "--out", "t.json").output == "wrote t.json: 2 tools\n"


def test_a_default_is_shown_in_place_of_required() -> None:
    """A strict schema requires every parameter, and the default is filled in all the same."""
    Path("default_program.py").write_text(
        "from agents import Agent, function_tool\n\n"
        '@function_tool\ndef pay(amount: float, currency: str = "EUR") -> str:\n    return ""\n\n'
        'clerk = Agent(name="Clerk", tools=[pay])\n'
    )
    sys.modules.pop("default_program", None)
    output = run("tools", "default_program:clerk").output
    assert "    param amount: number, required\n" in output
    assert '    param currency: string, default "EUR"\n' in output
