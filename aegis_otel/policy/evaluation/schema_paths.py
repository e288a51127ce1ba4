"""Read what a tool's JSON Schema says about the value at a path."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from aegis_otel.policy.evaluation.schema_walk import (
    FAILURES,
    SchemaWalk,
    allows_type,
    alternatives,
    properties_of,
)
from aegis_otel.policy.rules import Step, parts_of

ITEM = Step.ANY
"""Stands in a location for each item of a list."""
Location = tuple[str | Step, ...]
"""Where a value is in the arguments: keys, and `ITEM`."""

_MAX_STEPS = 800
"""Steps of the walk for one path."""
_MAX_READING = 1_000
"""Steps of all walks of one decision: less than ten milliseconds."""
_MAX_LISTING = 200
"""Steps of the walk of `schemas_at`."""
_CONDITIONAL = ("if", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef")
"""Keywords by which a schema says different things about different values: the answer is not known."""


class Presence(Enum):
    """The possible answers of a schema about a path."""

    HAS = "has"
    """It is there, and null is not a value of it."""
    HAS_NULLABLE = "has, or null"
    LACKS = "lacks"
    """No arguments that the schema describes have it: the policy's path is a typo."""
    OPEN = "open"
    """The schema allows keys that it does not name."""
    UNREADABLE = "unreadable"


_MOST = (Presence.UNREADABLE, Presence.HAS_NULLABLE, Presence.HAS, Presence.OPEN, Presence.LACKS)
"""The order in which one of several alternatives decides: the most that one of them has."""
_SUREST = (Presence.UNREADABLE, Presence.HAS, Presence.HAS_NULLABLE, Presence.LACKS, Presence.OPEN)
"""The order in which one of several schemas that apply together decides: one that names the path, then one
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


class SchemaReader:
    """Answers about one schema for all rules of one decision. It walks to each path once.

    It holds no longer than the decision: the schema is the tool's own, and may change in place.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._steps_left = _MAX_READING
        self._presences: dict[str, Presence] = {}
        self._answers: dict[Location, SchemaAnswer] = {}

    def presence(self, path: str) -> Presence:
        """Return what the schema says about a plain path; a key that holds the dots itself comes first."""
        known = self._presences.get(path)
        if known is None:
            literal, keys = self.at((path,)), parts_of(path)
            is_first = literal.is_listed or literal.presence is Presence.UNREADABLE
            found = literal if is_first or len(keys) == 1 else self.at(keys)
            known = self._presences[path] = found.presence
        return known

    def at(self, where: Location) -> SchemaAnswer:
        """Return what the schema says about what these keys, and no other spelling of them, lead to."""
        known = self._answers.get(where)
        if known is None:
            if self._steps_left <= 0:  # whatever is asked now: a policy may have thousands of rules
                return _NOT_READ
            walk = _PathWalk(self._schema, min(_MAX_STEPS, self._steps_left))
            try:
                known = walk.answer(self._schema, where)
            except FAILURES:
                known = _NOT_READ
            self._steps_left -= walk.steps
            self._answers[where] = known
        return known


def schemas_at(schema: Mapping[str, Any], where: Location) -> list[Mapping[str, Any]]:
    """Return the schemas that the value at `where` may have, without null's; none where that is unknown."""
    walk = SchemaWalk(schema, _MAX_LISTING)
    waiting: list[tuple[Any, Location]] = [(schema, where)]
    found: list[Mapping[str, Any]] = []
    with contextlib.suppress(*FAILURES):
        for inner, left in waiting:
            for part in walk.parts(inner):
                if options := alternatives(part):
                    waiting += [(each, left) for choices in options for each in choices]
                elif left and left[0] is ITEM:
                    waiting += [(each, left[1:]) for each in walk.items(part)]
                elif left and left[0] in properties_of(part):
                    waiting.append((part["properties"][left[0]], left[1:]))
                elif not left and "$ref" not in part and part.get("type") != "null":
                    found.append(part)
    return found


class _PathWalk(SchemaWalk):
    """A walk to the value at a path."""

    def answer(self, schema: Any, path: Location) -> SchemaAnswer:
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
            for options in alternatives(part):
                answers = [self.answer(each, path) for each in options]
                found.append(_combined(_MOST, answers, required=all(each.required for each in answers)))
        return _combined(_SUREST, found, required=any(each.required for each in found))

    def _own(self, part: Mapping[str, Any], path: Location) -> SchemaAnswer:
        """Return what the keywords of one schema say, without those that apply together with it."""
        key = path[0]
        if not allows_type(part, "array" if key is ITEM else "object"):
            return SchemaAnswer(Presence.LACKS)
        for keyword in _CONDITIONAL:  # no generator: this is most of what a large schema takes
            if keyword in part:
                return _NOT_READ
        if not isinstance(key, str):
            return self._item(part, path[1:])
        properties = part.get("properties", {})
        required = len(path) == 1 and key in part.get("required", ())
        if key in properties:
            answer = self.answer(properties[key], path[1:])
            return answer._replace(required=required or (len(path) > 1 and answer.required))
        inner = list(self.inner(part, key))
        if inner and len(path) > 1:
            answers = [self.answer(each, path[1:]) for each in inner]
            return _combined(_MOST, answers, required=all(each.required for each in answers))
        if inner or part.get("patternProperties"):
            return SchemaAnswer(Presence.OPEN, required)
        # JSON Schema allows other keys where this is left out; a tool that lists its parameters does not.
        additional = part.get("additionalProperties", "properties" not in part)
        return SchemaAnswer(Presence.LACKS if additional is False else Presence.OPEN, required)

    def _item(self, part: Mapping[str, Any], path: Location) -> SchemaAnswer:
        """Return what one schema says about what the keys of `path` lead to in any of the items of a list."""
        answers = [self.answer(each, path) for each in self.items(part)]
        if not answers:
            return SchemaAnswer(Presence.OPEN)
        return _combined(_SUREST, answers, required=any(each.required for each in answers))


def _combined(order: Sequence[Presence], found: Sequence[SchemaAnswer], *, required: bool) -> SchemaAnswer:
    presences = {each.presence for each in found}
    presence = next(presence for presence in order if presence in presences)
    return SchemaAnswer(presence, required, any(each.default for each in found))
