"""What the body will see where the model said nothing: the defaults of a tool's schema, at every depth."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_DEPTH = 32
"""Of nested schemas; what is nested deeper keeps what the model sent."""


def fill_defaults(value: Any, schema: Any, root: Mapping[str, Any], depth: int = 0) -> None:
    """Put the defaults of `schema` into `value`, in place, where it leaves them out.

    Args:
        value: Parsed arguments, or a part of them.
        schema: JSON Schema of `value`.
        root: The whole schema, for `$ref`.
    """
    if depth > _MAX_DEPTH or not isinstance(value, (dict, list)):
        return
    for branch in _branches(schema, root, 0):
        if isinstance(value, list):
            for item in value:
                fill_defaults(item, branch.get("items"), root, depth + 1)
            continue
        for name, inner in _mapping(branch.get("properties")).items():
            if name not in value:
                for option in _branches(inner, root, 0):
                    if "default" in option:
                        value[name] = copy.deepcopy(option["default"])
                        break
            if name in value:
                fill_defaults(value[name], inner, root, depth + 1)


def _branches(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """The schema itself, and whatever it refers to or is composed of."""
    if depth > _MAX_DEPTH or not isinstance(schema, Mapping):
        return
    yield schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for step in reference[2:].split("/"):
            found = _mapping(found).get(step)
        yield from _branches(found, root, depth + 1)
    for composed in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(composed) or ():
            yield from _branches(part, root, depth + 1)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
