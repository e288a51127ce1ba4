"""An agent with the tools of an MCP server: they are governed by the server's name."""

import asyncio
import sys
from pathlib import Path

from agents import Agent, Runner
from agents.mcp import MCPServerStdio
from offline import scripted_model

import aegis_otel

HERE = Path(__file__).parent


async def main() -> None:
    aegis_otel.instrument(policy=HERE / "policy.yaml")
    start = {"command": sys.executable, "args": [str(HERE / "server.py")]}
    async with MCPServerStdio(name="warehouse", params=start) as warehouse:
        agent = Agent(
            name="Storekeeper",
            instructions="You answer questions about the warehouse.",
            mcp_servers=[warehouse],
            model=scripted_model(),  # leave this out to use a real one
        )
        for question in ("Any bolts left?", "Write off the nuts.", "Any nuts left?"):
            print(f"> {question}")
            result = await Runner.run(agent, question)
            for item in result.new_items:
                if item.type == "tool_call_output_item":
                    text = item.output["text"] if isinstance(item.output, dict) else item.output
                    print(f"  {text}")


asyncio.run(main())
