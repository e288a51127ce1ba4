"""What the tests of the bridge share: the SDK's tracing switched on, and span trees as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agents import set_trace_processors, set_tracing_disabled
from agents.tracing import TracingProcessor, get_trace_provider, set_trace_provider
from agents.tracing.provider import DefaultTraceProvider
from opentelemetry.sdk.trace import ReadableSpan


@contextmanager
def sdk_tracing(*processors: TracingProcessor) -> Iterator[None]:
    """The SDK traces to `processors` and to nobody else, on a trace provider of its own."""
    before = get_trace_provider()
    set_trace_provider(DefaultTraceProvider())
    set_tracing_disabled(False)
    set_trace_processors(list(processors))
    try:
        yield
    finally:
        set_trace_provider(before)


def tree(spans: Sequence[ReadableSpan]) -> list[str]:
    """Names in the order of their start, indented below their parents; `?` before one whose parent is lost.

    A span whose parent ended up in another trace is lost, too.
    """
    known = {(span.context.trace_id, span.context.span_id) for span in spans}
    lines: list[str] = []

    def add(span: ReadableSpan, depth: int) -> None:
        lines.append("  " * depth + span.name)
        for child in ordered:
            if child.parent is not None and child.parent.span_id == span.context.span_id:
                add(child, depth + 1)

    ordered = sorted(spans, key=lambda span: span.start_time or 0)
    for span in ordered:
        if span.parent is None:
            add(span, 0)
        elif (span.context.trace_id, span.parent.span_id) not in known:
            lines.append(f"? {span.name}")
    return lines


def attributes(spans: Sequence[ReadableSpan], name: str) -> dict[str, Any]:
    """Those of the one span of that name."""
    (span,) = [each for each in spans if each.name == name]
    return dict(span.attributes or {})
