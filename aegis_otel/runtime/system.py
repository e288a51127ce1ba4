"""The real clock, ids and process facts behind the governor's `System` port."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import unquote


def _service_name() -> str | None:
    """`service.name` as OpenTelemetry reads it: OTEL_SERVICE_NAME, else OTEL_RESOURCE_ATTRIBUTES."""
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
        self.host: str = socket.gethostname()
        self.service: str | None = _service_name()

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.perf_counter)
    pid = staticmethod(os.getpid)

    @staticmethod
    def new_id() -> str:
        """A UUIDv7 (RFC 9562): milliseconds first, so ids sort by time; the rest is random."""
        moment, random = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
        variant = "89ab"[int(random[3], 16) & 3]
        return f"{moment[:8]}-{moment[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"
