"""Records that are on the disk itself before the caller goes on, against agent-aegis's, in one process.

Each of N callers at once writes the verdict of a call and waits until a power cut could not take it: ours by
`durability="power"`, whose callers share an fdatasync, agent-aegis by its SQLite commit. `ours, whole` also
asks the policy and builds and redacts the record for each call, which takes longer than to write it.
`python benchmarks/audit_power.py [rounds]`
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aegis
from aegis.runtime.audit import AuditLogger as PeerAuditLogger

from aegis_otel import Action, Policy
from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.recording import record_call
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.system import RealSystem

RULES = {
    "version": "1",
    "rules": [{"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}],
}
PARALLEL = (1, 10, 100)
CALLS = 1_000

Write = Callable[[], Awaitable[object]]


def ours(folder: Path, *, whole: bool) -> Write:
    audit = AuditLogger(folder, durability="power")
    system = RealSystem()
    policy = Policy.from_dict(RULES)
    action = Action("search", "web", params={"query": "governance", "limit": 5})

    def build() -> AuditRecord:
        record, arguments, _ = record_call(policy.evaluate(action), system, "session", system.now_ns())
        record.args_digest = audit.digest(arguments)
        return record

    built = build()

    async def write() -> None:
        mark = audit.mark()
        audit.append(build() if whole else built)
        await audit.sync(mark)

    return write


def peer(folder: Path) -> Write:
    audit = PeerAuditLogger(folder / "peer.db")
    policy = aegis.Policy.from_dict(RULES)
    action = aegis.Action("search", "web", params={"query": "governance", "limit": 5})
    decision = policy.evaluate(action)

    async def write() -> None:
        audit.log("session", decision)

    return write


async def per_second(write: Write, parallel: int) -> float:
    left = iter(range(CALLS))

    async def caller() -> None:
        for _ in left:
            await write()

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(parallel)))
    return CALLS / (time.perf_counter() - start)


def fdatasyncs(folder: Path, count: int = 500) -> float:
    """The disk's own limit: a line and an fdatasync, one after the other, per second."""
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    start = time.perf_counter()
    for _ in range(count):
        os.write(descriptor, b"x" * 600)
        os.fdatasync(descriptor)
    taken = time.perf_counter() - start
    os.close(descriptor)
    return count / taken


async def measure(rounds: int, folder: Path) -> None:
    sides = {
        "agent-aegis": peer(folder),
        "ours": ours(folder / "ours", whole=False),
        "ours, whole": ours(folder / "whole", whole=True),
    }
    rates: dict[tuple[str, int], list[float]] = {}
    floor = []
    gc.disable()
    for _ in range(rounds):
        floor.append(fdatasyncs(folder))
        for parallel in PARALLEL:
            for name, write in sides.items():
                rates.setdefault((name, parallel), []).append(await per_second(write, parallel))
        gc.collect()
    print(f"one write and fdatasync after the other: {statistics.median(floor):,.0f} per second\n")
    print(f"{'records per second':32}{'median':>9}{'best':>9}{'ratio to agent-aegis':>22}{'of the best':>13}")
    for (name, parallel), mine in rates.items():
        theirs = rates["agent-aegis", parallel]
        ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        print(
            f"{f'{name}, {parallel} callers':32}{statistics.median(mine):9,.0f}{max(mine):9,.0f}"
            f"{ratio:22.1f}{max(mine) / max(theirs):13.1f}"
            + ("  (at least 15)" if (name, parallel) == ("ours", 100) else "")
        )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    seal_trigger.SEAL_BYTES = 1 << 60  # no process that seals beside the measurement
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(rounds, Path(folder)))


if __name__ == "__main__":
    main()
