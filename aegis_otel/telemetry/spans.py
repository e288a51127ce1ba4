"""The spans of one call: `govern_tool`, and under it `await_approval` and `execute_tool`.

Spans are started with an explicit parent and all their attributes, and made current only where other code
runs inside them. Context managers are classes: a generator-based one costs more than what it manages.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Token
from types import TracebackType

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
from aegis_otel.model import Outcome
from aegis_otel.runtime.call import Call
from aegis_otel.telemetry.attributes import Attributes, error_type, of_call, of_decision, text
from aegis_otel.telemetry.instruments import Instruments

_FOREIGN = {
    semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
    "openinference.span.kind": "TOOL",
    "traceloop.span.kind": "tool",
}
"""How the instrumentations of others mark the span of a tool's body."""

_DURATION_LABELS = (semconv.GEN_AI_TOOL_NAME, semconv.GEN_AI_AGENT_NAME)
_LET_THROUGH = (Outcome.ALLOWED, Outcome.APPROVED)


class Governed:
    """The `govern_tool` span of a call, and what its other signals take from it."""

    __slots__ = ("call_attributes", "context", "decision_attributes", "in_foreign_tool", "span", "tool")

    def __init__(self, call: Call, parent: Context, span: Span, decision: Attributes) -> None:
        self.span = span
        self.tool = text(call.tool)
        self.call_attributes = of_call(call)
        self.decision_attributes = decision
        self.context = parent
        """Where the signals of the call belong: under the span, or where it would have been."""
        self.in_foreign_tool = False


def open_span(tracer: Tracer, call: Call) -> Governed:
    """Start `govern_tool`, back-dated to the call, with the decision on it for a sampler to see."""
    record = call.record
    parent = get_current()
    around = get_current_span(parent)
    governed = Governed(call, parent, INVALID_SPAN, of_decision(record))
    attributes: Attributes = {
        semconv.GEN_AI_OPERATION_NAME: semconv.GOVERN_TOOL,
        **governed.call_attributes,
        **governed.decision_attributes,
    }
    if record.args_digest is not None:
        attributes[semconv.ARGUMENTS_DIGEST] = record.args_digest
    if record.action_type is not None and record.action_type != call.tool:
        attributes[semconv.ACTION_TYPE] = text(record.action_type)
    if record.action_target is not None and record.action_target != "default":
        attributes[semconv.ACTION_TARGET] = text(record.action_target)
    span = governed.span = tracer.start_span(
        f"{semconv.GOVERN_TOOL} {governed.tool}", parent, attributes=attributes, start_time=call.started_ns
    )
    governed.in_foreign_tool = _is_foreign_tool(around)
    ids = span.get_span_context()
    if ids.is_valid:
        record.trace_id = format_trace_id(ids.trace_id)
        if ids.span_id != around.get_span_context().span_id:  # else there is no SDK: the span is the parent
            record.span_id = format_span_id(ids.span_id)
            governed.context = set_span_in_context(span, parent)
    return governed


def unopened(call: Call) -> Governed:
    """What stands in for the span of a call that has none."""
    return Governed(call, get_current(), INVALID_SPAN, {})


def close_span(governed: Governed, call: Call) -> None:
    """End `govern_tool` with the outcome on it. A call refused by policy or human is no error."""
    span = governed.span
    if not span.is_recording():
        return
    attributes: Attributes = {semconv.RESULT_STATUS: call.status.value}
    if call.outcome is not None:
        attributes[semconv.DECISION_OUTCOME] = call.outcome.value
        if call.outcome not in _LET_THROUGH and call.record.reason:
            attributes[semconv.DECISION_REASON] = text(call.record.reason)
    if call.outcome is Outcome.ERROR or call.status is RecordStatus.FAILED:
        attributes[semconv.ERROR_TYPE] = call.error_type or "_OTHER"
        span.set_status(StatusCode.ERROR)
    span.set_attributes(attributes)
    span.end()


class Executing:
    """The body of a call: `execute_tool` is current, or `govern_tool` inside another's tool span."""

    __slots__ = ("_call", "_context", "_governed", "_instruments", "_span", "_started", "_token")

    def __init__(
        self, tracer: Tracer, instruments: Instruments, governed: Governed, call: Call, arguments: str | None
    ) -> None:
        self._instruments = instruments
        self._governed = governed
        self._call = call
        self._span = governed.span
        if not governed.in_foreign_tool:
            self._span = tracer.start_span(
                f"{semconv.EXECUTE_TOOL} {governed.tool}",
                governed.context,
                attributes=_execute_attributes(governed.call_attributes, call, arguments),
            )
        self._token: Token[Context] | None = None
        self._context = governed.context

    def __enter__(self) -> None:
        if self._span.get_span_context().is_valid:
            self._context = set_span_in_context(self._span)
            self._token = attach(self._context)
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._started
        if self._token is not None:
            detach(self._token)
        failed = kind is not None and not issubclass(kind, asyncio.CancelledError)
        if kind is not None and failed:
            self._call.error_type = error_type(kind)
        if self._governed.in_foreign_tool:
            return
        known = self._governed.call_attributes
        labels = {key: known[key] for key in _DURATION_LABELS if key in known}
        if kind is not None and failed:
            labels[semconv.ERROR_TYPE] = error_type(kind)
            self._span.set_attribute(semconv.ERROR_TYPE, error_type(kind))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        self._instruments.execute_tool_duration.record(seconds, labels, self._context)


def _execute_attributes(known: Attributes, call: Call, arguments: str | None) -> Attributes:
    attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL, **known}
    attributes.pop(semconv.GEN_AI_CONVERSATION_ID, None)  # it is on `govern_tool`, one level up
    if call.record.tool_name is not None:
        attributes[semconv.GEN_AI_TOOL_TYPE] = "function"
    if arguments is not None:
        attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = text(arguments)
    return attributes


def _is_foreign_tool(span: Span) -> bool:
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
