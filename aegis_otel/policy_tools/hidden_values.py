"""Tell what the audit does not have of a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from aegis_otel.audit.record import CUT
from aegis_otel.policy.rules import ParamTest
from aegis_otel.redaction.masks import MASK_BEGINNING
from aegis_otel.redaction.serialize import TAG

_ESCAPED = "\\ud"
"""How a lone surrogate begins in a recorded name, which then is not the name that was judged."""


def is_hidden(value: object) -> bool:
    """Return whether a part of a value is not in the audit because it was redacted or cut."""
    text = json.dumps(value) if isinstance(value, str | dict | list) else ""
    return MASK_BEGINNING in text or CUT in text


def hides(value: Any) -> bool:
    """Return whether a part of a recorded value is not what was judged: redacted, cut, or no JSON value."""
    return is_marked(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def is_marked(text: str) -> bool:
    """Return whether a JSON text has a mark of what is not in it."""
    return MASK_BEGINNING in text or CUT in text or f'"{TAG}"' in text


@lru_cache(1_000)
def is_name_hidden(name: str | None) -> bool:
    """Return whether a recorded name is not the one that was judged."""
    if name is None:
        return False
    return is_marked(name) or _ESCAPED in name or (name.startswith("<") and name.endswith(">"))


def looks_at_hidden(spec: ParamTest, params: Mapping[str, Any]) -> bool:
    """Return whether a condition looks at what is hidden."""
    if not spec.keys:
        return _has_hidden_key(params) or bool(spec.steps)
    if spec.plain_path in params and hides(params[spec.plain_path]):
        return True
    value: Any = params
    for key in spec.keys:
        if not isinstance(value, dict):
            break
        if _has_hidden_key(value):
            return True
        if key not in value:
            return False
        value = value[key]
    return hides(value)


def _has_hidden_key(params: Mapping[str, Any]) -> bool:
    return TAG in params or any(MASK_BEGINNING in key or CUT in key for key in params)
