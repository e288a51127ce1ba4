"""Spans for what another tracing system starts and ends, by that system's own ids.

Parents are found by id and given explicitly. Starts and ends come from several tasks and threads, and not
always from the same one, so a span is made current only where that is certain: around a tool call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass, field
from time import perf_counter  # not by its module, whose clock a program may replace
from typing import NamedTuple, TypeVar

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
)

from aegis_otel import semconv
from aegis_otel.semconv import __version__
from aegis_otel.telemetry.attributes import Attributes
from aegis_otel.telemetry.instruments import invoke_agent_duration
from aegis_otel.telemetry.spans import is_foreign_tool

OPEN_LIMIT = 10_000
"""Traces, and spans, that are kept waiting for their end. Past it the oldest is ended as it is."""
RESUMABLE_LIMIT = 1_000
"""Ended traces that a resumed run still finds its place in."""
_NO_SDK = (ProxyTracerProvider, NoOpTracerProvider)
_LABELS = (semconv.GEN_AI_OPERATION_NAME, semconv.GEN_AI_AGENT_NAME)

T = TypeVar("T")


class _Stopwatch(NamedTuple):
    """How long an agent or a workflow takes."""

    labels: Attributes
    began: float


@dataclass(slots=True, eq=False)
class _Root:
    span: Span
    shared: Attributes
    """What every span of the trace carries."""
    until: str | None
    """The id of the span at whose end the trace ends, where nothing reports the end of the trace."""
    stopwatch: _Stopwatch
    starts: int = 1


@dataclass(slots=True, eq=False)
class _Open:
    span: Span | None
    """The parent of what is started under it; the span that is current then, when None."""
    root: _Root
    owned: bool = False
    stopwatch: _Stopwatch | None = None
    totals: dict[str, int] = field(default_factory=dict)

    def end(self) -> None:
        if self.owned and self.span is not None:
            self.span.end()


class Bridge:
    """The spans of one tracing system. Every id is that system's own.

    Args:
        tracer_provider: Where spans go; the global provider, even one installed later, when None.
        meter_provider: Where durations go; likewise.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._duration = invoke_agent_duration(meter_provider)
        self._provider = tracer_provider
        self._tracer = (tracer_provider or get_tracer_provider()).get_tracer(semconv.SCOPE, __version__)
        self._roots: _Youngest[_Root] = _Youngest(OPEN_LIMIT, lambda root: root.span.end())
        self._open: _Youngest[_Open] = _Youngest(OPEN_LIMIT, _Open.end)
        self._entered: _Youngest[tuple[Context, Token[Context]]] = _Youngest(OPEN_LIMIT)
        self._ended: _Youngest[SpanContext] = _Youngest(RESUMABLE_LIMIT)

    @property
    def active(self) -> bool:
        """Whether there is an OpenTelemetry SDK that spans could go to."""
        return not isinstance(self._provider or get_tracer_provider(), _NO_SDK)

    def knows(self, trace_id: str, parent_id: str | None) -> bool:
        """Return whether a span of this trace and parent would find its place."""
        return (parent_id is not None and parent_id in self._open) or trace_id in self._roots

    def __contains__(self, span_id: str) -> bool:
        """Return whether the span was started and not ended yet."""
        return span_id in self._open

    def start_trace(
        self, trace_id: str, name: str, attributes: Attributes, shared: Attributes, until: str | None = None
    ) -> None:
        """Start the root of a trace, or count one more start of the same.

        It stands under the span that is current. Where there is none, a trace that ended before and goes on
        now stays one trace.

        Args:
            trace_id: The id of the trace.
            name: The name of the span.
            attributes: The attributes of the span.
            shared: What every span of the trace carries, this one too.
            until: The span at whose end the trace ends; None when `end_trace` will be called.
        """
        running = self._roots.get(trace_id)
        if running is not None:
            running.starts += 1
            return
        context, links = get_current(), []
        earlier = self._ended.get(trace_id)
        if earlier is not None and get_current_span(context).get_span_context().is_valid:
            links.append(Link(earlier))
        elif earlier is not None:
            context = set_span_in_context(NonRecordingSpan(earlier), context)
        span = self._tracer.start_span(name, context, attributes={**attributes, **shared}, links=links)
        self._roots.put(trace_id, _Root(span, shared, until, _stopwatch(attributes)))

    def end_trace(self, trace_id: str) -> None:
        """End the root. Spans of the trace that are still open end by themselves."""
        root = self._roots.get(trace_id)
        if root is not None and root.until is None:
            root.starts -= 1
            if root.starts == 0:
                self._end_root(trace_id, root)

    def start(
        self,
        trace_id: str,
        span_id: str,
        parent_id: str | None,
        name: str,
        attributes: Attributes,
        *,
        client: bool = False,
    ) -> None:
        """Start a span in a trace that is known (`knows`); `client` where it calls what is elsewhere."""
        parent = self._parent(trace_id, parent_id)
        context = None if parent.span is None else set_span_in_context(parent.span)
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        span = self._tracer.start_span(name, context, kind, {**attributes, **parent.root.shared})
        timed = attributes.get(semconv.GEN_AI_OPERATION_NAME) == semconv.INVOKE_AGENT
        stopwatch = _stopwatch(attributes) if timed else None
        self._open.put(span_id, _Open(span, parent.root, owned=True, stopwatch=stopwatch))

    def skip(self, trace_id: str, span_id: str, parent_id: str | None) -> None:
        """Start no span: what is started under this one goes under its parent."""
        parent = self._parent(trace_id, parent_id)
        self._open.put(span_id, _Open(parent.span, parent.root, totals=parent.totals))

    def start_call(self, trace_id: str, span_id: str, parent_id: str | None) -> None:
        """Start no span, but make the parent current until `end`: a tool call begins in its own task.

        What is started under it goes under the span that is current then, such as `execute_tool`.
        """
        parent = self._parent(trace_id, parent_id)
        self._open.put(span_id, _Open(None, parent.root))
        if parent.span is not None and not is_foreign_tool(get_current_span()):
            self.enter(span_id, parent.span)

    def enter(self, span_id: str, span: Span) -> None:
        """Make `span` current until the `end` of `span_id`."""
        context = set_span_in_context(span)
        self._entered.put(span_id, (context, attach(context)))

    @contextmanager
    def inside(self, span_id: str) -> Iterator[None]:
        """Make what stands for an open span current, for a call in it that has no span of its own."""
        entry = self._open.get(span_id)
        if entry is None or entry.span is None:
            yield
            return
        token = attach(set_span_in_context(entry.span))
        try:
            yield
        finally:
            detach(token)

    def add(self, span_id: str, numbers: Mapping[str, int]) -> None:
        """Add to what the span will carry as its totals; for a skipped one, to its parent's."""
        entry = self._open.get(span_id)
        if entry is not None:
            for key, number in numbers.items():
                entry.totals[key] = entry.totals.get(key, 0) + number

    def end(
        self,
        trace_id: str,
        span_id: str,
        name: str | None = None,
        attributes: Attributes | None = None,
        error: str | None = None,
    ) -> None:
        """End a span, a skipped one or a call; one that is not open is not ours, and nothing happens.

        Args:
            trace_id: The id of its trace.
            span_id: Its id.
            name: The span's name, now that all is known.
            attributes: More attributes.
            error: `error.type`, where it failed; of a skipped span it goes to the parent.
        """
        entered = self._entered.pop(span_id, None)
        if entered is not None and get_current() is entered[0]:  # else somebody ended out of turn
            detach(entered[1])
        entry = self._open.pop(span_id, None)
        if entry is None:
            return
        span = entry.span
        if span is not None and span.is_recording():
            if error is not None:
                span.set_attribute(semconv.ERROR_TYPE, error)
                span.set_status(StatusCode.ERROR)
            if entry.owned:
                if name is not None:
                    span.update_name(name)
                span.set_attributes({**(attributes or {}), **entry.totals})
        entry.end()
        if span is not None and entry.stopwatch is not None:
            self._measure(span, entry.stopwatch, error)
        if entry.root.until == span_id:
            self._end_root(trace_id, entry.root)

    def flush(self) -> None:
        """Export what has ended. What is open goes on."""
        flush = getattr(self._provider or get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush()

    def close(self) -> None:
        """End everything as it is, children before their parents."""
        for entries in (self._entered, self._open, self._roots):
            entries.drop_all()

    def _parent(self, trace_id: str, parent_id: str | None) -> _Open:
        parent = None if parent_id is None else self._open.get(parent_id)
        if parent is not None:
            return parent
        root = self._roots.get(trace_id)
        assert root is not None, "asked for the parent in a trace that is not known"
        return _Open(root.span, root)

    def _end_root(self, trace_id: str, root: _Root) -> None:
        self._roots.pop(trace_id, None)
        ids = root.span.get_span_context()
        root.span.end()
        self._measure(root.span, root.stopwatch, None)
        if ids.is_valid:
            self._ended.put(trace_id, ids)

    def _measure(self, span: Span, stopwatch: _Stopwatch, error: str | None) -> None:
        labels = stopwatch.labels if error is None else {**stopwatch.labels, semconv.ERROR_TYPE: error}
        self._duration.record(perf_counter() - stopwatch.began, labels, set_span_in_context(span))


def _stopwatch(attributes: Attributes) -> _Stopwatch:
    return _Stopwatch({key: attributes[key] for key in _LABELS if key in attributes}, perf_counter())


class _Youngest(OrderedDict[str, T]):
    """The youngest values, up to a limit past which the oldest is dropped. Each step is atomic."""

    def __init__(self, limit: int, drop: Callable[[T], object] = lambda _: None) -> None:
        super().__init__()
        self._limit = limit
        self._drop = drop

    def put(self, key: str, value: T) -> None:
        self[key] = value
        if len(self) > self._limit:
            self._drop(self.popitem(last=False)[1])

    def drop_all(self) -> None:
        """Drop all values, the youngest first."""
        while self:
            try:
                _, value = self.popitem()
            except KeyError:  # taken by another thread
                return
            self._drop(value)
