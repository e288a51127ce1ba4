"""Steps in paths: what each makes of a value, what cannot be taken, and what is hidden behind a key."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aegis_otel import Action, Policy
from aegis_otel.policy.evaluation import path_steps
from aegis_otel.policy.explain import explain
from tests.policy.evaluation.test_conditions import answer

NO_LIST = "the value is text, not a list"
AS_ONE_KEY = "a key is spelled like several parts of the path"
OTHER_SPELLING = "a key that the tool does not list could be another spelling of it"
NO_DECIMAL = "the text is not a plain decimal number"
NO_MAPPING = "the path leads through a value that is not a mapping"


@pytest.mark.parametrize(
    ("path", "value", "result"),
    [
        ("cc[any]", ["b", "a"], True),
        ("cc[any]", ["b", "c"], False),
        ("cc[any]", [], False),
        ("cc[any]", ("a",), True),
        ("cc[any]", {"a", "b"}, True),
        ("cc[any]", ["b", 1], "the value is a number, not text"),
        ("cc[any]", [1, "a"], True),
        ("cc[any]", ["b", None], "the value is null"),
        ("cc[any]", "a", NO_LIST),
        ("cc[any]", {"a": 1}, "the value is a mapping, not a list"),
        ("cc[any]", 5, "the value is a number, not a list"),
        ("cc[any]", None, "the value is null"),
        ("cc[all]", ["a", "a"], True),
        ("cc[all]", ["a", "b"], False),
        ("cc[all]", [], True),
        ("cc[all]", ["a", 1], "the value is a number, not text"),
        ("cc[all]", [1, "b"], False),
        ("cc[all]", ["a", None], "the value is null"),
        ("cc[all]", "a", NO_LIST),
        ("cc[any][any]", [["b"], ["a"]], True),
        ("cc[any][all]", [["b"], []], True),
        ("cc[all][any]", [["b", "a"], []], False),
        ("cc[all][any]", [["b", "a"], "a"], NO_LIST),
        ("cc[any].x", [{"x": "b"}, {"x": "a"}], True),
        ("cc[any].x", [{"x": "b"}, {"y": "a"}], False),
        ("cc[all].x", [{"x": "a"}, {"y": "a"}], False),
        ("cc[any].x", ["a"], NO_MAPPING),
        ("cc[any].x", [None], "the value is null"),
        ("cc[any].x", [{"x": None}], "the value is null"),
        ("cc[any].x.y", [{"x": {"y": "a"}}], True),
        ("cc[any].x.y", [{"x": {}}, {}], False),
        ("cc[any].x.y", [{"x": "a"}], NO_MAPPING),
        ("cc[any].x[all].y", [{"x": [{"y": "a"}, {"y": "a"}]}], True),
    ],
)
def test_items(path: str, value: Any, result: bool | str) -> None:
    """Three-valued over the items: one that passes makes `[any]` true, one that fails makes `[all]` false."""
    assert answer({"param_eq": {path: "a"}}, {"cc": value}) == result
    assert answer({"param_eq": {f"o.{path}": "a"}}, {"o": {"cc": value}}) == result


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ([1, 2, 3], True),
        ([1, 2], False),
        ([], False),
        ([None] * 3, True),
        ((1, 2, 3), True),
        ({1, 2, 3}, True),
        ("abc", NO_LIST),
        ({"a": 1, "b": 2, "c": 3}, "the value is a mapping, not a list"),
        (3, "the value is a number, not a list"),
        (None, "the value is null"),
    ],
)
def test_count(value: Any, result: bool | str) -> None:
    """Of the items of a list only: a mapping in place of a list could hold any number of them."""
    assert answer({"param_gt": {"cc[count]": 2}}, {"cc": value}) == result
    assert answer({"param_gt": {"cc[count]": 2}}, {}) is False


@pytest.mark.parametrize(
    ("condition", "value", "result"),
    [
        ({"param_eq": 0.1}, "0.1", True),
        ({"param_eq": 0.1}, "0.10", True),
        ({"param_eq": 0.1}, 0.1, True),
        ({"param_eq": 0.1}, "0.1000000000000000055511151231257827", False),  # what the float is
        ({"param_eq": 0.3}, "0.3", True),
        ({"param_eq": 0.3}, 0.1 + 0.2, False),
        ({"param_eq": 1000}, "1000", True),
        ({"param_eq": 1000}, "1000.0", True),
        ({"param_eq": 1000}, "1000.0000000000000001", False),
        ({"param_gt": 1000}, "1000.0000000000000001", True),
        ({"param_lt": 1000}, "999.9999999999999999", True),
        ({"param_gte": 1000}, "999.99999999999999999999", False),
        ({"param_lte": 1000.5}, "1000.5", True),
        ({"param_eq": 9007199254740993}, "9007199254740993", True),
        ({"param_eq": 9007199254740992}, "9007199254740993", False),
        ({"param_eq": -5}, "-5", True),
        ({"param_eq": 0}, "-0.00", True),
        ({"param_gt": 1e20}, "100000000000000000001", True),
        ({"param_eq": 1e-7}, "0.0000001", True),
        ({"param_eq": 5}, 5, True),
        ({"param_eq": 5}, 5.0, True),
        ({"param_gt": 5}, 10**1000, True),
        *(
            ({"param_gt": 5}, text, NO_DECIMAL)
            for text in (
                *(
                    "",
                    " ",
                    "6 ",
                    " 6",
                    "6\n",
                    "+6",
                    "1e3",
                    "1E3",
                    "1,000",
                    "1_000",
                    "1 000",
                    "1.000,00",
                    ".5",
                    "5.",
                ),
                *(
                    "0x10",
                    "010",
                    "007",
                    "00",
                    "--6",
                    "6-",
                    "NaN",
                    "Infinity",
                    "-inf",
                    "\u0666",
                    "\uff16",
                    "\u00b2",
                ),
                *("1.2.3", "$6", "6%", "six", "null", "true", "9" * 41, f"0.{'1' * 41}"),
            )
        ),
        ({"param_gt": 5}, True, "the value is a boolean, not a number or text"),
        ({"param_gt": 5}, [6], "the value is a list, not a number or text"),
        ({"param_gt": 5}, None, "the value is null"),
        ({"param_gt": 5}, float("nan"), "the number has too many digits, or is none"),
        ({"param_gt": 5}, float("inf"), "the number has too many digits, or is none"),
        ({"param_gt": 5}, 1e-300, "the number has too many digits, or is none"),
        (
            {"param_gt": 5},
            Decimal(6),
            "the value is of a type that conditions cannot compare, not a number or text",
        ),
    ],
)
def test_numbers_in_text(condition: dict[str, Any], value: Any, result: bool | str) -> None:
    """No text is rounded: each is compared with the policy's number as that is written."""
    ((operator, expected),) = condition.items()
    assert answer({operator: {"amount[number]": expected}}, {"amount": value}) == result
    assert answer({operator: {"a[any].amount[number]": expected}}, {"a": [{"amount": value}]}) == result


@given(st.decimals(-1000, 1000, places=20), st.decimals(-1000, 1000, places=3))
@example(Decimal("0.1"), Decimal("0.1"))
def test_numbers_in_text_are_compared_exactly(value: Decimal, bound: Decimal) -> None:
    expected = float(bound)  # at most 7 digits, so its shortest spelling is `bound`
    params = {"n": format(value, "f")}
    assert answer({"param_gt": {"n[number]": expected}}, params) is (value > bound)
    assert answer({"param_eq": {"n[number]": expected}}, params) is (value == bound)
    assert answer({"param_eq": {"n[number]": expected}}, {"n": float(bound)}) is True


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"x": "a"}', True),
        ('{"x": "b"}', False),
        ("{}", False),
        (' \t\r\n{"x": "a"}\n', True),
        ('{"\\u0078": "\\u0061"}', True),
        ({"x": "a"}, True),
        ({"x": "b"}, False),
        ('{"x": null}', "the value is null"),
        ("null", "the value is null"),
        ('"a"', NO_MAPPING),
        ("[]", NO_MAPPING),
        ("", "the text is not JSON"),
        ("a", "the text is not JSON"),
        ("{'x': 'a'}", "the text is not JSON"),
        ('{"x": "a",}', "the text is not JSON"),
        ('{"x": "a"} {}', "the text is not JSON"),
        ('{"x": "a"}x', "the text is not JSON"),
        ('\ufeff{"x": "a"}', "the text is not JSON"),
        ('\u00a0{"x": "a"}', "the text is not JSON"),
        ('{"x": "a\nb"}', "the text is not JSON"),
        ('{"x": "a", "x": "a"}', "the JSON has a key twice"),
        ('{"x": "a", "\\u0078": "b"}', "the JSON has a key twice"),
        ('{"x": "a", "y": {"z": 1, "z": 2}}', "the JSON has a key twice"),
        ('{"x": "a", "": 1}', "the JSON has an empty key"),
        ('{"x": "a", "n": NaN}', "the JSON has NaN or Infinity, which is no JSON"),
        ('{"x": "a", "n": -Infinity}', "the JSON has NaN or Infinity, which is no JSON"),
        ('{"x": "a", "n": 1e400}', "the JSON has a number that not every reader keeps exact"),
        ('{"x": "a", "n": 0.1000000000000000001}', "the JSON has a number that not every reader keeps exact"),
        ('{"x": "a", "n": 18446744073709551616}', "the JSON has a number that not every reader keeps exact"),
        (f'{{"x": "a", "n": {"9" * 5000}}}', "the text is not JSON"),
        (f'{{"x": "a", "n": {"[" * 63}{"]" * 63}}}', True),
        (f'{{"x": "a", "n": {"[" * 64}{"]" * 64}}}', "the JSON is nested more than 64 deep"),
        ("[" * 100_000, "the JSON is nested more than 64 deep"),
        (json.dumps({"x": "a", "n": "[{" * 100}), True),
        (json.dumps({"x": "a", "n": "x" * 200_000}), "the JSON is longer than 200,000 characters"),
        (5, "the value is a number, not text"),
        (True, "the value is a boolean, not text"),
        (None, "the value is null"),
        ('{"x": "a", "X": "b"}', OTHER_SPELLING),
        ('{"X": "a"}', OTHER_SPELLING),
        ('{"x": "a", "\u0445": "b"}', OTHER_SPELLING),
        ('{"x[]": "a"}', OTHER_SPELLING),
    ],
)
def test_json_in_text(text: Any, result: bool | str) -> None:
    """It is read by what every reader of JSON has in common; no schema says what else it could mean."""
    schema = {"properties": {"arguments": {"type": "string"}}}
    for known in (None, schema):
        assert answer({"param_eq": {"arguments[json].x": "a"}}, {"arguments": text}, known) == result


def test_json_in_json_and_lists_in_json() -> None:
    text = json.dumps({"inner": json.dumps({"items": [{"price": "12.50"}, {"price": 3}]})})
    path = "arguments[json].inner[json].items[any].price[number]"
    assert answer({"param_gt": {path: 12}}, {"arguments": text}) is True
    assert answer({"param_gt": {path: 12.5}}, {"arguments": text}) is False
    assert answer({"param_eq": {"a[json][any]": "x"}}, {"a": '["y", "x"]'}) is True
    assert answer({"param_gt": {"a[json][count]": 1}}, {"a": '["y", "x"]'}) is True
    assert answer({"param_eq": {"a[json]": 5}}, {"a": "5"}) is True


def test_a_json_text_is_read_once_for_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(path_steps, "read_alike", lambda text: read.append(text) or json.loads(text))
    rules = [{"conditions": {"param_eq": {"a[json].x": f"v{n}"}}, "approval": "block"} for n in range(50)]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    action = Action("t", params={"a": '{"x": "y"}'}, schema={"properties": {"a": {"type": "string"}}})
    assert policy.evaluate(action).matched_rule == "<default>"
    assert policy.evaluate(action).matched_rule == "<default>"
    assert read == ['{"x": "y"}']


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("ADMIN", True),
        ("admin", True),
        ("Admin ", False),
        ("\u212aING", False),
        (5, "the value is a number, not text"),
        (["admin"], "the value is a list, not text"),
        (None, "the value is null"),
    ],
)
def test_lower(value: Any, result: bool | str) -> None:
    assert answer({"param_eq": {"name[lower]": "admin"}}, {"name": value}) == result
    assert answer({"param_eq": {"n[any][lower]": "admin"}}, {"n": [value]}) == result


def test_lower_folds_case_as_unicode_does() -> None:
    assert answer({"param_eq": {"name[lower]": "strasse"}}, {"name": "STRA\u00dfE"}) is True
    assert answer({"param_eq": {"name[lower]": "king"}}, {"name": "\u212aING"}) is True
    assert answer({"param_matches": {"name[lower]": "^adm"}}, {"name": "ADMIN"}) is True
    assert answer({"param_contains": {"name[lower]": "dmi"}}, {"name": "ADMIN"}) is True


SECRET = {"param_contains": {"[anywhere]": "secret"}}


@pytest.mark.parametrize(
    ("params", "result"),
    [
        ({"a": "a secret"}, True),
        ({"a": "b"}, False),
        ({}, False),
        ({"a": None, "b": 5, "c": True, "d": 1.5}, False),
        ({"a": [[{"x": ["no", "my secret"]}]]}, True),
        ({"a": {"my secret": 1}}, True),
        ({"my secret": 1}, True),
        ({"a": "SECRET"}, False),
        ({"a": ("secret",)}, True),
        ({"a": b"secret"}, "a value in it is of a type that conditions cannot compare"),
        ({"a": b"secret", "b": "secret"}, True),
        ({"a": '{"x": "secret"}'}, True),
        ({"a": "\ud800"}, False),
    ],
)
def test_anywhere(params: dict[str, Any], result: bool | str) -> None:
    """Every text at every depth, keys too, because a model can write into those."""
    assert answer(SECRET, params) == result
    assert answer({"param_contains": {"o[anywhere]": "secret"}}, {"o": params}) == result
    shouted = json.loads(json.dumps(params, default=str).replace("secret", "SECRET"))
    if result is True:
        assert answer({"param_contains": {"[anywhere][lower]": "secret"}}, shouted) is True


def test_anywhere_leaves_out_the_names_of_the_tools_own_parameters() -> None:
    """The model cannot choose them; all others it can."""
    schema = {"properties": {"secret_name": {}, "o": {"properties": {"secret_part": {}}}}}
    assert answer(SECRET, {"secret_name": "x"}, schema) is False
    assert answer(SECRET, {"secret_name": "secret"}, schema) is True
    assert answer(SECRET, {"o": {"secret_part": 1}}, schema) is True
    assert answer(SECRET, {"another_secret": 1}, schema) is True
    assert answer({"param_matches": {"[anywhere]": "x"}}, {"a": "\ud800"}) == "the value is not valid Unicode"


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"properties": {"secret_name": {}}}, {"properties": {"name": {}}}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"secret_name": {}}}}},
        {"properties": {"other": {}}, "allOf": [{"properties": {"secret_name": {}}}]},
    ],
)
def test_anywhere_finds_the_tools_own_parameters_wherever_its_schema_names_them(schema: Any) -> None:
    assert answer(SECRET, {"secret_name": "x"}, schema) is False
    assert answer(SECRET, {"secret_name": "secret"}, schema) is True
    assert answer(SECRET, {"another_secret": "x"}, schema) is True


def test_anywhere_does_not_know_whose_a_name_is_where_the_schema_cannot_be_read() -> None:
    schema = {"if": {}, "properties": {"known": {}}}
    assert answer(SECRET, {"secret_name": "x"}, schema) == "the tool's schema cannot be read"
    assert answer(SECRET, {"secret_name": "secret"}, schema) is True
    assert answer(SECRET, {"name": "x", "known": "y"}, schema) is False


def test_anywhere_counts_as_a_rule_that_reads_arguments() -> None:
    """Else the adapter would not ask the tool's validation what the arguments are."""
    rules = [{"match": {"type": "t"}, "conditions": SECRET, "approval": "block"}]
    assert Policy.from_dict({"rules": rules}).reads_arguments("t")


def test_the_work_is_bounded() -> None:
    most = path_steps.MAX_VALUES
    too_many = f"it would look at more than {most:,} values"
    assert answer({"param_eq": {"cc[any]": "a"}}, {"cc": ["b"] * most}) is False
    assert answer({"param_eq": {"cc[any]": "a"}}, {"cc": ["b"] * (most + 1)}) == too_many
    assert answer({"param_eq": {"cc[all]": "a"}}, {"cc": ["a"] * (most + 1)}) == too_many
    assert answer({"param_eq": {"cc[any][any]": "a"}}, {"cc": [["b"] * 200] * 200}) == too_many
    assert answer({"param_gt": {"cc[count]": most}}, {"cc": ["a"] * (most + 1)}) is True
    assert answer(SECRET, {"cc": ["b"] * most}) == too_many
    shared: Any = ["b"]
    for _ in range(40):
        shared = [shared, shared]
    assert answer(SECRET, {"cc": shared}) == too_many
    assert answer({"param_eq": {"cc" + "[any]" * 38: "a"}}, {"cc": shared}) == too_many
    round_: list[Any] = []
    round_.append(round_)
    assert answer(SECRET, {"cc": round_}) == too_many


TOO_LONG = "it would take too long to compare all values"


@pytest.mark.parametrize(
    ("conditions", "few", "many"),
    [
        ({"shell_only": {"x[all]": ["git *"]}}, ["git status"] * 1_000, ["git status"] * 3_000),
        ({"shell_only": {"x[all]": ["git *"]}}, ["git " + "a" * 990] * 50, ["git " + "a" * 990] * 100),
        ({"url_host": {"x[all]": ["a.example"]}}, ["https://a.example"] * 400, ["https://a.example"] * 600),
        ({"path_within": {"x[all]": ["/srv"]}}, ["/srv/a"] * 5_000, ["/srv/a"] * 10_000),
        ({"param_eq": {"x[all][json].y": 1}}, ['{"y":1}' + " " * 99_000] * 3, ['{"y":1}' + " " * 99_000] * 4),
    ],
)
def test_what_takes_long_to_compare_counts_for_more(conditions: Any, few: Any, many: Any) -> None:
    assert answer(conditions, {"x": few}) is True
    assert answer(conditions, {"x": many}) == TOO_LONG


def test_the_most_json_that_is_read_can_be_compared() -> None:
    text = '{"y":1}'.ljust(path_steps.MAX_JSON)
    assert answer({"param_eq": {"x[json].y": 1}}, {"x": text}) is True
    assert (
        answer({"param_eq": {"x[json].y": 1}}, {"x": text + " "})
        == "the JSON is longer than 200,000 characters"
    )


SCHEMA = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "sku": {"type": "string"},
                    "SKU": {"type": "string"},
                    "price": {"type": "number"},
                    "note": {"type": ["string", "null"]},
                    "size": {"type": "string", "default": "M"},
                },
                "required": ["price"],
                "additionalProperties": False,
            },
        },
        "names": {"type": "array", "items": {"type": ["string", "null"]}},
        "free": {"type": "array"},
        "pair": {"prefixItems": [{"type": "null"}, {"type": "string"}]},
        "order.items": {"type": "array", "items": {"type": ["string", "null"]}},
        "body": {"type": "string"},
    },
}
REQUIRED = "the tool requires it, and the call does not have it"


@pytest.mark.parametrize(
    ("path", "params", "result"),
    [
        ("items[any].sku", {}, False),
        ("items[all].sku", {}, False),
        ("items[any].sku", {"items": []}, False),
        ("items[all].sku", {"items": []}, True),
        ("items[any].sku", {"items": [{"price": 1}]}, False),
        ("items[any].price", {"items": [{"sku": "x"}]}, REQUIRED),
        (
            "items[any].size",
            {"items": [{"price": 1}]},
            "the call does not have it, and its default is not known",
        ),
        ("items[any].note", {"items": [{"note": None}]}, False),
        ("items[any].sku", {"items": [{"sku": None}]}, "the value is null"),
        ("items[any].sku", {"items": [None]}, "the value is null"),
        ("items[any].prise", {"items": [{"price": 1}]}, "the tool has no such parameter"),
        ("items[any].prise", {"items": []}, False),
        ("items[any].sku", {"items": [{"sku": "a", "SKU": "b"}]}, True),
        ("items[any].sku", {"items": [{"sku": "a", "Sku": "b"}]}, OTHER_SPELLING),
        ("items[any].sku", {"items": [{"sku": "a"}], "Items": []}, OTHER_SPELLING),
        ("items[any].sku", {"items": [{"sku": "a"}], "items[]": []}, OTHER_SPELLING),
        ("items[any].sku", {"items": [{"sku": "a"}], "items[any]": 1}, AS_ONE_KEY),
        ("items[any].sku", {"items": [{"sku": "a"}], "itemsAny": 1}, OTHER_SPELLING),
        ("items[any].sku", {"items": [{"sku": "a"}], "items.any.sku": 1}, OTHER_SPELLING),
        ("names[any]", {"names": [None]}, False),
        ("names[all]", {"names": [None]}, False),
        ("names[any]", {"names": ["a", None]}, True),
        ("free[any].x", {"free": [{}]}, False),
        ("free[any]", {"free": [None]}, "the value is null"),
        ("pair[any]", {"pair": [None]}, "the value is null"),
        ("order.items[any]", {"order.items": ["a"]}, True),
        ("order.items[any]", {"order.items": [None]}, False),
        ("itms[any]", {}, "the tool has no such parameter"),
        ("itms.x[any]", {}, "the tool has no such parameter"),
        ("body[json].x", {"body": "{}"}, False),
        ("body[json].x", {}, False),
    ],
)
def test_what_the_schema_says_of_items(path: str, params: dict[str, Any], result: bool | str) -> None:
    """What is absent or null in an item means what the schema says of items; nothing in JSON has a schema."""
    assert answer({"param_eq": {path: "a"}}, params, SCHEMA) == result


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("cc[any]", {"cc": ["b"], "cc[any]": ["a"]}),
        ("cc[any]", {"cc[any]": "a"}),
        ("cc[any].x", {"cc": [{"x": "b"}], "cc[any]": 1}),
        ("cc[any].x", {"cc": [{"x": "b"}], "cc[any].x": 1}),
        ("cc[any].x.y", {"cc": [{"x": {"y": "b"}, "x.y": 1}]}),
        ("cc[any].x[any]", {"cc": [{"x": ["b"], "x[any]": 1}]}),
        ("o.cc[any]", {"o": {"cc": ["b"]}, "o.cc[any]": 1}),
        ("o.cc[any]", {"o": {"cc": ["b"], "cc[any]": 1}}),
        ("o.p.cc[any]", {"o": {"p": {"cc": ["b"]}}, "o.p": 1}),
        ("a[json].x.y", {"a": '{"x": {"y": "b"}, "x.y": 1}'}),
        ("amount[number]", {"amount": "5", "amount[number]": 1}),
    ],
)
def test_a_key_that_stands_for_several_parts_is_unknown(path: str, params: dict[str, Any]) -> None:
    """Whether the tool's schema lists such a key or not."""
    expected: Any = 5 if path.endswith("[number]") else "b"
    open_schema = {"properties": {name: {} for name in params}}
    for schema in (None, open_schema):
        assert answer({"param_eq": {path: expected}}, params, schema) == AS_ONE_KEY


def test_a_dotted_name_before_the_first_step_is_found_as_without_steps() -> None:
    assert answer({"param_eq": {"o.cc[any]": "a"}}, {"o.cc": ["a"]}) is True
    crossed = "both the dotted name and the path it spells have a value"
    assert answer({"param_eq": {"o.cc[any]": "a"}}, {"o.cc": ["a"], "o": {"cc": ["b"]}}) == crossed
    assert answer({"param_eq": {"o.cc[any]": "a"}}, {"o": 5}) == NO_MAPPING


def test_the_model_reads_what_a_step_expects() -> None:
    conditions = {"param_gt": {"items[any].price[number]": 5}}
    rules = [{"name": "r", "match": {"type": "t"}, "conditions": conditions, "approval": "block"}]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    verdict = policy.evaluate(Action("t", params={"items": [{"price": "1e9"}]})).verdict
    expected = "expected a list, then a number, or a plain decimal in text."
    assert verdict.advice == f"The policy could not read parameter `items[any].price[number]`: {expected}"
    assert "1e9" not in "".join((verdict.advice, verdict.reason, *verdict.errors))
    items = policy.evaluate(Action("t", params={"items": "x"})).verdict
    assert items.errors == ("rule `r`: `param_gt` on `items[any].price[number]` is unknown: " + NO_LIST,)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("cc[any]", {"cc": ["a", "<hidden>"]}),
        ("items[any].x", {"items": [{"x": "a", "y": "<hidden>"}]}),
        ("o.cc[any]", {"o": "<hidden>"}),
        ("body[json].x", {"body": '{"x": "<hidden>"}'}),
        ("[anywhere]", {"cc": "a", "b": {"c": ["<hidden>"]}}),
    ],
)
def test_an_explanation_says_nothing_about_what_is_redacted(path: str, params: dict[str, Any]) -> None:
    rules = [{"name": "r", "conditions": {"param_eq": {path: "a"}}, "approval": "block"}]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    shown = explain(
        policy,
        Action("t", params=params),
        datetime.now(UTC),
        is_hidden=lambda value: "<hidden>" in str(value),
    )
    assert [check.answer for check in shown.rules[0].checks] == ["the value it looks at is redacted"]


# --- a second, naive reading of paths, to hold the first against ---

NAMES = ["a", "b", "A", "a.b", "a[any]", "[anywhere]"]
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.5, 1.0, -0.25, math.nan, math.inf]),
    st.sampled_from(["a", "B", "1", "0.5", "1e3", "{}"]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
        st.builds(lambda value: json.dumps(value, default=str), inner),
    ),
    max_leaves=12,
)
middles = st.lists(st.sampled_from(["[any]", "[all]", "[json]", ".a", ".b"]), max_size=4).map("".join)
paths = st.one_of(
    st.builds(
        lambda name, middle, last: name + middle + last,
        st.sampled_from(["a", "b"]),
        middles,
        st.sampled_from(["", "[count]", "[number]", "[lower]", "[anywhere]", "[anywhere][lower]"]),
    ),
    st.sampled_from(["[anywhere]", "[anywhere][lower]"]),
)
UNKNOWN = "unknown"


def naive(value: Any, parts: list[str], expected: Any) -> Any:
    """What the rest of a path is true of: True, False or UNKNOWN."""
    if value is None:
        return UNKNOWN
    if not parts:
        numbers = {int, float}
        alike = type(value) is type(expected) or {type(value), type(expected)} <= numbers
        return value == expected if alike and value == value else UNKNOWN  # noqa: PLR0124 - NaN is not
    part, rest = parts[0], parts[1:]
    if part in NAIVE:
        return NAIVE[part](value, rest, expected)
    if not isinstance(value, dict) or similar(value, [part, *rest]):
        return UNKNOWN
    return naive(value[part], rest, expected) if part in value else False


def naive_any(value: Any, rest: list[str], expected: Any) -> Any:
    if not isinstance(value, list):
        return UNKNOWN
    answers = [naive(item, rest, expected) for item in value]
    return True in answers or (UNKNOWN if UNKNOWN in answers else False)


def naive_all(value: Any, rest: list[str], expected: Any) -> Any:
    if not isinstance(value, list):
        return UNKNOWN
    answers = [naive(item, rest, expected) for item in value]
    return False not in answers and (UNKNOWN if UNKNOWN in answers else True)


def naive_number(value: Any, _rest: list[str], expected: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        value = float(value)  # which keeps all that are made up here
    return value == expected if type(value) in (int, float) and math.isfinite(value) else UNKNOWN


def naive_json(value: Any, rest: list[str], expected: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=int)  # which takes neither NaN nor Infinity
        except ValueError:
            return UNKNOWN
    elif not isinstance(value, (list, dict)):
        return UNKNOWN
    return naive(value, rest, expected)


NAIVE = {
    "[any]": naive_any,
    "[all]": naive_all,
    "[count]": lambda value, _rest, expected: len(value) == expected if isinstance(value, list) else UNKNOWN,
    "[number]": naive_number,
    "[lower]": lambda value, _rest, expected: (
        value.lower() == expected if isinstance(value, str) else UNKNOWN
    ),
    "[json]": naive_json,
    "[anywhere]": lambda value, rest, expected: naive_any(texts(value), rest, expected),
}


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *texts(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def similar(value: dict[str, Any], parts: list[str]) -> bool:
    """Whether a key could be read as the first part, or as several of them."""
    joined = ["".join(part if part[0] == "[" else f".{part}" for part in parts[:n])[1:] for n in range(2, 9)]
    plain = {re_plain(name) for name in [parts[0], *joined]}
    return any(key != parts[0] and re_plain(key) in plain for key in value)


def re_plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def split(path: str) -> list[str]:
    return [part for part in path.replace("[", "\0[").replace(".", "\0").split("\0") if part]


@given(
    st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2), paths, st.sampled_from(["a", 1, 0.5])
)
def test_paths_with_steps_agree_with_a_naive_reading(params: Any, path: str, expected: Any) -> None:
    if path.endswith(("[lower]", "[anywhere]")):
        expected = "a"
    elif path.endswith(("[count]", "[number]")):
        expected = 1
    parts = split(path)
    if path.startswith("[anywhere]"):
        wanted = naive(params, parts, expected)
    else:
        keys = next((n for n, part in enumerate(parts) if part[0] == "["), len(parts))
        wanted = plain(params, parts[:keys], parts[keys:], expected)
    found = answer({"param_eq": {path: expected}}, params)
    assert (UNKNOWN if isinstance(found, str) else found) == wanted


def plain(value: Any, keys: list[str], rest: list[str], expected: Any) -> Any:
    """What stands before the first step, where other spellings do not count without a schema."""
    if value is None:
        return UNKNOWN
    if not keys:
        return naive(value, rest, expected)
    if not isinstance(value, dict):
        return UNKNOWN
    parts = keys + rest
    joined = ["".join(part if part[0] == "[" else f".{part}" for part in parts[:n])[1:] for n in range(2, 9)]
    if rest and any(key in value for key in joined):
        return UNKNOWN
    return plain(value[keys[0]], keys[1:], rest, expected) if keys[0] in value else False


anything = st.recursive(
    st.one_of(leaves, st.binary(max_size=2), st.just("\ud800"), st.builds(object), st.just(Decimal(1))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.integers(0, 2)), inner, max_size=3),
        st.tuples(inner, inner),
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=3), paths, anything)
def test_nothing_raises(params: Any, path: str, schema: Any) -> None:
    """Whatever stands in the arguments, and whatever stands for the schema."""
    expected = 1 if path.endswith(("[count]", "[number]")) else "a"
    rules = [{"conditions": {"param_eq": {path: expected}}, "approval": "block"}]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    for known in (None, {"properties": {"a": schema, "b": schema}}, {"properties": schema}):
        action = Action("t", params=params, schema=known)
        decision = policy.evaluate(action)
        assert explain(policy, action, datetime.now(UTC)).verdict == decision.verdict
        assert decision.matched_rule in ("rule_0", "<default>")
        assert not any("failed with" in error for error in decision.errors)
