"""A probe: one event that is no decision, sent to see whether events arrive."""

from __future__ import annotations

from opentelemetry.context import Context

from aegis_otel import semconv
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.outbox import Outbox


def send_probe(outbox: Outbox, decision_id: str) -> bool:
    """Send an event with this id, and say whether the endpoint took it."""
    events = Events(outbox.provider({"service.name": semconv.SCOPE}))
    events.emit(semconv.EVENT_PROBE, "INFO", {semconv.DECISION_ID: decision_id}, Context())
    return outbox.send() == 1
