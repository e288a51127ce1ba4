"""Events from the command line: decisions out of audit records, seals, and a probe.

A backend that lost decision events can be sent them again. An event has its decision's id and time, so that
one sent twice is not counted as two decisions, and `aegis.decision.resent`; else it is as the agent's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry._logs import get_logger_provider
from opentelemetry.context import Context, get_current
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord
from aegis_otel.config import USER_ON_SIGNALS
from aegis_otel.errors import AuditError
from aegis_otel.governance.recording import unix_ns
from aegis_otel.model import Outcome
from aegis_otel.telemetry.attributes import (
    Attributes,
    call_attributes,
    decision_attributes,
    risk,
    seal_attributes,
    user_attributes,
)
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.export_setup import set_up_export
from aegis_otel.telemetry.outbox import Outbox

if TYPE_CHECKING:
    from aegis_otel.audit.seals.seal_log import Seal

_BATCH = 500
_FLUSH_MS = 10_000
_OUTCOMES = frozenset(Outcome)


def send_probe(outbox: Outbox, decision_id: str) -> bool:
    """Send a probe with this id, which is not a decision; return whether the endpoint took it."""
    events = Events(outbox.provider({"service.name": semconv.SCOPE}))
    events.emit(semconv.EVENT_PROBE, "INFO", {semconv.DECISION_ID: decision_id}, Context())
    return outbox.send() == 1


def send_seals(seals: Iterable[Seal]) -> bool:
    """Send the event of each seal over OTLP; return False where no endpoint for logs is set.

    Raises:
        ConfigError: an `OTEL_*` variable has a value that cannot work.
    """
    if "logs" not in set_up_export():
        return False
    events = Events(None)
    for seal in seals:
        events.emit(semconv.EVENT_AUDIT_SEALED, "INFO", seal_attributes(seal), get_current())
    provider: Any = get_logger_provider()  # the SDK's, which was just installed
    provider.force_flush(_FLUSH_MS)
    return True


class Sent(NamedTuple):
    """How many records have been dealt with so far."""

    arrived: int
    undecided: int
    """Calls that wait for a human, or were never decided on: they have no decision event."""


def resend(records: Iterable[AuditRecord], outbox: Outbox) -> Iterator[Sent]:
    """Send the decision event of each record.

    Args:
        records: Rows of the audit.
        outbox: Where the events go.

    Yields:
        After each batch what was done so far, and once more at the end.

    Raises:
        AuditError: the endpoint did not take them; the message says how many it has.
    """
    on_signals = USER_ON_SIGNALS.value()
    arrived = undecided = 0
    for record in records:
        outcome = outcome_of(record)
        if outcome is None:
            undecided += 1
            continue
        _emit(record, outcome, outbox, user_attributes(record, on_signals))
        if len(outbox) >= _BATCH:
            arrived += _send_batch(outbox, arrived)
            yield Sent(arrived, undecided)
    arrived += _send_batch(outbox, arrived)
    yield Sent(arrived, undecided)


def outcome_of(record: AuditRecord) -> Outcome | None:
    """Return how a call was decided, as its decision event says it; None where it was not, or not yet."""
    return Outcome(record.outcome) if record.outcome in _OUTCOMES else None


def _emit(record: AuditRecord, outcome: Outcome, outbox: Outbox, user: Attributes) -> None:
    resource = {"service.name": record.service or "unknown_service"}
    if record.host is not None:
        resource["host.name"] = record.host
    fault = record.reason if outcome is Outcome.ERROR else None
    attributes = {
        semconv.DECISION_RESENT: True,
        **decision_attributes(record, outcome, fault, call_attributes(record, user)),
    }
    # The decision was final after the answer, where a human was asked.
    when = unix_ns(record.timestamp) + round((record.approval_wait_s or 0.0) * 1e6) * 1_000
    events = Events(outbox.provider(resource))
    events.send(semconv.EVENT_DECISION, risk(record), attributes, _span_context(record), when)


def _span_context(record: AuditRecord) -> Context:
    """Return the context of the span that the event belonged to."""
    try:
        trace, span = int(record.trace_id or "0", 16), int(record.span_id or "0", 16)
    except ValueError:
        trace = span = 0
    ids = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(ids), Context())


def _send_batch(outbox: Outbox, before: int) -> int:
    waiting = len(outbox)
    arrived = outbox.send()
    if arrived < waiting:
        raise AuditError(
            f"the endpoint did not take a batch of {waiting} decisions; {before} arrived before it: "
            "see that it is up and lets you in; then send again, with `--missing-from` or a later `--since`"
        )
    return arrived
