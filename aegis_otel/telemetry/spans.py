"""One question to a human, as signals: `await_approval`, its two events, how long it took, how many wait.

The spans of one call: `govern_tool`, and under it `execute_tool` (and `await_approval`, see `approval`).

Spans are started with an explicit parent and all their attributes, and made current only where other code
runs inside them. Context managers are classes: a generator-based one costs more than what it manages.
"""

from __future__ import annotations

import asyncio
from contextvars import Token
from time import perf_counter  # not by its module, whose clock a program may replace
from types import TracebackType

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import Histogram
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from aegis_otel import semconv
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance.call import Call
from aegis_otel.governance.error_text import error_type
from aegis_otel.model import Outcome
from aegis_otel.redaction.redactor import redact_name
from aegis_otel.telemetry.attributes import Attributes, of_call, of_refusal, risk, text
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.metrics import Instruments

_FOREIGN = {
    semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
    "openinference.span.kind": "TOOL",
    "traceloop.span.kind": "tool",
}
"""How the instrumentations of others mark the span of a tool's body."""


_RAISED = (semconv.GEN_AI_TOOL_NAME, semconv.GEN_AI_TOOL_CALL_ID, semconv.GEN_AI_AGENT_NAME)


class Governed:
    """The `govern_tool` span of a call, and what its other signals take from it.

    Without `start` it stands in for the span of a call that has none.
    """

    __slots__ = ("context", "decision", "facts", "in_foreign_tool", "span", "tool")

    def __init__(self, call: Call) -> None:
        self.span: Span = INVALID_SPAN
        self.context = get_current()
        """Where the signals of the call belong: under its span, or where that would have been."""
        self.in_foreign_tool = False
        self.tool = text(call.tool)
        self.decision = call.decision
        self.facts = of_call(call.record)

    def start(self, tracer: Tracer, call: Call) -> None:
        """Start `govern_tool`, back-dated to the call, with the decision on it for a sampler to see."""
        record = call.record
        attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.GOVERN_TOOL}
        if record.mode != "enforce":
            attributes[semconv.ENFORCEMENT_MODE] = record.mode or ""
        if record.action_type is not None and record.action_type != self.tool:
            attributes[semconv.ACTION_TYPE] = text(record.action_type)
        if record.action_target is not None and record.action_target != "default":
            attributes[semconv.ACTION_TARGET] = text(record.action_target)
        attributes |= self.facts
        parent = self.context
        span = self.span = tracer.start_span(
            f"{semconv.GOVERN_TOOL} {self.tool}", parent, attributes=attributes, start_time=call.started_ns
        )
        ids = span.get_span_context()
        if ids.is_valid:
            around = get_current_span(parent)
            self.in_foreign_tool = is_foreign_tool(around)
            record.trace_id = format_trace_id(ids.trace_id)
            if ids.span_id != around.get_span_context().span_id:  # else there is no SDK: it is the parent's
                record.span_id = format_span_id(ids.span_id)
                self.context = set_span_in_context(span, parent)

    def refresh(self, call: Call) -> None:
        """Take over what the record says now, where the call was decided anew after an approval."""
        if call.decision is not self.decision:
            self.decision = call.decision
            self.facts = of_call(call.record)
            self.span.set_attributes(self.facts)

    def end(self, call: Call) -> None:
        """End the span with the outcome on it. A call refused by policy or human is no error."""
        span = self.span
        if not span.is_recording():
            return
        attributes = of_refusal(call.record, call.outcome, call.error_type)
        attributes[semconv.RESULT_STATUS] = call.status.value
        if call.outcome is not None:
            attributes[semconv.DECISION_OUTCOME] = call.outcome.value
        if call.outcome is Outcome.ERROR or call.status is RecordStatus.FAILED:
            attributes.setdefault(semconv.ERROR_TYPE, "_OTHER")
            span.set_status(StatusCode.ERROR)
        for key in (semconv.RISK_LEVEL, semconv.DECISION_ID):  # set anew, they are the last to be dropped
            attributes[key] = self.facts[key]
        span.set_attributes(attributes)
        span.end()


class Executing:
    """The body of a call: `execute_tool` is current, or `govern_tool` inside another's tool span."""

    __slots__ = ("_call", "_context", "_duration", "_events", "_governed", "_span", "_started", "_token")

    def __init__(
        self,
        tracer: Tracer,
        events: Events,
        duration: Histogram,
        governed: Governed,
        call: Call,
        *,
        arguments: str | None,
    ) -> None:
        self._events = events
        self._duration = duration
        self._governed = governed
        self._call = call
        self._token: Token[Context] | None = None
        self._context = governed.context
        if governed.in_foreign_tool:
            self._span = governed.span
        else:
            self._span = tracer.start_span(
                f"{semconv.EXECUTE_TOOL} {governed.tool}",
                governed.context,
                attributes=_execute_attributes(governed, call, arguments),
            )

    def __enter__(self) -> None:
        if self._span.get_span_context().is_valid:
            self._context = set_span_in_context(self._span)
            self._token = attach(self._context)
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self._started
        if self._token is not None:
            detach(self._token)
        failure = None
        if kind is not None and not issubclass(kind, asyncio.CancelledError):
            failure = self._call.error_type = error_type(kind)
        elif kind is None and self._call.failure is not None:
            failure = self._call.error_type = self._call.failure.kind
        if self._governed.in_foreign_tool:
            return
        labels: Attributes = {semconv.GEN_AI_TOOL_NAME: self._governed.tool}
        if self._call.record.tool_name is not None:
            labels[semconv.GEN_AI_TOOL_TYPE] = "function"
        agent = self._governed.facts.get(semconv.GEN_AI_AGENT_NAME)
        if agent is not None:
            labels[semconv.GEN_AI_AGENT_NAME] = agent
        if failure is not None:
            labels[semconv.ERROR_TYPE] = failure
            self._span.set_attribute(semconv.ERROR_TYPE, failure)
            self._span.set_status(StatusCode.ERROR)
            if kind is not None:
                self._tell(kind)
        self._span.end()
        self._duration.record(seconds, labels, self._context)

    def _tell(self, kind: type[BaseException]) -> None:
        """The event of a body that raised: of the exception its type only, whose name may be anybody's."""
        facts = self._governed.facts
        attributes: Attributes = {key: facts[key] for key in _RAISED if key in facts}
        module = kind.__module__
        name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
        attributes[semconv.EXCEPTION_TYPE] = redact_name(name)
        attributes[semconv.DECISION_ID] = facts[semconv.DECISION_ID]
        self._events.emit(semconv.EVENT_TOOL_EXCEPTION, "WARN", attributes, self._context)


def _execute_attributes(governed: Governed, call: Call, arguments: str | None) -> Attributes:
    attributes: Attributes = {
        semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: governed.tool,
    }
    if call.record.tool_name is not None:
        attributes[semconv.GEN_AI_TOOL_TYPE] = "function"
    for key in (semconv.GEN_AI_TOOL_CALL_ID, semconv.GEN_AI_AGENT_NAME):
        if key in governed.facts:
            attributes[key] = governed.facts[key]
    if arguments is not None:
        attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = text(arguments)
    return attributes


def is_foreign_tool(span: Span) -> bool:
    """Whether `span` is the span of a tool's body that somebody else made.

    Ours is told apart by its scope: a governed tool that calls another has our `execute_tool` around it.
    """
    if not span.is_recording():
        return False
    scope = getattr(span, "instrumentation_scope", None)
    if scope is not None and scope.name == semconv.SCOPE:
        return False
    attributes = getattr(span, "attributes", None) or {}
    return any(attributes.get(key) == value for key, value in _FOREIGN.items())


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
