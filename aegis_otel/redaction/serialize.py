"""Encode any Python value as plain JSON, tagged where JSON has no word for it: the one form of arguments.

Plain JSON stays as it is. Everything else becomes an object with a `$type` key, so that two different
values do not look alike in an audit row or in a digest:

    b"hi"              {"$type": "bytes", "utf8": "hi"}
    (1, 2)             {"$type": "tuple", "items": [1, 2]}
    {1: "a"}           {"$type": "dict", "items": [[1, "a"]]}
    Login(user="a")    {"$type": "shop.Login", "fields": {"user": "a"}}

A set and a frozenset, and a dict and its frozen copy, are the same value and encode alike, and the order of
a dict's entries is not part of it. Some values are not distinguished: objects that hold nothing readable (a
generator, a lock), functions and classes of one name, and what lies below `MAX_DEPTH`, beyond `MAX_NODES` or
beyond `MAX_OBJECTS`; the tag says so.

The encoding is total, and it runs no code of an argument, whose properties, `__getattribute__`, `__repr__` or
metaclass could raise, lie, consume or leak: fields are read through the interpreter's own descriptors on
`type` and `object`, and the content of a subclass of a built-in type through the built-in type's methods.
"""

from __future__ import annotations

import gc
import hashlib
import types
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import chain
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from re import Pattern
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

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
"""Characters of a repr that are kept, followed by the hash of a longer one."""

_CUT = tuple(f'{{"{TAG}":"{mark}"' for mark in ("too_deep", "too_large", "unreadable"))
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1  # what every JSON reader keeps exact, DuckDB's among them
_DECIMAL_BITS = 4096  # beyond this Python's decimal conversion is slow, and soon forbidden
_SAFE_REPR = frozenset(  # types in C that hold no other objects: their repr runs no code and is all of them
    (
        *("pydantic_core._pydantic_core.Url", "pydantic_core._pydantic_core.MultiHostUrl"),
        *("numpy.datetime64", "numpy.timedelta64"),
    )
)

_encoder = msgspec.json.Encoder(order="deterministic")


def to_plain(value: object) -> Plain:
    """Return `value` as plain JSON, which shares no container with it. Never raises an `Exception`."""
    try:
        return _Walk().plain(value)
    except Exception as error:  # out of stack or memory, or changed by another thread meanwhile
        return {TAG: "unreadable", "error": type(error).__name__}


def encode_plain(plain: Plain) -> bytes:
    """Return the canonical JSON of a plain value: UTF-8, no spaces, keys sorted."""
    try:
        return _encoder.encode(plain)
    except RecursionError:  # called with next to no stack left
        return b'{"$type":"too_deep"}'


def serialize(value: object) -> tuple[Plain, bytes]:
    """Return `value` as plain JSON, and its canonical JSON text. Never raises an `Exception`."""
    plain = to_plain(value)
    return plain, encode_plain(plain)


def is_cut(encoded: str) -> bool:
    """Return whether canonical JSON stands for a value with a part too deep, too large or unreadable."""
    return any(mark in encoded for mark in _CUT)  # in a text of the value itself the quotes are escaped


def encode(value: object) -> bytes:
    """Return the canonical JSON of any value, over which the digest is taken.

    Equal bytes mean equal values for JSON and for the types in the table above; for any other object, that
    its type has the same name and its fields are equal.
    """
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
            if value.isascii() or _is_text(value):
                return value  # type: ignore[no-any-return]
            return {TAG: "str", "escaped": _printable(value.replace("\\", "\\\\"))}
        if kind is int:
            if _INT_MIN <= value <= _INT_MAX:
                return value  # type: ignore[no-any-return]
            is_short = value.bit_length() <= _DECIMAL_BITS
            return {TAG: "int", "value": str(value)} if is_short else {TAG: "int", "hex": format(value, "x")}
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
        self.room -= dict.__len__(value)
        if self.room < 0:
            return {TAG: "too_large"}
        plain: dict[str, Plain] = {}
        entries = iter(dict.items(value))
        for key, item in entries:
            if type(key) is not str or key == TAG or not (key.isascii() or _is_text(key)):
                return self.pairs(plain, key, item, entries)
            if type(item) is str and item.isascii():
                plain[key] = item
            else:
                plain[key] = self.plain(item)
        return plain

    def pairs(self, done: dict[str, Plain], key: Any, item: Any, entries: Iterator[tuple[Any, Any]]) -> Plain:
        """Return a dict of which a key is no plain text; `done` are the entries before that key."""
        pairs: list[Plain] = [[done_key, done_item] for done_key, done_item in done.items()]
        pairs += [[self.plain(key), self.plain(item)] for key, item in chain([(key, item)], entries)]
        return {TAG: "dict", "items": sorted(pairs, key=encode_plain)}

    def items(self, values: Iterable[Any]) -> Plain:
        taken = list(values)
        self.room -= len(taken)
        if self.room < 0:
            return {TAG: "too_large"}
        return [self.plain(item) for item in taken]

    def unordered(self, values: Iterable[Any]) -> Plain:
        items = self.items(values)
        return sorted(items, key=encode_plain) if isinstance(items, list) else items

    def tagged(self, value: Any, kind: type) -> dict[str, Plain]:
        try:
            mro = bases(kind)
            for place, base in enumerate(mro):
                if id(base) in _OPAQUE:
                    return {TAG: _OPAQUE[id(base)], "name": _place_of(value)}
                if id(base) in _KNOWN:
                    return self.known(value, mro, place)
            return self.thing(value, mro)
        except Exception as error:
            return {TAG: _type_name(kind), "error": _type_name(type(error))}

    def known(self, value: Any, mro: tuple[type, ...], place: int) -> dict[str, Plain]:
        """Return an instance of a type with content of its own, or of a subclass that may add fields."""
        tag, read = _KNOWN[id(mro[place])]
        if any(base is Enum for base in mro):  # an IntEnum is a member first, and a number second
            tag, read = _KNOWN[id(Enum)]
        if place == 0:
            return {TAG: tag, **read(self, value)}
        tagged = {TAG: _type_name(mro[0]), "base": tag, **read(self, value)}
        added = {} if tag == "enum" else _fields(value, mro[:place])
        return {**tagged, "fields": self.mapping(added)} if added else tagged

    def thing(self, value: Any, mro: tuple[type, ...]) -> dict[str, Plain]:
        """Return an instance of any other class, by its fields."""
        name = _type_name(mro[0])
        self.objects -= 1
        if self.objects < 0:
            return {TAG: name, "cut": True}
        found = _fields(value, mro)
        return {TAG: name, "fields": self.mapping(found)} if found else {TAG: name, **_content(value, name)}


# --- what an object is made of, read without running its code ---

_MRO, _CLASS_DICT, _MODULE, _QUALNAME = (
    type.__dict__[name] for name in ("__mro__", "__dict__", "__module__", "__qualname__")
)
_ARGS = BaseException.__dict__["args"]
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def bases(kind: type) -> tuple[type, ...]:
    """Return the classes of `kind` in method resolution order."""
    found: tuple[type, ...] = _MRO.__get__(kind)
    return found


def _instance_dict(value: object) -> dict[Any, Any]:
    """Return the instance dict itself; an empty one where the instance has none, or its class hides it."""
    for base in bases(type(value)):
        member = _CLASS_DICT.__get__(base).get("__dict__")
        if type(member) in (types.GetSetDescriptorType, types.MemberDescriptorType):
            found = member.__get__(value)
            return found if type(found) is dict else {}
    return {}


def _fields(value: object, slotted: tuple[type, ...]) -> dict[Any, Any]:
    """Return what the instance holds: the slots that classes in `slotted` declare, and the instance dict."""
    held: dict[Any, Any] = {}
    for base in slotted:
        own = _CLASS_DICT.__get__(base)
        if "__slots__" not in own:  # built-in types have members too, down to the interpreter's frames
            continue
        for name, member in own.items():
            private = name.startswith("__") and name != "__pydantic_extra__"  # the undeclared fields
            if type(member) is types.MemberDescriptorType and not private:
                try:
                    held[name] = member.__get__(value)
                except AttributeError:  # never set
                    continue
    return held | _instance_dict(value)


def _content(value: Any, name: str) -> dict[str, Any]:
    """Return what a type without fields shows: its repr if that is safe, the hash of its buffer."""
    found: dict[str, Any] = {}
    show = _CLASS_DICT.__get__(type(value)).get("__repr__")
    if type(show) is types.WrapperDescriptorType and name in _SAFE_REPR:
        shown = _printable(show(value))
        found["repr"] = shown[:MAX_REPR]
        if len(shown) > MAX_REPR:
            found["repr_sha256"] = hashlib.sha256(shown.encode()).hexdigest()
    try:
        with memoryview(value) as view:
            if "O" in view.format:  # references, of which the bytes are addresses
                return found
            data = view.tobytes()
            found |= {"format": view.format, "shape": list(view.shape or ())}
    except (TypeError, ValueError, BufferError):
        return found
    return {**found, "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _place_of(value: Any) -> str:
    """Return where a class, module, function or method is found; `?` for a part that is not known."""
    if isinstance(value, type):
        return _type_name(value)
    if isinstance(value, types.ModuleType):
        name = _instance_dict(value).get("__name__")
        return _printable(name) if type(name) is str else "?"
    if type(value) is types.MethodType:
        value = value.__func__
    if type(value) in _FUNCTIONS:
        return _dotted(value.__module__, value.__qualname__)
    return _type_name(type(value))


def _type_name(kind: type) -> str:
    return _dotted(_MODULE.__get__(kind), _QUALNAME.__get__(kind))


def _dotted(module: object, name: object) -> str:
    return _printable(f"{module if type(module) is str else '?'}.{name if type(name) is str else '?'}")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    """Return `text` with lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


# --- the content of the types that have a form of their own ---


def _binary(value: bytes) -> dict[str, Plain]:
    """Return bytes as text where they are text, so that redaction can read it."""
    try:
        return {"utf8": value.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _read_tuple(walk: _Walk, value: tuple[Any, ...]) -> dict[str, Plain]:
    own = (_CLASS_DICT.__get__(base) for base in bases(type(value)))
    names = next((attributes["_fields"] for attributes in own if "_fields" in attributes), None)
    if type(names) is tuple and len(names) == tuple.__len__(value) and {*map(type, names)} <= {str}:
        return {"named": walk.mapping(dict(zip(names, tuple.__iter__(value), strict=True)))}
    return {"items": walk.items(tuple.__iter__(value))}


def _read_enum(walk: _Walk, value: Enum) -> dict[str, Plain]:
    member = _instance_dict(value)
    return {"name": walk.plain(member.get("_name_")), "value": walk.plain(member.get("_value_"))}


def _read_datetime(walk: _Walk, value: datetime) -> dict[str, Plain]:
    naive = f"{date.isoformat(value)}T{time.isoformat(datetime.time(value))}"
    return _zoned(walk, value, datetime, naive)


def _read_time(walk: _Walk, value: time) -> dict[str, Plain]:
    parts = (time.hour, time.minute, time.second, time.microsecond)
    naive = time.isoformat(time(*(part.__get__(value) for part in parts)))
    return _zoned(walk, value, time, naive)


def _zoned(walk: _Walk, value: Any, kind: Any, naive: str) -> dict[str, Plain]:
    """Return a time with its offset if a zone of Python's own says it; any other is code of the argument."""
    zone = kind.tzinfo.__get__(value)
    if zone is None or type(zone) is timezone:
        return {"value": kind.isoformat(value)}
    shown = kind.isoformat(value) if type(zone) is ZoneInfo else naive
    return {"value": shown, "tzinfo": walk.plain(zone), "fold": kind.fold.__get__(value)}


def _read_uuid(walk: _Walk, value: UUID) -> dict[str, Plain]:
    number = UUID.__dict__["int"].__get__(value)
    return {"value": str(UUID(int=number)) if type(number) is int else walk.plain(number)}


def _read_path(walk: _Walk, value: PurePath) -> dict[str, Plain]:
    """Return a path as text; a subclass, which may make that with its own code, as parts of the text."""
    if type(value) in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath):
        return {"value": walk.plain(PurePath.__str__(value))}
    own = PurePath.__dict__
    names = [name for name in ("_drv", "_root", "_parts", "_raw_paths") if name in own]
    return {"parts": walk.items(own[name].__get__(value) for name in names)}


def _inside(view: Any) -> Any:
    """Return what a view of a mapping shows: for a view of a `Mapping`, only the collector knows it."""
    (inside,) = gc.get_referents(view)
    return inside


_Reader: TypeAlias = "Callable[[_Walk, Any], dict[str, Plain]]"


def _slots(kind: type, *names: str) -> _Reader:
    return lambda walk, v: {name: walk.plain(kind.__dict__[name].__get__(v)) for name in names}


_READERS: dict[type, tuple[str, _Reader]] = {
    str: ("str", lambda walk, v: {"value": walk.plain(str.__str__(v))}),
    int: ("int", lambda walk, v: {"value": walk.plain(int.__int__(v))}),
    float: ("float", lambda walk, v: {"value": walk.plain(float.__float__(v))}),
    complex: ("complex", _slots(complex, "real", "imag")),
    bytes: ("bytes", lambda _, v: _binary(bytes.__getitem__(v, slice(None)))),
    bytearray: ("bytearray", lambda _, v: _binary(bytes(memoryview(v)))),
    memoryview: ("memoryview", lambda _, v: _binary(v.tobytes())),
    dict: ("dict", lambda walk, v: {"entries": walk.mapping(v)}),
    list: ("list", lambda walk, v: {"items": walk.items(list.__iter__(v))}),
    deque: ("deque", lambda walk, v: {"items": walk.items(deque.__iter__(v))}),
    tuple: ("tuple", _read_tuple),
    set: ("set", lambda walk, v: {"items": walk.unordered(set.__iter__(v))}),
    frozenset: ("set", lambda walk, v: {"items": walk.unordered(frozenset.__iter__(v))}),
    type({}.keys()): ("dict_keys", lambda walk, v: {"items": walk.unordered(dict.__iter__(_inside(v)))}),
    type({}.values()): ("dict_values", lambda walk, v: {"items": walk.items(dict.values(_inside(v)))}),
    type({}.items()): ("dict_items", lambda walk, v: {"entries": walk.mapping(_inside(v))}),
    types.MappingProxyType: ("mappingproxy", lambda walk, v: {"entries": walk.plain(_inside(v))}),
    range: ("range", lambda walk, v: {"items": walk.items((v.start, v.stop, v.step))}),
    slice: ("slice", lambda walk, v: {"items": walk.items((v.start, v.stop, v.step))}),
    datetime: ("datetime", _read_datetime),
    date: ("date", lambda _, v: {"value": date.isoformat(v)}),
    time: ("time", _read_time),
    timezone: ("timezone", lambda walk, v: {"offset": walk.plain(timezone.utcoffset(v, None))}),
    ZoneInfo: ("zoneinfo", _slots(ZoneInfo, "key")),
    timedelta: ("timedelta", _slots(timedelta, "days", "seconds", "microseconds")),
    Decimal: ("decimal", lambda _, v: {"value": Decimal.__str__(v)}),
    UUID: ("uuid", _read_uuid),
    PurePath: ("path", _read_path),
    Pattern: ("pattern", _slots(Pattern, "pattern", "flags")),
    Enum: ("enum", _read_enum),
    BaseException: ("exception", lambda walk, v: {"items": walk.items(_ARGS.__get__(v))}),
}
# keyed by identity, because a metaclass may define `__hash__` and `__eq__`
_KNOWN = {id(kind): reader for kind, reader in _READERS.items()}
_OPAQUE = {id(type): "class", id(types.ModuleType): "module"} | dict.fromkeys(
    map(id, (*_FUNCTIONS, types.MethodType)), "function"
)
