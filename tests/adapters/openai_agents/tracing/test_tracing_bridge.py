"""The SDK's traces as OpenTelemetry spans, on the real SDK with governed tools: one tree, come what may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from agents import (
    Agent,
    FunctionTool,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    RunConfig,
    Runner,
    RunState,
    UserError,
    custom_span,
    flush_traces,
    function_span,
    function_tool,
    handoff,
    input_guardrail,
    set_trace_processors,
    trace,
    transcription_span,
)
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tracing import mcp_tools_span
from agents.usage import Usage
from openai import AsyncOpenAI
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from aegis_otel import semconv
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.tracing.span_bridge import SpanBridge
from aegis_otel.telemetry import trace_bridge as bridging
from tests.support.kit import Bench
from tests.support.tracing import attributes, sdk_tracing, tree

DOCUMENTED = {span.name.partition(" ")[0]: span.attributes for span in semconv.SPANS}
"""Attributes by the first word of a span's name, as docs/telemetry.md has them."""

ALLOW = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}}


@dataclass
class Traced:
    """Governed tools, the bridge in front of the same in-memory provider, and what came out."""

    bench: Bench
    bridge: SpanBridge

    def tool(self, body: Callable[..., Any], **options: Any) -> FunctionTool:
        return governed_tool(runtime=self.bench.runtime)(function_tool(**options)(body))

    def working(self, name: str = "look", **options: Any) -> FunctionTool:
        """A tool whose body has a span of its own, named after its argument."""
        tracer = self.bench.telemetry.tracer_provider.get_tracer("user")

        async def look(item: str) -> str:
            await asyncio.sleep(0)
            with tracer.start_as_current_span(f"work {item}"):
                await asyncio.sleep(0)
            return "found"

        return self.tool(look, name_override=name, **options)

    @property
    def spans(self) -> list[Any]:
        return self.bench.telemetry.spans()

    @property
    def tree(self) -> list[str]:
        return tree(self.spans)

    @property
    def left_open(self) -> int:
        """What the bridge still keeps of traces and spans."""
        inner = self.bridge._bridge
        return sum(len(kept) for kept in (inner._roots, inner._open, inner._entered))


@pytest.fixture
def traced(bench: Callable[..., Bench]) -> Iterator[Traced]:
    made = bench(policy=ALLOW)
    bridge = SpanBridge(made.telemetry.tracer_provider)
    before = otel_context.get_current()
    with sdk_tracing(bridge):
        yield Traced(made, bridge)
    assert otel_context.get_current() == before, "something stayed current"
    for span in made.telemetry.spans():
        if span.instrumentation_scope.name == semconv.SCOPE:
            documented = DOCUMENTED.get(span.name.partition(" ")[0], {semconv.GEN_AI_CONVERSATION_ID})
            assert set(span.attributes) <= set(documented), span.name


def calls(*names: str, arguments: str = '{"item": "x"}') -> list[Any]:
    return [function_call(name, arguments, call_id=f"call_{n}") for n, name in enumerate(names)]


def call(name: str, arguments: str = "{}") -> Any:
    return function_call(name, arguments, call_id=f"call_{name}")


def agent(name: str, *steps: Any, **options: Any) -> Agent[Any]:
    model = ScriptedModel(
        list(steps) or [[assistant_message("done")]],
        emit_traces=True,
        default_usage=Usage(requests=1, input_tokens=5, output_tokens=7, total_tokens=12),
    )
    return Agent(name=name, model=model, **options)


def clerk(traced: Traced, *more: FunctionTool) -> Agent[Any]:
    return agent("Clerk", calls("look"), [assistant_message("done")], tools=[traced.working(), *more])


ONE_CALL = [
    "invoke_workflow Agent workflow",
    "  invoke_agent Clerk",
    "    chat",
    "    govern_tool look",
    "      execute_tool look",
    "        work x",
    "    chat",
]


async def stream(starting: Agent[Any], asked: Any = "go", **options: Any) -> None:
    async for _ in Runner.run_streamed(starting, asked, **options).stream_events():
        pass


async def test_a_run(traced: Traced) -> None:
    """One tree: the user's own span is under the tool, the tool under the agent, the agent under the run."""
    await Runner.run(clerk(traced), "go")
    assert traced.tree == ONE_CALL
    assert traced.left_open == 0


def run_sync(starting: Agent[Any]) -> None:
    """`Runner.run_sync`, which leaves the loop it makes for its thread to whom it may concern."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        Runner.run_sync(starting, "go")
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def in_threads(*starting: Agent[Any]) -> None:
    threads = [threading.Thread(target=run_sync, args=(each,)) for each in starting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_run_from_sync_code(traced: Traced) -> None:
    in_threads(clerk(traced))
    assert (traced.tree, traced.left_open) == (ONE_CALL, 0)


async def test_a_streamed_run(traced: Traced) -> None:
    await stream(clerk(traced))
    assert (traced.tree, traced.left_open) == (ONE_CALL, 0)


async def test_without_the_spans_of_tasks_and_turns(traced: Traced) -> None:
    """What an SDK before 0.14 traces, or one that is told to."""
    config = RunConfig(tracing={"include_task_and_turn_spans": False})
    await Runner.run(clerk(traced), "go", run_config=config)
    assert traced.tree == ONE_CALL


async def test_what_the_spans_carry(traced: Traced) -> None:
    """GenAI attributes, the conversation on every span, and the tokens of all turns on the agent."""
    config = RunConfig(workflow_name="support", group_id="conversation-7", trace_id="trace_" + "a" * 32)
    await Runner.run(clerk(traced), "go", run_config=config)
    shared = {"gen_ai.conversation.id": "conversation-7"}
    assert attributes(traced.spans, "invoke_workflow support") == shared | {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": "support",
        "gen_ai.workflow.name": "support",
        "aegis.sdk.trace.id": "trace_" + "a" * 32,
    }
    assert attributes(traced.spans, "invoke_agent Clerk") == shared | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "Clerk",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 14,
    }
    (chat, _) = traced.bench.telemetry.spans("chat")
    assert dict(chat.attributes) == shared | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
    }
    kinds = {span.name.partition(" ")[0]: span.kind for span in traced.spans}
    assert {name for name, kind in kinds.items() if kind is SpanKind.CLIENT} == {"chat"}


async def test_the_agent_is_known_to_a_sampler(traced: Traced) -> None:
    """The attributes that the conventions call relevant for sampling are there at creation."""
    seen: list[dict[str, Any]] = []

    class Watching(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(dict(span.attributes))

    traced.bench.telemetry.tracer_provider.add_span_processor(Watching())
    await Runner.run(clerk(traced), "go")
    assert {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Clerk"} in seen


async def test_an_agent_as_a_tool(traced: Traced) -> None:
    """The inner agent is under the `execute_tool` that runs it, not beside it."""
    inner = agent("Inner", calls("look"), [assistant_message("done")], tools=[traced.working()])
    ask = governed_tool(runtime=traced.bench.runtime)(inner.as_tool("ask", "Asks."))
    outer = agent("Outer", [call("ask", '{"input": "x"}')], [assistant_message("done")], tools=[ask])
    await Runner.run(outer, "go")
    assert traced.tree == [
        "invoke_workflow Agent workflow",
        "  invoke_agent Outer",
        "    chat",
        "    govern_tool ask",
        "      execute_tool ask",
        "        invoke_agent Inner",
        "          chat",
        "          govern_tool look",
        "            execute_tool look",
        "              work x",
        "          chat",
        "    chat",
    ]
    assert traced.left_open == 0


async def test_an_ungoverned_tool(traced: Traced) -> None:
    """It has no span here; what its body does is under the agent."""

    @function_tool
    async def look(item: str) -> str:
        with traced.bench.telemetry.tracer_provider.get_tracer("user").start_as_current_span("work"):
            return item

    await Runner.run(agent("Clerk", calls("look"), [assistant_message("done")], tools=[look]), "go")
    assert traced.tree[1:5] == ["  invoke_agent Clerk", "    chat", "    work", "    chat"]


async def test_a_handoff(traced: Traced) -> None:
    second = agent("Second", calls("look"), [assistant_message("done")], tools=[traced.working()])
    first = agent("First", [call("transfer_to_second")], handoffs=[second])
    await Runner.run(first, "go")
    assert traced.tree == [
        "invoke_workflow Agent workflow",
        "  invoke_agent First",
        "    chat",
        "    handoff Second",
        "  invoke_agent Second",
        "    chat",
        "    govern_tool look",
        "      execute_tool look",
        "        work x",
        "    chat",
    ]
    assert attributes(traced.spans, "handoff Second") == {
        "gen_ai.operation.name": "handoff",
        "gen_ai.agent.name": "First",
        "aegis.handoff.target": "Second",
    }


async def test_a_guardrail_that_stops_the_run(traced: Traced) -> None:
    """The guardrail did its work; the agent is what failed. An agent the guardrail asks is under it."""
    judge = agent("Judge")

    @input_guardrail(run_in_parallel=False)
    async def judged(context: Any, asked: Any, text: Any) -> GuardrailFunctionOutput:
        await Runner.run(judge, "go")
        return GuardrailFunctionOutput(output_info="my secret", tripwire_triggered=True)

    with pytest.raises(InputGuardrailTripwireTriggered):
        await Runner.run(agent("Clerk", input_guardrails=[judged]), "go")
    assert traced.tree == [
        "invoke_workflow Agent workflow",
        "  invoke_agent Clerk",
        "    run_guardrail judged",
        "      invoke_agent Judge",
        "        chat",
    ]
    assert attributes(traced.spans, "run_guardrail judged") == {
        "gen_ai.operation.name": "run_guardrail",
        "aegis.guardrail.name": "judged",
        "aegis.guardrail.triggered": True,
    }
    (failed,) = [span for span in traced.spans if span.status.status_code is StatusCode.ERROR]
    assert (failed.name, failed.attributes["error.type"], failed.status.description) == (
        "invoke_agent Clerk",
        "guardrail_tripwire_triggered",
        None,
    )
    assert traced.left_open == 0


async def test_errors_are_named_and_their_words_kept(traced: Traced) -> None:
    """A tool that raises, a model that raises, too many turns: an `error.type`, and no message anywhere."""

    async def boom() -> str:
        raise ValueError("a private word")

    raising = traced.tool(boom, failure_error_function=None)
    with pytest.raises(UserError):
        await Runner.run(agent("Tool", [call("boom")], tools=[raising]), "go")
    with pytest.raises(LookupError):
        await Runner.run(agent("Model", LookupError("a private word")), "go")
    with pytest.raises(MaxTurnsExceeded):
        await Runner.run(clerk(traced), "go", max_turns=1)
    failed = {
        span.name: span.attributes["error.type"]
        for span in traced.spans
        if span.status.status_code is StatusCode.ERROR
    }
    assert failed == {
        "invoke_agent Tool": "_OTHER",
        "govern_tool boom": "ValueError",
        "execute_tool boom": "ValueError",
        "invoke_agent Model": "_OTHER",
        "chat": "_OTHER",
        "invoke_agent Clerk": "max_turns_exceeded",
    }
    assert "private" not in "".join(span.to_json() for span in traced.spans)
    assert traced.left_open == 0


async def test_no_content_on_any_span(traced: Traced) -> None:
    """Neither prompts nor outputs nor arguments nor what a custom span holds, though the SDK has them."""

    async def look(item: str) -> str:
        with custom_span("step", {"key": "private"}):
            return "private"

    model = ScriptedModel(
        [calls("look", arguments='{"item": "private"}'), [assistant_message("private")]], emit_traces=True
    )
    tools = [traced.tool(look)]
    await Runner.run(
        Agent(name="Clerk", instructions="private", model=model, tools=tools),
        "private",
        run_config=RunConfig(trace_metadata={"key": "private"}),
    )
    assert "        step" in traced.tree
    assert "private" not in "".join(span.to_json() for span in traced.spans)


async def test_names_are_redacted(traced: Traced) -> None:
    """A secret or a lone surrogate in a name: hidden, escaped, and exported all the same."""
    key = "sk-live-51H8xQ2eZvKYlo2C9a7d"
    config = RunConfig(workflow_name=f"w {key}", group_id=f"g {key}")
    first = agent("First\ud800", [call("over")], handoffs=[handoff(agent(f"Second {key}"), "over")])
    await Runner.run(first, "go", run_config=config)
    with trace(f"t {key}"), custom_span(f"c {key}"):
        pass
    text = "".join(span.to_json() for span in traced.spans)
    assert key not in text
    assert "invoke_agent First\\\\ud800" in text


async def test_parallel_calls_do_not_mix(traced: Traced) -> None:
    """100 calls in one turn, every third in a thread: each body's span under its own call, one tree."""
    tracer = traced.bench.telemetry.tracer_provider.get_tracer("user")

    def threaded(item: str) -> str:
        with tracer.start_as_current_span(f"work {item}"):
            return "found"

    tools = [traced.working(), traced.tool(threaded)]
    step = [
        function_call("threaded" if n % 3 == 0 else "look", f'{{"item": "{n}"}}', call_id=f"call_{n}")
        for n in range(100)
    ]
    await Runner.run(agent("Clerk", step, [assistant_message("done")], tools=tools), "go")
    by_id = {span.context.span_id: span for span in traced.spans}
    works = [span for span in traced.spans if span.name.startswith("work ")]
    assert len(works) == 100
    for work in works:
        execute = by_id[work.parent.span_id]
        govern = by_id[execute.parent.span_id]
        assert execute.attributes["gen_ai.tool.call.id"] == f"call_{work.name.removeprefix('work ')}"
        assert govern.attributes["gen_ai.tool.call.id"] == execute.attributes["gen_ai.tool.call.id"]
        assert by_id[govern.parent.span_id].name == "invoke_agent Clerk"
    assert traced.left_open == 0


async def test_concurrent_runs_are_trees_of_their_own(traced: Traced) -> None:
    """50 at once, each second one streamed: 50 traces of the same shape."""
    await asyncio.gather(
        *(stream(clerk(traced)) if n % 2 else Runner.run(clerk(traced), "go") for n in range(50))
    )
    traces: dict[int, list[Any]] = {}
    for span in traced.spans:
        traces.setdefault(span.context.trace_id, []).append(span)
    assert [tree(spans) for spans in traces.values()] == [ONE_CALL] * 50
    assert traced.left_open == 0


def test_threads(traced: Traced) -> None:
    """`run_sync` in eight threads: the same."""
    in_threads(*(clerk(traced) for _ in range(8)))
    traces: dict[int, list[Any]] = {}
    for span in traced.spans:
        traces.setdefault(span.context.trace_id, []).append(span)
    assert [tree(spans) for spans in traces.values()] == [ONE_CALL] * 8
    assert traced.left_open == 0


async def test_two_runs_in_one_trace(traced: Traced) -> None:
    """What `trace()` groups has one root, and the spans that the user makes by the SDK's means are in it."""
    with trace("both", group_id="g"):
        await Runner.run(agent("First"), "go")
        with custom_span("between"):
            await Runner.run(agent("Second"), "go")
    assert traced.tree == [
        "invoke_workflow both",
        "  invoke_agent First",
        "    chat",
        "  between",
        "    invoke_agent Second",
        "      chat",
    ]
    assert traced.left_open == 0


async def test_overlapping_runs_with_one_trace_id(traced: Traced) -> None:
    """Two runs told to share a trace id share the root, which ends with the last of them."""
    config = RunConfig(trace_id="trace_" + "b" * 32)
    await asyncio.gather(*(Runner.run(clerk(traced), "go", run_config=config) for _ in range(2)))
    assert sorted(traced.tree) == sorted([*ONE_CALL, *ONE_CALL[1:]])
    assert traced.left_open == 0


async def test_the_root_ends_with_the_last_of_them(traced: Traced) -> None:
    shared = "trace_" + "b" * 32
    first, second = trace("wf", trace_id=shared), trace("wf", trace_id=shared)
    first.start()
    second.start()
    first.finish()
    assert traced.tree == []
    second.finish()
    assert traced.tree == ["invoke_workflow wf"]


async def test_a_call_that_is_in_no_task_of_its_own(traced: Traced) -> None:
    """What a call made current ends with it, and the spans in it stand under what was."""
    with trace("wf"):
        with function_span("by hand"), custom_span("inside"):
            assert get_current_span().name == "invoke_workflow wf"
        assert not get_current_span().get_span_context().is_valid
    assert traced.tree == ["invoke_workflow wf", "  inside"]


async def test_a_call_that_ends_in_another_task(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """It can give nothing back there, and does not try."""
    with trace("wf"):
        span = function_span("by hand")

        async def start() -> None:
            span.start()

        await asyncio.create_task(start())
        span.finish()
    assert (traced.left_open, caplog.messages) == (0, [])


async def test_under_the_span_of_a_request(traced: Traced) -> None:
    """Where a span is current already, the run is a part of its trace."""
    with traced.bench.telemetry.tracer_provider.get_tracer("web").start_as_current_span("POST /ask"):
        await Runner.run(clerk(traced), "go")
    assert traced.tree == ["POST /ask", *("  " + line for line in ONE_CALL)]


async def test_a_call_that_times_out(traced: Traced) -> None:
    async def slow() -> str:
        await asyncio.sleep(60)
        return "never"

    tool = traced.tool(slow, timeout=0.01)
    await Runner.run(agent("Clerk", [call("slow")], [assistant_message("x")], tools=[tool]), "go")
    assert traced.tree == [
        "invoke_workflow Agent workflow",
        "  invoke_agent Clerk",
        "    chat",
        "    govern_tool slow",
        "      execute_tool slow",
        "    chat",
    ]
    assert traced.left_open == 0


@pytest.mark.parametrize("run", [Runner.run, stream], ids=["run", "streamed"])
async def test_a_run_that_is_cancelled(run: Callable[..., Any], traced: Traced) -> None:
    """The SDK ends the trace before the call: every span ends, in its place."""
    started = asyncio.Event()

    async def hang() -> str:
        started.set()
        await asyncio.sleep(60)
        return "never"

    starting = agent("Clerk", [call("hang")], tools=[traced.tool(hang)])
    running = asyncio.ensure_future(run(starting, "go"))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        while traced.left_open:
            await asyncio.sleep(0.001)
    assert traced.tree == [
        "invoke_workflow Agent workflow",
        "  invoke_agent Clerk",
        "    chat",
        "    govern_tool hang",
        "      execute_tool hang",
    ]


async def interrupted(traced: Traced) -> tuple[Agent[Any], RunState[Any]]:
    """A run that waits for a human, by the SDK's own means."""
    clerk = agent(
        "Clerk", calls("look"), [assistant_message("x")], tools=[traced.working(needs_approval=True)]
    )
    result = await Runner.run(clerk, "go", run_config=RunConfig(group_id="g"))
    state = result.to_state()
    state.approve(state.get_interruptions()[0])
    return clerk, state


RESUMED = [
    "invoke_workflow Agent workflow",
    "  invoke_agent Clerk",
    "    chat",
    "  invoke_workflow Agent workflow",
    "    invoke_agent Clerk",
    "      govern_tool look",
    "        execute_tool look",
    "          work x",
    "      chat",
]


def in_one_trace(lines: list[str]) -> tuple[list[str], list[str]]:
    """Where the resumed run is, and what is in it: an older SDK has its first call outside of the agent."""
    assert not [line for line in lines if line.startswith("?")]
    roots = [line for line in lines if not line.startswith("  ") or "invoke_workflow" in line]
    return roots, sorted(line.strip() for line in lines)


@pytest.mark.parametrize("stored", [False, True], ids=["kept", "stored"])
async def test_a_run_that_is_resumed(stored: bool, traced: Traced) -> None:
    """The SDK goes on in a trace that ended, without starting it: one trace for OpenTelemetry, too."""
    clerk, state = await interrupted(traced)
    if stored:
        state = await RunState.from_string(clerk, state.to_string())
    await Runner.run(clerk, state, run_config=RunConfig(group_id="g"))
    assert in_one_trace(traced.tree) == in_one_trace(RESUMED)
    first, second = traced.bench.telemetry.spans("invoke_workflow")
    assert dict(first.attributes) == dict(second.attributes)
    assert traced.left_open == 0


async def test_a_run_that_is_resumed_in_another_request(traced: Traced) -> None:
    """It is a part of the request that resumed it, and linked to the trace it began in."""
    clerk, state = await interrupted(traced)
    with traced.bench.telemetry.tracer_provider.get_tracer("web").start_as_current_span("POST /approve"):
        await stream(clerk, state)
    assert in_one_trace(traced.tree) == in_one_trace([*RESUMED[:3], "POST /approve", *RESUMED[3:]])
    first, second = traced.bench.telemetry.spans("invoke_workflow")
    assert [link.context for link in second.links] == [first.context]


async def test_added_while_a_run_is_under_way(traced: Traced) -> None:
    """Spans of a trace whose start was not seen: the rest of the run still is one tree."""
    set_trace_processors([])
    starting = clerk(traced)
    with trace("seen late"), custom_span("before"):
        set_trace_processors([traced.bridge])
        await Runner.run(starting, "go")
    assert traced.tree == ["invoke_workflow seen late", *ONE_CALL[1:]]
    assert traced.left_open == 0


async def test_a_trace_seen_late_that_ends_before_its_spans(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a run that is cancelled: the root that stands in for it ends once, with the span it was for."""
    set_trace_processors([])
    late = trace("late")
    late.start(mark_as_current=True)
    set_trace_processors([traced.bridge])
    span = custom_span("step")
    span.start()
    late.finish(reset_current=True)
    span.finish()
    assert traced.tree == ["invoke_workflow late", "  step"]
    assert (traced.left_open, caplog.messages) == (0, [])


async def test_tracing_switched_off(traced: Traced) -> None:
    """Nothing to bridge; the call's own spans are there all the same."""
    await Runner.run(clerk(traced), "go", run_config=RunConfig(tracing_disabled=True))
    assert traced.tree == ["govern_tool look", "  execute_tool look", "    work x"]


async def test_kinds_that_have_no_convention(traced: Traced) -> None:
    """Voice, and whatever the SDK may add, shows up under the name of its type."""
    with trace("voice"), transcription_span(model="whisper", input="private"):
        pass
    assert traced.tree == ["invoke_workflow voice", "  transcription"]
    assert "private" not in "".join(span.to_json() for span in traced.spans)


async def test_registered_twice(traced: Traced) -> None:
    """`instrument()` and a processor by hand: the first bridges, the second does not repeat it."""
    second = SpanBridge(traced.bench.telemetry.tracer_provider)
    set_trace_processors([traced.bridge, second])
    await Runner.run(clerk(traced), "go")
    assert traced.tree == ONE_CALL


async def test_without_an_opentelemetry_sdk(traced: Traced) -> None:
    """On the API alone nothing is kept, and the context of an incoming request stays what it is."""
    idle = SpanBridge()
    set_trace_processors([idle])
    remote = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    seen: list[SpanContext] = []

    @function_tool
    async def look(item: str) -> str:
        seen.append(get_current_span().get_span_context())
        seen.append(SpanContext(len(idle._bridge._open) + 1, 1, False))
        return item

    token = otel_context.attach(set_span_in_context(NonRecordingSpan(remote)))
    try:
        await Runner.run(agent("Clerk", calls("look"), [assistant_message("x")], tools=[look]), "go")
    finally:
        otel_context.detach(token)
    assert (seen[0], seen[1].trace_id) == (remote, 1)
    assert traced.spans == []


async def test_what_never_ends_is_not_kept_for_ever(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the oldest is ended as it is, and its late end does no harm."""
    monkeypatch.setattr(bridging, "OPEN_LIMIT", 3)
    traced.bridge = SpanBridge(traced.bench.telemetry.tracer_provider)
    set_trace_processors([traced.bridge])
    started = []
    for n in range(5):
        with trace(f"t{n}") as kept:
            started.append(kept)
            custom_span(f"c{n}").start()
            set_trace_processors([])  # its end is never told
        set_trace_processors([traced.bridge])
    assert traced.tree == ["invoke_workflow t0", "  c0", "invoke_workflow t1", "  c1"]
    for each in started:
        traced.bridge.on_trace_end(each)
    assert len(traced.bench.telemetry.spans("invoke_workflow")) == 5


async def test_shutdown_ends_what_is_open(traced: Traced) -> None:
    """Children and roots, as they are; what ends afterwards ends nothing twice."""
    with trace("wf"), custom_span("step"):
        traced.bridge.shutdown()
        assert traced.tree == ["invoke_workflow wf", "  step"]
    assert traced.tree == ["invoke_workflow wf", "  step"]
    assert traced.left_open == 0


async def test_flush_exports_what_has_ended_and_no_more(traced: Traced) -> None:
    """`flush_traces()` in one request must not cut off the runs of others."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    set_trace_processors([SpanBridge(provider)])
    with trace("wf"):
        with custom_span("step"):
            pass
        flush_traces()
        assert [span.name for span in exporter.get_finished_spans()] == ["step"]
    provider.shutdown()
    assert [span.name for span in exporter.get_finished_spans()] == ["step", "invoke_workflow wf"]


def client(answer: dict[str, Any]) -> AsyncOpenAI:
    """A client of the provider whose every request is answered with `answer`."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer))
    return AsyncOpenAI(api_key="k", http_client=httpx2.AsyncClient(transport=transport))


TOKENS = {
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": 22,
    "gen_ai.usage.cache_read.input_tokens": 3,
    "gen_ai.usage.cache_write.input_tokens": 4,
    "gen_ai.usage.cache_creation.input_tokens": 4,
    "gen_ai.usage.reasoning.output_tokens": 5,
}


@pytest.mark.parametrize("sensitive", [True, False])
async def test_a_call_of_the_responses_api(sensitive: bool, traced: Traced) -> None:
    """The SDK's own model: tokens, and what it tells of the answer where it may."""
    answer = {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": "gpt-answers",
        "status": "completed",
        "output": [
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "private", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 11,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4},
            "output_tokens": 22,
            "output_tokens_details": {"reasoning_tokens": 5},
            "total_tokens": 33,
        },
    }
    model = OpenAIResponsesModel("gpt-asked", client(answer))
    config = RunConfig(trace_include_sensitive_data=sensitive)
    await Runner.run(Agent(name="Clerk", model=model), "private", run_config=config)
    (chat,) = traced.bench.telemetry.spans("chat")
    told = {"gen_ai.response.model": "gpt-answers", "gen_ai.response.id": "resp_1"}
    assert chat.name == ("chat gpt-answers" if sensitive else "chat")
    told_anyway = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", **TOKENS}
    if sensitive:
        assert {**chat.attributes} == told_anyway | told
    else:  # newer SDKs tell the id all the same
        assert told_anyway.items() <= {**chat.attributes}.items() <= (told_anyway | told).items()
        assert "gen_ai.response.model" not in chat.attributes
    assert "private" not in "".join(span.to_json() for span in traced.spans)


async def test_a_call_of_the_chat_completions_api(traced: Traced) -> None:
    """Here the SDK tells what was asked for."""
    answer = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt-answers",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "private"}}
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 22,
            "total_tokens": 33,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }
    model = OpenAIChatCompletionsModel("gpt-asked", client(answer))
    await Runner.run(Agent(name="Clerk", model=model), "private")
    assert attributes(traced.spans, "chat gpt-asked") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-asked",
        **TOKENS,
    }
    assert "private" not in "".join(span.to_json() for span in traced.spans)


async def test_an_mcp_server_is_asked_for_its_tools(traced: Traced) -> None:
    """By the conventions for MCP."""
    with trace("wf"), mcp_tools_span(server="files") as span:
        span.span_data.result = ["private"]
    assert traced.tree == ["invoke_workflow wf", "  tools/list"]
    assert attributes(traced.spans, "tools/list") == {
        "mcp.method.name": "tools/list",
        "aegis.mcp.server.name": "files",
    }
