"""Beside the other instrumentations of the SDK: one tree, theirs, with the governance of a call in it.

Governed by `@governed_tool`, whose spans and rows do not depend on the bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from agents import Agent, Runner, add_trace_processor, function_tool, set_trace_processors
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tracing import TracingProcessor, get_trace_provider, set_trace_provider
from openai_agents_opentelemetry import OpenTelemetryTracingProcessor
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor as OpenInference
from opentelemetry import trace as otel_trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor as GenAI
from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor as OpenLLMetry

from aegis_otel import semconv
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.tracing.other_instrumentors import INSTRUMENTORS, bridged_elsewhere
from aegis_otel.adapters.openai_agents.tracing.span_bridge import SpanBridge
from tests.support.kit import Bench, Telemetry
from tests.support.tracing import sdk_tracing, tree

ALLOW = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}}
BENCH = Callable[..., Bench]
Theirs = Callable[[Telemetry], AbstractContextManager[None]]


@contextmanager
def instrumented(instrumentor: Any, telemetry: Telemetry, **options: Any) -> Iterator[None]:
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
        **options,
    )
    try:
        yield
    finally:
        instrumentor.uninstrument()


def genai(telemetry: Telemetry) -> AbstractContextManager[None]:
    return instrumented(GenAI(), telemetry)


def openinference(telemetry: Telemetry) -> AbstractContextManager[None]:
    return instrumented(OpenInference(), telemetry, exclusive_processor=False)


def openinference_alone(telemetry: Telemetry) -> AbstractContextManager[None]:
    """As it comes: every processor that was there before is removed."""
    return instrumented(OpenInference(), telemetry)


def openllmetry(telemetry: Telemetry) -> AbstractContextManager[None]:
    return instrumented(OpenLLMetry(), telemetry)


@contextmanager
def plain_processor(telemetry: Telemetry) -> Iterator[None]:
    """openai-agents-opentelemetry, which asks for the global provider and is registered by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otel_trace, "_TRACER_PROVIDER", telemetry.tracer_provider)
        processor = OpenTelemetryTracingProcessor()
    add_trace_processor(processor)
    yield


TREES: dict[Theirs, list[str]] = {
    genai: [
        "invoke_workflow Agent workflow",
        "  invoke_agent Clerk",
        "    execute_tool look",
        "      govern_tool look",
        "        work x",
    ],
    openinference: [
        "Agent workflow",
        "  Agent workflow",
        "    Clerk",
        "      turn",
        "        generation",
        "        look",
        "          govern_tool look",
        "            work x",
        "      turn",
        "        generation",
    ],
    openllmetry: [
        "Agent Workflow",
        "  Clerk.agent",
        "    openai.response",
        "    look.tool",
        "      govern_tool look",
        "        work x",
        "    openai.response",
    ],
    plain_processor: [
        "workflow: Agent workflow",
        "  agent.task",
        "    agent: Clerk",
        "      agent.turn",
        "        chat",
        "        execute_tool look",
        "          govern_tool look",
        "            work x",
        "      agent.turn",
        "        chat",
    ],
}
ATTACHING = [genai, openinference, openllmetry]
EACH = pytest.mark.parametrize("theirs", TREES, ids=lambda theirs: theirs.__name__)


def look(bench: Bench, *, governed: bool = True) -> Any:
    tracer = bench.telemetry.tracer_provider.get_tracer("user")

    @function_tool
    async def look(item: str) -> str:
        with tracer.start_as_current_span(f"work {item}"):
            return "found"

    return governed_tool(runtime=bench.runtime)(look) if governed else look


def agent(name: str, *steps: Any, tools: Any) -> Agent[Any]:
    model = ScriptedModel([*steps, [assistant_message("done")]], emit_traces=True)
    return Agent(name=name, model=model, tools=tools)


def call(name: str, item: str = "x") -> Any:
    return function_call(name, {"item": item}, call_id=f"call_{item}")


def clerk(bench: Bench, name: str = "Clerk") -> Agent[Any]:
    return agent(name, [call("look")], tools=[look(bench)])


async def run_streamed(starting: Agent[Any], asked: str) -> None:
    async for _ in Runner.run_streamed(starting, asked).stream_events():
        pass


@contextmanager
def both(bench: Bench, theirs: Theirs, *, ours_first: bool = False) -> Iterator[SpanBridge]:
    """The bridge and another instrumentation at work; afterwards nothing is current or kept."""
    ours, before = SpanBridge(bench.telemetry.tracer_provider), get_current()
    with ExitStack() as stack:
        stack.enter_context(sdk_tracing())
        if ours_first:
            add_trace_processor(ours)
        stack.enter_context(theirs(bench.telemetry))
        if not ours_first:
            add_trace_processor(ours)
        yield ours
    assert get_current() == before
    inner = ours._bridge
    assert not [kept for kept in (inner._roots, inner._open, inner._entered) if kept]


@EACH
@pytest.mark.parametrize("run", [Runner.run, run_streamed], ids=["run", "streamed"])
async def test_theirs_around_ours_around_the_users(run: Any, theirs: Theirs, bench: BENCH) -> None:
    """`govern_tool` in their tool span, the user's own span in that; no `execute_tool` besides theirs."""
    b = bench(policy=ALLOW)
    with both(b, theirs):
        await run(clerk(b), "go")
    assert tree(b.telemetry.spans()) == TREES[theirs]


@pytest.mark.parametrize("theirs", ATTACHING, ids=lambda theirs: theirs.__name__)
async def test_whoever_was_registered_first(theirs: Theirs, bench: BENCH) -> None:
    """The order makes no difference."""
    b = bench(policy=ALLOW)
    with both(b, theirs, ours_first=True):
        await Runner.run(clerk(b), "go")
    assert tree(b.telemetry.spans()) == TREES[theirs]


async def test_a_processor_that_attaches_nothing_behind_ours(bench: BENCH) -> None:
    """Its tool span cannot be found yet, its turn can: ours stand there, in the same trace."""
    b = bench(policy=ALLOW)
    with both(b, plain_processor, ours_first=True):
        await Runner.run(clerk(b), "go")
    assert tree(b.telemetry.spans())[4:9] == [
        "        chat",
        "        execute_tool look",
        "        govern_tool look",
        "          execute_tool look",
        "            work x",
    ]


@pytest.mark.parametrize("ours_first", [True, False])
async def test_openinference_removes_every_other_processor(ours_first: bool, bench: BENCH) -> None:
    """With the bridge gone or not: the same tree, one row, one event, one count, one id."""
    b = bench(policy=ALLOW)
    with both(b, openinference_alone, ours_first=ours_first) as ours:
        processors = get_trace_provider()._multi_processor._processors
        assert (ours in processors) is not ours_first
        await Runner.run(clerk(b), "go")
    assert tree(b.telemetry.spans()) == TREES[openinference]
    (govern,), (event,) = b.telemetry.spans("govern_tool"), b.telemetry.events("aegis.tool.decision")
    ids = {b.row()["decision_id"], govern.attributes["aegis.decision.id"], event["aegis.decision.id"]}
    assert len(ids) == 1
    assert sum(b.telemetry.points("aegis.decisions").values()) == 1


@EACH
async def test_an_installed_capture_point_makes_the_same_tree(
    theirs: Theirs, installed: Callable[..., Bench]
) -> None:
    """As with `governed_tool`: one line for the whole program changes nothing about whose span is where."""
    b = installed(policy=ALLOW)
    with both(b, theirs):
        await Runner.run(agent("Clerk", [call("look")], tools=[look(b, governed=False)]), "go")
    assert tree(b.telemetry.spans()) == TREES[theirs]


async def test_what_is_blocked_stays_blocked_without_our_processor(installed: Callable[..., Bench]) -> None:
    """Openinference has removed it; the decision is made, told and recorded all the same."""
    block = {"version": "1", "defaults": {"approval": "block"}, "rules": []}
    b = installed(policy=block)
    with both(b, openinference_alone, ours_first=True) as ours:
        assert ours not in get_trace_provider()._multi_processor._processors
        clerk = agent("Clerk", [call("look")], tools=[look(b, governed=False)])
        await Runner.run(clerk, "go")
    assert not b.telemetry.spans("work")
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert (b.row()["result_status"], b.row()["decision_id"]) == ("blocked", event["aegis.decision.id"])


@EACH
async def test_parallel_calls_do_not_mix(theirs: Theirs, bench: BENCH) -> None:
    """20 in one turn: each has a tool span of theirs to itself."""
    b = bench(policy=ALLOW)
    with both(b, theirs):
        await Runner.run(agent("Clerk", [call("look", str(n)) for n in range(20)], tools=[look(b)]), "go")
    governs = {span.context.span_id: span for span in b.telemetry.spans("govern_tool")}
    works = b.telemetry.spans("work ")
    assert len(governs) == len({span.parent.span_id for span in governs.values()}) == len(works) == 20
    for work in works:
        call_id = governs[work.parent.span_id].attributes["gen_ai.tool.call.id"]
        assert work.name == f"work {call_id.removeprefix('call_')}"


@EACH
async def test_their_tree_is_what_it_is_without_us(theirs: Theirs, bench: BENCH) -> None:
    """Also with an agent as a tool, where their inner spans start inside of ours."""

    def nested(b: Bench, *, governed: bool) -> Agent[Any]:
        ask = clerk(b, "Inner").as_tool("ask", "Asks.")
        tools = [governed_tool(runtime=b.runtime)(ask) if governed else ask]
        return agent("Outer", [function_call("ask", {"input": "x"}, call_id="c")], tools=tools)

    def names(b: Bench) -> list[str]:
        spans = b.telemetry.spans()
        return sorted(span.name for span in spans if span.instrumentation_scope.name != semconv.SCOPE)

    without, b = bench(policy=ALLOW), bench(policy=ALLOW)
    with sdk_tracing(), theirs(without.telemetry):
        await Runner.run(nested(without, governed=False), "go")
    with both(b, theirs):
        await Runner.run(nested(b, governed=True), "go")
    assert names(b) == names(without)
    lines = tree(b.telemetry.spans())
    assert [line for line in lines if not line.startswith(" ")] == lines[:1], "one root"
    ours = [span.name for span in b.telemetry.spans() if span.instrumentation_scope.name == semconv.SCOPE]
    assert ours == ["govern_tool ask", "govern_tool look"]


async def test_one_that_is_not_in_the_table(bench: BENCH) -> None:
    """Its tool span is left around ours, by what it says of itself."""
    b = bench(policy=ALLOW)
    tracer = b.telemetry.tracer_provider.get_tracer("unheard of")
    entered: dict[str, Any] = {}

    class Unheard(TracingProcessor):
        on_trace_start = on_trace_end = lambda self, trace: None
        shutdown = force_flush = lambda self: None

        def on_span_start(self, span: Any) -> None:
            if span.span_data.type == "function":
                named = {"gen_ai.operation.name": "execute_tool"}
                entered[span.span_id] = tracer.start_as_current_span("theirs", attributes=named)
                entered[span.span_id].__enter__()

        def on_span_end(self, span: Any) -> None:
            if span.span_id in entered:
                entered.pop(span.span_id).__exit__(None, None, None)

    with both(b, lambda telemetry: sdk_tracing(Unheard())):
        await Runner.run(clerk(b), "go")
    assert tree(b.telemetry.spans()) == [
        "invoke_workflow Agent workflow",
        "  invoke_agent Clerk",
        "    chat",
        "    chat",
        "theirs",
        "  govern_tool look",
        "    work x",
    ]


async def test_bridging_begins_when_theirs_is_gone(bench: BENCH) -> None:
    b = bench(policy=ALLOW)
    with both(b, genai) as ours:
        set_trace_processors([ours])
        await Runner.run(clerk(b), "go")
    assert tree(b.telemetry.spans())[:3] == [
        "invoke_workflow Agent workflow",
        "  invoke_agent Clerk",
        "    chat",
    ]


@EACH
def test_the_table_knows_them(theirs: Theirs, bench: BENCH) -> None:
    """By the modules that their processors really are in."""
    b = bench(policy=ALLOW)
    with both(b, theirs) as ours:
        assert bridged_elsewhere(ours, SpanBridge) is not None
    assert bridged_elsewhere(ours, SpanBridge) is None


def test_one_that_wraps_the_trace_provider() -> None:
    """As logfire does, which registers no processor."""
    ours = SpanBridge()
    (logfire,) = [each for each in INSTRUMENTORS if each.module == "logfire"]
    wrapper = type("Wrapper", (), {"__module__": f"{logfire.module}._internal.integrations.openai_agents"})
    with sdk_tracing(ours):
        provider = get_trace_provider()
        set_trace_provider(wrapper())
        assert bridged_elsewhere(ours, SpanBridge) is not None
        set_trace_provider(provider)
        assert bridged_elsewhere(ours, SpanBridge) is None


def test_a_processor_of_somebody_else_is_no_reason_to_stand_back() -> None:
    """Nor is one whose package only begins like a known one."""

    class Exporter(TracingProcessor):
        __module__ = "logfires.exporter"
        on_trace_start = on_trace_end = on_span_start = on_span_end = lambda self, each: None
        shutdown = force_flush = lambda self: None

    ours = SpanBridge()
    with sdk_tracing(Exporter(), ours):
        assert bridged_elsewhere(ours, SpanBridge) is None
