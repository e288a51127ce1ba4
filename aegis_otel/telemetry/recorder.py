"""The signals of calls: implements `governance.call.Signals` on the OpenTelemetry API alone."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from time import time_ns  # by its name, for a program may replace the module's clock
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer_provider

from aegis_otel import semconv
from aegis_otel.config import USER_ON_SIGNALS
from aegis_otel.governance.call import Call
from aegis_otel.governance.error_text import error_type
from aegis_otel.model import Outcome
from aegis_otel.semconv import __version__
from aegis_otel.telemetry.attributes import Attributes, decision_attributes, risk, seal_attributes, text
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.instruments import (
    LOADED,
    REFUSED,
    InboxReader,
    Instruments,
    candidate_labels,
    flusher,
    plausible_labels,
)
from aegis_otel.telemetry.spans import Awaiting, CallSpan, Executing, Outlets, record_answer

if TYPE_CHECKING:
    from aegis_otel.audit.seals.seal_log import Seal
    from aegis_otel.policy import Policy

_log = logging.getLogger("aegis_otel")
# Where OpenTelemetry keeps its global providers, which it has no public way to read without reading the
# environment. A release that keeps them elsewhere costs speed alone: spans are made as if there were an SDK.
_logs_globals = sys.modules.get("opentelemetry._logs._internal")
_metrics_globals = sys.modules.get("opentelemetry.metrics._internal")
_NO_SPAN = object()
"""The `signal` of a call whose signals go nowhere."""
_NO_CONTEXT = nullcontext()

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS = {"NO_CONTENT": False, "EVENT_ONLY": False, "SPAN_ONLY": True, "SPAN_AND_EVENT": True}


class Recorder:
    """Reports the calls of any number of Runtimes to OpenTelemetry.

    Without an SDK every method takes a few microseconds at most, and nothing is exported. What a method about
    a call raises is isolated by `governance.isolation`; the others raise nothing.

    Args:
        tracer_provider: Where spans go; the global provider, even one installed later, when None.
        meter_provider: Where metrics go; likewise.
        logger_provider: Where events go; likewise.

    Raises:
        ConfigError: `AEGIS_USER_ON_SIGNALS` is unusable.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self._user_on_signals = USER_ON_SIGNALS.value()
        self._providers = (tracer_provider, meter_provider, logger_provider)
        self._has_own_provider = any(self._providers)
        self._tracer = (tracer_provider or get_tracer_provider()).get_tracer(semconv.SCOPE, __version__)
        self._events = Events(logger_provider)
        self._instruments = Instruments(meter_provider)
        self._counts = self._instruments.counts
        on_spans = _captured_on_spans(os.environ.get(CAPTURE_CONTENT, ""))
        self._outlets = Outlets(self._tracer, self._events, self._instruments, on_spans)

    @property
    def bridged(self) -> tuple[TracerProvider | None, MeterProvider | None]:
        """The providers for the spans of another tracing system, and for how long they took."""
        return self._providers[:2]

    def opened(self, call: Call) -> None:
        """Start `govern_tool`, and put its ids on the record."""
        call.signal = _NO_SPAN if self._is_silent() else CallSpan(call, self._user_on_signals, self._tracer)

    def _is_silent(self) -> bool:
        """Return whether only the counts of a call could go anywhere: no provider is set, and no span around.

        It is asked for each call, since an SDK may be installed at any time. OpenTelemetry's own functions
        read the environment, which takes longer than all signals of a call do without an SDK.
        """
        if (
            self._has_own_provider
            or getattr(trace, "_TRACER_PROVIDER", self) is not None
            or getattr(_logs_globals, "_LOGGER_PROVIDER", self) is not None
            or getattr(_metrics_globals, "_METER_PROVIDER", self) is not None
        ):
            return False
        context = get_current()
        return not context or trace.get_current_span(context) is trace.INVALID_SPAN

    def awaiting(self, call: Call) -> AbstractContextManager[None]:
        """Return a context for the time a human takes; at its end `record.human_decision` is the answer."""
        return Awaiting(self._outlets, self._call_span(call), call)

    def suspended(self, call: Call) -> None:
        """Emit the question that no process waits for: the event alone, for a span would never end."""
        call_span = self._call_span(call)
        asked = call_span.asked_attributes(call)
        self._events.emit(semconv.EVENT_APPROVAL_REQUESTED, risk(call.record), asked, call_span.context)

    def answered(self, call: Call) -> None:
        """Emit the answer to such a question, perhaps in another process, and measure how long it took."""
        call_span, record = self._call_span(call), call.record
        answer, seconds = record.human_decision or "error", record.approval_wait_s or 0.0
        asked = call_span.asked_attributes(call)
        record_answer(self._outlets, risk(record), answer, seconds, asked, call_span.context)

    def decided(self, call: Call) -> None:
        """Emit the one decision event, or its mirror on the span where no logger takes it; count it once."""
        record = call.record
        outcome = (call.outcome or Outcome.ERROR)._value_  # `.value` costs ten times as much
        level = risk(record)
        self._counts.add_decision(record, outcome, level)
        if record.candidate_approval is not None:
            before = call.decision.enforced_approval._value_
            labels = (before, record.candidate_approval, record.candidate_rule or "")
            self._counts.add(semconv.METRIC_CANDIDATE_DECISIONS, labels)
        if call.signal is _NO_SPAN:
            if self._is_silent():
                return
            call.signal = (
                None  # a hook installed an SDK, or somebody while a human was asked: it gets the rest
            )
        call_span = self._call_span(call)
        call_span.refresh(call)
        context = call_span.context
        if self._instruments.evaluation_duration is not None:
            self._instruments.evaluation_duration.record(
                call.evaluation_s, {semconv.DECISION_OUTCOME: outcome}, context
            )
        if self._events.takes(semconv.EVENT_DECISION, level, context):
            attributes = decision_attributes(record, call.outcome, call.error_type, call_span.shared)
            self._events.send(semconv.EVENT_DECISION, level, attributes, context, time_ns())
        elif call_span.span.is_recording():
            mirrored = {semconv.DECISION_OUTCOME: outcome, semconv.RISK_LEVEL: level}
            call_span.span.add_event(semconv.EVENT_DECISION, mirrored)
        if level == "critical":
            self._flush_metrics()

    def executing(self, call: Call) -> AbstractContextManager[None]:
        """Return a context for the time the body runs; it sets `call.error_type` when the body raises."""
        if call.signal is _NO_SPAN:
            return _NO_CONTEXT
        return Executing(self._outlets, self._call_span(call), call)

    def closed(self, call: Call) -> None:
        """End `govern_tool`. A second time does nothing."""
        if isinstance(call.signal, CallSpan):
            call.signal.end(call)

    def recorded(self) -> None:
        """Count a call whose first line the journal took."""
        self._counts.add(semconv.METRIC_AUDIT_RECORDS)

    def write_failed(self, call: Call, error: BaseException) -> None:
        """Count and emit that the journal refused a line of this call."""
        self._counts.add(semconv.METRIC_AUDIT_ERRORS)
        attributes: Attributes = {
            semconv.GEN_AI_TOOL_NAME: text(call.tool),
            semconv.ERROR_TYPE: error_type(type(error)),
            semconv.DECISION_ID: call.record.decision_id,
        }
        self._events.emit(
            semconv.EVENT_AUDIT_WRITE_FAILED, "ERROR", attributes, self._call_span(call).context
        )

    def hook_failed(self) -> None:
        """Count an exception of a user hook."""
        self._counts.add(semconv.METRIC_HOOK_ERRORS)

    def policy_loaded(self, policy: Policy, mode: str = "enforce") -> None:
        """Emit that a policy came into force, and start at zero what it can decide."""
        self._counts.start_at_zero(plausible_labels(policy, mode))
        attributes: Attributes = {
            semconv.POLICY_DIGEST: policy.digest,
            semconv.POLICY_SOURCE: _texts(policy.sources),
        }
        self._emit(semconv.EVENT_POLICY_LOADED, "INFO", attributes)
        self._flush_metrics()

    def candidate_loaded(self, candidate: Policy) -> None:
        """Start at zero what can be counted beside a candidate policy that came into use."""
        self._counts.start_at_zero(candidate_labels(candidate), semconv.METRIC_CANDIDATE_DECISIONS)

    def candidate_failed(self) -> None:
        """Count that a candidate policy could not be loaded, or not be asked about a call."""
        self._counts.add(semconv.METRIC_CANDIDATE_ERRORS)

    def limit_used(self, rule: str, share: float) -> None:
        """Measure how much of a rule's limit is used with a call; 1 is all of it."""
        self._instruments.limit_usage.record(share, {semconv.POLICY_RULE_NAME: rule})

    def state_failed(self) -> None:
        """Count that the state that processes share could not be used."""
        self._counts.add(semconv.METRIC_STATE_ERRORS)

    def watch_inbox(self, reader: InboxReader) -> None:
        """Report what `reader` reads of an inbox, for as long as somebody else keeps it."""
        self._counts.watch_inbox(reader)

    def answer_given(self, inbox_id: str, decision_id: str, *, approved: bool) -> None:
        """Emit that a person's answer was put into the inbox."""
        outcome = "approved" if approved else "denied"
        attributes: Attributes = {semconv.APPROVAL_OUTCOME: outcome, semconv.DECISION_ID: text(decision_id)}
        self._emit(semconv.EVENT_ANSWER_GIVEN, "INFO", {semconv.INBOX_ID: inbox_id, **attributes})

    def answer_refused(self, inbox_id: str, decision_id: str, why: str) -> None:
        """Emit that an answer to a question in the inbox counts for nothing, and why."""
        attributes: Attributes = {semconv.APPROVAL_REFUSAL: text(why), semconv.DECISION_ID: text(decision_id)}
        self._emit(semconv.EVENT_ANSWER_REFUSED, "WARN", {semconv.INBOX_ID: inbox_id, **attributes})

    def question_expired(self, inbox_id: str, decision_id: str) -> None:
        """Emit that a question in the inbox was ended because its time is over."""
        attributes: Attributes = {semconv.INBOX_ID: inbox_id, semconv.DECISION_ID: text(decision_id)}
        self._emit(semconv.EVENT_QUESTION_EXPIRED, "WARN", attributes)

    def grant_given(self, inbox_id: str, grant_id: str) -> None:
        """Emit that a yes in the inbox is one for later calls, too."""
        attributes: Attributes = {semconv.INBOX_ID: inbox_id, semconv.GRANT_ID: text(grant_id)}
        self._emit(semconv.EVENT_GRANT_GIVEN, "INFO", attributes)

    def grant_revoked(self, inbox_id: str, grant_id: str) -> None:
        """Emit that somebody ended a grant before its time."""
        attributes: Attributes = {semconv.INBOX_ID: inbox_id, semconv.GRANT_ID: text(grant_id)}
        self._emit(semconv.EVENT_GRANT_REVOKED, "INFO", attributes)

    def grant_used(self, call: Call, grant_id: str) -> None:
        """Emit that a grant covers a call, so that nobody is asked about it."""
        call_span = self._call_span(call)
        attributes: Attributes = {semconv.GRANT_ID: text(grant_id), **call_span.shared}
        self._events.emit(semconv.EVENT_GRANT_USED, risk(call.record), attributes, call_span.context)

    def policy_reloaded(self) -> None:
        """Count a change of the policy's files that came into force; `policy_loaded` says which policy."""
        self._counts.add(semconv.METRIC_POLICY_RELOADS, (LOADED,))

    def policy_load_failed(self, sources: Sequence[str], error: BaseException) -> None:
        """Count and emit that a changed policy was refused; the one in force stays."""
        self._counts.add(semconv.METRIC_POLICY_RELOADS, (REFUSED,))
        attributes: Attributes = {
            semconv.POLICY_SOURCE: _texts(sources),
            semconv.ERROR_TYPE: error_type(type(error)),
        }
        self._emit(semconv.EVENT_POLICY_LOAD_FAILED, "ERROR", attributes)

    def add_refused(self, kind: str, amount: int) -> None:
        """Count a watched policy whose files are refused now, by 1, or no longer, by -1.

        Args:
            kind: `policy` or `candidate`.
            amount: What is added.
        """
        self._counts.add(semconv.METRIC_POLICY_REFUSED, (kind,), amount)

    def audit_sealed(self, seal: Seal) -> None:
        """Emit that part of the audit was sealed: the event is a witness where it is kept."""
        self._counts.add(semconv.METRIC_AUDIT_UNKNOWN_OUTCOMES, amount=seal.unknown)
        self._emit(semconv.EVENT_AUDIT_SEALED, "INFO", seal_attributes(seal))

    def sealing_failed(self) -> None:
        """Count that what is complete could not be sealed, and stays in the journal."""
        self._counts.add(semconv.METRIC_AUDIT_SEAL_ERRORS)

    def flush(self, timeout_s: float) -> bool:
        """Have every signal sent; return False where one was not within its `timeout_s` seconds."""
        sent = True
        current = (get_tracer_provider, get_meter_provider, get_logger_provider)
        for given, find in zip(self._providers, current, strict=True):
            force_flush = getattr(given or find(), "force_flush", None)
            try:
                sent = (force_flush is None or force_flush(int(timeout_s * 1_000)) is not False) and sent
            except Exception:
                _log.warning("signals could not be flushed", exc_info=True)
                sent = False
        return sent

    def _call_span(self, call: Call) -> CallSpan:
        """Return the span of a call, or what stands in for it where its opening failed."""
        return call.signal if isinstance(call.signal, CallSpan) else CallSpan(call, self._user_on_signals)

    def _emit(self, name: str, severity: str, attributes: Attributes) -> None:
        """Emit an event outside of any call, and so outside of the governor's isolation."""
        try:
            self._events.emit(name, severity, attributes, get_current())
        except Exception:
            _log.warning("telemetry failed on `%s`; governance goes on", name, exc_info=True)

    def _flush_metrics(self) -> None:
        flusher.request(self._providers[1] or get_meter_provider())


def _texts(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(text(value) for value in values)


@cache
def _captured_on_spans(value: str) -> bool:
    """Return whether arguments go on `execute_tool`. Cached, so that a wrong value is reported once."""
    mode = value.strip().upper() or "NO_CONTENT"
    if mode not in _ON_SPANS:
        known = ", ".join(_ON_SPANS)
        _log.warning("`%s` of %s is none of %s; nothing is captured", value, CAPTURE_CONTENT, known)
    return _ON_SPANS.get(mode, False)
