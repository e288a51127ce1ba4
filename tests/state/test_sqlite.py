"""The SQLite engine: its file, locks, forks, and what it says where it cannot work."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.errors import StateError
from aegis_otel.model import Mark
from aegis_otel.state.engine import Salt
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.schema import VERSION, migration
from aegis_otel.state.sqlite import SqliteState
from tests.support.inbox import shared_question
from tests.support.records import python
from tests.support.state import HOUR, mark_one, take, tally

PROGRAM = """
import os, sys, time
from pathlib import Path
from typing import Any
from aegis_otel.errors import StateError
from aegis_otel.state.sqlite import SqliteState
from tests.support.state import mark_one, take, tally
state = SqliteState(Path(sys.argv[1]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


def failure(state: SqliteState) -> str:
    """What is said, by every method alike; and nothing takes long."""
    said = set()
    began = time.monotonic()
    calls: list[Callable[[], object]] = [
        lambda: mark_one(state, "d", "a"),
        lambda: state.settle("d", None),
        state.inspect,
    ]
    for call in calls:
        with pytest.raises(StateError) as raised:
            call()
        said.add(str(raised.value))
    assert time.monotonic() - began < 30
    (message,) = said
    return message


def test_nothing_is_made_before_it_is_used(path: Path) -> None:
    state = SqliteState(path)
    state.close()
    assert not path.exists()


def test_only_this_user_can_open_it(path: Path) -> None:
    """The file and what SQLite puts beside it have mode 0600, whatever the umask; no draft is left."""
    before = os.umask(0)
    try:
        mark_one(SqliteState(path), "d", "a")
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {path.name + end: 0o600 for end in ("", "-wal", "-shm")}


def test_no_name_is_in_it(path: Path) -> None:
    """The values by which calls are counted are digests with a salt of the store's own."""
    state = SqliteState(path)
    mark_one(state, "d", "repeats order_id=order-12345 user=ann@example.com", run="run-of-ann")
    state.close()
    content = path.read_bytes()
    assert b"order-12345" not in content
    assert b"ann" not in content
    other = SqliteState(path.with_name("other"))
    mark_one(other, "d", "a")
    mark_one(state, "d", "a")
    digests = [
        sqlite3.connect(each).execute("SELECT series FROM mark WHERE run IS NULL").fetchall()
        for each in (path, path.with_name("other"))
    ]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "readable by others", "of another user"])
def test_what_has_its_name_and_is_not_its_file(path: Path, kind: str) -> None:
    elsewhere = path.with_name("elsewhere")
    if kind == "link":
        elsewhere.touch(0o600)
        path.symlink_to(elsewhere)
        said = "is not a regular file"
    elif kind == "folder":
        path.mkdir()
        said = "is not a regular file"
    elif kind == "pipe":
        os.mkfifo(path)
        said = "is not a regular file"
    elif kind == "readable by others":
        path.touch()
        path.chmod(0o644)
        said = "run `chmod 600` on it"
    elif os.geteuid():
        pytest.skip("only root gives files away")
    else:
        path.touch(0o600)
        os.chown(path, 65_534, 65_534)
        said = "belongs to user 65534"
    message = failure(SqliteState(path))
    assert f"`{path}`" in message
    assert said in message
    assert kind != "link" or not elsewhere.stat().st_size


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_has_the_name_of_a_file_beside_it(path: Path, end: str, kind: str) -> None:
    """It is refused: at a pipe, SQLite would wait for ever."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    state.close()
    beside = path.with_name(path.name + end)
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_bytes(b"my notes")
    if kind == "link":
        beside.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(beside)
    else:
        beside.mkdir()
    assert failure(state) == f"`{beside}` is not a regular file: move it away"
    assert elsewhere.read_bytes() == b"my notes"
    assert failure(SqliteState(path)) == f"`{beside}` is not a regular file: move it away"


def test_no_folder(path: Path) -> None:
    message = failure(SqliteState(path.parent / "none" / "state.sqlite3"))
    assert "no such file or directory; give another path with `AEGIS_STATE`" in message


def test_a_file_that_is_no_database_stays_as_it_is(path: Path) -> None:
    path.write_bytes(b"my notes, " * 1_000)
    path.chmod(0o600)
    assert failure(SqliteState(path)) == (
        f"`{path}` is not a database: move it away, or give another path with `AEGIS_STATE`"
    )
    assert path.read_bytes() == b"my notes, " * 1_000


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE t (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"]
)
def test_a_database_of_another_program_stays_as_it_is(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()
    path.chmod(0o600)
    before = path.read_bytes()
    assert "is a database of another program" in failure(SqliteState(path))
    assert path.read_bytes() == before


def test_a_newer_schema_stays_as_it_is(path: Path) -> None:
    state = SqliteState(path)
    mark_one(state, "d", "a")
    state.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = path.read_bytes()
    message = failure(SqliteState(path))
    assert f"was made by a newer aegis-otel (schema version 9, and this one knows {VERSION})" in message
    assert path.read_bytes() == before


def test_a_newer_schema_that_comes_while_the_file_is_open(path: Path) -> None:
    """As a newer package makes it, for which this program was not stopped."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    other = sqlite3.connect(path)
    other.executescript(f"BEGIN; CREATE TABLE more (x); PRAGMA user_version = {VERSION + 1}; COMMIT")
    other.close()
    newer = f"was made by a newer aegis-otel (schema version {VERSION + 1}, and this one knows {VERSION})"
    assert newer in failure(state)


def test_a_damaged_file(path: Path) -> None:
    state = SqliteState(path)
    for number in range(200):
        mark_one(state, f"d{number}", f"series {number}")
    state.close()
    content = bytearray(path.read_bytes())
    content[4_096:] = os.urandom(len(content) - 4_096)
    path.write_bytes(content)
    with pytest.raises(StateError, match="is damaged: restore a copy"):
        mark_one(state, "d", "a")


def test_locked_for_ever(path: Path) -> None:
    """By another process: said after two seconds, and all goes on once it lets go."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StateError, match="was locked by another process for 2 seconds: end that process"):
        mark_one(state, "d2", "a")
    assert 1.9 < time.monotonic() - began < 30
    assert tally(state, "a").calls == 1
    other.execute("ROLLBACK")
    other.close()
    mark_one(state, "d2", "a")
    assert tally(state, "a").calls == 2


def test_threads_wait_no_longer_for_each_other_than_for_a_lock(path: Path) -> None:
    """Where another process holds the lock for ever, ten threads give up after some seconds, not after 20."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    said: list[str] = []

    def work() -> None:
        try:
            mark_one(state, "d", "a")
        except StateError as error:
            said.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(10)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 10
    assert time.monotonic() - began < 30
    other.close()


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
mark_one(state, "before", "a")
size = os.stat(sys.argv[1] + "-wal").st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5_000, resource.RLIM_INFINITY))
try:
    for number in range(10_000):
        mark_one(state, f"d{number}", f"series {number}")
except StateError as error:
    print(error)
print(tally(state, f"series {number}").calls, tally(state, f"series {number - 1}").calls)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
mark_one(state, "after", f"series {number}")
print(tally(state, f"series {number}").calls, tally(state, "a").calls)
"""


def test_no_room_on_the_disk(path: Path) -> None:
    """The decision that cannot be kept is refused and leaves nothing; with room, all goes on."""
    out, err = python(PROGRAM + FULL, path).communicate()
    assert err == ""
    said, *counts = out.splitlines()
    assert "cannot be read or written: check its disk, the quota and the limit of file sizes" in said
    assert str(path) in said
    assert counts[-1] == "1 1"


def test_a_full_database(path: Path) -> None:
    """As on a full disk, SQLite refuses to grow."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    assert state._connection is not None
    state._connection.execute("PRAGMA max_page_count = 1")

    def fill() -> None:
        for number in range(1_000):
            mark_one(state, f"d{number}", f"series {number}")

    with pytest.raises(StateError, match="because the disk is full: free some space on it"):
        fill()


READ_ONLY = """
mount -t tmpfs none "$1" && cp -p "$1"/../{state.sqlite3,other} "$1" || exit
mount -o remount,ro "$1" && exec "${@:2}"
"""
SMALL = """
mount -t tmpfs -o size=1m none "$1" && exec "${@:2}"
"""


def in_mounts(script: str, mounted: Path, program: str, path: Path) -> str:
    """What a program prints that has mounts of its own: a script makes them at a folder."""
    mounted.mkdir()
    ran = subprocess.run(
        [
            *("unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", mounted),
            *(sys.executable, "-c", program, path),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare failed" in ran.stderr:
        pytest.skip("this machine has no user namespaces")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("is_made", [True, False])
def test_a_folder_that_is_read_only(path: Path, is_made: bool) -> None:
    """A read-only file system, so that root cannot write either."""
    if is_made:
        state = SqliteState(path)
        mark_one(state, "d", "a")
        state.close()
    else:
        path.touch(0o600)
        path = path.with_name("none")
    path.with_name("other").touch()
    mounted = path.parent / "mounted"
    program = PROGRAM + (
        "try:\n    mark_one(state, 'd', 'a')\nexcept StateError as error:\n    print(error)\n"
    )
    out = in_mounts(READ_ONLY, mounted, program, mounted / path.name)
    assert str(mounted / path.name) in out
    assert ("make its folder writable" if is_made else "read-only file system") in out


FILLED = """
from contextlib import suppress
filler = Path(sys.argv[1]).with_name("filler")
def fill():
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(1_000)):
            pass
def fails(call):
    try:
        print(call())
    except StateError as error:
        print(error)
fill()
fails(lambda: mark_one(state, "d", "a"))
filler.unlink()
mark_one(state, "d", "a")
fill()
fails(lambda: [mark_one(state, f"d{number}", "b" * number) for number in range(1_000)])
fill()
fails(lambda: take(SqliteState(Path(sys.argv[1])), "d2", "a", 2))
filler.unlink()
print([take(state, f"e{number}", "a", 2) for number in range(2)], state._run("PRAGMA integrity_check"))
"""


def test_a_small_disk(path: Path) -> None:
    """Without room to make the file, and without room for a mark; with room, all goes on as it was."""
    mounted = path.parent / "mounted"
    *said, end = in_mounts(SMALL, mounted, PROGRAM + FILLED, mounted / path.name).splitlines()
    assert len(said) == 3
    for each in said:
        assert f"`{mounted / path.name}` cannot be" in each
        assert "the disk is full: free some" in each or "check its disk, the quota" in each
    assert end == "[True, False] [('ok',)]"


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_file_that_is_lost_while_it_is_used(path: Path, end: str, how: str, is_closed: bool) -> None:
    """A tool that removes it does not reset the limits of a program that runs."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    if is_closed:
        state.close()
    lost = path.with_name(path.name + end)
    if is_closed and end:
        assert not lost.exists(), "SQLite removes it with the last connection"
        return
    content = lost.read_bytes()
    lost.rename(path.with_name("away"))
    if how == "replaced":
        lost.write_bytes(content)
        lost.chmod(0o600)
    message = failure(state)
    assert message.startswith(f"`{path}`, or what SQLite keeps beside it, was removed or replaced while")
    path.with_name("away").replace(lost)
    assert failure(state) == message, "what others have marked meanwhile is not in it"
    assert tally(SqliteState(path), "a").calls == 1


VIEW = """
ALTER TABLE mark RENAME TO other;
CREATE VIEW mark AS WITH RECURSIVE n (series, marked_at, decision_id, amount, keep_until, run, succeeded) AS (
    SELECT x'00', 1, '', 1, 1, NULL, NULL UNION ALL SELECT * FROM n
) SELECT * FROM n;
"""


COPY = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM mark').fetchall()"


def test_a_program_that_opens_the_file_itself(path: Path) -> None:
    """Its locks are gone with that, and SQLite removes what lies beside it; the error names this cause."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    path.read_bytes()
    python(COPY, path).communicate()
    message = failure(state)
    assert "SQLite itself does so where this program opens and closes the file" in message
    assert "start the program anew" in message
    assert tally(SqliteState(path), "a").calls == 1


@pytest.mark.parametrize(
    "script",
    [
        "DELETE FROM store",
        "INSERT INTO store VALUES (x'00')",
        "UPDATE store SET salt = 'text of thirty-two letters......'",
        "UPDATE store SET salt = x'00'",
    ],
)
def test_a_salt_that_was_changed(path: Path, script: str) -> None:
    state = SqliteState(path)
    mark_one(state, "d", "a")
    state.close()
    other = sqlite3.connect(path)
    other.executescript(script)
    other.close()
    assert f"`{path}` has no longer the one salt that aegis-otel gave it" in failure(state)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        "CREATE TRIGGER t AFTER INSERT ON mark BEGIN DELETE FROM mark; END",
        "CREATE TABLE t (x)",
        "DROP INDEX mark_run",
        VIEW,
        VIEW.replace("mark ", "store "),
    ],
)
def test_tables_that_were_changed(path: Path, script: str, is_open: bool) -> None:
    """They are not used, whether the file is open meanwhile or not; and nothing hangs."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    if not is_open:
        state.close()
    other = sqlite3.connect(path)
    other.executescript(script)
    other.close()
    assert "has other tables, views or triggers than aegis-otel gave it" in failure(state)


def test_what_analyze_leaves_is_no_change(path: Path) -> None:
    state = SqliteState(path)
    mark_one(state, "d", "a")
    other = sqlite3.connect(path)
    other.execute("ANALYZE")
    other.close()
    assert tally(state, "a").calls == 1


def test_a_statement_that_takes_too_long(path: Path) -> None:
    """It is broken off after two seconds."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n"
    began = time.monotonic()
    with pytest.raises(StateError, match="did not carry out a statement in 2 seconds"):
        state._run(endless)
    assert 1.9 < time.monotonic() - began < 30
    assert tally(state, "a").calls == 1


def test_power(path: Path) -> None:
    """With durability `power`, a commit waits for the disk."""
    for durability, synchronous in (("process", 1), ("power", 2)):
        state = SqliteState(path, durability=durability)
        mark_one(state, "d", "a")
        assert state._connection is not None
        assert state._connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        state.close()


def test_a_mark_counts_until_its_window_is_over(path: Path) -> None:
    """To the nanosecond, and including the last one, as `Ledger.answer` has it."""
    now = 1_800_000_000_000_000_000
    state = SqliteState(path, now_ns=lambda: now)
    mark_one(state, "d", "a", keep_s=60.0)
    for later, calls in ((60_000_000_000, 1), (1, 0)):
        now += later
        assert (tally(state, "a", 60.0).calls, tally(state, "a", None).calls) == (calls, calls)


def test_an_amount_that_no_column_holds(path: Path) -> None:
    state = SqliteState(path)
    with pytest.raises(StateError):
        state.judge("d", [], lambda tallies: [Mark("a", 10**30, HOUR)])
    assert tally(state, "a").calls == 0


FORK = """
take(state, "before", "a", 100)
children = []
for n in range(6):
    child = os.fork()
    if child == 0:
        for k in range(30):
            take(state, f"{n}-{k}", "a", 100)
        os._exit(0)
    children.append(child)
for k in range(30):
    take(state, f"parent-{k}", "a", 100)
print([os.waitpid(child, 0)[1] for child in children], tally(state, "a").calls)
"""


def test_after_a_fork(path: Path) -> None:
    """Children use connections of their own, and so does the parent."""
    assert python(PROGRAM + FORK, path).communicate() == ("[0, 0, 0, 0, 0, 0] 100\n", "")


FORK_IN_THREADS = """
import threading
stop = threading.Event()
def work(n):
    k = 0
    while not stop.is_set():
        mark_one(state, f"{n}-{k}", f"series {n}")
        k += 1
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
[thread.start() for thread in threads]
codes = []
for n in range(15):
    child = os.fork()
    if child == 0:
        mark_one(state, f"child{n}", "children")
        os._exit(0)
    codes.append(os.waitpid(child, 0)[1])
stop.set()
[thread.join() for thread in threads]
print(set(codes), tally(state, "children").calls)
"""


def test_a_fork_while_threads_use_it(path: Path) -> None:
    assert python(PROGRAM + FORK_IN_THREADS, path).communicate() == ("{0} 15\n", "")
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


FORK_IN_DECIDE = """
def decide(tallies):
    child = os.fork()
    if child == 0:
        try:
            mark_one(state, "child", "a")
        except StateError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    return []
state.judge("d", [], decide)
mark_one(state, "parent", "a")
print(tally(state, "a").calls)
"""


def test_a_fork_in_the_middle_of_a_decision(path: Path) -> None:
    """The child cannot tell its parent's locks from its own: it is refused; the parent goes on."""
    out, err = python(PROGRAM + FORK_IN_DECIDE, path).communicate()
    assert err == ""
    said, count = out.splitlines()
    assert "it was forked while the file was in use" in said
    assert count == "1"


def test_a_limit_in_a_file_that_many_processes_make_at_once(path: Path) -> None:
    code = PROGRAM + "print(sum(take(state, f'{sys.argv[2]}-{k}', 'a', 20) for k in range(10)))"
    children = [python(code, path, n) for n in range(6)]
    found = [child.communicate() for child in children]
    assert [err for _, err in found] == [""] * 6
    assert sum(int(out) for out, _ in found) == 20
    assert take(SqliteState(path), "d", "a", 21)
    assert not list(path.parent.glob("*.draft"))


def test_a_store_of_the_first_version(path: Path) -> None:
    """Its marks stay, and it gets what is new, once, whoever opens it first."""
    path.touch(0o600)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in migration("sqlite", 1):
        connection.execute(statement)
    connection.execute("INSERT INTO store VALUES (?)", (b"s" * 32,))
    connection.execute("PRAGMA application_id = 1095059273")
    connection.execute("PRAGMA user_version = 1")
    series = Salt(b"s" * 32).digest("a")
    row = (series, time.time_ns(), "d", 0, time.time_ns() + 10**12, None, None)
    connection.execute("INSERT INTO mark VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()
    code = PROGRAM + "print(); sys.stdin.readline(); print(tally(state, 'a').calls, state.inspect().version)"
    children = [python(code, path) for _ in range(6)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # it is there, and has not opened the file
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    found = [child.communicate() for child in children]
    assert found == [(f"1 {VERSION}\n", "")] * 6
    inbox = StateInbox(SqliteState(path))
    state = inbox.put(shared_question())
    assert inbox.find(state.question.call_digest)[0].digest == state.digest


def test_a_file_that_another_process_makes_while_it_is_looked_at(path: Path) -> None:
    """What is read of it is of one moment: else it looks as if another program had made it."""
    other = threading.Thread(target=lambda: mark_one(SqliteState(path), "d", "a"))

    class Reader(SqliteState):
        def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
            rows = super()._run(statement, *values)
            if statement == "PRAGMA application_id" and not other.ident:
                other.start()
                time.sleep(0.3)
            return rows

    assert tally(Reader(path), "b").calls == 0
    other.join()
    assert tally(SqliteState(path), "a").calls == 1


def test_what_decide_raises_is_told_though_nothing_can_be_rolled_back(path: Path) -> None:
    state = SqliteState(path)

    def decide(tallies: object) -> list[Mark]:
        assert state._connection is not None
        state._connection.execute("ROLLBACK")  # as SQLite does by itself when the disk fails
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        state.judge("d", [], decide)
    mark_one(state, "d", "a")
    assert tally(state, "a").calls == 1


def test_a_newer_program_brings_it_up_to_date_meanwhile(path: Path) -> None:
    """It is said what has changed the tables; nobody has tampered with them."""
    state = SqliteState(path)
    mark_one(state, "d", "a")
    connection = sqlite3.connect(path)
    connection.executescript("BEGIN; CREATE TABLE more (x); PRAGMA user_version = 9; COMMIT")
    connection.close()
    assert "was made by a newer aegis-otel" in failure(state)
