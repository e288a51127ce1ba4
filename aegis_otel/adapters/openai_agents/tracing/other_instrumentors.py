"""Other packages that turn the SDK's traces into OpenTelemetry spans, and how to stand beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.tracing import Span, TracingProcessor, get_trace_provider

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OTelSpan


SpanOf = Callable[[Span[Any]], "OTelSpan | None"]
"""The OpenTelemetry span to make current for a tool call of the SDK, where it is not current already."""


class Instrumentor(NamedTuple):
    module: str
    """Where its processor, or its trace provider, is defined."""
    attaches: bool
    """Whether the span of a tool call is current while it runs; if not, it is to be looked up."""
    why: str


INSTRUMENTORS = (
    Instrumentor(
        "opentelemetry.instrumentation.genai.openai_agents",
        attaches=True,
        why="OpenTelemetry's own: invoke_workflow, invoke_agent and execute_tool by the same conventions",
    ),
    Instrumentor(
        "opentelemetry.instrumentation.openai_agents",
        attaches=True,
        why="OpenLLMetry, and the predecessor of OpenTelemetry's own: a whole tree",
    ),
    Instrumentor(
        "openinference.instrumentation.openai_agents",
        attaches=True,
        why="OpenInference: a whole tree, by its own conventions",
    ),
    Instrumentor(
        "logfire",
        attaches=True,
        why="wraps the SDK's trace provider instead of being a processor; a whole tree",
    ),
    Instrumentor(
        "openai_agents_opentelemetry",
        attaches=False,
        why="a whole tree that is never current; registered behind ours, its tool spans are beside ours",
    ),
)


def bridged_elsewhere(ours: TracingProcessor, kin: type[TracingProcessor]) -> SpanOf | None:
    """How to find the span of whoever else bridges the SDK's traces; None where nobody does.

    The SDK lists its processors nowhere in public. Where they cannot be read, nobody is found.

    Args:
        ours: The processor that asks.
        kin: Its class; of several, the one registered first bridges.
    """
    provider = get_trace_provider()
    if _known(provider) is not None:
        return _current
    ours_passed = False
    for processor in getattr(getattr(provider, "_multi_processor", None), "_processors", ()):
        if isinstance(processor, kin):
            ours_passed = ours_passed or processor is ours
            if not ours_passed:
                return _current
        elif (known := _known(processor)) is not None:
            return _current if known.attaches else _looked_up(processor)
    return None


def _known(thing: object) -> Instrumentor | None:
    module = type(thing).__module__
    return next((known for known in INSTRUMENTORS if module.startswith(known.module + ".")), None)


def _current(span: Span[Any]) -> None:
    """It is current already."""


def _looked_up(processor: Any) -> SpanOf:
    spans: Mapping[str | None, OTelSpan] = getattr(processor, "_active_spans", {})
    return lambda span: spans.get(span.span_id) or spans.get(span.parent_id)
