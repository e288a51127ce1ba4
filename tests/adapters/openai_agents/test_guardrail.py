"""`governance_guardrail` finds the tool that is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents import Agent, Runner, function_tool, tool_namespace
from agents.testing import ScriptedModel, assistant_message

from aegis_otel.adapters.openai_agents import governance_guardrail
from tests.support.kit import Bench

FORCED = {
    "version": "1",
    "defaults": {"approval": "auto", "risk_level": "low"},
    "rules": [
        {
            "name": "forced",
            "match": {"type": "delete", "target": "fs"},
            "conditions": {"param_eq": {"force": True}},
            "approval": "block",
            "risk_level": "critical",
        }
    ],
}


async def test_a_tool_is_told_apart_by_its_namespace(bench: Callable[..., Bench]) -> None:
    """Its own defaults count, and not those of another of that name."""
    b = bench(policy=FORCED)
    ran: list[bool] = []
    guard = [governance_guardrail(b.runtime)]

    def harmless(force: bool = False) -> None:
        ran.append(force)

    def harmful(force: bool = True) -> None:
        ran.append(force)

    tools: list[Any] = [
        each
        for name, body in (("crm", harmless), ("fs", harmful))
        for each in tool_namespace(
            name=name,
            description=name,
            tools=[
                function_tool(
                    body, name_override="delete", strict_mode=False, tool_input_guardrails=list(guard)
                )
            ],
        )
    ]
    call = {"type": "function_call", "name": "delete", "arguments": "{}", "id": "x"}
    turn: Any = [{**call, "namespace": name, "call_id": name} for name in ("crm", "fs")]
    model = ScriptedModel([turn, [assistant_message("done")]])
    await Runner.run(Agent(name="A", model=model, tools=tools), "go")
    assert ran == [False]
    seen = {(row["action_target"], row["result_status"]) for row in b.runtime.audit.get_log()}
    assert seen == {("crm", "success"), ("fs", "blocked")}
