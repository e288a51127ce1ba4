"""What the body will see where the model said nothing: the defaults of a tool's schema, at every depth."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_MAX_DEPTH = 32
"""Of nested values; what is nested deeper keeps what the model sent."""


def fill_defaults(value: Any, schema: Any, root: Mapping[str, Any]) -> None:
    """Put the defaults of `schema` into `value`, in place, where it leaves them out.

    Of alternatives (`anyOf`, `oneOf`) those count that the value fits: by `type`, `required`, and the
    `const` and `enum` of its fields; all of them, where it fits none. If those that are left have different
    defaults for a name, nobody can tell what the body will see: it is filled with null. A condition on a
    null is unknown, which counts against the call, unless the schema allows null there.

    Args:
        value: Parsed arguments, or a part of them.
        schema: JSON Schema of `value`.
        root: The whole schema, for `$ref`.
    """
    _fill(value, [schema], root, 0)


def _fill(value: Any, schemas: list[Any], root: Mapping[str, Any], depth: int) -> None:
    if depth > _MAX_DEPTH or not isinstance(value, (dict, list)):
        return
    parts = _parts_for(value, schemas, root)
    if isinstance(value, list):
        for item in value:
            _fill(item, [part.get("items") for part in parts], root, depth + 1)
        return
    fields: dict[str, list[Any]] = {}
    for part in parts:
        for name, inner in _mapping(part.get("properties")).items():
            fields.setdefault(name, []).append(inner)
    for name, inners in fields.items():
        if name not in value:
            defaults = {json.dumps(each, sort_keys=True): each for each in _defaults(inners, root)}
            if defaults:
                value[name] = copy.deepcopy(defaults.popitem()[1]) if len(defaults) == 1 else None
        if name in value:
            _fill(value[name], inners, root, depth + 1)


def _parts_for(value: Any, schemas: list[Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas, and whatever of what they are composed of may be true of `value`."""
    found: dict[int, Mapping[str, Any]] = {}  # by id: a schema may refer to itself
    waiting = list(schemas)
    while waiting:
        for part in _joined(waiting.pop(0), root):
            if id(part) in found:
                continue
            found[id(part)] = part
            for options in _choices(part):
                waiting += [each for each in options if _fits(value, each, root)] or options
    return list(found.values())


def _joined(schema: Any, root: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The schema, and what must be true with it."""
    found: dict[int, Mapping[str, Any]] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, Mapping) or id(part) in found:
            continue
        found[id(part)] = part
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            target: Any = root
            for step in reference[2:].split("/"):
                target = _mapping(target).get(step)
            waiting.append(target)
        waiting += _list(part.get("allOf"))
    return found.values()


def _choices(part: Mapping[str, Any]) -> Iterator[list[Any]]:
    return (_list(part.get(keyword)) for keyword in ("anyOf", "oneOf"))


def _fits(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether a list or an object may be what `schema` means; the body may convert the rest."""
    kind = "object" if isinstance(value, dict) else "array"
    for part in _joined(schema, root):
        kinds = part.get("type", kind)
        if kind != kinds and kind not in _list(kinds):
            return False
        if isinstance(value, list):
            continue
        if any(name not in value for name in _list(part.get("required"))):
            return False
        fields = _mapping(part.get("properties")).items()
        if not all(_allows(inner, value[name], root) for name, inner in fields if name in value):
            return False
    return True


def _allows(schema: Any, value: Any, root: Mapping[str, Any]) -> bool:
    return all(
        value == part.get("const", value) and ("enum" not in part or value in _list(part["enum"]))
        for part in _joined(schema, root)
    )


def _defaults(schemas: Iterable[Any], root: Mapping[str, Any]) -> Iterator[Any]:
    """What may be filled in: a schema's own default comes before those of its parts."""
    seen: set[int] = set()
    waiting = list(schemas)
    while waiting:
        parts = list(_joined(waiting.pop(0), root))
        own = next((part for part in parts if "default" in part), None)
        if own is not None:
            yield own["default"]
            continue
        for part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                waiting += [option for options in _choices(part) for option in options]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
