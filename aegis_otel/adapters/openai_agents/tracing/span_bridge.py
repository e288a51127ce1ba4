"""Bridge the SDK's traces to OpenTelemetry spans by the GenAI conventions.

No decision is made here, and a tool call gets no span here: the governor makes `govern_tool` and
`execute_tool`, with tracing on or off. No span gets prompts, arguments or outputs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from agents.tracing import Span, Trace, TracingProcessor, get_current_span, get_current_trace

from aegis_otel import semconv
from aegis_otel.adapters.openai_agents.tracing.other_instrumentors import bridged_elsewhere
from aegis_otel.redaction.redactor import redact_name
from aegis_otel.telemetry.attributes import Attributes
from aegis_otel.telemetry.trace_bridge import Bridge

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


Described = tuple[str, Attributes]
"""The name of a span and its attributes, as far as they are known."""


class SpanBridge(TracingProcessor):
    """Bridges the traces of the SDK, unless another instrumentation does.

    Args:
        tracer_provider: Where spans go; the global provider, even one installed later, when None.
        meter_provider: Where the durations of agents and workflows go; likewise.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._bridge = Bridge(tracer_provider, meter_provider)
        _bridges.add(self._bridge)

    def on_trace_start(self, trace: Trace) -> None:
        """Start `invoke_workflow`, the root."""
        if self._bridge.active and bridged_elsewhere(self, SpanBridge) is None:
            self._start_trace(trace.trace_id, trace)

    def on_trace_end(self, trace: Trace) -> None:
        """End the root; in a run that is cancelled, before its last spans end."""
        self._bridge.end_trace(trace.trace_id)

    def on_span_start(self, span: Span[Any]) -> None:
        """Start the OpenTelemetry span of `span`, if it has one."""
        bridge = self._bridge
        ids = (span.trace_id, span.span_id, span.parent_id)
        kind = span.span_data.type
        if not bridge.knows(span.trace_id, span.parent_id):
            if not bridge.active:
                return
            span_of = bridged_elsewhere(self, SpanBridge)
            if span_of is not None:
                theirs = span_of(span) if kind == "function" else None
                if theirs is not None:
                    bridge.enter(span.span_id, theirs)
                return
            # A resumed run goes on in its trace without starting or ending it.
            self._start_trace(span.trace_id, get_current_trace(), until=span.span_id)
        if kind == "function":
            bridge.start_call(*ids)
        elif kind in _SKIPPED:
            bridge.skip(*ids)
        else:
            bridge.start(*ids, *_describe(span.span_data), client=kind in _CLIENTS)

    def on_span_end(self, span: Span[Any]) -> None:
        """End the OpenTelemetry span of `span`, with the attributes that are known only now."""
        bridge, data = self._bridge, span.span_data
        if span.span_id not in bridge or data.type == "function":
            bridge.end(span.trace_id, span.span_id)
        elif data.type in _SKIPPED:
            if data.type == "turn":
                bridge.add(span.span_id, dict(_usage(data.usage)))
            bridge.end(span.trace_id, span.span_id, error=_error(span))
        else:
            bridge.end(span.trace_id, span.span_id, *_describe(data), error=_error(span))

    def force_flush(self) -> None:
        """Export the spans that have ended."""
        self._bridge.flush()

    def shutdown(self) -> None:
        """End the open spans. The tracer provider belongs to the application and stays up."""
        self._bridge.close()

    def _start_trace(self, trace_id: str, trace: Trace | None, until: str | None = None) -> None:
        attributes: Attributes = {
            semconv.GEN_AI_OPERATION_NAME: semconv.INVOKE_WORKFLOW,
            semconv.SDK_TRACE_ID: redact_name(trace_id),
        }
        shared: Attributes = {}
        name = semconv.INVOKE_WORKFLOW
        if trace is not None:
            workflow = attributes[semconv.GEN_AI_AGENT_NAME] = redact_name(trace.name)
            attributes[semconv.GEN_AI_WORKFLOW_NAME] = workflow
            name = f"{name} {workflow}"
        group = getattr(trace, "group_id", None)
        if group is not None:
            shared[semconv.GEN_AI_CONVERSATION_ID] = redact_name(group)
        self._bridge.start_trace(trace_id, name, attributes, shared, until)


_bridges: weakref.WeakSet[Bridge] = weakref.WeakSet()


@contextmanager
def at_current_span() -> Iterator[None]:
    """Make the span of the SDK's current span current: a local shell call gets no span from the SDK."""
    span = get_current_span()
    with ExitStack() as stack:
        if span is not None:
            for bridge in list(_bridges):
                stack.enter_context(bridge.inside(span.span_id))
        yield


_SKIPPED = ("task", "turn")
"""Kinds without a span: the conventions have none for a turn, and `invoke_workflow` is that of a run."""

_CLIENTS = ("generation", "response", "mcp_tools")
"""Kinds of spans that stand for a call of something in another process."""


def _describe(data: Any) -> Described:
    """Return the name and the attributes of a span; more of them are known at its end than at its start."""
    describe = _DESCRIBE.get(data.type)
    # A kind the SDK may add, and those of its voice pipelines, show up by their type.
    return (redact_name(data.type), {}) if describe is None else describe(data)


def _operation(operation: str, key: str, name: str | None) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of a span about an operation on something that has a name."""
    if name is None:
        return operation, {semconv.GEN_AI_OPERATION_NAME: operation}
    shown = redact_name(name)
    return f"{operation} {shown}", {semconv.GEN_AI_OPERATION_NAME: operation, key: shown}


def _chat(usage: Any, key: str, model: str | None) -> tuple[str, dict[str, Any]]:
    name, attributes = _operation(semconv.CHAT, key, model)
    return name, {**attributes, semconv.GEN_AI_PROVIDER_NAME: "openai", **dict(_usage(usage))}


def _response(data: Any) -> Described:
    name, attributes = _chat(data.usage, semconv.GEN_AI_RESPONSE_MODEL, getattr(data.response, "model", None))
    response_id = data.export()["response_id"]
    if response_id is not None:
        attributes[semconv.GEN_AI_RESPONSE_ID] = redact_name(response_id)
    return name, attributes


def _handoff(data: Any) -> Described:
    name, attributes = _operation(semconv.HANDOFF, semconv.HANDOFF_TARGET, data.to_agent)
    if data.from_agent is not None:
        attributes[semconv.GEN_AI_AGENT_NAME] = redact_name(data.from_agent)
    return name, attributes


def _guardrail(data: Any) -> Described:
    name, attributes = _operation(semconv.RUN_GUARDRAIL, semconv.GUARDRAIL_NAME, data.name)
    return name, {**attributes, semconv.GUARDRAIL_TRIGGERED: data.triggered is True}


def _mcp_tools(data: Any) -> Described:
    attributes: dict[str, Any] = {semconv.MCP_METHOD_NAME: semconv.MCP_LIST_TOOLS}
    if data.server is not None:
        attributes[semconv.MCP_SERVER_NAME] = redact_name(data.server)
    return semconv.MCP_LIST_TOOLS, attributes


_DESCRIBE: dict[str, Callable[[Any], Described]] = {
    "agent": lambda data: _operation(semconv.INVOKE_AGENT, semconv.GEN_AI_AGENT_NAME, data.name),
    "generation": lambda data: _chat(data.usage, semconv.GEN_AI_REQUEST_MODEL, data.model),
    "response": _response,
    "handoff": _handoff,
    "guardrail": _guardrail,
    "mcp_tools": _mcp_tools,
    "custom": lambda data: (redact_name(data.name), {}),
}

_COUNTED = (
    # A model call nests its details. A turn has them flat, and they are not attributes of an agent's span.
    (semconv.GEN_AI_INPUT_TOKENS, ("input_tokens",)),
    (semconv.GEN_AI_OUTPUT_TOKENS, ("output_tokens",)),
    (semconv.GEN_AI_CACHE_READ_TOKENS, ("input_tokens_details", "cached_tokens")),
    (semconv.GEN_AI_CACHE_WRITE_TOKENS, ("input_tokens_details", "cache_write_tokens")),
    (semconv.GEN_AI_CACHE_CREATION_TOKENS, ("input_tokens_details", "cache_write_tokens")),
    (semconv.GEN_AI_REASONING_TOKENS, ("output_tokens_details", "reasoning_tokens")),
)


def _usage(usage: Any) -> Iterator[tuple[str, int]]:
    for key, path in _COUNTED:
        found = usage
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, int):
            yield key, found


_ERRORS = {
    "Guardrail tripwire triggered": "guardrail_tripwire_triggered",
    "Max turns exceeded": "max_turns_exceeded",
}
"""The messages of the SDK's errors that are always the same. Any other may hold what is not redacted."""


def _error(span: Span[Any]) -> str | None:
    return None if span.error is None else _ERRORS.get(str(span.error.get("message")), "_OTHER")
