"""One question to a human, as signals: `await_approval`, its two events, how long it took, how many wait."""

from __future__ import annotations

from contextvars import Token
from time import perf_counter  # not by its module, whose clock a program may replace
from types import TracebackType

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Tracer, set_span_in_context

from aegis_otel import semconv
from aegis_otel.runtime.call import Call
from aegis_otel.telemetry.attributes import Attributes, risk
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.instruments import Instruments
from aegis_otel.telemetry.spans import Governed

_ASKED = frozenset(next(e.attributes for e in semconv.EVENTS if e.name == semconv.EVENT_APPROVAL_REQUESTED))


class Awaiting:
    """`await_approval` is current for as long as this lasts, so that what a channel does is seen under it."""

    def __init__(
        self, tracer: Tracer, events: Events, instruments: Instruments, governed: Governed, call: Call
    ) -> None:
        governed.refresh(call)
        self._events = events
        self._instruments = instruments
        self._call = call
        self._risk = risk(call.record)
        self._channel = call.channel or ""
        self._attributes = _question(governed, call)
        self._span = tracer.start_span(
            f"{semconv.AWAIT_APPROVAL} {governed.tool}",
            governed.context,
            attributes={
                semconv.GEN_AI_OPERATION_NAME: semconv.AWAIT_APPROVAL,
                semconv.GEN_AI_TOOL_NAME: governed.tool,
                semconv.APPROVAL_CHANNEL: self._channel,
                semconv.DECISION_ID: call.record.decision_id,
            },
        )

    def __enter__(self) -> None:
        self._context = set_span_in_context(self._span)
        # First what can fail: a context that was not entered is not left, and must have changed nothing.
        self._events.emit(semconv.EVENT_APPROVAL_REQUESTED, self._risk, self._attributes, self._context)
        self._token: Token[Context] = attach(self._context)
        self._instruments.counts.asked()
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        record = self._call.record
        if kind is None and record.approval_wait_s is not None:
            seconds = record.approval_wait_s  # what the audit says
        else:
            seconds = perf_counter() - self._started
        detach(self._token)
        self._instruments.counts.answered()
        answer = record.human_decision if kind is None else None
        outcome = answer or "error"
        came: Attributes = {semconv.APPROVAL_OUTCOME: outcome, semconv.APPROVAL_WAIT: seconds}
        self._span.set_attributes({**came, semconv.DECISION_ID: record.decision_id})  # the last to be dropped
        self._span.end()
        self._instruments.approval_duration.record(
            seconds,
            {semconv.APPROVAL_OUTCOME: outcome, semconv.APPROVAL_CHANNEL: self._channel},
            self._context,
        )
        resolved = {**came, **self._attributes}
        self._events.emit(semconv.EVENT_APPROVAL_RESOLVED, self._risk, resolved, self._context)


def suspended(events: Events, governed: Governed, call: Call) -> None:
    """A question whose answer no process waits for."""
    attributes = _question(governed, call)
    events.emit(semconv.EVENT_APPROVAL_REQUESTED, risk(call.record), attributes, governed.context)


def answered(events: Events, instruments: Instruments, governed: Governed, call: Call) -> None:
    """The answer to such a question."""
    record = call.record
    outcome, seconds = record.human_decision or "error", record.approval_wait_s or 0.0
    attributes = _question(governed, call)
    instruments.approval_duration.record(
        seconds,
        {
            semconv.APPROVAL_OUTCOME: outcome,
            semconv.APPROVAL_CHANNEL: attributes[semconv.APPROVAL_CHANNEL],
        },
        governed.context,
    )
    attributes = {semconv.APPROVAL_OUTCOME: outcome, semconv.APPROVAL_WAIT: seconds, **attributes}
    events.emit(semconv.EVENT_APPROVAL_RESOLVED, risk(record), attributes, governed.context)


def _question(governed: Governed, call: Call) -> Attributes:
    return {
        semconv.APPROVAL_CHANNEL: call.channel or "",
        **{key: fact for key, fact in governed.facts.items() if key in _ASKED},
    }
