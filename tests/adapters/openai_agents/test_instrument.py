"""`instrument()` on the real SDK: what it covers, that it is one, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import inspect
import logging
import pickle
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from agents import (
    Agent,
    FunctionTool,
    RunConfig,
    Runner,
    ShellTool,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    WebSearchTool,
    function_tool,
    handoff,
    tool_namespace,
)
from agents.mcp.server import MCPServer
from agents.mcp.util import MCPUtil
from agents.realtime import session as realtime_session
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tracing import get_trace_provider
from mcp.types import CallToolResult, TextContent, Tool
from pydantic import BaseModel, Field

import aegis_otel
from aegis_otel import AuditError, ConfigError, Instrumentation, Policy, PolicyError, Runtime
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.capture import function_tools
from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.audit.journal.policy_changes import read_changes, read_text
from aegis_otel.runtime.approval import CallbackApprovalHandler, DenyApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import make_bench

POLICY = """\
version: "1"
rules:
  - { name: reads, match: { type: "read_*" }, approval: auto, risk_level: low }
  - { name: mail_of_support, match: { type: "send", agent: "Support" }, approval: auto, risk_level: medium }
  - { name: files_only, match: { type: "write", target: "files" }, approval: auto, risk_level: medium }
  - { name: nothing_else, match: { type: "*" }, approval: block, risk_level: critical }
"""


_OF_PYTHON = ("__doc__", "__slotnames__")
"""Set on a class when it is looked at, or an instance copied deeply."""


@pytest.fixture(autouse=True)
def sdk_as_it_was() -> Iterator[None]:
    """Whatever a test does, the SDK's classes and processors are what they were."""
    before = {name: value for name, value in vars(FunctionTool).items() if name not in _OF_PYTHON}
    processors = get_trace_provider()._multi_processor._processors  # type: ignore[attr-defined]
    yield
    if Instrumentation.current is not None:
        Instrumentation.current.uninstrument()
    assert {name: value for name, value in vars(FunctionTool).items() if name not in _OF_PYTHON} == before
    assert get_trace_provider()._multi_processor._processors == processors  # type: ignore[attr-defined]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def tool(name: str, *, ran: list[str] | None = None, **options: Any) -> FunctionTool:
    def body(x: int = 0) -> str:
        if ran is not None:
            ran.append(name)
        return f"{name} did {x}"

    return function_tool(body, name_override=name, **options)


def ask(agent: Agent[Any], *calls: tuple[str, dict[str, Any]], **run: Any) -> list[str]:
    """Have the agent make these calls in one turn; returns what the model read, in their order."""
    turn = [function_call(name, args, call_id=f"call_{i}") for i, (name, args) in enumerate(calls)]
    model = ScriptedModel([turn, [assistant_message("done")]])
    asyncio.run(Runner.run(agent, "go", run_config=RunConfig(model=model, **run)))
    return [
        str(item["output"])
        for item in model.calls[-1].input
        if isinstance(item, dict) and item.get("type") == "function_call_output"
    ]


def rows(found: Instrumentation) -> list[dict[str, Any]]:
    return list(reversed(found.runtime.audit.get_log()))


def test_tools_made_before_and_after_are_governed(policy: Path, tmp_path: Path) -> None:
    """One line is enough, wherever in the program it stands."""
    ran: list[str] = []
    before = tool("read_before", ran=ran)
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    after = tool("drop_table", ran=ran)
    agent = Agent(name="A", tools=[before, after])
    outputs = ask(agent, ("read_before", {"x": 3}), ("drop_table", {}))
    assert outputs == [
        "read_before did 3",
        "[AEGIS BLOCKED] Action blocked by policy rule: nothing_else",
    ]
    assert ran == ["read_before"]
    seen = {(row["tool_name"], row["result_status"], row["agent_name"]) for row in rows(found)}
    assert seen == {("read_before", "success", "A"), ("drop_table", "blocked", "A")}


def test_a_tool_that_is_renamed_is_judged_by_its_name_now(policy: Path, tmp_path: Path) -> None:
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    each = tool("read_it")
    agent = Agent(name="A", tools=[each])
    assert ask(agent, ("read_it", {})) == ["read_it did 0"]
    each.name = "wipe_it"
    assert ask(agent, ("wipe_it", {}))[0].startswith("[AEGIS BLOCKED]")


def test_a_tool_added_to_an_agent_later_is_governed(policy: Path, tmp_path: Path) -> None:
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    agent = Agent(name="A")
    agent.tools.append(tool("drop"))
    assert ask(agent, ("drop", {}))[0].startswith("[AEGIS BLOCKED]")


def test_arguments_that_are_no_object_do_not_run(policy: Path, tmp_path: Path) -> None:
    ran: list[str] = []
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    agent = Agent(name="A", tools=[tool("read_it", ran=ran)])
    call = function_call("read_it", {}, call_id="1").model_copy(update={"arguments": "[1, 2]"})
    model = ScriptedModel([[call], [assistant_message("done")]])
    asyncio.run(Runner.run(agent, "go", run_config=RunConfig(model=model)))
    assert not ran
    assert rows(found)[0]["result_status"] == "failed"


def test_targets_and_agents_reach_the_rules(policy: Path, tmp_path: Path) -> None:
    """`targets` names what a tool acts on; `match.agent` sees who asks, also after a handoff."""
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit", targets={"wr*": "files"})
    support = Agent(name="Support", tools=[tool("send")])
    front = Agent(name="Front", tools=[tool("write"), tool("send")], handoffs=[handoff(support)])
    assert ask(front, ("write", {}), ("send", {}))[0] == "write did 0"
    model = ScriptedModel(
        [
            [function_call("transfer_to_support", {}, call_id="h")],
            [function_call("send", {}, call_id="s")],
            [assistant_message("done")],
        ]
    )
    asyncio.run(Runner.run(front, "go", run_config=RunConfig(model=model)))
    assert [(row["agent_name"], row["action_type"], row["matched_rule"]) for row in rows(found)][2:] == [
        ("Support", "send", "mail_of_support")
    ]
    assert {row["action_target"] for row in rows(found)} == {"files", "default"}


def test_defaults_of_the_schema_reach_conditions(tmp_path: Path) -> None:
    """What the body will see is what the policy judges."""
    rule = {"name": "few", "match": {"type": "fetch"}, "approval": "auto", "risk_level": "low"}
    rule["conditions"] = {"param_lte": {"limit": 10}}
    policy = Policy.from_dict({"version": "1", "defaults": {"approval": "block"}, "rules": [rule]})
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")

    @function_tool(strict_mode=False)
    def fetch(limit: int = 100) -> str:
        return str(limit)

    agent = Agent(name="A", tools=[fetch])
    assert ask(agent, ("fetch", {}), ("fetch", {"limit": 5})) == [
        "[AEGIS BLOCKED] Action blocked by policy rule: <default>",
        "5",
    ]


def test_the_conversation_is_that_of_the_run(policy: Path, tmp_path: Path) -> None:
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    ask(Agent(name="A", tools=[tool("read_it")]), ("read_it", {}), group_id="chat 7")
    assert rows(found)[0]["conversation_id"] == "chat 7"
    assert rows(found)[0]["tool_call_id"] == "call_0"


def test_asking_twice_for_the_same_gives_the_same(policy: Path, tmp_path: Path) -> None:
    first = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    assert aegis_otel.instrument(policy, audit_dir=tmp_path / "audit") is first
    outputs = ask(Agent(name="A", tools=[tool("read_it")]), ("read_it", {}))
    assert outputs == ["read_it did 0"]
    assert len(rows(first)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"policy": Policy.from_dict({"version": "1", "rules": []})},
        {"mode": "monitor"},
        {"on_ungoverned": "refuse"},
        {"targets": {"*": "all"}},
    ],
    ids=str,
)
def test_other_settings_are_refused_while_some_are_in_force(
    policy: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    """Two policies cannot both be in force, and the first must not be replaced by accident."""
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    with pytest.raises(ConfigError, match="governed already, with other settings"):
        aegis_otel.instrument(**{"policy": policy, "audit_dir": tmp_path / "audit", **other})
    assert Instrumentation.current is found
    found.uninstrument()
    again = aegis_otel.instrument(**{"policy": policy, "audit_dir": tmp_path / "audit", **other})
    assert again is Instrumentation.current


def test_uninstrument_leaves_no_trace(policy: Path, tmp_path: Path) -> None:
    """Tools are what they were, also those that were used meanwhile; calls run ungoverned."""
    mine = ToolInputGuardrail(lambda data: ToolGuardrailFunctionOutput.allow(), name="mine")
    plain, guarded = tool("drop"), tool("read_it", tool_input_guardrails=[mine])
    invoker = plain.on_invoke_tool
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    ask(Agent(name="A", tools=[plain, guarded]), ("drop", {}), ("read_it", {}))
    copied = dataclasses.replace(plain, name="copied")
    shallow = copy.copy(guarded)
    found.uninstrument()
    found.uninstrument()
    assert plain.tool_input_guardrails is None
    assert plain.on_invoke_tool is invoker
    assert guarded.tool_input_guardrails == [mine] == shallow.tool_input_guardrails
    assert copied.tool_input_guardrails is None
    assert not any(
        "aegis" in repr(value).lower() for each in (plain, copied) for value in vars(each).values()
    )
    ran = len(rows(found))
    assert ask(Agent(name="A", tools=[plain, copied]), ("drop", {}), ("copied", {})) == [
        "drop did 0",
        "drop did 0",
    ]
    assert len(rows(found)) == ran


def test_the_users_guardrails_stay_in_force_and_can_be_changed(policy: Path, tmp_path: Path) -> None:
    """Ours stands before them; a list shared by tools, appended to later, or copied stays what it is."""
    asked: list[str] = []

    def watch(data: Any) -> ToolGuardrailFunctionOutput:
        asked.append(data.context.tool_name)
        return ToolGuardrailFunctionOutput.allow()

    shared = [ToolInputGuardrail(watch, name="watch")]
    one, two = tool("read_a", tool_input_guardrails=shared), tool("read_b", tool_input_guardrails=shared)
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    bare = tool("read_c", tool_input_guardrails=[])
    assert bare.tool_input_guardrails is not None
    bare.tool_input_guardrails.append(shared[0])
    borrowed = tool("read_d", tool_input_guardrails=list(one.tool_input_guardrails or ()))
    agent = Agent(name="A", tools=[one, two, bare, borrowed])
    ask(agent, *((name, {}) for name in ("read_a", "read_b", "read_c", "read_d")))
    assert sorted(asked) == ["read_a", "read_b", "read_c", "read_d"]
    assert len(shared) == 1


def test_another_guardrail_that_rejects_leaves_a_skipped_row(policy: Path, tmp_path: Path) -> None:
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    no = ToolInputGuardrail(lambda data: ToolGuardrailFunctionOutput.reject_content("theirs"), name="no")
    outputs = ask(Agent(name="A", tools=[tool("read_it", tool_input_guardrails=[no])]), ("read_it", {}))
    assert outputs == ["theirs"]
    assert [row["result_status"] for row in rows(found)] == ["skipped"]


def test_a_governed_tool_is_not_decided_on_twice(policy: Path, tmp_path: Path) -> None:
    """What `governed_tool` decides, `instrument()` leaves to it; also on a copy, also made meanwhile."""
    other = Runtime(
        policy=Policy.from_dict({"version": "1", "defaults": {"approval": "auto"}, "rules": []}),
        audit_logger=AuditLogger(tmp_path / "other"),
    )
    early = governed_tool(runtime=other)(tool("early"))
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    late = governed_tool(runtime=other)(tool("late"))
    agent = Agent(name="A", tools=[early, late, dataclasses.replace(early, name="copied")])
    assert ask(agent, ("early", {}), ("late", {}), ("copied", {})) == [
        "early did 0",
        "late did 0",
        "early did 0",
    ]
    assert len(other.audit.get_log()) == 3
    assert rows(found) == []


def test_a_direct_call_of_the_invoker_is_decided_on(policy: Path, tmp_path: Path) -> None:
    """User code that calls `tool.on_invoke_tool` itself does not get past the policy."""
    from agents.tool_context import ToolContext

    ran: list[str] = []
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    each = tool("drop", ran=ran)
    context = ToolContext(context=None, tool_name="drop", tool_call_id="d", tool_arguments="{}")
    said = asyncio.run(each.on_invoke_tool(context, "{}"))
    assert str(said).startswith("[AEGIS BLOCKED]")
    assert not ran
    assert len(rows(found)) == 1


def test_tools_are_still_what_the_sdk_made_them(policy: Path, tmp_path: Path) -> None:
    """Equality, copies, the wrapped function and the invoker's identity hold while governed."""
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")

    async def invoke(context: Any, arguments: str) -> str:
        return "ok"

    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    plain = FunctionTool("read_x", "", schema, invoke)
    assert plain == copy.copy(plain) == dataclasses.replace(plain)
    assert plain != FunctionTool("read_z", "", schema, invoke)
    assert plain.on_invoke_tool is plain.on_invoke_tool
    assert "read_x" in repr(plain)
    made = tool("read_y")
    assert made.__wrapped__(4) == "read_y did 4"
    with pytest.raises(AttributeError):
        _ = FunctionTool.on_invoke_tool
    assert FunctionTool.tool_input_guardrails is None


def test_gates_go_with_their_tools(policy: Path, tmp_path: Path) -> None:
    """MCP tools are made anew each turn: what is kept for a tool must go with it."""
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    each = tool("read_it")
    assert each.on_invoke_tool is each.on_invoke_tool
    gone = weakref.ref(each)
    del each
    gc.collect()
    assert gone() is None


def test_100_calls_in_one_turn_and_50_runs_at_once(policy: Path, tmp_path: Path) -> None:
    """No call is lost, none is decided twice, and each has its own id."""
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")

    async def go() -> None:
        many = [[function_call("read_it", {"x": i}, call_id=f"m{i}") for i in range(100)]]
        runs = [(ScriptedModel([*many, [assistant_message("done")]]), 0)]
        runs += [
            (
                ScriptedModel(
                    [[function_call("read_it", {"x": n}, call_id="same")], [assistant_message("done")]]
                ),
                n,
            )
            for n in range(50)
        ]
        agent = Agent(name="A", tools=[tool("read_it")])
        await asyncio.gather(
            *(
                Runner.run(agent, "go", run_config=RunConfig(model=model, group_id=str(n)))
                for model, n in runs
            )
        )

    asyncio.run(go())
    every = rows(found)
    assert len(every) == len({row["decision_id"] for row in every}) == 150
    assert {row["result_status"] for row in every} == {"success"}
    single = {
        row["conversation_id"]: row["action_params"]["x"] for row in every if row["tool_call_id"] == "same"
    }
    assert single == {str(n): n for n in range(50)}


def test_threads_with_run_sync(policy: Path, tmp_path: Path) -> None:
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    outputs: dict[int, list[str]] = {}

    def work(n: int) -> None:
        agent = Agent(name=f"A{n}", tools=[tool("read_it"), tool("drop")])
        loop = asyncio.new_event_loop()
        model = ScriptedModel(
            [
                [function_call("read_it", {"x": n}, call_id="r"), function_call("drop", {}, call_id="d")],
                [assistant_message("done")],
            ]
        )
        loop.run_until_complete(Runner.run(agent, "go", run_config=RunConfig(model=model)))
        loop.close()
        outputs[n] = [str(i["output"]) for i in model.calls[-1].input if "output" in i]  # type: ignore[index]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: said[0] for n, said in outputs.items()} == {n: f"read_it did {n}" for n in range(8)}
    by_agent = {(row["agent_name"], row["action_type"]): row["result_status"] for row in rows(found)}
    assert by_agent == {
        (f"A{n}", name): status
        for n in range(8)
        for name, status in (("read_it", "success"), ("drop", "blocked"))
    }


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"version": "1", "rules": []}, "pass `Policy.from_dict(...)`"),
        ("a.yaml:b.yaml", "pass several files as a list, ['a.yaml', 'b.yaml']"),
    ],
)
def test_what_is_no_path_is_answered_with_what_to_pass(given: Any, remedy: str) -> None:
    """Neither a list as the environment has it nor a policy itself is taken for the name of a file."""
    with pytest.raises(ConfigError, match=re.escape(remedy)):
        aegis_otel.instrument(given)


# --- monitor mode ---


def test_monitor_mode_records_what_would_have_happened(policy: Path, tmp_path: Path) -> None:
    """Nothing is stopped and nobody is asked; the event says what the policy would have done."""
    asked = DenyApprovalHandler()
    found = aegis_otel.instrument(
        policy, mode="monitor", audit_dir=tmp_path / "audit", approval_handler=asked
    )
    ran: list[str] = []
    agent = Agent(name="A", tools=[tool("drop", ran=ran), tool("read_it", ran=ran)])
    assert ask(agent, ("drop", {}), ("read_it", {})) == ["drop did 0", "read_it did 0"]
    assert sorted(ran) == ["drop", "read_it"]
    seen = {row["action_type"]: (row["mode"], row["approval"], row["result_status"]) for row in rows(found)}
    assert seen == {"drop": ("monitor", "block", "success"), "read_it": ("monitor", "auto", "success")}


def test_the_processor_monitors_by_default_and_says_so(
    policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from agents import add_trace_processor

    with caplog.at_level(logging.WARNING, "aegis_otel"):
        processor = aegis_otel.AegisTracingProcessor(policy, audit_dir=tmp_path / "audit")
    assert [record.message for record in caplog.records] == [
        "monitor mode: tool calls are decided on and recorded, and none is stopped"
    ]
    add_trace_processor(processor)
    assert ask(Agent(name="A", tools=[tool("drop")]), ("drop", {})) == ["drop did 0"]
    assert rows(processor.instrumentation)[0]["mode"] == "monitor"
    processor.instrumentation.uninstrument()


def test_the_processor_enforces_on_request_even_with_tracing_off(policy: Path, tmp_path: Path) -> None:
    """It need not even be called: decisions are made at the capture point."""
    processor = aegis_otel.AegisTracingProcessor(policy, mode="enforce", audit_dir=tmp_path / "audit")
    agent = Agent(name="A", tools=[tool("drop")])
    assert ask(agent, ("drop", {}), tracing_disabled=True)[0].startswith("[AEGIS BLOCKED]")
    assert aegis_otel.instrument(policy, mode="enforce", audit_dir=tmp_path / "audit") is (
        processor.instrumentation
    )


# --- bad input ---


def test_a_missing_and_a_broken_policy_install_nothing(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="not found"):
        aegis_otel.instrument(tmp_path / "none.yaml", audit_dir=tmp_path / "audit")
    (tmp_path / "bad.yaml").write_text("version: '1'\nrules:\n  - {aproval: block}\n")
    with pytest.raises(PolicyError, match=r"bad.yaml:3:6: .*did you mean `approval`"):
        aegis_otel.instrument(tmp_path / "bad.yaml", audit_dir=tmp_path / "audit")
    assert Instrumentation.current is None


def test_no_policy_at_all_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEGIS_POLICY", raising=False)
    with pytest.raises(ConfigError, match=r'pass `policy="policy.yaml"` or set `AEGIS_POLICY`'):
        aegis_otel.instrument()


def test_an_audit_that_cannot_be_written_is_found_early(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="file"):
        aegis_otel.instrument(policy, audit_dir=tmp_path / "file" / "audit")
    assert Instrumentation.current is None


def test_an_audit_that_cannot_be_written_may_be_allowed(policy: Path, tmp_path: Path) -> None:
    """`on_audit_failure="allow"`: the policy is still enforced, the calls it allows run unrecorded."""
    (tmp_path / "file").write_text("")
    aegis_otel.instrument(policy, audit_dir=tmp_path / "file" / "audit", on_audit_failure="allow")
    agent = Agent(name="A", tools=[tool("drop"), tool("read_it")])
    outputs = ask(agent, ("read_it", {}), ("drop", {}))
    assert outputs == ["read_it did 0", "[AEGIS BLOCKED] Action blocked by policy rule: nothing_else"]


@pytest.mark.parametrize("name", ["mode", "hooks", "audit_dir"])
def test_a_runtime_has_its_own_settings(tmp_path: Path, name: str) -> None:
    bench = make_bench(tmp_path)
    with pytest.raises(ConfigError, match=f"`runtime` has a `{name}` of its own"):
        aegis_otel.instrument(runtime=bench.runtime, **{name: "enforce"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`runtime` has a `policy` of its own"):
        aegis_otel.instrument("policy.yaml", runtime=bench.runtime)


def test_unknown_settings_are_named(policy: Path) -> None:
    with pytest.raises(TypeError, match="unknown setting `polcy`"):
        aegis_otel.instrument(policy, polcy="x")  # type: ignore[call-arg]


def test_an_sdk_that_looks_elsewhere_is_refused(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we stand before is no longer called: the self-test sees that a body was reached."""
    monkeypatch.setattr(function_tools, "INVOKER", "on_invoke")
    monkeypatch.setattr(function_tools, "tool_execution", _unread(function_tools.tool_execution))
    with pytest.raises(
        ConfigError, match=r"self-test of the capture point failed.*body of a tool was reached"
    ):
        aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    assert Instrumentation.current is None
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(function_tools, "tool_execution", _unread(function_tools.tool_execution))
        with pytest.raises(ConfigError, match="self-test of the capture point failed"):
            aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    assert realtime_session.__name__ == function_tools.REALTIME
    for name in ("GUARDRAILS", "REALTIME_GUARDRAILS"):
        with monkeypatch.context() as patch:
            patch.setattr(function_tools, name, "renamed")
            with pytest.raises(ConfigError, match=r"has no `.*\.renamed` as known here"):
                aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    assert Instrumentation.current is None


def _unread(module: ModuleType) -> ModuleType:
    """A module with the same functions, which the SDK does not look into."""
    copied = ModuleType(module.__name__)
    vars(copied).update(vars(module))
    return copied


# --- reload ---


def test_a_policy_file_deleted_while_running_keeps_the_old_one(
    policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit", reload_interval=0.05)
    digest = found.runtime.policy.digest
    policy.unlink()
    agent = Agent(name="A", tools=[tool("drop")])
    until(lambda: "was refused" in caplog.text)
    assert ask(agent, ("drop", {}))[0].startswith("[AEGIS BLOCKED]")
    policy.write_text(POLICY.replace("nothing_else", "nothing_more"))
    until(lambda: found.runtime.policy.digest != digest)
    assert ask(agent, ("drop", {})) == ["[AEGIS BLOCKED] Action blocked by policy rule: nothing_more"]
    assert [row["policy_digest"] == digest for row in rows(found)] == [True, False]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.01)


class _Server(MCPServer):
    """Lists new tools each turn."""

    name = "srv"

    async def connect(self) -> None: ...

    async def cleanup(self) -> None: ...

    async def list_tools(self, *_: Any, **__: Any) -> list[Tool]:
        return [Tool(name="read_it", inputSchema={"type": "object", "properties": {}})]

    async def call_tool(self, *_: Any, **__: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="x")])

    async def list_prompts(self, *_: Any) -> Any: ...

    async def get_prompt(self, *_: Any, **__: Any) -> Any: ...


def _plain(_: Any) -> FunctionTool:
    async def body(context: Any, arguments: str) -> str:
        return arguments

    return FunctionTool(name="t", description="", params_json_schema={}, on_invoke_tool=body)


def _mcp(server: Any) -> FunctionTool:
    listed = Tool(name="t", inputSchema={"type": "object", "properties": {}})
    return MCPUtil.to_function_tool(listed, server, convert_schemas_to_strict=False)


class _Box:
    """Held by the part of its own tool."""

    def __init__(self) -> None:
        self.shell = ShellTool(executor=self.run)

    def run(self, request: Any) -> str:
        return str(request)


@pytest.mark.parametrize(
    "make",
    [_plain, lambda _: tool("t"), lambda _: Agent(name="a").as_tool("x", "y"), _mcp, lambda _: _Box()],
    ids=["plain", "function_tool", "as_tool", "mcp", "shell"],
)
def test_nothing_is_kept_of_dropped_tools(make: Any, policy: Path, tmp_path: Path) -> None:
    """What stands in for a tool leads back to it, and is gone with it all the same."""
    aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    seen, server = [], _Server()
    for _ in range(100):
        each = make(server)
        if isinstance(each, FunctionTool):
            assert each.on_invoke_tool is each.on_invoke_tool
        else:
            assert each.shell.executor is each.shell.executor
        seen.append(weakref.ref(each))
    del each
    gc.collect()
    assert sum(reference() is not None for reference in seen) == 0


def test_copies_have_gates_of_their_own(policy: Path, tmp_path: Path) -> None:
    """A tool that was used can be copied in every way, and what is kept in it is nobody's else."""
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    used = tool("read_it")
    ask(Agent(name="A", tools=[used]), ("read_it", {}))
    for copied in (copy.copy(used), copy.deepcopy(used), dataclasses.replace(used)):
        copied.name = "drop"
        assert ask(Agent(name="A", tools=[copied]), ("drop", {}))[0].startswith("[AEGIS BLOCKED]")
        assert ask(Agent(name="A", tools=[used]), ("read_it", {})) == ["read_it did 0"]
    kept = {name: value for name, value in vars(used).items() if name.startswith("_aegis")}
    assert set(kept)
    assert pickle.loads(pickle.dumps(kept)) == dict.fromkeys(kept)
    found.uninstrument()
    assert not [name for name in vars(used) if name.startswith("_aegis")]


def test_defaults_of_the_other_alternative_hide_nothing(tmp_path: Path) -> None:
    class Small(BaseModel):
        kind: Literal["small"]
        limit: int = 0

    class Large(BaseModel):
        kind: Literal["large"]
        limit: int = 1000

    def pay(p: Any) -> str:
        return str(p)

    pay.__annotations__["p"] = Annotated[Small | Large, Field(discriminator="kind")]
    limit = {"match": {"type": "pay"}, "conditions": {"param_gt": {"p.limit": 500}}, "approval": "block"}
    rules = [{"name": "big", "risk_level": "critical", **limit}]
    rest = {"approval": "auto", "risk_level": "low"}
    rules_of = Policy.from_dict({"version": "1", "defaults": rest, "rules": rules})
    aegis_otel.instrument(rules_of, audit_dir=tmp_path / "audit")
    agent = Agent(name="A", tools=[function_tool(pay, strict_mode=False)])
    large, small = ask(agent, ("pay", {"p": {"kind": "large"}}), ("pay", {"p": {"kind": "small"}}))
    assert large == "[AEGIS BLOCKED] Action blocked by policy rule: big"
    assert "limit=0" in small


def test_a_namespace_is_the_target(tmp_path: Path) -> None:
    rule = {"name": "crm", "match": {"type": "delete", "target": "crm"}, "approval": "block"}
    rest = {"approval": "auto", "risk_level": "low"}
    rules = [{**rule, "risk_level": "high"}]
    found = aegis_otel.instrument(
        Policy.from_dict({"version": "1", "defaults": rest, "rules": rules}), audit_dir=tmp_path / "audit"
    )
    tools = [
        *tool_namespace(name="crm", description="c", tools=[tool("delete")]),
        *tool_namespace(name="fs", description="f", tools=[tool("delete")]),
    ]
    calls: Any = [
        {**function_call("delete", {}, call_id=name).model_dump(), "namespace": name}
        for name in ("crm", "fs")
    ]
    model = ScriptedModel([calls, [assistant_message("done")]])
    asyncio.run(Runner.run(Agent(name="A", model=model, tools=tools), "go"))
    assert {(row["action_target"], row["result_status"]) for row in rows(found)} == {
        ("crm", "blocked"),
        ("fs", "success"),
    }


@pytest.mark.parametrize("own", [False, True], ids=["instrument", "governed_tool"])
def test_a_wrapper_around_a_governed_invoker_is_one_decision(own: bool, policy: Path, tmp_path: Path) -> None:
    """So are the tries of a wrapper that tries again."""
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    ran: list[str] = []
    wrapped = tool("read_it", ran=ran)
    if own:
        wrapped = governed_tool(runtime=found.runtime)(wrapped)
    inner = wrapped.on_invoke_tool

    async def twice(context: Any, arguments: str) -> Any:
        await inner(context, arguments)
        return await inner(context, arguments)

    wrapped.on_invoke_tool = twice
    assert ask(Agent(name="A", tools=[wrapped]), ("read_it", {"x": 2})) == ["read_it did 2"]
    assert ran == ["read_it", "read_it"]
    assert [row["result_status"] for row in rows(found)] == ["success"]


def test_another_tool_called_by_a_body_is_a_decision_of_its_own(policy: Path, tmp_path: Path) -> None:
    """Also with the context and the arguments of the first."""
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    drop = tool("drop")

    async def body(context: Any, arguments: str) -> Any:
        return await drop.on_invoke_tool(context, arguments)

    read = FunctionTool(name="read_it", description="", params_json_schema={}, on_invoke_tool=body)
    assert ask(Agent(name="A", tools=[read]), ("read_it", {}))[0].startswith("[AEGIS BLOCKED]")
    assert {(row["action_type"], row["result_status"]) for row in rows(found)} == {
        ("read_it", "success"),
        ("drop", "blocked"),
    }


def test_a_wrapper_that_still_holds_a_gate_afterwards_runs_the_body(policy: Path, tmp_path: Path) -> None:
    found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    wrapped = tool("drop")
    inner = wrapped.on_invoke_tool

    async def wrapper(context: Any, arguments: str) -> Any:
        return await inner(context, arguments)

    wrapped.on_invoke_tool = wrapper
    found.uninstrument()
    assert ask(Agent(name="A", tools=[wrapped]), ("drop", {})) == ["drop did 0"]
    assert not rows(found)


def test_a_call_that_waits_while_the_capture_point_goes_is_not_called_skipped(tmp_path: Path) -> None:
    """Its body runs where nobody looks any more: the row says that nobody knows."""

    def answer(decision: Any) -> bool:
        found.uninstrument()
        return True

    rules = {"version": "1", "defaults": {"approval": "approve", "risk_level": "high"}}
    found = aegis_otel.instrument(
        Policy.from_dict(rules),
        audit_dir=tmp_path / "audit",
        approval_handler=CallbackApprovalHandler(answer),
    )
    ran: list[str] = []
    ask(Agent(name="A", tools=[tool("drop", ran=ran)]), ("drop", {}))
    assert ran == ["drop"]
    assert [(row["result_status"], row["human_decision"]) for row in rows(found)] == [("unknown", "approved")]


def test_an_unknown_kind_of_invoker_is_refused(policy: Path, tmp_path: Path) -> None:
    """The gate would stand outside of what turns failures into text, and see none."""
    kind = type(tool("t").on_invoke_tool)
    name, kind.__name__ = kind.__name__, "Renamed"
    try:
        with pytest.raises(ConfigError, match="unknown `Renamed`"):
            aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    finally:
        kind.__name__ = name
    assert Instrumentation.current is None


def test_a_variable_that_is_no_setting_is_told_once(
    policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mode misspelt would otherwise govern in another one than was meant, in silence."""
    monkeypatch.setenv("AEGIS_MODEE", "monitor")
    monkeypatch.setenv("AEGIS_RUNBOOKS", "1")
    for _ in range(2):
        aegis_otel.instrument(policy, audit_dir=tmp_path / "audit")
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("WARNING", "unknown `AEGIS_MODEE` (did you mean `AEGIS_MODE`?): ignored")
    ]


def test_object_storage_without_its_package_is_told(
    policy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGIS_AUDIT_DIR", "s3://bucket/ours")
    monkeypatch.setitem(sys.modules, "obstore", None)
    aegis_otel.instrument(policy)
    assert [(each.levelname, each.message) for each in caplog.records] == [
        (
            "WARNING",
            "`s3://bucket/ours` needs object storage: pip install '.[s3]' in a clone; "
            "until then what is sealed is not sent there",
        )
    ]


def test_what_is_called_in_place_of_the_sdks_methods_takes_their_arguments_by_name(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User code may call `agent.get_all_tools(run_context=...)`, as the SDK declares it."""
    wrapped: dict[str, tuple[Any, Any]] = {}
    wrap = Patches.wrap

    def note(self: Patches, owner: Any, name: str, wrapper: Any) -> None:
        if isinstance(owner, type) and not owner.__name__.startswith("_") and not name.startswith("_"):
            wrapped[f"{owner.__name__}.{name}"] = getattr(owner, name), wrapper
        wrap(self, owner, name, wrapper)

    monkeypatch.setattr(Patches, "wrap", note)
    for approvals in ("handler", "sdk"):
        found = aegis_otel.instrument(policy, audit_dir=tmp_path / "audit", approvals=approvals)
        found.uninstrument()
    assert {"AgentBase.get_all_tools", "RunContextWrapper.approve_tool"} <= wrapped.keys()
    for name, (original, wrapper) in wrapped.items():
        _, *expected = inspect.signature(original).parameters
        _, _, *taken = inspect.signature(wrapper).parameters.values()
        if not any(each.kind is each.VAR_KEYWORD for each in taken):
            assert [each.name for each in taken] == expected, name


async def test_the_audit_has_the_start_the_tool_that_cannot_be_governed_and_the_stop(tmp_path: Path) -> None:
    """Each once, in the order in which it happened, with the text of the policy beside it."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    instrumentation = aegis_otel.instrument(tmp_path / "policy.yaml", audit_dir=tmp_path / "audit")
    for _ in range(2):
        model = ScriptedModel([[assistant_message("done")]])
        await Runner.run(Agent(name="Clerk", model=model, tools=[WebSearchTool()]), "go")
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    changes = list(read_changes(tmp_path / "audit"))
    assert [each.change for each in changes] == ["started", "ungoverned", "stopped"]
    assert "`web_search` of agent `Clerk`" in str(changes[1].problem)
    digest = Policy.from_text(POLICY).digest
    assert {each.policy_digest for each in changes} == {digest}
    assert read_text(tmp_path / "audit", digest) == POLICY.encode()
