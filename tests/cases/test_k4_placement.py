"""A policy or an audit that a governed file tool can reach is warned about, once, and where it matters."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, ApplyPatchTool, FunctionTool, Runner, ShellTool, function_tool
from agents.testing import ScriptedModel, assistant_message
from click.testing import CliRunner

from aegis_otel import instrument
from aegis_otel.cli import main as aegis

POLICY = "version: '1'\ndefaults: { approval: auto, risk_level: low }\nrules: [{ name: a }]\n"


@function_tool
def write_file(path: str, content: str) -> str:
    """Write a file."""
    Path(path).write_text(content)
    return "done"


@function_tool
def look_up(order_id: str, text: str) -> str:
    """Look up an order."""
    return order_id + text


class Editor:
    """Does nothing; that it could is what matters."""

    def create_file(self, operation: Any) -> None: ...

    def update_file(self, operation: Any) -> None: ...

    def delete_file(self, operation: Any) -> None: ...


async def execute(request: Any) -> str:
    """Run nothing."""
    return str(request)


def saves(tool_name: str, **parameters: str) -> FunctionTool:
    """A tool as an MCP server or an adapter makes it: a name and a schema."""

    async def invoke(context: Any, arguments: str) -> str:
        return arguments

    properties = {each: {"type": kind} for each, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return FunctionTool(name=tool_name, description="", params_json_schema=schema, on_invoke_tool=invoke)


WRITERS = {
    "write_file": write_file,
    "shell": ShellTool(executor=execute, environment={"type": "local"}),
    "apply_patch": ApplyPatchTool(editor=Editor()),
    "camel case": saves("createFile", name="string"),
    "only by its parameters": saves("remember", file_path="string", contents="string"),
    "runs commands": saves("run_command", line="string"),
    "python": saves("execute_python_code", source="string"),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a program."""
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").mkdir()
    for place in ("work", "outside"):
        (tmp_path / place / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "can write files" in each.getMessage()]


async def run(policy: str | Path, audit: str | Path, *tools: Any, times: int = 2) -> None:
    governed = instrument(policy=policy, audit_dir=audit)
    try:
        for _ in range(times):
            agent = Agent(
                name="Clerk", tools=list(tools), model=ScriptedModel([[assistant_message("hello")]])
            )
            await Runner.run(agent, "hello")
    finally:
        governed.shutdown()


@pytest.mark.parametrize("kind", WRITERS)
async def test_k4_start_warns_of_a_tool_that_reaches_policy_and_audit(
    work: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """One WARNING for all runs, which names the tool, both places and the page."""
    await run("policy.yaml", "aegis_audit", look_up, WRITERS[kind])
    (warning,) = warnings(caplog)
    assert f"`{WRITERS[kind].name}` can write files" in warning
    assert "the policy `policy.yaml` and the audit" in warning
    assert "docs/threat-model.md" in warning
    assert caplog.records[-1].levelno == logging.WARNING


async def test_k4_start_warns_of_what_is_reached_through_a_link(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A link from elsewhere into the working directory is no other place."""
    (work.parent / "outside" / "link").symlink_to(work)
    await run(work.parent / "outside" / "link" / "policy.yaml", work.parent / "audit", write_file)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("policy", "audit", "tool"),
    [
        ("outside/policy.yaml", "outside/audit", write_file),
        ("work/policy.yaml", "work/audit", look_up),
        ("work/policy.yaml", "work/audit", saves("send_text", text="string", to="string")),
        ("work/policy.yaml", "work/audit", saves("create_order", item="string")),
        ("work/policy.yaml", "work/audit", saves("copyright_lookup", path="string")),
    ],
)
async def test_k4_start_is_quiet_where_nothing_is_reached_holds(
    work: Path, caplog: pytest.LogCaptureFixture, policy: str, audit: str, tool: Any
) -> None:
    await run(work.parent / policy, work.parent / audit, tool)
    assert warnings(caplog) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_k4_a_policy_that_cannot_be_changed_is_out_of_reach_holds(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (work / "policy.yaml").chmod(0o400)
    work.chmod(0o500)
    await run("policy.yaml", work.parent / "audit", write_file)
    work.chmod(0o700)
    assert warnings(caplog) == []


AGENTS = """
from agents import Agent, function_tool

@function_tool
def write_file(path: str, content: str) -> str:
    return path

@function_tool
def look_up(order: str) -> str:
    return order

writer = Agent(name="Writer", tools=[look_up, write_file])
reader = Agent(name="Reader", tools=[look_up])
"""


@pytest.fixture
def agents(work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (work / "placement_agents.py").write_text(AGENTS)
    monkeypatch.setenv("AEGIS_POLICY", "policy.yaml")
    yield
    sys.modules.pop("placement_agents", None)


def placement(*arguments: str) -> tuple[str, str]:
    checks = json.loads(CliRunner().invoke(aegis, ["doctor", "--format", "json", *arguments]).stdout)[
        "checks"
    ]
    (found,) = [each for each in checks if each["name"] == "placement"]
    return found["status"], found["detail"]


@pytest.mark.usefixtures("agents")
def test_k4_doctor_says_what_tools_can_reach(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns where an agent has such a tool, and else says where the two lie."""
    status, detail = placement("placement_agents:writer")
    assert status == "warning"
    assert detail.startswith("`write_file` can write files, and the policy `policy.yaml` and the audit `")
    for arguments in ((), ("placement_agents:reader",)):
        status, detail = placement(*arguments)
        assert status == "ok"
        assert "can be changed below this directory" in detail
    monkeypatch.setenv("AEGIS_POLICY", str(work.parent / "outside" / "policy.yaml"))
    monkeypatch.setenv("AEGIS_AUDIT_DIR", str(work.parent / "outside" / "audit"))
    status, detail = placement("placement_agents:writer")
    assert (status, "out of reach" in detail) == ("ok", True)
