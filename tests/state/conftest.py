from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.state import PostgresStore, SqliteStore, Store

REQUIRED = os.environ.get("AEGIS_REQUIRE_STACK") == "1"


@pytest.fixture(scope="session")
def shared_server() -> Iterator[postgres.Server]:
    """A PostgreSQL that this process of the tests has for itself; it need not survive a power cut."""
    if not REQUIRED:
        pytest.skip("PostgreSQL is tested by `make test-stack`")
    with postgres.running("-c", "fsync=off") as server:
        yield server


@pytest.fixture
def own_server(shared_server: postgres.Server) -> Iterator[postgres.Server]:
    """A server that can be stopped without harm to other tests."""
    with postgres.running("-c", "fsync=off") as server:
        yield server


@pytest.fixture
def server(shared_server: postgres.Server) -> postgres.Server:
    """The server, without anything of ours in it."""
    shared_server.run("DROP SCHEMA IF EXISTS aegis CASCADE")
    return shared_server


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each engine."""
    made: Store
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "state.sqlite3")
    else:
        made = PostgresStore(request.getfixturevalue("shared_server"))
    yield made
    made.state.close()
