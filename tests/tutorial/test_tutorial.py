"""Every snippet of the tutorial, as its reader would run it: only the model is scripted."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner
from agents.models.openai_provider import OpenAIProvider
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from click.testing import CliRunner

from aegis_otel import Action, ExecutionPlan, Policy, PolicyWatcher, Result, ResultStatus, Runtime
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.cli import main as aegis
from aegis_otel.runtime.approval import AutoApprovalHandler
from aegis_otel.runtime.audit import AuditLogger

SNIPPETS = Path(__file__).with_name("snippets")
BLOCKED = "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes"


class SimulatedExecutor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action=action, status=ResultStatus.SUCCESS, data={"did": action.type})


@pytest.fixture(autouse=True)
def the_tutorials_folder(tmp_path: Path, clean_environment: None) -> Iterator[None]:
    """The reader's folder, with the policies of the tutorial in it."""
    for policy in SNIPPETS.glob("*.yaml"):
        shutil.copy(policy, tmp_path)
    yield
    AuditLogger().close()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedModel]:
    """What the OpenAI model would answer: the SDK asks its provider for a model and is given this one."""

    def script(*turns: Any) -> ScriptedModel:
        scripted = ScriptedModel(list(turns))
        monkeypatch.setattr(OpenAIProvider, "get_model", lambda self, name: scripted)
        return scripted

    return script


async def run(snippet: str, names: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Run a snippet, top-level `await` included, and give back what it defined."""
    code = compile((SNIPPETS / snippet).read_text(), snippet, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = {} if names is None else names
    names.update(more, __name__="__tutorial__")
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result
    return names


def outputs(model: ScriptedModel) -> list[Any]:
    return [
        item["output"]
        for item in model.calls[-1].input
        if isinstance(item, dict) and item.get("type") == "function_call_output"
    ]


def rows() -> list[dict[str, Any]]:
    return list(reversed(AuditLogger().get_log()))


async def test_step_2(model: Callable[..., ScriptedModel]) -> None:
    """Inventory 41, 43, 116, 117: the three decorated tools go into an Agent; each does as its rule says."""
    defined = await run("step2_tools.py")
    scripted = model(
        [
            function_call("web_search", {"query": "x"}, call_id="c1"),
            function_call("write_record", {"table": "t", "data": "d"}, call_id="c2"),
            function_call("delete_record", {"record_id": "42"}, call_id="c3"),
        ],
        [assistant_message("done")],
    )
    tools = [defined["web_search"], defined["write_record"], defined["delete_record"]]
    await Runner.run(Agent(name="A", tools=tools), "go")
    assert outputs(scripted) == ["Results for: x", "Written to t: d", BLOCKED]


def test_step_3_and_4(model: Callable[..., ScriptedModel], capsys: pytest.CaptureFixture[str]) -> None:
    """Inventory 43, 88, 99, 118, 119: the full script; step 4's logger and commands read what it wrote."""
    scripted = model(
        [function_call("web_search", {"query": "AI governance best practices"}, call_id="c1")],
        [assistant_message("found it")],
        [function_call("delete_document", {"document_id": "42"}, call_id="c2")],
        [assistant_message("not allowed")],
    )
    runpy.run_path(str(SNIPPETS / "step3_governed_agent.py"))
    assert outputs(scripted) == [BLOCKED]
    printed = capsys.readouterr().out
    assert "delete_document | risk=CRITICAL | rule=block_deletes        | result=blocked" in printed
    assert "search | risk=LOW      | rule=search_auto          | result=success" in printed

    runpy.run_path(str(SNIPPETS / "step4_audit.py"))
    printed = capsys.readouterr().out
    assert re.search(
        r"\[\S+\+00:00\] delete_document -> storage: Action blocked by policy rule: block_deletes", printed
    )
    assert "High-risk actions: 0" in printed
    exported = [json.loads(line) for line in Path("audit_export.jsonl").read_text().splitlines()]
    assert [row["action_type"] for row in exported] == ["search", "delete_document"]

    blocked = rows()[1]
    table = {
        "action_type": "delete_document",
        "action_target": "storage",
        "action_params": {"document_id": "42"},
        "risk_level": "CRITICAL",
        "approval": "block",
        "matched_rule": "block_deletes",
        "result_status": "blocked",
        "result_error": "Action blocked by policy rule: block_deletes",
        "human_decision": None,
    }
    assert {name: blocked[name] for name in table} == table
    assert re.fullmatch(r"[0-9a-f]{12}", blocked["session_id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", blocked["timestamp"])

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(aegis, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    assert "delete_document" in command("audit")
    assert "web" in command("audit")
    assert "delete_document" not in command("audit", "--risk", "low")
    assert "delete_document" in command("audit", "--status", "blocked")
    command("audit", "--export", "cli_export.jsonl")
    assert Path("cli_export.jsonl").read_text() == Path("audit_export.jsonl").read_text()


async def test_policy_merge() -> None:
    """Inventory 28 to 31, 120: the first file's rules come first, and base's defaults are kept."""
    defined = await run("merge.py")
    for policy in (defined["policy"], defined["combined"]):
        said = {
            kind: policy.evaluate(Action(kind, "x"))
            for kind in ("search", "delete_x", "write_x", "send_email")
        }
        assert {kind: (d.approval.value, d.matched_rule) for kind, d in said.items()} == {
            "search": ("auto", "search_auto"),
            "delete_x": ("block", "prod_block_deletes"),
            "write_x": ("approve", "prod_require_approval_writes"),
            "send_email": ("approve", "<default>"),
        }


async def test_hot_reload(tmp_path: Path) -> None:
    """Inventory 77, 80, 121: an edited file is in force within the interval, while the agent runs."""
    names: dict[str, Any] = {}

    class EditsThePolicyWhileItRuns:
        @staticmethod
        async def run(agent: Any, text: str) -> str:
            (tmp_path / "policy.yaml").write_text(
                'version: "1"\nrules: [{name: new_rule, approval: block, risk_level: critical}]\n'
            )
            for _ in range(300):
                if names["runtime"].policy.rules[0].name == "new_rule":
                    return text
                await asyncio.sleep(0.01)
            return "never reloaded"

    await run(
        "hot_reload.py",
        names,
        SimulatedExecutor=SimulatedExecutor,
        Policy=Policy,
        Runner=EditsThePolicyWhileItRuns,
        agent=None,
    )
    assert names["result"] == "Do something"


async def test_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    """Inventory 73 to 76, 122: all three hooks fire, for plans and for tools."""
    defined = await run("hooks.py", SimulatedExecutor=SimulatedExecutor, Policy=Policy)
    runtime = defined["runtime"]
    await runtime.run_one(Action("delete_record", target="database"))
    printed = capsys.readouterr().out
    assert "[ALERT] High-risk action: delete_record -> database (rule: block_deletes)" in printed
    assert "[EXEC] delete_record: blocked" in printed

    tool = governed_tool(runtime=runtime, action_type="write_record")(lambda_tool())
    context = ToolContext(None, tool_name="t", tool_call_id="c1", tool_arguments="{}")
    await tool.on_invoke_tool(context, "{}")
    printed = capsys.readouterr().out
    assert "[ALERT] High-risk action: write_record" in printed
    assert "[APPROVAL] write_record: DENIED" in printed
    assert "[EXEC] write_record: denied" in printed


def lambda_tool() -> Callable[[], str]:
    def noop() -> str:
        return "ran"

    return noop


async def test_sync_and_async_tools(model: Callable[..., ScriptedModel]) -> None:
    """Inventory 46, 47, 123: both kinds of function, told apart by themselves."""

    class Client:
        async def search(self, query: str) -> list[str]:
            return [query]

    runtime = Runtime(policy=Policy.from_yaml("policy.yaml"), approval_handler=AutoApprovalHandler())
    defined = await run(
        "sync_async.py",
        governed_tool=governed_tool,
        runtime=runtime,
        some_async_client=Client(),
        cache={"k": "v"},
    )
    scripted = model(
        [
            function_call("async_search", {"query": "q"}, call_id="c1"),
            function_call("sync_lookup", {"key": "k"}, call_id="c2"),
        ],
        [assistant_message("done")],
    )
    await Runner.run(Agent(name="A", tools=[defined["async_search"], defined["sync_lookup"]]), "go")
    assert outputs(scripted) == ["['q']", "v"]


async def test_multiple_agents(model: Callable[..., ScriptedModel]) -> None:
    """Inventory 42, 48, 124: two agents share one policy and one trail, which names each of them."""
    model(
        [function_call("shared_search", {"query": "AI safety"}, call_id="c1")],
        [assistant_message("found")],
        [
            function_call("shared_search", {"query": "summary"}, call_id="c2"),
            function_call(
                "send_email", {"to": "team@example.com", "subject": "s", "body": "b"}, call_id="c3"
            ),
        ],
        [assistant_message("sent")],
    )
    await run(
        "multi_agent.py",
        Agent=Agent,
        AutoApprovalHandler=AutoApprovalHandler,
        Policy=Policy,
        Runner=Runner,
        Runtime=Runtime,
        SimulatedExecutor=SimulatedExecutor,
        governed_tool=governed_tool,
    )
    assert sorted((row["agent_name"], row["action_type"], row["tool_call_id"]) for row in rows()) == [
        ("Communicator", "search", "c2"),
        ("Communicator", "write_email", "c3"),
        ("Researcher", "search", "c1"),
    ]
    assert len({row["session_id"] for row in rows()}) == 1


async def test_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Inventory 53, 62, 125: the summary as the tutorial prints it, and nothing is recorded."""
    policy = Policy.from_dict(
        {
            "version": "1",
            "rules": [
                {
                    "name": "search_auto",
                    "match": {"type": "search*"},
                    "risk_level": "low",
                    "approval": "auto",
                },
                {
                    "name": "write_needs_approval",
                    "match": {"type": "write_*"},
                    "risk_level": "high",
                    "approval": "approve",
                },
                {
                    "name": "block_deletes",
                    "match": {"type": "delete_*"},
                    "risk_level": "critical",
                    "approval": "block",
                },
            ],
        }
    )
    await run("dry_run.py", runtime=Runtime(policy=policy), Action=Action)
    assert capsys.readouterr().out.splitlines() == [
        "  1. [   AUTO] Action(search -> web)  (risk=LOW, rule=search_auto)",
        "  2. [APPROVE] Action(write_record -> database)  (risk=HIGH, rule=write_needs_approval)",
        "  3. [  BLOCK] Action(delete_record -> database)  (risk=CRITICAL, rule=block_deletes)",
    ]
    assert not Path("aegis_audit").exists()


async def test_quick_reference() -> None:
    """Inventory 126: each line of the table."""
    policy = Policy.from_yaml("policy.yaml")
    assert Policy.from_yaml_files("prod-overrides.yaml", "base-policy.yaml").rules
    runtime = Runtime(executor=SimulatedExecutor(), policy=policy)
    plan = runtime.plan([Action("search", "web"), Action("delete_x")])
    assert isinstance(plan, ExecutionPlan)
    dry = await runtime.execute(plan, dry_run=True)
    assert [result.status for result in dry] == [ResultStatus.WOULD_RUN, ResultStatus.WOULD_BLOCK]
    results = await runtime.execute(plan)
    assert [result.status for result in results] == [ResultStatus.SUCCESS, ResultStatus.BLOCKED]
    async with PolicyWatcher(runtime, "policy.yaml"):
        pass
    runtime.update_policy(Policy.from_yaml("base-policy.yaml"))
    assert runtime.policy.rules[0].name == "search_auto"
    assert [row["action_type"] for row in AuditLogger().get_log(result_status="blocked")] == ["delete_x"]
    assert AuditLogger().export_jsonl("out.jsonl") == 2
