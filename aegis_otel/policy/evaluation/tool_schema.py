"""Read a tool's JSON Schema: what it says of a parameter, and which defaults the tool's body will see.

`SchemaWalk` is the one walk behind both. The schema is the tool's own and may come from a server nobody here
wrote: every walk counts its steps and stops at a limit, and what cannot be read counts against the call.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from urllib.parse import unquote

from aegis_otel.policy.evaluation.patterns import BadRegex, compile_regex

_MAX_LOOK_UP = 800
"""Steps of one look-up."""
_MAX_READING = 1_000
"""Steps of all look-ups of one decision: less than ten milliseconds."""
_MAX_FILLING = 1_500
"""Steps of filling in the defaults of one call: less than ten milliseconds."""
_PER_STEP = 50
"""Names that are compared in the time of one step."""
_MAX_PATTERN = 500
_MAX_NODES = 6_000
"""The most nodes of a schema that is read once for a tool."""
_MAX_DEPTH = 32
"""Nested values; what is nested deeper keeps what the model sent."""
_CONDITIONAL = ("if", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef")
"""Keywords that change what a schema says with the value; what they say of a parameter is not known."""


class Presence(Enum):
    """The possible answers of a schema about a path."""

    HAS = "has"
    """It is there, and null is not a value of it."""
    HAS_NULLABLE = "has, or null"
    LACKS = "lacks"
    """No arguments that the schema describes have it: the policy's path is a typo."""
    OPEN = "open"
    """The schema allows keys it does not name, so it cannot tell."""
    UNREADABLE = "unreadable"


_MOST = (Presence.UNREADABLE, Presence.HAS_NULLABLE, Presence.HAS, Presence.OPEN, Presence.LACKS)
"""The order in which one of several alternatives decides: the most that one of them has."""
_SUREST = (Presence.UNREADABLE, Presence.HAS, Presence.HAS_NULLABLE, Presence.LACKS, Presence.OPEN)
"""The order in which one of several schemas that hold together decides: one that names the path, then one
that rules it out."""


class SchemaAnswer(NamedTuple):
    """What a schema says about one parameter."""

    presence: Presence
    required: bool = False
    """Whether no valid arguments lack it."""
    default: bool = False
    """Whether it has a default other than null."""

    @property
    def is_listed(self) -> bool:
        """Whether the schema names it."""
        return self.presence in (Presence.HAS, Presence.HAS_NULLABLE)


_NOT_READ = SchemaAnswer(Presence.UNREADABLE)


class TooLarge(Exception):
    """A walk takes more steps than it may."""


FAILURES = (TooLarge, RecursionError, TypeError, ValueError, AttributeError)
"""The errors of a walk through a schema that cannot be read."""


def properties_of(schema: object) -> Mapping[str, Any]:
    """Return the schemas of the parameters at the top of `schema`; none where it lists none."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    found = properties if isinstance(properties, Mapping) else {}
    return {name: inner for name, inner in found.items() if isinstance(name, str)}


def look_up(schema: Mapping[str, Any], path: str) -> Presence:
    """Return what `schema` says about the dotted `path`; a key that holds the dots itself comes first."""
    return Reading(schema).presence(path)


class Reading:
    """Answers about one schema for many rules of one decision, each path being looked up once.

    They hold no longer than the decision: the schema is the tool's own, and may change in place.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._steps_left = _MAX_READING
        self._presences: dict[str, Presence] = {}
        self._seen: dict[tuple[str, ...], SchemaAnswer] = {}

    def presence(self, path: str) -> Presence:
        """Return what the schema says about the dotted `path`."""
        known = self._presences.get(path)
        if known is None:
            literal = self.at((path,))
            found = literal if literal.is_listed or "." not in path else self.at(tuple(path.split(".")))
            known = self._presences[path] = found.presence
        return known

    def at(self, steps: tuple[str, ...]) -> SchemaAnswer:
        """Return what the schema says about what these keys, and no other spelling of them, lead to."""
        known = self._seen.get(steps)
        if known is None:
            if self._steps_left <= 0:  # whatever is asked now: a policy may have thousands of rules
                return _NOT_READ
            walk = SchemaWalk(self._schema, min(_MAX_LOOK_UP, self._steps_left))
            try:
                known = walk.look(self._schema, steps)
            except FAILURES:
                known = _NOT_READ
            self._steps_left -= walk.steps
            self._seen[steps] = known
        return known


class SchemaWalk:
    """A walk through one schema that counts its steps; it raises one of `FAILURES` where it must end."""

    def __init__(self, root: Mapping[str, Any], most: int) -> None:
        """
        Args:
            root: The whole schema, for `$ref`.
            most: Steps it may take.
        """
        self.root = root
        self.steps = 0
        self._most = most

    def step(self, count: int = 1) -> None:
        """Count. Raises TooLarge beyond the limit."""
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
        """Return the schema and all that hold together with it, by `$ref` and `allOf`, each once.

        Args:
            loops: Whether a schema may hold together with itself; else it raises ValueError.
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
        """Yield what one schema, without those that hold together with it, says of the value at `key`."""
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

    def look(self, schema: Any, path: Sequence[str]) -> SchemaAnswer:
        """Return what `schema` says about what the keys of `path` lead to."""
        if not path:
            if schema is False:
                return SchemaAnswer(Presence.LACKS)
            nullable = self.allows_null(schema)
            default = any(each is not None for each in self.defaults([schema]))
            return SchemaAnswer(Presence.HAS_NULLABLE if nullable else Presence.HAS, default=default)
        found: list[SchemaAnswer] = []
        for part in self.parts(schema):
            found.append(self._own(part, path))
            for options in _choices(part):
                seen = [self.look(each, path) for each in options]
                found.append(_combined(_MOST, seen, required=all(each.required for each in seen)))
        return _combined(_SUREST, found, required=any(each.required for each in found))

    def _own(self, part: Mapping[str, Any], path: Sequence[str]) -> SchemaAnswer:
        """Return what the keywords of one schema say, without those that hold together with it."""
        if not _allows_type(part, "object"):
            return SchemaAnswer(Presence.LACKS)
        for keyword in _CONDITIONAL:  # no generator: this is most of what a large schema takes
            if keyword in part:
                return _NOT_READ
        properties = part.get("properties", {})
        required = len(path) == 1 and path[0] in part.get("required", ())
        if path[0] in properties:
            seen = self.look(properties[path[0]], path[1:])
            return seen._replace(required=required or (len(path) > 1 and seen.required))
        inner = list(self.inner(part, path[0]))
        if inner and len(path) > 1:
            seens = [self.look(each, path[1:]) for each in inner]
            return _combined(_MOST, seens, required=all(each.required for each in seens))
        if inner or part.get("patternProperties"):
            return SchemaAnswer(Presence.OPEN, required)
        # Left out, it means "open" in JSON Schema; but who lists properties means those.
        additional = part.get("additionalProperties", "properties" not in part)
        return SchemaAnswer(Presence.LACKS if additional is False else Presence.OPEN, required)

    def allows_null(self, schema: Any) -> bool:
        """Return whether null is a value of `schema`."""
        return all(
            _allows_type(part, "null")
            and ("enum" not in part or None in part["enum"])
            and ("const" not in part or part["const"] is None)
            and all(any(self.allows_null(each) for each in options) for options in _choices(part))
            for part in self.parts(schema)
        )

    def defaults(self, schemas: Iterable[Any]) -> Iterator[Any]:
        """Yield what may be filled in: a schema's own default alone, where it has one.

        Else the defaults of all that hold together with it and of its alternatives: where these differ,
        nobody can tell which one the body sees.
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
                    waiting += [each for options in _choices(part) for each in options]


def _choices(schema: Mapping[str, Any]) -> list[Sequence[Any]]:
    return [schema[keyword] for keyword in ("anyOf", "oneOf") if schema.get(keyword)]


def _allows_type(schema: Mapping[str, Any], name: str) -> bool:
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


def _combined(order: Sequence[Presence], found: Sequence[SchemaAnswer], *, required: bool) -> SchemaAnswer:
    presences = {each.presence for each in found}
    presence = next(presence for presence in order if presence in presences)
    return SchemaAnswer(presence, required, any(each.default for each in found))


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

    Those alternatives (`anyOf`, `oneOf`) count that the value fits: by `type`, `required`, and the `const`
    and `enum` of its fields; all of them, where it fits none. If those have different defaults for a name,
    what the body will see is not known: the name is filled with null, or stays absent where null is a value
    of it. Either makes a condition on it unknown, which counts against the call.

    Returns:
        Whether all were filled in: False where the schema takes too many steps, or cannot be read.
    """
    fill = _Fill(schema)
    try:
        fill.run(params)
    except FAILURES:
        return False
    return True


_Inner = Callable[[Mapping[str, Any], Any], Iterable[Any]]
"""(schema, key or index) -> what the schema says of the value there."""


class _Fill:
    """Fills in values, those at the top first, so that a limit is met as deep down as can be."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._walk = SchemaWalk(root, _MAX_FILLING)
        self._root = root
        self._waiting: deque[tuple[Any, list[Any], int]] = deque()

    def run(self, params: dict[str, Any]) -> None:
        self._waiting.append((params, [self._root], 0))
        while self._waiting:
            value, schemas, depth = self._waiting.popleft()
            parts = self._parts_for(value, schemas)
            if isinstance(value, dict):
                self._fill(value, parts)
            if depth == _MAX_DEPTH:
                continue
            inner: _Inner = self._walk.inner if isinstance(value, dict) else _item
            for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(value, list):
                    self._walk.step(1 + len(parts))
                if isinstance(each, (dict, list)):
                    schemas = [schema for part in parts for schema in inner(part, key)]
                    self._waiting.append((each, schemas, depth + 1))

    def _fill(self, value: dict[str, Any], parts: list[Mapping[str, Any]]) -> None:
        fields: dict[str, list[Any]] = {}
        for part in parts:
            for name, inner in part.get("properties", {}).items():
                self._walk.step()
                fields.setdefault(name, []).append(inner)
        doubtful = self._named_by_conditions(parts)
        for name, inners in fields.items():
            if name in value or name in doubtful:
                continue
            defaults = {}
            for each in self._walk.defaults(inners):
                self._weigh(each)
                defaults[json.dumps(each, sort_keys=True)] = each
            if len(defaults) == 1:
                value[name] = copy.deepcopy(defaults.popitem()[1])
            elif defaults and not any(map(self._walk.allows_null, inners)):
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

    def _named_by_conditions(self, parts: list[Mapping[str, Any]]) -> set[str]:
        """Return the names whose defaults depend on the other arguments."""
        conditional = [part[keyword] for part in parts for keyword in ("then", "else") if keyword in part]
        for part in parts:
            for keyword in ("dependentSchemas", "dependencies"):
                conditional += [each for each in part.get(keyword, {}).values() if not isinstance(each, list)]
        found: set[str] = set()
        for part in self._parts_for(None, conditional):
            properties = part.get("properties", ())
            self._walk.step(len(properties) // _PER_STEP)
            found.update(properties)
        return found

    def _parts_for(self, value: Any, schemas: list[Any]) -> list[Mapping[str, Any]]:
        """Return the schemas, and whatever of what they are composed of may be true of `value`."""
        found: dict[int, Mapping[str, Any]] = {}  # by id: a schema may refer to itself
        waiting = deque(schemas)
        while waiting:
            for part in self._walk.parts(waiting.popleft(), loops=True):
                if id(part) in found:
                    continue
                found[id(part)] = part
                for options in _choices(part):
                    waiting += [each for each in options if self._fits(value, each)] or options
        return list(found.values())

    def _fits(self, value: Any, schema: Any) -> bool:
        """Return whether a list or an object may be what `schema` means; the body may convert the rest."""
        for part in self._walk.parts(schema, loops=True):
            kinds, required = part.get("type", ()), part.get("required", ())
            self._walk.step(len(kinds) // _PER_STEP + len(required) // _PER_STEP)
            if not _allows_type(part, "array" if isinstance(value, list) else "object"):
                return False
            if not isinstance(value, dict):
                continue
            if any(name not in value for name in required):
                return False
            properties = part.get("properties", {})
            self._walk.step(len(value) // _PER_STEP)
            if any(name in properties and not self._allows(properties[name], value[name]) for name in value):
                return False
        return True

    def _allows(self, schema: Any, value: Any) -> bool:
        for part in self._walk.parts(schema, loops=True):
            self._walk.step(len(part.get("enum", ())) // _PER_STEP)
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
