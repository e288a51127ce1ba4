"""An agent that lives until its input ends: each line is a tool that its scripted model calls."""

from __future__ import annotations

import asyncio
import sys

from agents import Agent, Runner
from agents.testing import ScriptedModel, assistant_message, function_call

import aegis_otel
from aegis_otel.runtime.approval import AutoApprovalHandler
from tests.stack.agent_program import POLICY, TOOLS, delete_report, search, write_report


async def call(tool: str, number: int) -> None:
    turns = [
        [function_call(tool, {TOOLS[tool]: "x"}, call_id=f"call_{number}")],
        [assistant_message("done")],
    ]
    agent = Agent(name="Clerk", model=ScriptedModel(turns), tools=[search, write_report, delete_report])
    await Runner.run(agent, "go on")


if __name__ == "__main__":
    aegis_otel.configure_otlp()
    aegis_otel.instrument(policy=aegis_otel.Policy.from_text(POLICY), approval_handler=AutoApprovalHandler())
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        asyncio.run(call(line.strip(), number))
        print("called", flush=True)
