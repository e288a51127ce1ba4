"""A PostgreSQL server of Debian's package, run as an ordinary user on a socket of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

DATABASE = "agents"
_ORDINARY = 65_534  # `nobody`: PostgreSQL does not run as root
_RULES = "local all secretive scram-sha-256\nlocal all all trust\n"


def programs() -> Path | None:
    """The folder of the newest `postgres` that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda each: int(each.parts[4]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@dataclass
class Server:
    """A server, until the end of the `with` around it. It may be stopped, frozen and started again."""

    programs: Path
    folder: Path
    options: tuple[str, ...] = ()

    def address(self, user: str = "postgres", password: str = "") -> str:
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@/{DATABASE}?host={self.folder}"

    def start(self) -> None:
        flags = ["-k", str(self.folder), "-c", "listen_addresses=", *self.options]
        self._control("start", "--wait", "--log", str(self.folder / "log"), "--options", " ".join(flags))

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: nothing is written down, and sessions are cut off."""
        self._control("stop", "--wait", "--mode", mode)

    def freeze(self) -> None:
        """Stop every process of it, which keeps its sockets: it answers nothing any more."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def run(self, statement: str, database: str = DATABASE) -> list[tuple[object, ...]]:
        with psycopg.connect(self.address(), dbname=database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _signal(self, number: int) -> None:
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        others = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True).stdout.split()
        for each in (first, *map(int, others)):
            with suppress(ProcessLookupError):  # a session that has just ended
                os.kill(each, number)

    def _control(self, *arguments: str) -> None:
        self.command("pg_ctl", "--pgdata", str(self.folder / "data"), *arguments)

    def command(self, program: str, *arguments: str) -> None:
        as_user = []
        if not os.geteuid():
            as_user = ["setpriv", f"--reuid={_ORDINARY}", f"--regid={_ORDINARY}", "--clear-groups"]
        ran = subprocess.run(
            [*as_user, self.programs / program, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout


@contextmanager
def running(*options: str) -> Iterator[Server]:
    """A server with an empty database `agents`, of which the user `postgres` is the owner."""
    found = programs()
    assert found is not None, "no PostgreSQL: apt-get install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="aegis-pg-", dir="/tmp"))  # short: a socket's name has 107 bytes
    if not os.geteuid():
        os.chown(folder, _ORDINARY, _ORDINARY)
    server = Server(found, folder, options)
    try:
        server.command(
            *("initdb", "--pgdata", "data", "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
        )
        (folder / "data" / "pg_hba.conf").write_text(_RULES)
        server.start()
        server.run(f"CREATE DATABASE {DATABASE}", "postgres")
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.go_on()
            server.stop("immediate")
        shutil.rmtree(folder)


def wait_for(server: Server, seconds: float = 20.0) -> None:
    """Until it takes connections again."""
    until = time.monotonic() + seconds
    while True:
        try:
            server.run("SELECT 1")
            return
        except psycopg.OperationalError:
            assert time.monotonic() < until
            time.sleep(0.05)
