"""Events: log records with a name and a timestamp, exported even where the span they belong to is not."""

from __future__ import annotations

from time import time_ns  # by its name, for a program may replace the module's clock

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger_provider
from opentelemetry.context import Context

from aegis_otel import semconv
from aegis_otel.semconv import __version__
from aegis_otel.telemetry.attributes import Attributes

_SEVERITIES = {risk: (SeverityNumber(number), text) for risk, (number, text) in semconv.SEVERITIES.items()}
_SEVERITIES |= {text: (number, text) for number, text in _SEVERITIES.values()}


class Events:
    """Emits events through the logger of one provider; the global provider when None."""

    def __init__(self, provider: LoggerProvider | None) -> None:
        self._logger = (provider or get_logger_provider()).get_logger(semconv.SCOPE, __version__)

    def takes(self, name: str, severity: str, context: Context) -> bool:
        """Return whether such an event goes anywhere: without a LoggerProvider it does not."""
        number = _SEVERITIES[severity][0]
        return self._logger.enabled(context=context, severity_number=number, event_name=name)

    def emit(self, name: str, severity: str, attributes: Attributes, context: Context) -> None:
        """Emit one event now, where it goes anywhere. See `send`."""
        if self.takes(name, severity, context):
            self.send(name, severity, attributes, context, time_ns())

    def send(
        self, name: str, severity: str, attributes: Attributes, context: Context, timestamp: int
    ) -> None:
        """Send one event, which `takes` has accepted.

        Args:
            name: Its name, from `semconv`.
            severity: A risk level, or one of the severity texts of `semconv.SEVERITIES`.
            attributes: Its attributes, which are copied.
            context: The context whose span it is correlated with.
            timestamp: Unix time in nanoseconds.
        """
        number, text = _SEVERITIES[severity]
        self._logger.emit(
            LogRecord(
                timestamp=timestamp,
                observed_timestamp=timestamp,
                context=context,
                severity_number=number,
                severity_text=text,
                attributes=attributes,
                event_name=name,
            )
        )
