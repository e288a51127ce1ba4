"""Events: log records with a name and a timestamp, exported even where the span they belong to is not."""

from __future__ import annotations

from time import time_ns  # not by its module, whose clock a program may replace

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger_provider
from opentelemetry.context import Context

from aegis_otel import semconv
from aegis_otel.telemetry.attributes import Attributes
from aegis_otel.version import __version__

_SEVERITIES = {risk: (SeverityNumber(number), text) for risk, (number, text) in semconv.SEVERITIES.items()}
_SEVERITIES |= {text: (number, text) for number, text in _SEVERITIES.values()}


class Events:
    """Emits the events of one recorder."""

    def __init__(self, provider: LoggerProvider | None) -> None:
        self._logger = (provider or get_logger_provider()).get_logger(semconv.SCOPE, __version__)

    def emit(
        self,
        name: str,
        severity: str,
        attributes: Attributes,
        context: Context,
        timestamp: int | None = None,
    ) -> None:
        """Emit one event.

        Args:
            name: Its name, from `semconv`.
            severity: A risk level, or one of the severity texts of `semconv.SEVERITIES`.
            attributes: Not kept.
            context: Whose span it is correlated with.
            timestamp: Unix time in nanoseconds; now when None.
        """
        number, text = _SEVERITIES[severity]
        if self._logger.enabled(context=context, severity_number=number, event_name=name):
            now = timestamp or time_ns()
            self._logger.emit(
                LogRecord(
                    timestamp=now,
                    observed_timestamp=now,
                    context=context,
                    severity_number=number,
                    severity_text=text,
                    attributes=attributes,
                    event_name=name,
                )
            )
