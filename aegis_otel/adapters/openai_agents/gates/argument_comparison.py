"""Compare readings of arguments: whether two are the same, and why readers could differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegis_otel.policy.json_text import Ambiguous, Doubt


def same(validated: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Return whether validation left the arguments as they were; null is what is not there."""
    left = len(validated)
    for name, value in sent.items():
        if value is None:
            if name in validated:
                return False
            continue
        if name not in validated or not _same(validated[name], value):
            return False
        left -= 1
    return left == 0


def _same(validated: Any, sent: Any) -> bool:
    kind = type(validated)
    if kind is type(sent) and kind in (str, int, bool):
        return bool(validated == sent)
    if kind in (int, float) and type(sent) in (int, float):
        return bool(validated == sent)
    if isinstance(validated, dict) and isinstance(sent, dict):
        return same(validated, sent)
    if isinstance(validated, tuple) and isinstance(sent, list):
        return len(validated) == len(sent) and all(map(_same, validated, sent))
    return validated is None and sent is None


def reason_of(error: Ambiguous) -> str:
    """Return why no condition can be answered on arguments that readers may understand differently."""
    reads = "can read" if error.doubt is Doubt.TWICE else "reads"
    return f"the arguments have {error.doubt.value}, and the tool {reads} them itself"
