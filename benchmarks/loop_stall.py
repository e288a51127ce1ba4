"""How long the event loop stands still while calls are governed: the longest gap of a ticker, in ms.

Each case is a real call through the governed tool; `idle` is the machine's own noise. The aim is that no
call holds the loop for more than 10 ms. `python benchmarks/loop_stall.py [rounds]`
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agents import function_tool
from agents.tool_context import ToolContext

from aegis_otel import Policy, Runtime
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.runtime.approval import CLIApprovalHandler
from aegis_otel.runtime.audit import AuditLogger

POLICY = {
    "version": "1",
    "defaults": {"risk_level": "low", "approval": "auto"},
    "rules": [
        {"name": "ask", "match": {"type": "ask"}, "risk_level": "high", "approval": "approve"},
        {
            "name": "evil_regex",
            "match": {"type": "regex"},
            "conditions": {"param_matches": {"text": r"^(\w+\s?)*$!"}},
            "risk_level": "high",
            "approval": "block",
        },
    ],
}
MEGABYTE = json.dumps({"text": "plain words " * 90_000})
EVIL = json.dumps({"text": "a" * 50_000 + "!"})
SECRETS = json.dumps({"text": "token=abcdef0123456789 " * 2_000})


@function_tool(strict_mode=False)
def sleepy(text: str = "") -> str:
    """A sync tool that takes its time."""
    time.sleep(0.05)
    return text[:1]


@function_tool(strict_mode=False)
async def quick(text: str = "") -> str:
    """An async tool that does nothing."""
    return text[:1]


async def longest_gap(work: Awaitable[Any]) -> float:
    gaps = [0.0]
    done = asyncio.Event()

    async def tick() -> None:
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await work
    done.set()
    await ticker
    return max(gaps) * 1e3


async def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, Path(os.devnull).open("w") as stdout:
        runtime = Runtime(
            policy=Policy.from_dict(POLICY),
            audit_logger=AuditLogger(folder),
            approval_handler=CLIApprovalHandler(stdin=stdin, stdout=stdout),
        )

        def call(tool: Any, action_type: str, arguments: str = "{}") -> Callable[[], Awaitable[Any]]:
            governed = governed_tool(runtime=runtime, action_type=action_type)(tool)
            context = ToolContext(None, tool_name=tool.name, tool_call_id="c", tool_arguments=arguments)
            return lambda: governed.on_invoke_tool(context, arguments)

        async def answered() -> None:
            asyncio.get_running_loop().call_later(0.05, os.write, writer, b"y\n")
            await ask()

        ask = call(quick, "ask")
        cases: dict[str, Callable[[], Awaitable[Any]]] = {
            "idle": lambda: asyncio.sleep(0.05),
            "sync tool of 50 ms": call(sleepy, "tool"),
            "prompt answered in 50 ms": answered,
            "evil regex, 50 kB": call(quick, "regex", EVIL),
            "1 MB of arguments": call(quick, "tool", MEGABYTE),
            "2,000 secrets": call(quick, "tool", SECRETS),
            "a common call": call(quick, "tool", '{"text": "x"}'),
        }
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, work in cases.items():
                found[name].append(await longest_gap(work()))
    os.close(writer)
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(rounds, Path(folder) / "audit"))
    print(f"{'longest gap, ms':28}{'min':>8}{'median':>9}{'max':>8}")
    for name, gaps in found.items():
        print(f"{name:28}{min(gaps):8.2f}{statistics.median(gaps):9.2f}{max(gaps):8.2f}")


if __name__ == "__main__":
    main()
