"""The record of a call, told to OpenTelemetry. Implements `governance.call.Signals` on the API alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from time import time_ns  # not by its module, whose clock a program may replace
from typing import Protocol

from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer_provider

from aegis_otel import semconv
from aegis_otel.governance.call import Call
from aegis_otel.governance.error_text import error_type
from aegis_otel.model import Outcome
from aegis_otel.telemetry.attributes import Attributes, Sealed, of_decision, of_seal, risk, text
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.metrics import LOADED, REFUSED, Instruments, Rule, Verdicts, flusher, plausible
from aegis_otel.telemetry.spans import Awaiting, Executing, Governed, answered, suspended
from aegis_otel.version import __version__

_log = logging.getLogger("aegis_otel")

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS = {"NO_CONTENT": False, "EVENT_ONLY": False, "SPAN_ONLY": True, "SPAN_AND_EVENT": True}


class LoadedPolicy(Protocol):
    """A policy as far as telemetry needs it."""

    @property
    def digest(self) -> str: ...
    @property
    def sources(self) -> Sequence[str]: ...
    @property
    def rules(self) -> Sequence[Rule]: ...
    @property
    def default(self) -> Verdicts: ...


class Recorder:
    """Tells the calls of any number of Runtimes to OpenTelemetry.

    Without an SDK every method takes a few microseconds at most, and nothing is exported. What is raised here
    is isolated by `governance.isolation`.

    Args:
        tracer_provider: Where spans go; the global provider, even one installed later, when None.
        meter_provider: Where metrics go; likewise.
        logger_provider: Where events go; likewise.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self._tracer = (tracer_provider or get_tracer_provider()).get_tracer(semconv.SCOPE, __version__)
        self._events = Events(logger_provider)
        self._meter_provider = meter_provider
        self._providers = (tracer_provider, meter_provider, logger_provider)
        self._instruments = Instruments(meter_provider)
        self._arguments_on_spans = _captured_on_spans(os.environ.get(CAPTURE_CONTENT, ""))

    @property
    def bridged(self) -> tuple[TracerProvider | None, MeterProvider | None]:
        """The providers for the spans of another tracing system, and for how long they took."""
        return self._providers[:2]

    def opened(self, call: Call) -> None:
        """Start `govern_tool`; put its ids on the record."""
        governed = call.signal = Governed(call)
        governed.start(self._tracer, call)

    def awaiting(self, call: Call) -> AbstractContextManager[None]:
        """A human is asked for as long as this lasts; at its end `record.human_decision` is the answer."""
        return Awaiting(self._tracer, self._events, self._instruments, _governed(call), call)

    def suspended(self, call: Call) -> None:
        """A human is asked, and no process waits: the event alone, for the span would never end."""
        suspended(self._events, _governed(call), call)

    def answered(self, call: Call) -> None:
        """The answer came, perhaps in another process: its event and how long it took."""
        answered(self._events, self._instruments, _governed(call), call)

    def decided(self, call: Call) -> None:
        """The one decision event, its mirror on the span, and the one count."""
        record = call.record
        governed = _governed(call)
        governed.refresh(call)
        outcome = (call.outcome or Outcome.ERROR)._value_  # `.value` costs ten times as much
        level = risk(record)
        self._instruments.counts.decided(
            (outcome, record.approval or "", level, record.matched_rule or "", record.mode or "")
        )
        if self._instruments.evaluation_duration is not None:
            self._instruments.evaluation_duration.record(
                call.evaluation_s, {semconv.DECISION_OUTCOME: outcome}, governed.context
            )
        now = time_ns()
        if governed.span.is_recording():
            mirrored = {semconv.DECISION_OUTCOME: outcome, semconv.RISK_LEVEL: level}
            governed.span.add_event(semconv.EVENT_DECISION, mirrored, now)
        attributes = of_decision(record, call.outcome, call.error_type) | governed.facts
        self._events.emit(semconv.EVENT_DECISION, level, attributes, governed.context, now)
        if level == "critical":
            self._flush_metrics()

    def executing(self, call: Call) -> AbstractContextManager[None]:
        """The body runs for as long as this lasts; sets `call.error_type` when it raises."""
        arguments = call.record.action_params if self._arguments_on_spans else None
        duration = self._instruments.execute_tool_duration
        return Executing(self._tracer, self._events, duration, _governed(call), call, arguments=arguments)

    def closed(self, call: Call) -> None:
        """End `govern_tool`. A second time does nothing."""
        if call.signal is not None:
            call.signal.end(call)

    def recorded(self) -> None:
        """The journal took the first line of a call."""
        self._instruments.counts.recorded()

    def write_failed(self, call: Call, error: BaseException) -> None:
        """The journal refused a line of this call."""
        self._instruments.counts.audit_failed()
        attributes: Attributes = {
            semconv.GEN_AI_TOOL_NAME: text(call.tool),
            semconv.ERROR_TYPE: error_type(type(error)),
            semconv.DECISION_ID: call.record.decision_id,
        }
        self._events.emit(semconv.EVENT_AUDIT_WRITE_FAILED, "ERROR", attributes, _governed(call).context)

    def hook_failed(self) -> None:
        """A user hook raised."""
        self._instruments.counts.hook_failed()

    def policy_loaded(self, policy: LoadedPolicy, mode: str = "enforce") -> None:
        """A policy came into force: its event, and a zero for everything it can say. Never raises."""
        self._instruments.counts.start_at_zero(plausible(policy.rules, policy.default, mode))
        self._tell(
            semconv.EVENT_POLICY_LOADED,
            "INFO",
            {semconv.POLICY_DIGEST: policy.digest, semconv.POLICY_SOURCE: _texts(policy.sources)},
        )
        self._flush_metrics()

    def policy_reloaded(self) -> None:
        """A change of the policy's files came into force; `policy_loaded` tells which policy."""
        self._instruments.counts.reloaded(LOADED)

    def policy_load_failed(self, sources: Sequence[str], error: BaseException) -> None:
        """A changed policy was refused, and the one in force stays. Never raises."""
        self._instruments.counts.reloaded(REFUSED)
        self._tell(
            semconv.EVENT_POLICY_LOAD_FAILED,
            "ERROR",
            {semconv.POLICY_SOURCE: _texts(sources), semconv.ERROR_TYPE: error_type(type(error))},
        )

    def audit_sealed(self, seal: Sealed) -> None:
        """Part of the audit was sealed: its event, which is a witness where it is kept. Never raises."""
        self._instruments.counts.sealed(seal.unknown)
        self._tell(semconv.EVENT_AUDIT_SEALED, "INFO", of_seal(seal))

    def sealing_failed(self) -> None:
        """What is complete could not be sealed, and stays in the journal. Never raises."""
        self._instruments.counts.sealing_failed()

    def flush(self, timeout_s: float) -> bool:
        """Have every signal sent; False where one was not within its `timeout_s` seconds. Never raises."""
        current = (get_tracer_provider, get_meter_provider, get_logger_provider)
        sent = True
        for given, find in zip(self._providers, current, strict=True):
            force_flush = getattr(given or find(), "force_flush", None)
            try:
                sent = (force_flush is None or force_flush(int(timeout_s * 1_000)) is not False) and sent
            except Exception:
                _log.warning("signals could not be flushed", exc_info=True)
                sent = False
        return sent

    def _tell(self, name: str, severity: str, attributes: Attributes) -> None:
        """An event outside of any call, and so outside of the governor's isolation."""
        try:
            self._events.emit(name, severity, attributes, get_current())
        except Exception:
            _log.warning("telemetry failed on `%s`; governance goes on", name, exc_info=True)

    def _flush_metrics(self) -> None:
        flusher.request(self._meter_provider or get_meter_provider())


def _governed(call: Call) -> Governed:
    return call.signal if call.signal is not None else Governed(call)


def _texts(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(text(value) for value in values)


@cache
def _captured_on_spans(value: str) -> bool:
    """Whether arguments go on `execute_tool`. Cached, so that a wrong value is complained of once."""
    mode = value.strip().upper() or "NO_CONTENT"
    if mode not in _ON_SPANS:
        known = ", ".join(_ON_SPANS)
        _log.warning("`%s` of %s is none of %s; nothing is captured", value, CAPTURE_CONTENT, known)
    return _ON_SPANS.get(mode, False)
