"""What parsed arguments come to: whether two readings of them are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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


def has_duplicates(arguments: str) -> bool:
    """Return whether an object in `arguments` has a key more than once: parsers differ on which counts."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len(dict(pairs)) < len(pairs)

    json.loads(arguments, object_pairs_hook=look) if arguments else None
    return found
