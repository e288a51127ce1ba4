"""`durability="power"`: the verdict is on the disk itself before the body runs.

`Disk` wraps the system's own fdatasync, and so knows how many bytes of which file a power cut would leave.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Result, ResultStatus, Runtime, semconv
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.record import RecordStatus
from tests.support.kit import POLICY, Bench, ScriptedApprover
from tests.support.records import completed, decided, files, python, statuses

BENCH = Callable[..., Bench]
THREAD = "aegis-group-commit"


class Disk:
    """What was synced, by inode; and what is to happen when somebody syncs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.durable: dict[int, int] = {}
        self.named: set[int] = set()
        self.syncs = 0
        self.threads: set[str] = set()
        self.before: Callable[[], object] = lambda: None
        self._fdatasync, self._fsync = os.fdatasync, os.fsync
        monkeypatch.setattr(os, "fdatasync", self._data)
        monkeypatch.setattr(os, "fsync", self._name)

    def _data(self, descriptor: int) -> None:
        self.syncs += 1
        self.threads.add(threading.current_thread().name)
        state = os.fstat(descriptor)
        self.before()
        self._fdatasync(descriptor)
        self.durable[state.st_ino] = state.st_size

    def _name(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self.named.add(os.fstat(descriptor).st_ino)

    def lines(self, audit: Path) -> list[dict[str, Any]]:
        """The whole lines of the journal as a power cut would leave it, with half of the next at times."""
        kept = [path.read_bytes()[: self.durable.get(path.stat().st_ino, 0)] for path in files(audit)]
        return [json.loads(line) for each in kept for line in each.rpartition(b"\n")[0].splitlines()]

    def holds_all_of(self, audit: Path) -> bool:
        return all(self.durable.get(path.stat().st_ino) == path.stat().st_size for path in files(audit))


class Body(BaseExecutor):
    """Looks at the disk when it runs."""

    def __init__(self, disk: Disk, audit: Path) -> None:
        self._disk, self._audit = disk, audit
        self.seen: list[dict[str, Any]] = []

    async def execute(self, action: Action) -> Result:
        mine = [line for line in self._disk.lines(self._audit) if _number(line) == action.params["n"]]
        self.seen.append(mine[0] if mine else {})
        return Result(action, ResultStatus.SUCCESS)


def _number(line: dict[str, Any]) -> object:
    return json.loads(line.get("action_params") or "{}").get("n")


def action(n: int, kind: str = "search") -> Action:
    return Action(kind, "web", params={"n": n})


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does at once; fails the test if it does not."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.fixture(autouse=True)
async def no_thread_is_left() -> AsyncIterator[None]:
    yield
    await until(lambda: THREAD not in _threads())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setenv("AEGIS_DURABILITY", "power")
    return Disk(monkeypatch)


@pytest.fixture
def power(bench: BENCH, disk: Disk, tmp_path: Path) -> Iterator[Callable[..., tuple[Bench, Body]]]:
    """A Runtime with `durability="power"`, and a body that looks at the disk."""

    def make(*answers: Any, **options: Any) -> tuple[Bench, Body]:
        body = Body(disk, tmp_path / "audit")
        return bench(*answers, executor=body, **options), body

    yield make
    disk.before = lambda: None


async def test_a_verdict_is_on_the_disk_before_the_body_runs(power: Any, disk: Disk) -> None:
    """The line, the entries of the directories it is in, and the key that its digest was made with."""
    made, body = power()
    result = await made.runtime.run_one(action(1))
    assert result.ok
    assert (body.seen[0]["stage"], body.seen[0]["result_status"]) == ("decided", "open")
    audit = made.audit
    for path in (audit / "key", audit / "journal", audit, audit.parent):
        assert path.stat().st_ino in disk.named, path


async def test_an_answer_is_on_the_disk_before_the_body_runs(power: Any, disk: Disk) -> None:
    """What was asked and what the human said."""
    made, body = power(True)
    seen: list[list[str]] = []
    made.runtime.executor.execute = _then(
        body.execute, lambda: seen.append([line["stage"] for line in disk.lines(made.audit)])
    )
    assert (await made.runtime.run_one(action(1, "write_file"))).ok
    assert seen == [["decided", "resolved"]]
    assert body.seen[0]["result_status"] == "pending"


def _then(body: Callable[[Action], Coroutine[Any, Any, Result]], do: Callable[[], object]) -> Any:
    async def execute(action: Action) -> Result:
        do()
        return await body(action)

    return execute


async def test_calls_that_are_in_flight_at_once_share_syncs(power: Any, disk: Disk) -> None:
    """100 calls wait for a disk that takes 20 ms a time: a handful of syncs, each body after its own."""
    made, body = power()
    disk.before = lambda: time.sleep(0.02)
    results = await asyncio.gather(*(made.runtime.run_one(action(n)) for n in range(100)))
    assert all(result.ok for result in results)
    assert all(body.seen)
    assert disk.syncs <= 20
    assert disk.threads == {THREAD}


async def test_the_event_loop_goes_on_while_the_disk_is_slow(power: Any, disk: Disk) -> None:
    """Ten syncs of 200 ms; the loop never stands still for one of them."""
    made, _ = power()
    disk.before = lambda: time.sleep(0.2)
    gaps, done = [0.0], asyncio.Event()

    async def tick() -> None:
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()

    ticker = asyncio.create_task(tick())
    for n in range(5):
        assert (await made.runtime.run_one(action(n))).ok
    done.set()
    await ticker
    assert disk.syncs >= 5
    assert max(gaps) < 0.15


def test_loops_of_threads_share_a_journal(power: Any) -> None:
    """Eight threads with a loop each; every body finds its verdict on the disk."""
    made, body = power()

    def run(thread: int) -> list[Result]:
        async def calls() -> list[Result]:
            return [await made.runtime.run_one(action(100 * thread + n)) for n in range(10)]

        return asyncio.run(calls())

    with ThreadPoolExecutor(8) as threads:
        results = [result for part in threads.map(run, range(8)) for result in part]
    assert [result.ok for result in results] == [True] * 80
    assert [bool(seen) for seen in body.seen] == [True] * 80


async def test_what_nobody_waits_for_follows_and_the_thread_ends(power: Any, disk: Disk) -> None:
    """The last line of a call is synced without the caller; then nothing is left running."""
    made, _ = power()
    await made.runtime.run_one(action(1))
    await until(lambda: disk.holds_all_of(made.audit))
    assert [line["stage"] for line in disk.lines(made.audit)] == ["decided", "completed"]
    await until(lambda: THREAD not in _threads())
    assert (await made.runtime.run_one(action(2))).ok


async def test_a_thread_that_could_not_start_is_started_with_the_next_line(
    power: Any, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit of threads, say: a line that nobody waits for is synced soon after all."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    journal = Journal(tmp_path / "audit")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        journal.append(decided(decision_id="first"))
    journal.append(decided(decision_id="second"))
    await until(lambda: disk.holds_all_of(tmp_path / "audit"))
    assert len(disk.lines(tmp_path / "audit")) == 2


async def test_a_file_that_cannot_be_closed_stops_no_sync(
    power: Any, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's file system may say so; what was synced is."""
    close, refused = os.close, []

    def refuse(descriptor: int) -> None:
        name = os.readlink(f"/dev/fd/{descriptor}")
        close(descriptor)
        if threading.current_thread().name == THREAD and name.endswith(".jsonl"):
            refused.append(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 0)
    journal = Journal(tmp_path / "audit")
    journal.append(decided(decision_id="first"))
    monkeypatch.setattr(os, "close", refuse)
    mark = journal.mark()
    journal.append(decided(decision_id="second"))
    await until(lambda: len(refused) > 0)
    monkeypatch.setattr(os, "close", close)
    journal.append(decided(decision_id="third"))
    async with asyncio.timeout(20):
        await journal.sync(mark)
    assert len(disk.lines(tmp_path / "audit")) == 3


async def test_a_file_is_synced_before_it_is_let_go(
    power: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files change under way: no line of an older one is forgotten, and no descriptor is kept."""
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 2_000)
    made, body = power()
    descriptors = len(os.listdir("/dev/fd"))
    await asyncio.gather(*(made.runtime.run_one(action(n)) for n in range(40)))
    assert all(body.seen)
    assert len(files(made.audit)) > 5
    await until(lambda: disk.holds_all_of(made.audit))
    made.runtime.audit.close()
    await until(lambda: len(os.listdir("/dev/fd")) <= descriptors)


async def test_closing_does_not_wait_and_lets_go_at_once(power: Any, disk: Disk) -> None:
    """What is open when the audit is closed is unknown at once, though the disk has not answered yet."""
    answer = threading.Event()
    disk.before = lambda: answer.wait(20)
    made, _ = power()
    journal = made.runtime.audit
    journal.append(decided(decision_id="open"))
    started = time.monotonic()
    journal.close()
    assert time.monotonic() - started < 5
    assert statuses(made.audit) == {"open": "unknown"}
    answer.set()
    await until(lambda: disk.holds_all_of(made.audit))


def _fails(error: int = errno.EIO) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(error, os.strerror(error))

    return fail


async def test_a_sync_that_fails_blocks_the_call(power: Any, disk: Disk) -> None:
    """The body does not run, row, model and signals say so, and the next call uses another file."""
    made, body = power()
    await made.runtime.run_one(action(0))
    disk.before = _fails()
    result = await made.runtime.run_one(action(1))
    assert (result.status, result.error) == (
        ResultStatus.BLOCKED,
        "Action not run: governance is unavailable",
    )
    assert made.rows()[1]["result_status"] == RecordStatus.BLOCKED.value
    assert made.telemetry.points(semconv.METRIC_AUDIT_ERRORS) == {(): 1}
    (event,) = made.telemetry.events(semconv.EVENT_AUDIT_WRITE_FAILED)
    assert event[semconv.DECISION_ID] == result.decision_id
    assert [e[semconv.DECISION_OUTCOME] for e in made.telemetry.events(semconv.EVENT_DECISION)] == [
        "allowed",
        "error",
    ]
    disk.before = lambda: None
    assert (await made.runtime.run_one(action(2))).ok
    assert [seen.get("action_params") for seen in body.seen] == ['{"n":0}', '{"n":2}']
    assert len(files(made.audit)) >= 2


async def test_a_sync_that_fails_while_a_line_is_written_blocks_its_call(
    power: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed sync may have been of the page that the line is on, and the system says so only once."""
    made, body = power()
    await made.runtime.run_one(action(0))
    commit, write = made.runtime.audit._journal._commit, os.write

    def lose(descriptor: int, data: bytes) -> int:
        written = write(descriptor, data)
        monkeypatch.setattr(os, "write", write)
        commit.lost += 1  # as the thread that syncs does in this moment
        return written

    monkeypatch.setattr(os, "write", lose)
    assert (await made.runtime.run_one(action(1))).status is ResultStatus.BLOCKED
    assert [seen.get("action_params") for seen in body.seen] == ['{"n":0}']


async def test_a_failed_sync_is_not_forgotten_by_who_was_not_waiting(power: Any, disk: Disk) -> None:
    """A human was being asked when the sync failed: the question may be lost, so the yes does not count."""

    async def yes(_: object) -> bool:
        disk.before = _fails()
        assert (await made.runtime.run_one(action(2))).status is ResultStatus.BLOCKED
        disk.before = lambda: None
        return True

    made, body = power(yes)
    result = await made.runtime.run_one(action(1, "write_file"))
    assert result.status is ResultStatus.BLOCKED
    assert body.seen == []
    assert (await made.runtime.run_one(action(3))).ok


async def test_who_allows_an_audit_to_fail_is_not_stopped(disk: Disk, tmp_path: Path) -> None:
    """`on_audit_failure="allow"`: the body runs, and the failure is counted."""
    from aegis_otel import Policy
    from aegis_otel.runtime.audit import AuditLogger
    from tests.support.kit import Telemetry

    telemetry = Telemetry()
    runtime = Runtime(
        policy=Policy.from_dict(POLICY),
        executor=Body(disk, tmp_path / "audit"),
        approval_handler=ScriptedApprover(),
        audit_logger=AuditLogger(tmp_path / "audit"),
        on_audit_failure="allow",
        recorder=telemetry.recorder(),
    )
    disk.before = _fails(errno.ENOSPC)
    assert (await runtime.run_one(action(1))).ok
    assert telemetry.points(semconv.METRIC_AUDIT_ERRORS) == {(): 1}
    runtime.audit.close()
    telemetry.close()


async def test_cancelled_while_the_disk_is_waited_for(power: Any, disk: Disk) -> None:
    """Who is cancelled runs nothing and is recorded as cancelled; who waits beside it goes on."""
    answer = threading.Event()
    disk.before = lambda: answer.wait(20)
    made, body = power()
    before = asyncio.create_task(made.runtime.run_one(action(0)))
    await until(lambda: disk.syncs == 1)
    first, second = (asyncio.create_task(made.runtime.run_one(action(n))) for n in (1, 2))
    await until(lambda: len(made.rows()) == 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert body.seen == []
    answer.set()
    assert (await before).ok
    assert (await second).ok
    assert [_number(seen) for seen in body.seen] == [0, 2]
    assert [row["result_status"] for row in made.rows()] == ["success", "cancelled", "success"]


def test_the_child_of_a_fork_commits_for_itself(tmp_path: Path) -> None:
    """It has neither its parent's thread nor its files: both go on, and the parent's end is seen at once."""
    code = """
import asyncio, os, signal, sys
from aegis_otel import Action, Policy, Result, ResultStatus, Runtime
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.runtime.audit import AuditLogger
class Executor(BaseExecutor):
    async def execute(self, action):
        return Result(action, ResultStatus.SUCCESS)
policy = Policy.from_dict({"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}})
audit = AuditLogger(sys.argv[1], durability="power")
runtime = Runtime(policy=policy, executor=Executor(), audit_logger=audit)
def calls(count):
    async def run():
        return [(await runtime.run_one(Action("search", "web"))).status.value for _ in range(count)]
    return asyncio.run(run())
assert calls(3) == ["success"] * 3
from tests.support.records import decided
audit.append(decided(decision_id="of the parent"))
reader, writer = os.pipe()
if child := os.fork():
    assert calls(2) == ["success"] * 2
    os.read(reader, 1)
    print("written", flush=True)
    signal.pause()
else:
    assert calls(4) == ["success"] * 4
    os.write(writer, b"x")
    sys.stdin.read()
    os._exit(0)
"""
    audit = tmp_path / "audit"
    process = python(code, audit)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    assert statuses(audit)["of the parent"] == "open"
    process.kill()
    process.wait(20)
    found = statuses(audit)
    assert found.pop("of the parent") == "unknown"  # although the child lives
    assert list(found.values()) == ["success"] * 9
    assert process.communicate()[1] == ""


async def test_by_default_nothing_is_synced(bench: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    """`durability="process"`: no fdatasync, and no thread for one."""
    disk = Disk(monkeypatch)
    made = bench(executor=Body(disk, Path()))
    made.runtime.executor.execute = _then(_succeed, lambda: None)
    assert (await made.runtime.run_one(action(1))).ok
    assert disk.syncs == 0
    assert THREAD not in _threads()


async def _succeed(action: Action) -> Result:
    return Result(action, ResultStatus.SUCCESS)


async def test_the_argument_wins_over_the_environment(disk: Disk, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "audit", durability="process")
    journal.append(decided())
    journal.append(completed())
    assert journal.mark() is None
    await journal.sync(journal.mark())
    assert disk.syncs == 0


def test_another_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`durability` is `disk`: expected process or power"):
        Journal(tmp_path / "audit", durability="disk")
