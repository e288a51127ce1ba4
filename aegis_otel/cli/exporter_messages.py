"""Keep what OpenTelemetry's exporters log while a command sends, so that the command can say it once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class ExporterMessages(logging.Handler):
    """Keep why the last request failed, or else the last message of an exporter."""

    def __init__(self) -> None:
        super().__init__()
        self._cause = self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        # Where exporters log it is loaded already, and `aegis --help` must not load it.
        from aegis_otel.telemetry.exporters import CAUSE_LOGGER

        message = record.getMessage().rstrip(". ")
        if record.name == CAUSE_LOGGER:
            self._cause = message
        else:
            self._last = message

    @property
    def why(self) -> str:
        """Return why sending failed, without a full stop; empty where nothing was logged."""
        return self._cause or self._last


@contextmanager
def exporters_quiet() -> Iterator[ExporterMessages]:
    """Keep the exporters' messages from the terminal."""
    logger, messages = logging.getLogger("opentelemetry"), ExporterMessages()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(messages)
    try:
        yield messages
    finally:
        logger.removeHandler(messages)
        logger.propagate = before
