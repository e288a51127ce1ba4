"""Tell what the audit does not have of a value."""

from __future__ import annotations

import json

from aegis_otel.audit.record import CUT
from aegis_otel.redaction.masks import MASK_BEGINNING


def is_hidden(value: object) -> bool:
    """Return whether a part of a value is not in the audit because it was redacted or cut."""
    text = json.dumps(value) if isinstance(value, str | dict | list) else ""
    return MASK_BEGINNING in text or CUT in text
