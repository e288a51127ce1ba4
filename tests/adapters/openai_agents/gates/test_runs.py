"""The run of a call where only tools or agents are governed, and no class of the SDK carries its id along."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, FunctionTool, Runner, ShellTool, Usage, function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_events import RealtimeModelToolCallEvent
from agents.realtime.testing import ScriptedRealtimeModel
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aegis_otel import Policy, Runtime, govern_agent
from aegis_otel.adapters.openai_agents import governance_guardrail, governed_tool
from tests.adapters.openai_agents.local_kinds import KINDS, a_call
from tests.support.kit import Bench

MAKE = Callable[..., Bench]
Govern = Callable[[Runtime, Agent[Any]], Agent[Any]]
RULE = "- {name: own, match: {type: '*'}, conditions: {CONDITION}, approval: block}"
POLICY = f'version: "1"\ndefaults: {{approval: auto}}\nrules:\n{RULE}\n'
TWO_CALLS = "calls_over: {limit: 2, within: run}"


def limited(condition: str = TWO_CALLS) -> Policy:
    return Policy.from_text(POLICY.replace("CONDITION", condition))


def with_tools(agent: Agent[Any], change: Callable[[FunctionTool], Any]) -> Agent[Any]:
    return agent.clone(tools=[change(tool) for tool in agent.tools if isinstance(tool, FunctionTool)])


def with_guardrail(runtime: Runtime, agent: Agent[Any]) -> Agent[Any]:
    guardrail = governance_guardrail(runtime)
    return with_tools(agent, lambda tool: dataclasses.replace(tool, tool_input_guardrails=[guardrail]))


WAYS: dict[str, Govern] = {
    "governed_tool": lambda runtime, agent: with_tools(agent, governed_tool(runtime=runtime)),
    "govern_agent": lambda runtime, agent: govern_agent(agent, runtime=runtime),
    "guardrail": with_guardrail,
}


@function_tool(name_override="look")
async def look(x: int) -> str:
    return f"looked {x}"


def calls(*numbers: int) -> list[Any]:
    return [[function_call("look", {"x": number}, call_id=f"call_{number}")] for number in numbers]


def model(*turns: Any, tokens: int = 10) -> ScriptedModel:
    """Return a model whose provider counts tokens, if any."""
    usage = Usage(requests=1, input_tokens=tokens, total_tokens=tokens) if tokens else Usage()
    return ScriptedModel([*turns, [assistant_message("done")]], default_usage=usage)


def statuses(bench: Bench) -> list[str]:
    return [row["result_status"] for row in bench.rows()]


@pytest.mark.parametrize(
    ("condition", "tokens"), [(TWO_CALLS, 10), (TWO_CALLS, 0), ("tokens_over: {limit: 20, within: run}", 10)]
)
@pytest.mark.parametrize("way", WAYS)
async def test_each_run_has_a_count_of_its_own(bench: MAKE, way: str, condition: str, tokens: int) -> None:
    b = bench(policy=limited(condition))
    for _ in range(2):
        agent = Agent(name="Clerk", model=model(*calls(1, 2, 3), tokens=tokens), tools=[look])
        await Runner.run(WAYS[way](b.runtime, agent), "go")
    assert statuses(b) == ["success", "success", "blocked"] * 2
    runs = [row["run_id"] for row in b.rows()]
    assert runs == [runs[0]] * 3 + [runs[3]] * 3
    assert None not in runs
    assert runs[0] != runs[3]


async def test_calls_at_once_are_of_one_run(bench: MAKE) -> None:
    b = bench(policy=limited())
    turn = [call for (call,) in calls(1, 2, 3)]
    agent = Agent(name="Clerk", model=model(turn), tools=[look])
    await Runner.run(govern_agent(agent, runtime=b.runtime), "go")
    assert sorted(statuses(b)) == ["blocked", "success", "success"]


async def test_local_tools_of_a_governed_agent_are_of_its_run(bench: MAKE) -> None:
    b, ran, kind = bench(policy=limited()), [], KINDS["shell"]
    tools = [look, ShellTool(executor=lambda request: ran.append("ran") or "did it")]
    turns = [*calls(1), [a_call(kind, 2)], [a_call(kind, 3)]]
    agent = Agent(name="Clerk", model=model(*turns), tools=tools)
    await Runner.run(govern_agent(agent, runtime=b.runtime), "go")
    assert (ran, statuses(b)) == (["ran"], ["success", "success", "blocked"])


@pytest.mark.parametrize("way", ["governed_tool", "govern_agent"])
async def test_an_agent_as_a_tool_is_a_part_of_the_run(bench: MAKE, way: str) -> None:
    b = bench(policy=limited())
    inner = WAYS[way](b.runtime, Agent(name="Inner", model=model(*calls(1, 2)), tools=[look]))
    turn = [function_call("ask", {"input": "do"}, call_id="outer")]
    outer = Agent(name="Outer", model=model(turn), tools=[inner.as_tool("ask", "Asks.")])
    await Runner.run(WAYS[way](b.runtime, outer), "go")
    ends = {row["tool_call_id"]: row["result_status"] for row in b.rows()}
    assert ends == {"outer": "success", "call_1": "success", "call_2": "blocked"}


async def test_a_run_that_goes_on_in_this_process_is_the_same(bench: MAKE) -> None:
    b = bench(policy=limited())
    ask = dataclasses.replace(look, name="ask", needs_approval=True)
    turn = [function_call("ask", {"x": 2}, call_id="call_2")]
    clerk = Agent(name="Clerk", model=model(*calls(1), turn, *calls(3)), tools=[look, ask])
    agent = govern_agent(clerk, runtime=b.runtime)
    state = (await Runner.run(agent, "go")).to_state()
    state.approve(state.get_interruptions()[0])
    await Runner.run(agent, state)
    assert statuses(b) == ["success", "success", "blocked"]
    assert len({row["run_id"] for row in b.rows()}) == 1


async def test_a_realtime_session_is_a_run_where_the_service_counts_its_tokens(bench: MAKE) -> None:
    b = bench(policy=limited("calls_over: {limit: 1, within: run}"))
    agent = govern_agent(RealtimeAgent(name="Voice", tools=[look]), runtime=b.runtime)
    scripted = ScriptedRealtimeModel(strict=False)
    session = await RealtimeRunner(agent, model=scripted).run()
    async with session:
        session._context_wrapper.usage.add(Usage(requests=1, input_tokens=1, total_tokens=1))
        for number in (1, 2):
            await scripted.emit(RealtimeModelToolCallEvent("look", f"call_{number}", '{"x": 1}'))
            async with asyncio.timeout(10):
                while session._tool_call_tasks:
                    await asyncio.sleep(0)
    assert statuses(b) == ["success", "blocked"]


async def test_a_context_that_the_program_made_for_one_call_is_no_run(bench: MAKE) -> None:
    """Each such call would else begin a run of its own, and no limit would ever be reached."""
    b = bench(policy=limited())
    tool = governed_tool(runtime=b.runtime)(look)
    context = ToolContext(None, tool_name="look", tool_call_id="call_1", tool_arguments='{"x": 1}')
    assert "BLOCKED" in await tool.on_invoke_tool(context, '{"x": 1}')
    assert b.row()["run_id"] is None
