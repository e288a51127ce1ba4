"""K10: habits of the ecosystem: providers as arguments, the GenAI conventions of now, attribute limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, GenerationSpanData, RunConfig, Runner, function_tool, set_trace_processors
from agents.exceptions import UserError
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tracing import get_trace_provider, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aegis_otel
from aegis_otel import AegisInstrumentor, ConfigError
from aegis_otel.audit.record import RecordStatus
from aegis_otel.model import Approval, Outcome, RiskLevel
from aegis_otel.telemetry.recorder import Recorder
from tests.support.kit import Telemetry
from tests.support.telemetry import finish, make_call

POLICY = """\
version: "1"
defaults: { risk_level: low, approval: auto }
rules:
  - { name: block_deletes, match: { type: "delete_*" }, risk_level: critical, approval: block }
"""
INSTRUMENTOR = "AegisInstrumentor"


@function_tool
def search(query: str) -> str:
    """Search."""
    return "found"


@function_tool(failure_error_function=None)
def fail() -> str:
    """Fail."""
    raise LookupError("password=hunter2hunter2")


@function_tool
def delete_x() -> str:
    """Delete."""
    raise AssertionError("the body ran")


async def run(*calls: tuple[str, dict[str, Any]], name: str = "support") -> None:
    made = [function_call(tool, arguments, call_id=f"call_{n}") for n, (tool, arguments) in enumerate(calls)]
    model = ScriptedModel([made, [assistant_message("done")]])
    agent = Agent(name="Clerk", tools=[search, fail, delete_x])
    await Runner.run(agent, "go", run_config=RunConfig(model=model, workflow_name=name))


@pytest.fixture
def providers() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.close()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK's tracing is on, and goes nowhere but to us."""
    monkeypatch.delenv("OPENAI_AGENTS_DISABLE_TRACING")
    get_trace_provider().set_disabled(False)
    set_trace_processors([])
    yield
    set_trace_processors([])
    get_trace_provider().set_disabled(True)


def given(telemetry: Telemetry) -> dict[str, Any]:
    return {
        name: getattr(telemetry, name) for name in ("tracer_provider", "meter_provider", "logger_provider")
    }


def by_function(**settings: Any) -> Callable[[], object]:
    return aegis_otel.instrument(**settings).shutdown


def by_instrumentor(**settings: Any) -> Callable[[], object]:
    AegisInstrumentor().instrument(**settings)
    return AegisInstrumentor().uninstrument


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("start", [by_function, by_instrumentor])
async def test_k10_providers_are_taken(
    start: Callable[..., Callable[[], object]], providers: Telemetry, tmp_path: Path
) -> None:
    """All three signals, and the SDK's own traces, go where the arguments say; afterwards nothing does."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    stop = start(policy=str(tmp_path / "policy.yaml"), audit_dir=tmp_path / "audit", **given(providers))
    try:
        await run(("search", {"query": "x"}), ("delete_x", {}))
    finally:
        stop()
    names = {span.name for span in providers.spans()}
    assert {"govern_tool search", "execute_tool search", "govern_tool delete_x"} <= names
    assert {"invoke_workflow support", "invoke_agent Clerk"} <= names
    outcomes = [event["aegis.decision.outcome"] for event in providers.events("aegis.tool.decision")]
    assert sorted(outcomes) == ["allowed", "blocked"]
    assert sum(providers.points("aegis.decisions").values()) == 2
    before = len(providers.spans()), len(providers.logs(""))
    await run(("search", {"query": "x"}))
    assert (len(providers.spans()), len(providers.logs(""))) == before


def test_k10_the_instrumentor_refuses_nothing_that_others_take(tmp_path: Path, providers: Telemetry) -> None:
    """None is the global provider, as everywhere."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    os.environ["AEGIS_POLICY"] = str(tmp_path / "policy.yaml")
    try:
        AegisInstrumentor().instrument(tracer_provider=None, meter_provider=None, logger_provider=None)
        current = aegis_otel.Instrumentation.current
        assert current is not None
        assert current.runtime.governor.unavailable is None
    finally:
        AegisInstrumentor().uninstrument()
        del os.environ["AEGIS_POLICY"]


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider", "logger_provider"])
def test_k10_what_is_no_provider_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    with pytest.raises(ConfigError, match=f"`{name}` is a `str`: pass a provider of OpenTelemetry"):
        aegis_otel.instrument(str(tmp_path / "policy.yaml"), **{name: "otlp"})


@pytest.fixture
async def signals(
    traced: None, providers: Telemetry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Telemetry:
    """The signals of one run with a body that ends well, and one that raises, by the global providers."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", providers.tracer_provider)
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", providers.meter_provider)
    monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", providers.logger_provider)
    (tmp_path / "policy.yaml").write_text(POLICY)
    stop = by_function(policy=str(tmp_path / "policy.yaml"), audit_dir=tmp_path / "audit")
    try:
        await run(("search", {"query": "x"}))
        with pytest.raises(UserError):  # what the SDK makes of it
            await run(("fail", {}), name="broken")
        with trace("by hand"):
            usage = {
                "input_tokens": 5,
                "output_tokens": 3,
                "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
            }
            data = GenerationSpanData(model="m", usage=usage)
            with get_trace_provider().create_span(data):
                pass
    finally:
        stop()
    return providers


async def test_k10_a_workflow_has_both_names(signals: Telemetry) -> None:
    (span,) = signals.spans("invoke_workflow support")
    assert span.attributes["gen_ai.agent.name"] == span.attributes["gen_ai.workflow.name"] == "support"


async def test_k10_cache_tokens_are_on_chat_by_both_names(signals: Telemetry) -> None:
    (chat,) = signals.spans("chat m")
    assert chat.attributes["gen_ai.usage.cache_write.input_tokens"] == 1
    assert chat.attributes["gen_ai.usage.cache_creation.input_tokens"] == 1
    assert chat.attributes["gen_ai.usage.cache_read.input_tokens"] == 2
    for span in signals.spans("invoke_agent"):
        assert not [key for key in span.attributes if "cache" in key]


async def test_k10_agents_and_workflows_have_a_duration(signals: Telemetry) -> None:
    points = signals.points("gen_ai.invoke_agent.duration")
    counted = {
        (dict(labels)["gen_ai.operation.name"], dict(labels)["gen_ai.agent.name"]): count
        for labels, count in points.items()
        if "error.type" not in dict(labels)
    }
    assert counted[("invoke_workflow", "support")] == 1
    assert counted[("invoke_workflow", "by hand")] == 1
    assert counted[("invoke_agent", "Clerk")] >= 1


async def test_k10_a_tool_duration_has_the_type(signals: Telemetry) -> None:
    points = [dict(labels) for labels in signals.points("gen_ai.execute_tool.duration")]
    assert {labels["gen_ai.tool.name"] for labels in points} == {"search", "fail"}
    assert {labels["gen_ai.tool.type"] for labels in points} == {"function"}


async def test_k10_a_body_that_raises_is_an_event(signals: Telemetry) -> None:
    """With the type, and nothing of the message."""
    (event,) = signals.logs("gen_ai.execute_tool.exception")
    attributes = dict(event.log_record.attributes)
    (decided,) = [e for e in signals.events("aegis.tool.decision") if e["gen_ai.tool.name"] == "fail"]
    assert attributes == {
        "gen_ai.tool.name": "fail",
        "gen_ai.tool.call.id": "call_0",
        "gen_ai.agent.name": "Clerk",
        "exception.type": "LookupError",
        "aegis.decision.id": decided["aegis.decision.id"],
    }
    assert event.log_record.severity_number.value == 13
    (span,) = signals.spans("execute_tool fail")
    assert event.log_record.span_id == span.context.span_id
    assert "hunter2" not in str(signals.logs(""))


KINDS = [
    (Approval.AUTO, Outcome.ALLOWED, RecordStatus.SUCCESS),
    (Approval.BLOCK, Outcome.BLOCKED, RecordStatus.BLOCKED),
    (Approval.APPROVE, Outcome.APPROVED, RecordStatus.FAILED),
    (Approval.APPROVE, Outcome.ERROR, RecordStatus.BLOCKED),
]


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
@pytest.mark.parametrize("limit", range(1, 16))
@pytest.mark.parametrize(("approval", "outcome", "status"), KINDS)
def test_k10_id_and_risk_are_the_last_to_be_dropped(
    limit: int, approval: Approval, outcome: Outcome, status: RecordStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every span of the decision and on every event, for each small `OTEL_ATTRIBUTE_COUNT_LIMIT`."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", str(limit))
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracer_provider, logger_provider = TracerProvider(), LoggerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    recorder = Recorder(tracer_provider=tracer_provider, logger_provider=logger_provider)
    call = make_call(
        approval=approval, risk=RiskLevel.HIGH, decision_id="the-id", action_type="other", mode="monitor"
    )
    call.record.action_target = "somewhere"
    recorder.opened(call)
    call.channel = "cli"
    with recorder.awaiting(call):
        call.record.human_decision = "approved"
    call.error_type = "aegis.fault"
    finish(recorder, call, outcome, status)
    recorder.write_failed(call, OSError())
    found = [(span.name, span.attributes) for span in spans.get_finished_spans()]
    found += [(data.log_record.event_name, data.log_record.attributes) for data in logs.get_finished_logs()]
    assert len(found) == 6
    for name, attributes in found:
        kept = dict(attributes or {})
        assert kept.get("aegis.decision.id") == "the-id", name
        if limit >= 2 and "await" not in name and "write_failed" not in name:
            assert kept.get("aegis.risk.level") == "high", name
    tracer_provider.shutdown()
    logger_provider.shutdown()
