"""Globs: `*`, `?`, and everything else literal; and when one covers another."""

from __future__ import annotations

import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel.policy.evaluation.compiler import TypeIndex
from aegis_otel.policy.patterns import Shape, compile_glob, covers


@pytest.mark.parametrize(
    ("pattern", "shape", "yes", "no"),
    [
        ("*", Shape.PREFIX, ["", "a", "a\nb"], []),
        ("**", Shape.PREFIX, ["", "a"], []),
        ("abc", Shape.EXACT, ["abc"], ["", "ab", "abcd", "ABC", "abc\n"]),
        ("a*", Shape.PREFIX, ["a", "ab"], ["", "ba"]),
        ("*a", Shape.SUFFIX, ["a", "ba"], ["ab"]),
        ("*a*", Shape.INFIX, ["a", "bab"], ["", "b"]),
        ("a*c", Shape.MIXED, ["ac", "abc", "acc"], ["a", "abcd", "c"]),
        ("aa*aa", Shape.MIXED, ["aaaa", "aaaaa"], ["aa", "aaa"]),
        ("a?c", Shape.MIXED, ["abc", "a\nc", "a?c"], ["ac", "abbc"]),
        ("?", Shape.MIXED, ["a", "é", "\ud800"], ["", "ab"]),
        ("*?", Shape.MIXED, ["a", "ab"], [""]),
        ("a*b*a?", Shape.MIXED, ["abax", "axxbxxax"], ["aba", "abx"]),
        ("*ab*ab*", Shape.MIXED, ["abab", "xabxabx"], ["ab", "aab"]),
        ("db[prod]", Shape.EXACT, ["db[prod]"], ["dbp"]),
        (r"a\*", Shape.PREFIX, ["a\\", "a\\b"], ["a*"]),
        ("a.c", Shape.EXACT, ["a.c"], ["abc"]),
        ("(a|b)?", Shape.MIXED, ["(a|b)x"], ["a", "ax"]),
        ("[!a]", Shape.EXACT, ["[!a]"], ["b"]),
    ],
)
def test_globs(pattern: str, shape: Shape, yes: list[str], no: list[str]) -> None:
    """Inventory 9, with brackets literal (B23)."""
    glob = compile_glob(pattern)
    assert glob.shape is shape
    assert [text for text in yes if not glob.matches(text)] == []
    assert [text for text in no if glob.matches(text)] == []


def test_no_pattern_takes_more_than_linear_passes() -> None:
    """A backtracking matcher needs minutes for this."""
    glob = compile_glob("*a" * 30 + "*b")
    began = time.perf_counter()
    assert not glob.matches("a" * 100_000)
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("*", "anything*"),
        ("write_*", "write_record"),
        ("write_*", "write_*"),
        ("write_*", "write_re*"),
        ("*_x", "a*_x"),
        ("*a*", "*ba*"),
        ("a?c", "abc"),
        ("a*", "a?"),
        ("?*", "*?"),
        ("a*c", "a*b*c"),
        ("[a]*", "[a]b"),
        ("?*c", "*xc"),
        ("a?*c", "a*bc"),
        ("*?_x", "a*_x"),
        ("a*?*c", "a*b*c"),
        ("*a?*", "*ab*"),
        ("??*", "*a*b"),
    ],
)
def test_covering(wide: str, narrow: str) -> None:
    assert covers(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("write_*", "*"),
        ("write_*", "writ*"),
        ("write_record", "write_*"),
        ("a?c", "a*c"),
        ("a?", "a*"),
        ("*a", "*"),
        ("?", ""),
        ("[ab]", "a"),
        ("A*", "a*"),
    ],
)
def test_not_covering(wide: str, narrow: str) -> None:
    assert not covers(wide, narrow)


GLOBS = ["".join(each) for size in range(5) for each in product("ab*?", repeat=size)]
TEXTS = ["".join(each) for size in range(7) for each in product("abx", repeat=size)]


def test_covering_is_exact() -> None:
    """One of two short globs covers the other where it matches all short texts that the other does."""
    matched = {
        glob: sum(1 << n for n, text in enumerate(TEXTS) if compile_glob(glob).matches(text))
        for glob in GLOBS
    }
    wrong = [
        (wide, narrow)
        for wide, narrow in product(GLOBS, repeat=2)
        if covers(wide, narrow) != (matched[narrow] & ~matched[wide] == 0)
    ]
    assert wrong == []


GLOB = st.text("ab*?", max_size=9)


@given(GLOB, GLOB, st.lists(st.text("abx", max_size=3), min_size=9, max_size=9))
def test_what_is_covered_has_no_text_of_its_own(wide: str, narrow: str, parts: list[str]) -> None:
    fill = iter(parts)
    text = "".join(
        next(fill) if each == "*" else (next(fill) or "x")[0] if each == "?" else each for each in narrow
    )
    assert compile_glob(narrow).matches(text)
    assert compile_glob(wide).matches(text) or not covers(wide, narrow)


def test_covering_is_given_up_in_time() -> None:
    """A hostile pair takes milliseconds, and counts as not covered."""
    wide, narrow = "?" * 500 + "*a", "*b" + "?" * 450 + "*" + "b" * 50 + "a"
    began = time.perf_counter()
    assert not covers(wide, narrow)
    assert time.perf_counter() - began < 1


def test_the_index_finds_rules_in_order_and_once() -> None:
    patterns = [["a*", "*"], ["*b"], ["ab"], ["ab*", "*ab", "ab"], ["b*"], ["a?"], ["*"]]
    index = TypeIndex([[compile_glob(text) for text in texts] for texts in patterns])
    assert index.find("ab") == [0, 1, 2, 3, 5, 6]
    assert index.find("") == [0, 6]
    assert index.find("b") == [0, 1, 4, 6]
