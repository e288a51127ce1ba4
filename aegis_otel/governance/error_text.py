"""Describe exceptions of other people's code in text that may leave the process: bounded and redacted."""

from __future__ import annotations

import traceback

from aegis_otel.audit.record import CUT
from aegis_otel.redaction.redactor import redact_name, redact_text

_LONGEST = 2_000
_LONGEST_KIND = 200
READ = 8_192
"""Characters that are redacted before what is kept is cut off, so that no secret is cut in two and missed.

Redacting as many takes less than ten milliseconds whatever they are, and the event loop waits for it."""


def safe_text(text: str) -> str:
    """Return the beginning of `text`, redacted."""
    return redact_text(text[:READ])[:_LONGEST]


def safe_description(text: str) -> str:
    """Return the beginning of a server's description of its tool, redacted, with how much is missing."""
    if len(text) <= _LONGEST:
        return redact_text(text)
    return f"{safe_text(text)}{CUT} {len(text):,} characters in all]"


def describe(error: BaseException) -> str:
    """Return `TypeName: message`; only the type where the exception's own `__str__` raises."""
    try:
        return safe_text(f"{type(error).__name__}: {error}")
    except Exception:
        return error_type(type(error))


def traced(error: BaseException) -> str:
    """Describe an error and where it was raised, one frame a line, for logs."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    places = "".join(f"\n  at {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    return describe(error) + redact_text(places[:READ])


def error_type(kind: type[BaseException]) -> str:
    """Return the `error.type` of an exception: its class, never its message."""
    return redact_name(kind.__qualname__[:READ])[:_LONGEST_KIND]
