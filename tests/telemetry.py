"""What the telemetry tests share: calls made by hand, and signals as plain dicts to compare whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from aegis_otel.audit.record import AuditRecord, RecordStatus
from aegis_otel.governance.call import Call, Origin
from aegis_otel.model import Action, Approval, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.telemetry.recorder import Recorder

Signal = dict[str, Any]


def make_call(
    *,
    tool: str = "search",
    approval: Approval = Approval.AUTO,
    risk: RiskLevel = RiskLevel.LOW,
    rule: str = "a_rule",
    decision_id: str = "d-1",
    **changed: Any,
) -> Call:
    """A call as the governor makes it, before its first signal. `changed` are fields of its record."""
    verdict = Verdict(approval, risk, rule, "Because of `a_rule`", policy_digest="sha256:p")
    record = AuditRecord(
        stage="decided",
        decision_id=decision_id,
        timestamp="2026-01-01T00:00:00.000000+00:00",
        action_type=tool,
        action_target="default",
        action_params='{"query": "x"}',
        args_digest="hmac-sha256:a",
        risk_level=risk.name,
        approval=approval.value,
        matched_rule=rule,
        reason=verdict.reason,
        policy_digest="sha256:p",
        mode="enforce",
        agent_name="Clerk",
        tool_name=tool,
        tool_call_id="call_1",
        conversation_id="conv_1",
    )
    for name, value in changed.items():
        setattr(record, name, value)
    origin = Origin(record.tool_name, record.tool_call_id, record.conversation_id)
    return Call(PolicyDecision(Action(tool), verdict), origin, time.time_ns(), record, b"")


def finish(recorder: Recorder, call: Call, outcome: Outcome, status: RecordStatus) -> None:
    """The decision is final, the body does not run."""
    call.outcome, call.status = outcome, status
    recorder.decided(call)
    recorder.closed(call)


def run_body(recorder: Recorder, call: Call, outcome: Outcome, raises: BaseException | None = None) -> None:
    """The decision is final, and the body runs to its end."""
    call.outcome, call.status = outcome, RecordStatus.OPEN
    recorder.decided(call)
    if raises is None:
        with recorder.executing(call):
            pass
        call.status = RecordStatus.SUCCESS
    else:
        with pytest.raises(type(raises)) as caught, recorder.executing(call):
            raise raises
        assert caught.value is raises
        call.status = RecordStatus.FAILED
    recorder.closed(call)


class Sink:
    """Real SDK providers that keep what they are given."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.meter_provider = MeterProvider([self._reader])
        self.tracer = self.tracer_provider.get_tracer("test")

    def recorder(self) -> Recorder:
        return Recorder(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            logger_provider=self.logger_provider,
        )

    def raw_spans(self) -> list[ReadableSpan]:
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def spans(self) -> list[Signal]:
        """Ended spans in the order of their start, with the name of the parent in place of its id."""
        names = {span.context.span_id: span.name for span in self.raw_spans()}
        return [
            {
                "name": span.name,
                "parent": None if span.parent is None else names.get(span.parent.span_id, "?"),
                "kind": span.kind.name,
                "status": (span.status.status_code.name, span.status.description),
                "attributes": _steady(span.attributes),
                "events": [(event.name, dict(event.attributes or {})) for event in span.events],
            }
            for span in self.raw_spans()
        ]

    def span(self, name: str) -> Signal:
        (found,) = [span for span in self.spans() if span["name"] == name]
        return found

    def raw_logs(self) -> list[Any]:
        return [data.log_record for data in self._logs.get_finished_logs()]

    def events(self) -> list[Signal]:
        return [
            {
                "name": log.event_name,
                "severity": (log.severity_number.value, log.severity_text),
                "attributes": _steady(log.attributes),
            }
            for log in self.raw_logs()
        ]

    def event(self, name: str) -> Signal:
        (found,) = [event for event in self.events() if event["name"] == name]
        return found

    def _metric(self, name: str) -> Any:
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return found[0] if found else None

    def points(self, metric: str) -> dict[tuple[Any, ...], Any]:
        """Label values, in the order of their keys, to value or count."""
        found = self._metric(metric)
        return {
            tuple(value for _, value in sorted((point.attributes or {}).items())): getattr(
                point, "value", getattr(point, "count", None)
            )
            for point in (found.data.data_points if found else ())
        }

    def keys(self, metric: str) -> set[str]:
        """The keys of all labels of a metric."""
        return {key for point in self._metric(metric).data.data_points for key in point.attributes or {}}

    def unit(self, metric: str) -> str:
        return str(self._metric(metric).unit)

    def decisions(self) -> dict[tuple[str, ...], int]:
        """What was counted, by outcome, mode, approval, rule and risk; zeros left out."""
        return {labels: count for labels, count in self.points("aegis.decisions").items() if count}

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.logger_provider.shutdown()
        self.meter_provider.shutdown()


@contextmanager
def sink(sampler: Sampler | None = None) -> Iterator[Sink]:
    made = Sink(sampler)
    try:
        yield made
    finally:
        made.close()


def _steady(attributes: Any) -> dict[str, Any]:
    """The attributes, with a time that was measured replaced by what kind of value it is."""
    return {
        key: "seconds" if key == "aegis.approval.wait_time" and value >= 0 else value
        for key, value in dict(attributes or {}).items()
    }
