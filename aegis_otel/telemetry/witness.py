"""Seals as events, from a process that tells nothing else: the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry._logs import get_logger_provider
from opentelemetry.context import get_current

from aegis_otel import semconv
from aegis_otel.telemetry.attributes import Sealed, of_seal
from aegis_otel.telemetry.events import Events
from aegis_otel.telemetry.otlp import configure_otlp

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
