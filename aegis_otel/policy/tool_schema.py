"""Read what a tool's JSON Schema says about its parameters, by the one walk through such a schema.

The schema is the tool's own and may come from a server nobody here wrote. Every walk counts its steps and
stops at a limit; what cannot be read counts against the action, not for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from urllib.parse import unquote

from aegis_otel.policy.regexes import BadRegex, compile_regex

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
