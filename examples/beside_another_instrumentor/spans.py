"""Spans in memory, and as a tree on the terminal: in place of a collector and a trace viewer."""

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def collect_spans() -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def show_spans(exporter: InMemorySpanExporter) -> None:
    """One line each, below its parent: its name, whose it is and, if it has one, the decision."""
    spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)

    def show(parent: int | None, depth: int) -> None:
        for span in spans:
            if (span.parent.span_id if span.parent else None) == parent:
                name = "  " * depth + span.name
                print(f"{name:36} {_owner(span):14} {_decision(span)}".rstrip())
                show(span.context.span_id, depth + 1)

    show(None, 0)


def _owner(span: ReadableSpan) -> str:
    return span.instrumentation_scope.name.removesuffix(".instrumentation.genai.openai_agents")


def _decision(span: ReadableSpan) -> str:
    outcome = span.attributes.get("aegis.decision.outcome")
    return f"{outcome} by {span.attributes['aegis.policy.rule.name']}" if outcome else ""
