"""Metrics brought out early, off the caller's path: a CRITICAL must not wait for the next export interval."""

from __future__ import annotations

import logging
import os
import threading
import time

from opentelemetry.metrics import MeterProvider

_log = logging.getLogger("aegis_otel")

PAUSE = 5.0
"""Seconds between two flushes; what is asked for in between is one flush at the end of them."""


class Flusher:
    """Flushes meter providers from one short-lived daemon thread, which exists only while there is work."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._begin_again()

    def _begin_again(self) -> None:
        """Threads do not survive a fork."""
        self._lock = threading.Lock()
        self._wanted: set[MeterProvider] = set()
        self._running = False
        self._not_before = 0.0

    def request(self, provider: MeterProvider) -> None:
        """Have `provider` flushed soon. Without an SDK there is nothing to flush, and nothing is done."""
        if not hasattr(provider, "force_flush"):
            return
        with self._lock:
            self._wanted.add(provider)
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._run, name="aegis-flush", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down, and the SDK's own exit handler flushes
            self._running = False

    def _run(self) -> None:
        while True:
            time.sleep(max(0.0, self._not_before - time.monotonic()))
            with self._lock:
                wanted, self._wanted = self._wanted, set()
            for provider in wanted:
                try:
                    provider.force_flush()  # type: ignore[attr-defined]
                except Exception:
                    _log.debug("metrics could not be flushed", exc_info=True)
            self._not_before = time.monotonic() + self._pause
            with self._lock:
                if not self._wanted:
                    self._running = False
                    return


flusher = Flusher()
"""One for the process: the pause holds for all recorders together."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=flusher._begin_again)
