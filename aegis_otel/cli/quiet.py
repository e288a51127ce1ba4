"""What OpenTelemetry's exporters log while a command sends: kept, in place of lines on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exporters_quiet() -> Iterator[list[str]]:
    """Gives what they said so far, oldest first, without the full stops of sentences."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().rstrip(". "))

    logger, keep = logging.getLogger("opentelemetry"), Keep()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(keep)
    try:
        yield said
    finally:
        logger.removeHandler(keep)
        logger.propagate = before
