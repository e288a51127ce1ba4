"""A governed tool call outside the Runner, audit and signals on, against agent-aegis's, in one process.

Both sides call a tool that does nothing, in turns, so their ratio holds while the machine's speed wanders.
What the call costs without governance (for us the SDK's own invoker, which parses and validates the
arguments) is measured beside it and taken off. `python benchmarks/governed_call.py [rounds]`
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import aegis
import signals  # the raw OpenTelemetry calls, and providers whose exporters drop
from aegis.adapters.openai_agents import governed_tool as peer_governed_tool
from aegis.runtime.audit import AuditLogger as PeerAuditLogger
from agents import function_tool
from agents.tool_context import ToolContext

from aegis_otel import Policy, Runtime, acting_for
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.runtime.audit import AuditLogger

BATCH = 200
RULES = {
    "version": "1",
    "rules": [{"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}],
}
SOMEBODY = acting_for(user="alice", tenant="acme", roles=["clerk", "manager"])
FOR_SOMEBODY, FOR_SOMEBODY_SILENT = "for a subject, signals", "for a subject, no OTel SDK"
WITH_CANDIDATE, WITH_CANDIDATE_SILENT = "with a candidate, signals", "with a candidate, no OTel SDK"
ARGUMENTS = '{"query": "governance", "limit": 5}'


async def search(query: str, limit: int) -> str:  # noqa: ARG001
    """Search."""
    return query


async def microseconds(
    work: Callable[[], Awaitable[object]], around: AbstractContextManager[object]
) -> float:
    with around:
        start = time.perf_counter()
        for _ in range(BATCH):
            await work()
        return (time.perf_counter() - start) / BATCH * 1e6


def ours(folder: Path, recorder: Any, *, candidate: Policy | None = None) -> Callable[[], Awaitable[object]]:
    runtime = Runtime(
        policy=Policy.from_dict(RULES),
        audit_logger=AuditLogger(folder),
        recorder=recorder,
        candidate=candidate,
    )
    tool = governed_tool(runtime=runtime, action_type="search", action_target="web")(search)
    context = ToolContext(None, tool_name="search", tool_call_id="call_1", tool_arguments=ARGUMENTS)
    return lambda: tool.on_invoke_tool(context, ARGUMENTS)


def ungoverned() -> Callable[[], Awaitable[object]]:
    tool = function_tool(search)
    context = ToolContext(None, tool_name="search", tool_call_id="call_1", tool_arguments=ARGUMENTS)
    return lambda: tool.on_invoke_tool(context, ARGUMENTS)


def peer(folder: Path) -> Callable[[], Awaitable[object]]:
    runtime = aegis.Runtime(
        executor=None,
        policy=aegis.Policy.from_dict(RULES),
        audit_logger=PeerAuditLogger(folder / "peer.db"),
    )
    tool = peer_governed_tool(runtime=runtime, action_type="search", action_target="web")(search)
    return lambda: tool(query="governance", limit=5)


async def raw() -> None:
    signals.raw()


async def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    sides = {
        "ours, audit and signals": ours(folder / "full", signals.recorder),
        "ours, audit, no OTel SDK": ours(folder / "silent", signals.silent),
        FOR_SOMEBODY: ours(folder / "for", signals.recorder),
        FOR_SOMEBODY_SILENT: ours(folder / "for silent", signals.silent),
        WITH_CANDIDATE: ours(folder / "candidate", signals.recorder, candidate=Policy.from_dict(RULES)),
        WITH_CANDIDATE_SILENT: ours(
            folder / "candidate silent", signals.silent, candidate=Policy.from_dict(RULES)
        ),
        "SDK tool, ungoverned": ungoverned(),
        "raw OTel calls": raw,
        "agent-aegis, its audit": peer(folder),
        "bare function": lambda: search("governance", 5),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    gc.disable()
    for _ in range(rounds):
        for name, work in sides.items():
            around = SOMEBODY if name in (FOR_SOMEBODY, FOR_SOMEBODY_SILENT) else nullcontext()
            times[name].append(await microseconds(work, around))
        gc.collect()
    gc.enable()
    return times


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as folder:
        times = asyncio.run(measure(rounds, Path(folder)))
    print(f"{'us per call':30}{'min':>8}{'median':>9}")
    for name, taken in times.items():
        print(f"{name:30}{min(taken):8.1f}{statistics.median(taken):9.1f}")

    def cost(governed: str, without: str) -> list[float]:
        return [a - b for a, b in zip(times[governed], times[without], strict=True)]

    added = cost("ours, audit and signals", "SDK tool, ungoverned")
    silent = cost("ours, audit, no OTel SDK", "SDK tool, ungoverned")
    theirs = cost("agent-aegis, its audit", "bare function")
    show("agent-aegis / ours", theirs, added, "at least 5")
    show("agent-aegis / ours without an OTel SDK", theirs, silent)
    show("ours / raw OTel calls", added, times["raw OTel calls"], "at most 1.3")
    all_signals, no_sdk = "ours, audit and signals", "ours, audit, no OTel SDK"
    for what, without, limit in (
        (FOR_SOMEBODY_SILENT, no_sdk, "at most 2 us"),
        (FOR_SOMEBODY, all_signals, "an attribute or two on each signal"),
        (WITH_CANDIDATE_SILENT, no_sdk, "a second decision"),
        (WITH_CANDIDATE, all_signals, "a second decision, two attributes of the event, a count"),
    ):
        more = cost(what, without)
        of_minima = min(times[what]) - min(times[without])
        print(
            f"{what} adds: median {statistics.median(more):.1f} us, of the minima {of_minima:.1f} us "
            f"({limit})"
        )
        show(f"{what} / without", times[what], times[without])


def show(what: str, over: list[float], under: list[float], limit: str = "") -> None:
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    of_minima = min(over) / min(under)
    print(
        f"{what}: median {statistics.median(ratios):.2f}, of the minima {of_minima:.2f}"
        + (f" ({limit})" if limit else "")
    )


if __name__ == "__main__":
    main()
