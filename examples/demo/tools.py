"""The agents of the demo and their tools. They are the SDK's own, and do what the script says."""

from __future__ import annotations

import asyncio
import json

from agents import Agent, FunctionTool, Tool, function_tool
from agents.tool_context import ToolContext

from .script import AGENTS, Run

_TIME_LIMIT = 1.5
"""Seconds that a tool which hangs is given."""

TARGETS = {
    "search_orders": "shop database",
    "refund_order": "payments",
    "charge_card": "payments",
    "send_email": "mail server",
    "delete_customer": "customer database",
    "post_reply": "forum",
    "*_ledger": "ledger",
    "issue_invoice": "ledger",
    "web_search": "web",
    "fetch_page": "web",
    "save_report": "storage",
    "read_logs": "log store",
    "run_sql": "shop database",
    "restart_service": "cluster",
    "rotate_credentials": "vault",
}
"""The target of each tool, which rules may match as `match.target` and the audit shows."""


class ServiceDown(RuntimeError):
    """An error that a tool raises now and then."""


Context = ToolContext[Run]


async def _work(context: Context, result: str) -> str:
    """Take as long and end as the script says for this call."""
    step = context.context.step(context.tool_name, json.loads(context.tool_arguments))
    await asyncio.sleep(step.takes)
    if step.end == "raises":
        raise ServiceDown(f"{step.tool}: the service answered 503, try again later")
    if step.end == "hangs":
        await asyncio.sleep(_TIME_LIMIT * 10)
    return result


async def search_orders(context: Context, query: str) -> str:
    """Find orders of a customer."""
    return await _work(context, f"order {query}: sent, not delivered")


async def refund_order(context: Context, order: str, amount: float) -> str:
    """Pay the customer back."""
    return await _work(context, f"refunded {amount} for {order}")


async def send_email(context: Context, to: str, body: str) -> str:
    """Write to a customer."""
    return await _work(context, f"sent {len(body)} characters to {to}")


async def delete_customer(context: Context, customer: str) -> str:
    """Remove a customer and all orders."""
    return await _work(context, f"deleted {customer}")


async def post_reply(context: Context, thread: int, text: str) -> str:
    """Answer in the public forum."""
    return await _work(context, f"posted {len(text)} characters in {thread}")


async def read_ledger(context: Context, account: int) -> str:
    """Read the bookings of an account."""
    return await _work(context, f"account {account}: balanced")


async def issue_invoice(context: Context, order: str, amount: float) -> str:
    """Send an invoice."""
    return await _work(context, f"invoiced {amount} for {order}")


async def charge_card(context: Context, order: str, amount: float, card_token: str) -> str:
    """Charge a card."""
    return await _work(context, f"charged {amount} for {order} ({len(card_token)})")


async def export_ledger(context: Context, account: int, to: str) -> str:
    """Copy the bookings of an account to another place."""
    return await _work(context, f"exported {account} to {to}")


async def web_search(context: Context, query: str) -> str:
    """Search the web."""
    return await _work(context, f"results for {query}")


async def fetch_page(context: Context, url: str, api_key: str) -> str:
    """Read a page of the web."""
    return await _work(context, f"{url}: {len(api_key)} characters")


async def save_report(context: Context, title: str, text: str) -> str:
    """Keep a report."""
    return await _work(context, f"saved {title}, {len(text)} characters")


async def read_logs(context: Context, service: str, minutes: int) -> str:
    """Read the logs of a service."""
    return await _work(context, f"{service}: quiet for {minutes} minutes")


async def run_sql(context: Context, query: str) -> str:
    """Ask the shop's database."""
    return await _work(context, f"done: {query}")


async def restart_service(context: Context, service: str) -> str:
    """Restart a service."""
    return await _work(context, f"restarted {service}")


async def rotate_credentials(context: Context, service: str) -> str:
    """Give a service new credentials."""
    return await _work(context, f"rotated the credentials of {service}")


_TOOLS = {
    "support": (search_orders, refund_order, send_email, delete_customer, post_reply),
    "billing": (read_ledger, issue_invoice, charge_card, export_ledger),
    "research": (web_search, fetch_page, save_report),
    "ops": (read_logs, run_sql, restart_service, rotate_credentials),
}


def make_agents() -> dict[str, Agent[Run]]:
    """Return the agents by name."""
    return {name: Agent(name=name, instructions=AGENTS[name][0], tools=_tools(name)) for name in _TOOLS}


def _tools(agent: str) -> list[Tool]:
    tools: list[Tool] = []
    for body in _TOOLS[agent]:
        tool: FunctionTool = function_tool(body, timeout=_TIME_LIMIT)
        tools.append(tool)
    return tools
