"""The spans of one call: `govern_tool`, and under it `await_approval` and `execute_tool`.

Spans are started with an explicit parent and all their attributes, and made current only where other code
runs inside them. Context managers are classes: a generator-based one costs more than what it manages.

The SDK's tracing starts none of them: at the start of its function span it knows a name and nothing else, so
a sampler would not see the risk.
"""

from __future__ import annotations

import asyncio
from contextvars import Token
from time import perf_counter  # by its name, for a program may replace the module's clock
from types import TracebackType
from typing import NamedTuple

from opentelemetry.context import Context, attach, detach, get_current
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
from aegis_otel.telemetry.attributes import (
    Attributes,
    answer_attributes,
    await_attributes,
    call_attributes,
    end_attributes,
    execute_attributes,
    govern_attributes,
    risk,
    user_attributes,
)
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.instruments import Instruments

_FOREIGN_TOOL_MARKS = {
    semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
    "openinference.span.kind": "TOOL",
    "traceloop.span.kind": "tool",
}
"""How the instrumentations of others mark the span of a tool's body."""
_ASKED_KEYS, _EXCEPTION_KEYS = (
    next(frozenset(event.attributes) for event in semconv.EVENTS if event.name == name)
    for name in (semconv.EVENT_APPROVAL_REQUESTED, semconv.EVENT_TOOL_EXCEPTION)
)


class Outlets(NamedTuple):
    """Where the signals of a recorder go."""

    tracer: Tracer
    events: Events
    instruments: Instruments
    arguments_on_spans: bool
    """Whether `execute_tool` carries the redacted arguments."""


class CallSpan:
    """The `govern_tool` span of a call, and what its other signals take from it.

    Args:
        call: The call; its trace and span id are put on its record.
        user_on_signals: The value of that setting.
        tracer: What starts the span; when None the call has no span, and its signals go where it would be.
    """

    __slots__ = ("_user", "context", "decision", "in_foreign_tool", "shared", "span", "tool")

    def __init__(self, call: Call, user_on_signals: str, tracer: Tracer | None = None) -> None:
        self.context = get_current()
        """Where the signals of the call belong: under its span, or where that would have been."""
        self.decision = call.decision
        self.in_foreign_tool = False
        record = call.record
        self._user = None if record.user_id is None else user_attributes(record, user_on_signals)
        self.shared = call_attributes(record, self._user)
        self.tool = str(self.shared[semconv.GEN_AI_TOOL_NAME])
        self.span: Span = INVALID_SPAN
        if tracer is None:
            return
        # Back-dated to the call, with the decision on it for a sampler to see.
        attributes = govern_attributes(record, self.shared)
        name = f"{semconv.GOVERN_TOOL} {self.tool}"
        around = get_current_span(self.context)
        span = self.span = tracer.start_span(
            name, self.context, attributes=attributes, start_time=call.started_ns
        )
        ids = span.get_span_context()
        if ids.is_valid:
            self.in_foreign_tool = is_foreign_tool(around)
            record.trace_id = format_trace_id(ids.trace_id)
            if ids.span_id != around.get_span_context().span_id:  # else there is no SDK: it is the parent's
                record.span_id = format_span_id(ids.span_id)
                self.context = set_span_in_context(span, self.context)

    def refresh(self, call: Call) -> None:
        """Take over what the record says now, where the call was decided anew after an approval."""
        if call.decision is not self.decision:
            self.decision = call.decision
            self.shared = call_attributes(call.record, self._user)
            self.span.set_attributes(self.shared)

    def asked_attributes(self, call: Call) -> Attributes:
        """Return the attributes of the events about a question to a human."""
        asked = {key: value for key, value in self.shared.items() if key in _ASKED_KEYS}
        return {semconv.APPROVAL_CHANNEL: call.channel or "", **asked}

    def end(self, call: Call) -> None:
        """End the span with the outcome on it. A call refused by policy or human is not an error."""
        span = self.span
        if not span.is_recording():
            return
        is_error = call.outcome is Outcome.ERROR or call.status is RecordStatus.FAILED
        if is_error:
            span.set_status(StatusCode.ERROR)
        span.set_attributes(end_attributes(call, self.shared, is_error=is_error))
        span.end()


class Executing:
    """The body of a call: `execute_tool` is current, or `govern_tool` inside another's tool span."""

    __slots__ = ("_call", "_call_span", "_context", "_labels", "_outlets", "_span", "_started", "_token")

    def __init__(self, outlets: Outlets, call_span: CallSpan, call: Call) -> None:
        self._outlets, self._call_span, self._call = outlets, call_span, call
        self._token: Token[Context] | None = None
        self._context = call_span.context
        if call_span.in_foreign_tool:
            self._span = call_span.span
            return
        attributes, self._labels = execute_attributes(
            call.record, call_span.shared, with_arguments=outlets.arguments_on_spans
        )
        name = f"{semconv.EXECUTE_TOOL} {call_span.tool}"
        self._span = outlets.tracer.start_span(name, self._context, attributes=attributes)

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
        if self._call_span.in_foreign_tool:
            return
        if failure is not None:
            self._labels[semconv.ERROR_TYPE] = failure
            self._span.set_attribute(semconv.ERROR_TYPE, failure)
            self._span.set_status(StatusCode.ERROR)
            if kind is not None:
                self._emit_exception(kind)
        self._span.end()
        self._outlets.instruments.execute_tool_duration.record(seconds, self._labels, self._context)

    def _emit_exception(self, kind: type[BaseException]) -> None:
        """Emit the event of a body that raised: the exception's type only, whose name may be anybody's."""
        module = kind.__module__
        name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
        shared = self._call_span.shared
        attributes: Attributes = {
            semconv.EXCEPTION_TYPE: redact_name(name),
            **{key: value for key, value in shared.items() if key in _EXCEPTION_KEYS},
        }
        self._outlets.events.emit(semconv.EVENT_TOOL_EXCEPTION, "WARN", attributes, self._context)


class Awaiting:
    """The time a human takes: `await_approval` is current, so that what a channel does is seen under it."""

    def __init__(self, outlets: Outlets, call_span: CallSpan, call: Call) -> None:
        call_span.refresh(call)
        self._outlets, self._call = outlets, call
        self._risk = risk(call.record)
        self._asked = call_span.asked_attributes(call)
        attributes = await_attributes(call, call_span.shared)
        name = f"{semconv.AWAIT_APPROVAL} {call_span.tool}"
        self._span = outlets.tracer.start_span(name, call_span.context, attributes=attributes)

    def __enter__(self) -> None:
        self._context = set_span_in_context(self._span)
        # First what can fail: a context that was not entered is not left, and must have changed nothing.
        self._outlets.events.emit(semconv.EVENT_APPROVAL_REQUESTED, self._risk, self._asked, self._context)
        self._token = attach(self._context)
        self._outlets.instruments.counts.add(semconv.METRIC_APPROVAL_PENDING)
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        record = self._call.record
        seconds = record.approval_wait_s if kind is None else None  # what the audit says
        if seconds is None:
            seconds = perf_counter() - self._started
        detach(self._token)
        self._outlets.instruments.counts.add(semconv.METRIC_APPROVAL_PENDING, amount=-1)
        answer = (record.human_decision if kind is None else None) or "error"
        self._span.set_attributes(answer_attributes(record, answer, seconds))
        self._span.end()
        record_answer(self._outlets, self._risk, answer, seconds, self._asked, self._context)


def record_answer(  # noqa: PLR0917
    outlets: Outlets, risk_level: str, answer: str, seconds: float, asked: Attributes, context: Context
) -> None:
    """Measure the seconds that an answer took, and emit its event with what was `asked`."""
    channel = asked[semconv.APPROVAL_CHANNEL]
    labels = {semconv.APPROVAL_OUTCOME: answer, semconv.APPROVAL_CHANNEL: channel}
    outlets.instruments.approval_duration.record(seconds, labels, context)
    attributes = {semconv.APPROVAL_OUTCOME: answer, semconv.APPROVAL_WAIT: seconds, **asked}
    outlets.events.emit(semconv.EVENT_APPROVAL_RESOLVED, risk_level, attributes, context)


def is_foreign_tool(span: Span) -> bool:
    """Return whether `span` is the span of a tool's body that somebody else made.

    Ours is known by its scope: a governed tool that calls another has our `execute_tool` around it.
    """
    if not span.is_recording():
        return False
    scope = getattr(span, "instrumentation_scope", None)
    if scope is not None and scope.name == semconv.SCOPE:
        return False
    attributes = getattr(span, "attributes", None) or {}
    return any(attributes.get(key) == value for key, value in _FOREIGN_TOOL_MARKS.items())
