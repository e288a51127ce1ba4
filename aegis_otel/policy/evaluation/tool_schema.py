"""Fill in what the body sees where the model said nothing: the defaults of a schema, at every depth.

Read what a tool's JSON Schema says about its parameters, by the one walk through such a schema.

The schema is the tool's own and may come from a server nobody here wrote. Every walk counts its steps and
stops at a limit; what cannot be read counts against the action, not for it.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from urllib.parse import unquote

from aegis_otel.policy.evaluation.patterns import BadRegex, compile_regex

_MAX_LOOK_UP = 800
"""Steps of one look-up."""
_MAX_READING = 1_000
"""Steps of all look-ups of one decision: less than ten milliseconds."""
_MAX_PATTERN = 500
_CONDITIONAL = ("if", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef")
"""Keywords that change what a schema says with the value; what they say of a parameter is not known."""


class Presence(Enum):
    """The possible answers of a schema about a path."""

    HAS = "has"
    """It is there, and null is no value of it."""
    HAS_NULLABLE = "has, or null"
    LACKS = "lacks"
    """No arguments that the schema describes have it: the policy's path is a typo."""
    OPEN = "open"
    """The schema allows keys it does not name, so it cannot tell."""
    UNREADABLE = "unreadable"


class _Seen(NamedTuple):
    """The findings of a walk about one parameter."""

    presence: Presence
    required: bool = False
    default: bool = False
    """True where it has a default other than null."""


_NOT_READ = _Seen(Presence.UNREADABLE)


class TooLarge(Exception):
    """A walk takes more steps than it may."""


FAILURES = (TooLarge, RecursionError, TypeError, ValueError, AttributeError)


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
        self._seen: dict[tuple[str, ...], _Seen] = {}

    def presence(self, path: str) -> Presence:
        """Return what the schema says about the dotted `path`."""
        known = self._presences.get(path)
        if known is None:
            literal = self._look((path,)).presence
            if "." in path and literal not in (Presence.HAS, Presence.HAS_NULLABLE):
                literal = self._look(tuple(path.split("."))).presence
            known = self._presences[path] = literal
        return known

    def allows_null(self, steps: tuple[str, ...]) -> bool:
        """Return whether null is a value of what these keys, and no other spelling of them, lead to."""
        return self._look(steps).presence is Presence.HAS_NULLABLE

    def lists(self, steps: tuple[str, ...]) -> bool:
        """Return whether the schema names the parameter that these keys lead to."""
        return self._look(steps).presence in (Presence.HAS, Presence.HAS_NULLABLE)

    def requires(self, steps: tuple[str, ...]) -> bool:
        """Return whether no valid arguments lack what these keys lead to."""
        return self._look(steps).required

    def has_default(self, steps: tuple[str, ...]) -> bool:
        """Return whether the schema has a default other than null for what these keys lead to."""
        return self._look(steps).default

    def _look(self, steps: tuple[str, ...]) -> _Seen:
        known = self._seen.get(steps)
        if known is None:
            if self._steps_left <= 0:  # whatever is asked now: a policy may have thousands of rules
                return _NOT_READ
            walk = Walk(self._schema, min(_MAX_LOOK_UP, self._steps_left))
            try:
                known = walk.look(self._schema, steps)
            except FAILURES:
                known = _NOT_READ
            self._steps_left -= walk.steps
            self._seen[steps] = known
        return known


class Walk:
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

    def look(self, schema: Any, path: Sequence[str]) -> _Seen:
        """Return what `schema` says about what the keys of `path` lead to."""
        self.step()
        if schema is False:
            return _Seen(Presence.LACKS)
        if path and schema is True:
            return _Seen(Presence.OPEN)
        if not path:
            nullable = self.allows_null(schema)
            default = self._has_default(schema)
            return _Seen(Presence.HAS_NULLABLE if nullable else Presence.HAS, default=default)
        found = [self._own(schema, path)]
        found += [self.look(part, path) for part in self.joined(schema)]
        found += [_either([self.look(each, path) for each in options]) for options in _choices(schema)]
        return _both(found)

    def _own(self, schema: Mapping[str, Any], path: Sequence[str]) -> _Seen:
        """Return what the keywords of this schema say, without its sub-schemas."""
        if not _allows_type(schema, "object"):
            return _Seen(Presence.LACKS)
        for keyword in _CONDITIONAL:  # no generator: this is most of what a large schema takes
            if keyword in schema:
                return _NOT_READ
        properties = schema.get("properties", {})
        required = len(path) == 1 and path[0] in schema.get("required", ())
        if path[0] in properties:
            seen = self.look(properties[path[0]], path[1:])
            return _Seen(seen.presence, required or (len(path) > 1 and seen.required), seen.default)
        inner = list(self.unlisted(schema, path[0]))
        if inner and len(path) > 1:
            return _either([self.look(each, path[1:]) for each in inner])
        if inner or schema.get("patternProperties"):
            return _Seen(Presence.OPEN, required)
        # Left out, it means "open" in JSON Schema; but who lists properties means those.
        additional = schema.get("additionalProperties", "properties" not in schema)
        return _Seen(Presence.LACKS if additional is False else Presence.OPEN, required)

    def unlisted(self, schema: Mapping[str, Any], key: str) -> Iterator[Any]:
        """Yield the schemas of a key that `properties` does not have."""
        fits = False
        for pattern, inner in schema.get("patternProperties", {}).items():
            self.step(20)
            if _may_match(pattern, key):
                fits = True
                yield inner
        additional = schema.get("additionalProperties")
        if not fits and isinstance(additional, Mapping):
            yield additional

    def allows_null(self, schema: Any) -> bool:
        """Return whether null is a value of `schema`."""
        self.step()
        if isinstance(schema, bool):
            return schema
        own = (
            _allows_type(schema, "null")
            and ("enum" not in schema or None in schema["enum"])
            and ("const" not in schema or schema["const"] is None)
        )
        return (
            own
            and all(self.allows_null(part) for part in self.joined(schema))
            and all(any(self.allows_null(each) for each in options) for options in _choices(schema))
        )

    def _has_default(self, schema: Any) -> bool:
        self.step()
        if not isinstance(schema, Mapping):
            return False
        if "default" in schema:
            return schema["default"] is not None
        return any(map(self._has_default, self.joined(schema))) or any(
            self._has_default(each) for options in _choices(schema) for each in options
        )

    def joined(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the schemas that hold together with this one."""
        if "$ref" in schema:
            yield self.resolve(schema["$ref"])
        yield from schema.get("allOf", ())

    def resolve(self, reference: str) -> Any:
        """Return the schema at a local JSON pointer.

        Raises:
            ValueError: it leads elsewhere, or nowhere.
        """
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


def _choices(schema: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            yield schema[keyword]


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


def _first(found: Sequence[_Seen], *order: Presence) -> Presence:
    presences = {each.presence for each in found}
    return next(presence for presence in order if presence in presences)


def _either(found: Sequence[_Seen]) -> _Seen:
    """Combine alternatives: the most that one of them has; required where all of them require it."""
    presence = _first(
        found, Presence.UNREADABLE, Presence.HAS_NULLABLE, Presence.HAS, Presence.OPEN, Presence.LACKS
    )
    return _Seen(presence, all(each.required for each in found), any(each.default for each in found))


def _both(found: Sequence[_Seen]) -> _Seen:
    """Combine schemas that hold together: one that names the path decides, then one that rules it out."""
    presence = _first(
        found, Presence.UNREADABLE, Presence.HAS, Presence.HAS_NULLABLE, Presence.LACKS, Presence.OPEN
    )
    return _Seen(presence, any(each.required for each in found), any(each.default for each in found))


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
