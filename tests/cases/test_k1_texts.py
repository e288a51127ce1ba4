"""K1: a tool that gets the text itself may read it otherwise than we do; then nobody is shown one reading."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, FunctionTool, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import CallbackApprovalHandler, Question, current_question
from tests.cases.test_k1_judged_arguments import BLOCKED, call, policy
from tests.support.kit import make_bench

ASKS: dict[str, Any] = {
    "version": "1",
    "defaults": {"risk_level": "high", "approval": "approve"},
    "rules": [],
}
OPEN = {"type": "object", "additionalProperties": True}
DIFFERENT = [
    '{"cmd":"rm","cmd":"ls"}',
    '{"cmd":"rm","c\\u006dd":"ls"}',
    '{"a":{"b":[{"cmd":"rm","cmd":"ls"}]}}',
    '{"cmd":"ls","":"rm"}',
    '{"cmd":1e400}',
    '{"cmd":-1e400}',
    '{"cmd":1e-400}',
    '{"cmd":[123456789012345678901234567890]}',
    '{"cmd":100.00000000000000001}',
    '{"cmd":NaN}',
    '{"cmd":-Infinity}',
    '\ufeff{"cmd":"ls"}',
    '{"cmd":"ls"} {"cmd":"rm"}',
    '{"cmd":"ls" /* rm */}',
    '{"cmd":"ls",}',
    "{'cmd':'ls'}",
]
ALIKE = [
    "{}",
    ' {"c\\u006dd" : "ls"}\n',
    '{"cmd":"ls","CMD":"rm"}',
    '{"cmd":-0,"amount":1.0,"b":1e22,"c":0.0e5,"d":18446744073709551615,"e":0.14285714285714285}',
    '{"a":{"cmd":"rm"},"cmd":"ls","b":[{"cmd":1},{"cmd":2}]}',
]


def own_reader(took: list[str]) -> FunctionTool:
    async def body(context: Any, arguments: str) -> str:
        took.append(arguments)
        return "ran"

    return FunctionTool("run", "", OPEN, body, strict_json_schema=False)


def ask(took: list[Question]) -> CallbackApprovalHandler:
    def answer(decision: PolicyDecision) -> bool:
        took.append(current_question())
        return True

    return CallbackApprovalHandler(answer)


def run(tool: FunctionTool, text: str) -> list[str]:
    asked = function_call(tool.name, {}, call_id="c").model_copy(update={"arguments": text})
    model = ScriptedModel([[asked], [assistant_message("done")]])
    config = RunConfig(model=model, tracing_disabled=True)
    asyncio.run(Runner.run(Agent(name="A", tools=[tool]), "go", run_config=config))
    return [each["output"] for each in model.calls[-1].input if each.get("type") == "function_call_output"]


@pytest.mark.parametrize("text", DIFFERENT)
def test_k1_a_human_is_shown_the_text_that_readers_differ_on(text: str, tmp_path: Path) -> None:
    took: list[str] = []
    questions: list[Question] = []
    b = make_bench(tmp_path / "audit", policy=ASKS, approver=ask(questions))
    assert run(governed_tool(runtime=b.runtime)(own_reader(took)), text) == ["ran"]
    assert took == [text]
    (question,) = questions
    assert json.loads(question.action_params) == {"": text}
    row = b.row()
    assert row["result_status"] == "success"
    assert row["action_params"] == {"": text}


@pytest.mark.parametrize("text", ALIKE)
def test_k1_a_human_is_shown_the_values_that_every_reader_finds_holds(text: str, tmp_path: Path) -> None:
    took: list[str] = []
    questions: list[Question] = []
    b = make_bench(tmp_path / "audit", policy=ASKS, approver=ask(questions))
    assert run(governed_tool(runtime=b.runtime)(own_reader(took)), text) == ["ran"]
    assert took == [text]
    assert json.loads(questions[0].action_params) == json.loads(text)


@pytest.mark.parametrize("text", DIFFERENT)
def test_k1_conditions_on_such_a_text_are_unknown(text: str, tmp_path: Path) -> None:
    took: list[str] = []
    b = make_bench(tmp_path / "audit", policy=policy("eq", "other", "x"))
    assert run(governed_tool(runtime=b.runtime)(own_reader(took)), text)[0].startswith(BLOCKED)
    assert took == []
    assert "is unknown: the arguments" in b.row()["reason"]


def test_k1_a_secret_in_such_a_text_is_redacted(tmp_path: Path) -> None:
    took: list[str] = []
    questions: list[Question] = []
    b = make_bench(tmp_path / "audit", policy=ASKS, approver=ask(questions))
    text = '{"cmd":"rm","pw":"hunter2000y","cmd":"ls","pw":null,"password":"hunter2000x"}'
    assert run(governed_tool(runtime=b.runtime)(own_reader(took)), text) == ["ran"]
    assert took == [text]
    shown = json.loads(questions[0].action_params)[""]
    assert "hunter2000" not in shown + str(b.row()["action_params"])
    assert ('"cmd":"rm"' in shown, '"cmd":"ls"' in shown) == (True, True)


def test_k1_the_sdk_reads_the_last_of_two_keys_and_so_do_we_holds(tmp_path: Path) -> None:
    """What `function_tool` makes has the SDK's own reader, and there is one reading."""
    questions: list[Question] = []
    b = make_bench(tmp_path / "audit", policy=ASKS, approver=ask(questions))

    @governed_tool(runtime=b.runtime)
    @function_tool
    def run_it(cmd: str) -> str:
        return f"ran {cmd}"

    assert run(run_it, '{"cmd":"rm","cmd":"ls"}') == ["ran ls"]
    assert json.loads(questions[0].action_params) == {"cmd": "ls"}


def _plain(own: Any, took: list[str]) -> Callable[..., Any]:
    async def wrapper(context: Any, arguments: str) -> Any:
        took.append(arguments)
        return "ran"

    return wrapper


def _wraps(own: Any, took: list[str]) -> Callable[..., Any]:
    return functools.wraps(own)(_plain(own, took))


class _Callable:
    def __init__(self, own: Any, took: list[str]) -> None:
        functools.update_wrapper(self, own)
        self.took = took

    async def __call__(self, context: Any, arguments: str) -> str:
        self.took.append(arguments)
        return "ran"


@pytest.mark.parametrize("around", [_plain, _wraps, _Callable])
@pytest.mark.parametrize("asks", [True, False], ids=["asks", "condition"])
def test_k1_a_wrapper_around_the_sdks_invoker_gets_the_text(
    around: Callable[..., Any], asks: bool, tmp_path: Path
) -> None:
    """It may read the text itself, whatever attributes of the SDK's invoker it has taken over."""
    took: list[str] = []
    questions: list[Question] = []
    rules = ASKS if asks else policy("eq", "cmd", "rm")
    b = make_bench(tmp_path / "audit", policy=rules, approver=ask(questions))

    def run_it(cmd: str) -> str:
        return f"ran {cmd}"

    inner = function_tool(run_it)
    tool = FunctionTool("run_it", "", inner.params_json_schema, around(inner.on_invoke_tool, took))
    text = '{"cmd":"rm","cmd":"ls"}'
    read = call(governed_tool(runtime=b.runtime)(tool), text)
    if asks:
        assert (read, took) == ("ran", [text])
        assert json.loads(questions[0].action_params) == {"": text}
    else:
        assert read.startswith(BLOCKED)
        assert took == []


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "condition"])
def test_k1_nesting_that_no_reader_bears_is_shown_as_text(asks: bool, tmp_path: Path) -> None:
    took: list[str] = []
    questions: list[Question] = []
    rules = ASKS if asks else policy("eq", "other", "x")
    b = make_bench(tmp_path / "audit", policy=rules, approver=ask(questions))
    text = '{"cmd":' + "[" * 100_000 + "]" * 100_000 + "}"
    read = call(governed_tool(runtime=b.runtime)(own_reader(took)), text)
    if asks:
        assert (read, took) == ("ran", [text])
        assert json.loads(questions[0].action_params) == {"": text}
    else:
        assert read.startswith(BLOCKED)


def test_k1_a_body_that_takes_the_context_has_the_text(tmp_path: Path) -> None:
    """It may read both values of a key that is there twice: conditions are unknown; the row has the text."""
    b = make_bench(tmp_path / "audit", policy=policy("gt", "amount", 100))
    tool = governed_tool(runtime=b.runtime)(function_tool(paying))
    text = '{"amount": 5000, "amount": 5}'
    assert call(tool, text).startswith(BLOCKED)
    assert b.row()["action_params"] == {"": text}
    assert call(tool, '{"amount": 5}') == '{"amount": 5}'


def paying(context: ToolContext[Any], amount: int) -> str:
    return context.tool_arguments
