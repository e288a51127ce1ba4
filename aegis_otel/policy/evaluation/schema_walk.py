"""Walk through a tool's JSON Schema. Both readers of schemas, `schema_paths` and `schema_defaults`, use it.

The schema is the tool's own, and may come from an unknown server. A walk therefore counts its steps and stops
at a limit. What cannot be read counts against the call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from aegis_otel.policy.patterns import BadRegex, compile_regex

MAX_NODES = 6_000
"""The most nodes of a schema that is read once for a tool."""
_MAX_PATTERN = 500


class TooLarge(Exception):
    """A walk takes more steps than it may."""


FAILURES = (TooLarge, RecursionError, TypeError, ValueError, AttributeError)
"""The errors of a walk through a schema that cannot be read."""


def properties_of(schema: object) -> Mapping[str, Any]:
    """Return the schemas of the parameters at the top of `schema`; none where it lists none."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    found = properties if isinstance(properties, Mapping) else {}
    return {name: inner for name, inner in found.items() if isinstance(name, str)}


class SchemaWalk:
    """A walk through one schema that counts its steps; it raises one of `FAILURES` where it must end."""

    def __init__(self, root: Mapping[str, Any], most: int) -> None:
        """
        Args:
            root: The whole schema, which a `$ref` points into.
            most: The most steps that the walk may take.
        """
        self.root = root
        self.steps = 0
        self._most = most

    def step(self, count: int = 1) -> None:
        """Count `count` steps. Raises TooLarge beyond the limit."""
        self.steps += count
        if self.steps > self._most:
            raise TooLarge

    def resolve(self, reference: str) -> Any:
        """Return the schema at a local JSON pointer. Raises ValueError where there is none."""
        self.step(1 + len(reference) // 20)
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError(reference)
        node: Any = self.root
        for part in reference.split("/")[1:]:
            self.step()
            key = unquote(part, errors="strict").replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or key not in node:
                raise ValueError(reference)
            node = node[key]
        return node

    def parts(self, schema: Any, *, loops: bool = False) -> list[Mapping[str, Any]]:
        """Return the schema and all that apply together with it, by `$ref` and `allOf`, each once.

        Args:
            loops: Whether a schema may refer to itself; else that raises ValueError.
        """
        found: dict[int, Mapping[str, Any]] = {}
        open_ids: set[int] = set()

        def visit(part: Any) -> None:
            self.step()
            if isinstance(part, bool):
                part = {} if part else {"type": ()}
            if id(part) in open_ids and not loops:
                raise ValueError(part)
            if id(part) in found:
                return
            found[id(part)] = part
            open_ids.add(id(part))
            if "$ref" in part:
                visit(self.resolve(part["$ref"]))
            for each in part.get("allOf", ()):
                visit(each)
            open_ids.discard(id(part))

        visit(schema)
        return list(found.values())

    def inner(self, part: Mapping[str, Any], key: str) -> Iterator[Any]:
        """Yield what one schema, without those that apply together with it, says of the value at `key`."""
        is_named = key in part.get("properties", ())
        if is_named:
            yield part["properties"][key]
        for pattern, schema in part.get("patternProperties", {}).items():
            self.step(20)
            if _may_match(pattern, key):
                is_named = True
                yield schema
        if not is_named and isinstance(part.get("additionalProperties"), Mapping):
            yield part["additionalProperties"]

    def items(self, part: Mapping[str, Any]) -> Iterator[Any]:
        """Yield what one schema, without those that apply together with it, says of items of a list."""
        for keyword in ("prefixItems", "items", "additionalItems"):
            found = part.get(keyword, ())
            for each in found if isinstance(found, (list, tuple)) else (found,):
                self.step()
                yield each

    def allows_null(self, schema: Any) -> bool:
        """Return whether null is a value of `schema`."""
        return all(
            allows_type(part, "null")
            and ("enum" not in part or None in part["enum"])
            and ("const" not in part or part["const"] is None)
            and all(any(self.allows_null(each) for each in options) for options in alternatives(part))
            for part in self.parts(schema)
        )

    def defaults(self, schemas: Iterable[Any]) -> Iterator[Any]:
        """Yield what may be filled in: for a schema with a default of its own, that alone.

        For others, the defaults of all that apply together with it and of its alternatives. Where these
        differ, it is not known which one the body sees.
        """
        seen: set[int] = set()
        waiting = deque(schemas)
        while waiting:
            parts = self.parts(waiting.popleft(), loops=True)
            if "default" in parts[0]:
                yield parts[0]["default"]
                continue
            for part in parts:
                if "default" in part:
                    yield part["default"]
                if id(part) not in seen:
                    seen.add(id(part))
                    waiting += [each for options in alternatives(part) for each in options]


def alternatives(schema: Mapping[str, Any]) -> list[Sequence[Any]]:
    """Return the choices that a schema leaves by `anyOf` and by `oneOf`; a value fits one of each."""
    return [schema[keyword] for keyword in ("anyOf", "oneOf") if schema.get(keyword)]


def allows_type(schema: Mapping[str, Any], name: str) -> bool:
    """Return whether the keyword `type` of one schema allows values of the type `name`."""
    types = schema.get("type")
    if name == "null" and schema.get("nullable") is True:  # OpenAPI 3.0
        return True
    return types is None or types == name or (isinstance(types, (list, tuple)) and name in types)


def _may_match(pattern: Any, key: str) -> bool:
    """Return whether a key may match; a pattern that cannot be tried may match anything."""
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN:
        return True
    try:
        return compile_regex(pattern).search(key)
    except (BadRegex, UnicodeEncodeError):
        return True
