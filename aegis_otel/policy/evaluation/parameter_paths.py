"""Find the value that a condition tests in the parameters of an action, or say why there is none to compare.

The keys come from a model: one of them may be read as another, or hide another. What it means that a key is
absent or null, only the tool's schema says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import chain
from typing import Any

from aegis_otel.model import Action, FrozenDict
from aegis_otel.policy.evaluation.look_alikes import Skeleton, skeleton
from aegis_otel.policy.evaluation.schema_paths import Location, Presence, SchemaAnswer, SchemaReader
from aegis_otel.policy.operators.table import is_about_values
from aegis_otel.policy.rules import ParamTest

NOT_ASKED = "the tool's schema was not asked"
NO_PARAMETER = "the tool has no such parameter"
UNREADABLE_SCHEMA = "the tool's schema cannot be read"
OTHER_SPELLING = "a key that the tool does not list could be another spelling of it"
BEYOND_THE_CALL = frozenset({NO_PARAMETER, UNREADABLE_SCHEMA})
"""Reasons that other arguments would not change."""


class Missing(Enum):
    """The reasons why no value can be compared."""

    ABSENT = "absent"
    CROSSED = "both the dotted name and the path it spells have a value"
    NO_MAPPING = "the path leads through a value that is not a mapping"
    AS_ONE_KEY = "a key is spelled like several parts of the path"


def find(params: Mapping[str, Any], test: ParamTest) -> Any:
    """Return the value of the key that is spelled like the plain path, or at its keys; else a `Missing`."""
    literal = params.get(test.plain_path, Missing.ABSENT)
    if len(test.keys) == 1:
        return literal
    value: Any = params
    for key in test.keys:
        if value is None:
            break  # null on the way is null at the end
        if not isinstance(value, Mapping):
            value = Missing.NO_MAPPING
            break
        value = value.get(key, Missing.ABSENT)
        if value is Missing.ABSENT:
            break
    if literal is Missing.ABSENT:
        return value
    # A model that may add keys could otherwise hide the value that a rule tests behind its dotted name.
    return literal if value is Missing.ABSENT else Missing.CROSSED


def other_spelling(params: Mapping[str, Any], test: ParamTest, schema: SchemaReader | None) -> str | None:
    """Return why the tool may take another value than the one that `find` returns; None where it cannot."""
    for keys in _other_spellings(params, test):
        if schema is None:
            return NOT_ASKED
        if not schema.at(keys).is_listed:
            return OTHER_SPELLING
    return None


def _other_spellings(params: Mapping[str, Any], test: ParamTest) -> Iterator[tuple[str, ...]]:
    """Yield the keys to values that could be read as that of `test`, or as one on the way to it."""
    value: Any = params
    depth = 0
    for key, names in zip(test.keys, test.joint_keys, strict=True):
        if not isinstance(value, Mapping):
            return
        for name in names:
            for other in spelled_otherwise(value, name):
                yield (*test.keys[:depth], other)
        if len(value) > 1 or key not in value:
            for other in spelled_otherwise(value, key):
                yield (*test.keys[:depth], other)
        value = value.get(key)
        depth += 1  # noqa: SIM113 - `enumerate` of a `zip` makes one more tuple a step


def names_at_the_top(test: ParamTest) -> tuple[str, ...]:
    """Return the names of the parameters at the top that `test` looks at; its path where it looks at all."""
    return (test.keys[0], *test.joint_keys[0]) if test.keys else (test.path,)


def spelled_otherwise(params: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the keys of a mapping that are not `name` and could be read as it."""
    spellings: Mapping[Skeleton, list[str]] | None = getattr(params, "spellings", None)
    if spellings is None:  # made once for all rules: there may be thousands of rules, and of keys
        spellings = {}
        for key in params:
            if isinstance(key, str):
                spellings.setdefault(skeleton(key), []).append(key)
        if type(params) is FrozenDict:
            params.spellings = spellings
    alike = skeleton(name)
    groups = spellings.values() if alike is None else (spellings.get(alike, ()), spellings.get(None, ()))
    for key in chain.from_iterable(groups):
        if key != name:
            yield key


def absent(action: Action, test: ParamTest, schema: SchemaReader | None) -> bool | str:
    """Return what it means for `test` that the value is absent: False, or why the answer is not known."""
    params = action.params
    if action.schema is None:
        # A comparison with a value says nothing of other keys; that there is none would be said of them too.
        is_hidden = not is_about_values(test) and any(_other_spellings(params, test))
        return OTHER_SPELLING if is_hidden else False
    if schema is None:
        return NOT_ASKED
    match schema.presence(test.plain_path):
        case Presence.LACKS:
            return NO_PARAMETER
        case Presence.UNREADABLE:
            return UNREADABLE_SCHEMA
    is_literal = len(test.keys) > 1 and schema.at((test.plain_path,)).is_listed
    return if_left_out(
        schema.at((test.plain_path,) if is_literal else _keys_until(params, test, Missing.ABSENT))
    )


def if_left_out(answer: SchemaAnswer) -> bool | str:
    """Return what it means that a value is absent of which the schema says `answer`."""
    if answer.presence is Presence.UNREADABLE:  # the walk to another path may have been shorter
        return UNREADABLE_SCHEMA
    if answer.required:
        return "the tool requires it, and the call does not have it"
    return "the call does not have it, and its default is not known" if answer.default else False


def null(params: Mapping[str, Any], test: ParamTest, schema: SchemaReader | None) -> bool | str:
    """Return what it means for `test` that the value is null: False, or why the answer is not known."""
    where = (test.plain_path,) if test.plain_path in params else _keys_until(params, test, None)
    return null_at(where, schema)


def null_at(where: Location, schema: SchemaReader | None) -> bool | str:
    """Return what it means that the value at `where` is null: False, or why the answer is not known."""
    is_meant = schema is not None and schema.at(where).presence is Presence.HAS_NULLABLE
    return False if is_meant else "the value is null"


def _keys_until(params: Mapping[str, Any], test: ParamTest, end: object) -> tuple[str, ...]:
    """Return the keys of `test` up to the first whose value is `end`; all of them where none is."""
    value: Any = params
    for number, key in enumerate(test.keys, 1):
        value = value.get(key, Missing.ABSENT)
        if value is end:
            return test.keys[:number]
    return test.keys
