"""Metrics brought out early, off the caller's path: a CRITICAL must not wait for the next export interval."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time

from opentelemetry.metrics import MeterProvider

_log = logging.getLogger("aegis_otel")

PAUSE = 5.0
"""Seconds between two flushes; what is asked for in between is one flush at the end of them."""
_EXIT_PATIENCE = 2.0
"""Seconds the exit of the process waits for a flush under way, before the SDK closes its connection."""


class Flusher:
    """Flushes meter providers from one short-lived daemon thread, which exists only while there is work."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._begin_again()
        self._at_exit = False

    def _begin_again(self) -> None:
        """Threads do not survive a fork."""
        self._lock = threading.Lock()
        self._wanted: set[MeterProvider] = set()
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._exiting = threading.Event()

    def request(self, provider: MeterProvider) -> None:
        """Have `provider` flushed soon. Without an SDK there is nothing to flush, and nothing is done."""
        if not hasattr(provider, "force_flush") or self._exiting.is_set():
            return
        with self._lock:
            self._wanted.add(provider)
            if self._thread is not None:
                return
            if not self._at_exit:  # after the provider's own handler was registered, so before it is called
                self._at_exit = True
                atexit.register(self._finish)
            thread = threading.Thread(target=self._run, name="aegis-flush", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had: the next export interval brings it out
                return
            self._thread = thread

    def _run(self) -> None:
        while not self._exiting.wait(max(0.0, self._not_before - time.monotonic())):
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
                    self._thread = None
                    return

    def _finish(self) -> None:
        """The process ends: what is still wanted, the SDK sends when it shuts down."""
        self._exiting.set()
        thread = self._thread
        if thread is not None:
            thread.join(_EXIT_PATIENCE)


flusher = Flusher()
"""One for the process: the pause holds for all recorders together."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=flusher._begin_again)
