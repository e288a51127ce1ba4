"""How long the event loop stands still while calls are governed: the longest gap of a ticker, in ms.

Each case is a real call through the governed tool; `idle` is the machine's own noise. The aim is that no
call holds the loop for more than 10 ms, and that no state, even one that is locked or away, adds more than
5 ms to a common call. `python benchmarks/loop_stall.py [rounds]`
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents import function_tool
from agents.tool_context import ToolContext

from aegis_otel import Policy, Runtime
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.runtime.approval import CLIApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from tests.support.postgres import running

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
        {
            "name": "limit",
            "match": {"type": "limited"},
            "conditions": {"calls_over": {"limit": 100_000, "within": "1h"}},
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


async def measure(rounds: int, folder: Path, postgres: str) -> dict[str, list[float]]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, Path(os.devnull).open("w") as stdout:
        runtime = Runtime(
            policy=Policy.from_dict(POLICY),
            audit_logger=AuditLogger(folder),
            approval_handler=CLIApprovalHandler(stdin=stdin, stdout=stdout),
        )

        def call(
            tool: Any, action_type: str, arguments: str = "{}", runtime: Runtime = runtime
        ) -> Callable[[], Awaitable[Any]]:
            governed = governed_tool(runtime=runtime, action_type=action_type)(tool)
            context = ToolContext(None, tool_name=tool.name, tool_call_id="c", tool_arguments=arguments)
            return lambda: governed.on_invoke_tool(context, arguments)

        async def answered() -> None:
            asyncio.get_running_loop().call_later(0.05, os.write, writer, b"y\n")
            await ask()

        def limited(state: str) -> Callable[[], Awaitable[Any]]:
            audit = AuditLogger(folder.parent / f"audit-{len(os.listdir(folder.parent))}")
            with_state = Runtime(policy=Policy.from_dict(POLICY), audit_logger=audit, state=state)
            return call(quick, "limited", runtime=with_state)

        async def locked() -> None:
            with closing(sqlite3.connect(file, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                asyncio.get_running_loop().call_later(0.3, other.execute, "ROLLBACK")
                await on_sqlite()

        file = folder.parent / "state.sqlite3"
        on_sqlite = limited(f"sqlite:///{file}")
        ask = call(quick, "ask")
        cases: dict[str, Callable[[], Awaitable[Any]]] = {
            "idle": lambda: asyncio.sleep(0.05),
            "sync tool of 50 ms": call(sleepy, "tool"),
            "prompt answered in 50 ms": answered,
            "evil regex, 50 kB": call(quick, "regex", EVIL),
            "1 MB of arguments": call(quick, "tool", MEGABYTE),
            "2,000 secrets": call(quick, "tool", SECRETS),
            "a common call": call(quick, "tool", '{"text": "x"}'),
            "a limit, SQLite": on_sqlite,
            "a limit, SQLite locked": locked,
            "a limit, PostgreSQL": limited(postgres),
            "a limit, PostgreSQL away": limited("postgresql://agent@127.0.0.1:1/agents"),
        }
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, work in cases.items():
                found[name].append(await longest_gap(work()))
    os.close(writer)
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder, running() as server:
        found = asyncio.run(measure(rounds, Path(folder) / "audit", server.address()))
    print(f"{'longest gap, ms':28}{'min':>8}{'median':>9}{'max':>8}")
    for name, gaps in found.items():
        print(f"{name:28}{min(gaps):8.2f}{statistics.median(gaps):9.2f}{max(gaps):8.2f}")


if __name__ == "__main__":
    main()
