"""`match.ignore_case`: all globs of a rule in any case, on every way of deciding."""

from __future__ import annotations

import itertools
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel import Action, Policy, Subject
from aegis_otel.policy.evaluation.evaluator import decide
from aegis_otel.policy.lint import lint
from aegis_otel.policy.patterns import compile_glob

WHO = Subject(user="Ann", tenant="ACME", roles=["Clerk"])


def matches(match: dict[str, Any], **action: Any) -> bool:
    policy = Policy.from_dict({"rules": [{"name": "r", "match": match, "approval": "block"}]})
    call = Action(**{"type": "Delete_File", "target": "Prod-DB", "agent": "Intern", "subject": WHO} | action)
    found = policy.evaluate(call)
    assert policy.evaluate(call) == found
    assert decide(policy.compiled, call, datetime.now(UTC))[0] == found.verdict
    return found.matched_rule == "r"


@pytest.mark.parametrize(
    "match",
    [
        {"type": "delete_file"},
        {"type": "DELETE_*"},
        {"type": "*_file"},
        {"type": "*LETE*"},
        {"type": "delete?file"},
        {"type": ["x", "dELETE_FILE"]},
        {"target": "prod-*"},
        {"target": "prod-db", "agent": "INTERN"},
        {"agent": ["x*", "int*n"]},
        {"user": "ann", "tenant": "acme"},
        {"role": "CL*"},
    ],
)
def test_every_glob_of_the_match_matches_in_any_case(match: dict[str, Any]) -> None:
    assert matches({**match, "ignore_case": True})
    assert not matches(match)
    assert not matches({**match, "ignore_case": False})


def test_letters_beyond_ascii_have_cases_too() -> None:
    assert matches({"type": "löschen_straße", "ignore_case": True}, type="LÖSCHEN_STRASSE")
    assert not matches({"type": "delete", "ignore_case": True}, type="délete")


def test_a_character_that_folding_makes_longer_is_one_character() -> None:
    """`?` takes all of it, and no part of it is a letter for itself."""
    for glob, text in [("delete_?", "delete_ß"), ("?_a", "\u0149_A"), ("*?ẞ", "xaSS"), ("a*ss?", "Axßß")]:
        assert matches({"type": glob, "ignore_case": True}, type=text), (glob, text)
    for glob, text in [("read?s", "readß"), ("read*s", "readß"), ("i?x", "İx"), ("ß", "s"), ("??", "ß")]:
        assert not matches({"type": glob, "ignore_case": True}, type=text), (glob, text)


@st.composite
def globs_and_texts(draw: st.DrawFn) -> tuple[str, str]:
    """A glob, and often a text that it matches in some case."""
    letters = st.text("aAsSßẞiİ\u0307\u0149\u02bcnNﬃfFX\n\ud800", max_size=3)
    parts = draw(st.lists(st.one_of(letters, st.sampled_from("*?")), max_size=6))
    swap = st.sampled_from([str.upper, str.lower, str.casefold, str])
    text = [
        draw(letters) if part == "*" else draw(letters)[:1] if part == "?" else draw(swap)(part)
        for part in parts
    ]
    return "".join(parts), draw(st.one_of(st.just("".join(text)), letters))


def in_any_case(glob: str, text: str) -> bool:
    """What matches in any case, by its definition: each run of letters is equal when both are folded."""
    if not glob:
        return not text
    if glob[0] == "*":
        return any(in_any_case(glob[1:], text[start:]) for start in range(len(text) + 1))
    if glob[0] == "?":
        return bool(text) and in_any_case(glob[1:], text[1:])
    run = re.split(r"[*?]", glob, maxsplit=1)[0]
    ends = (end for end in range(len(text) + 1) if text[:end].casefold() == run.casefold())
    return any(in_any_case(glob[len(run) :], text[end:]) for end in ends)


@given(globs_and_texts())
@settings(max_examples=1000)
def test_it_matches_no_less_than_in_one_case_and_no_more_than_in_any(pair: tuple[str, str]) -> None:
    glob, text = pair
    found = compile_glob(glob, True).matches(text)
    assert found == in_any_case(glob, text)
    assert found or not compile_glob(glob).matches(text)
    assert compile_glob(glob, True).matches(text) == compile_glob(glob.casefold(), True).matches(text)


def test_long_texts_take_no_more_than_linear_passes() -> None:
    glob = compile_glob("*a" * 30 + "*b", True)
    began = time.perf_counter()
    assert not glob.matches("ß" + "a" * 100_000)
    assert time.perf_counter() - began < 10


def test_what_is_not_text_is_unknown_as_before() -> None:
    policy = Policy.from_dict(
        {"rules": [{"match": {"agent": "a", "ignore_case": True}, "approval": "block"}]}
    )
    assert policy.evaluate(Action("t")).errors == (
        "rule `rule_0`: `match.agent` is unknown: the action does not say",
    )


def test_a_star_matches_all_in_any_case() -> None:
    assert compile_glob("*", True).matches_all
    assert compile_glob("**", True).matches_all


def test_the_digest_covers_it() -> None:
    forms: list[dict[str, Any]] = [
        {"type": "a"},
        {"type": "a", "ignore_case": True},
        {"type": "A", "ignore_case": True},
        {"role": "a", "type": "a"},
        {"role": "a", "type": "a", "ignore_case": True},
    ]
    digests = {Policy.from_dict({"rules": [{"match": form}]}).digest for form in forms}
    assert len(digests) == len(forms)
    plain = Policy.from_dict({"rules": [{"match": {"type": "a", "ignore_case": False}}]})
    assert plain == Policy.from_dict({"rules": [{"match": {"type": "a"}}]})


def kinds(*rules: dict[str, Any], tools: Any = None) -> list[str]:
    return [finding.kind for finding in lint(Policy.from_dict({"defaults": {}, "rules": list(rules)}), tools)]


def test_the_linter_knows_that_case_does_not_count() -> None:
    """It neither calls the wider rule shadowed, nor a pattern a near miss."""
    exact, wide = {"match": {"type": "delete_*"}}, {"match": {"type": "delete_x", "ignore_case": True}}
    assert kinds(exact, wide) == []
    assert kinds({"match": {"type": "delete_*", "ignore_case": True}}, {"match": {"type": "delete_x"}}) == [
        "shadowed"
    ]
    tools: dict[str, Any] = {"Delete_X": {"properties": {}}}
    assert kinds(wide, tools=tools) == []
    assert kinds({"match": {"type": "delete_x"}}, tools=tools) == ["uncovered", "near-miss"]


def shadowed(wide: str, narrow: str, *, wide_ignores: bool = True, narrow_ignores: bool = True) -> bool:
    """Whether the linter says that a rule with the glob `narrow` is never reached behind one with `wide`."""
    rules = [
        {"name": "first", "match": {"type": wide, "ignore_case": wide_ignores}, "approval": "block"},
        {"name": "second", "match": {"type": narrow, "ignore_case": narrow_ignores}, "approval": "block"},
    ]
    return "shadowed" in {each.kind for each in lint(Policy.from_dict({"rules": rules}))}


LETTERS = ["a", "A", "s", "S", "\u017f", "\u00df", "i", "\u0130", "k", "\u212a", "f", "\ufb03"]
TEXTS = ["".join(each) for length in range(4) for each in itertools.product(LETTERS, repeat=length)]
pieces = st.sampled_from(["a", "A", "s", "ss", "\u00df", "?", "*", "k", "\u0130", "i", "ff", "ffi"])
short_globs = st.lists(pieces, min_size=1, max_size=4).map("".join)


@settings(max_examples=300, deadline=None)
@given(short_globs, short_globs, st.booleans(), st.booleans())
def test_what_is_called_never_reached_matches_nothing_more(
    wide: str, narrow: str, one: bool, two: bool
) -> None:
    """Tried on all short texts of letters that change their number when they are folded."""
    if shadowed(wide, narrow, wide_ignores=one, narrow_ignores=two):
        outer, inner = compile_glob(wide, one), compile_glob(narrow, two)
        assert [each for each in TEXTS if inner.matches(each) and not outer.matches(each)] == []


@pytest.mark.parametrize(
    ("wide", "narrow", "is_covered"),
    [
        ("acc*", "access_*", True),
        ("*_key", "access_*_key", True),
        ("message_*", "message_*", True),
        ("me*age", "message", True),
        ("??", "ab", True),
        ("mes*", "message_*", False),  # `me\u00dfage_x`
        ("*s?", "iss", False),  # `i\u00df`
        ("???", "\u0130ss", False),
        ("of?*", "office", False),  # `o\ufb03ce`
        ("s*", "s" * 60, False),  # too many ways to write it
    ],
)
def test_a_rule_is_never_reached_where_each_spelling_is_taken(
    wide: str, narrow: str, is_covered: bool
) -> None:
    assert shadowed(wide, narrow) is is_covered
