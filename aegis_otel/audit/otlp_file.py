"""Events in the files of an OpenTelemetry Collector: what its file exporter writes as OTLP/JSON.

A line holds a batch, with records of any kind. Lines are read one at a time, and what is not asked for is
passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.location import failure

Attributes = dict[str, str | int]
"""Those that are texts or integers, by name."""

_LONGEST = 64 << 20
"""Bytes of a line; a longer one is passed over, and said."""


def read_events(
    path: Path, name: str, tell: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[int, Attributes | None]]:
    """The events of a name in a file, each with the number of its line, from 1.

    Args:
        path: The file.
        name: The event's.
        tell: Told of the bytes that were read.

    Yields:
        The attributes of an event; None for a line that is no OTLP/JSON, or is cut off.

    Raises:
        AuditError: the file cannot be read.
    """
    try:
        with files.open_given(path) as file:
            for number, line in enumerate(_lines(file, tell), 1):
                events = None if line is None else _events(line, name)
                if events is None:
                    yield number, None
                for event in events or ():
                    yield number, _attributes(event)
    except OSError as error:
        raise failure("read", path, error, "give a file of the collector's") from error


def _lines(file: BinaryIO, tell: Callable[[int], object]) -> Iterator[bytes | None]:
    while line := file.readline(_LONGEST):
        tell(len(line))
        if len(line) < _LONGEST or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_LONGEST)
            tell(len(line))
        yield None


def _events(line: bytes, name: str) -> Iterator[dict[str, Any]] | None:
    if name.encode() not in line and line.lstrip().startswith(b"{") and line.endswith(b"\n"):
        return iter(())
    try:
        batch = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return (
        record
        for resource in _list(batch, "resourceLogs")
        for scope in _list(resource, "scopeLogs")
        for record in _list(scope, "logRecords")
        if isinstance(record, dict) and record.get("eventName") == name
    )


def _attributes(record: dict[str, Any]) -> Attributes:
    """OTLP/JSON writes 64-bit integers as texts."""
    found: Attributes = {}
    for pair in _list(record, "attributes"):
        value = pair.get("value") if isinstance(pair, dict) else None
        if not isinstance(value, dict) or not isinstance(key := pair.get("key"), str):
            continue
        if isinstance(text := value.get("stringValue"), str):
            found[key] = text
        elif isinstance(number := value.get("intValue"), int | str) and str(number).isdecimal():
            found[key] = int(str(number)[:20])
    return found


def _list(holder: Any, key: str) -> list[Any]:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []
