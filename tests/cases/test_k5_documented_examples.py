"""K5: the rules that docs and examples teach with `auto`, attacked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")


def taught() -> Policy:
    (text,) = [
        each
        for each in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        if "apply_patch" in each
    ]
    return Policy.from_text(text)


@pytest.mark.parametrize(
    "params",
    [
        {"path": "src/../../etc/cron.d/x"},
        {"path": "src/x/../../../etc/cron.d/x"},
        {"path": "src/a.py", "move_to": "../.bashrc"},
        {"path": "src/a.py", "move_to": "/etc/cron.d/x"},
        {"path": "src/%2e%2e/x"},
        {"path": "src\\..\\x"},
        {"path": "src/..\n/x"},
    ],
)
def test_k5_coverage_example_is_not_left_by_a_path(params: dict[str, str]) -> None:
    action = Action("apply_patch", params={"type": "update_file", "diff": "", **params})
    assert taught().evaluate(action).approval != "auto"


def test_k5_coverage_example_lets_the_sources_be_patched_holds() -> None:
    action = Action("apply_patch", params={"type": "update_file", "diff": "", "path": "src/a/b.py"})
    assert taught().evaluate(action).approval == "auto"


def test_k5_the_join_of_commands_is_documented() -> None:
    assert "joined by line breaks" in PAGE


def shape(**properties: Any) -> dict[str, Any]:
    """A schema that lets the model add keys, as many tools do."""
    return {"type": "object", "properties": properties, "required": list(properties)}


NUMBER, TEXT = {"type": "number"}, {"type": "string"}
ORDER = {"type": "object", "properties": {"items": {"type": "integer"}}, "required": ["items"]}
PATCH = {**shape(type=TEXT, path=TEXT, diff=TEXT, move_to=TEXT), "required": ["type", "path"]}
REFUND = shape(amount=NUMBER)
MAIL = shape(to=TEXT)
PAY = shape(amount=NUMBER, currency=TEXT, express={"type": "boolean"}, order=ORDER)
GOOD_PATCH = {"type": "update_file", "path": "src/a.py", "diff": ""}
GOOD_PAY = {"amount": 5, "currency": "EUR", "express": False, "order": {"items": 2}}


def page(name: str, word: str) -> Policy:
    """The only policy of a page of docs in which `word` stands."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    found = re.findall(r"^```yaml(?: \S+)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (policy,) = [each for each in found if word in each]
    return Policy.from_text(policy)


def example(name: str) -> Policy:
    return Policy.from_yaml(ROOT / "examples" / name / "policy.yaml")


def attacks() -> list[Any]:
    """Policy, type, schema, parameters that run, and what is changed of them."""
    patch = page("coverage.md", "apply_patch")
    pay, refund, mail = page("policy.md", "small_payment"), example("handoff"), example("monitor_mode")
    cases: list[tuple[str, Policy, str, dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = [
        (
            "patch",
            patch,
            "apply_patch",
            PATCH,
            GOOD_PATCH,
            [
                {"path": ["src/a.py", "/etc/x"]},
                {"path": {"path": "src/a.py"}},
                {"Path": "/etc/cron.d/x"},
                {"path ": "/etc/cron.d/x"},
                {"p\u0430th": "/etc/cron.d/x"},
                {"path\u200b": "/etc/cron.d/x"},
                {"path": "SRC/../x"},
                {"path": "src//../../x"},
                {"path": "./src/a"},
                {"path": "src/~root/x"},
                {"path": "C:\\src\\a"},
                {"path": "src/a\x00/../../x"},
                {"path": None},
                {"path": ""},
                {"move_to": "\n"},
                {"move_to": ["x"]},
                {"move_to": {"path": "x"}},
                {"Move_To": "../x"},
                {"moveTo": "../x"},
                {"move_to\u200b": "../x"},
            ],
        ),
        (
            "refund",
            refund,
            "refund",
            REFUND,
            {"amount": 5},
            [
                {"amount": 501},
                {"amount": -1},
                {"amount": 0},
                {"amount": "5"},
                {"amount": [5]},
                {"amount": {"value": 5000}},
                {"amount": True},
                {"amount": None},
                {"amount": float("nan")},
                {"amount": float("inf")},
                {"Amount": 5000},
                {"\uff41mount": 5000},
                {"am\u043eunt": 5000},
            ],
        ),
        (
            "mail",
            mail,
            "send_mail",
            MAIL,
            {"to": "ann@shop.example"},
            [
                {"to": "ann@evil.example"},
                {"to": "ann@shop.example\nBcc: x@evil.example"},
                {"to": "ann@shop.example\n"},
                {"to": "x@evil.example,ann@shop.example"},
                {"to": "x@evil.example ann@shop.example"},
                {"to": "x%evil.example@shop.example"},
                {"to": "evil.example!x@shop.example"},
                {"to": "<x\u0040evil.example>ann@shop.example"},
                {"to": "ann\x00@shop.example"},
                {"to": "x\uff20evil.example@shop.example"},
                {"to": "ann@shop.example.evil.example"},
                {"to": "ann@shopXexample"},
                {"to": ["ann@shop.example", "x@evil.example"]},
                {"to": {"address": "x@evil.example"}},
                {"To": "x@evil.example"},
                {"to": ""},
            ],
        ),
        (
            "pay",
            pay,
            "pay",
            PAY,
            GOOD_PAY,
            [
                {"amount": 51},
                {"amount": -5},
                {"amount": "5"},
                {"currency": "BTC"},
                {"currency": ["EUR", "BTC"]},
                {"currency": "EUR\n"},
                {"Currency": "BTC"},
                {"order": {"items": 100}},
                {"order": {"Items": 100, "items": 2}},
                {"order": [{"items": 100}]},
                {"order": {"items": {"items": 2}}},
                {"order.items": 100},
                {"Order": {"items": 100}},
            ],
        ),
    ]
    return [
        pytest.param(policy, kind, schema, good, change, id=f"{name}-{number}")
        for name, policy, kind, schema, good, changes in cases
        for number, change in enumerate(changes)
    ]


@pytest.mark.parametrize(("policy", "kind", "schema", "good", "change"), attacks())
def test_k5_a_taught_rule_lets_nothing_else_run(
    policy: Policy, kind: str, schema: dict[str, Any], good: dict[str, Any], change: dict[str, Any]
) -> None:
    agent = "Billing" if kind == "refund" else "Clerk"
    meant = Action(kind, params=good, agent=agent, schema=schema)
    assert policy.evaluate(meant).approval == "auto"
    attack = Action(kind, params={**good, **change}, agent=agent, schema=schema)
    assert policy.evaluate(attack).approval != "auto"


@pytest.mark.parametrize("agent", [None, "billing", "Billing ", "B\u0456lling", "Support", "Billing,Support"])
def test_k5_a_rule_for_one_agent_is_for_no_other_holds(agent: str | None) -> None:
    action = Action("refund", params={"amount": 5}, agent=agent, schema=REFUND)
    assert example("handoff").evaluate(action).approval == "block"


@pytest.mark.parametrize(
    "name", ["count_stock_and_delete", "Count_Stock", "count_stock ", "c\u043eunt_stock"]
)
def test_k5_a_rule_for_one_tool_of_a_server_is_for_no_other_holds(name: str) -> None:
    assert example("mcp_server").evaluate(Action(name, "warehouse")).approval == "block"
