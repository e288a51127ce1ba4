"""What the tests share: a fixed clock, in-memory telemetry and a governor on a real audit directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aegis_otel import Policy, Runtime, RuntimeHooks
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import ApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.telemetry.recorder import Recorder

POLICY: dict[str, Any] = {
    "version": "1",
    "defaults": {"risk_level": "medium", "approval": "approve"},
    "rules": [
        {"name": "search_auto", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"},
        {"name": "write_asks", "match": {"type": "write_*"}, "risk_level": "high", "approval": "approve"},
        {
            "name": "block_deletes",
            "match": {"type": "delete_*"},
            "risk_level": "critical",
            "approval": "block",
        },
    ],
}


class Telemetry:
    """Real OpenTelemetry SDK providers that keep what they are given."""

    def __init__(self) -> None:
        self._spans, self._events = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self._metrics = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        self.meter_provider = MeterProvider([self._metrics])

    def recorder(self) -> Recorder:
        return Recorder(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            logger_provider=self.logger_provider,
        )

    def spans(self, name: str = "") -> list[Any]:
        """Finished spans whose name begins with `name`, in the order of their start."""
        found = [span for span in self._spans.get_finished_spans() if span.name.startswith(name)]
        return sorted(found, key=lambda span: span.start_time)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [
            dict(event.log_record.attributes or {})
            for event in self._events.get_finished_logs()
            if event.log_record.event_name == name
        ]

    def logs(self, name: str) -> list[Any]:
        """The log records of an event, whole; of all where `name` is empty."""
        return [e for e in self._events.get_finished_logs() if name in ("", e.log_record.event_name)]

    def data_points(self, metric: str) -> list[Any]:
        data = self._metrics.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def points(self, metric: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Attribute pairs (sorted) -> value or count of every data point of a metric."""
        return {
            tuple(sorted((point.attributes or {}).items())): getattr(
                point, "value", getattr(point, "count", None)
            )
            for point in self.data_points(metric)
        }

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.logger_provider.shutdown()
        self.meter_provider.shutdown()


class ScriptedApprover(ApprovalHandler):
    """Gives the answers it was given, in order: a bool, any other value, an exception, or a callable."""

    channel = "scripted"
    approver = "someone"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[PolicyDecision] = []

    async def request_approval(self, decision: PolicyDecision) -> bool:
        self.asked.append(decision)
        answer = self.answers.pop(0)
        if isinstance(answer, Callable):
            answer = answer(decision)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class Heard:
    """What the hooks were told."""

    decisions: list[Any] = field(default_factory=list)
    approvals: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def hooks(self) -> RuntimeHooks:
        async def approval(decision: PolicyDecision, approved: bool) -> None:
            self.approvals.append((decision.matched_rule, approved))

        return RuntimeHooks(
            on_decision=lambda decision: self.decisions.append(decision.matched_rule),
            on_approval=approval,
            on_execute=lambda result: self.results.append((result.action.type, result.status.value)),
        )


@dataclass
class Bench:
    """A Runtime with everything real behind it, and the means to see what it did."""

    runtime: Runtime
    telemetry: Telemetry
    audit: Path
    heard: Heard
    approver: ApprovalHandler

    def rows(self) -> list[dict[str, Any]]:
        """The audit's rows, oldest first."""
        return list(reversed(AuditLogger(self.audit).get_log()))

    def row(self) -> dict[str, Any]:
        (row,) = self.rows()
        return row


def make_bench(
    audit: Path,
    *answers: Any,
    policy: dict[str, Any] | Policy | None = None,
    executor: Any = None,
    approver: ApprovalHandler | None = None,
    timeout: float = 5.0,
    hooks: RuntimeHooks | None = None,
    mode: str | None = None,
) -> Bench:
    telemetry, heard = Telemetry(), Heard()
    approver = approver or ScriptedApprover(*answers)
    chosen = POLICY if policy is None else policy
    runtime = Runtime(
        policy=chosen if isinstance(chosen, Policy) else Policy.from_dict(chosen),
        executor=executor,
        approval_handler=approver,
        audit_logger=AuditLogger(audit),
        session_id="session",
        hooks=hooks or heard.hooks(),
        approval_timeout=timeout,
        mode=mode,
        recorder=telemetry.recorder(),
    )
    return Bench(runtime, telemetry, audit, heard, approver)
