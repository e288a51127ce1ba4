"""B46: what the audit asks of the event loop for a decision, in calls of the system instead of milliseconds.

The budget is a decision below 1 ms and no stall above 10 ms. A test by the clock would fail on a busy machine
and pass on a fast one; what can cost that much is a disk, a process or a module, and those are counted.
`make bench` has the times.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from aegis_otel import Action, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.seal_trigger import SealTrigger
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import Bench
from tests.support.records import files

SYSTEM = ("posix", "nt", "fcntl", "_io", "_socket", "select", "_posixsubprocess", "time")
"""The built-in modules whose functions may wait for something."""
HARMLESS = {
    *("posix.fspath", "posix.getpid", "posix.urandom", "posix.waitstatus_to_exitcode"),
    *("time.monotonic", "time.monotonic_ns", "time.time", "time.time_ns", "time.perf_counter"),
}


class Succeed(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS)


@contextmanager
def calls_of_this_thread() -> Iterator[Counter[str]]:
    """The calls of the system that the block makes by whatever code, in the thread of the event loop."""
    seen: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__module__", None) in SYSTEM:
            name = f"{function.__module__}.{function.__name__}"
            if name not in HARMLESS:
                seen[name] += 1

    gc.collect()  # or what earlier tests left behind would be closed in here
    gc.disable()
    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        gc.enable()


async def test_b46_a_decision_is_two_writes(bench: Callable[..., Bench]) -> None:
    """Its verdict and its end: with or without signals, nothing else is asked of the system."""
    made = bench(executor=Succeed())
    await made.runtime.run_one(Action("search", "web"))  # makes the directory and the file
    modules = set(sys.modules)
    with calls_of_this_thread() as seen:
        for _ in range(100):
            await made.runtime.run_one(Action("search", "web"))
    assert set(sys.modules) <= modules
    looks = seen.pop("posix.fstat", 0) + seen.pop("posix.stat", 0)
    assert looks <= 400, "that the file is in its place, once a millisecond at the most"
    assert seen == {"posix.write": 200}


async def test_b46_a_blocked_call_is_one_write(bench: Callable[..., Bench]) -> None:
    made = bench(executor=Succeed())
    await made.runtime.run_one(Action("search", "web"))
    with calls_of_this_thread() as seen:
        assert not (await made.runtime.run_one(Action("delete_all", "web"))).ok
    assert seen.pop("posix.fstat", 0) + seen.pop("posix.stat", 0) <= 2
    assert seen == {"posix.write": 1}


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_b46_a_new_file_waits_for_no_disk_and_starts_no_process(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    """Not even where it has a sealing begun; and it asks no more where there are many files."""
    monkeypatch.setenv("AEGIS_DURABILITY", durability)
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 10)
    monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 10)
    made = bench(executor=Succeed())
    began: list[bool] = []
    monkeypatch.setattr(SealTrigger, "_seal", lambda _: began.append(True) or [])
    costs = []
    for _ in range(40):
        with calls_of_this_thread() as seen:
            await made.runtime.run_one(Action("search", "web"))
        assert not {name for name in seen if "sync" in name or "fork" in name or "sleep" in name}, seen
        costs.append(sum(count for name, count in seen.items() if not name.startswith("_socket")))
    assert len(files(made.audit)) == 80
    assert began
    assert max(costs[1:]) - min(costs[1:]) < 10
    assert max(costs) < 150, "the first also keeps the text of the policy, and that it is in force"


async def test_b46_a_digest_asks_the_system_for_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The key is read once, and again for a new file."""
    audit = AuditLogger(tmp_path_factory.mktemp("audit"))
    audit.digest(b"x")
    with calls_of_this_thread() as seen:
        audit.digest(b"y")
    assert seen == {}


def test_b46_to_make_one_touches_no_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("nothing") / "audit"
    with calls_of_this_thread() as seen:
        Journal(place)
    assert not {name for name in seen if name.startswith(("posix.open", "posix.mkdir", "_io"))}
    assert not place.exists()
