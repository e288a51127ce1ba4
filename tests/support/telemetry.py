"""What the telemetry tests share: calls made by hand, and signals as plain dicts to compare whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import Sampler

from aegis_otel.audit.record import AuditRecord, RecordStatus
from aegis_otel.governance.call import Call, Origin
from aegis_otel.model import Action, Approval, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.telemetry.recorder import Recorder
from aegis_otel.testing import Signals

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
    """The signals of a recorder, kept in memory, as plain dicts."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.signals = Signals(sampler)
        self.tracer_provider = self.signals.tracer_provider
        self.logger_provider = self.signals.logger_provider
        self.meter_provider = self.signals.meter_provider
        self.recorder, self.close = self.signals.recorder, self.signals.close
        self.raw_spans = self.signals.spans
        self.tracer = self.tracer_provider.get_tracer("test")

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
        return [data.log_record for data in self.signals.logs()]

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

    def points(self, metric: str) -> dict[tuple[Any, ...], Any]:
        """Label values, in the order of their keys, to value or count."""
        return {
            tuple(value for _, value in pairs): count for pairs, count in self.signals.points(metric).items()
        }

    def keys(self, metric: str) -> set[str]:
        """The keys of all labels of a metric."""
        return {key for pairs in self.signals.points(metric) for key, _ in pairs}

    def unit(self, metric: str) -> str:
        (found,) = self.signals.metrics(metric)
        return str(found.unit)

    def decisions(self) -> dict[tuple[str, ...], int]:
        """What was counted, by outcome, mode, approval, rule and risk; zeros left out."""
        return {labels: count for labels, count in self.points("aegis.decisions").items() if count}


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
