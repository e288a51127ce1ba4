"""Hot reload on a thread: without an event loop, through a fork, and away when it is told."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Policy, Runtime
from aegis_otel.runtime.policy_reload import CandidateWatchThread, PolicyWatchThread
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
BLOCKING = "rules:\n  - {name: all, approval: block, risk_level: high}\n"
ALLOWING = "rules:\n  - {name: any, approval: auto, risk_level: low}\n"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in ten seconds"
        time.sleep(0.005)


def save(path: Path, text: str) -> None:
    """In one step: the thread must not find it half written, however slow the machine."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def rule(runtime: Runtime) -> str:
    return runtime.policy.evaluate(Action("x")).matched_rule


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "aegis-policy-watcher"]


@contextmanager
def watched(bench: BENCH, path: Path, **options: Any) -> Iterator[Bench]:
    save(path, BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watch = PolicyWatchThread(b.runtime, path, **{"interval": 0.02, **options})
    watch.start()
    try:
        yield b
    finally:
        watch.stop()


def test_changes_come_into_force_and_bad_ones_do_not(bench: BENCH, tmp_path: Path) -> None:
    """In a program that has no event loop."""
    path = tmp_path / "p.yaml"
    with watched(bench, path) as b:
        save(path, ALLOWING)
        until(lambda: rule(b.runtime) == "any")
        save(path, "defaults: {approval: auto}\n")
        until(lambda: len(b.telemetry.events("aegis.policy.load_failed")) == 1)
        assert rule(b.runtime) == "any"
        save(path, BLOCKING)
        until(lambda: rule(b.runtime) == "all")
        assert sorted(b.telemetry.points("aegis.policy.reloads").values()) == [1, 2]


def test_on_reload_hears_of_the_policy_in_force(bench: BENCH, tmp_path: Path) -> None:
    """A sync callback and an async one; one that raises is counted, and the watch goes on."""
    heard: list[tuple[str, bool]] = []

    def plain(policy: Policy) -> None:
        heard.append((policy.rules[0].name, policy is b.runtime.policy))

    async def awaited(policy: Policy) -> None:
        await asyncio.sleep(0)
        plain(policy)
        raise RuntimeError("mine")

    for callback, errors in ((plain, 0), (awaited, 2)):
        path = tmp_path / f"{errors}.yaml"
        heard.clear()
        with watched(bench, path, on_reload=callback) as b:
            save(path, ALLOWING)
            until(lambda: len(heard) == 1)
            save(path, BLOCKING)
            until(lambda: len(heard) == 2)
        assert heard == [("any", True), ("all", True)]
        assert sum(b.telemetry.points("aegis.hook.errors").values()) == errors


def test_it_starts_when_told_and_stops_at_once(bench: BENCH, tmp_path: Path) -> None:
    """One thread, however often; none before, and none after a stop that does not wait for the interval."""
    path = tmp_path / "p.yaml"
    save(path, BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watch = PolicyWatchThread(b.runtime, path, interval=3600)
    watch.stop()
    assert threads() == []
    watch.start()
    watch.start()
    (thread,) = threads()
    assert thread.daemon
    began = time.monotonic()
    watch.stop()
    watch.stop()
    assert time.monotonic() - began < 2
    assert not thread.is_alive()
    assert threads() == []


def test_a_stopped_watch_can_be_started_again(bench: BENCH, tmp_path: Path) -> None:
    """What changed in between comes into force then, and not before."""
    path = tmp_path / "p.yaml"
    save(path, BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watch = PolicyWatchThread(b.runtime, path, interval=0.02)
    watch.start()
    watch.stop()
    save(path, ALLOWING)
    assert rule(b.runtime) == "all"
    watch.start()
    until(lambda: rule(b.runtime) == "any")
    watch.stop()


def test_a_policy_in_code_stays_until_the_file_changes(bench: BENCH, tmp_path: Path) -> None:
    """The file is known as it was when the watch began."""
    path = tmp_path / "p.yaml"
    save(path, ALLOWING)
    b = bench(policy=Policy.from_text(BLOCKING))
    watch = PolicyWatchThread(b.runtime, path, interval=0.02)
    watch.start()
    time.sleep(0.1)
    assert rule(b.runtime) == "all"
    save(path, ALLOWING.replace("any", "new"))
    until(lambda: rule(b.runtime) == "new")
    watch.stop()


def test_the_callback_may_stop_the_watch(bench: BENCH, tmp_path: Path) -> None:
    """A thread cannot wait for its own end."""
    path = tmp_path / "p.yaml"
    save(path, BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watch = PolicyWatchThread(b.runtime, path, interval=0.02, on_reload=lambda _: watch.stop())
    watch.start()
    save(path, ALLOWING)
    until(lambda: threads() == [])
    assert rule(b.runtime) == "any"
    assert sum(b.telemetry.points("aegis.hook.errors").values()) == 0


def _in_child(runtime: Runtime, path: Path, results: Any) -> None:
    save(path, ALLOWING)
    until(lambda: rule(runtime) == "any")
    results.put(len(threads()))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_watches_too(bench: BENCH, tmp_path: Path) -> None:
    """With one thread of its own; a watch that was stopped before stays stopped."""
    path, other = tmp_path / "p.yaml", tmp_path / "other.yaml"
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with watched(bench, other):
        pass
    with watched(bench, path) as b:
        child = context.Process(target=_in_child, args=(b.runtime, path, results), daemon=True)
        child.start()
        assert results.get(timeout=20) == 1
        child.join(20)
        assert child.exitcode == 0
        until(lambda: rule(b.runtime) == "any")
        assert len(threads()) == 1


EXIT = """
import atexit, sys, threading
from aegis_otel import Policy, Runtime
from aegis_otel.runtime.policy_reload import PolicyWatchThread
runtime = Runtime(policy=Policy.from_yaml(sys.argv[1]))
watch = PolicyWatchThread(runtime, sys.argv[1], interval=0.001)
atexit.register(lambda: print(threading.active_count()))  # called after what is registered later
watch.start()
"""


def test_a_program_ends_while_it_is_watched(tmp_path: Path) -> None:
    """The thread first, so that no look is cut off."""
    path = tmp_path / "p.yaml"
    save(path, BLOCKING)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXIT, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1\n", "")


def test_an_interval_must_be_positive(bench: BENCH, tmp_path: Path) -> None:
    """Zero or less would spin."""
    with pytest.raises(ConfigError, match="interval is `0`"):
        PolicyWatchThread(bench().runtime, tmp_path / "p.yaml", interval=0)


def refused_now(b: Bench) -> dict[str, int]:
    return {kind: count for ((_, kind),), count in b.telemetry.points("aegis.policy.refused").items()}


def test_a_refused_policy_counts_for_as_long_as_it_is_refused(bench: BENCH, tmp_path: Path) -> None:
    """So an alert lasts until the file is fixed, and not only while the refusal is news."""
    path = tmp_path / "p.yaml"
    save(path, BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watch = PolicyWatchThread(b.runtime, path, interval=0.02)
    watch.start()
    assert refused_now(b) == {"policy": 0, "candidate": 0}
    for change, (text, count) in enumerate((("{", 1), ("[", 1), (ALLOWING, 0), ("{", 1)), 1):
        save(path, text)
        until(lambda n=change: sum(b.telemetry.points("aegis.policy.reloads").values()) == n)
        until(lambda n=count: refused_now(b) == {"policy": n, "candidate": 0})
    watch.stop()
    assert refused_now(b) == {"policy": 0, "candidate": 0}


def test_a_refused_candidate_counts_from_the_start(bench: BENCH, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    b = bench()
    watch = CandidateWatchThread(b.runtime, path, interval=0.02)
    watch.start()
    assert refused_now(b) == {"policy": 0, "candidate": 1}
    save(path, BLOCKING)
    until(lambda: refused_now(b)["candidate"] == 0)
    watch.stop()
    assert refused_now(b) == {"policy": 0, "candidate": 0}


def _refused_in_child(b: Bench, results: Any) -> None:
    results.put(refused_now(b))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_counts_what_is_refused_there_too(bench: BENCH, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    save(path, BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watch = PolicyWatchThread(b.runtime, path, interval=0.02)
    watch.start()
    save(path, "{")
    until(lambda: refused_now(b)["policy"] == 1)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_refused_in_child, args=(b, results), daemon=True)
    child.start()
    assert results.get(timeout=20) == {"policy": 1, "candidate": 0}
    child.join(20)
    watch.stop()
