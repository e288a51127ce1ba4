"""Implement the governor's `System` port: the real clock, ids and facts of the process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import unquote

from aegis_otel.redaction.redactor import redact_name
from aegis_otel.runtime.threads import Threads

T = TypeVar("T")
_large_arguments = Threads("aegis-arguments", 4, linger_s=1.0)


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
    def new_id() -> str:
        """Return a UUIDv7 (RFC 9562): milliseconds first, so ids sort by time; the rest is random."""
        moment, random = f"{RealSystem.now_ns() // 1_000_000:012x}", os.urandom(10).hex()
        variant = "89ab"[int(random[3], 16) & 3]
        return f"{moment[:8]}-{moment[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"
