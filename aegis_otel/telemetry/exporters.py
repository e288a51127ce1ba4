"""Watch the exporters of `configure_otlp`: log one line for an endpoint that is gone, and bound the exit."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from aegis_otel.redaction.redactor import redact_text

_log = logging.getLogger("aegis_otel.signals")

EXIT_PATIENCE_S = 3.0
"""Seconds in which what is buffered is sent when the interpreter exits."""
_ABORT_PATIENCE_S = 0.5
_CAUSE_CHARS = 600
"""Characters of the cause that the exporter gives: room for what an SSL error says at its end."""
_GRPC_LOGGER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
CAUSE_LOGGER = "opentelemetry.exporter.aegis_otel"
"""The logger of causes why a request failed: below `opentelemetry`, as what the exporters say."""
_WORDS = {"traces": "spans", "logs": "log records", "metrics": "collections of metrics"}


class _Exporting(threading.local):
    """Whether a watched exporter runs in this thread, and the first message of its library on the batch."""

    is_watched = False
    cause = ""


_exporting = _Exporting()


class ExportWatch:
    """Watches the exporters of one `configure_otlp`, and counts what they lose."""

    def __init__(self) -> None:
        self._exporters: list[Any] = []
        self._providers: list[Any] = []
        self._failing: set[str] = set()
        self._lost: dict[str, int] = {}
        self._lock = threading.Lock()

    def watch(self, exporter: Any, signal: str, variable: str, endpoint: str) -> None:
        """Count what `exporter` loses, and say once for an endpoint that it does not answer."""
        export, place = exporter.export, f"{_without_password(endpoint)} ({variable})"

        def watched(batch: Any, *args: Any, **kwargs: Any) -> Any:
            _exporting.is_watched, _exporting.cause = True, ""
            try:
                result = export(batch, *args, **kwargs)
            finally:
                _exporting.is_watched = False
            if getattr(result, "name", "") != "SUCCESS":
                self._count_loss(signal, place, len(batch) if isinstance(batch, Sequence) else 1)
            return result

        exporter.export = watched
        self._exporters.append(exporter)
        for name in (type(exporter).__module__, _GRPC_LOGGER, CAUSE_LOGGER):
            logging.getLogger(name).addFilter(_is_shown)

    def finish_at_exit(self, providers: Iterable[Any]) -> None:
        """Shut `providers` down when the interpreter exits, in a time that is bounded."""
        self._providers = list(providers)
        atexit.register(self._finish)

    def _count_loss(self, signal: str, place: str, count: int) -> None:
        with self._lock:
            first = place not in self._failing
            self._failing.add(place)
            self._lost[signal] = self._lost.get(signal, 0) + count
        if first:
            _log.warning(
                "signals do not reach %s: see that a collector is there and lets you in; calls go on%s",
                place,
                f" ({_exporting.cause})" if _exporting.cause else "",
            )

    def _finish(self) -> None:
        threads = [threading.Thread(target=_shut_down, args=(each,), daemon=True) for each in self._providers]
        for thread in threads:
            thread.start()
        _join(threads, EXIT_PATIENCE_S)
        late = any(thread.is_alive() for thread in threads)
        if late:
            for exporter in self._exporters:
                exporter.shutdown()  # wakes what waits to try again
            _join(threads, _ABORT_PATIENCE_S)
        if self._lost or late:
            lost = ", ".join(f"{count} {_WORDS[signal]}" for signal, count in sorted(self._lost.items()))
            _log.warning(
                "signals were lost at the end: %s; the audit has every decision (`aegis audit resend`)",
                lost or f"what was not sent in {EXIT_PATIENCE_S:g} s",
            )


def http_session() -> Any:
    """Return a session for an HTTP exporter that logs the cause of every request that has no answer.

    The exporter (1.45) says the cause only before an attempt that it repeats. Where the time left is shorter
    than its next pause it gives up at once, with "due to timeout, max retries or shutdown" and nothing else.
    """
    import requests  # noqa: PLC0415 - the exporter loads it, and who exports nothing does without

    class CauseSession(requests.Session):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            try:
                return super().send(request, **kwargs)
            except requests.RequestException as error:
                logging.getLogger(CAUSE_LOGGER).warning("%s", error)
                raise

    return CauseSession()


def _shut_down(provider: Any) -> None:
    _exporting.is_watched = True
    provider.shutdown()


def _join(threads: Iterable[threading.Thread], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _is_shown(record: logging.LogRecord) -> bool:
    """Return whether a line of the exporters' library is shown: not what `ExportWatch` says in one line."""
    if not _exporting.is_watched:
        return True
    message = redact_text(record.getMessage())
    _log.debug("%s", message)
    if not _exporting.cause:
        # The first word of the library on a batch has the cause: the status of an answer, or what a
        # certificate lacks. The last, after all attempts, may only say that time was up.
        _exporting.cause = message if len(message) <= _CAUSE_CHARS else f"{message[:_CAUSE_CHARS]}..."
    return False


def _without_password(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    return endpoint.replace(parts.netloc, host, 1) if parts.netloc else endpoint
