"""The run of a local tool's call: that of the other calls, with the runs that begin inside of its body."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from agents import Agent, CustomTool, RunConfig, Runner, Usage, UserError
from agents.testing import ScriptedModel, assistant_message

from aegis_otel import Policy
from tests.adapters.openai_agents.local_kinds import KINDS, Body, a_call
from tests.support.kit import Bench

MAKE = Callable[..., Bench]
LOCAL = [name for name in KINDS if name != "function"]


def limited(condition: str) -> Policy:
    """Return a policy that blocks what is over one limit."""
    rule = f"- {{name: own, match: {{type: '*'}}, conditions: {{{condition}}}, approval: block}}"
    return Policy.from_text(f'version: "1"\ndefaults: {{approval: auto}}\nrules:\n{rule}\n')


def counting(*turns: Any) -> ScriptedModel:
    """Return a model each answer of which uses ten tokens."""
    usage = Usage(requests=1, input_tokens=6, output_tokens=4, total_tokens=10)
    return ScriptedModel([*turns, [assistant_message("done")]], default_usage=usage)


async def run(agent: Agent[Any], **options: Any) -> None:
    """Run an agent; a refused action of a computer ends the run."""
    with suppress(UserError):
        await Runner.run(agent, "go", run_config=RunConfig(**options))


@pytest.mark.parametrize(
    "condition", ["tokens_over: {limit: 20, within: run}", "calls_over: {limit: 2, within: run}"]
)
@pytest.mark.parametrize("name", LOCAL)
async def test_a_limit_of_a_run_counts_local_tools(installed: MAKE, name: str, condition: str) -> None:
    b, body, kind = installed(policy=limited(condition)), Body(), KINDS[name]
    for _ in range(2):
        model = counting(*([a_call(kind, number)] for number in (1, 2, 3)))
        await run(Agent(name="Clerk", model=model, tools=[kind.make(body)]))
    assert body.seen == [kind.saw] * 4
    assert [row["result_status"] for row in b.rows()] == ["success", "success", "blocked"] * 2
    runs = [row["run_id"] for row in b.rows()]
    assert runs == [runs[0]] * 3 + [runs[3]] * 3
    assert runs[0] != runs[3]


@pytest.mark.parametrize("name", LOCAL)
async def test_local_tools_and_function_tools_are_of_one_run(installed: MAKE, name: str) -> None:
    b, body = installed(policy=limited("calls_over: {limit: 2, within: run}")), Body()
    kinds = [KINDS[name], KINDS["function"]]
    model = counting(*([a_call(kind, number)] for number, kind in enumerate([*kinds, *kinds])))
    await run(Agent(name="Clerk", model=model, tools=[kind.make(body) for kind in kinds]))
    assert body.seen == [kind.saw for kind in kinds]
    assert len({row["run_id"] for row in b.rows()}) == 1


async def test_a_run_inside_of_a_local_tool_is_a_part_of_its_run(installed: MAKE) -> None:
    """A limit for a run cannot be passed by an agent that the body of a custom tool begins."""
    b, body, kind = (
        installed(policy=limited("calls_over: {limit: 2, within: run}")),
        Body(),
        KINDS["function"],
    )

    async def ask(context: Any, text: str) -> str:
        model = counting([a_call(kind, 8)], [a_call(kind, 9)])
        await Runner.run(Agent(name="Inner", model=model, tools=[kind.make(body)]), text)
        return "asked"

    tool = CustomTool(name="query", description="", on_invoke_tool=ask)
    await run(Agent(name="Outer", model=counting([a_call(KINDS["custom"])]), tools=[tool]))
    assert body.seen == [kind.saw]
    assert {row["tool_call_id"]: row["result_status"] for row in b.rows()} == {
        "call_1": "success",
        "call_8": "success",
        "call_9": "blocked",
    }
