"""An agent on a scripted model, governed and exported like an application: `agent_program.py CALLS`."""

from __future__ import annotations

import asyncio
import sys

from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import aegis_otel
from aegis_otel.runtime.approval import AutoApprovalHandler

POLICY = """\
version: "1"
rules:
  - name: searches_a_day
    match: { type: search }
    conditions: { calls_over: { limit: 1000, within: 24h } }
    approval: block
  - { name: reads, match: { type: "search" }, approval: auto, risk_level: low }
  - { name: writes, match: { type: "write_*" }, approval: approve, risk_level: high }
  - { name: nothing_else, match: { type: "*" }, approval: block, risk_level: critical }
"""
VALUE = "the-value-of-an-argument"


@function_tool
def search(query: str) -> str:
    """Search."""
    return "found"


@function_tool
def write_report(title: str) -> str:
    """Write."""
    return "written"


@function_tool
def delete_report(title: str) -> str:
    """Delete."""
    return "deleted"


TOOLS = {"search": "query", "write_report": "title", "delete_report": "title"}


async def work(calls: int) -> None:
    turns = []
    for number in range(calls):
        tool = list(TOOLS)[number % 3]
        turns.append([function_call(tool, {TOOLS[tool]: f"{VALUE}-{number}"}, call_id=f"call_{number}")])
        turns.append([assistant_message("done")])
    agent = Agent(name="Clerk", model=ScriptedModel(turns), tools=[search, write_report, delete_report])
    for _ in range(calls):
        await Runner.run(agent, "go on")


if __name__ == "__main__":
    aegis_otel.configure_otlp()
    policy = aegis_otel.Policy.from_text(POLICY)
    aegis_otel.instrument(policy=policy, approval_handler=AutoApprovalHandler())
    asyncio.run(work(int(sys.argv[1])))
