"""The encoding: readable for what is common, safe for what is hostile."""

from __future__ import annotations

import collections
import copy
import enum
import functools
import itertools
import re
import threading
import time as clock
import uuid
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from aegis_otel.model import FrozenDict, FrozenList, freeze
from aegis_otel.redaction import serialize
from aegis_otel.redaction.serialize import encode, encode_plain, to_plain

HERE = f"{__name__}."


@dataclass
class Login:
    user: str
    password: str


@dataclass(slots=True)
class Slotted:
    x: int
    y: int = 2


class Row(msgspec.Struct):
    a: int


class Model(pydantic.BaseModel, extra="allow"):
    a: int


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


def function() -> Iterator[int]:
    yield 1


FORMS: list[tuple[Any, Any]] = [
    (b"hi", {"$type": "bytes", "utf8": "hi"}),
    (b"\xff", {"$type": "bytes", "base64": "/w=="}),
    (bytearray(b"hi"), {"$type": "bytearray", "utf8": "hi"}),
    (memoryview(b"hi"), {"$type": "memoryview", "utf8": "hi"}),
    ((1, [2]), {"$type": "tuple", "items": [1, [2]]}),
    ({3, 1}, {"$type": "set", "items": [1, 3]}),
    (frozenset({3, 1}), {"$type": "set", "items": [1, 3]}),
    (collections.deque([1]), {"$type": "deque", "items": [1]}),
    (slice(1, None), {"$type": "slice", "items": [1, None, None]}),
    (1 + 2j, {"$type": "complex", "real": 1.0, "imag": 2.0}),
    (float("nan"), {"$type": "float", "value": "nan"}),
    (float("-inf"), {"$type": "float", "value": "-inf"}),
    (2**64, {"$type": "int", "value": "18446744073709551616"}),
    (-(16**5000), {"$type": "int", "hex": "-1" + "0" * 5000}),
    (Decimal("1.10"), {"$type": "decimal", "value": "1.10"}),
    (datetime(2026, 1, 2, 3, tzinfo=UTC), {"$type": "datetime", "value": "2026-01-02T03:00:00+00:00"}),
    (date(2026, 1, 2), {"$type": "date", "value": "2026-01-02"}),
    (time(3, 4), {"$type": "time", "value": "03:04:00"}),
    (timedelta(1, 2, 3), {"$type": "timedelta", "days": 1, "seconds": 2, "microseconds": 3}),
    (uuid.UUID(int=1), {"$type": "uuid", "value": "00000000-0000-0000-0000-000000000001"}),
    (PurePosixPath("/a"), {"$type": "pathlib.PurePosixPath", "base": "path", "value": "/a"}),
    ("a\\\ud800", {"$type": "str", "escaped": "a\\\\\\ud800"}),
    ({1: "a"}, {"$type": "dict", "items": [[1, "a"]]}),
    ({"a": 1, "$type": 2}, {"$type": "dict", "items": [["$type", 2], ["a", 1]]}),
    (collections.OrderedDict(a=1), {"$type": "collections.OrderedDict", "base": "dict", "entries": {"a": 1}}),
    (Login("ann", "x"), {"$type": HERE + "Login", "fields": {"user": "ann", "password": "x"}}),
    (Slotted(1), {"$type": HERE + "Slotted", "fields": {"x": 1, "y": 2}}),
    (Row(1), {"$type": HERE + "Row", "fields": {"a": 1}}),
    (
        Model(a=1, b=2),  # type: ignore[call-arg]
        {"$type": HERE + "Model", "fields": {"__pydantic_extra__": {"b": 2}, "a": 1}},
    ),
    (Point(1, 2), {"$type": HERE + "Point", "base": "tuple", "named": {"x": 1, "y": 2}}),
    (Colour.RED, {"$type": HERE + "Colour", "base": "enum", "name": "RED", "value": 1}),
    (Text("a"), {"$type": HERE + "Text", "base": "str", "value": "a"}),
    (ValueError("a", 1), {"$type": "builtins.ValueError", "base": "exception", "items": ["a", 1]}),
    (function, {"$type": "function", "name": HERE + "function"}),
    (len, {"$type": "function", "name": "builtins.len"}),
    (Login, {"$type": "class", "name": HERE + "Login"}),
    (re, {"$type": "module", "name": "re"}),
    (re.compile("a", re.I), {"$type": "pattern", "pattern": "a", "flags": 34}),
    (range(1, 5), {"$type": "range", "items": [1, 5, 1]}),
    ({"b": 1, "a": 2}.keys(), {"$type": "dict_keys", "items": ["a", "b"]}),
    ({"a": 2}.values(), {"$type": "dict_values", "items": [2]}),
    ({"a": 2}.items(), {"$type": "dict_items", "entries": {"a": 2}}),
    (MappingProxyType({"a": 2}), {"$type": "mappingproxy", "entries": {"a": 2}}),
    (
        datetime(2026, 1, 2, 3, tzinfo=ZoneInfo("Europe/Berlin")),
        {
            "$type": "datetime",
            "value": "2026-01-02T03:00:00+01:00",
            "tzinfo": {"$type": "zoneinfo", "key": "Europe/Berlin"},
            "fold": 0,
        },
    ),
    (
        UTC,
        {"$type": "timezone", "offset": {"$type": "timedelta", "days": 0, "seconds": 0, "microseconds": 0}},
    ),
    (..., {"$type": "builtins.ellipsis"}),
    (threading.Lock(), {"$type": "_thread.lock"}),
    (object(), {"$type": "builtins.object"}),
    (functools.partial(function), {"$type": "functools.partial"}),
]


@pytest.mark.parametrize(("value", "plain"), FORMS, ids=[type(value).__name__ for value, _ in FORMS])
def test_every_type_has_its_form(value: object, plain: object) -> None:
    """The table of forms."""
    assert to_plain(value) == plain


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63), 2**64 - 1, 1.5, "", "é日", [1, [2]], {"a": {"b": []}}]
)
def test_plain_stays_plain(value: object) -> None:
    """JSON that the SDK parsed is stored as it came, frozen or not."""
    assert to_plain(value) == value
    assert to_plain(freeze(value)) == value
    assert encode(freeze(value)) == encode(value)


def test_the_result_shares_nothing_with_the_arguments() -> None:
    """A later change to the arguments does not change what was recorded."""
    value = {"a": [{"b": 1}]}
    plain = to_plain(value)
    value["a"][0]["b"] = 2
    assert plain == {"a": [{"b": 1}]}


def test_keys_are_sorted_and_json_is_compact() -> None:
    """Canonical: the digest does not depend on the order of arguments."""
    assert encode({"b": 1, "a": {"d": 1, "c": "é"}}) == '{"a":{"c":"é","d":1},"b":1}'.encode()


def test_b40_keys_that_are_not_text() -> None:
    """B40: an int key neither raises nor is taken for text."""
    assert to_plain({"m": {1: "a"}}) == {"m": {"$type": "dict", "items": [[1, "a"]]}}
    assert encode({"m": {1: "a"}}) != encode({"m": {"1": "a"}})


def test_cycles_are_marked() -> None:
    """A container inside itself ends where it repeats, and different knots differ."""
    inner: list[Any] = []
    inner.append(inner)
    outer: list[Any] = []
    outer.append([outer])
    assert to_plain(inner) == [{"$type": "cycle", "up": 1}]
    assert to_plain(outer) == [[{"$type": "cycle", "up": 2}]]


def test_the_same_object_twice_is_no_cycle() -> None:
    """Only an object inside itself is a cycle."""
    shared = [1]
    assert to_plain([shared, shared]) == [[1], [1]]


def test_depth_is_bounded() -> None:
    """A nest as deep as memory allows is cut, not an overflow."""
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    assert encode(deep).count(b"[") == serialize.MAX_DEPTH
    assert b"too_deep" in encode(deep)


@pytest.mark.parametrize("wrap", [lambda v: [v, v], lambda v: {"a": v, "b": v}, lambda v: (v, v)])
def test_what_is_shared_is_frozen_once(wrap: Any) -> None:
    """2**40 paths lead to one value: it is copied for the first of them."""
    inner = value = [1]
    for _ in range(40):
        value = wrap(value)
    frozen = freeze(value)
    for _ in range(40):
        frozen = list(frozen.values() if isinstance(frozen, dict) else frozen)
        assert frozen[0] is frozen[1]
        frozen = frozen[0]
    inner.append(2)
    assert (type(frozen), frozen) == (FrozenList, [1])


def test_what_is_too_deep_in_one_place_is_frozen_in_another() -> None:
    """A copy that was cut below the bound does not stand for the same value near the top."""
    shared: Any = [[[1]]]
    deep = shared
    for _ in range(63):
        deep = [deep]
    frozen = freeze([deep, shared])
    assert [type(frozen[1]), type(frozen[1][0]), type(frozen[1][0][0])] == [FrozenList] * 3


def test_a_cycle_can_be_frozen() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    frozen = freeze(cycle)
    assert (type(frozen), type(frozen[1]), frozen[1]["again"]) == (FrozenList, FrozenDict, cycle)


@pytest.mark.parametrize("wrap", [lambda v: [v, v], lambda v: {"a": v, 1: v}, lambda v: (v, v)])
def test_containers_that_unfold_without_end_are_cut(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level holds the next one twice: 2**60 values in 60 objects."""
    monkeypatch.setattr(serialize, "MAX_NODES", 5_000)
    bomb: Any = 0
    for _ in range(60):
        bomb = wrap(bomb)
    start = clock.perf_counter()
    assert b"too_large" in encode(bomb)
    assert clock.perf_counter() - start < 20


def test_a_late_odd_key_does_not_walk_twice() -> None:
    """Nested dicts whose last key is no text cost one pass, not one per level."""
    nest: Any = 0
    for _ in range(40):
        nest = {"a": nest, 1: 0}
    assert encode(nest).count(b'"dict"') == 40


def test_an_object_graph_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that drags a whole program along does not take it to the audit."""
    monkeypatch.setattr(serialize, "MAX_OBJECTS", 2)
    plain: Any = to_plain([Slotted(1), Slotted(2), Slotted(3)])
    assert plain[2] == {"$type": HERE + "Slotted", "cut": True}


def test_a_generator_is_not_consumed() -> None:
    """The tool gets all of it."""
    values = function()
    assert to_plain({"v": values}) == {"v": {"$type": "builtins.generator"}}
    assert list(values) == [1]


def test_buffers_are_told_apart_by_a_hash() -> None:
    """An array is not written out, and two arrays do not look alike."""
    one, two = array("d", [0.0] * 1000 + [1.0]), array("d", [0.0] * 1000 + [2.0])
    plain: Any = to_plain(one)
    assert plain["length"] == 8008
    assert encode(one) != encode(two)


RAN: list[str] = []


class Hostile:
    """Every way to run code on being looked at leaves a trace."""

    def __init__(self) -> None:
        object.__setattr__(self, "seen", 1)

    def _trap(self, *args: object, **kwargs: object) -> Any:
        RAN.append("code of an argument ran")
        raise RuntimeError

    __repr__ = __str__ = __iter__ = __len__ = __eq__ = __hash__ = __bool__ = _trap  # type: ignore[assignment]
    __getattribute__ = __getattr__ = __reduce_ex__ = __format__ = __index__ = __bytes__ = _trap  # type: ignore[assignment]
    __class__ = property(_trap)  # type: ignore[assignment]
    trap = property(_trap)


class HostileDict(dict[Any, Any]):
    items = keys = values = __iter__ = __len__ = __getitem__ = __repr__ = __eq__ = Hostile._trap  # type: ignore[assignment]


class HostileList(list[Any]):
    __iter__ = __len__ = __getitem__ = __repr__ = __eq__ = Hostile._trap  # type: ignore[assignment]


class HostileText(str):
    __str__ = __repr__ = __len__ = __iter__ = encode = isascii = __eq__ = Hostile._trap  # type: ignore[assignment]
    __hash__ = str.__hash__


class HostileMeta(type):
    __eq__ = __hash__ = __repr__ = __getattribute__ = mro = Hostile._trap  # type: ignore[assignment]
    mro = type.mro
    __module__ = property(Hostile._trap)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (Hostile(), {"$type": HERE + "Hostile", "fields": {"seen": 1}}),
        (HostileDict(a=1), {"$type": HERE + "HostileDict", "base": "dict", "entries": {"a": 1}}),
        (HostileList([1]), {"$type": HERE + "HostileList", "base": "list", "items": [1]}),
        (HostileText("a"), {"$type": HERE + "HostileText", "base": "str", "value": "a"}),
    ],
    ids=["object", "dict", "list", "str"],
)
def test_no_code_of_an_argument_runs(value: object, part: object) -> None:
    """What an object holds is read, and the object is not asked."""
    RAN.clear()
    assert to_plain([value]) == [part]
    assert not RAN


def test_a_hostile_metaclass_is_not_asked() -> None:
    """Nor is its class."""
    made = type.__call__(HostileMeta, "Made", (), {"__module__": "m"})
    value = object.__new__(made)
    RAN.clear()
    assert to_plain(value) == {"$type": "m.Made"}
    assert not RAN


class Zone(tzinfo):
    def __init__(self, hours: int) -> None:
        self.hours = hours

    utcoffset = Hostile._trap  # type: ignore[assignment]


class OddPath(PurePosixPath):
    __slots__ = ()
    __str__ = __fspath__ = _format_parsed_parts = Hostile._trap  # type: ignore[assignment]


class OddUUID(uuid.UUID):
    int = hex = property(Hostile._trap)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (datetime(2026, 1, 1, tzinfo=Zone(1)), datetime(2026, 1, 1, tzinfo=Zone(2))),
        (time(1, tzinfo=Zone(1)), time(1, tzinfo=Zone(2))),
        (OddPath("/a/b"), OddPath("/a/c")),
        ({"a": Hostile()}.keys(), {"b": Hostile()}.keys()),
        ({"a": Hostile()}.values(), {"a": [Hostile()]}.values()),
        (MappingProxyType({"a": Hostile()}), MappingProxyType({"b": Hostile()})),
        (collections.OrderedDict(a=Hostile()).items(), collections.OrderedDict(b=Hostile()).items()),
    ],
    ids=["datetime", "time", "path", "keys", "values", "proxy", "ordered items"],
)
def test_what_holds_or_asks_foreign_code_is_read_without_it(one: object, two: object) -> None:
    """Told apart by what they hold, and nothing of them is asked."""
    RAN.clear()
    first = encode(one)
    assert b"error" not in first
    assert encode(one) == first != encode(two)
    assert not RAN


def test_a_subclass_of_uuid_is_not_asked() -> None:
    value = OddUUID.__new__(OddUUID)
    uuid.UUID.__dict__["int"].__set__(value, 1)
    RAN.clear()
    plain: Any = to_plain(value)
    assert plain["value"] == "00000000-0000-0000-0000-000000000001"
    assert not RAN


def test_a_repr_that_would_ask_is_not_asked() -> None:
    """Types in C show what they hold by the repr of it."""
    RAN.clear()
    assert to_plain(itertools.repeat(Hostile())) == {"$type": "itertools.repeat"}
    assert not RAN


def test_long_patterns_and_addresses_are_told_apart() -> None:
    """Whatever is cut for reading is not cut for the digest."""
    pairs: list[tuple[Any, Any]] = [
        (re.compile("a" * 5000 + "b"), re.compile("a" * 5000 + "c")),
        (pydantic.HttpUrl(f"http://x/{'a' * 1500}b"), pydantic.HttpUrl(f"http://x/{'a' * 1500}c")),
        (array("i", [0]), array("f", [0])),
    ]
    for one, two in pairs:
        assert encode(one) != encode(two)


def test_interrupts_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while arguments are encoded is still Ctrl-C."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serialize, "bases", interrupt)
    with pytest.raises(KeyboardInterrupt):
        to_plain(Slotted(1))


def test_lone_surrogates_anywhere() -> None:
    """In values, keys, type names and paths: always valid UTF-8."""
    odd = type("Odd", (), {"__module__": "\ud800"})
    for value in ("\ud800", {"\ud800": 1}, odd(), odd, PurePosixPath("\udcff")):
        assert b"ud" in encode(value)
        encode(value).decode()


def test_a_megabyte_of_text() -> None:
    """Long text is neither cut nor changed."""
    text = "é" * 500_000
    assert msgspec.json.decode(encode({"t": text})) == {"t": text}


def test_little_stack_left() -> None:
    """Called at the edge of the stack, it still returns."""

    def dive() -> bytes:
        try:
            return dive()
        except RecursionError:
            return encode({"a": [[[{"b": Slotted(1)}]]]})

    assert dive().startswith(b"{")


def test_a_deep_copy_encodes_alike() -> None:
    """The digest survives the copy that freezes the arguments."""
    value = {"a": (1, {2}), "b": Login("u", "p"), "c": b"x"}
    assert encode(copy.deepcopy(value)) == encode(value)


def test_encode_plain_is_encode_for_plain_values() -> None:
    """The governor encodes the plain value it already has."""
    value = {"a": [1, "x", None]}
    assert encode_plain(to_plain(value)) == encode(value)
