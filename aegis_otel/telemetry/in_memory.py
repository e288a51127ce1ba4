"""Signals kept in memory, for tests: the public name is `aegis_otel.testing.Signals`."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from aegis_otel.telemetry.recorder import Recorder


class Signals:
    """Providers of the OpenTelemetry SDK that keep what they are given: no collector is needed."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.meter_provider = MeterProvider([self._reader])

    def recorder(self) -> Recorder:
        """Return what a Runtime takes as `recorder`."""
        return Recorder(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            logger_provider=self.logger_provider,
        )

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the ended spans whose name begins with `name`, in the order of their start."""
        found = [span for span in self._spans.get_finished_spans() if span.name.startswith(name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def logs(self, name: str = "") -> list[Any]:
        """Return the exported log records of the events of that name; all of them where it is empty."""
        return [log for log in self._logs.get_finished_logs() if name in ("", log.log_record.event_name)]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the attributes of each event of that name."""
        return [dict(log.log_record.attributes or {}) for log in self.logs(name)]

    def metrics(self, name: str) -> list[Any]:
        """Return the metrics of that name as they are now: at most one for each instrumentation scope."""
        data = self._reader.get_metrics_data()
        scopes = [scope for each in (data.resource_metrics if data else ()) for scope in each.scope_metrics]
        return [metric for scope in scopes for metric in scope.metrics if metric.name == name]

    def data_points(self, name: str) -> list[Any]:
        """Return the data points of the metrics of that name."""
        return [point for metric in self.metrics(name) for point in metric.data.data_points]

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Return each point's value, or count of a histogram, by the sorted pairs of its attributes."""
        points = {}
        for point in self.data_points(name):
            pairs = tuple(sorted((point.attributes or {}).items()))
            points[pairs] = getattr(point, "value", getattr(point, "count", None))
        return points

    def close(self) -> None:
        """Shut the providers down; what they kept stays readable, but for metrics."""
        self.tracer_provider.shutdown()
        self.logger_provider.shutdown()
        self.meter_provider.shutdown()
