"""What is said of mistakes that lead to more than one problem, or whose suggestion was wrong."""

from __future__ import annotations

import time

import pytest

from aegis_otel import Policy, PolicyError

RULE = """\
rules:
  - name: a
    match:
      type: refund
    conditions:
      param_gt:
        amount: 50
    approval: block
"""
OF_RULE = "it is a key of a rule, indented as the rule's other keys are"


def refused(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(text, source="p")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        (
            "      type: refund",
            "    type: refund",
            "3:11: `match` must be a mapping, not nothing: indent `type` below it",
        ),
        (
            "      type: refund",
            "    type: refund\n    target: x",
            "3:11: `match` must be a mapping, not nothing: indent `type` and `target` below it",
        ),
        (
            "        amount",
            "      amount",
            "6:16: `param_gt` must be a mapping, not nothing: indent `amount` below it",
        ),
        (
            "      param_gt",
            "    param_gt",
            "5:16: `conditions` must be a mapping, not nothing: indent `param_gt` below it",
        ),
        ("    approval", "      approval", f"8:7: `approval` does not belong in `conditions`: {OF_RULE}"),
        (
            "    approval: block\n",
            "approval: block\n",
            f"8:1: `approval` does not belong in a policy: {OF_RULE}, or of `defaults`",
        ),
        (
            "    approval: block\n",
            "approval: block\n  - name: b\n",
            "9:3: not valid YAML: the line is indented more than line 8, which has its value already: "
            "one of the two has the wrong indent",
        ),
    ],
)
def test_a_wrong_indent_is_one_problem(right: str, wrong: str, problem: str) -> None:
    assert refused(RULE.replace(right, wrong)) == [f"p:{problem}"]


def test_an_empty_section_at_the_top() -> None:
    assert refused("defaults:\napproval: block\nrules: []\n") == [
        "p:1:10: `defaults` must be a mapping, not nothing: indent `approval` below it"
    ]
    assert refused("rules:\nname: a\napproval: block\n") == [
        "p:1:7: `rules` must be a list, not nothing: indent `name` and `approval` below it, "
        "each rule after a `- `"
    ]


def test_a_misspelt_key_beside_an_empty_section_is_a_problem_of_its_own() -> None:
    text = RULE.replace("        amount: 50", "      timezon: UTC").replace(
        "      type: refund", "    mach: x"
    )
    assert refused(text) == [
        "p:3:11: `match` must be a mapping, not nothing",
        "p:4:5: unknown key `mach` in a rule (did you mean `match`?)",
        "p:6:16: `param_gt` must be a mapping, not nothing",
        "p:7:7: unknown key `timezon` in `conditions` (did you mean `timezone`?)",
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("50,000", "50000"),
        ("-1,250,000.50", "-1250000.50"),
        ("'50,000'", "50000"),
        ("50 000", "50000"),
        ("50'000", "50000"),
        ("50_000", "50000"),
        ("50.000,25", "50000.25"),
        ("1.250.000", "1250000"),
    ],
)
def test_a_number_with_separators_is_suggested_without_them(written: str, meant: str) -> None:
    (problem,) = refused(RULE.replace("amount: 50", f"amount: {written}"))
    assert problem.startswith("p:7:17: ")
    assert problem.endswith(f"(did you mean `{meant}`?)")


@pytest.mark.parametrize("written", ["1,5", "50,0000", "50,000,00", "1.25.000", "50,000 USD", "050,000"])
def test_a_text_that_may_be_another_number_has_no_suggestion(written: str) -> None:
    (problem,) = refused(RULE.replace("amount: 50", f"amount: {written}"))
    assert "did you mean" not in problem


@pytest.mark.parametrize(
    ("written", "meant"), [("50,000", "50000"), ("1,250,500.50", "1250500.50"), ("-1,500, b: 2", "-1500")]
)
def test_commas_in_a_number_between_braces(written: str, meant: str) -> None:
    """There they begin another key, `000`, of which the user knows nothing."""
    text = f"rules: [{{conditions: {{param_gt: {{amount: {written} }}}}}}]"
    number = written.partition(", ")[0]
    assert refused(text) == [
        f"p:1:42: `{number}` is several values to YAML: write the number without commas "
        f"(did you mean `{meant}`?)"
    ]


def test_a_list_of_a_million_groups_is_refused_in_time() -> None:
    text = "rules: [{conditions: {param_gt: {amount: 1" + ",100" * 90_000 + "}}}]"
    before = time.process_time()
    assert len(refused(text)) > 100
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("25:00", ""),
        ("'25:00'", ""),
        ("18:75", ""),
        ("2026-03-04", ""),
        ("9:00", ' (did you mean `"09:00"`?)'),
        ("24:00", ' (did you mean `"00:00"`?)'),
    ],
)
def test_what_is_no_time_of_day_is_answered_with_the_range(written: str, hint: str) -> None:
    """To quote it would not help."""
    assert refused(f"rules: [{{conditions: {{time_after: {written}}}}}]") == [
        'p:1:35: `time_after` must be a time of day in quotes, "00:00" to "23:59", '
        f"not the text `{written.strip(chr(39))}`{hint}"
    ]


def test_a_time_without_quotes_is_suggested_in_quotes() -> None:
    (problem,) = refused("rules: [{conditions: {time_after: 18:00}}]")
    assert problem.endswith('(did you mean `"18:00"`?)')
