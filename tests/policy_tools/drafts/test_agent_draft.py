"""First policies for agents: what is blocked, asked and let through, and that no name makes them looser."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel import Action, Policy
from aegis_otel.policy.lint import lint
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool, read_tools
from aegis_otel.policy_tools.drafts.agent_draft import draft_for_agent


def tool(name: str, *params: str, hints: dict[str, Any] | None = None, **more: Any) -> KnownTool:
    schema = {"type": "object", "properties": {each: {"type": "string"} for each in params}}
    return KnownTool(
        name, more.pop("schema", schema), more.pop("original_name", None), more.pop("target", "default"),
        more.pop("agent", "Clerk"), hints,
    )  # fmt: skip


def drafted(*tools: KnownTool) -> Policy:
    return Policy.from_text(draft_for_agent(Inventory(tools, ("Clerk",)), "aegis policy init shop:clerk"))


def verdict(known: KnownTool, policy: Policy | None = None) -> str:
    action = Action(known.name, known.target or "default", agent=known.agent)
    return (policy or drafted(known)).evaluate(action).approval.value


READ_ONLY, NOT_READ_ONLY = {"readOnlyHint": True}, {"readOnlyHint": False}
DESTRUCTIVE = {"destructiveHint": True}


@pytest.mark.parametrize(
    ("known", "approval"),
    [
        (tool("get_customer", "customer_id"), "auto"),
        (tool("search", "query"), "auto"),
        (tool("listOrders"), "auto"),
        (tool("list_orders", hints=READ_ONLY), "auto"),
        (tool("mcp_shop__get_order", original_name="get_order", target="shop"), "auto"),
        (tool("delete_file", "path"), "block"),
        (tool("get_and_delete", "x"), "block"),
        (tool("archive", "x", hints=DESTRUCTIVE), "block"),
        (tool("mcp_x__tidy", original_name="purge", target="x"), "block"),
        (tool("refund", "amount"), "approve"),
        (tool("get_and_buy"), "approve"),
        (tool("get_or_create_user"), "approve"),
        (tool("read_then_forward"), "approve"),
        (tool("listanddeletefiles"), "approve"),
        (tool("get_deletefile"), "approve"),
        (tool("customer"), "approve"),
        (tool("check_out"), "approve"),
        (tool("export", hints=READ_ONLY), "approve"),
        (tool("delete_x", hints=READ_ONLY), "block"),
        (tool("get_x", hints=NOT_READ_ONLY), "approve"),
        (tool("get_x", hints=DESTRUCTIVE), "block"),
        (tool("read_file", "path"), "approve"),
        (tool("fetch_page", "url"), "approve"),
        (tool("query_database", "sql"), "approve"),
        (tool("get_rows", "query"), "approve"),
        (tool("show", "command"), "approve"),
        (tool("get_x", schema=None), "approve"),
        (tool("get_b\u0430lance"), "approve"),
        (tool("get_x", target="*"), "approve"),
        (tool("get_x*"), "approve"),
        (tool("get_x\n- name: all"), "approve"),
        (tool(""), "approve"),
    ],
    ids=lambda value: value.name if isinstance(value, KnownTool) else value,
)  # fmt: skip
def test_a_tool_runs_only_where_it_plainly_reads(known: KnownTool, approval: str) -> None:
    """And is blocked only where its name or its server says that it destroys something."""
    assert verdict(known) == approval


def test_an_amount_that_nothing_bounds_is_asked_about() -> None:
    """The linter warns of a rule that lets it run."""
    schema = {"type": "object", "properties": {"amount": {"type": "number"}}}
    assert verdict(tool("get_quote", schema=schema)) == "approve"


def test_of_two_tools_with_one_name_the_stricter_counts() -> None:
    files, other = tool("read", "path"), tool("read", "id", agent="Helper")
    assert {verdict(each, drafted(files, other)) for each in (files, other)} == {"approve"}
    server = tool("read", "id", target="server")
    assert {verdict(each, drafted(files, server)) for each in (files, server)} == {"approve"}


def test_a_read_runs_at_its_own_target_only() -> None:
    known = tool("get_order", target="shop")
    policy = drafted(known)
    assert verdict(known, policy) == "auto"
    assert verdict(known._replace(target="other"), policy) == "approve"


def test_every_rule_and_tool_says_why() -> None:
    tools = [
        tool("get_order", target="shop api"),
        tool("get_stock", target="shop-api", agent="Store"),
        tool("tidy", hints=DESTRUCTIVE),
        tool("read_file", "path"),
    ]
    text = draft_for_agent(Inventory(tuple(tools), ("Clerk",), False), "aegis policy init shop:clerk")
    assert text.startswith("# A first policy, made by `aegis policy init shop:clerk`.\n")
    assert "# The tools of a server could not be listed: its calls are asked about." in text
    assert '        - "tidy" # Clerk; its server says that it destroys\n' in text
    assert '        - "read_file" # Clerk; it takes paths (`path`)\n' in text
    assert '        - "get_stock" # Store of shop-api\n' in text
    names = [rule.name for rule in Policy.from_text(text).rules]
    assert names == ["block_destructive", "ask_others", "run_reads_of_shop_api", "run_reads_of_shop_api_1"]


def test_no_tools_make_a_policy_that_asks() -> None:
    policy = Policy.from_text(draft_for_agent(Inventory(()), "x"))
    assert (policy.rules, policy.default.approval) == ((), "approve")


def test_hints_are_read_from_the_lists_of_mcp() -> None:
    listed = [{"name": "get_x", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": True}}]
    (known,) = read_tools({"tools": listed}).tools
    assert known.annotations == {"destructiveHint": True}
    assert verdict(known) == "block"


NAMES = st.one_of(
    st.sampled_from(["get_x", "delete_x", "getFile", "list", "send_mail", "x*", "[a]", "get_x "]),
    st.text(max_size=12),
)
TOOLS = st.lists(
    st.builds(tool, NAMES, st.sampled_from(["id", "path", "amount", "url"]), target=NAMES), max_size=6
)


@settings(max_examples=150, deadline=None)
@given(TOOLS)
def test_whatever_tools_are_called_the_policy_loads_and_lets_nothing_else_run(tools: list[KnownTool]) -> None:
    policy = drafted(*tools)
    for known in tools:
        if verdict(known, policy) == "auto":
            assert verdict(known) == "auto"
            assert known.name.isascii()
    for name in ("send_money", "get_y", "x", "get_x2", "listing"):
        if all(known.name != name for known in tools):
            assert policy.evaluate(Action(name)).approval != "auto"


ORDINARY = st.from_regex(r"(get|list|search|send|delete|book|read)(_[a-z]{1,6}){1,2}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            tool, ORDINARY, st.sampled_from(["id", "path", "amount", "url", "query", "cmd"]),
            target=st.sampled_from(["default", "shop", "files"]),
        ),
        min_size=1, max_size=6, unique_by=lambda known: (known.name, known.target),
    )
)  # fmt: skip
def test_the_linter_has_nothing_to_say_against_it(tools: list[KnownTool]) -> None:
    """`check --strict` passes, with the tools that it is for."""
    assert [str(finding) for finding in lint(drafted(*tools), Inventory(tuple(tools), ("Clerk",)))] == []
