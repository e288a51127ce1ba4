"""Turn validated arguments, which the body of a tool gets, into plain values that a policy can compare.

No code of the user's runs: no serializers, properties or comparisons. What cannot be read that way is
`OPAQUE`, and a condition on it is unknown.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any, Final, final

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from aegis_otel.model import FrozenDict
from aegis_otel.policy.evaluation.look_alikes import may_be_among, skeleton

Alias = str | tuple[str | int, ...]
"""Another name, or the keys and indexes that lead to the value."""
Aliases = Mapping[str, frozenset[Alias]]
"""By the name of a field, the other names that arguments may have for it."""

_MAX_DEPTH = 32
_MAX_VALUES = 20_000
_LARGEST_EXPONENT = 400
_AS_TEXT = frozenset({"datetime", "uuid", "pathlib", "pathlib._local", "ipaddress", "re"})
"""Modules whose types are written as text in JSON."""
_URLS = frozenset({"pydantic.networks", "pydantic_core", "pydantic_core._pydantic_core"})
_PLAIN = frozenset({str, int, float, bool})
_AS_KEYS = {True: ("true", "t", "1", "on", "yes", "y"), False: ("false", "f", "0", "off", "no", "n")}
"""The texts that pydantic reads as a boolean where one is a key, which is text in JSON."""


@final
class _Opaque:
    """A value that a policy cannot read."""

    def __deepcopy__(self, memo: object) -> _Opaque:
        return self

    def __repr__(self) -> str:
        return "<opaque>"


OPAQUE: Final = _Opaque()


def project(values: Mapping[str, Any], names: Aliases, typed_dicts: Aliases | None) -> FrozenDict:
    """Return the arguments of one call as plain values, without those that are None.

    Args:
        values: The arguments that the body gets, by parameter.
        names: Other names of the parameters.
        typed_dicts: Other names of keys of typed dictionaries in the values; None where they are not known.
    """
    if not names and _PLAIN.issuperset(map(type, values.values())):
        return FrozenDict(values)  # nothing in it has another form
    return _Projection(typed_dicts).named(values, names, 0)


class _Projection:
    def __init__(self, typed_dicts: Aliases | None) -> None:
        self._typed_dicts = typed_dicts
        self._left = _MAX_VALUES

    def value(self, value: Any, depth: int) -> Any:
        if value is None or value is OPAQUE or type(value) in _PLAIN:
            return value
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            return OPAQUE
        try:
            return self._composed(value, depth + 1)
        except Exception:
            return OPAQUE

    def _composed(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if isinstance(value, BaseModel):
            return self._model(value, depth)
        if isinstance(value, dict):
            return OPAQUE if self._typed_dicts is None else self.named(value, self._typed_dicts, depth)
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            if isinstance(value, tuple) and hasattr(kind, "_fields"):
                return self.named(dict(zip(kind._fields, value, strict=True)), {}, depth)
            self._left -= len(value)
            return tuple([self.value(each, depth) for each in value])
        if dataclasses.is_dataclass(kind):
            return self._dataclass(value, kind, depth)
        return _leaf(value)

    def _model(self, value: BaseModel, depth: int) -> Any:
        storage: dict[str, Any] = object.__getattribute__(value, "__dict__")
        if isinstance(value, RootModel):
            return self.value(storage["root"], depth)
        fields = type(value).__pydantic_fields__
        own = {name: storage.get(name, OPAQUE) for name in fields}
        own |= {name: each for name, each in storage.items() if name not in fields}
        extra: dict[str, Any] | None = object.__getattribute__(value, "__pydantic_extra__")
        own |= dict.fromkeys(_read_by_code(type(value), tuple(own)), OPAQUE)
        return self.named(own, aliases_of(type(value)), depth, extra or {})

    def _dataclass(self, value: Any, kind: type, depth: int) -> Any:
        if self._typed_dicts is None:
            return OPAQUE
        fields = tuple(each.name for each in dataclasses.fields(value))
        by_code = _read_by_code(kind, fields)
        own = {name: OPAQUE if name in by_code else object.__getattribute__(value, name) for name in fields}
        if hasattr(value, "__dict__"):  # more than its fields, where it allows that
            own = {**object.__getattribute__(value, "__dict__"), **own}
        for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
            own.setdefault(name, OPAQUE)  # only its constructor has had it
        return self.named(own, {**self._typed_dicts, **aliases_of(kind)}, depth)

    def named(
        self, values: Mapping[Any, Any], names: Aliases, depth: int, extra: Mapping[str, Any] | None = None
    ) -> FrozenDict:
        """Project values by name, each under its other names too; a name of two values is opaque."""
        found: dict[str, Any] = {}
        deep: list[tuple[tuple[str | int, ...], Any]] = []
        for key, each in (*values.items(), *(extra or {}).items()):
            own, projected = (key,) if type(key) is str else _keys(key), self.value(each, depth)
            for other in (*own, *names.get(own[0], ())):
                if isinstance(other, tuple):
                    deep.append((other, projected))
                else:
                    found[other] = OPAQUE if other in found and found[other] is not projected else projected
        for path, projected in deep:
            first = str(path[0])
            found[first] = OPAQUE if first in found else _nested(path[1:], projected)
        return FrozenDict({name: each for name, each in found.items() if each is not None})


def _nested(path: tuple[str | int, ...], projected: Any) -> Any:
    """Return nested dictionaries that lead to the value by `path`; opaque where the path has an index."""
    if projected is None or not path:
        return projected
    if not all(isinstance(each, str) for each in path):
        return OPAQUE
    for step in reversed(path):
        projected = FrozenDict({step: projected})
    return projected


def _keys(key: Any) -> tuple[str, ...]:
    """Return the names that a key of a dictionary may have in JSON. Raises TypeError if they are unknown."""
    if key is True or key is False:
        return _AS_KEYS[key]
    plain = _leaf(key) if key is not None and type(key) not in _PLAIN else key
    if type(plain) not in _PLAIN:
        raise TypeError
    names: tuple[str, ...] = _AS_KEYS[plain] if type(plain) is bool else (str(plain),)
    if type(plain) is float and plain.is_integer():
        names += (str(int(plain)),)
    if isinstance(key, Enum) and not may_be_among(key.name, set(map(skeleton, names))):
        names += (key.name,)
    return names


def _leaf(value: Any) -> Any:
    """Return a single value as JSON would have it."""
    if isinstance(value, Enum):
        inner = value._value_
        return inner if inner is None or type(inner) in _PLAIN else OPAQUE
    if isinstance(value, (SecretStr, SecretBytes)):
        value = value.get_secret_value()
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode()
    if isinstance(value, Decimal):
        whole = value.is_finite() and value.adjusted() < _LARGEST_EXPONENT and value == int(value)
        return int(value) if whole else float(value)
    module = type(value).__module__
    if module in _URLS and "Url" in type(value).__name__ + type(value).__mro__[-2].__name__:
        return str(value)
    return to_jsonable_python(value) if module in _AS_TEXT else OPAQUE


@lru_cache(maxsize=1024)
def _read_by_code(kind: type, names: tuple[str, ...]) -> frozenset[str]:
    """Return the attributes that are read by code of the class, whose result the body gets."""
    reads: Any = kind.__getattribute__
    if reads is not object.__getattribute__:
        return frozenset(names)
    found = set()
    for name in names:
        own = next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)
        if hasattr(type(own), "__set__") and not isinstance(own, MemberDescriptorType):
            found.add(name)
    return frozenset(found)


@lru_cache(maxsize=1024)
def aliases_of(kind: type) -> Aliases:
    """Return the other names of the fields of a model or a dataclass of pydantic."""
    fields = getattr(kind, "__pydantic_fields__", None) or {}
    found = {name: frozenset(_aliases(field)) - {name} for name, field in fields.items()}
    return {name: aliases for name, aliases in found.items() if aliases}


def parameter_names(fields: Iterable[str], names: Aliases) -> Mapping[str, frozenset[str]]:
    """Return the names that `project` gives these fields, each with all names of the same field.

    A name that two fields share stands for itself alone.
    """
    found: dict[str, frozenset[str]] = {}
    for field in fields:
        one = {field, *(each if isinstance(each, str) else str(each[0]) for each in names.get(field, ()))}
        for name in one:
            found[name] = frozenset({name}) if name in found else frozenset(one)
    return found


def _aliases(field: Any) -> Iterator[Alias]:
    for each in (field.alias, field.validation_alias, field.serialization_alias):
        choices = each.choices if isinstance(each, AliasChoices) else [each]
        for choice in choices:
            if isinstance(choice, AliasPath):
                yield tuple(choice.path) if len(choice.path) > 1 else str(choice.path[0])
            elif isinstance(choice, str):
                yield choice


def typed_dict_aliases(core_schema: Any) -> Aliases | None:
    """Return the other names of keys in a validator's schema, wherever they are.

    None where the schema is too large to be read whole, so that any key may have another name.
    """
    found: dict[str, frozenset[Alias]] = {}
    waiting: list[tuple[Any, str | None]] = [(core_schema, None)]
    for _ in range(_MAX_VALUES):
        if not waiting:
            return found
        node, key = waiting.pop()
        if isinstance(node, dict):
            name = node.get("name", key)
            if isinstance(name, str) and "validation_alias" in node:
                found[name] = found.get(name, frozenset()) | set(_core_names(node["validation_alias"]))
            waiting += [(inner, each) for each, inner in node.items() if isinstance(inner, (dict, list))]
        elif isinstance(node, list):
            waiting += [(inner, None) for inner in node if isinstance(inner, (dict, list))]
    return None


def _core_names(alias: Any) -> Iterator[Alias]:
    if isinstance(alias, str):
        yield alias
    elif isinstance(alias, list) and alias and isinstance(alias[0], str):
        yield alias[0] if len(alias) == 1 else tuple(alias)
    elif isinstance(alias, list):
        for each in alias:
            if isinstance(each, list):
                yield from _core_names(each)
