"""What a tool's JSON Schema says about one parameter, so that a typo differs from an absent value.

The schema is the tool's own and may come from a server nobody here wrote: every walk is bounded, and
what cannot be read counts against the action, not for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import unquote

_MAX_STEPS = 2000


class Presence(Enum):
    """What the schema says about a path."""

    HAS = "has"
    """It is there, and null is no value of it."""
    HAS_NULLABLE = "has, or null"
    LACKS = "lacks"
    """No arguments that the schema describes have it: the policy's path is a typo."""
    OPEN = "open"
    """The schema allows keys it does not name, so it cannot tell."""
    UNREADABLE = "unreadable"


class _TooLarge(Exception):
    pass


_UNREADABLE = (_TooLarge, RecursionError, TypeError, ValueError, AttributeError)


def look_up(schema: Mapping[str, Any], path: str) -> Presence:
    """What `schema` says about the dotted `path`; a key that holds the dots itself comes first."""
    try:
        walk = _Walk(schema)
        literal = walk.presence(schema, [path])
        if "." not in path or literal in (Presence.HAS, Presence.HAS_NULLABLE):
            return literal
        return walk.presence(schema, path.split("."))
    except _UNREADABLE:
        return Presence.UNREADABLE


class Reading:
    """What one schema says, asked for many rules during one decision and looked up once for each path.

    No longer than a decision: the schema is the tool's own, and may change in place.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._presences: dict[str, Presence] = {}
        self._nullable: dict[tuple[str, ...], bool] = {}

    def presence(self, path: str) -> Presence:
        """What the schema says about the dotted `path`."""
        known = self._presences.get(path)
        if known is None:
            known = self._presences[path] = look_up(self._schema, path)
        return known

    def allows_null(self, steps: tuple[str, ...]) -> bool:
        """Whether null is a value of what these keys, and no other spelling of them, lead to."""
        known = self._nullable.get(steps)
        if known is None:
            known = self._nullable[steps] = self._look_up_null(steps)
        return known

    def _look_up_null(self, steps: tuple[str, ...]) -> bool:
        try:
            return _Walk(self._schema).presence(self._schema, steps) is Presence.HAS_NULLABLE
        except _UNREADABLE:
            return False


class _Walk:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.steps = 0

    def presence(self, schema: Any, path: Sequence[str]) -> Presence:
        self._step()
        if schema is False:
            return Presence.LACKS
        if path and schema is True:
            return Presence.OPEN
        if not path:
            return Presence.HAS_NULLABLE if self._allows_null(schema) else Presence.HAS
        found = [self._own(schema, path)]
        found += [self.presence(part, path) for part in self._all_of(schema)]
        found += [
            _either([self.presence(branch, path) for branch in branches]) for branches in _choices(schema)
        ]
        return _both(found)

    def _own(self, schema: Mapping[str, Any], path: Sequence[str]) -> Presence:
        """What the keywords of this schema say, its sub-schemas left aside."""
        if not _allows_type(schema, "object"):
            return Presence.LACKS
        properties = schema.get("properties", {})
        if path[0] in properties:
            return self.presence(properties[path[0]], path[1:])
        if schema.get("patternProperties"):
            return Presence.OPEN
        # Left out, it means "open" in JSON Schema; but who lists properties means those.
        additional = schema.get("additionalProperties", "properties" not in schema)
        return Presence.LACKS if additional is False else Presence.OPEN

    def _allows_null(self, schema: Any) -> bool:
        self._step()
        if isinstance(schema, bool):
            return schema
        own = (
            _allows_type(schema, "null")
            and ("enum" not in schema or None in schema["enum"])
            and ("const" not in schema or schema["const"] is None)
        )
        return (
            own
            and all(self._allows_null(part) for part in self._all_of(schema))
            and all(any(self._allows_null(branch) for branch in branches) for branches in _choices(schema))
        )

    def _all_of(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        if "$ref" in schema:
            yield self._resolve(schema["$ref"])
        yield from schema.get("allOf", ())

    def _resolve(self, reference: str) -> Any:
        """The schema at a local JSON pointer; any other reference leads where nothing can be read."""
        self._step()
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError(reference)
        node: Any = self.root
        for part in reference.split("/")[1:]:
            key = unquote(part, errors="strict").replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or key not in node:
                raise ValueError(reference)
            node = node[key]
        return node

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise _TooLarge


def _choices(schema: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            yield schema[keyword]


def _allows_type(schema: Mapping[str, Any], name: str) -> bool:
    types = schema.get("type")
    if name == "null" and schema.get("nullable") is True:  # OpenAPI 3.0
        return True
    return types is None or types == name or (isinstance(types, (list, tuple)) and name in types)


def _either(found: Sequence[Presence]) -> Presence:
    """Of alternatives: the most that one of them has."""
    order = (Presence.HAS_NULLABLE, Presence.HAS, Presence.OPEN, Presence.LACKS)
    return next(presence for presence in order if presence in found)


def _both(found: Sequence[Presence]) -> Presence:
    """Of schemas that hold together: one that names the path decides, then one that rules it out."""
    order = (Presence.HAS, Presence.HAS_NULLABLE, Presence.LACKS, Presence.OPEN)
    return next(presence for presence in order if presence in found)
