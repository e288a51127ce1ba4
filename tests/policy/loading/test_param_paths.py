"""Paths of parameters: which load, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aegis_otel import Policy, PolicyError
from aegis_otel.policy.loading.schema import json_schema
from aegis_otel.policy.rules import Step, parts_of, path_of

VALIDATOR = Draft202012Validator(json_schema())


def data(operator: str, path: str, expected: Any) -> dict[str, Any]:
    return {"rules": [{"conditions": {f"param_{operator}": {path: expected}}}]}


def refused(operator: str, path: str, expected: Any) -> tuple[str, str | None]:
    """What is wrong, without its place, and the suggestion."""
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict(data(operator, path, expected))
    (problem,) = caught.value.problems
    return problem.message.partition(f": `param_{operator}`")[2].strip(), problem.suggestion


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a.any", ("a", "any")),
        ("a[any]", ("a", Step.ANY)),
        ("a[any][any].b", ("a", Step.ANY, Step.ANY, "b")),
        ("a b.c(d)[json].e", ("a b", "c(d)", Step.JSON, "e")),
        ("a[all].b[number]", ("a", Step.ALL, "b", Step.NUMBER)),
        ("a[json][count]", ("a", Step.JSON, Step.COUNT)),
        ("[anywhere]", (Step.ANYWHERE,)),
        ("[anywhere][lower]", (Step.ANYWHERE, Step.LOWER)),
        ("a.b[any][anywhere][lower]", ("a", "b", Step.ANY, Step.ANYWHERE, Step.LOWER)),
        ("lower", ("lower",)),
        ("length(cm)[any]", None),
        ("a*b", ("a*b",)),
    ],
)
def test_what_a_path_leads_through(path: str, parts: tuple[str | Step, ...] | None) -> None:
    expected: Any = 1 if path.endswith(("[number]", "[count]")) else "a"
    if parts is None:
        refused("eq", path, expected)
        return
    assert parts_of(path) == parts
    assert path_of(parts) == path
    assert VALIDATOR.is_valid(data("eq", path, expected))
    (rule,) = Policy.from_dict(data("eq", path, expected)).documents[0].rules
    assert (*rule.tests[0].keys, *rule.tests[0].steps) == parts


ITEMS = "`[any]` asks whether one item of a list passes, `[all]` whether every item does"
STEPS = "there are `[any]`, `[all]`, `[count]`, `[number]`, `[json]`, `[lower]` or `[anywhere]`"


@pytest.mark.parametrize(
    ("path", "message", "suggestion"),
    [
        ("cc[*]", f"does not choose items by `[*]` in `cc[*]`: {ITEMS}", None),
        ("cc[0]", f"does not choose items by `[0]` in `cc[0]`: {ITEMS}", None),
        ("cc[-1].x", f"does not choose items by `[-1]` in `cc[-1].x`: {ITEMS}", None),
        ("cc[]", f"does not choose items by `[]` in `cc[]`: {ITEMS}", None),
        ("cc.*", f"takes no `*` in `cc.*`: {ITEMS}", None),
        ("cc.*.x", f"takes no `*` in `cc.*.x`: {ITEMS}", None),
        ("*", f"takes no `*` in `*`: {ITEMS}", None),
        ("cc[each].x", f"has no step `[each]`: {STEPS}", "cc[all].x"),
        ("cc[some]", f"has no step `[some]`: {STEPS}", "cc[any]"),
        ("cc[length]", f"has no step `[length]`: {STEPS}", "cc[count]"),
        ("cc[Any]", f"has no step `[Any]`: {STEPS}", "cc[any]"),
        ("cc[ any ]", f"has no step `[ any ]`: {STEPS}", "cc[any]"),
        ("cc[lowr]", f"has no step `[lowr]`: {STEPS}", "cc[lower]"),
        ("n[decimal]", f"has no step `[decimal]`: {STEPS}", "n[number]"),
        ("filter[first_name]", f"has no step `[first_name]`: {STEPS}", None),
        ("len(cc)", "takes no function: a step stands behind a name, not `len(cc)`", "cc[count]"),
        ("lower(a.b)", "takes no function: a step stands behind a name, not `lower(a.b)`", "a.b[lower]"),
        (
            "name.lower()",
            "takes no function in `name.lower()`: a step stands between brackets",
            "name[lower]",
        ),
        ("cc.size()", "takes no function in `cc.size()`: a step stands between brackets", "cc[count]"),
        ("[any].x", "needs a parameter name before `[any]`, not `[any].x`", None),
        ("[count]", "needs a parameter name before `[count]`, not `[count]`", None),
        ("cc[any]x", "needs a dot or a bracket after a step, not `cc[any]x`", "cc[any].x"),
        (
            "n[number].x",
            "cannot go on behind `[number]`, which gives a number, in `n[number].x`",
            "n[number]",
        ),
        (
            "cc[count][any]",
            "cannot go on behind `[count]`, which gives a number, in `cc[count][any]`",
            "cc[count]",
        ),
        (
            "a[lower][json]",
            "cannot go on behind `[lower]`, which gives text, in `a[lower][json]`",
            "a[lower]",
        ),
        (
            "[anywhere].x",
            "cannot go on behind `[anywhere]`, which gives text, in `[anywhere].x`",
            "[anywhere]",
        ),
        ("a[", "needs names, dots and whole steps such as `[any]`, not `a[`", None),
        ("a]", "needs names, dots and whole steps such as `[any]`, not `a]`", None),
        ("a[any", "needs names, dots and whole steps such as `[any]`, not `a[any`", None),
        ("a.[any]", "needs names, dots and whole steps such as `[any]`, not `a.[any]`", None),
        ("a[any].", "needs names, dots and whole steps such as `[any]`, not `a[any].`", None),
        ("a..b", "needs parameter names between the dots, not `a..b`", None),
    ],
)
def test_a_path_that_is_none_is_refused(path: str, message: str, suggestion: str | None) -> None:
    """By the loader and by the published JSON Schema."""
    assert refused("eq", path, "a") == (message, suggestion)
    assert not VALIDATOR.is_valid(data("eq", path, "a"))


@pytest.mark.parametrize(
    ("operator", "path", "expected", "message", "suggestion"),
    [
        ("eq", "cc[count]", "3", "must be a number, which `[count]` gives, not the text `3`", None),
        ("eq", "n[number]", "3", "must be a number, which `[number]` gives, not the text `3`", None),
        ("eq", "n[number]", True, "must be a number, which `[number]` gives, not `true`", None),
        ("eq", "a[lower]", 3, "must be text, which `[lower]` gives, not the number `3`", None),
        ("eq", "[anywhere]", True, "must be text, which `[anywhere]` gives, not `true`", None),
        ("contains", "n[number]", 3, "never compares what `[number]` gives: leave the step out", None),
        ("matches", "cc[count]", "3", "never compares what `[count]` gives: leave the step out", None),
    ],
)
def test_a_value_that_no_last_step_gives_is_refused(
    operator: str, path: str, expected: Any, message: str, suggestion: str | None
) -> None:
    found, meant = refused(operator, path, expected)
    assert (found.removeprefix(f"on `{path}` "), meant) == (message, suggestion)
    if "never" not in message:
        assert not VALIDATOR.is_valid(data(operator, path, expected))


@pytest.mark.parametrize(
    ("operator", "expected", "suggestion"),
    [
        ("eq", "Admin", "admin"),
        ("contains", "A", "a"),
        ("eq", "stra\u00dfe", "strasse"),
        ("matches", "^A", "(?i)^A"),
        ("matches", "[A-Z]", "(?i)[A-Z]"),
        ("matches", r"\W\pL\p{Greek}(?P<Name>a)X", r"(?i)\W\pL\p{Greek}(?P<Name>a)X"),
    ],
)
def test_a_capital_letter_that_could_never_match_is_refused(
    operator: str, expected: str, suggestion: str
) -> None:
    message, meant = refused(operator, "a[lower]", expected)
    assert message.startswith("on `a[lower]` must be in small letters, as what `[lower]` gives is, not ")
    assert meant == suggestion
    Policy.from_dict(data(operator, "a[lower]", suggestion))
    Policy.from_dict(data(operator, "a[anywhere][lower]", suggestion))


@pytest.mark.parametrize("pattern", ["^a", r"\W\D\pL\PN\p{Greek}(?P<Name>a)", "(?i)A", "(?si)A", "a(?i:B)"])
def test_a_pattern_for_small_letters_loads(pattern: str) -> None:
    assert Policy.from_dict(data("matches", "a[lower]", pattern)).rule_count == 1


@pytest.mark.parametrize("expected", [1e-60, 1e300])
def test_a_number_that_cannot_be_compared_exactly_is_refused(expected: float) -> None:
    message, _ = refused("gt", "n[number]", expected)
    assert message.startswith("on `n[number]` must have at most 40 digits before and after the point")


@pytest.mark.parametrize(
    "written", ["1000.0000000000000001", "0.1000000000000000055511151231257827", "1.0e-400"]
)
def test_a_number_that_a_policy_cannot_keep_as_written_is_refused(written: str) -> None:
    """It would be rounded: the amount `1000.00000000000000005` is not above what is written."""
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules: [{{conditions: {{param_lte: {{n: {written}}}}}}}]")
    assert "has more digits than a number keeps" in str(caught.value)


@given(st.text("a.[]*() \nanycoutlwer0", max_size=14))
def test_loader_and_schema_agree_on_paths(path: str) -> None:
    """A value that fits what the path gives is taken by both or by none."""
    expected: Any = 1 if path.endswith(("[number]", "[count]")) else "a"
    case = data("eq", path, expected)
    try:
        Policy.from_dict(case)
    except PolicyError:
        assert not VALIDATOR.is_valid(case)
    else:
        assert VALIDATOR.is_valid(case)
