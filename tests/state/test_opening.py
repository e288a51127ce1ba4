"""Which state a setting names, and that nothing happens before it is used."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import ConfigError, StateError
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.state.lazy_state import LazyState
from aegis_otel.state.opening import open_state
from aegis_otel.state.sqlite import SqliteState
from tests.support.records import select, write_call
from tests.support.state import mark_one, take, tally


def test_by_default_it_is_in_the_audit(tmp_path: Path) -> None:
    """Made with the audit's directory where that is not there, and in nobody's way."""
    state = open_state()
    assert not (tmp_path / "aegis_audit").exists()
    mark_one(state, "d", "a")
    audit = AuditLogger()
    audit.check()
    write_call(audit.path, "d")
    assert (audit.path / "state.sqlite3").is_file()
    assert select(audit.path) == [("d", "success")]
    assert verify(audit.path).findings == []
    assert tally(open_state(directory=audit.path), "a").calls == 1


def test_on_object_storage_it_is_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_AUDIT_DIR", "s3://acme-audit/agents")
    mark_one(open_state(), "d", "a")
    assert (tmp_path / "aegis_audit-acme-audit-agents" / "state.sqlite3").is_file()
    AuditLogger().check()


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are a path from here, four an absolute one; the argument wins over the variable."""
    monkeypatch.setenv("AEGIS_STATE", "sqlite:///elsewhere.sqlite3")
    mark_one(open_state(), "d", "a")
    assert tally(open_state(f"sqlite:///{tmp_path}/elsewhere.sqlite3"), "a").calls == 1
    assert not (tmp_path / "aegis_audit").exists()


def test_an_audit_that_others_can_write_to_holds_no_limits(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit").chmod(0o777)
    with pytest.raises(StateError, match="can be written by others"):
        mark_one(open_state(directory=tmp_path / "audit"), "d", "a")


@pytest.mark.parametrize(
    "address", ["mysql://me:hunter2@here/db", "hunter2", "sqlite://hunter2", "sqlite:///", "sqlite:///a\0"]
)
def test_an_address_that_is_none(address: str) -> None:
    """The message shows nothing of it: there may be a password in it."""
    with pytest.raises(ConfigError, match="`AEGIS_STATE` is no address of a state") as raised:
        open_state(address)
    assert "hunter2" not in str(raised.value)


def test_nothing_is_imported_before_it_is_used() -> None:
    program = """
import sys
from aegis_otel.state.opening import open_state
open_state()
open_state("sqlite:///x")
print([name for name in sys.modules if name.startswith(("sqlite3", "psycopg"))])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "[]\n"


def test_threads_that_use_it_first_use_the_same_one(tmp_path: Path) -> None:
    """Each of several would have connections of its own, and know nothing of the outages of the others."""
    made = list[SqliteState]()
    together = threading.Barrier(8)

    def opened() -> SqliteState:
        together.wait(20)
        made.append(SqliteState(tmp_path / "state.sqlite3"))
        return made[-1]

    state, taken = LazyState(opened), list[bool]()
    threads = [
        threading.Thread(target=lambda n=n: taken.append(take(state, f"d{n}", "a", 5))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 3 + [True] * 5
    assert sum(each._connection is not None for each in made) == 1
    state.close()
    assert all(each._connection is None for each in made)
