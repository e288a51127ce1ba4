"""Decision events out of audit records: what a backend lost can be sent to it again.

An event has its decision's id and time, so that one sent twice can be told from two decisions, and
`aegis.decision.resent`. What it says is what the agent's own event said.

A probe: one event that is no decision, sent to see whether events arrive.

Seals as events, from a process that tells nothing else: the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry._logs import get_logger_provider
from opentelemetry.context import Context, get_current
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord, RecordStatus
from aegis_otel.errors import AuditError
from aegis_otel.governance import refusal
from aegis_otel.governance.recording import unix_ns
from aegis_otel.model import Approval, Mode, Outcome
from aegis_otel.telemetry.attributes import Sealed, of_call, of_decision, of_seal, risk
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.export_setup import configure_otlp
from aegis_otel.telemetry.outbox import Outbox


def send_probe(outbox: Outbox, decision_id: str) -> bool:
    """Send an event with this id, and say whether the endpoint took it."""
    events = Events(outbox.provider({"service.name": semconv.SCOPE}))
    events.emit(semconv.EVENT_PROBE, "INFO", {semconv.DECISION_ID: decision_id}, Context())
    return outbox.send() == 1


_LONGEST_MS = 10_000


def send_seals(seals: Iterable[Sealed]) -> bool:
    """Send the event of each seal over OTLP; False where no endpoint for logs is set.

    Raises:
        ConfigError: an `OTEL_*` variable has a value that cannot work.
    """
    if "logs" not in configure_otlp():
        return False
    events = Events(None)
    for seal in seals:
        events.emit(semconv.EVENT_AUDIT_SEALED, "INFO", of_seal(seal), get_current())
    provider: Any = get_logger_provider()  # the SDK's, which was just installed
    provider.force_flush(_LONGEST_MS)
    return True


_BATCH = 500
_FAULTS = {refusal.UNAVAILABLE.cause, refusal.CHANGED.cause, refusal.USED.cause, "invalid_arguments"}
"""The last is what rows say that an older version wrote."""


class Sent(NamedTuple):
    """How far it has come."""

    arrived: int
    undecided: int
    """Calls that wait for a human, or were never decided on: they have no decision event."""


def resend(records: Iterable[AuditRecord], outbox: Outbox) -> Iterator[Sent]:
    """Send the decision event of each record.

    Yields:
        After each batch what was done so far, and once more at the end.

    Raises:
        AuditError: the endpoint did not take them; the message says how many it has.
    """
    arrived = undecided = 0
    for record in records:
        outcome = outcome_of(record)
        if outcome is None:
            undecided += 1
            continue
        _emit(record, outcome, outbox)
        if len(outbox) >= _BATCH:
            arrived += _sent(outbox, arrived)
            yield Sent(arrived, undecided)
    arrived += _sent(outbox, arrived)
    yield Sent(arrived, undecided)


def outcome_of(record: AuditRecord) -> Outcome | None:
    """How a call was decided, as its decision event says it; None where it was not, or not yet."""
    status, answer = record.result_status, record.human_decision
    if record.mode == Mode.MONITOR.value:  # nothing was stopped, so the status does not tell
        if record.reason in _FAULTS:
            return Outcome.ERROR
        return Outcome.BLOCKED if record.approval == Approval.BLOCK.value else Outcome.ALLOWED
    if status == RecordStatus.PENDING.value or record.result_error == refusal.SKIPPED:
        return None
    if status == RecordStatus.BLOCKED.value:
        return Outcome.ERROR if record.reason in _FAULTS else Outcome.BLOCKED
    if answer == "expired" or record.reason == refusal.WITHDRAWN.cause:
        return Outcome.EXPIRED
    if answer == "denied" or status == RecordStatus.DENIED.value:
        return Outcome.DENIED
    return Outcome.APPROVED if answer == "approved" else Outcome.ALLOWED


def _emit(record: AuditRecord, outcome: Outcome, outbox: Outbox) -> None:
    resource = {"service.name": record.service or "unknown_service"}
    if record.host is not None:
        resource["host.name"] = record.host
    fault = record.reason if outcome is Outcome.ERROR else None
    attributes = {semconv.DECISION_RESENT: True} | of_decision(record, outcome, fault) | of_call(record)
    Events(outbox.provider(resource)).emit(
        semconv.EVENT_DECISION, risk(record), attributes, _span(record), _when(record)
    )


def _when(record: AuditRecord) -> int:
    """Unix time in nanoseconds at which the decision was final: after the answer where a human was asked."""
    return unix_ns(record.timestamp) + round((record.approval_wait_s or 0.0) * 1e6) * 1_000


def _span(record: AuditRecord) -> Context:
    """The context of the span that the event belonged to."""
    try:
        trace, span = int(record.trace_id or "0", 16), int(record.span_id or "0", 16)
    except ValueError:
        trace = span = 0
    known = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(known), Context())


def _sent(outbox: Outbox, before: int) -> int:
    waiting = len(outbox)
    arrived = outbox.send()
    if arrived < waiting:
        raise AuditError(
            f"the endpoint did not take a batch of {waiting} decisions; {before} arrived before it: "
            "see that it is up and lets you in; then send again, with `--missing-from` or a later `--since`"
        )
    return arrived
