"""A program behaves with governance as it does without: what it reads is what it set."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    AsyncComputer,
    ComputerTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    ModelSettings,
    RunConfig,
    Runner,
    ShellTool,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    function_tool,
)
from agents.sandbox import SandboxAgent
from agents.sandbox.capabilities import Capability
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from pydantic import BaseModel

import aegis_otel
from aegis_otel import ConfigError, Instrumentation, Policy, Runtime
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.capture import self_test
from aegis_otel.adapters.openai_agents.coverage.coverage import Status
from aegis_otel.runtime.audit import AuditLogger

ALLOW = Policy.from_dict({"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": []})
BLOCK = Policy.from_dict(
    {"version": "1", "defaults": {"risk_level": "low", "approval": "block"}, "rules": []}
)
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.fixture(autouse=True)
def taken_away() -> Iterator[None]:
    yield
    if Instrumentation.current is not None:
        Instrumentation.current.uninstrument()


def govern(tmp_path: Path, policy: Policy = ALLOW, **settings: Any) -> Instrumentation:
    return aegis_otel.instrument(policy, audit_dir=tmp_path / "audit", **settings)


async def body(context: Any, arguments: str) -> str:
    return "done"


def plain(**options: Any) -> FunctionTool:
    return FunctionTool("act", "Acts.", SCHEMA, body, **options)


@function_tool
def greet(name: str = "you") -> str:
    """Greets."""
    return f"hello {name}"


def run(agent: Agent[Any], *calls: Any, last: str = "done") -> Any:
    turns = [[*calls], [assistant_message(last)]] if calls else [[assistant_message(last)]]
    quiet = RunConfig(model=ScriptedModel(turns), tracing_disabled=True)
    return asyncio.run(Runner.run(agent, "go", run_config=quiet))


# --- 4: tools that reach the model unseen ---

UNSEEN: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": {"id": "pmpt_1"}},
    "dynamic prompt": {"prompt": lambda data: {"id": "pmpt_1"}},
    "extra_body": {"model_settings": ModelSettings(extra_body={"tools": [{"type": "web_search"}]})},
    "extra_args": {"model_settings": ModelSettings(extra_args={"tools": [{"type": "web_search"}]})},
    "nested": {"model_settings": ModelSettings(extra_body={"extra": {"mcpServers": [{"url": "x"}]}})},
    "search": {"model_settings": ModelSettings(extra_args={"web_search_options": {}})},
    "stored by id": {"model_settings": ModelSettings(extra_body={"prompt": {"id": "pmpt_1"}})},
    "no mapping": {"model_settings": ModelSettings(extra_body="{}")},  # type: ignore[arg-type]
}


@pytest.mark.parametrize("given", UNSEEN.values(), ids=UNSEEN)
def test_k11_tools_that_nobody_sees_are_listed_and_refused(given: dict[str, Any], tmp_path: Path) -> None:
    found = govern(tmp_path, on_ungoverned="refuse")
    agent = Agent(name="A", **given)
    assert [row.status for row in found.coverage(agent)] == [Status.NOT_GOVERNABLE]
    assert found.coverage(agent.clone(name="B")).gaps[0].agent == "B"
    with pytest.raises(ConfigError, match=r"cannot be governed: .*model's service"):
        run(agent)


def test_k11_tools_that_nobody_sees_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    govern(tmp_path)
    assert run(Agent(name="A", prompt={"id": "pmpt_1"})).final_output == "done"
    assert "tool `prompt` of agent `A` runs ungoverned: may bring tools" in caplog.text


def test_k11_tools_of_a_run_config_are_refused(tmp_path: Path) -> None:
    """The settings of a run are no agent's: they are met when the SDK works them out."""
    govern(tmp_path, on_ungoverned="refuse")
    settings = ModelSettings(extra_body={"tools": [{"type": "code_interpreter"}]})
    model = ScriptedModel([[assistant_message("done")]])
    config = RunConfig(model=model, model_settings=settings)
    with pytest.raises(ConfigError, match=r"`extra_body.tools` of agent `RunConfig`"):
        asyncio.run(Runner.run(Agent(name="A"), "go", run_config=config))
    assert not model.calls


def test_k11_ordinary_request_fields_are_no_tools_holds(tmp_path: Path) -> None:
    found = govern(tmp_path, on_ungoverned="refuse")
    settings = ModelSettings(
        extra_body={"top_k": 40, "chat_template_kwargs": {"prompt": "x"}, "tools": None},
        extra_args={"seed": 1},
    )
    agent = Agent(name="A", tools=[greet], model_settings=settings)
    assert not found.coverage(agent).gaps
    assert run(agent).final_output == "done"


# --- 5: we do not show up ---


def guarded(asked: list[str]) -> ToolInputGuardrail[Any]:
    def watch(data: Any) -> ToolGuardrailFunctionOutput:
        asked.append(data.context.tool_name)
        return ToolGuardrailFunctionOutput.allow()

    return ToolInputGuardrail(watch, name="mine")


def test_k11_guardrails_of_a_tool_are_what_the_user_set(tmp_path: Path) -> None:
    mine = [guarded([])]
    one, two = plain(), plain(tool_input_guardrails=mine)
    before = repr(one), repr(two)
    govern(tmp_path)
    assert one.tool_input_guardrails is None
    assert two.tool_input_guardrails is mine
    assert plain().tool_input_guardrails is None
    assert (repr(one), repr(two)) == before
    assert repr(one.on_invoke_tool) == repr(body)


@pytest.mark.parametrize("policy", [ALLOW, BLOCK], ids=["allowed", "blocked"])
def test_k11_results_and_saved_states_are_without_ours(policy: Policy, tmp_path: Path) -> None:
    """The guardrail results of a run are those of the user's guardrails; ours still comes first."""
    asked: list[str] = []
    govern(tmp_path, policy)
    tools: list[Any] = [plain(tool_input_guardrails=[guarded(asked)]), greet]
    result = run(
        Agent(name="A", tools=tools),
        function_call("act", {}, call_id="1"),
        function_call("greet", {}, call_id="2"),
    )
    names = [each.guardrail.get_name() for each in result.tool_input_guardrail_results]
    assert names == (["mine"] if policy is ALLOW else [])
    assert asked == (["act"] if policy is ALLOW else [])
    assert "aegis" not in result.to_state().to_string().replace("[AEGIS BLOCKED]", "").lower()


# --- 6 and 7: what stands in for a user's part is like it ---


class Counting:
    """A callable object with a state."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, *_: Any) -> str:
        self.count += 1
        return "ran"


async def executor(request: Any) -> str:
    """Executes."""
    return "ran"


def sync_executor(request: Any) -> str:
    return "ran"


PARTS: dict[str, Any] = {
    "shell": lambda part: (ShellTool(executor=part), "executor"),
    "local shell": lambda part: (LocalShellTool(executor=part), "executor"),
    "custom": lambda part: (CustomTool("c", "", on_invoke_tool=part), "on_invoke_tool"),
    "function": lambda part: (FunctionTool("f", "", SCHEMA, part), "on_invoke_tool"),
}


@pytest.mark.parametrize("made", PARTS.values(), ids=PARTS)
def test_k11_stand_ins_hide_nothing(made: Any, tmp_path: Path) -> None:
    govern(tmp_path)
    for part in (executor, sync_executor, Counting(), Counting().__call__):
        tool, name = made(part)
        read = getattr(tool, name)
        assert read == part
        assert hash(read) == hash(part)
        assert repr(read) == repr(part)
        assert isinstance(read, type(part))
        assert inspect.iscoroutinefunction(read) == inspect.iscoroutinefunction(part)
        assert inspect.signature(read) == inspect.signature(part)
        assert read.__doc__ == part.__doc__
        assert callable(read)
    state = Counting()
    tool, name = made(state)
    state.count = 7
    assert getattr(tool, name).count == 7
    getattr(tool, name).count = 8
    assert state.count == 8


def test_k11_an_attribute_of_the_sdks_own_invoker_is_no_copy(tmp_path: Path) -> None:
    tool = function_tool(lambda: "x", name_override="made")
    raw = tool.on_invoke_tool
    govern(tmp_path)
    tool.on_invoke_tool.marked = 1  # type: ignore[attr-defined]
    assert raw.marked == 1  # type: ignore[attr-defined]
    assert tool.on_invoke_tool == raw
    assert isinstance(tool.on_invoke_tool, type(raw))


class Screen(AsyncComputer):
    environment = "browser"
    dimensions = (1, 1)

    def __init__(self) -> None:
        self.done: list[str] = []

    async def screenshot(self) -> str:
        self.done.append("screenshot")
        return "png"

    async def click(self, x: int, y: int, button: Any) -> None:
        self.done.append("click")

    double_click = scroll = type = wait = move = keypress = drag = click  # type: ignore[assignment]


class Editor:
    def create_file(self, operation: Any) -> Any: ...

    update_file = delete_file = create_file


def every_tool() -> list[Any]:
    return [
        plain(),
        function_tool(sync_executor, name_override="made", strict_mode=False),
        Agent(name="inner").as_tool("inner", ""),
        ShellTool(executor=executor),
        LocalShellTool(executor=executor),
        ApplyPatchTool(editor=Editor()),  # type: ignore[arg-type]
        CustomTool("c", "", on_invoke_tool=body),
        ComputerTool(computer=Screen()),
    ]


def used(tool: Any) -> Any:
    """The tool, with whatever is made for it when it is read."""
    for field in dataclasses.fields(tool):
        getattr(tool, field.name)
    return tool


def outcome(call: Any, tool: Any) -> Any:
    try:
        return type(call(tool))
    except Exception as error:
        return type(error)


@pytest.mark.parametrize(
    "call",
    [dataclasses.asdict, copy.copy, copy.deepcopy, dataclasses.replace, pickle.dumps, hash, repr],
    ids=lambda call: call.__name__,
)
def test_k11_asdict_and_copies_of_a_tool_work(call: Any, tmp_path: Path) -> None:
    """Each does what it does without us, be it an error."""
    without = [outcome(call, tool) for tool in every_tool()]
    govern(tmp_path)
    assert [outcome(call, used(tool)) for tool in every_tool()] == without
    assert (call is not dataclasses.asdict) or (TypeError not in without)
    assert isinstance(dataclasses.asdict(used(plain())), dict)


def test_k11_a_clock_that_a_program_replaced_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a test of the program does, which counts how often its own code asks."""
    own = iter([400.0, 400.05])
    taken: list[float] = []

    @function_tool
    async def timed() -> str:
        """Read the clock."""
        taken.append(time.perf_counter())
        taken.append(time.perf_counter())
        return "read"

    govern(tmp_path)
    monkeypatch.setattr("time.perf_counter", lambda: next(own))
    monkeypatch.setattr("time.time_ns", lambda: next(iter(())))
    with caplog.at_level("WARNING"):
        context = ToolContext(None, tool_name="timed", tool_call_id="c", tool_arguments="{}")
        ran = asyncio.run(timed.on_invoke_tool(context, "{}"))
    assert (ran, taken) == ("read", [400.0, 400.05])
    assert caplog.text == ""


def test_k11_asdict_of_an_agent_works(tmp_path: Path) -> None:
    govern(tmp_path)
    tools = [
        used(plain()),
        used(ShellTool(executor=executor)),
        used(CustomTool("c", "", on_invoke_tool=body)),
    ]
    described = dataclasses.asdict(Agent(name="A", tools=tools))
    assert [each["name"] for each in described["tools"] if "name" in each][:1] == ["act"]
    assert described["tools"][0]["on_invoke_tool"] == body


def test_k11_copies_of_a_governed_tool_keep_its_gate(tmp_path: Path) -> None:
    """`governed_tool` needs nothing on the class; neither do its copies, however they are made."""
    runtime = Runtime(policy=BLOCK, audit_logger=AuditLogger(tmp_path / "audit"))
    for tool in (plain(), greet):
        governed = governed_tool(runtime=runtime)(tool)
        for copied in (governed, copy.copy(governed), copy.deepcopy(governed), dataclasses.replace(governed)):
            result = run(Agent(name="A", tools=[copied]), function_call(tool.name, {}, call_id="1"))
            assert "[AEGIS BLOCKED]" in str(result.new_items[1].output)
        with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
            pickle.dumps(governed)


# --- 10: patience ---


def test_k11_the_self_test_waits_for_a_busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time that passes while its loop has work to do is not held against it."""
    monkeypatch.setattr(self_test, "_PATIENCE_S", 0.2)
    find_fault = self_test._find_fault

    async def slow(*given: Any) -> str | None:
        threading.Event().wait(1.0)  # as if the machine had given it no time
        return await find_fault(*given)

    monkeypatch.setattr(self_test, "_find_fault", slow)
    assert govern(tmp_path).runtime.policy is ALLOW


def test_k11_a_self_test_that_stands_still_fails_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(self_test, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(self_test, "_find_fault", stuck)
    with pytest.raises(ConfigError, match="self-test of the capture point failed"):
        govern(tmp_path)
    assert Instrumentation.current is None


# --- 11: what is said of coverage ---


class Lent(Capability):
    type: str = "lent"


def test_k11_a_capability_of_the_users_is_not_called_enforced(tmp_path: Path) -> None:
    found = govern(tmp_path)
    agent = SandboxAgent(name="S", capabilities=[Lent()])
    assert [row.tool for row in found.coverage(agent).gaps] == ["what `Lent` adds"]
    assert not found.coverage(SandboxAgent(name="S")).gaps


def test_k11_what_a_codex_tool_starts_is_listed(tmp_path: Path) -> None:
    found = govern(tmp_path, on_ungoverned="refuse")
    tool = plain()
    tool._is_codex_tool = True
    agent = Agent(name="A", tools=[tool])
    assert [row.kind for row in found.coverage(agent)] == ["function", "codex agent"]
    with pytest.raises(ConfigError, match="its commands and edits are not"):
        run(agent)


def computer_call(*kinds: str) -> dict[str, Any]:
    actions = [
        {"type": kind} | ({"x": 1, "y": 1, "button": "left"} if kind == "click" else {}) for kind in kinds
    ]
    return {
        "type": "computer_call",
        "id": "id_1",
        "call_id": "call_1",
        "status": "completed",
        "pending_safety_checks": [],
        "actions": actions,
    }


@pytest.mark.parametrize(
    ("asked", "decided"),
    [
        (("click",), ["click"]),
        (("click", "screenshot"), ["click", "screenshot"]),
    ],
)
def test_k11_a_screenshot_that_the_model_asks_for_is_decided(
    asked: tuple[str, ...], decided: list[str], tmp_path: Path
) -> None:
    assert decided_of_computer(tmp_path, asked) == decided


@pytest.mark.parametrize(
    ("asked", "decided"),
    [
        (("screenshot", "click"), ["click", "screenshot"]),
        (("screenshot",), ["screenshot"]),
    ],
)
def test_k11_a_screenshot_that_the_model_asks_for_first_is_decided_holds(
    asked: tuple[str, ...], decided: list[str], tmp_path: Path
) -> None:
    assert decided_of_computer(tmp_path, asked) == decided


def decided_of_computer(tmp_path: Path, asked: tuple[str, ...]) -> list[str]:
    found = govern(tmp_path)
    run(Agent(name="A", tools=[ComputerTool(computer=Screen())]), computer_call(*asked))
    return sorted(row["action_params"]["type"] for row in found.runtime.audit.get_log())


def test_k11_rules_for_the_patch_of_a_sandbox_are_explained(tmp_path: Path) -> None:
    """Its patch is one text: a rule on `path` counts against it, one on `input` reads it, as the docs say."""
    for number, (name, patch, runs) in enumerate(
        (
            ("path", "*** Add File: src/a.py", False),
            ("input", "*** Add File: etc/a", False),
            ("input", "*** Add File: src/a.py", True),
        )
    ):
        rule = {"name": "r", "conditions": {"param_matches": {name: "File: etc/"}}, "approval": "block"}
        allow = {"approval": "auto", "risk_level": "low"}
        found = govern(tmp_path / str(number), Policy.from_dict({"defaults": allow, "rules": [rule]}))
        tool = CustomTool("apply_patch", "Patches.", on_invoke_tool=body)
        call = {"type": "custom_tool_call", "name": "apply_patch", "call_id": "1", "input": patch}
        run(Agent(name="A", tools=[tool]), call)
        (row,) = found.runtime.audit.get_log()
        assert (row["result_status"] == "success") is runs, name
        found.uninstrument()
    page = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert "counts against every sandbox patch; write one on `input` for it" in " ".join(page.split())


class Answer(BaseModel):
    text: str


def test_k11_a_final_output_that_comes_as_a_call_is_no_call(tmp_path: Path) -> None:
    """LiteLLM has some models give their structured output as a call of `json_tool_call`."""
    found = govern(tmp_path, BLOCK)
    agent = Agent(name="A", output_type=Answer)
    result = run(agent, function_call("json_tool_call", {"text": "x"}, call_id="1"), last='{"text": "x"}')
    outputs = [each.output for each in result.new_items if each.type == "tool_call_output_item"]
    assert outputs == [{"text": "x"}]
    assert found.runtime.audit.get_log() == []


def test_k11_a_tool_called_like_a_final_output_is_decided_holds(tmp_path: Path) -> None:
    govern(tmp_path, BLOCK)
    tool = FunctionTool("json_tool_call", "", SCHEMA, body)
    result = run(Agent(name="A", tools=[tool]), function_call("json_tool_call", {}, call_id="1"))
    assert str(result.new_items[1].output).startswith("[AEGIS BLOCKED]")


# --- the capture point where a program imports realtime later ---


def test_k11_realtime_is_not_imported_and_governed_when_it_is(tmp_path: Path) -> None:
    program = """
import sys, aegis_otel
from aegis_otel import Policy
policy = Policy.from_dict({"version": "1", "defaults": {"approval": "auto"}, "rules": []})
found = aegis_otel.instrument(policy, audit_dir=sys.argv[1])
assert "agents.realtime.session" not in sys.modules
from agents.realtime.session import RealtimeSession
ours = RealtimeSession._run_tool_input_guardrails
found.uninstrument()
assert RealtimeSession._run_tool_input_guardrails is not ours
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "audit")], capture_output=True, text=True, timeout=110
    )
    assert done.stdout == "fine\n", done.stderr
