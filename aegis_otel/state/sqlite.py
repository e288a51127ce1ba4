"""Shared state in an SQLite file: for the processes of one machine, without a server.

Three things are not as a program usually uses SQLite:

- A busy database is tried again after 0.05 to 1 ms (`_patiently`): most others need it for 0.2 ms. SQLite's
  own handler sleeps for 1 ms first, and then longer each time, up to 100 ms.
- A process has one connection, which its threads take in turn: SQLite allows one writer, and threads that
  wait for a lock of Python wait no longer than they have to.
- The connection is closed before a fork. SQLite keeps in memory which locks its process has. A child would
  take those of its parent for its own, also with a connection of its own, and could destroy the file.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakSet

from aegis_otel.errors import StateError
from aegis_otel.model import Mark, SeriesQuery, Tally
from aegis_otel.state.engine import (
    MOST_COUNTED,
    OUTCOMES,
    PATIENCE_S,
    PRUNE_AT_MOST,
    PRUNE_EVERY,
    Decide,
    Salt,
    StateFacts,
    new_salt,
    stored_salt,
)
from aegis_otel.state.schema import VERSION, check_version, migration

_APPLICATION = 0x41454749
"""The application id in the file's header (`AEGI`), by which it is known as ours."""
_PAUSE_S = 0.000_1, 0.001
"""Seconds before a busy database is tried again: at first, and when it has been busy for long."""
_CHECKPOINT_PAGES = 4_000
"""Pages of the log from which on a commit writes them into the database itself, which can take milliseconds.
`settle` does so earlier, when nothing waits for it."""
_OPENING_S = 5.0
"""Seconds to wait while other processes make the tables, each in its turn."""
_STEPS = 10_000
"""Steps of SQLite's machine after which it is asked whether a statement takes too long: less than 1 ms."""
_BESIDE = "-wal", "-shm"
"""Ends of the names of the files that SQLite keeps beside the database."""
_MILLION = 1_000_000
_SECOND = 1_000_000_000

# Split, because a sum of amounts can be more than SQLite's integers hold.
_TALLY = """
SELECT count(*), sum(amount / 1000000), sum(amount % 1000000), count(succeeded), sum(succeeded)
FROM mark WHERE series = ? AND marked_at >= ? AND keep_until >= ?
"""
_WITHOUT = "AND decision_id NOT IN ({})"
# What a run has used never becomes less: a call that has waited brings a figure that is out of date.
_MARK = """
INSERT INTO mark (series, marked_at, decision_id, amount, keep_until, run) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (series, run) WHERE run IS NOT NULL DO UPDATE SET
amount = max(excluded.amount, CASE WHEN mark.keep_until >= excluded.marked_at THEN mark.amount ELSE 0 END),
marked_at = excluded.marked_at, decision_id = excluded.decision_id, keep_until = excluded.keep_until
"""
_RELEASE = "DELETE FROM mark WHERE decision_id = ? AND succeeded IS NULL AND run IS NULL"
_SETTLE = "UPDATE mark SET succeeded = ? WHERE decision_id = ? AND succeeded IS NULL AND run IS NULL"
# What `ANALYZE` leaves changes no answer.
_OBJECTS = """
SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT GLOB 'sqlite_stat[0-9]'
"""
_PRUNE = """
DELETE FROM mark WHERE (series, marked_at, decision_id) IN (
    SELECT series, marked_at, decision_id FROM mark WHERE keep_until < ? ORDER BY keep_until LIMIT ?
)
"""


_Identity = tuple[int, int]
"""The device and the inode of a file."""


class SqliteState:
    """The state in one file, which is made at the first use; see `engine.SharedState`."""

    def __init__(
        self, path: Path, *, durability: str = "process", now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """
        Args:
            path: The file. Its folder has to exist.
            durability: What a mark survives: the end of the `process`, or a loss of `power`.
            now_ns: The clock: Unix time in nanoseconds.
        """
        self._path = path
        self._is_synced = durability == "power"
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._owner: int | None = None
        """The thread that has the lock."""
        self._connection: sqlite3.Connection | None = None
        self._salt = Salt(b"")
        self._identity: _Identity | None = None
        """That of the file from when it was opened first."""
        self._beside: list[_Identity | None] = []
        """Those of the files that SQLite keeps beside it while it is open."""
        self._is_lost = False
        """Whether any of these files was removed or replaced meanwhile."""
        self._opened_at = 0.0
        """When it was opened last, on the clock of `time.monotonic`."""
        self._schema_version = -1
        """Which SQLite gave to the schema that was found to be ours."""
        self._until = 0.0
        """When the statement that runs is broken off, on the clock of `time.monotonic`."""
        self._settled = 0
        self._is_held = False
        """Whether the lock is held because the process forks."""
        self._is_orphan = False
        """Whether the process was forked while its parent's connection was in use."""
        _states.add(self)

    def judge(
        self, decision_id: str, queries: Sequence[SeriesQuery], decide: Decide, without: Sequence[str] = ()
    ) -> None:
        with self._transaction("BEGIN IMMEDIATE"):
            now = self._now_ns()  # once nobody else can mark any more
            marks = decide(self._answers(queries, now, without))
            self._keep(decision_id, marks, now)

    def read(self, queries: Sequence[SeriesQuery], without: Sequence[str] = ()) -> dict[SeriesQuery, Tally]:
        with self._transaction("BEGIN"):
            return self._answers(queries, self._now_ns(), without)

    def settle(self, decision_id: str, outcome: str | None) -> None:
        with self._transaction("BEGIN IMMEDIATE"):
            if outcome is None:
                self._run(_RELEASE, decision_id)
            else:
                self._run(_SETTLE, OUTCOMES[outcome], decision_id)
            self._settled += 1
            is_time = self._settled % PRUNE_EVERY == 0
            if is_time:
                self._run(_PRUNE, self._now_ns(), PRUNE_AT_MOST)
        if is_time:
            with self._turn():
                self._run("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[_Statements]:
        with self._transaction("BEGIN IMMEDIATE" if writes else "BEGIN"):
            yield _Statements(self._salt, self._now_ns, self._run)

    def inspect(self) -> StateFacts:
        with self._transaction("BEGIN IMMEDIATE"):
            self._run("UPDATE store SET salt = salt")
            ((marks,),) = self._run("SELECT count(*) FROM (SELECT 1 FROM mark LIMIT ?)", MOST_COUNTED)
            return StateFacts("SQLite", f"`{self._path}`", VERSION, marks)

    def close(self) -> None:
        with self._turn(opens=False):
            self._drop()

    def _answers(
        self, queries: Sequence[SeriesQuery], now: int, without: Sequence[str]
    ) -> dict[SeriesQuery, Tally]:
        answers = {}
        tally = f"{_TALLY}{_WITHOUT.format(', '.join('?' * len(without)))}" if without else _TALLY
        for query in queries:
            since = -1 if query.within_s is None else now - round(query.within_s * _SECOND)
            ((calls, units, rest, ended, succeeded),) = self._run(
                tally, self._salt.digest(query.series), since, now, *without
            )
            answers[query] = Tally(
                calls, (units or 0) * _MILLION + (rest or 0), succeeded or 0, ended - (succeeded or 0)
            )
        return answers

    def _keep(self, decision_id: str, marks: Sequence[Mark], now: int) -> None:
        for mark in marks:
            series = self._salt.digest(mark.series)
            run = None if mark.run is None else self._salt.digest(mark.run)
            self._run(_MARK, series, now, decision_id, mark.amount, now + round(mark.keep_s * _SECOND), run)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """Do all of the block or nothing of it, alone in this process."""
        until = time.monotonic() + PATIENCE_S
        with self._turn(until):
            until = max(until, self._opened_at + PATIENCE_S)  # to open it has its own time
            self._patiently(lambda: self._run(begin), until)
            try:
                self._check_schema(VERSION)
                yield
                self._run("COMMIT")
            except StateError:
                self._drop()  # nothing is committed, and the next call begins with a new connection
                raise
            except BaseException:
                try:
                    self._run("ROLLBACK")
                except StateError:  # what came first is what the caller has to know
                    self._drop()
                raise

    @contextmanager
    def _turn(self, until: float | None = None, *, opens: bool = True) -> Iterator[None]:
        """Wait until no other thread uses the connection, and open one if there is none."""
        until = time.monotonic() + PATIENCE_S if until is None else until
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            raise StateError(
                f"`{self._path}` was in use by other threads of this process for {PATIENCE_S:g} seconds: see "
                "whether another process holds its lock (`lsof` names it)"
            )
        self._owner = threading.get_ident()
        try:
            if opens:
                self._open(until)
            yield
        finally:
            self._owner = None
            self._lock.release()

    def _open(self, until: float) -> None:
        if self._is_orphan:
            raise StateError(
                f"`{self._path}` cannot be used in this process: it was forked while the file was in use; "
                "fork between calls, or start the process anew"
            )
        self._check_file()
        if self._connection is not None:
            return
        self._check_beside()
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.text_factory = _text
            self._connection.set_progress_handler(self._is_late, _STEPS)
            self._schema_version = -1
            self._patiently(self._prepare, max(until, time.monotonic() + _OPENING_S))
            self._opened_at = time.monotonic()
            self._beside = [_identity_of(f"{self._path}{end}") for end in _BESIDE]
            self._check_file()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except BaseException:
            self._drop()
            raise

    def _check_file(self) -> None:
        """Make the file if it never was there, and check that it is ours and the one that was opened.

        It is never opened here: closing a descriptor would let go all locks that this process has on it.
        """
        if self._is_lost:
            raise self._lost()
        try:
            try:
                status = os.lstat(self._path)
            except FileNotFoundError:
                if self._identity is not None:
                    raise self._lost() from None
                self._make_file()
                status = os.lstat(self._path)
        except OSError as error:
            raise StateError(
                f"cannot use `{self._path}`: {(error.strerror or str(error)).lower()}; {_ELSEWHERE}"
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise StateError(f"`{self._path}` is not a regular file, as a database has to be: move it away")
        if status.st_uid != os.geteuid():
            raise StateError(
                f"`{self._path}` belongs to user {status.st_uid}, and this process is user {os.geteuid()}: "
                "use PostgreSQL where several users share limits (docs/state.md)"
            )
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StateError(f"`{self._path}` is open to other users: run `chmod 600` on it")
        identity = status.st_dev, status.st_ino
        if self._identity not in (None, identity):
            raise self._lost()
        self._identity = identity
        if self._connection is not None and self._beside != [
            _identity_of(f"{self._path}{end}") for end in _BESIDE
        ]:
            raise self._lost()

    def _check_beside(self) -> None:
        """Check that what SQLite is about to open are files: it would wait for ever at a pipe."""
        for end in (*_BESIDE, "-journal"):
            beside = f"{self._path}{end}"
            with suppress(OSError):
                if not stat.S_ISREG(os.lstat(beside).st_mode):
                    raise StateError(f"`{beside}` is not a regular file: move it away")

    def _lost(self) -> StateError:
        """Return why the file is not used any more: by what is in another one, no limit would hold."""
        self._is_lost = True
        self._drop()
        return StateError(
            f"`{self._path}`, or what SQLite keeps beside it, was removed or replaced while this program "
            "used it (SQLite itself does so where this program opens and closes the file elsewhere, which "
            "lets go its locks: docs/state.md): start the program anew, and limits go on from what is there"
        )

    def _make_file(self) -> None:
        """Make an empty file of mode 0600 under another name, and give it its name if nobody else has."""
        draft = self._path.with_name(f".aegis-{os.urandom(8).hex()}.draft")
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            os.unlink(draft)

    def _prepare(self) -> None:
        """Check what the file is, write the schema where it has none, and read the salt."""
        assert self._connection is not None
        if self._connection.in_transaction:  # the last attempt ended in the middle of one
            self._run("ROLLBACK")
        self._run("PRAGMA trusted_schema = OFF")
        self._run("BEGIN")  # so that another process cannot make the tables between two of these
        ((application,),) = self._run("PRAGMA application_id")
        ((version,),) = self._run("PRAGMA user_version")
        objects = self._run("SELECT name FROM sqlite_schema")
        if application != _APPLICATION and (application or version or objects):
            raise StateError(
                f"`{self._path}` is a database of another program: give another path with `AEGIS_STATE`"
            )
        check_version(version, f"`{self._path}`")
        if version:
            self._check_schema(version)
        self._run("COMMIT")
        ((mode,),) = self._run("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StateError(
                f"processes cannot share `{self._path}` on its file system: give a path on a local disk with "
                "`AEGIS_STATE`, or use PostgreSQL (docs/state.md)"
            )
        self._run(f"PRAGMA synchronous = {'FULL' if self._is_synced else 'NORMAL'}")
        self._run(f"PRAGMA fullfsync = {self._is_synced:d}")  # macOS: without it, a sync reaches no disk
        self._run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if version < VERSION:
            self._migrate()
        self._check_schema(VERSION)
        self._salt = stored_salt(self._run("SELECT salt FROM store"), f"`{self._path}`")

    def _migrate(self) -> None:
        self._run("BEGIN IMMEDIATE")
        ((version,),) = self._run("PRAGMA user_version")
        for number in range(version + 1, VERSION + 1):  # none where another process was faster
            for statement in migration("sqlite", number):
                self._run(statement)
            self._run(f"PRAGMA user_version = {number}")
        if not version:
            self._run("INSERT INTO store (salt) VALUES (?)", new_salt())
            self._run(f"PRAGMA application_id = {_APPLICATION}")
        self._run("COMMIT")

    def _check_schema(self, version: int) -> None:
        """Check that the file has the tables of `version` and nothing else, such as a view or a trigger."""
        ((found,),) = self._run("PRAGMA schema_version")
        if found == self._schema_version:
            return
        ((now,),) = self._run("PRAGMA user_version")
        check_version(now, f"`{self._path}`")  # a newer package may have changed it since it was opened
        if sorted(self._run(_OBJECTS), key=repr) != _objects(version):
            ((now,),) = self._run("PRAGMA user_version")
            check_version(now, f"`{self._path}`")
            raise StateError(
                f"`{self._path}` has other tables, views or triggers than aegis-otel gave it, so its limits "
                "may not hold: restore a copy, or stop the programs and move it away with its `-wal` and "
                "`-shm`"
            )
        self._schema_version = found

    def _is_late(self) -> bool:
        return time.monotonic() > self._until

    def _run(self, statement: str, *values: object, **named: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement.

        Raises:
            StateError: it failed.
        """
        assert self._connection is not None
        self._until = time.monotonic() + PATIENCE_S
        try:
            return self._connection.execute(statement, named or values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise self._failure(error) from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _patiently(self, attempt: Callable[[], object], until: float) -> None:
        """Try until nobody else has the lock, or the time is up."""
        begin = time.monotonic()
        while True:
            try:
                attempt()
                return
            except StateError as error:
                now = time.monotonic()
                if _code(error.__cause__) not in _BUSY or now >= until:
                    raise
            shortest, longest = _PAUSE_S
            pause = min(max((now - begin) / 4, shortest), longest)
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - chance, not secrecy

    def _failure(self, error: Exception) -> StateError:
        what = next((said for code, said in _FAILURES.items() if code == _code(error)), None)
        return StateError(
            f"`{self._path}` {what}" if what else f"cannot use `{self._path}`: {error}; {_ELSEWHERE}"
        )

    def before_fork(self) -> None:
        """Close the connection, and let no thread open another one until the process has forked."""
        if self._owner != threading.get_ident() and self._lock.acquire(timeout=PATIENCE_S):
            self._owner = threading.get_ident()
            self._drop()
            self._is_held = True

    def after_fork(self, *, in_child: bool) -> None:
        """Go on. A child that has got a connection of its parent is refused, and never closes it."""
        if self._is_held:
            self._is_held = False
            self._owner = None
            self._lock.release()
        elif in_child:
            self._lock, self._owner = threading.Lock(), None
            self._is_orphan = self._connection is not None
            if self._connection is not None:
                _never_closed.append(self._connection)
            self._connection = None


class _Statements(NamedTuple):
    """A transaction under way; see `engine.Transaction`."""

    salt: Salt
    now_ns: Callable[[], int]
    rows: Callable[..., list[tuple[Any, ...]]]

    def run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self.rows(_without_schema(statement), **values)


@lru_cache
def _without_schema(statement: str) -> str:
    return statement.replace("aegis.", "")


def _identity_of(path: str) -> _Identity | None:
    """Return which file has this name, if any has."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


@cache
def _objects(version: int) -> list[tuple[str, ...]]:
    """Return the tables and indexes of a version of the schema, as SQLite describes them."""
    connection = sqlite3.connect(":memory:")
    for number in range(1, version + 1):
        for statement in migration("sqlite", number):
            connection.execute(statement)
    found = sorted(connection.execute(_OBJECTS).fetchall(), key=repr)
    connection.close()
    return found


def _text(stored: bytes) -> str | bytes:
    """Return a text; as bytes if it is no UTF-8, which anybody can have written into the file."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def _code(error: BaseException | None) -> int | None:
    """Return SQLite's primary error code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_ELSEWHERE = "give another path with `AEGIS_STATE`"
_LOCKED = f"was locked by another process for {PATIENCE_S:g} seconds: end that process (`lsof` says which)"
_FAILURES = {
    **dict.fromkeys(_BUSY, _LOCKED),
    sqlite3.SQLITE_FULL: "cannot be written, because the disk is full: free some space on it",
    sqlite3.SQLITE_IOERR: "cannot be read or written: check its disk, the quota and the limit of file sizes",
    sqlite3.SQLITE_READONLY: f"cannot be written: make the file and its folder writable, or {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"cannot be opened: make its folder writable, or {_ELSEWHERE}",
    sqlite3.SQLITE_INTERRUPT: f"did not carry out a statement in {PATIENCE_S:g} seconds: see what is in it",
    sqlite3.SQLITE_NOTADB: f"is not a database: move it away, or {_ELSEWHERE}",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore a copy, or move it away with its `-wal` and `-shm`, "
    "and limits begin anew",
}
"""What is said of a file, by SQLite's primary error code."""

_states: WeakSet[SqliteState] = WeakSet()
_never_closed: list[sqlite3.Connection] = []
_forking: list[SqliteState] = []
"""Those that a fork under way has closed; a list, because a WeakSet may change meanwhile."""


def _before_fork() -> None:
    _forking[:] = list(_states)
    for state in _forking:
        state.before_fork()


def _after_fork(*, in_child: bool) -> None:
    for state in _forking:
        state.after_fork(in_child=in_child)
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)
