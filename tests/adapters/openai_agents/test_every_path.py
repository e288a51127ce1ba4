"""Every kind of tool, on every path of the SDK, under every verdict, with tracing on, off, and taken.

The product is some eight hundred runs; the table below says which combinations exist, and `chosen` takes from
it all of kind x verdict, and for the rest as many as it takes for every pair of values to meet.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from agents import Agent, RunConfig, Runner, UserError, function_tool
from agents.mcp import MCPServer
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.tracing import TracingProcessor
from mcp.types import CallToolResult, TextContent
from mcp.types import Tool as MCPTool
from openai.types.responses import Response, ResponseCompletedEvent

from aegis_otel.adapters.openai_agents.tracing.span_bridge import SpanBridge
from tests.adapters.openai_agents.local_kinds import KINDS, Body, Kind, a_call, read_by
from tests.adapters.openai_agents.test_call_table import assert_one_id
from tests.support.kit import Bench
from tests.support.tracing import sdk_tracing

INSTALL = Callable[..., Bench]


class Expected(NamedTuple):
    approval: str
    answers: tuple[Any, ...]
    outcome: str
    status: str
    text: str | None
    """What the model reads; None for what the tool gives."""


VERDICTS = {
    "auto": Expected("auto", (), "allowed", "success", None),
    "raises": Expected("auto", (), "allowed", "failed", None),
    "block": Expected(
        "block", (), "blocked", "blocked", "[AEGIS BLOCKED] Action blocked by policy rule: the_rule"
    ),
    "approved": Expected("approve", (True,), "approved", "success", None),
    "denied": Expected(
        "approve", (False,), "denied", "denied", "[AEGIS DENIED] Action denied by human operator"
    ),
    "unobtainable": Expected(
        "approve",
        (OSError("no route"),),
        "denied",
        "denied",
        "[AEGIS DENIED] Approval could not be obtained",
    ),
}
PATHS = ("run", "run_sync", "run_streamed", "nested", "resumed")
TRACINGS = ("on", "off", "exclusive")
"""`exclusive`: another package has replaced every processor, ours too."""


class Server(MCPServer):
    """An MCP server in this process, on the SDK's own base class."""

    def __init__(self, body: Body, needs_approval: bool) -> None:
        super().__init__(require_approval={"always": {"tool_names": ["greet"]}} if needs_approval else None)
        self._body = body

    @property
    def name(self) -> str:
        return "files"

    async def connect(self) -> None: ...
    async def cleanup(self) -> None: ...
    async def list_prompts(self) -> Any: ...
    async def get_prompt(self, name: str, arguments: Any = None) -> Any: ...

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[MCPTool]:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        return [MCPTool(name="greet", inputSchema=schema)]

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> CallToolResult:
        return CallToolResult(
            content=[TextContent(type="text", text=await self._body.run(arguments["name"]))]
        )


def a_sync_function(body: Body) -> Any:
    @function_tool(name_override="greet")
    def greet(name: str) -> str:
        body.seen.append(name)
        if body.fails is not None:
            raise body.fails
        return "did it"

    return greet


def an_agent_tool(body: Body) -> Any:
    """An agent as a tool, whose model is the body."""

    class Model(ScriptedModel):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            await body.run("Ann")
            return await super().get_response(*args, **kwargs)

    inner = Agent(name="Inner", model=Model([[assistant_message("did it")]]))
    return inner.as_tool("greet", "Greets")


_function = KINDS["function"]
_by_name = {"type": "function_call", "name": "greet", "arguments": '{"input": "Ann"}'}
ALL_KINDS: dict[str, Kind] = {
    **KINDS,
    "sync function": replace(_function, make=a_sync_function),
    "agent as tool": replace(_function, make=an_agent_tool, call=_by_name, params={"input": "Ann"}),
    "mcp": _function,
}
PAUSES = ("function", "sync function", "mcp", "agent as tool", "shell", "apply_patch", "custom")
"""Kinds that the SDK itself can pause for an approval of the user's own."""


class Case(NamedTuple):
    kind: str
    path: str
    verdict: str
    tracing: str

    @property
    def exists(self) -> bool:
        return self.path != "resumed" or self.kind in PAUSES

    @property
    def pairs(self) -> Iterator[tuple[str, ...]]:
        return itertools.combinations(self, 2)


def chosen() -> list[Case]:
    """All of kind x verdict, and then whatever brings the most new pairs, until there are none."""
    every = [
        case
        for case in map(Case._make, itertools.product(ALL_KINDS, PATHS, VERDICTS, TRACINGS))
        if case.exists
    ]
    turns = itertools.cycle(itertools.product(TRACINGS, PATHS))
    taken: list[Case] = []
    for kind, verdict in itertools.product(ALL_KINDS, VERDICTS):
        case = next(c for t, p in turns if (c := Case(kind, p, verdict, t)).exists)
        taken.append(case)
    missing = {pair for case in every for pair in case.pairs} - {p for case in taken for p in case.pairs}
    while missing:
        best = max(every, key=lambda case: sum(pair in missing for pair in case.pairs))
        taken.append(best)
        missing -= set(best.pairs)
    return taken


def test_the_table_is_what_it_says() -> None:
    """Every pair of values that can meet does, and every kind under every verdict."""
    cases = chosen()
    assert {(case.kind, case.verdict) for case in cases} == set(itertools.product(ALL_KINDS, VERDICTS))
    assert {(case.path, case.tracing) for case in cases} == set(itertools.product(PATHS, TRACINGS))
    assert {(case.kind, case.path) for case in cases} == {
        (kind, path) for kind in ALL_KINDS for path in PATHS if Case(kind, path, "", "").exists
    }


class Theirs(TracingProcessor):
    """The processor of somebody who wants to be the only one."""

    def on_trace_start(self, trace: Any) -> None: ...
    def on_trace_end(self, trace: Any) -> None: ...
    def on_span_start(self, span: Any) -> None: ...
    def on_span_end(self, span: Any) -> None: ...
    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...


def rules(approval: str, kind: Kind) -> dict[str, Any]:
    rule = {"name": "the_rule", "match": {"type": kind.type}, "risk_level": "high", "approval": approval}
    rest = {"name": "rest", "match": {"type": "*"}, "risk_level": "low", "approval": "auto"}
    return {"version": "1", "rules": [rule, rest]}


def as_streamed(call: Any) -> ModelStep:
    """A call of a kind that the written model cannot stream by itself: the one event the SDK acts on."""
    response = Response.model_construct(id="resp", output=[call], usage=None)
    done = ResponseCompletedEvent.model_construct(
        type="response.completed", response=response, sequence_number=0
    )
    return ModelStep.stream([done], output=[call])


def make_agent(case: Case, kind: Kind, body: Body) -> tuple[Agent[Any], ScriptedModel]:
    call = a_call(kind)
    first = as_streamed(call) if case.path == "run_streamed" and isinstance(call, dict) else [call]
    model = ScriptedModel([first, [assistant_message("done")]], emit_traces=True)
    paused = case.path == "resumed"
    if case.kind == "mcp":
        return Agent(name="Clerk", mcp_servers=[Server(body, paused)], model=model), model
    tool = kind.make(body)
    if paused:
        tool.needs_approval = True
    return Agent(name="Clerk", tools=[tool], model=model), model


async def go(case: Case, agent: Agent[Any], config: RunConfig) -> None:
    match case.path:
        case "run":
            await Runner.run(agent, "go", run_config=config)
        case "run_streamed":
            result = Runner.run_streamed(agent, "go", run_config=config)
            async for _ in result.stream_events():
                pass
        case "resumed":
            paused = await Runner.run(agent, "go", run_config=config)
            assert len(paused.interruptions) == 1
            state = paused.to_state()
            state.approve(paused.interruptions[0])
            await Runner.run(agent, state, run_config=config)
        case "nested":
            script = [[function_call("inner", {"input": "x"}, call_id="outer")], [assistant_message("done")]]
            outer = Agent(
                name="Outer",
                model=ScriptedModel(script, emit_traces=True),
                tools=[agent.as_tool("inner", "An agent", run_config=config)],
            )
            await Runner.run(outer, "go", run_config=config)


@pytest.mark.parametrize("case", chosen(), ids=lambda case: "-".join(case).replace(" ", "_"))
def test_a_call(case: Case, installed: INSTALL, tmp_path: Path) -> None:
    """The verdict is right, the body ran or not, the model read it; one row, one event, one count, one id."""
    kind, expected = ALL_KINDS[case.kind], VERDICTS[case.verdict]
    b = installed(*expected.answers, policy=rules(expected.approval, kind))
    body = Body(fails=LookupError("gone") if case.verdict == "raises" else None)
    agent, model = make_agent(case, kind, body)
    bridge = SpanBridge(b.telemetry.tracer_provider)
    config = RunConfig(tracing_disabled=case.tracing == "off")
    ends = (expected.status == "failed" and kind.failure_ends_the_run) or (
        expected.text is not None and kind.refusal_ends_the_run
    )
    # An agent as a tool hands what ends its run to the agent that called it, as text.
    ends_outside = ends and case.path != "nested"
    with (
        sdk_tracing(bridge if case.tracing == "on" else Theirs()),
        pytest.raises((LookupError, UserError)) if ends_outside else nullcontext(),
    ):
        if case.path == "run_sync":
            with asyncio.Runner() as loop:
                asyncio.set_event_loop(loop.get_loop())  # the one it takes is closed by nobody
                Runner.run_sync(agent, "go", run_config=config)
        else:
            asyncio.run(go(case, agent, config))

    runs = expected.status in ("success", "failed")
    assert len(body.seen) == (1 if runs else 0)
    if expected.text is not None and not ends:
        assert read_by(model) == [expected.text]
    elif expected.status == "success" and case.kind != "computer":
        (read,) = read_by(model)
        assert "did it" in read

    rows = [row for row in b.rows() if row["matched_rule"] == "the_rule"]
    assert [(row["result_status"], row["agent_name"], row["tool_call_id"]) for row in rows] == [
        (expected.status, "Clerk", "call_1")
    ]
    if case.path != "nested":  # where the call of the outer tool is a decision, too
        assert_one_id(b, expected.outcome)
    events = [
        e for e in b.telemetry.events("aegis.tool.decision") if e["aegis.policy.rule.name"] == "the_rule"
    ]
    assert [e["aegis.decision.id"] for e in events] == [rows[0]["decision_id"]]
    assert_one_tree(case, b, rows[0], runs)


def assert_one_tree(case: Case, b: Bench, row: dict[str, Any], runs: bool) -> None:
    """Our spans have ended, carry the row's ids, and hang together; under the SDK's where it traces to us."""
    spans = {format(span.context.span_id, "016x"): span for span in b.telemetry.spans()}
    govern = spans[row["span_id"]]
    assert govern.name.startswith("govern_tool")
    assert format(govern.context.trace_id, "032x") == row["trace_id"]
    children = [s for s in spans.values() if s.parent and s.parent.span_id == govern.context.span_id]
    assert sum(child.name.startswith("execute_tool") for child in children) == (1 if runs else 0)
    if case.tracing == "on":
        roots = {s.context.trace_id for s in spans.values() if s.parent is None}
        assert len({span.context.trace_id for span in spans.values()}) == 1 == len(roots)
        around = spans[format(govern.parent.span_id, "016x")]
        # Where the SDK gives a resumed run no agent span (0.21), the run's own is around it.
        resumed = ("invoke_workflow Agent workflow",) if case.path == "resumed" else ()
        assert around.name in ("invoke_agent Clerk", *resumed)
