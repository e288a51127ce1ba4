"""Exceptions of other people's code as text that may leave: total, bounded and redacted."""

from __future__ import annotations

import traceback

from aegis_otel.redaction import redact_name, redact_text

_LONGEST = 2_000
_LONGEST_KIND = 200
_READ = 65_536
"""Characters that are redacted before what is kept is cut off, so that no secret is cut in two and missed."""


def safe_text(text: str) -> str:
    """The beginning of `text`, redacted."""
    return redact_text(text[:_READ])[:_LONGEST]


def describe(error: BaseException) -> str:
    """`TypeName: message`. An exception whose own `__str__` raises is only named."""
    try:
        return safe_text(f"{type(error).__name__}: {error}")
    except Exception:
        return error_type(type(error))


def traced(error: BaseException) -> str:
    """Describe an error and where it was raised, one frame a line, for logs."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    places = "".join(f"\n  at {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    return describe(error) + redact_text(places[:_READ])


def error_type(kind: type[BaseException]) -> str:
    """`error.type` of an exception: its class, never its message."""
    return redact_name(kind.__qualname__[:_READ])[:_LONGEST_KIND]
