"""`param_in`: one of a list of values, whose types never mix."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Policy, PolicyError
from aegis_otel.policy.operators import membership
from aegis_otel.policy.operators.lists import MAX_ITEMS
from tests.support.conditions import answer


@pytest.mark.parametrize(
    ("values", "value", "result"),
    [
        (["EUR", "USD"], "EUR", True),
        (["EUR", "USD"], "eur", False),
        (["EUR", "USD"], "EU", False),
        (["EUR", "USD"], "", False),
        (["EUR", "USD"], 1, "the value is a number, not text"),
        (["EUR", "USD"], None, "the value is null"),
        (["EUR", "USD"], ["EUR"], "the value is a list, not text"),
        (["EUR", "USD"], {"EUR": 1}, "the value is a mapping, not text"),
        ([1, 2.5], 1.0, True),
        ([1, 2.5], 2.5, True),
        ([1, 2.5], 3, False),
        ([1, 2.5], True, "the value is a boolean, not a number"),
        ([1, 2.5], "1", "the value is text, not a number"),
        ([1, 2.5], float("nan"), "the value is not a number (NaN)"),
        ([1], float("inf"), False),
        ([10**30], 1e30, False),
        ([True], True, True),
        ([True], False, False),
        ([True], 1, "the value is a number, not a boolean"),
        ([0], False, "the value is a boolean, not a number"),
        (["a", 1, True], False, False),
        (["a", 1, True], 1, True),
        (["a", 1], True, "the value is a boolean, not text or a number"),
        (["a"], Decimal(1), "the value is of a type that conditions cannot compare, not text"),
        (["\u00e9"], "e\u0301", False),
        (["a"], "\ud800", False),
    ],
)
def test_membership(values: list[Any], value: Any, result: bool | str) -> None:
    assert answer({"param_in": {"p": values}}, {"p": value}) == result
    assert answer({"param_in": {"o.p": values}}, {"o": {"p": value}}) == result


def test_an_absent_value_is_none_of_them() -> None:
    assert answer({"param_in": {"p": ["a"]}}, {}) is False


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("EUR", "`param_in` on `p` must be a list of values, not `EUR` (did you mean `[EUR]`?)"),
        ("5", "must be a list of values, not the number `5` (did you mean `[5]`?)"),
        ("{a: 1}", "must be a list of values, not a mapping"),
        ("[]", "must not be empty: nothing would be allowed by it"),
        ("[[a]]", "must be text, a finite number, true or false, not a list"),
        ("[a, {b: 1}]", "must be text, a finite number, true or false, not a mapping"),
        ("[.inf]", "must be text, a finite number, true or false, not the number `inf`"),
        ("[a, null]", "must be text, a finite number, true or false, not nothing"),
        ("[yes]", "`yes` is"),
        ("*x", "alias `*x` is not supported"),
    ],
)
def test_what_is_refused(written: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules:\n  - conditions:\n      param_in: {{ p: {written} }}\n")
    (problem,) = caught.value.problems
    assert message in str(problem)
    assert problem.line == 3


@pytest.mark.parametrize("word", ["param_one_of", "param_any_of", "in", "one_of"])
def test_other_words_for_it_are_understood(word: str) -> None:
    with pytest.raises(PolicyError, match=r"did you mean `param_in`\?"):
        Policy.from_text(f"rules: [{{ conditions: {{ {word}: {{ a: [1, 2] }} }} }}]")


def test_a_list_has_a_bound() -> None:
    Policy.from_dict({"rules": [{"conditions": {"param_in": {"p": list(range(MAX_ITEMS))}}}]})
    with pytest.raises(PolicyError, match="must list at most 10,000 items, not 10,001"):
        Policy.from_dict({"rules": [{"conditions": {"param_in": {"p": list(range(MAX_ITEMS + 1))}}}]})


scalars = st.one_of(st.text(max_size=2), st.integers(-2, 2), st.booleans(), st.sampled_from([0.5, 1.0, -0.0]))


@given(
    st.lists(scalars, min_size=1, max_size=4),
    st.one_of(scalars, st.none(), st.floats(), st.lists(scalars), st.binary(), st.text()),
)
def test_it_is_a_choice_of_equalities(values: list[Any], value: Any) -> None:
    """True where `param_eq` is for one of them, unknown where it is for all of them; nothing raises."""
    each = {answer({"param_eq": {"p": expected}}, {"p": value}) for expected in values}
    found = membership.judge(value, membership.prepare(membership.check(values)))
    if value is not None:  # which no judge is asked
        assert (found is True) == (True in each)
        assert isinstance(found, str) == all(isinstance(one, str) for one in each)
