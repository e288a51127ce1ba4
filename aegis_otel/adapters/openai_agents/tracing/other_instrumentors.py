"""Other packages that turn the SDK's traces into OpenTelemetry spans, and how to stand beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.tracing import Span, TracingProcessor, get_trace_provider

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OTelSpan


SpanOf = Callable[[Span[Any]], "OTelSpan | None"]
"""Returns the OpenTelemetry span to make current for a tool call; None where it is current already."""


class Instrumentor(NamedTuple):
    """A package that makes a whole tree of spans."""

    module: str
    """Where its processor, or its trace provider, is defined."""
    attaches: bool = True
    """Whether the span of a tool call is current while it runs; if not, it is to be looked up."""


INSTRUMENTORS = (
    Instrumentor("opentelemetry.instrumentation.genai.openai_agents"),
    Instrumentor("opentelemetry.instrumentation.openai_agents"),  # OpenLLMetry
    Instrumentor("openinference.instrumentation.openai_agents"),
    Instrumentor("logfire"),  # wraps the SDK's trace provider instead of being a processor
    # Where it is registered behind our processor, its tool spans are beside ours.
    Instrumentor("openai_agents_opentelemetry", attaches=False),
)


def bridged_elsewhere(ours: TracingProcessor, our_class: type[TracingProcessor]) -> SpanOf | None:
    """Return how to find the span of another bridge of the SDK's traces; None where there is no other.

    Args:
        ours: The processor that asks.
        our_class: Its class; of several, the one registered first bridges.
    """
    if _known(get_trace_provider()) is not None:
        return _current
    ours_passed = False
    for processor in registered_processors():
        if isinstance(processor, our_class):
            ours_passed = ours_passed or processor is ours
            if not ours_passed:
                return _current
        elif (known := _known(processor)) is not None:
            return _current if known.attaches else _looked_up(processor)
    return None


def registered_processors() -> Sequence[TracingProcessor]:
    """Return the registered processors, which the SDK lists nowhere in public; none if it has none."""
    return getattr(getattr(get_trace_provider(), "_multi_processor", None), "_processors", ())


def _known(thing: object) -> Instrumentor | None:
    module = type(thing).__module__
    return next((known for known in INSTRUMENTORS if module.startswith(known.module + ".")), None)


def _current(span: Span[Any]) -> None:
    """Return None: the span is current already."""


def _looked_up(processor: Any) -> SpanOf:
    spans: Mapping[str | None, OTelSpan] = getattr(processor, "_active_spans", {})
    return lambda span: spans.get(span.span_id) or spans.get(span.parent_id)
