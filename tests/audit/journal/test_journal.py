"""The journal against real processes, real files and a real full disk."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import pytest

from aegis_otel.audit.journal import group_commit, seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import LOOK_S, Journal
from aegis_otel.audit.record import encode
from aegis_otel.errors import AuditError
from tests.support.records import completed, decided, files, python, select, statuses

WRITE_AND_WAIT = """
import sys
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import completed, decided
journal = Journal(sys.argv[1])
journal.append(decided(decision_id="running"))
journal.append(decided(decision_id="asking", result_status="pending"))
journal.append(decided(decision_id="done"))
journal.append(completed(decision_id="done"))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "aegis_audit"


def test_nothing_is_made_before_the_first_record(audit: Path) -> None:
    """A constructor touches no disk; the first record makes everything, for this user only."""
    journal = Journal(audit)
    assert not audit.exists()
    journal.append(decided())
    (file,) = files(audit)
    assert {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (audit, audit / "journal", audit / "key", file)
    } == {
        "aegis_audit": 0o700,
        "journal": 0o700,
        "key": 0o600,
        file.name: 0o600,
    }


def test_no_file_is_open_to_others_whatever_the_umask(audit: Path) -> None:
    before = os.umask(0)
    try:
        Journal(audit).append(decided())
    finally:
        os.umask(before)
    assert not [path for path in (audit, *audit.rglob("*")) if path.stat().st_mode & 0o077]


def test_b37_kill_in_the_body_leaves_a_row_of_unknown_outcome(audit: Path) -> None:
    """B37: an open call shows `open` while its process lives, `unknown` once it was killed."""
    child = python(WRITE_AND_WAIT, audit)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        assert statuses(audit) == {"running": "open", "asking": "pending", "done": "success"}
        assert statuses(audit)["running"] == "open"  # asking twice does not take the lock away
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert statuses(audit) == {"running": "unknown", "asking": "pending", "done": "success"}


def test_b46_four_processes_write_at_once(audit: Path) -> None:
    """B46: 4 processes x 400 calls, each of two lines: no call is lost and no line is torn."""
    code = """
import sys
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import completed, decided
journal = Journal(sys.argv[1])
digest = journal.digest(b"same")
for n in range(400):
    journal.append(decided(decision_id=f"{sys.argv[2]}-{n}", args_digest=digest))
    journal.append(completed(decision_id=f"{sys.argv[2]}-{n}"))
"""
    children = [python(code, audit, n) for n in range(4)]
    assert [child.communicate()[1] for child in children] == [""] * 4
    assert select(
        audit, "SELECT count(*), count(DISTINCT args_digest) FROM audit WHERE result_status = 'success'"
    ) == [
        (1600, 1)  # one key, although four processes made the directory at once
    ]
    assert len(files(audit)) == 4


def test_threads_share_a_journal(audit: Path) -> None:
    """Lines of threads do not mix, and all of them arrive."""
    journal = Journal(audit)

    def write(thread: int) -> None:
        for n in range(200):
            journal.append(decided(decision_id=f"{thread}-{n}", reason="x" * 5_000))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert select(audit, "SELECT count(*), count(*) FILTER (length(reason) = 5000) FROM audit") == [
        (1600, 1600)
    ]


def test_a_reader_sees_a_row_as_soon_as_it_is_written(audit: Path) -> None:
    """One connection, made before there is an audit, shows every later row of every later writer."""
    from aegis_otel.audit.query.connection import open_view

    with open_view(audit) as connection:
        for n in range(3):
            journal = Journal(audit)
            journal.append(decided(decision_id=str(n)))
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (n + 1,)


class TestFork:
    def test_a_child_writes_to_a_file_of_its_own(self, audit: Path) -> None:
        """After a fork neither process writes to the other's file, and every call is there."""
        code = """
import os, sys
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import decided
journal = Journal(sys.argv[1])
journal.append(decided(decision_id="before"))
child = os.fork()
journal.append(decided(decision_id="after" if child else "child"))
if child:
    os.waitpid(child, 0)
"""
        assert python(code, audit).communicate() == ("", "")
        assert sorted(statuses(audit)) == ["after", "before", "child"]
        assert sorted(file.read_text().count("\n") for file in files(audit)) == [1, 2]

    def test_a_child_that_lives_on_does_not_hide_its_parents_death(self, audit: Path) -> None:
        """A lock is shared across fork: the child must let go of it, or the parent never dies for readers."""
        code = """
import os, sys
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import decided
journal = Journal(sys.argv[1])
journal.append(decided(decision_id="parent"))
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""
        process = python(code, audit)
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        assert process.wait() == 0
        assert statuses(audit) == {"parent": "unknown"}
        process.communicate()


class TestRotation:
    @pytest.fixture(autouse=True)
    def small_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal_module, "ROTATE_BYTES", 2_000)

    def test_a_call_may_span_files(self, audit: Path) -> None:
        """Rows fold across the files of a writer."""
        journal = Journal(audit)
        for n in range(50):
            journal.append(decided(decision_id=f"{n:02}", reason="first"))
        for n in range(50):
            journal.append(decided(decision_id=f"{n:02}", timestamp=completed().timestamp, reason="second"))
            journal.append(completed(decision_id=f"{n:02}"))
        assert len(files(audit)) > 10
        assert select(audit, "SELECT count(*), min(reason), min(result_status) FROM audit") == [
            (50, "second", "success")
        ]

    def test_rows_in_older_files_are_open_as_long_as_the_writer_lives(self, audit: Path) -> None:
        journal = Journal(audit)
        for n in range(30):
            journal.append(decided(decision_id=str(n)))
        assert set(statuses(audit).values()) == {"open"}
        held = [file for file in files(audit) if _is_locked(file)]
        assert held == files(audit)[-1:]
        journal.close()
        assert set(statuses(audit).values()) == {"unknown"}

    def test_a_writer_is_never_seen_dead_while_it_rotates(self, audit: Path) -> None:
        """Readers judge a writer that rotates all the time; each judgement must be `alive`."""
        from aegis_otel.audit.journal.files import find_writers

        stop = threading.Event()
        journal = Journal(audit)
        journal.append(decided())

        def write() -> None:
            while not stop.is_set():
                journal.append(decided(reason="x" * 2_000))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            judgements = []
            while len(files(audit)) < 200:
                judgements.append(find_writers(audit / "journal").ended)
        finally:
            stop.set()
            thread.join()
        assert judgements == [[]] * len(judgements) != []


def _committers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "aegis-group-commit" and each.is_alive()]


def _join_committers() -> None:
    """They end by themselves when they have had no work for a moment."""
    for thread in _committers():
        thread.join()


def _interrupted(audit: Path, durability: str, linger_s: float, *, after: int) -> tuple[bool, list[str]]:
    """Rotate a journal with Ctrl-C after so many of the calls that this makes.

    Args:
        linger_s: For how long the line before it may stay unsynced; with 0 it is synced.

    Returns:
        Whether it made so many, and the decisions on disk after one more was recorded and synced.
    """
    synced: dict[int, int] = {}
    left = after

    def fdatasync(descriptor: int) -> None:
        state = os.fstat(descriptor)
        synced[state.st_ino] = state.st_size

    def count(frame: FrameType, event: str, function: object) -> None:
        nonlocal left
        # What is raised in a callback of a weak reference is dropped by the interpreter.
        dropped = "weakref" in frame.f_code.co_filename
        if event in {"call", "c_return"} and function is not sys.setprofile and not dropped:
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        patch.setattr(group_commit, "LINGER_S", linger_s or 0.005)
        journal = Journal(audit, durability=durability)
        journal.append(decided(decision_id="before"))
        if not linger_s:
            _join_committers()
        with patch.context() as rotation, suppress(KeyboardInterrupt):
            rotation.setattr(journal_module, "ROTATE_BYTES", 0)
            gc.disable()  # or what it finalizes would be interrupted
            sys.setprofile(count)
            journal.append(decided(decision_id="interrupted"))
            sys.setprofile(None)
        gc.enable()
        patch.setattr(group_commit, "LINGER_S", 0.005)
        mark = journal.mark()
        journal.append(decided(decision_id="after"))
        asyncio.run(journal.sync(mark))
        assert len(_committers()) <= 1
        synced_in_time = dict(synced)  # a file is synced at its end too
        journal.close()
        _join_committers()
    found = sorted(files(audit))
    written = {state.st_ino: state.st_size for state in map(Path.stat, found) if state.st_size}
    if durability == "power":
        assert synced_in_time.items() >= written.items()
    lines = [json.loads(line) for file in found for line in file.read_bytes().splitlines()]
    return left < 0, [line["decision_id"] for line in lines]


def interrupt_everywhere(folder: Path, durability: str, linger_s: float) -> None:
    """In a process of its own: an interrupted start leaves traces in `threading`."""
    recorded = 0
    for calls in itertools.count():
        interrupted, written = _interrupted(folder / str(calls), durability, linger_s, after=calls)
        if not interrupted:
            break
        assert [each for each in written if each != "interrupted"] == ["before", "after"]
        recorded += "interrupted" in written
    assert written == ["before", "interrupted", "after"]
    assert calls > 50
    # Only when the line was whole already: the lock is let go then, or the thread that syncs it is told.
    assert recorded <= {"process": 1, "power": 20}[durability]


class TestFailure:
    def test_a_full_disk_leaves_no_torn_line(self, tmp_path: Path) -> None:
        """Rows that fit are kept, the first that does not is refused whole, and space makes it work again."""
        with _small_disk(tmp_path / "disk") as disk:
            audit = disk / "aegis_audit"
            journal = Journal(audit)
            written = 0

            def fill() -> None:
                nonlocal written
                while True:
                    journal.append(decided(decision_id=str(written), reason="x" * 3_000))
                    written += 1

            with pytest.raises(
                AuditError, match=rf"write the audit at `{audit}`: no space .*; free some space"
            ):
                fill()
            (file,) = files(audit)
            assert written > 5
            assert file.read_bytes().count(b"\n") == written
            assert file.read_bytes().endswith(b"}\n")
            (disk / "ballast").unlink()
            journal.append(decided(decision_id="after"))
            assert len(statuses(audit)) == written + 1
            journal.close()

    def test_a_file_size_limit_leaves_no_torn_line(self, audit: Path) -> None:
        """EFBIG after a part of the line: the part is taken back, and the line after it is whole."""
        code = """
import resource, sys
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.errors import AuditError
from tests.support.records import decided
journal = Journal(sys.argv[1])
journal.append(decided(decision_id="small"))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
try:
    journal.append(decided(decision_id="large", reason="x" * 5_000))
except AuditError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(decided(decision_id="last"))
"""
        out, err = python(code, audit).communicate()
        assert err == ""
        assert out == (
            f"cannot write the audit at `{audit}`: file too large; "
            "raise the process's file size limit (`ulimit -f`)\n"
        )
        assert [line.split('"')[7] for line in files(audit)[0].read_text().splitlines()] == ["small", "last"]

    def test_after_a_fragment_that_cannot_be_taken_back_a_new_file_begins(self, audit: Path) -> None:
        """Where truncating fails, the next line must not be glued to what is left of the one before."""
        journal = Journal(audit)
        journal.append(decided(decision_id="first"))
        journal._torn = True
        with files(audit)[0].open("a") as file:
            file.write('{"stage":"deci')
        journal.append(decided(decision_id="second"))
        assert statuses(audit) == {"first": "open", "second": "open"}
        assert len(files(audit)) == 2

    @pytest.mark.skipif(os.geteuid() != 0 or shutil.which("chattr") is None, reason="needs root and chattr")
    def test_an_append_only_file_cannot_be_truncated(self, audit: Path) -> None:
        """The same with a real file that refuses to be truncated."""
        code = """
import resource, sys, subprocess, pathlib
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.errors import AuditError
from tests.support.records import decided
journal = Journal(sys.argv[1])
journal.append(decided(decision_id="small"))
(file,) = pathlib.Path(sys.argv[1], "journal").iterdir()
if subprocess.run(["chattr", "+a", file], capture_output=True).returncode:
    sys.exit(77)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
try:
    journal.append(decided(decision_id="large", reason="x" * 5_000))
except AuditError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(decided(decision_id="last"))
subprocess.run(["chattr", "-a", file], check=True)
"""
        process = python(code, audit)
        out, err = process.communicate()
        if process.returncode == 77:
            pytest.skip("this file system has no append-only files")
        assert (out, err) == ("refused\n", "")
        assert statuses(audit) == {"small": "unknown", "last": "unknown"}

    def test_an_interrupted_record_is_not_there(self, audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C while a line is written is passed on, and the line, of a call that will not run, is gone."""
        monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 1 << 40)
        journal = Journal(audit)
        written = 0

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        def write() -> None:
            nonlocal written
            while True:
                journal.append(line)
                written += 1

        line = decided(reason="x" * 3_000_000)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for _ in range(20):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(KeyboardInterrupt):
                    write()
        finally:
            signal.signal(signal.SIGALRM, before)
        found = [line for file in files(audit) for line in file.read_bytes().splitlines()]
        assert len(found) - written <= 2  # an interrupt may also come between the return and the count
        chained = len(encode(decided(reason="x" * 3_000_000))) + len(',"chain":""') + 64
        assert {len(line) for line in found} == {chained}

    @pytest.mark.parametrize(("durability", "linger_s"), [("process", 0), ("power", 0), ("power", 5)])
    def test_an_interrupt_after_any_call_of_a_rotation_is_passed_on(
        self, tmp_path: Path, durability: str, linger_s: float
    ) -> None:
        """Ctrl-C is seen as a function begins or ends. All that is recorded is written and synced."""
        code = """
import pathlib, sys
from tests.audit.journal.test_journal import interrupt_everywhere
interrupt_everywhere(pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
"""
        process = python(code, tmp_path, durability, linger_s)
        assert (*process.communicate(), process.returncode) == ("", "", 0)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_a_directory_that_cannot_be_written(self, tmp_path: Path) -> None:
        """The error names the path, the cause and a way out; nothing is made."""
        code = """
import os, sys
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.errors import AuditError
from tests.support.records import decided
os.setuid(65534)
try:
    Journal(sys.argv[1]).append(decided())
except AuditError as error:
    print(error)
"""
        out, err = python(code, tmp_path / "audit").communicate()
        assert (out, err) == (
            f"cannot write the audit at `{tmp_path}/audit`: permission denied; choose another directory with "
            "`AEGIS_AUDIT_DIR` or `AuditLogger(path)`\n",
            "",
        )

    def test_a_place_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(AuditError, match="not an audit directory"):
            Journal(tmp_path / "file" / "audit").append(decided())

    def test_a_file_in_the_place_of_the_directory(self, tmp_path: Path) -> None:
        """Such as another program's database under the very name."""
        (tmp_path / "aegis_audit").write_bytes(b"SQLite format 3\0")
        with pytest.raises(AuditError, match=r"aegis_audit` is a file, not an audit directory"):
            Journal(tmp_path / "aegis_audit.db").append(decided())
        assert (tmp_path / "aegis_audit").read_bytes() == b"SQLite format 3\0"

    def test_a_directory_deleted_under_a_running_process_is_made_again(self, audit: Path) -> None:
        """A line in a file without a name would be no record; the key stays, so digests stay comparable."""
        journal = Journal(audit)
        journal.append(decided(decision_id="lost"))
        digest = journal.digest(b"arguments")
        shutil.rmtree(audit)
        time.sleep(LOOK_S)
        journal.append(decided(decision_id="kept"))
        assert statuses(audit) == {"kept": "open"}
        assert Journal(audit).digest(b"arguments") == digest

    def test_a_directory_that_cannot_be_made_again_refuses_the_record(self, audit: Path) -> None:
        journal = Journal(audit)
        journal.append(decided(decision_id="lost"))
        shutil.rmtree(audit)
        audit.write_text("in the way")
        time.sleep(LOOK_S)
        with pytest.raises(AuditError, match="is a file"):
            journal.append(decided(decision_id="refused"))

    def test_a_record_without_json_is_refused(self, audit: Path) -> None:
        journal = Journal(audit)
        with pytest.raises(AuditError, match="record of decision `x` has no JSON"):
            journal.append(decided(decision_id="x", reason=object()))
        assert not audit.exists()


def test_a_closed_journal_begins_a_new_file(audit: Path) -> None:
    """Closing loses nothing: a call that ends after it is completed in another file."""
    journal = Journal(audit)
    journal.append(decided())
    journal.close()
    journal.close()
    assert list(statuses(audit).values()) == ["unknown"]
    journal.append(completed())
    assert list(statuses(audit).values()) == ["success"]


def test_a_forgotten_journal_lets_its_file_go(audit: Path) -> None:
    journal = Journal(audit)
    journal.append(decided())
    del journal
    assert list(statuses(audit).values()) == ["unknown"]


def test_no_descriptor_reaches_a_program_that_is_started(audit: Path) -> None:
    """A long-lived subprocess must not hold the lock of a process that is gone."""
    journal = Journal(audit)
    journal.append(decided())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        journal.close()
        for _ in range(100):  # the system closes descriptors a moment after the program has started
            if (found := list(statuses(audit).values())) == ["unknown"]:
                break
        child.communicate(b"\n")
    assert found == ["unknown"]


def test_writing_loads_neither_duckdb_nor_the_agents_sdk(audit: Path) -> None:
    code = """
import sys
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.audit.record import AuditRecord
logger = AuditLogger(sys.argv[1])
logger.append(AuditRecord(stage="decided", decision_id="x", timestamp="2026-11-22T14:30:00+00:00"))
logger.digest(b"")
print([name for name in ("duckdb", "agents", "rich", "click") if name in sys.modules])
"""
    assert python(code, audit).communicate() == ("[]\n", "")


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    """A file system of 128 kB, half of it taken by a file; skips where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        (place / "ballast").write_bytes(b"x" * 65_536)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    yield
    for journal in list(journal_module._journals):
        journal.close()
