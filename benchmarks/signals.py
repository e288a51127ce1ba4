"""What the default signals of one allowed call cost, against the OpenTelemetry calls they are made of.

Real SDK providers with batch processors, exporters that drop. Both sides take turns in one process, so their
ratio holds while the machine's speed wanders. `python benchmarks/signals.py [rounds]`
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry._logs import NoOpLoggerProvider, SeverityNumber
from opentelemetry.context import attach, detach, get_current
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider, set_span_in_context

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord, RecordStatus
from aegis_otel.governance.call import Call, Origin
from aegis_otel.model import Action, Approval, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.telemetry.recorder import Recorder

BATCH = 20
"""Calls between two readings of the clock."""


class DropSpans(SpanExporter):
    def export(self, _: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class DropLogs(LogRecordExporter):
    def export(self, _: Sequence[Any]) -> LogRecordExportResult:
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, _: int = 30_000) -> bool:
        return True


tracer_provider = TracerProvider(shutdown_on_exit=False)
tracer_provider.add_span_processor(BatchSpanProcessor(DropSpans()))
logger_provider = LoggerProvider(shutdown_on_exit=False)
logger_provider.add_log_record_processor(BatchLogRecordProcessor(DropLogs()))
meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)

tracer = tracer_provider.get_tracer("raw")
logger = logger_provider.get_logger("raw")
histogram = meter_provider.get_meter("raw").create_histogram(
    "raw", "s", explicit_bucket_boundaries_advisory=next(m.buckets for m in semconv.METRICS if m.buckets)
)
recorder = Recorder(
    tracer_provider=tracer_provider, meter_provider=meter_provider, logger_provider=logger_provider
)
silent = Recorder(
    tracer_provider=NoOpTracerProvider(),
    meter_provider=NoOpMeterProvider(),
    logger_provider=NoOpLoggerProvider(),
)
"""What a program without an SDK has, whatever provider is the global one."""

verdict = Verdict(
    Approval.AUTO, RiskLevel.LOW, "allow_search", "Matched rule `allow_search`", (), "sha256:" + "1" * 64
)
decision = PolicyDecision(Action("search", "default", {"query": "x"}), verdict)
origin = Origin("search", "call_4f9a1c", "conv_77")


def make_call() -> Call:
    record = AuditRecord(
        stage="decided",
        decision_id="01920000-0000-7000-8000-000000000001",
        timestamp="2026-01-01T00:00:00.000000+00:00",
        action_type="search",
        action_target="default",
        args_digest="hmac-sha256:" + "2" * 64,
        risk_level="LOW",
        approval="auto",
        matched_rule="allow_search",
        reason=verdict.reason,
        policy_digest=verdict.policy_digest,
        mode="enforce",
        agent_name="assistant",
        tool_name="search",
        tool_call_id="call_4f9a1c",
        conversation_id="conv_77",
    )
    return Call(
        decision, origin, time.time_ns(), record, b"", outcome=Outcome.ALLOWED, status=RecordStatus.OPEN
    )


def ours(with_: Recorder, call: Call) -> None:
    with_.opened(call)
    with_.decided(call)
    with with_.executing(call):
        pass
    call.status = RecordStatus.SUCCESS
    with_.closed(call)


governed = {f"govern.attribute.{n}": f"value {n}" for n in range(8)}
executed = {f"execute.attribute.{n}": f"value {n}" for n in range(5)}
closing = {f"closing.attribute.{n}": f"value {n}" for n in range(2)}
event = {f"event.attribute.{n}": f"value {n}" for n in range(12)}
labels = {f"label.{n}": f"value {n}" for n in range(3)}


def raw() -> None:
    """The same number of spans, events and attributes, by hand and with nothing to compute."""
    parent = get_current()
    span = tracer.start_span("govern_tool search", parent, attributes=governed, start_time=time.time_ns())
    inside = set_span_in_context(span, parent)
    now = time.time_ns()
    if logger.enabled(context=inside, severity_number=SeverityNumber.INFO, event_name="aegis.tool.decision"):
        logger.emit(
            timestamp=now,
            context=inside,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            attributes=event,
            event_name="aegis.tool.decision",
        )
    body = tracer.start_span("execute_tool search", inside, attributes=executed)
    context = set_span_in_context(body)
    started = time.perf_counter()
    token = attach(context)
    detach(token)
    body.end()
    histogram.record(time.perf_counter() - started, labels, context)
    span.set_attributes(closing)
    span.end()


def bare_span() -> None:
    tracer.start_span("bare").end()


def microseconds(work: Callable[[Call], object]) -> float:
    """The mean of a batch; making the calls is the governor's work and not timed."""
    calls = [make_call() for _ in range(BATCH)]
    start = time.perf_counter()
    while calls:
        work(calls.pop())
    return (time.perf_counter() - start) / BATCH * 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    sides: dict[str, Callable[[Call], object]] = {
        "our signals": lambda call: ours(recorder, call),
        "raw OTel calls": lambda _: raw(),
        "bare span": lambda _: bare_span(),
        "our signals, no SDK": lambda call: ours(silent, call),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    gc.disable()
    for _ in range(rounds):
        for name, work in sides.items():
            times[name].append(microseconds(work))
        gc.collect()
    gc.enable()
    print(f"{'us per call':24}{'min':>8}{'median':>9}")
    for name, taken in times.items():
        print(f"{name:24}{min(taken):8.1f}{statistics.median(taken):9.1f}")
    pairs = zip(times["our signals"], times["raw OTel calls"], strict=True)
    median = statistics.median(signals / calls for signals, calls in pairs)
    lowest = min(times["our signals"]) / min(times["raw OTel calls"])
    print(f"\nours / raw: {lowest:.2f} of the minima, {median:.2f} the median of the rounds (limit 1.3)")


if __name__ == "__main__":
    main()
