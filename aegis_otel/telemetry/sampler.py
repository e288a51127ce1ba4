"""Sample traces, and keep what matters: `OTEL_TRACES_SAMPLER=aegis_traceidratio`.

Head sampling decides before anything is known of a trace, and would drop a CRITICAL decision like others.
The decision is on `govern_tool` when that span starts, so there it can be kept, even where its parent is not:
then the spans above are missing. To keep whole traces, sample in a collector (`collector/`).
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBasedTraceIdRatio, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes
from typing_extensions import override

from aegis_otel.semconv import RISK_LEVEL

NAME = "aegis_traceidratio"
"""The name of the entry point in the group `opentelemetry_traces_sampler`."""
_KEPT = ("high", "critical")


class RiskSampler(Sampler):
    """Keeps every call of HIGH and CRITICAL risk; of the rest a ratio of traces, or what the parent says.

    Args:
        ratio: The part of traces that is kept, 0 to 1; a ValueError otherwise.
    """

    def __init__(self, ratio: float) -> None:
        self._rest = ParentBasedTraceIdRatio(ratio)
        self._ratio = ratio

    @override
    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if attributes and attributes.get(RISK_LEVEL) in _KEPT:
            inherited = get_current_span(parent_context).get_span_context().trace_state
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, inherited)
        return self._rest.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    @override
    def get_description(self) -> str:
        return f"RiskSampler{{{self._ratio}}}"


def from_argument(argument: str | None) -> RiskSampler:
    """Return the sampler for what `OTEL_TRACES_SAMPLER_ARG` says; without it everything is kept.

    Raises:
        ValueError: it is not a number of 0 to 1.
    """
    text = (argument or "").strip()
    try:
        return RiskSampler(float(text) if text else 1.0)
    except ValueError:
        raise ValueError(
            f"OTEL_TRACES_SAMPLER_ARG is `{text}`: expected a ratio of 0 to 1, such as 0.01"
        ) from None
