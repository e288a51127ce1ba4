"""Redaction whose masks do not say how much they hide, so that expectations need not count characters."""

from __future__ import annotations

import re
from typing import Any

from aegis_otel.redaction import redactor
from aegis_otel.redaction.redactor import REDACTED

SIZED = re.compile(r"\[REDACTED (?:object |list )?\d+ chars\]")


def redact(plain: Any) -> Any:
    """What leaves, with masks that do not say how much they hide."""
    return unsized(redactor.redact(plain), plain)


def redact_text(text: str) -> str:
    return SIZED.sub(REDACTED, redactor.redact_text(text))


def unsized(value: Any, plain: Any = None) -> Any:
    if value is plain:
        return value
    if isinstance(value, str):
        return SIZED.sub(REDACTED, value)
    if isinstance(value, list):
        return [unsized(item) for item in value]
    return {unsized(key): unsized(item) for key, item in value.items()} if isinstance(value, dict) else value
