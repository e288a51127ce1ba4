"""The one encoding of arguments: any Python value becomes plain JSON, tagged where JSON has no word for it.

Plain JSON stays as it is. Everything else becomes an object with a `$type` key, so that two different
values do not look alike in an audit row or in a digest:

    b"hi"              {"$type": "bytes", "utf8": "hi"}
    (1, 2)             {"$type": "tuple", "items": [1, 2]}
    {1: "a"}           {"$type": "dict", "items": [[1, "a"]]}
    Login(user="a")    {"$type": "shop.Login", "fields": {"user": "a"}}

A set and a frozenset, and a dict and its frozen copy, are the same value and encode alike. What cannot be
told apart are objects that hold nothing readable (a generator, a lock) and what lies below `MAX_DEPTH`,
beyond `MAX_NODES` or beyond `MAX_OBJECTS`; the tag says so.

The encoding is total. It reads the instance dict and the slots through the interpreter's own descriptors
and contents through the built-in base's methods, so an argument's `__repr__`, `__iter__`, `__eq__` or
properties do not run: they could raise, lie, consume or leak.
"""

from __future__ import annotations

import hashlib
import types
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from aegis_otel.model import FrozenDict, FrozenList

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"
"""A JSON value: strings without lone surrogates, finite floats, integers of at most 64 bits."""

TAG = "$type"
MAX_DEPTH = 64
"""Containers inside containers; deeper ones are `{"$type": "too_deep"}`."""
MAX_NODES = 1_000_000
"""Values in all containers together; what comes after is `{"$type": "too_large"}`. A few lists that
contain each other would otherwise unfold without end."""
MAX_OBJECTS = 10_000
"""Objects whose fields are read; later ones are their type's name only."""
MAX_REPR = 1_000
"""Characters of a built-in type's own repr that are kept."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1  # what every JSON reader keeps exact, DuckDB's among them
_DECIMAL_BITS = 4096  # beyond this Python's decimal conversion is slow, and soon forbidden

_encoder = msgspec.json.Encoder(order="deterministic")

_MRO = type.__dict__["__mro__"]
_CLASS_DICT = type.__dict__["__dict__"]
_MODULE = type.__dict__["__module__"]
_QUALNAME = type.__dict__["__qualname__"]
_ARGS = BaseException.__dict__["args"]


def to_plain(value: object) -> Plain:
    """`value` as plain JSON, sharing no container with it. Never raises an `Exception`."""
    try:
        return _Walk().plain(value)
    except Exception as error:  # out of stack or memory, or changed by another thread meanwhile
        return {TAG: "unreadable", "error": type(error).__name__}


def encode_plain(plain: Plain) -> bytes:
    """Canonical JSON of a plain value: UTF-8, no spaces, keys sorted."""
    try:
        return _encoder.encode(plain)
    except RecursionError:  # called with next to no stack left
        return b'{"$type":"too_deep"}'


def encode(value: object) -> bytes:
    """Canonical JSON of any value; equal bytes mean equal values. What the digest is taken of."""
    return encode_plain(to_plain(value))


class _Walk:
    """One pass over one value: the containers it is in, and how much more it may take."""

    __slots__ = ("objects", "path", "room")

    def __init__(self) -> None:
        self.path: list[int] = []
        self.room = MAX_NODES
        self.objects = MAX_OBJECTS

    def plain(self, value: Any) -> Plain:
        kind = type(value)
        if kind is str:
            return value if value.isascii() else _text(value)
        if kind is int:
            return value if _INT_MIN <= value <= _INT_MAX else _big(value)
        if value is None or kind is bool:
            return value  # type: ignore[no-any-return]
        if kind is float:
            return value if value - value == 0 else {TAG: "float", "value": repr(value)}

        path = self.path
        me = id(value)
        if me in path:
            return {TAG: "cycle", "up": len(path) - path.index(me)}
        if len(path) >= MAX_DEPTH:
            return {TAG: "too_deep"}
        path.append(me)
        try:
            if kind is dict or kind is FrozenDict:
                return self.mapping(value)
            if kind is list or kind is FrozenList:
                return self.items(value)
            return self.tagged(value, kind)
        finally:
            path.pop()

    def mapping(self, value: dict[Any, Any]) -> Plain:
        self.room -= len(value)
        if self.room < 0:
            return {TAG: "too_large"}
        plain: dict[str, Plain] = {}
        for key, item in dict.items(value):
            if type(key) is not str or key == TAG or not (key.isascii() or _is_text(key)):
                return {TAG: "dict", "items": self.pairs(value)}
            if type(item) is str and item.isascii():
                plain[key] = item
            else:
                plain[key] = self.plain(item)
        return plain

    def pairs(self, value: dict[Any, Any]) -> list[Plain]:
        pairs: list[Plain] = [[self.plain(key), self.plain(item)] for key, item in dict.items(value)]
        return sorted(pairs, key=encode_plain)

    def items(self, values: Iterable[Any]) -> Plain:
        taken = list(values)
        self.room -= len(taken)
        if self.room < 0:
            return {TAG: "too_large"}
        return [self.plain(item) for item in taken]

    def tagged(self, value: Any, kind: type) -> dict[str, Plain]:
        mro: tuple[type, ...] = _MRO.__get__(kind)
        name = _type_name(kind)
        try:
            for base in mro:
                opaque = _OPAQUE.get(id(base))
                if opaque is not None:
                    return {TAG: opaque, "name": _named(value)}
            if any(base is Enum for base in mro):
                fields = _instance_dict(value, mro) or {}
                member = {key: self.plain(fields.get(f"_{key}_")) for key in ("name", "value")}
                return {TAG: name, "base": "enum", **member}
            for place, base in enumerate(mro):
                known = _KNOWN.get(id(base))
                if known is not None:
                    tag, read = known
                    if base is kind:
                        return {TAG: tag, **read(self, value)}
                    tagged = {TAG: name, "base": tag, **read(self, value)}
                    fields = self.fields(value, mro[:place], mro)
                    return {**tagged, "fields": self.mapping(fields)} if fields else tagged
            self.objects -= 1
            if self.objects < 0:
                return {TAG: name, "cut": True}
            fields = self.fields(value, mro, mro)
            return (
                {TAG: name, "fields": self.mapping(fields)} if fields else {TAG: name, **_inside(value, mro)}
            )
        except Exception as error:
            return {TAG: name, "error": _type_name(type(error))}

    def fields(self, value: Any, slotted: tuple[type, ...], mro: tuple[type, ...]) -> dict[Any, Any]:
        """Slots of the classes in `slotted`, then the instance dict; none of the value's own code runs."""
        fields: dict[Any, Any] = {}
        for base in slotted:
            own = _CLASS_DICT.__get__(base)
            if "__slots__" not in own:  # built-in types have members too, down to the interpreter's frames
                continue
            for name, member in own.items():
                private = name.startswith("__") and name != "__pydantic_extra__"  # the undeclared fields
                if type(member) is types.MemberDescriptorType and not private:
                    try:
                        fields[name] = member.__get__(value)
                    except AttributeError:  # never set
                        continue
        return fields | (_instance_dict(value, mro) or {})


def _instance_dict(value: Any, mro: tuple[type, ...]) -> dict[Any, Any] | None:
    for base in mro:
        member = _CLASS_DICT.__get__(base).get("__dict__")
        if type(member) is types.GetSetDescriptorType:
            found = member.__get__(value)
            return found if type(found) is dict else None
    return None


def _inside(value: Any, mro: tuple[type, ...]) -> dict[str, Plain]:
    """What a built-in type without fields says of itself: its repr without an address, its bytes' hash."""
    inside: dict[str, Plain] = {}
    for base in mro[:-1]:  # object's own repr says the type and the address
        own = _CLASS_DICT.__get__(base).get("__repr__")
        if own is not None:
            if type(own) is types.WrapperDescriptorType:
                shown = own(value)
                if type(shown) is str and " at 0x" not in shown:
                    inside["repr"] = _text(shown[:MAX_REPR])
            break
    try:
        with memoryview(value) as view:
            content = view.tobytes()
    except (TypeError, ValueError, BufferError):
        return inside
    return {**inside, "length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _type_name(kind: type) -> str:
    module, name = _MODULE.__get__(kind), _QUALNAME.__get__(kind)
    return _clean(f"{module if type(module) is str else '?'}.{name}")


def _named(value: Any) -> str:
    """Where a function, class or module is found; those are named, not looked into."""
    if isinstance(value, type):
        return _type_name(value)
    if type(value) is types.MethodType:
        return _named(value.__func__)
    if isinstance(value, types.ModuleType):
        name = types.ModuleType.__getattribute__(value, "__dict__").get("__name__")
        return _clean(name) if type(name) is str else "?"
    module, name = value.__module__, value.__qualname__
    return _clean(f"{module if type(module) is str else '?'}.{name if type(name) is str else '?'}")


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(text: str) -> Plain:
    if _is_text(text):
        return text
    return {TAG: "str", "escaped": _clean(text.replace("\\", "\\\\"))}


def _big(value: int) -> Plain:
    if value.bit_length() <= _DECIMAL_BITS:
        return {TAG: "int", "value": str(value)}
    return {TAG: "int", "hex": format(value, "x")}


def _binary(value: bytes) -> dict[str, Plain]:
    """As text where it is text, so that redaction can read it."""
    try:
        return {"utf8": value.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _read_tuple(walk: _Walk, value: tuple[Any, ...]) -> dict[str, Plain]:
    for base in _MRO.__get__(type(value)):
        names = _CLASS_DICT.__get__(base).get("_fields")
        if type(names) is tuple and len(names) == tuple.__len__(value):  # a namedtuple
            return {"named": walk.mapping(dict(zip(names, tuple.__iter__(value), strict=True)))}
    return {"items": walk.items(tuple.__iter__(value))}


def _read_set(walk: _Walk, values: Iterable[Any]) -> dict[str, Plain]:
    items = walk.items(values)
    return {"items": sorted(items, key=encode_plain) if isinstance(items, list) else items}


def _read_timedelta(_: _Walk, value: timedelta) -> dict[str, Plain]:
    return {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}


_Reader: TypeAlias = "Callable[[_Walk, Any], dict[str, Plain]]"


def _by_id(readers: dict[type, tuple[str, _Reader]]) -> dict[int, tuple[str, _Reader]]:
    """Keyed by identity, because a metaclass may define `__hash__` and `__eq__`."""
    return {id(kind): reader for kind, reader in readers.items()}


_KNOWN = _by_id(
    {
        str: ("str", lambda walk, v: {"value": walk.plain(str.__str__(v))}),
        int: ("int", lambda walk, v: {"value": walk.plain(int.__int__(v))}),
        float: ("float", lambda walk, v: {"value": walk.plain(float.__float__(v))}),
        complex: (
            "complex",
            lambda walk, v: {
                "real": walk.plain(complex.real.__get__(v)),  # type: ignore[attr-defined]
                "imag": walk.plain(complex.imag.__get__(v)),  # type: ignore[attr-defined]
            },
        ),
        bytes: ("bytes", lambda _, v: _binary(bytes.__getitem__(v, slice(None)))),
        bytearray: ("bytearray", lambda _, v: _binary(bytes(memoryview(v)))),
        memoryview: ("memoryview", lambda _, v: _binary(v.tobytes())),
        dict: ("dict", lambda walk, v: {"entries": walk.mapping(v)}),
        list: ("list", lambda walk, v: {"items": walk.items(list.__iter__(v))}),
        deque: ("deque", lambda walk, v: {"items": walk.items(deque.__iter__(v))}),
        tuple: ("tuple", _read_tuple),
        set: ("set", lambda walk, v: _read_set(walk, set.__iter__(v))),
        frozenset: ("set", lambda walk, v: _read_set(walk, frozenset.__iter__(v))),
        slice: ("slice", lambda walk, v: {"items": walk.items((v.start, v.stop, v.step))}),
        datetime: ("datetime", lambda _, v: {"value": datetime.isoformat(v)}),
        date: ("date", lambda _, v: {"value": date.isoformat(v)}),
        time: ("time", lambda _, v: {"value": time.isoformat(v)}),
        timedelta: ("timedelta", _read_timedelta),
        Decimal: ("decimal", lambda _, v: {"value": Decimal.__str__(v)}),
        UUID: ("uuid", lambda _, v: {"value": UUID.__str__(v)}),
        PurePath: ("path", lambda _, v: {"value": _text(PurePath.__str__(v))}),
        BaseException: ("exception", lambda walk, v: {"items": walk.items(_ARGS.__get__(v))}),
    }
)

_OPAQUE = {
    id(kind): tag
    for kind, tag in (
        (type, "class"),
        (types.ModuleType, "module"),
        (types.FunctionType, "function"),
        (types.BuiltinFunctionType, "function"),
        (types.MethodType, "function"),
    )
}
