"""K2: a rule matches the name that the tool has, whatever the SDK shows the model."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, FunctionTool, Runner, function_tool, tool_namespace
from agents.mcp import MCPServer
from agents.testing import ScriptedModel, assistant_message, function_call
from mcp.types import CallToolResult, TextContent, Tool

import aegis_otel
from aegis_otel import Policy
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.gates import action_factory
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import make_bench

LONG = "delete_" + "x" * 80


class Server(MCPServer):
    """A server in this process."""

    def __init__(self, *tools: str) -> None:
        super().__init__()
        self.tools, self.called = tools, []

    @property
    def name(self) -> str:
        return "crm: prod/eu"

    async def connect(self) -> None: ...
    async def cleanup(self) -> None: ...
    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[Tool]:
        schema = {"type": "object", "properties": {}}
        return [Tool.model_validate({"name": name, "inputSchema": schema}) for name in self.tools]

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> CallToolResult:
        self.called.append(tool_name)
        return CallToolResult(content=[TextContent(type="text", text="done")])

    async def list_prompts(self) -> Any: ...
    async def get_prompt(self, name: str, arguments: Any = None) -> Any: ...


def policy(pattern: str, approval: str = "block") -> Policy:
    rule = {"name": "r", "match": {"type": pattern}, "risk_level": "high", "approval": approval}
    return Policy.from_dict(
        {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": [rule]}
    )


def shown_names(agent: Agent[Any]) -> list[str]:
    from agents import RunContextWrapper

    return [tool.name for tool in asyncio.run(agent.get_all_tools(RunContextWrapper(None)))]


def run(agent: Agent[Any], name: str, given: Policy, audit: Path, **settings: Any) -> dict[str, Any]:
    agent.model = ScriptedModel([[function_call(name, {}, call_id="c")], [assistant_message("done")]])
    found = aegis_otel.instrument(given, audit_dir=audit, **settings)
    try:
        asyncio.run(Runner.run(agent, "go"))
    finally:
        found.uninstrument()
    (row,) = AuditLogger(audit).get_log()
    return row


@pytest.mark.parametrize(
    ("tool", "pattern"),
    [
        ("delete_rows", "delete_*"),
        ("delete_rows", "delete_rows"),
        ("db.delete/rows", "db.delete/rows"),
        (LONG, LONG),
        (LONG, "delete_*"),
    ],
)
def test_k2_a_rule_matches_either_name(tool: str, pattern: str, tmp_path: Path) -> None:
    server = Server(tool)
    agent = Agent(name="A", mcp_servers=[server], mcp_config={"include_server_in_tool_names": True})
    (shown,) = shown_names(agent)
    assert shown != tool
    row = run(agent, shown, policy(pattern), tmp_path / "audit")
    assert server.called == []
    assert (row["result_status"], row["matched_rule"]) == ("blocked", "r")


def test_k2_the_row_has_both_names(tmp_path: Path) -> None:
    agent = Agent(
        name="A", mcp_servers=[Server("read_rows")], mcp_config={"include_server_in_tool_names": True}
    )
    (shown,) = shown_names(agent)
    row = run(agent, shown, policy("delete_*"), tmp_path / "audit")
    assert row["result_status"] == "success"
    assert (row["tool_name"], row["tool_original_name"]) == (shown, "read_rows")


def test_k2_targets_are_found_by_either_name(tmp_path: Path) -> None:
    rule = {"name": "r", "match": {"target": "books"}, "risk_level": "high", "approval": "block"}
    given = Policy.from_dict(
        {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": [rule]}
    )
    server = Server("delete_rows")
    agent = Agent(name="A", mcp_servers=[server], mcp_config={"include_server_in_tool_names": True})
    (shown,) = shown_names(agent)
    row = run(agent, shown, given, tmp_path / "audit", targets={"delete_*": "books"})
    assert (row["result_status"], server.called) == ("blocked", [])


def test_k2_an_auto_for_one_name_does_not_open_a_block_for_the_other(tmp_path: Path) -> None:
    rules = [
        {"name": "mcp", "match": {"type": "mcp_*"}, "risk_level": "low", "approval": "auto"},
        {"name": "deletes", "match": {"type": "delete_*"}, "risk_level": "high", "approval": "block"},
    ]
    server = Server("delete_rows")
    agent = Agent(name="A", mcp_servers=[server], mcp_config={"include_server_in_tool_names": True})
    (shown,) = shown_names(agent)
    row = run(agent, shown, Policy.from_dict({"version": "1", "rules": rules}), tmp_path / "audit")
    assert (row["matched_rule"], server.called) == ("deletes", [])


def test_k2_a_namespace_is_part_of_a_name_too(tmp_path: Path) -> None:
    ran: list[str] = []

    @function_tool
    def delete_rows() -> str:
        ran.append("x")
        return "done"

    for number, pattern in enumerate(("crm.delete_rows", "crm.*", "delete_rows")):
        tools = tool_namespace(name="crm", description="d", tools=[delete_rows])
        call = function_call("delete_rows", {}, call_id="c").model_copy(update={"namespace": "crm"})
        agent = Agent(name="A", tools=list(tools), model=ScriptedModel([[call], [assistant_message("done")]]))
        found = aegis_otel.instrument(policy(pattern), audit_dir=tmp_path / str(number))
        try:
            asyncio.run(Runner.run(agent, "go"))
        finally:
            found.uninstrument()
        (row,) = AuditLogger(tmp_path / str(number)).get_log()
        assert row["matched_rule"] == "r", pattern
    assert ran == []


@pytest.mark.parametrize(
    "name",
    [
        " delete_rows",
        "delete_rows ",
        "delete\u200b_rows",
        "de\u00adlete_rows",
        "d\u0435l\u0435t\u0435_rows",
        "\uff24\uff25lete_rows",
        "\u1d05\u1d07\u029f\u1d07\u1d1b\u1d07_rows",
        "d\u00e9lete_rows",
        "delete\x00_rows",
    ],
)
def test_k2_a_name_that_only_looks_otherwise_passes_no_block(name: str) -> None:
    """A server names its tools; a rule that allows the name as it is spelled is not enough either."""

    async def body(context: Any, arguments: str) -> str:
        return "ran"

    tool = FunctionTool(name, "", {"type": "object", "properties": {}}, body)
    action = action_factory.factory_of(tool, {}).make("{}", action_factory.Caller(None))
    policy = Policy.from_dict(
        {
            "version": "1",
            "defaults": {"risk_level": "low", "approval": "auto"},
            "rules": [
                {
                    "name": "no_deletes",
                    "match": {"type": "delete_*"},
                    "risk_level": "critical",
                    "approval": "block",
                }
            ],
        }
    )
    assert action.type == name
    assert policy.evaluate(action).matched_rule == "no_deletes"
    assert not all(map(policy.always_allows, action_factory.names_of(tool)))


@pytest.mark.parametrize("name", ["delete_rows", "Delete-rows.v2", "ns/tool:1"])
def test_k2_a_plain_name_has_one_form_holds(name: str) -> None:
    async def body(context: Any, arguments: str) -> str:
        return "ran"

    assert action_factory.names_of(FunctionTool(name, "", {}, body, strict_json_schema=False)) == [name]


def test_k2_a_name_of_another_type_of_text_is_a_name() -> None:
    class Name(str):
        __slots__ = ()

    async def body(context: Any, arguments: str) -> str:
        return "ran"

    tool = FunctionTool(Name("pay"), "", {}, body, strict_json_schema=False)
    assert type(action_factory.factory_of(tool, {}).make("{}", action_factory.Caller(None)).type) is str


RENAMED: dict[str, Any] = {
    "by its attribute": lambda tool: setattr(tool, "name", "delete_rows") or tool,
    "in a copy": lambda tool: dataclasses.replace(tool, name="delete_rows"),
}


def called_by_its_name(tool: FunctionTool, namespace: str | None = None) -> str:
    """Return what the model reads of a call of the tool."""
    made = function_call(tool.name, {}, call_id="c").model_copy(update={"namespace": namespace})
    model = ScriptedModel([[made], [assistant_message("done")]])
    result = asyncio.run(Runner.run(Agent(name="A", model=model, tools=[tool]), "go"))
    (read,) = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    return str(read)


@pytest.mark.parametrize("rename", RENAMED.values(), ids=RENAMED)
@pytest.mark.parametrize("pattern", ["delete_*", "rows"])
def test_k2_a_governed_tool_that_is_renamed_is_matched_by_either_name(
    rename: Any, pattern: str, tmp_path: Path
) -> None:
    b = make_bench(tmp_path / "audit", policy=policy(pattern))
    tool = rename(governed_tool(runtime=b.runtime)(function_tool(lambda: "ran", name_override="rows")))
    assert called_by_its_name(tool) == "[AEGIS BLOCKED] Action blocked by policy rule: r"
    assert b.row()["tool_name"] == "delete_rows"


@pytest.mark.parametrize("pattern", ["crm.*", "crm.rows", "rows"])
def test_k2_a_governed_tool_that_is_put_in_a_namespace_is_matched_with_it(
    pattern: str, tmp_path: Path
) -> None:
    b = make_bench(tmp_path / "audit", policy=policy(pattern))
    tool = governed_tool(runtime=b.runtime)(function_tool(lambda: "ran", name_override="rows"))
    (tool,) = tool_namespace(name="crm", description="d", tools=[tool])
    assert called_by_its_name(tool, "crm") == "[AEGIS BLOCKED] Action blocked by policy rule: r"


def test_k2_a_governed_tool_with_a_type_of_its_own_is_matched_by_that_holds(tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("delete_*"))
    made = governed_tool(runtime=b.runtime, action_type="read")(
        function_tool(lambda: "ran", name_override="rows")
    )
    assert called_by_its_name(RENAMED["in a copy"](made)) == "ran"
    assert b.row()["action_type"] == "read"
