"""`param_present`, `param_absent` and `param_only`: which parameters a call has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.explain import explain
from aegis_otel.policy.lint import lint
from tests.support.conditions import answer

TEXT = {"type": "string"}
NULLABLE = {"anyOf": [TEXT, {"type": "null"}]}
MAIL = {
    "type": "object",
    "properties": {"to": TEXT, "cc": NULLABLE, "note": TEXT, "count": {"type": "integer", "default": 1}},
    "required": ["to"],
    "additionalProperties": False,
}
OPEN = {**MAIL, "additionalProperties": True}
NESTED = {"type": "object", "properties": {"mail": MAIL}}
NULL = "the value is null"
OTHER = "a key that the tool does not list could be another spelling of it"
REQUIRED = "the tool requires it, and the call does not have it"
DEFAULT = "the call does not have it, and its default is not known"
NO_PARAMETER = "the tool has no such parameter"


@pytest.mark.parametrize(
    ("path", "params", "schema", "result"),
    [
        ("cc", {"cc": "x"}, None, True),
        ("cc", {"cc": ""}, None, True),
        ("cc", {"cc": []}, None, True),
        ("cc", {"cc": False}, None, True),
        ("cc", {"cc": float("nan")}, None, True),
        ("cc", {}, None, False),
        ("cc", {"to": "x"}, None, False),
        ("cc", {"cc": None}, None, NULL),
        ("cc", {"CC": "x"}, None, OTHER),
        ("cc", {"cc": "x", "CC": "y"}, None, True),
        ("cc[any]", {"C_C": ["x"]}, None, OTHER),
        ("mail.cc", {"mail": {"CC": "x"}}, None, OTHER),
        ("mail.cc", {"Mail": {"cc": "x"}}, None, OTHER),
        ("cc", {"to": "x"}, MAIL, False),
        ("cc", {"to": "x", "cc": None}, MAIL, False),
        ("note", {"to": "x", "note": None}, MAIL, NULL),
        ("note", {"to": "x", "note": "y"}, MAIL, True),
        ("to", {}, MAIL, REQUIRED),
        ("count", {"to": "x"}, MAIL, DEFAULT),
        ("subject", {"to": "x"}, MAIL, NO_PARAMETER),
        ("subject", {"to": "x"}, OPEN, False),
        ("subject", {"to": "x", "subject": "y"}, OPEN, True),
        ("note", {"to": "x", "Note": "y"}, MAIL, OTHER),
        ("note", {"to": "x", "n\u043ete": "y"}, OPEN, OTHER),
        ("mail.cc", {"mail": {"to": "x", "cc": "y"}}, NESTED, True),
        ("mail.cc", {"mail": {"to": "x"}}, NESTED, False),
        ("mail.cc", {"mail": {"to": "x", "cc": None}}, NESTED, False),
        ("mail.cc", {}, NESTED, False),
        ("mail.cc", {"mail": {"to": "x", "CC": "y"}}, NESTED, OTHER),
        ("mail.cc", {"mail": "x"}, NESTED, "the path leads through a value that is not a mapping"),
        (
            "mail.cc",
            {"mail": {"cc": "x"}, "mail.cc": "y"},
            None,
            "both the dotted name and the path it spells have a value",
        ),
    ],
)
def test_a_parameter_is_there_or_not(path: str, params: Any, schema: Any, result: bool | str) -> None:
    """What the tool's schema does not tell is unknown for both."""
    assert answer({"param_present": [path]}, params, schema) == result
    opposite = result if isinstance(result, str) else not result
    assert answer({"param_absent": [path]}, params, schema) == opposite


@pytest.mark.parametrize(
    ("path", "params", "result"),
    [
        ("cc[any]", {"cc": ["x"]}, True),
        ("cc[any]", {"cc": []}, False),
        ("cc[any]", {"cc": 1}, "the value is a number, not a list"),
        ("items[all].note", {"items": [{"note": "x"}, {}]}, False),
        ("items[any].note", {"items": [{"note": "x"}, {}]}, True),
        ("items[any].note", {"items": [{}, {}]}, False),
        ("body[json].cc", {"body": '{"cc": "x"}'}, True),
        ("body[json].cc", {"body": "{}"}, False),
        ("body[json].cc", {"body": "{"}, "the text is not JSON"),
        ("[anywhere]", {"a": {"b": ["x"]}}, True),
        ("[anywhere]", {"a": {1: [2]}}, False),
    ],
)
def test_paths_with_steps(path: str, params: Any, result: bool | str) -> None:
    """`param_absent` is the opposite of `param_present`: no item has it, no text has it."""
    schema = {"additionalProperties": True, "properties": {name: {} for name in params}}
    assert answer({"param_present": [path]}, params, schema) == result
    assert answer({"param_absent": [path]}, params, schema) == (
        result if isinstance(result, str) else not result
    )


@pytest.mark.parametrize(
    ("names", "params", "schema", "result"),
    [
        (["to", "cc"], {}, None, True),
        (["to", "cc"], {"to": "x"}, None, True),
        (["to", "cc"], {"to": "x", "cc": "y"}, None, True),
        (["to", "cc"], {"to": None}, None, True),
        (["to", "cc"], {"to": "x", "bcc": "y"}, None, False),
        (["to", "cc"], {"to": "x", "bcc": False}, None, False),
        (["to", "cc"], {"to": "x", "bcc": None}, None, NULL),
        (["to", "cc"], {"to": "x", "TO": "y"}, None, OTHER),
        (["to", "cc"], {"T_O": "y"}, None, OTHER),
        (["to", "cc"], {"t\u043e": "x", "bcc": "y"}, None, False),
        (["to"], {"to": "x", "cc": None}, MAIL, True),
        (["to"], {"to": "x", "cc": "y"}, MAIL, False),
        (["to"], {"to": "x", "note": None}, MAIL, NULL),
        (["to"], {"to": "x", "other": None}, MAIL, NULL),
        (["to"], {"to": "x", "TO": "y"}, MAIL, OTHER),
        (["to"], {"to": "x", "TO": "y"}, {"properties": {"to": TEXT, "TO": TEXT}}, False),
        (["a.b"], {"a.b": 1}, None, True),
        (["a.b"], {"a": {"b": 1}}, None, False),
        (["to"], {"to": {"anything": 1}}, None, True),
        (["to"], {1: "x"}, None, False),
        (["x y", "z"], {"x y": 1, "z": 1}, None, True),
    ],
)
def test_no_other_parameters(names: list[str], params: Any, schema: Any, result: bool | str) -> None:
    assert answer({"param_only": names}, params, schema) == result
    opposite = result if isinstance(result, str) else not result
    assert answer({"not": {"param_only": names}}, params, schema).__class__ is opposite.__class__


def test_arguments_that_cannot_be_read_are_unknown() -> None:
    for condition in ({"param_present": ["a"]}, {"param_absent": ["a"]}, {"param_only": ["a"]}):
        policy = Policy.from_dict({"rules": [{"conditions": condition, "approval": "block"}]})
        (error,) = policy.evaluate(Action("t").qualify(doubt="not an object")).errors
        assert error.endswith("is unknown: not an object")


def test_several_parameters_are_several_conditions() -> None:
    assert answer({"param_present": ["a", "b"]}, {"a": 1, "b": 1}) is True
    assert answer({"param_present": ["a", "b"]}, {"a": 1}) is False
    assert answer({"param_absent": ["a", "b"]}, {"c": 1}) is True
    assert answer({"param_absent": ["a", "b"]}, {"b": 1}) is False


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "param_present: cc",
            ":2:34: `param_present` must be a list of parameters, not `cc` (did you mean `[cc]`?)",
        ),
        ("param_absent: {cc: true}", "must be a list of parameters, not a mapping (did you mean `[cc]`?)"),
        ("param_only: 5", "`param_only` must be a list of parameters, not the number `5`"),
        ("param_only: []", "`param_only` must list 1 to 1000 parameters, not 0"),
        ("param_present: [cc, 5]", ":2:39: `param_present` must be text, not the number `5`"),
        ("param_present: [cc, a..b]", "`param_present` needs parameter names between the dots, not `a..b`"),
        ("param_absent: [cc, cc]", "`param_absent` lists `cc` twice"),
        ("param_only: [cc, '']", "`param_only` must have 1 to 200 characters, not 0"),
        ("param_only: [cc, yes]", "`yes` is"),
        ("param_exists: [cc]", "unknown key `param_exists` in `conditions` (did you mean `param_present`?)"),
        ("param_missing: [cc]", "(did you mean `param_absent`?)"),
        ("only_params: [cc]", "(did you mean `param_only`?)"),
    ],
)
def test_what_is_refused(written: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules:\n  - conditions: {{ {written} }}\n")
    (problem,) = caught.value.problems
    assert message in str(problem)


def test_it_is_explained() -> None:
    text = """
rules:
  - name: r
    conditions:
      param_present: [to]
      param_absent:
        - cc
      param_only: [to, body]
"""
    policy = Policy.from_text(text)
    trace = explain(policy, Action("t", params={"to": "x", "bcc": "y"}), datetime.now(UTC)).rules[0]
    assert [tuple(check[:3]) for check in trace.checks] == [
        ("`param_present` on `to`", "", True),
        ("`param_absent` on `cc`", "", True),
        ("`param_only`", "`to`, `body`", False),
    ]
    assert [test.place[1:] for test in policy.documents[0].rules[0].tests] == [(5, 23), (7, 11), (8, 7)]


def test_the_digest_tells_them_apart() -> None:
    conditions = [
        {"param_present": ["a"]},
        {"param_absent": ["a"]},
        {"param_only": ["a"]},
        {"param_present": ["a", "b"]},
        {"param_only": ["a", "b"]},
        {"param_only": ["b", "a"]},
    ]
    digests = [Policy.from_dict({"rules": [{"conditions": each}]}).digest for each in conditions]
    assert len(set(digests)) == len(digests)


def test_the_model_reads_what_is_missing() -> None:
    rule = {"conditions": {"param_absent": ["cc"], "param_only": ["to"]}, "approval": "block"}
    decision = Policy.from_dict({"rules": [rule]}).evaluate(Action("t", params={"cc": None}))
    assert decision.verdict.advice == "The policy could not read parameter `cc`: expected no value."


@pytest.mark.parametrize("approval", ["auto", "block"])
def test_the_linter_finds_nothing_wrong(approval: str) -> None:
    """An example is found, and neither an omission nor another value is held against them."""
    rule = {
        "name": "r",
        "match": {"type": "send"},
        "conditions": {"param_present": ["to"], "param_absent": ["cc"], "param_only": ["to", "note"]},
        "approval": approval,
    }
    policy = Policy.from_dict({"rules": [rule], "defaults": {"approval": "approve"}})
    assert lint(policy, {"send": MAIL}) == []


def test_the_linter_finds_a_parameter_that_no_tool_has() -> None:
    rule = {"match": {"type": "send"}, "conditions": {"param_absent": ["ccc"]}, "approval": "auto"}
    assert [each.kind for each in lint(Policy.from_dict({"rules": [rule]}), {"send": MAIL})] == ["parameter"]


names = st.sampled_from(["a", "b", "A", "a.b", "c"])
values = st.one_of(st.none(), st.integers(), st.text(max_size=2), st.dictionaries(names, st.none()))


@given(
    st.dictionaries(st.one_of(names, st.integers(), st.text(max_size=2)), values, max_size=4),
    st.lists(names, min_size=1, max_size=3, unique=True),
    st.sampled_from([None, {}, MAIL, {"properties": {"a": NULLABLE, "b": TEXT, "c": False}}]),
)
def test_they_fit_together(params: Any, listed: list[str], schema: Any) -> None:
    """No parameter is there and absent, and none is there but the listed ones where no other is."""
    for name in listed:
        pair = {answer({key: [name]}, params, schema) for key in ("param_present", "param_absent")}
        assert pair == {True, False} or all(isinstance(each, str) for each in pair)
    if answer({"param_only": listed}, params, schema) is True:
        assert all(params[name] is None for name in params if name not in listed)
