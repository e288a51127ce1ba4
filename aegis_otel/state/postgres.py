"""Shared state in PostgreSQL: for processes on any number of machines.

Each series has an advisory lock of the transaction, so a decision waits only for those about the same series.
Times are the server's, so the clocks of the machines do not matter. A decision takes two round trips: lock
and ask, then mark and commit.

The pool is our own, because psycopg_pool makes a caller wait its whole time where the server is down, does
not tell it why, and starts four threads in every process.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

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
    StateBusyError,
    StateFacts,
    new_salt,
    stored_salt,
)
from aegis_otel.state.schema import VERSION, check_version, migration

_CONNECTIONS = 4
"""Connections of a process at most: a server has a hundred by default, and a decision needs one for 2 ms."""
_ANSWER_S = PATIENCE_S + 0.5
"""Seconds to wait for a server that does not answer, not even that the statement took too long."""
_MILLISECONDS = round(PATIENCE_S * 1_000)
_DEFAULTS = {
    "connect_timeout": "2",
    "application_name": "aegis-otel",
    "tcp_user_timeout": str(_MILLISECONDS),
    "options": f"-c statement_timeout={_MILLISECONDS} -c lock_timeout={_MILLISECONDS} "
    # The locks of a machine that is gone while it decides are let go.
    f"-c idle_in_transaction_session_timeout={2 * _MILLISECONDS} "
    "-c plan_cache_mode=force_generic_plan -c jit=off",
}
"""What is asked of a connection, unless the address says otherwise."""
_MIGRATION_LOCK = 0x6165_6769_735F_6D69
"""The advisory lock of whoever changes the schema."""
_ADVICE = " Is the server running"
"""What libpq goes on with where it cannot connect: a question, where we say what to do."""
_ATTEMPTS = 5
"""How often a decision is made where each time it marks series that others have locked."""

# First of all, because others may have put functions and operators of the same names where the role, the
# database or the address would have them looked for. What is in no schema of these is named with its own.
_NAMES = "SET search_path = pg_catalog, pg_temp"
# A stricter isolation would show what there was before the lock was taken.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED; "
_BEGIN_TO_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000000 AS bigint)"
# Prepared once for each connection: to plan the last two anew takes longer than to run them. Series that are
# marked without a query are not locked yet. To wait for a lock while holding others could be for ever, so
# where one is not free nothing is marked, and the caller begins anew.
_PREPARE = """
PREPARE aegis_lock (bigint[]) AS SELECT pg_advisory_xact_lock(key) FROM unnest($1) AS key;
PREPARE aegis_tally (bytea[], float8[], text[]) AS
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
SELECT tally.* FROM clock
CROSS JOIN unnest($1, $2) WITH ORDINALITY AS query (series, within_s, n)
CROSS JOIN LATERAL (
    SELECT count(*), coalesce(sum(amount), 0), count(succeeded), count(*) FILTER (WHERE succeeded)
    FROM aegis.mark
    WHERE mark.series = query.series AND keep_until >= now
    AND marked_at >= coalesce(now - within_s * interval '1 second', '-infinity')
    AND decision_id <> ALL ($3)
) AS tally ORDER BY n;
PREPARE aegis_mark (bigint[], text, bytea[], bigint[], float8[], bytea[]) AS
WITH free AS MATERIALIZED (
    SELECT coalesce(bool_and(pg_try_advisory_xact_lock(key)), true) AS are_all FROM unnest($1) AS key
), clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
INSERT INTO aegis.mark (series, marked_at, decision_id, amount, keep_until, run)
SELECT series, now, $2, amount, now + keep_s * interval '1 second', run
FROM free, clock, unnest($3, $4, $5, $6) AS marks (series, amount, keep_s, run)
WHERE are_all
ON CONFLICT (series, run) WHERE run IS NOT NULL DO UPDATE SET
amount = greatest(excluded.amount, CASE WHEN mark.keep_until >= excluded.marked_at THEN mark.amount END),
marked_at = excluded.marked_at, decision_id = excluded.decision_id, keep_until = excluded.keep_until
"""
_LOCK = "EXECUTE aegis_lock(%(keys)s::bigint[]); "
_TALLY = "EXECUTE aegis_tally(%(series)s::bytea[], %(within)s::float8[], %(without)s::text[])"
_MARK = """
EXECUTE aegis_mark(%(keys)s::bigint[], %(decision)s, %(series)s::bytea[], %(amount)s::bigint[],
    %(keep)s::float8[], %(run)s::bytea[]);
COMMIT
"""
# What is lost of it in a crash of the server makes limits stricter, so nobody has to wait for the disk.
_LATER = "BEGIN; SET LOCAL synchronous_commit = off; "
_RELEASE = "DELETE FROM aegis.mark WHERE decision_id = %(decision)s AND succeeded IS NULL AND run IS NULL; "
_SETTLE = """
UPDATE aegis.mark SET succeeded = %(succeeded)s
WHERE decision_id = %(decision)s AND succeeded IS NULL AND run IS NULL;
"""
_PRUNE = """
DELETE FROM aegis.mark WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM aegis.mark WHERE keep_until < clock_timestamp()
    ORDER BY keep_until LIMIT %(most)s FOR UPDATE SKIP LOCKED
));
"""
_INSPECT = """
BEGIN; INSERT INTO aegis.mark VALUES ('', now(), '', 0, now(), NULL, NULL);
UPDATE aegis.mark SET succeeded = true WHERE decision_id = ''; DELETE FROM aegis.mark WHERE decision_id = '';
ROLLBACK; SELECT count(*) FROM (SELECT 1 FROM aegis.mark LIMIT %(most)s) AS marks
"""

# What is made by a role that is neither the program's nor one that can become the owner of the database (as
# superusers can), and whether any of it runs code, or is in another place, when it is read or written.
_FOREIGN = """
WITH ours AS (
    SELECT nspowner AS owner, NULL::oid AS id, false AS is_other FROM pg_namespace WHERE nspname = 'aegis'
    UNION ALL
    SELECT relowner, pg_class.oid, relkind <> 'r' OR relrowsecurity FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'aegis' AND relkind IN ('r', 'p', 'v', 'm', 'f')
)
SELECT (
    SELECT min(pg_get_userbyid(owner)::text) FROM ours, pg_database WHERE datname = current_database()
    AND NOT pg_has_role(owner, datdba, 'MEMBER') AND NOT pg_has_role(owner, current_user, 'MEMBER')
), EXISTS (
    SELECT FROM ours WHERE is_other
    OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = id)
    OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = id)
    OR EXISTS (SELECT FROM pg_inherits WHERE id IN (inhrelid, inhparent))
    OR EXISTS (SELECT FROM pg_attrdef WHERE adrelid = id)
    OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = id AND contype NOT IN ('n', 'p', 'u'))
    OR EXISTS (
        SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
        WHERE attrelid = id AND typnamespace <> 'pg_catalog'::regnamespace
    )
    OR EXISTS (
        SELECT FROM pg_index WHERE indrelid = id
        AND (indexprs IS NOT NULL OR pg_get_expr(indpred, indrelid) NOT IN (
            '(run IS NOT NULL)', '(ended_ns IS NOT NULL)',
            '(status = ANY (ARRAY[''waiting''::text, ''approved''::text]))'
        ))
    )
)
"""

T = TypeVar("T")


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits only so long for an answer, though the server is silent or sends notices."""

    salt = Salt(b"")
    """The salt of the store that it leads to."""
    process = 0
    """The process that has made it. Its children may neither use nor close it: they share the socket."""
    _pool = None  # says that it may stay open for as long as the program: psycopg warns of others

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        until = time.monotonic() + _ANSWER_S
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # without anything, it is woken up ten times a second
                wanted = gen.send(ready)
                # Only now, so that an answer that is there counts also in a process that was held up.
                if time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer for {_ANSWER_S:g} seconds")
        except StopIteration as end:
            value: T = end.value
            return value


class PostgresState:
    """The state in the schema `aegis` of a database, made at the first use; see `engine.SharedState`."""

    def __init__(self, address: str) -> None:
        """
        Args:
            address: `postgresql://user@host/database`, as libpq reads it.

        Raises:
            StateError: it cannot be read; the message does not have it.
        """
        try:
            given = conninfo_to_dict(address)
        except psycopg.Error:
            raise StateError(
                "`AEGIS_STATE` is no address that PostgreSQL's library can read: check it, and write "
                "reserved characters of the password in percent-encoding (`/` as `%2F`)"
            ) from None
        # What it says of single settings of a session leaves the others as they have to be.
        options = f"{_DEFAULTS['options']} {given.get('options') or ''}"
        self._conninfo = make_conninfo("", **{**_DEFAULTS, **given, "options": options})
        self._password = str(given.get("password") or os.environ.get("PGPASSWORD") or "")
        host, user = given.get("host") or given.get("hostaddr") or "", given.get("user")
        port = f":{given['port']}" if given.get("port") else ""
        self.place = f"`postgresql://{f'{user}@' if user else ''}{host}{port}/{given.get('dbname') or ''}`"
        self._settled = 0
        self._begin_anew()

    def __repr__(self) -> str:
        return f"PostgresState({self.place})"

    def judge(
        self, decision_id: str, queries: Sequence[SeriesQuery], decide: Decide, without: Sequence[str] = ()
    ) -> None:
        locked = {query.series for query in queries}
        for _ in range(_ATTEMPTS):
            ask = partial(self._ask, queries, without, frozenset(locked))
            with self._lent(ask) as (connection, tallies):
                marks = decide(tallies)
                if self._keep(connection, decision_id, marks, locked):
                    return
            locked.update(mark.series for mark in marks)
        raise StateBusyError(
            f"{self.place} is busy: others had locked what this decision marks, {_ATTEMPTS} times: try again"
        )

    def read(self, queries: Sequence[SeriesQuery], without: Sequence[str] = ()) -> dict[SeriesQuery, Tally]:
        with self._lent(partial(self._ask, queries, without, None)) as (_, tallies):
            return tallies

    def settle(self, decision_id: str, outcome: str | None) -> None:
        statement = _RELEASE if outcome is None else _SETTLE
        values = {"decision": decision_id, "succeeded": OUTCOMES.get(outcome or ""), "most": PRUNE_AT_MOST}
        self._settled += 1
        if self._settled % PRUNE_EVERY == 0:
            statement += _PRUNE
        with self._lent(lambda connection: self._run(connection, f"{_LATER}{statement}COMMIT", values)):
            return  # it may have been done twice: the second time changes nothing

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[_Statements]:
        begin = _BEGIN if writes else _BEGIN_TO_READ
        with self._lent(lambda connection: self._run(connection, begin)) as (connection, _):
            yield _Statements(connection.salt, partial(self._run, connection))
            self._run(connection, "COMMIT")

    def inspect(self) -> StateFacts:
        with self._lent(lambda connection: self._run(connection, _INSPECT, {"most": MOST_COUNTED})) as (
            _,
            rows,
        ):
            return StateFacts("PostgreSQL", self.place, VERSION, rows[0][0])

    def close(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            _give_up(connection)

    def _ask(
        self,
        queries: Sequence[SeriesQuery],
        without: Sequence[str],
        locked: frozenset[str] | None,
        connection: _Connection,
    ) -> dict[SeriesQuery, Tally]:
        """Answer the queries; in a transaction that has taken locks, unless `locked` is None."""
        salt = connection.salt
        values = {
            "series": [salt.digest(query.series) for query in queries],
            "within": [query.within_s for query in queries],
            "keys": _keys(salt, locked or ()),
            "without": list(without),
        }
        begin = "" if locked is None else _BEGIN + (_LOCK if locked else "")
        rows = self._run(connection, begin + _TALLY, values)
        return {
            query: Tally(calls, int(total), succeeded, ended - succeeded)
            for query, (calls, total, ended, succeeded) in zip(queries, rows, strict=True)
        }

    def _keep(
        self, connection: _Connection, decision_id: str, marks: Sequence[Mark], locked: set[str]
    ) -> bool:
        """Keep the marks and commit; return False where a series is locked by somebody else."""
        if connection.process != os.getpid():
            raise StateError(
                f"{self.place} cannot be asked here: this process was forked in the middle of a decision"
            )
        if not marks:
            self._run(connection, "COMMIT")
            return True
        salt = connection.salt
        values = {
            "keys": _keys(salt, {mark.series for mark in marks} - locked),
            "decision": decision_id,
            "series": [salt.digest(mark.series) for mark in marks],
            "amount": [mark.amount for mark in marks],
            "keep": [mark.keep_s for mark in marks],
            "run": [None if mark.run is None else salt.digest(mark.run) for mark in marks],
        }
        try:
            with connection.cursor() as cursor:
                cursor.execute(_MARK.encode(), values)
                return cursor.rowcount == len(marks)
        except psycopg.Error as error:
            raise self._state_error(connection, error) from error

    @contextmanager
    def _lent(self, begin: Callable[[_Connection], T]) -> Iterator[tuple[_Connection, T]]:
        """Lend a connection, and what `begin` returned on it.

        Where an idle connection turns out to be lost, `begin` is called again on a new one: so far, nothing
        can have been committed that would be done twice.
        """
        if self._pid != os.getpid():
            self.close()
            self._begin_anew()
        slots, idle = self._slots, self._idle
        if not slots.acquire(timeout=PATIENCE_S):
            raise StateBusyError(
                f"{self.place} is busy: {_CONNECTIONS} connections of this process were in use for "
                f"{PATIENCE_S:g} seconds"
            )
        connection: _Connection | None = None
        try:
            with suppress(IndexError):
                connection = idle.pop()
            if connection is None:
                connection = self._connect()
                begun = begin(connection)
            else:
                try:
                    begun = begin(connection)
                except StateError:
                    if not connection.closed:
                        raise
                    self.close()  # the other idle ones are lost as well, as a rule
                    connection = self._connect()
                    begun = begin(connection)
            yield connection, begun
        finally:
            if connection is not None and _is_free(connection):
                idle.append(connection)
            slots.release()

    def _begin_anew(self) -> None:
        """Forget all connections, in a new process."""
        self._pid = os.getpid()
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        self._idle: deque[_Connection] = deque()

    def _connect(self) -> _Connection:
        """Return a new connection to a store with our schema."""
        try:
            connection = _Connection.connect(
                self._conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor
            )
        except psycopg.Error as error:
            raise StateError(
                f"cannot connect to {self.place}: {self._text(error)}; start the server, or correct "
                "`AEGIS_STATE`"
            ) from None  # the traceback of its cause would show the password
        connection.process = os.getpid()
        try:
            self._run(connection, _NAMES)
            connection.salt = self._open_schema(connection)
            self._run(connection, _PREPARE)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_schema(self, connection: _Connection) -> Salt:
        """Return the salt of the store, once its schema is of our version."""
        self._check_objects(connection)
        ((is_made,),) = self._run(connection, "SELECT to_regclass('aegis.store') IS NOT NULL")
        if is_made:
            version = self._version(connection)
            check_version(version, self.place)
            if version == VERSION:
                return self._salt(connection)
        self._run(connection, _BEGIN + "SELECT pg_advisory_xact_lock(%(key)s)", {"key": _MIGRATION_LOCK})
        self._check_objects(connection)
        ((has_schema, is_made),) = self._run(
            connection,
            "SELECT to_regnamespace('aegis') IS NOT NULL, to_regclass('aegis.store') IS NOT NULL",
        )
        if not has_schema:  # `IF NOT EXISTS` needs the right to make one also where there is one
            self._run(connection, "CREATE SCHEMA aegis")
        version = self._version(connection) if is_made else 0
        for number in range(version + 1, VERSION + 1):  # none where another process was faster
            for statement in migration("postgres", number):
                self._run(connection, statement)
        if not is_made:
            self._run(connection, "INSERT INTO aegis.store VALUES (0, %(salt)s)", {"salt": new_salt()})
        self._run(connection, "UPDATE aegis.store SET version = %(version)s", {"version": VERSION})
        salt = self._salt(connection)
        self._run(connection, "COMMIT")
        return salt

    def _version(self, connection: _Connection) -> int:
        rows = self._run(connection, "SELECT version FROM aegis.store")
        if len(rows) == 1 and isinstance(version := rows[0][0], int):
            return version
        raise StateError(
            f"`aegis.store` in {self.place} has no longer the one row that aegis-otel gave it: restore a "
            'copy, or begin anew (docs/state.md, "Backup")'
        )

    def _salt(self, connection: _Connection) -> Salt:
        return stored_salt(self._run(connection, "SELECT salt FROM aegis.store"), self.place)

    def _check_objects(self, connection: _Connection) -> None:
        """Check that what has the names of ours is not a trap of somebody who may only make schemas here.

        Raises:
            StateError: it is of another role, or it is not the plain tables that we make.
        """
        ((owner, is_changed),) = self._run(connection, _FOREIGN)
        if owner is not None:
            raise StateError(
                f"the schema `aegis` in {self.place}, or a table of it, belongs to the role `{owner}`, which "
                "is neither this program's nor the owner of the database, so its limits may not hold: drop "
                "the schema and let the owner of the database run `aegis doctor`"
            )
        if is_changed:
            raise StateError(
                f"the tables of the schema `aegis` in {self.place} have triggers, rules or other things that "
                "aegis-otel did not give them, so its limits may not hold: remove these, or drop the schema "
                "and let the owner of the database run `aegis doctor`"
            )

    def _run(
        self, connection: _Connection, statements: str, values: Mapping[str, object] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of the last of some statements, which are sent in one message.

        Raises:
            StateError: one of them failed.
        """
        try:
            with connection.cursor() as cursor:
                cursor.execute(statements.encode(), values)
                while cursor.nextset():
                    pass
                return [] if cursor.description is None else cursor.fetchall()
        except psycopg.Error as error:
            raise self._state_error(connection, error) from error

    def _state_error(self, connection: _Connection, error: psycopg.Error) -> StateError:
        if connection.closed:
            return StateError(
                f"lost the connection to {self.place}: {self._text(error)}; see whether it runs"
            )
        what = _FAILURES.get(error.sqlstate or "", "")
        kind = StateBusyError if what is _BUSY else StateError
        return kind(f"{self.place} {what or 'refused a statement'} ({self._text(error)})")

    def _text(self, error: psycopg.Error) -> str:
        """Return what the driver or the server said, without the password."""
        said = error.diag.message_primary or str(error)
        text = " ".join(said.split()).partition(_ADVICE)[0]
        return text.replace(self._password, "***") if self._password else text


class _Statements(NamedTuple):
    """A transaction under way; see `engine.Transaction`."""

    salt: Salt
    rows: Callable[..., list[tuple[Any, ...]]]

    def now_ns(self) -> int:
        ((now,),) = self.rows(_NOW)
        return int(now)

    def run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self.rows(_translated(statement), values)


@lru_cache
def _translated(statement: str) -> str:
    """Return a statement of the inbox as PostgreSQL and its driver read it."""
    # An array of them is looked up by the index; with `IN`, all rows are read for a handful of ids.
    members = "= ANY (ARRAY (SELECT json_array_elements_text(CAST(:ids AS json))))"
    text = statement.replace("IN (SELECT value FROM json_each(:ids))", members)
    return re.sub(r":(\w+)", r"%(\1)s", text)


def _keys(salt: Salt, series: Iterable[str]) -> list[int]:
    """Return the advisory locks of some series, in the order in which everybody takes them."""
    return sorted({int.from_bytes(salt.digest(each)[:8], signed=True) for each in series})


def _is_free(connection: _Connection) -> bool:
    """Return whether a connection can be lent again, after its transaction was ended."""
    if connection.process != os.getpid():
        _give_up(connection)
        return False
    with suppress(psycopg.Error):
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.execute("ROLLBACK")
        if connection.info.transaction_status == TransactionStatus.IDLE:
            return True
    connection.close()
    return False


def _give_up(connection: _Connection) -> None:
    """Close a connection, unless it is that of a parent of this process, whose session would end with it."""
    if connection.process == os.getpid():
        connection.close()
    else:
        _abandoned.append(connection)


_RIGHTS = "docs/state.md says which rights it needs"
_BUSY = f"was busy for {PATIENCE_S:g} seconds: see who holds its locks in `pg_stat_activity`"
_FAILURES = {
    "55P03": _BUSY,  # lock_timeout
    "57014": _BUSY,  # statement_timeout
    "42501": f"denies this to the role: {_RIGHTS}",
    "25006": "is read-only, as a standby is: name the primary in `AEGIS_STATE`",
    "53100": "has no room on its disk: free some",
    "3F000": "has lost the schema `aegis`: restore it, or run `aegis doctor` to make a new one",
    "42P01": "has lost the tables of `aegis`: restore them, or drop the schema and run `aegis doctor`",
}
"""What is said of an error of the server, by its SQLSTATE."""

_abandoned: list[_Connection] = []
"""Connections of parents of this process, which it may neither use nor close."""
