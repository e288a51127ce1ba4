"""K11.2: arguments that are no JSON object go the SDK's own way, where no rule looks at a parameter."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    ModelBehaviorError,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel.adapters.openai_agents import governed_tool
from tests.support.kit import Bench, make_bench

FREE = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": []}
LOOKS = {
    **FREE,
    "rules": [
        {
            "name": "looks",
            "match": {"type": "note"},
            "conditions": {"param_contains": {"text": "secret"}},
            "risk_level": "high",
            "approval": "block",
        }
    ],
}
TEXTS = ["free text", "[1, 2]", '"text"', "{broken", "12"]


def run(tool: FunctionTool, text: str) -> list[str]:
    call = function_call(tool.name, {}, call_id="c").model_copy(update={"arguments": text})
    model = ScriptedModel([[call], [assistant_message("done")]])
    asyncio.run(Runner.run(Agent(name="A", model=model, tools=[tool]), "go"))
    return [each["output"] for each in model.calls[-1].input if each.get("type") == "function_call_output"]


def note(b: Bench) -> FunctionTool:
    async def body(context: Any, arguments: str) -> str:
        return f"took {arguments}"

    return governed_tool(runtime=b.runtime)(FunctionTool("note", "", {}, body, strict_json_schema=False))


@pytest.mark.parametrize("text", TEXTS)
def test_k11_2_a_tool_that_takes_free_text_gets_it(text: str, tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=FREE)
    assert run(note(b), text) == [f"took {text}"]
    assert b.row()["result_status"] == "success"


@pytest.mark.parametrize("text", TEXTS)
def test_k11_2_a_rule_that_looks_at_a_parameter_is_unknown(text: str, tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=LOOKS)
    (read,) = run(note(b), text)
    blocked = "[AEGIS BLOCKED] Action blocked by policy rule: looks"
    assert (
        read == f"{blocked}\nThe policy could not read parameter `text`: expected text, a list or a mapping."
    )
    row = b.row()
    assert (row["result_status"], row["matched_rule"]) == ("blocked", "looks")
    assert "not a JSON object" in row["reason"]


def test_k11_2_the_sdk_answers_for_its_own_tools(tmp_path: Path) -> None:
    def failed(context: Any, error: Exception) -> str:
        return f"mine: {type(error).__name__}"

    b = make_bench(tmp_path / "audit", policy=FREE)

    @governed_tool(runtime=b.runtime)
    @function_tool(failure_error_function=failed)
    def pay(amount: int) -> str:
        return "ran"

    @governed_tool(runtime=b.runtime)
    @function_tool(failure_error_function=None)
    def loud(amount: int) -> str:
        return "ran"

    assert run(pay, "{broken") == ["mine: ModelBehaviorError"]
    with pytest.raises(ModelBehaviorError):
        run(loud, "[]")
    assert [row["result_status"] for row in b.rows()] == ["failed", "failed"]


def test_k11_2_secrets_in_free_text_are_redacted(tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=FREE)
    assert run(note(b), "password=hunter2000") == ["took password=hunter2000"]
    assert "hunter2000" not in str(b.row())


def test_k11_2_the_users_guardrails_are_asked_about_free_text(tmp_path: Path) -> None:
    asked: list[str] = []

    def look(data: Any) -> ToolGuardrailFunctionOutput:
        asked.append(data.context.tool_arguments)
        return ToolGuardrailFunctionOutput.reject_content("theirs")

    b = make_bench(tmp_path / "audit", policy=FREE)
    tool = note(b)
    tool.tool_input_guardrails = [*(tool.tool_input_guardrails or []), ToolInputGuardrail(look)]
    assert run(tool, "free text") == ["theirs"]
    assert asked == ["free text"]
