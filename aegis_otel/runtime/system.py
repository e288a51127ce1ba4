"""The real clock, ids and process facts behind the governor's `System` port."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import unquote


_MARKS = 0x7 << 76 | 0x2 << 62
_RANDOM = (1 << 76) - 1 & ~(0x3 << 62)


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
        random = int.from_bytes(os.urandom(10)) & _RANDOM | _MARKS
        text = f"{time.time_ns() // 1_000_000 << 80 | random:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
