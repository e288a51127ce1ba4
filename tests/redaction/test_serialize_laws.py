"""Laws of the encoding, on arbitrary Python values."""

from __future__ import annotations

import datetime
import decimal
import math
import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel.model import freeze
from aegis_otel.redaction.serialize import Plain, encode, to_plain


class Bad(Exception):
    pass


def bad(*args: object, **kwargs: object) -> Any:
    raise Bad


METHODS = [
    "__repr__",
    "__str__",
    "__iter__",
    "__len__",
    "__eq__",
    "__bool__",
    "__getattribute__",
    "__getattr__",
]
BASES: list[tuple[type, list[Any]]] = [
    (object, []),
    (dict, [{"a": 1, 2: "b"}]),
    (list, [[1, "x"]]),
    (tuple, [(1, "x")]),
    (str, ["text\ud800"]),
    (int, [7]),
    (float, [math.nan]),
    (bytes, [b"\xff"]),
    (set, [{1, 2}]),
    (Exception, ["why"]),
    (datetime.date, [2026, 1, 1]),
    (decimal.Decimal, ["1.5"]),
]


@st.composite
def hostile(draw: st.DrawFn) -> Any:
    """An instance of a class some of whose methods raise, made over some built-in type."""
    base, args = draw(st.sampled_from(BASES))
    body: dict[str, Any] = dict.fromkeys(draw(st.sets(st.sampled_from(METHODS))), bad)
    if draw(st.booleans()):
        body["field"] = property(bad)
    if draw(st.booleans()):
        body["__class__"] = property(bad)
    if base is object and draw(st.booleans()):
        body["__slots__"] = ("slot",)
    body["__hash__"] = bad if draw(st.booleans()) else object.__hash__
    kind = type(draw(st.text("aé日", max_size=3)), (base,), body)
    made = base.__new__(kind, *args)  # type: ignore[call-overload]
    if base in (dict, list, set):
        base.__init__(made, *args)
    return made


any_text = st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud800\udfff"), max_size=6)
atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    any_text,
    st.binary(max_size=8),
    st.decimals(),
    st.complex_numbers(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
)
keys = st.one_of(
    any_text,
    st.sampled_from(["$type", "\ud800", "a", "b"]),
    st.integers(),
    st.booleans(),
    st.none(),
    st.binary(max_size=2),
    st.tuples(st.integers(), st.text(max_size=1)),
)
comparable = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(st.integers() | st.text(max_size=2), max_size=4),
    ),
    max_leaves=12,
)
anything = st.recursive(
    atoms | hostile(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.builds(lambda v: type("Holder", (), {"__repr__": bad})() if v is None else ValueError(v), inner),
    ),
    max_leaves=12,
)


def is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(is_plain(key) and type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(is_plain(item) for item in value)
    if type(value) is str:
        return not any("\ud800" <= char <= "\udfff" for char in value)
    if type(value) is int:
        return -(2**63) <= value < 2**64
    return value is None or type(value) is bool or (type(value) is float and math.isfinite(value))


def same(one: Any, two: Any) -> bool:
    """Equality of type and value all the way down, NaN being itself."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        mine, other = list(one.items()), list(two.items())
        return len(mine) == len(other) and all(any(same(pair, twin) for twin in other) for pair in mine)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, set):
        return bool(one == two)
    return repr(one) == repr(two)


@given(anything)
def test_total_and_plain(value: Any) -> None:
    """Any value encodes, to a plain value, which is JSON."""
    plain = to_plain(value)
    assert is_plain(plain)
    assert msgspec.json.decode(encode(value)) is not msgspec.UNSET


@given(anything)
def test_deterministic(value: Any) -> None:
    """The same value encodes to the same bytes each time."""
    assert encode(value) == encode(value)


@given(comparable, comparable)
def test_injective(one: Any, two: Any) -> None:
    """Different values have different encodings, equal ones the same."""
    assert (encode(one) == encode(two)) == same(one, two)


def mutated(value: Any, chance: random.Random) -> Any:
    """`value` with one place changed into something that looks like it."""
    alike = [
        str(value),
        [value],
        (value,),
        {"$type": "tuple", "items": [value]},
        repr(value).encode(),
        {"": value},
    ]
    if isinstance(value, list | tuple) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return type(value)([*value[:at], mutated(value[at], chance), *value[at + 1 :]])
    if isinstance(value, dict) and value and chance.random() < 0.7:
        key = chance.choice(list(value))
        return {**value, key: mutated(value[key], chance)}
    if isinstance(value, dict):
        alike.append({"$type": "dict", "items": [[key, item] for key, item in value.items()]})
    return chance.choice(alike)


@given(comparable, st.randoms(use_true_random=False))
def test_injective_on_lookalikes(value: Any, chance: random.Random) -> None:
    """A value, and the same with one place replaced by its text, its list or its own encoding."""
    other = mutated(value, chance)
    assert (encode(value) == encode(other)) == same(value, other)


@given(comparable)
def test_an_encoding_is_not_taken_for_the_value(value: Any) -> None:
    """A user's dict that looks like a tag is not the tagged value."""
    plain: Plain = to_plain(value)
    assert (encode(plain) == encode(value)) == same(plain, value)


@given(st.dictionaries(keys, atoms), st.randoms(use_true_random=False))
def test_order_of_entries_does_not_matter(value: dict[Any, Any], chance: random.Random) -> None:
    """Dicts and sets have no order."""
    entries = list(value.items())
    chance.shuffle(entries)
    assert encode(dict(entries)) == encode(value)
    names = [repr(key) for key in value]
    shuffled = [repr(key) for key, _ in entries]
    assert encode(set(names)) == encode(set(shuffled)) == encode(frozenset(shuffled))


@given(comparable)
def test_freezing_does_not_change_the_encoding(value: Any) -> None:
    """What is digested before the call and after the freeze is the same."""
    assert encode(freeze(value)) == encode(value)
