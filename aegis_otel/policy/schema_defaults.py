"""Fill in what the body sees where the model said nothing: the defaults of a schema, at every depth."""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aegis_otel.policy.tool_schema import FAILURES, Walk

_MAX_NODES = 6_000
"""The most nodes of a schema that is read once for a tool."""
_MAX_STEPS = 1_500
"""The most steps of filling in the defaults of one call: less than ten milliseconds."""
_PER_STEP = 50
"""Names that are compared in the time of one step."""
_MAX_DEPTH = 32
"""Nested values; what is nested deeper keeps what the model sent."""


def has_defaults(schema: object) -> bool:
    """Return whether the word `default` is a key anywhere in `schema`, or it is too large to tell."""
    waiting: list[object] = [schema]
    for _ in range(_MAX_NODES):
        if not waiting:
            return False
        node = waiting.pop()
        if isinstance(node, Mapping):
            if "default" in node:
                return True
            waiting += node.values()
        elif isinstance(node, (list, tuple)):
            waiting += node
    return True


_FLAT_ROOT = frozenset({"type", "properties", "required", "additionalProperties", "title", "description"})
_FLAT_FIELD = frozenset(
    {"type", "title", "description", "default", "examples", "format", "pattern", "enum", "const"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"}
)
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})


def flat_defaults(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the defaults of a schema whose properties are all plain scalars.

    Most tools have such a schema. What fills in its defaults is one loop over a dict that is made once, where
    `fill_defaults` walks the schema for every call.

    Returns:
        By name, in the order of the schema; None where the schema has to be walked.
    """
    properties = schema.get("properties")
    if not (schema.keys() <= _FLAT_ROOT and isinstance(properties, Mapping)):
        return None
    if schema.get("type") != "object" or not isinstance(schema.get("additionalProperties", False), bool):
        return None
    if len(properties) > _MAX_NODES or not all(map(_is_flat, properties.values())):
        return None
    return {name: field["default"] for name, field in properties.items() if "default" in field}


def _is_flat(field: object) -> bool:
    """Return whether a property is one scalar whose default, if any, is a scalar too."""
    if not isinstance(field, Mapping) or not field.keys() <= _FLAT_FIELD:
        return False
    kind, default = field.get("type"), field.get("default")
    return isinstance(kind, str) and kind in _SCALARS and isinstance(default, str | int | float | None)


def fill_defaults(params: dict[str, Any], schema: Mapping[str, Any]) -> bool:
    """Put the defaults of `schema` into `params`, in place and at every depth, where they are left out.

    Of alternatives (`anyOf`, `oneOf`) those count that the value fits: by `type`, `required`, and the
    `const` and `enum` of its fields; all of them, where it fits none. If those that are left have different
    defaults for a name, nobody can tell what the body will see: it is filled with null, or stays absent where
    null is a value of it. Either makes a condition on it unknown, which counts against the call.

    Returns:
        Whether all were filled in: False where the schema takes too many steps, or cannot be read.
    """
    fill = _Fill(schema)
    try:
        fill.run(params)
    except FAILURES:
        return False
    return True


class _Fill:
    """Fills in values, those at the top first, so that a limit is met as deep down as can be."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._walk = Walk(root, _MAX_STEPS)
        self._root = root
        self._waiting: deque[tuple[Any, list[Any], int]] = deque()

    def run(self, params: dict[str, Any]) -> None:
        self._wait(params, [self._root], 0)
        while self._waiting:
            value, schemas, depth = self._waiting.popleft()
            parts = self._parts_for(value, schemas)
            if isinstance(value, list):
                self._list(value, parts, depth)
            else:
                self._object(value, parts, depth)

    def _wait(self, value: Any, schemas: list[Any], depth: int) -> None:
        if depth <= _MAX_DEPTH and isinstance(value, (dict, list)):
            self._waiting.append((value, schemas, depth))

    def _list(self, value: list[Any], parts: list[Mapping[str, Any]], depth: int) -> None:
        for index, item in enumerate(value):
            self._walk.step(1 + len(parts))
            schemas = []
            for part in parts:
                items = part.get("items")
                places = _list(part.get("prefixItems")) or _list(items)
                schemas.append(places[index] if index < len(places) else part.get("additionalItems", items))
            self._wait(item, [each for each in schemas if isinstance(each, Mapping)], depth + 1)

    def _object(self, value: dict[str, Any], parts: list[Mapping[str, Any]], depth: int) -> None:
        fields: dict[str, list[Any]] = {}
        for part in parts:
            for name, inner in _mapping(part.get("properties")).items():
                self._walk.step()
                fields.setdefault(name, []).append(inner)
        doubtful = self._named_by_conditions(parts)
        for name, inners in fields.items():
            if name not in value and name not in doubtful:
                self._default(value, name, inners)
            if name in value:
                self._wait(value[name], inners, depth + 1)
        for name, inner in value.items():
            if name not in fields and isinstance(inner, (dict, list)):
                self._wait(inner, [each for part in parts for each in self._unlisted(part, name)], depth + 1)

    def _default(self, value: dict[str, Any], name: str, inners: list[Any]) -> None:
        defaults = {}
        for each in self._defaults(inners):
            self._weigh(each)
            defaults[json.dumps(each, sort_keys=True)] = each
        if len(defaults) == 1:
            value[name] = copy.deepcopy(defaults.popitem()[1])
        elif defaults and not any(map(self._nullable, inners)):
            value[name] = None

    def _weigh(self, default: Any) -> None:
        """Count what it takes to copy a default, which may be of any size."""
        waiting = [default]
        while waiting:
            value = waiting.pop()
            self._walk.step()
            if isinstance(value, (dict, list)):
                self._walk.step(len(value))
                waiting += value.values() if isinstance(value, dict) else value
            elif isinstance(value, str):
                self._walk.step(len(value) // 1_000)

    def _nullable(self, schema: Any) -> bool:
        return self._walk.allows_null(schema) if isinstance(schema, (Mapping, bool)) else True

    def _unlisted(self, part: Mapping[str, Any], name: str) -> Iterator[Any]:
        if name not in _mapping(part.get("properties")):
            yield from self._walk.unlisted(part, name)

    def _named_by_conditions(self, parts: list[Mapping[str, Any]]) -> set[str]:
        """Return the names whose defaults depend on the other arguments."""
        conditional = [
            inner
            for part in parts
            for inner in (
                *(part.get(keyword) for keyword in ("then", "else")),
                *_mapping(part.get("dependentSchemas")).values(),
                *_mapping(part.get("dependencies")).values(),
            )
        ]
        found: set[str] = set()
        for part in self._all_parts(conditional):
            properties = _mapping(part.get("properties"))
            self._walk.step(len(properties) // _PER_STEP)
            found.update(properties)
        return found

    def _all_parts(self, schemas: list[Any]) -> Iterator[Mapping[str, Any]]:
        seen: set[int] = set()
        waiting = list(schemas)
        while waiting:
            for part in self._joined(waiting.pop()):
                if id(part) not in seen:
                    seen.add(id(part))
                    yield part
                    waiting += [each for options in _options(part) for each in options]

    def _parts_for(self, value: Any, schemas: list[Any]) -> list[Mapping[str, Any]]:
        """Return the schemas, and whatever of what they are composed of may be true of `value`."""
        found: dict[int, Mapping[str, Any]] = {}  # by id: a schema may refer to itself
        waiting = deque(schemas)
        while waiting:
            for part in self._joined(waiting.popleft()):
                if id(part) in found:
                    continue
                found[id(part)] = part
                for options in _options(part):
                    waiting += [each for each in options if self._fits(value, each)] or options
        return list(found.values())

    def _joined(self, schema: Any) -> Iterable[Mapping[str, Any]]:
        """Return the schema, and what must be true with it."""
        found: dict[int, Mapping[str, Any]] = {}
        waiting = deque([schema])
        while waiting:
            part = waiting.popleft()
            self._walk.step()
            if not isinstance(part, Mapping) or id(part) in found:
                continue
            found[id(part)] = part
            if isinstance(part.get("$ref"), str):
                waiting.append(self._walk.resolve(part["$ref"]))
            waiting += _list(part.get("allOf"))
        return found.values()

    def _fits(self, value: Any, schema: Any) -> bool:
        """Return whether a list or an object may be what `schema` means; the body may convert the rest."""
        kind = "object" if isinstance(value, dict) else "array"
        for part in self._joined(schema):
            kinds = part.get("type", kind)
            self._walk.step(len(_list(kinds)) // _PER_STEP + len(_list(part.get("required"))) // _PER_STEP)
            if kind != kinds and kind not in _list(kinds):
                return False
            if isinstance(value, list):
                continue
            if any(name not in value for name in _list(part.get("required"))):
                return False
            properties = _mapping(part.get("properties"))
            self._walk.step(len(value) // _PER_STEP)
            if any(name in properties and not self._allows(properties[name], value[name]) for name in value):
                return False
        return True

    def _allows(self, schema: Any, value: Any) -> bool:
        for part in self._joined(schema):
            options = _list(part.get("enum"))
            self._walk.step(len(options) // _PER_STEP)
            if value != part.get("const", value) or ("enum" in part and value not in options):
                return False
        return True

    def _defaults(self, schemas: Iterable[Any]) -> Iterator[Any]:
        """Yield what may be filled in: a schema's own default comes before those of its parts."""
        seen: set[int] = set()
        waiting = deque(schemas)
        while waiting:
            parts = list(self._joined(waiting.popleft()))
            own = next((part for part in parts if "default" in part), None)
            if own is not None:
                yield own["default"]
                continue
            for part in parts:
                if id(part) not in seen:
                    seen.add(id(part))
                    waiting += [each for options in _options(part) for each in options]


def _options(part: Mapping[str, Any]) -> Iterator[list[Any]]:
    return (_list(part.get(keyword)) for keyword in ("anyOf", "oneOf"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
