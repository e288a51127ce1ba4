"""What OpenTelemetry's exporters log while a command sends: kept, in place of lines on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aegis_otel.telemetry.exporters import CAUSE_LOGGER


class ExporterWords(logging.Handler):
    """Keep why the last request failed, and else what the exporters said last."""

    def __init__(self) -> None:
        super().__init__()
        self._cause = self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage().rstrip(". ")
        if record.name == CAUSE_LOGGER:
            self._cause = said
        else:
            self._last = said

    @property
    def why(self) -> str:
        """Why sending failed, without the full stop of a sentence; empty where nothing was said."""
        return self._cause or self._last


@contextmanager
def exporters_quiet() -> Iterator[ExporterWords]:
    """Keep the exporters' lines from the terminal."""
    logger, words = logging.getLogger("opentelemetry"), ExporterWords()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(words)
    try:
        yield words
    finally:
        logger.removeHandler(words)
        logger.propagate = before
