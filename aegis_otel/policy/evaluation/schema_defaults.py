"""Fill in the defaults of a tool's JSON Schema, so that a policy decides on what the tool's body will see."""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aegis_otel.policy.evaluation.schema_walk import (
    FAILURES,
    MAX_NODES,
    SchemaWalk,
    allows_type,
    alternatives,
)

_MAX_FILLING = 1_500
"""Steps of filling in the defaults of one call: less than ten milliseconds."""
_PER_STEP = 50
"""Names that are compared in the time of one step."""
_MAX_DEPTH = 32
"""Nested values; what is nested deeper keeps what the model sent."""


def has_defaults(schema: object) -> bool:
    """Return whether `default` is a key anywhere in `schema`, or `schema` is too large to search."""
    waiting: list[object] = [schema]
    for _ in range(MAX_NODES):
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

    Most tools have such a schema. Its defaults are filled in by one loop over this dict, which is made once;
    `fill_defaults` walks the schema for every call.

    Returns:
        By name, in the order of the schema; None where the schema has to be walked.
    """
    properties = schema.get("properties")
    if not (schema.keys() <= _FLAT_ROOT and isinstance(properties, Mapping)):
        return None
    if schema.get("type") != "object" or not isinstance(schema.get("additionalProperties", False), bool):
        return None
    if len(properties) > MAX_NODES or not all(map(_is_flat, properties.values())):
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

    Of alternatives (`anyOf`, `oneOf`), those count that the value fits by `type`, `required`, and the `const`
    and `enum` of its fields; where it fits none, all count. If they have different defaults for a name, what
    the body will see is not known: the name is filled with null, or stays absent where null is a value of it.
    Either makes a condition on it unknown, which counts against the call.

    Returns:
        Whether all were filled in: False where the schema takes too many steps, or cannot be read.
    """
    try:
        _DefaultsWalk(schema, _MAX_FILLING).fill_all(params)
    except FAILURES:
        return False
    return True


_Inner = Callable[[Mapping[str, Any], Any], Iterable[Any]]
"""(schema, key or index) -> what the schema says of the value there."""


class _DefaultsWalk(SchemaWalk):
    """A walk that fills in defaults, those at the top first: a limit leaves out only what is deepest."""

    def fill_all(self, params: dict[str, Any]) -> None:
        waiting: deque[tuple[Any, list[Any], int]] = deque([(params, [self.root], 0)])
        while waiting:
            value, schemas, depth = waiting.popleft()
            parts = self._parts_for(value, schemas)
            if isinstance(value, dict):
                self._fill(value, parts)
            if depth == _MAX_DEPTH:
                continue
            inner: _Inner = self.inner if isinstance(value, dict) else _item
            for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(value, list):
                    self.step(1 + len(parts))
                if isinstance(each, (dict, list)):
                    schemas = [schema for part in parts for schema in inner(part, key)]
                    waiting.append((each, schemas, depth + 1))

    def _fill(self, value: dict[str, Any], parts: list[Mapping[str, Any]]) -> None:
        fields: dict[str, list[Any]] = {}
        for part in parts:
            for name, inner in part.get("properties", {}).items():
                self.step()
                fields.setdefault(name, []).append(inner)
        doubtful = self._named_by_conditions(parts)
        for name, inners in fields.items():
            if name in value or name in doubtful:
                continue
            defaults = {}
            for each in self.defaults(inners):
                self._weigh(each)
                defaults[json.dumps(each, sort_keys=True)] = each
            if len(defaults) == 1:
                value[name] = copy.deepcopy(defaults.popitem()[1])
            elif defaults and not any(map(self.allows_null, inners)):
                value[name] = None

    def _weigh(self, default: Any) -> None:
        """Count the steps of copying a default, which may be of any size."""
        waiting = [default]
        while waiting:
            value = waiting.pop()
            self.step()
            if isinstance(value, (dict, list)):
                self.step(len(value))
                waiting += value.values() if isinstance(value, dict) else value
            elif isinstance(value, str):
                self.step(len(value) // 1_000)

    def _named_by_conditions(self, parts: list[Mapping[str, Any]]) -> set[str]:
        """Return the names whose defaults depend on the other arguments."""
        conditional = [part[keyword] for part in parts for keyword in ("then", "else") if keyword in part]
        for part in parts:
            for keyword in ("dependentSchemas", "dependencies"):
                conditional += [each for each in part.get(keyword, {}).values() if not isinstance(each, list)]
        found: set[str] = set()
        for part in self._parts_for(None, conditional):
            properties = part.get("properties", ())
            self.step(len(properties) // _PER_STEP)
            found.update(properties)
        return found

    def _parts_for(self, value: Any, schemas: list[Any]) -> list[Mapping[str, Any]]:
        """Return the schemas, and those that they refer to or combine which `value` may fit."""
        found: dict[int, Mapping[str, Any]] = {}  # by id: a schema may refer to itself
        waiting = deque(schemas)
        while waiting:
            for part in self.parts(waiting.popleft(), loops=True):
                if id(part) in found:
                    continue
                found[id(part)] = part
                for options in alternatives(part):
                    waiting += [each for each in options if self._fits(value, each)] or options
        return list(found.values())

    def _fits(self, value: Any, schema: Any) -> bool:
        """Return whether a list or an object may fit. Other values do: the body may convert them."""
        for part in self.parts(schema, loops=True):
            kinds, required = part.get("type", ()), part.get("required", ())
            self.step(len(kinds) // _PER_STEP + len(required) // _PER_STEP)
            if not allows_type(part, "array" if isinstance(value, list) else "object"):
                return False
            if not isinstance(value, dict):
                continue
            if any(name not in value for name in required):
                return False
            properties = part.get("properties", {})
            self.step(len(value) // _PER_STEP)
            if any(name in properties and not self._allows(properties[name], value[name]) for name in value):
                return False
        return True

    def _allows(self, schema: Any, value: Any) -> bool:
        for part in self.parts(schema, loops=True):
            self.step(len(part.get("enum", ())) // _PER_STEP)
            if value != part.get("const", value) or value not in part.get("enum", (value,)):
                return False
        return True


def _item(part: Mapping[str, Any], index: int) -> list[Any]:
    """Return what one schema says of an item of a list."""
    items = part.get("items")
    prefix = part.get("prefixItems")
    places = prefix if prefix and isinstance(prefix, list) else items if isinstance(items, list) else ()
    found = places[index] if index < len(places) else part.get("additionalItems", items)
    return [found] if isinstance(found, Mapping) else []
