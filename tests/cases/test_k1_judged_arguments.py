"""K1: a rule is asked about what the body gets, whatever the model, pydantic or a server make of it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import pytest
from agents import Agent, FunctionTool, RunContextWrapper, function_tool
from agents.tool_context import ToolContext
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.model import Action
from aegis_otel.policy import Policy
from tests.support.kit import Bench, make_bench

BLOCKED = "[AEGIS BLOCKED] Action blocked by policy rule: limit"


def policy(operator: str, path: str, expected: object, *, approval: str = "block") -> dict[str, Any]:
    rule = {"name": "limit", "match": {"type": "*"}, "conditions": {f"param_{operator}": {path: expected}}}
    return {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [{**rule, "risk_level": "high", "approval": approval}],
    }


def call(tool: FunctionTool, arguments: Any) -> str:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    context = ToolContext(None, tool_name=tool.name, tool_call_id="c", tool_arguments=text)
    return str(asyncio.run(tool.on_invoke_tool(context, text)))


def governed(b: Bench, body: Any, **options: Any) -> FunctionTool:
    return governed_tool(runtime=b.runtime)(function_tool(**options)(body))


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    total_amount: float
    note: str | None = None


class Choice(BaseModel):
    total: float = Field(validation_alias=AliasChoices("total", "sum", "amount"))


class Before(BaseModel):
    total: float = 0

    @model_validator(mode="before")
    @classmethod
    def unpack(cls, data: Any) -> Any:
        return {"total": data["packed"]} if isinstance(data, dict) and "packed" in data else data


class Colour(Enum):
    RED = "red"


class Typed(TypedDict):
    total: Annotated[float, Field(validation_alias=AliasChoices("total", "sum"))]


@dataclass
class Held:
    total: Annotated[float, Field(validation_alias=AliasChoices("total", "sum"))]


def order(value: Order) -> str:
    return f"ran {value}"


def choice(value: Choice) -> str:
    return f"ran {value}"


def before(value: Before) -> str:
    return f"ran {value}"


class Text(BaseModel):
    text: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)]


def stripped(value: Text) -> str:
    return f"ran {value}"


def url(value: HttpUrl) -> str:
    return f"ran {value}"


def keyed(value: dict[str, Order]) -> str:
    return f"ran {value}"


def typed(value: Typed) -> str:
    return f"ran {value}"


def held(value: Held) -> str:
    return f"ran {value}"


def flag(value: bool) -> str:
    return f"ran {value}"


def number(value: int) -> str:
    return f"ran {value}"


HIDDEN = [
    (order, "gt", "value.totalAmount", 100, {"value": {"total_amount": 5000}}),
    (choice, "gt", "value.total", 100, {"value": {"sum": 5000}}),
    (choice, "gt", "value.total", 100, {"value": {"amount": 5000}}),
    (before, "gt", "value.total", 100, {"value": {"packed": 5000}}),
    (stripped, "eq", "value.text", "root", {"value": {"text": " ROOT\n"}}),
    (url, "matches", "value", r"^https?://evil\.example/", {"value": "HTTP://EVIL.example"}),
    (url, "matches", "value", r"^https?://evil\.example/", {"value": "http://\tevil.example:80/x"}),
    (url, "matches", "value", r"^https?://evil\.example/", {"value": "http:\\\\evil.example\\x"}),
    (url, "matches", "value", r"^https?://evil\.example/", {"value": "http://ev%69l.example/x"}),
    (url, "matches", "value", r"^https?://evil\.example/", {"value": "http://\uff45vil.example/x"}),
    (url, "matches", "value", r"^https?://evil\.example/", {"value": "  http:evil.example/x"}),
    (keyed, "gt", "value.x.totalAmount", 100, {"value": {"x": {"total_amount": 5000}}}),
    (typed, "gt", "value.total", 100, {"value": {"sum": 5000}}),
    (held, "gt", "value.total", 100, {"value": {"sum": 5000}}),
]


def named(value: object) -> str:
    """Return an id without addresses in memory, so that every worker collects the same tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize("hidden", HIDDEN, ids=named)
def test_k1_a_rule_sees_what_the_body_sees(hidden: tuple[Any, ...], tmp_path: Path) -> None:
    body, operator, path, expected, sent = hidden
    b = make_bench(tmp_path / "audit", policy=policy(operator, path, expected))
    read = call(governed(b, body, strict_mode=False), sent)
    assert read.startswith(BLOCKED)
    assert b.row()["matched_rule"] == "limit"
    assert b.row()["result_status"] == "blocked"


@pytest.mark.parametrize(
    ("body", "path", "sent"),
    [
        (order, "value.totalAmount", {"value": {"total_amount": 5}}),
        (order, "value.total_amount", {"value": {"totalAmount": 5}}),
        (choice, "value.total", {"value": {"total": 5}}),
        (before, "value.total", {"value": {"packed": 5}}),
        (keyed, "value.x.totalAmount", {"value": {"x": {"totalAmount": 5, "note": None}}}),
    ],
    ids=named,
)
def test_k1_a_value_below_the_limit_runs_holds(
    body: Any, path: str, sent: dict[str, Any], tmp_path: Path
) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", path, 100))
    assert call(governed(b, body, strict_mode=False), sent).startswith("ran")


@pytest.mark.parametrize(
    ("annotation", "sent", "operator", "expected"),
    [
        (Decimal, 5000, "gt", 100),
        (Colour, "red", "eq", "red"),
        (int, 5000.0, "gt", 100),
    ],
    ids=named,
)
def test_k1_plain_values_of_other_types_are_compared_holds(
    annotation: Any, sent: Any, operator: str, expected: Any, tmp_path: Path
) -> None:
    def body(value: Any) -> str:
        return f"ran {value}"

    body.__annotations__["value"] = annotation
    b = make_bench(tmp_path / "audit", policy=policy(operator, "value", expected))
    assert call(governed(b, body), {"value": sent}) == BLOCKED


@pytest.mark.parametrize(
    ("body", "operator", "expected", "sent"),
    [
        (flag, "eq", True, "yes"),
        (flag, "eq", True, 1),
        (number, "eq", 5000, "5000"),
        (number, "gt", 100, "5000"),
    ],
    ids=named,
)
def test_k1_numbers_and_booleans_from_text_are_judged_holds(
    body: Any, operator: str, expected: object, sent: object, tmp_path: Path
) -> None:
    b = make_bench(tmp_path / "audit", policy=policy(operator, "value", expected))
    assert call(governed(b, body), {"value": sent}).startswith(BLOCKED)
    assert b.row()["result_status"] == "blocked"


class Counted(BaseModel):
    total: float = 0

    @field_validator("total", mode="before")
    @classmethod
    def count(cls, value: Any) -> Any:
        seen.append(value)
        return len(seen)


seen: list[Any] = []


def test_k1_validators_of_the_user_run_once_and_the_body_gets_what_was_judged(tmp_path: Path) -> None:
    """A validator that answers differently each time: what it said when the policy was asked is what runs."""
    seen.clear()
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 1))
    got: list[Any] = []

    def counted(value: Counted) -> str:
        got.append(value.total)
        return "ran"

    tool = governed(b, counted, strict_mode=False)
    assert call(tool, {"value": {"total": 1}}) == "ran"
    assert (seen, got) == ([1], [1.0])
    assert call(tool, {"value": {"total": 0}}) == BLOCKED
    assert got == [1.0]


def test_k1_no_validator_runs_for_a_call_that_is_blocked_anyway_holds(tmp_path: Path) -> None:
    seen.clear()
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 100))

    def counted(value: Counted) -> str:
        return f"ran {value}"

    assert call(governed(b, counted, strict_mode=False), {"value": {"total": 5000}}) == BLOCKED
    assert seen == []
    free = policy("gt", "value.total", 100)
    free["rules"] = []
    other = make_bench(tmp_path / "other", policy=free)
    assert call(governed(other, counted, strict_mode=False), {"value": {"total": 5000}}).startswith("ran")
    assert seen == [5000], "the SDK validates as ever, and nobody else"


def test_k1_what_the_tool_refuses_is_answered_by_the_sdk_holds(tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.totalAmount", 100))
    read = call(governed(b, order, strict_mode=False), {"value": {"totalAmount": 5, "note": 7}})
    assert read.startswith("An error occurred")
    assert b.row()["result_status"] == "failed"


def test_k1_context_and_variadic_parameters_reach_the_body_holds(tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "limit", 100))
    got: list[Any] = []

    def many(context: RunContextWrapper[Any], first: int, *rest: int, limit: int = 3, **more: int) -> str:
        got.append((first, rest, limit, more))
        return "ran"

    tool = governed(b, many, strict_mode=False)
    assert call(tool, {"first": "1", "rest": ["2", 3], "more": {"x": "4"}}) == "ran"
    assert got == [(1, (2, 3), 3, {"x": 4})]
    assert call(tool, {"first": 1, "rest": [], "more": {}, "limit": 101}) == BLOCKED


# --- the tool's schema: other spellings, required, defaults behind every keyword ---

CLOSED = {"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": False}
OPEN = {"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": True}
SPELLINGS = [
    "Path",
    "PATH",
    "pa_th",
    "pa-th",
    "\u0440ath",
    "\uff50ath",
    "pa\u200bth",
    "pa\u00adth",
    "páth",
    " path",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("schema", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("more", [{}, {"path": "/home"}], ids=["alone", "beside it"])
def test_k1_a_key_in_another_spelling_makes_it_unknown(
    spelling: str, schema: dict[str, Any], more: dict[str, Any]
) -> None:
    judged = Policy.from_dict(policy("matches", "path", "^/etc"))
    action = Action("read", params={**more, spelling: "/etc/passwd"}, schema=schema)
    decision = judged.evaluate(action)
    assert decision.approval == "block"
    assert decision.verdict.advice == "The policy could not read parameter `path`: expected text."


def test_k1_another_spelling_deeper_down_makes_it_unknown() -> None:
    judged = Policy.from_dict(policy("matches", "file.path", "^/etc"))
    schema = {"type": "object", "properties": {"file": CLOSED}}
    for params in (
        {"file": {"path": "/home", "Path": "/etc"}},
        {"file": {"path": "/home"}, "File": {"path": "/etc"}},
        {"file": {"PATH": "/etc"}},
        {"File.Path": "/etc", "file": {"path": "/home"}},
    ):
        assert judged.evaluate(Action("read", params=params, schema=schema)).approval == "block", params


def test_k1_a_key_that_the_schema_lists_is_its_own_parameter_holds() -> None:
    judged = Policy.from_dict(policy("matches", "path", "^/etc"))
    schema = {"type": "object", "properties": {"path": {}, "Path": {}, "PATH_": {}}}
    action = Action("read", params={"path": "/home", "Path": "/etc", "PATH_": "/etc"}, schema=schema)
    assert judged.evaluate(action).approval == "auto"
    assert judged.evaluate(Action("read", params={"PATH": "/etc"})).approval == "auto", "no schema is at hand"


def test_k1_required_and_absent_is_unknown() -> None:
    judged = Policy.from_dict(policy("gt", "limit", 100))
    schema = {"type": "object", "properties": {"limit": {"type": "integer"}}, "required": ["limit"]}
    decision = judged.evaluate(Action("t", schema=schema))
    assert decision.approval == "block"
    assert decision.verdict.advice == "The policy could not read parameter `limit`: expected a number."
    deep = {"type": "object", "properties": {"o": {"$ref": "#/$defs/o"}}, "$defs": {"o": schema}}
    nested = Policy.from_dict(policy("gt", "o.limit", 100))
    assert nested.evaluate(Action("t", params={"o": {}}, schema=deep)).approval == "block"
    assert nested.evaluate(Action("t", schema=deep)).approval == "auto", "`o` may be left out"


def test_k1_a_strict_schema_requires_what_the_body_has_a_default_for_holds(tmp_path: Path) -> None:
    """The SDK's strict schema has every parameter required, and no default that is null."""
    b = make_bench(tmp_path / "audit", policy=policy("eq", "target", "all"))

    def reach(target: str = "all", note: str | None = None) -> str:
        return f"ran {target} {note}"

    tool = governed(b, reach)
    assert call(tool, {"note": "x"}) == BLOCKED
    assert call(tool, {"target": "one"}) == "ran one None"
    c = make_bench(tmp_path / "other", policy=policy("eq", "note", "x"))
    assert call(governed(c, reach), {"target": "one"}) == "ran one None", "the body's default is known: null"


WITH_DEFAULT = {"type": "object", "properties": {"limit": {"type": "integer", "default": 5000}}}


@pytest.mark.parametrize(
    ("schema", "sent", "path"),
    [
        ({"properties": {"o": {"additionalProperties": WITH_DEFAULT}}}, {"o": {"x": {}}}, "o.x.limit"),
        ({"properties": {"o": {"patternProperties": {"^x": WITH_DEFAULT}}}}, {"o": {"x": {}}}, "o.x.limit"),
        (
            {"properties": {"o": {"$ref": "#/$defs/v1~1opts"}}, "$defs": {"v1/opts": WITH_DEFAULT}},
            {"o": {}},
            "o.limit",
        ),
        (
            {"properties": {"o": {"$ref": "#/$defs/a%20b"}}, "$defs": {"a b": WITH_DEFAULT}},
            {"o": {}},
            "o.limit",
        ),
        (
            {"properties": {"o": {"$ref": "#/$defs/a~0b"}}, "$defs": {"a~b": WITH_DEFAULT}},
            {"o": {}},
            "o.limit",
        ),
        (
            {"properties": {"o": {"properties": {"limit": {}}, "if": {}, "then": WITH_DEFAULT}}},
            {"o": {}},
            "o.limit",
        ),
        (
            {
                "properties": {
                    "limit": {
                        "anyOf": [{"type": "integer", "default": 5000}, {"type": "null", "default": None}]
                    }
                }
            },
            {},
            "limit",
        ),
    ],
    ids=["additional", "pattern", "~1", "percent", "~0", "then", "nullable alternatives"],
)
def test_k1_a_default_behind_any_keyword_counts(
    schema: dict[str, Any], sent: dict[str, Any], path: str, tmp_path: Path
) -> None:
    async def body(context: Any, arguments: str) -> str:
        return "ran"

    b = make_bench(tmp_path / "audit", policy=policy("gt", path, 100))
    tool = FunctionTool("t", "", {"type": "object", **schema}, body, strict_json_schema=False)
    assert call(governed_tool(runtime=b.runtime)(tool), sent).startswith(BLOCKED)


# --- what the model reads ---


def test_k1_the_model_reads_which_parameter_and_what_was_expected(tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "amount", 777))

    def pay(amount: float) -> str:
        return f"ran {amount}"

    read = call(governed(b, pay), {"amount": "12"})
    assert read == f"{BLOCKED}\nThe policy could not read parameter `amount`: expected a number."
    assert "777" not in read
    assert b.row()["result_error"] == "Action blocked by policy rule: limit"


def test_k1_a_plain_block_reads_as_ever_holds(tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "amount", 777))

    def pay(amount: float) -> str:
        return f"ran {amount}"

    assert call(governed(b, pay), {"amount": 778}) == BLOCKED


def test_k1_duplicate_keys_are_unknown_where_the_body_reads_the_text(tmp_path: Path) -> None:
    async def body(context: Any, arguments: str) -> str:
        return "ran"

    b = make_bench(tmp_path / "audit", policy=policy("gt", "amount", 100))
    tool = FunctionTool("t", "", {"type": "object", "properties": {"amount": {}}}, body, False)
    own = governed_tool(runtime=b.runtime)(tool)
    assert call(own, '{"amount": 5000, "amount": 1}').startswith(BLOCKED)
    assert call(own, '{"amount": 1}') == "ran"


class Item(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, str_strip_whitespace=True)
    unit_price: float = 101
    short_name: Annotated[str, StringConstraints(to_lower=True)] = "evil"
    is_paid: bool = False


prices = st.sampled_from([1, 5000, 101.0, "5000", "1", True])
keys = st.sampled_from(["unit_price", "unitPrice", "UnitPrice", "unit-price"])
words = st.sampled_from(["EVIL", " evil ", "evil", "good", "Evil\n"])
items = st.builds(
    lambda price, name, paid: {**price, **name, **paid},
    st.dictionaries(keys, prices, max_size=2),
    st.dictionaries(st.sampled_from(["short_name", "shortName", "SHORT_NAME"]), words, max_size=2),
    st.dictionaries(st.sampled_from(["is_paid", "isPaid"]), st.sampled_from(["true", 1, "no", False])),
)
RULES = [
    ("gt", "value.{}", "unit_price", 100, lambda item: item.unit_price > 100),
    ("eq", "value.{}", "short_name", "evil", lambda item: item.short_name == "evil"),
    ("eq", "value.{}", "is_paid", True, lambda item: item.is_paid),
]


@settings(max_examples=60, deadline=None)
@given(items, st.sampled_from(RULES), st.booleans())
def test_k1_no_body_runs_with_what_a_rule_blocks(sent: dict[str, Any], rule: Any, by_alias: bool) -> None:
    """Whatever is sent: where the body ran, the rule is false of what the body got."""
    operator, path, field, expected, blocks = rule
    got: list[Item] = []

    def body(value: Item) -> str:
        got.append(value)
        return "ran"

    name = to_camel(field) if by_alias else field
    with TemporaryDirectory() as folder:
        b = make_bench(Path(folder) / "audit", policy=policy(operator, path.format(name), expected))
        call(governed(b, body, strict_mode=False), {"value": sent})
    assert not any(map(blocks, got))


@pytest.mark.parametrize(
    "name",
    [
        "amount.",
        ".amount",
        "amount[]",
        "amount[0]",
        "$amount",
        "'amount'",
        "\u1d00\u1d0d\u1d0f\u1d1c\u0274\u1d1b",
    ],
)
def test_k1_a_server_may_read_a_key_with_punctuation_or_small_capitals(name: str) -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "number"}}, "additionalProperties": True}
    judged = Policy.from_dict(policy("gt", "amount", 100))
    assert judged.evaluate(Action("t", params={name: 5000}, schema=schema)).approval == "block"
    assert judged.evaluate(Action("t", params={"note": 5000}, schema=schema)).approval == "auto"


Lowered = Annotated[str, StringConstraints(to_lower=True)]
"""What a validated call has other arguments of, so that it is judged in a second form."""


def rules(first: dict[str, Any], *, then: dict[str, Any], default: str = "auto") -> dict[str, Any]:
    """A policy that lets run what is true of the first conditions, and then blocks what the others say."""
    named = [("first", first, "auto"), ("limit", then, "block")]
    return {
        "defaults": {"approval": default},
        "rules": [
            {"name": name, "match": {"type": "*"}, "conditions": conditions, "approval": approval}
            for name, conditions, approval in named
        ],
    }


def test_k1_anywhere_does_not_find_the_names_of_the_parameters_that_a_validation_returns(
    tmp_path: Path,
) -> None:
    """Else a rule that lets calls run matches what the body gets, and the one that blocks it is not asked."""

    def named(read_name: Lowered) -> str:
        return f"ran {read_name}"

    def aliased(name: Annotated[Lowered, Field(alias="read_name")]) -> str:
        return f"ran {name}"

    block = {"param_eq": {"read_name": "evil"}}
    b = make_bench(tmp_path / "a", policy=rules({"param_contains": {"[anywhere]": "read"}}, then=block))
    for body in (named, aliased):
        tool = governed(b, body)
        assert call(tool, {"read_name": "EVIL"}) == BLOCKED
        assert call(tool, {"read_name": "Good"}) == "ran good"


def mail(mail_to: Annotated[Lowered, Field(alias="to")], extra: str = "") -> str:
    return f"ran {mail_to}"


def mail_by_either(
    mail_to: Annotated[Lowered, Field(validation_alias=AliasChoices("to", "mail_to"))], extra: str = ""
) -> str:
    return f"ran {mail_to}"


@pytest.mark.parametrize("body", [mail, mail_by_either])
def test_k1_anywhere_searches_no_name_of_an_aliased_parameter(body: Any, tmp_path: Path) -> None:
    found = policy("matches", "[anywhere]", "^(to|mail_to)$")
    tool = governed(make_bench(tmp_path / "a", policy=found), body)
    assert call(tool, {"to": "Ann"}) == "ran ann"
    assert call(tool, {"to": "To"}) == BLOCKED
    assert call(tool, {"to": "x", "extra": "mail_to"}) == BLOCKED


def test_k1_anywhere_searches_no_name_of_the_input_of_an_agent(tmp_path: Path) -> None:
    inner = Agent(name="inner").as_tool("ask", "Asks.", parameters=Text)
    b = make_bench(tmp_path / "a", policy=policy("contains", "[anywhere]", "tex"))
    tool = governed_tool(runtime=b.runtime)(inner)
    assert call(tool, {"text": "my TEX"}) == BLOCKED
    assert call(tool, {"text": "X"}) != BLOCKED


def only_mail(mail_to: Annotated[Lowered, Field(alias="to")], copies: str | None = None) -> str:
    return f"ran {mail_to}"


def test_k1_param_only_takes_the_names_of_one_parameter_for_one(tmp_path: Path) -> None:
    """The validation returns it by the name in the signature, and the model knows its alias."""

    only = {"param_only": ["to"], "param_present": ["to"]}
    known = rules(only, then={"param_present": ["to"]}, default="block")
    tool = governed(make_bench(tmp_path / "a", policy=known), only_mail)
    assert call(tool, {"to": "Ann"}) == "ran ann"
    assert call(tool, {"to": "Ann", "copies": "x"}) == BLOCKED
