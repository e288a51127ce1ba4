"""Laws of redaction: nothing planted survives, nothing else changes, twice is once."""

from __future__ import annotations

import json
import re
from dataclasses import make_dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aegis_otel.redaction.redactor import REDACTED
from aegis_otel.redaction.secrets.likelihood import is_card_number
from aegis_otel.redaction.secrets.scanner import engine
from aegis_otel.redaction.secrets.secret_names import _PARTS, NAME_CLUE, NAME_PART, held_by
from aegis_otel.redaction.secrets.value_patterns import OPTIONS
from aegis_otel.redaction.serialize import encode_plain, to_plain
from tests.support.unsized_masks import redact, redact_text

ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
UPPER, HEX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "0123456789abcdef"


def card_number(head: str, tail: str) -> str:
    return next(number for digit in "0123456789" if is_card_number((number := head + tail + digit).encode()))


def tail(alphabet: str, size: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=size, max_size=size + 10)


shaped = st.one_of(
    tail(ALNUM, 16).map("sk-live-{}".format),
    tail(ALNUM, 20).map("sk-{}".format),
    tail(ALNUM, 16).map("rk_test_{}".format),
    tail(ALNUM, 30).map("ghp_{}".format),
    tail(ALNUM, 30).map("github_pat_{}".format),
    tail(HEX, 12).map("xoxb-{}".format),
    st.text(UPPER, min_size=16, max_size=16).map("AKIA{}".format),
    tail(ALNUM + "-_", 35).map("AIza{}".format),
    tail(ALNUM, 36).map("npm_{}".format),
    tail(ALNUM, 20).map("pypi-{}".format),
    st.tuples(tail(ALNUM, 12), tail(ALNUM, 12), tail(ALNUM, 12)).map(lambda t: "eyJ{}.eyJ{}.{}".format(*t)),
    tail(ALNUM, 30).map("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----".format),
    st.text("0123456789", min_size=13, max_size=13).map(lambda t: card_number("42", t)),
    st.text("0123456789", min_size=13, max_size=13)
    .map(lambda t: card_number("55", t))
    .map(lambda n: "-".join(re.findall("....", n))),
    st.from_regex(r"\A[1-8][0-9]{2}-[1-9][0-9]-[1-9][0-9]{3}\Z"),
)
NAMES = (
    *(
        "password",
        "passwd",
        "pwd",
        "secret",
        "token",
        "api_key",
        "apiKey",
        "API-KEY",
        "x-api-key",
        "db_password",
    ),
    *(
        "authorization",
        "credential",
        "privateKey",
        "ACCESS_KEY",
        "ssn",
        "card_number",
        "auth",
        "Cookie",
        "jwt",
    ),
    *("session_token", "clientSecret", "cvv", "dsn"),
)
names = st.sampled_from(NAMES)
harmless = st.text(st.sampled_from("abc xyz-_.,:;/()[]{}'\"\\\n\té日="), max_size=12)
edges = st.sampled_from([" ", "\n", "\t", ",", ";", "(", "[", "'", '"', "|", "é", "", "> ", "\\n"])
ends = st.sampled_from([" ", "\n", ";", "&", "'", '"', "", ") ", "<"])


@st.composite
def sentence(draw: st.DrawFn, secret: str) -> str:
    """The secret, by its shape, somewhere in a text."""
    return draw(harmless) + draw(edges.filter(bool)) + secret + draw(ends.filter(bool)) + draw(harmless)


@st.composite
def place(draw: st.DrawFn, leaf: Any) -> Any:
    """The leaf somewhere in a structure of any types."""
    value = leaf
    for _ in range(draw(st.integers(0, 4))):
        key = draw(st.one_of(harmless, st.integers(), st.binary(max_size=2)))
        value = draw(
            st.sampled_from(
                [
                    [value, 1],
                    (0, value),
                    {key: value},
                    {"a": 1, "b": value},
                    make_dataclass("Data", ["inner"])(value),
                    SimpleNamespace(inner=value),
                    ValueError("x", value),
                ]
            )
        )
    return value


def left(value: Any) -> bytes:
    return encode_plain(redact(to_plain(value)))


@given(st.data(), shaped)
def test_no_planted_shape_survives(data: st.DataObject, secret: str) -> None:
    """A key, card number or private key goes from any text in any place."""
    text = data.draw(sentence(secret))
    core = secret.splitlines()[1] if "\n" in secret else secret
    for leaf in (
        text,
        {text: 1},
        text.encode(),
        text.encode() + b"\xff",
        json.dumps({"t": text}),
        repr([text]),
    ):
        assert core.encode() not in left(data.draw(place(leaf)))
    assert core not in redact_text(text)


@given(st.data(), names, st.text(ALNUM, min_size=8, max_size=12).map("Zq9{}".format))
def test_no_planted_name_survives(data: st.DataObject, name: str, secret: str) -> None:
    """What such a name holds goes, whatever type it has, wherever it is."""
    content = data.draw(
        st.sampled_from([secret, [secret], {"x": secret}, (1, secret), secret.encode(), {secret: 1}])
    )
    field = re.sub(r"\W", "_", name)
    leaves: list[Any] = [
        {"a": 1, name: content},
        {1: 2, name: content},
        {name.encode(): content},
        make_dataclass("Data", [field])(content),
        SimpleNamespace(**{field: content}),
        [{"name": name, "value": content}],
        json.dumps({"n": [1], name: to_plain(content)}),
        json.dumps(json.dumps({name: to_plain(content)})),
        repr({"a": 1, name: content}),
        repr(SimpleNamespace(**{field: content})),
    ]
    for leaf in leaves:
        assert secret.encode() not in left(data.draw(place(leaf)))


@given(st.data(), names, st.text(ALNUM + "!#$%*+-_/.?", min_size=8, max_size=12).map("Zq9{}9Zq".format))
def test_no_named_value_in_text_survives(data: st.DataObject, name: str, secret: str) -> None:
    """Assignments, headers, query strings and quoted values inside any text."""
    sign = data.draw(st.sampled_from(["=", ": ", " = ", ":", "=>", " := "]))
    quote = data.draw(st.sampled_from(["", "'", '"', '\\"', "b'"]))
    pair = f"{name}{sign}{quote}{secret}{quote.lstrip('b')}"
    text = data.draw(harmless) + data.draw(edges.filter(bool)) + pair + data.draw(ends.filter(bool))
    assert secret not in redact_text(text)
    assert secret.encode() not in left(data.draw(place(text)))


@given(
    st.text(ALNUM, min_size=8).map("Zq9{}".format),
    st.sampled_from(["postgres", "https", "amqp+tls"]),
    harmless,
)
def test_no_password_in_a_url_survives(secret: str, scheme: str, before: str) -> None:
    """The user and the host stay."""
    shown = redact_text(f"{before} {scheme}://admin:{secret}@db.example/x")
    assert secret not in shown
    assert shown.endswith(f"{scheme}://admin:{REDACTED}@db.example/x")


FRAGMENTS = (
    *(
        "password",
        "token",
        "secret=",
        "auth:",
        "api key",
        "pwd",
        "tokens",
        "pass",
        "pin=",
        "--password",
        "name",
    ),
    *(
        "--",
        "=",
        ":",
        "=>",
        "'",
        '"',
        "\\",
        '\\"',
        "'''",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ";",
        "&",
        "://",
        "a:b@",
    ),
    *(
        "[REDACTED]",
        "REDACTED]",
        "[REDACTED",
        "none",
        "true",
        "12",
        "é",
        "\ud800",
        "x",
        "value",
        "$type",
        "base64",
    ),
    *("sk-live-abcdefgh", "AKIAIOSFODNN7EXAMPLE", "eyJabcde.eyJabcde.x", "4111111111111111", "123-45-6789"),
    *("Bearer abcdef", "Basic YTpi", "-----BEGIN PRIVATE KEY-----", '{"password":"x"}', '{"a":'),
)
fragments = st.lists(
    st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(["", " ", "\n", "=", '":"'])).map("".join),
    max_size=12,
).map("".join)
plain_texts = fragments.map(lambda text: text.replace("\ud800", ""))
finite = st.floats(allow_nan=False, allow_infinity=False)
plains = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | plain_texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(names | plain_texts, inner, max_size=3)
        | st.fixed_dictionaries(
            {"$type": st.sampled_from(["dict", "bytes"]), "items": inner, "base64": inner}
        )
    ),
    max_leaves=8,
)


@given(fragments)
def test_text_twice_is_once(text: str) -> None:
    """Redacting redacted text changes nothing."""
    once = redact_text(text)
    assert redact_text(once) == once
    once.encode()


@given(plains)
def test_structures_twice_is_once(plain: Any) -> None:
    """Redacting a redacted structure changes nothing."""
    once = redact(plain)
    assert redact(once) == once


@given(plains)
def test_the_gate_lets_nothing_pass(plain: Any) -> None:
    """A structure comes out the same alone and beside a secret, which opens the gate for all of it."""
    beside: Any = redact([plain, None, "password=x"])  # two would be a name and its value
    assert beside == [redact(plain), None, "password=[REDACTED]"]


@given(fragments)
def test_what_is_not_suspect_has_nothing_to_hide(text: str) -> None:
    """What the one pass rules out, a search for it finds nowhere, beside what the others find."""
    data = text.encode("utf-8", "replace")
    suspected = engine().suspects(data)
    found: dict[bool, set[Any]] = {True: set(), False: set()}
    for number, each in enumerate(engine().kinds):
        found[number in suspected].update(each.find(data))
    assert found[False] <= found[True]


def alternatives(pattern: str) -> list[str]:
    """The pattern's alternatives, each as a pattern: so that none of two hundred is left out by chance."""
    parts, depth, begun, at = [], 0, 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            at = pattern.index("]", at + 2)
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            parts.append(pattern[begun:at])
            begun = at + 1
        at += 2 if char == "\\" else 1
    return [*parts, pattern[begun:]]


def matching(pattern: str) -> st.SearchStrategy[bytes]:
    """Texts that hold what the pattern, in RE2's syntax, describes."""
    spelled = pattern.replace("[[:alnum:]]", "[A-Za-z0-9]").replace("(?i)", "").replace(r"\z", r"\Z")
    return st.from_regex(re.compile(spelled.encode()))


GATED = [
    (number, each.gate)
    for number, each in enumerate(engine().kinds)
    if each.gate and each.gate not in each.clues and NAME_PART not in each.gate and len(each.gate) < 10_000
]


@pytest.mark.parametrize(("number", "gate"), GATED)
@settings(max_examples=20)
@given(data=st.data())
def test_no_clue_is_missing_where_a_gate_is(number: int, gate: str, data: st.DataObject) -> None:
    """What is looked for first rules out no text in which the pattern itself would be found."""
    text = data.draw(st.sampled_from([*map(matching, alternatives(gate))]).flatmap(lambda each: each))
    assume(re2.search(gate.encode(), text, OPTIONS) is not None)
    assert number in engine().suspects_json(text)


@pytest.mark.parametrize("part", alternatives(_PARTS))
@settings(max_examples=6)
@given(data=st.data())
def test_a_clue_is_in_every_name(part: str, data: st.DataObject) -> None:
    """Each kind of name that tells a secret has one of the clues in it."""
    name = data.draw(st.from_regex(re.compile(part.encode(), re.IGNORECASE), fullmatch=True))
    assert re2.search(NAME_CLUE.encode(), name, OPTIONS) is not None


def fits(before: Any, after: Any) -> bool:
    """Everything is where it was, or hidden."""
    if after == REDACTED or isinstance(before, str):
        return isinstance(after, str)
    if isinstance(before, dict):
        return len(before) == len(after) and all(map(fits, before.values(), after.values()))
    if isinstance(before, list):
        return len(before) == len(after) and all(map(fits, before, after))
    return type(before) is type(after) and before == after


@given(plains)
def test_the_structure_stays(plain: Any) -> None:
    """Redaction replaces strings and hides values; it moves, adds and drops nothing."""
    assert fits(plain, redact(plain))


plain_words = st.text("bdfghjlmqrxyz 0123é.,!?", max_size=11)


@given(
    st.recursive(
        plain_words | st.integers(-(10**12), 10**12) | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_words, inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_holds_no_secret_is_not_touched(plain: Any) -> None:
    """Ordinary arguments are recorded as they are."""
    assert redact(plain) is plain


@given(
    st.sampled_from(["max_tokens", "tokenizer", "author", "authority", "secretary", "shipping"]),
    st.integers(0, 9999),
)
def test_innocent_names_keep_their_numbers(name: str, number: int) -> None:
    """A name that contains another one is not that name."""
    assert held_by(name) == "no"
    assert redact({name: number, "t": f"{name}={number}"}) == {name: number, "t": f"{name}={number}"}
