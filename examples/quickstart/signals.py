"""Shows the OpenTelemetry signals of a program on the terminal, in place of sending them anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def show_signals() -> Callable[[], None]:
    """Collect every signal in memory from now on; the function returned prints what was collected."""
    spans, events, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()
    tracer_provider, logger_provider = TracerProvider(), LoggerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(events))
    trace.set_tracer_provider(tracer_provider)
    set_logger_provider(logger_provider)
    metrics.set_meter_provider(MeterProvider([reader]))

    def show() -> None:
        print("\nSpans:")
        for span in sorted(spans.get_finished_spans(), key=lambda span: span.start_time or 0):
            print(f"  {'  ' if span.parent else ''}{span.name}{_aegis(span.attributes)}")
        print("\nEvents:")
        for event in events.get_finished_logs():
            record = event.log_record
            print(f"  {record.severity_text} {record.event_name}{_aegis(record.attributes)}")
        print("\nMetrics:")
        data = reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = getattr(point, "value", None)
                        if value is None:  # a histogram
                            value = f"{point.count} in {point.sum:.6f} {metric.unit}"
                        if value:
                            print(f"  {metric.name} = {value}{_aegis(point.attributes)}")

    return show


def _aegis(attributes: Mapping[str, Any] | None) -> str:
    """The attributes that matter most, cut to a line: ids by their last eight digits, as `aegis audit`."""
    found = attributes or {}
    shown = {
        "id": str(found.get("aegis.decision.id", ""))[-8:],
        "outcome": found.get("aegis.decision.outcome"),
        "risk": found.get("aegis.risk.level"),
        "rule": found.get("aegis.policy.rule.name"),
    }
    return "".join(f"  {name}={value}" for name, value in shown.items() if value)
