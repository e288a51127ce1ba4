"""Log records that the command line sends itself, and knows to have arrived.

The SDK's batching drops the oldest where it is full, and does not report it; here nothing is dropped, and the
sender waits.
"""

from __future__ import annotations

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from typing_extensions import override


class Outbox(LogRecordProcessor):
    """Keeps what its providers emit until it is sent by `exporter`, whose retries and time limit hold."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        self._exporter = exporter
        self._waiting: list[ReadableLogRecord] = []
        self._providers: dict[tuple[tuple[str, str], ...], LoggerProvider] = {}

    def provider(self, resource: dict[str, str]) -> LoggerProvider:
        """Return a provider whose records are of this resource, and wait here."""
        key = tuple(sorted(resource.items()))
        if key not in self._providers:
            made = LoggerProvider(Resource(resource), shutdown_on_exit=False)
            made.add_log_record_processor(self)
            self._providers[key] = made
        return self._providers[key]

    def send(self) -> int:
        """Send all that waits, and return how much arrived: all of it or, where that failed, none."""
        waiting, self._waiting = self._waiting, []
        if waiting and self._exporter.export(waiting) is not LogRecordExportResult.SUCCESS:
            return 0
        return len(waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    @override
    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        assert log_record.resource is not None, "it has that of its provider"
        self._waiting.append(
            ReadableLogRecord(
                log_record.log_record,
                log_record.resource,
                log_record.instrumentation_scope,
                log_record.limits,
            )
        )

    @override
    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
