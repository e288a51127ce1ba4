"""The audit directory and its key: which name means what, and what is trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import load_key
from aegis_otel.audit.location import exists, failure, locate, prepare
from aegis_otel.errors import AuditError, ConfigError
from aegis_otel.runtime.audit import AuditLogger


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("aegis_audit", "aegis_audit"),
        ("aegis_audit.db", "aegis_audit"),
        ("aegis_audit.duckdb", "aegis_audit"),
        ("deep/er.db", "deep/er"),
        ("a.db.db", "a.db"),
        ("audit.v1", "audit.v1"),
        (".db", ".db"),
        (Path("as/path.db"), "as/path"),
        (b"as_bytes", "as_bytes"),
        ("trailing/", "trailing"),
    ],
)
def test_a_database_name_means_the_directory_beside_it(
    tmp_path: Path, name: str | os.PathLike[str], directory: str
) -> None:
    """The tutorial's `aegis_audit.db` and the default `aegis_audit` are one audit."""
    assert locate(name) == tmp_path / directory


def test_argument_before_environment_before_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate() == tmp_path / "aegis_audit"
    monkeypatch.setenv("AEGIS_AUDIT_DIR", "/var/lib/agent/audit.db")
    assert locate() == Path("/var/lib/agent/audit")
    assert locate("given") == tmp_path / "given"


@pytest.mark.parametrize("name", ["", "  ", ":memory:", "nul\0inside"])
def test_a_name_that_no_directory_can_have(name: str) -> None:
    """Inventory 95 too: an audit in memory would be none, so `:memory:` is refused before anything runs."""
    with pytest.raises(ConfigError, match="an audit is a directory on disk"):
        locate(name)
    with pytest.raises(ConfigError, match="give it a path"):
        AuditLogger(db_path=name)


@pytest.mark.parametrize("name", [r"a\b", "a/\\/b", b"\xff", "x/\udcff.db"])
def test_a_name_that_could_be_written_and_never_read(name: str | bytes) -> None:
    """DuckDB reads neither: better known before the first record than after the last."""
    with pytest.raises(ConfigError, match="DuckDB cannot read below a name with a backslash"):
        locate(name)  # type: ignore[arg-type]


def test_a_journal_stays_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name is resolved once: a program that changes its directory keeps one audit."""
    journal = Journal("audit")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.digest(b"")
    assert exists(tmp_path / "audit")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Somebody who can rename files in it can replace the audit."""
    audit = tmp_path / "audit"
    audit.mkdir()
    audit.chmod(mode)
    with pytest.raises(AuditError, match=rf"can be written by others \(mode {mode:04o}\): run `chmod go-w`"):
        prepare(audit)
    assert list(audit.iterdir()) == []
    audit.chmod(0o755)  # to be read by others is the owner's choice
    prepare(audit)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    audit.mkdir()
    os.chown(audit, 65534, -1)
    with pytest.raises(AuditError, match="belongs to user 65534, and this process is user 0"):
        prepare(audit)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    """Giving the wrong name must not scatter a journal over somebody's files."""
    (tmp_path / "something").write_text("")
    with pytest.raises(AuditError, match="has files, but no `journal`"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_link_in_the_place_of_the_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "audit" / "journal").symlink_to(tmp_path / "target")
    with pytest.raises(AuditError, match="journal` is not a directory"):
        prepare(tmp_path / "audit")


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    """That is how people put an audit on another disk; what counts is whose the target is."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "audit").symlink_to(tmp_path / "disk")
    prepare(tmp_path / "audit")
    assert (tmp_path / "disk" / "journal").is_dir()


def test_an_error_names_path_cause_and_a_way_out() -> None:
    error = failure("write the audit at", Path("/a"), OSError(28, "No space left on device"))
    assert (
        str(error) == "cannot write the audit at `/a`: no space left on device; free some space on its disk"
    )


class TestKey:
    def test_made_once_for_this_user_only(self, tmp_path: Path) -> None:
        """It is random, whole, closed to others, and nothing is left beside it."""
        key = load_key(tmp_path)
        assert (len(key), load_key(tmp_path)) == (32, key)
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["key"]
        (tmp_path / "other").mkdir()
        assert load_key(tmp_path / "other") != key

    def test_digests_are_keyed(self, tmp_path: Path) -> None:
        """Equal arguments are found within an audit, and cannot be guessed from another."""
        one, two = Journal(tmp_path / "one"), Journal(tmp_path / "two")
        assert one.digest(b"x") == Journal(tmp_path / "one").digest(b"x") != two.digest(b"x")
        assert one.digest(b"x") != one.digest(b"y")
        prefix, _, digits = one.digest(b"x").partition(":")
        assert (prefix, len(digits), int(digits, 16) >= 0) == ("hmac-sha256", 64, True)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_one_that_others_can_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        load_key(tmp_path)
        (tmp_path / "key").chmod(mode)
        with pytest.raises(AuditError, match="open to other users: run `chmod 600`"):
            load_key(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
    def test_a_damaged_one_is_refused(self, tmp_path: Path, content: bytes) -> None:
        """Going on with another key would make equal arguments look different."""
        (tmp_path / "key").touch(0o600)
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(AuditError, match="is damaged"):
            load_key(tmp_path)

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_bytes(b"x" * 32)
        (tmp_path / "elsewhere").chmod(0o600)
        (tmp_path / "key").symlink_to("elsewhere")
        with pytest.raises(AuditError, match="cannot use the audit's key"):
            load_key(tmp_path)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_what_is_no_file_is_refused(self, tmp_path: Path, make: object) -> None:
        """A pipe in its place must not make the program wait."""
        assert callable(make)
        make(tmp_path / "key", 0o600)
        with pytest.raises(AuditError, match="is not a file of this user"):
            load_key(tmp_path)

    def test_a_journal_does_not_write_without_a_key(self, tmp_path: Path) -> None:
        prepare(tmp_path / "audit")
        (tmp_path / "audit" / "key").mkdir()
        with pytest.raises(AuditError, match="audit's key"):
            Journal(tmp_path / "audit").digest(b"")
