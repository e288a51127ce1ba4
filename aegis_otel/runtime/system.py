"""Implement the governor's `System` port: the real clock, ids and facts of the process."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar
from urllib.parse import unquote

from aegis_otel.redaction.redactor import redact_name
from aegis_otel.runtime.threads import Threads
from aegis_otel.state.lazy_state import settle_last

T = TypeVar("T")
_background = Threads("aegis-background", 1, linger_s=1.0)
_large_arguments = Threads("aegis-arguments", 4, linger_s=1.0)
# More than a state does at once, because those that wait for one series must not hold up all others.
_state = Threads("aegis-state", 8, linger_s=1.0)
_FINISH_S = 3.0
"""Seconds for which the end of the process waits until what was given to the background is done."""
_log = logging.getLogger("aegis_otel")


def _service_name() -> str | None:
    """Return `service.name` as OpenTelemetry reads it: OTEL_SERVICE_NAME, else OTEL_RESOURCE_ATTRIBUTES."""
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        return name
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return unquote(value.strip())
    return None


class RealSystem:
    """Time, ids and facts of this process."""

    def __init__(self) -> None:
        self.host: str = redact_name(socket.gethostname())
        service = _service_name()
        self.service: str | None = None if service is None else redact_name(service)

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.perf_counter)
    pid = staticmethod(os.getpid)

    @staticmethod
    def off_loop(work: Callable[[], T]) -> Awaitable[T]:
        """Run `work` in one of four threads of ours: the program's own cannot keep it waiting."""
        return _large_arguments.run(work)

    @staticmethod
    def with_state(work: Callable[[], T]) -> Awaitable[T]:
        """Run `work` in one of eight threads: a state that does not answer keeps nothing else waiting."""
        return _state.run(work)

    @staticmethod
    def in_state_thread(work: Callable[[], None]) -> Future[None]:
        """Run `work` in one of these threads, for code that does not wait for it."""
        return _state.submit(work)

    @staticmethod
    def in_background(work: Callable[[], None]) -> Future[None]:
        """Run `work` in the one thread for this, after what was given to it before."""
        return _background.submit(work)

    @staticmethod
    def new_id() -> str:
        """Return a UUIDv7 (RFC 9562): milliseconds first, so ids sort by time; the rest is random."""
        moment, random = f"{RealSystem.now_ns() // 1_000_000:012x}", os.urandom(10).hex()
        variant = "89ab"[int(random[3], 16) & 3]
        return f"{moment[:8]}-{moment[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def _finish_background() -> None:
    """Do what is left to do, such as to keep how the last calls ended: else the threads just stop."""
    if not _background.finish(_FINISH_S):
        _log.error(
            "how the last calls of this process ended is not known to later calls: it could not be kept "
            "within %g seconds, and the process ends",
            _FINISH_S,
        )
    settle_last()  # what could not be kept so far, as the state was out of reach


atexit.register(_finish_background)
