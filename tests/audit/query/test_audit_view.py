"""The view `audit` over journals as they are found: torn, foreign, hostile."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import duckdb
import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import connect, unreadable_lines
from aegis_otel.audit.query.views import VIEWS
from aegis_otel.audit.record import COLUMNS
from aegis_otel.errors import AuditError, ConfigError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, encode_line, files, select, statuses


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """An audit with a file of an ended writer, to be written to by hand."""
    (tmp_path / "aegis_audit" / "journal").mkdir(parents=True, mode=0o700)
    return tmp_path / "aegis_audit"


def write(audit: Path, *lines: bytes, name: str = "host-1-aa-000001.jsonl") -> None:
    with (audit / "journal" / name).open("ab") as file:
        file.write(b"".join(lines))


def test_the_columns_are_those_of_the_record(audit: Path) -> None:
    """Inventory 96: names, order and types are the contract."""
    types = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}
    found = select(audit, "SELECT column_name, column_type FROM (DESCRIBE audit)")
    assert [(name, types.get(kind, kind)) for name, kind in found] == [(c.name, c.sql_type) for c in COLUMNS]


def test_lines_of_a_call_fold_into_a_row(audit: Path) -> None:
    """The last value of each column counts, a line without one changes nothing, and the time is the first."""
    write(
        audit,
        encode_line(decided(result_status="pending", reason="first")),
        encode_line(
            completed(stage="resolved", result_status="open", human_decision="approved", duration_s=None)
        ),
        encode_line(completed(result_status="failed", result_error="boom")),
    )
    columns = "timestamp::VARCHAR, result_status, human_decision, result_error, reason, duration_s"
    assert select(audit, f"SELECT {columns} FROM audit") == [
        ("2026-11-22 14:30:00+00", "failed", "approved", "boom", "first", 1.0)
    ]


def test_a_second_question_overrides_the_first_answer(audit: Path) -> None:
    """Lines of one kind count in the order of their times, wherever they stand."""
    first, second = (
        completed(
            stage="resolved", result_status=status, human_decision=answer, duration_s=None, timestamp=time
        )
        for status, answer, time in (
            ("pending", "approved", "2026-11-22T14:30:02.000001+00:00"),
            ("denied", "denied", "2026-11-22T14:30:02.000002+00:00"),
        )
    )
    write(audit, encode_line(second), encode_line(decided()), encode_line(first))
    assert select(audit, "SELECT result_status, human_decision FROM audit") == [("denied", "denied")]


def test_a_call_may_be_ended_by_another_process(audit: Path) -> None:
    """A call that was approved later, elsewhere, is one row; whether it runs is asked of its last writer."""
    write(audit, encode_line(decided(result_status="pending")), name="z-000001.jsonl")
    journal = Journal(audit)
    journal.append(completed(stage="resolved", result_status="open", duration_s=None))
    assert list(statuses(audit).values()) == ["open"]
    journal.close()
    assert list(statuses(audit).values()) == ["unknown"]
    write(audit, encode_line(completed()), name="a-000001.jsonl")
    assert list(statuses(audit).values()) == ["success"]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b'{"stage":"decided","decision_id":"torn","times', id="torn by a crash"),
        pytest.param(b"\xff\xfe\x00garbage\n", id="no text"),
        pytest.param(b"[1, 2]\n", id="no object"),
        pytest.param(b"null\n", id="null"),
        pytest.param(b"\0" * 4_096 + b"\n", id="zeroes of a crashed file system"),
        pytest.param(b"[" * 100_000 + b"\n", id="deep"),
        pytest.param(b"x" * 40_000_000 + b"\n", id="longer than any buffer"),
        pytest.param(b'{"stage":"decided","decision_id":"\\ud800"}\n', id="lone surrogate"),
        pytest.param(b'{"stage":"decided","decision_id":""}\n', id="no id"),
        pytest.param(b'{"decision_id":"x"}\n', id="no stage"),
        pytest.param(b'{"stage":"invented","decision_id":"x"}\n', id="unknown stage"),
        pytest.param(
            b'{"stage":"decided","decision_id":"x"}{"stage":"decided","decision_id":"y"}\n', id="two"
        ),
    ],
)
def test_a_line_that_is_no_record_is_left_out_and_counted(audit: Path, bad: bytes) -> None:
    """It costs no other row, is never taken for one, and is not passed over in silence."""
    write(audit, encode_line(decided(decision_id="before")), bad)
    write(audit, encode_line(decided(decision_id="after")), name="host-2-bb-000001.jsonl")
    with connect(audit) as connection:
        assert connection.execute("SELECT decision_id FROM audit ORDER BY 1 DESC").fetchall() == [
            ("before",),
            ("after",),
        ]
        assert unreadable_lines(connection) == 1


@pytest.mark.parametrize(
    ("bad", "column", "shown"),
    [
        (b'"timestamp":"yesterday"', "timestamp", None),
        (b'"timestamp":"infinity"', "timestamp", None),
        (b'"timestamp":"294247-01-01"', "timestamp", None),
        (b'"timestamp":"0044-03-15 (BC)"', "timestamp", None),
        (b'"timestamp":12', "timestamp", None),
        (b'"pid":"many"', "pid", None),
        (b'"pid":99999999999999999999', "pid", None),
        (b'"duration_s":"inf"', "duration_s", None),
        (b'"duration_s":"nan"', "duration_s", None),
        (b'"action_type":{"a":[1]}', "action_type", '{"a":[1]}'),
        (b'"action_params":"{not json"', "action_params", "{not json"),
        (b'"action_params":"{\\"n\\":1e999}"', "action_params", {"n": "1e999"}),
        (b'"action_params":"{\\"n\\":' + b"9" * 5_000 + b'}"', "action_params", '{"n":' + "9" * 5_000 + "}"),
        (b'"action_params":"\\"\\\\ud800\\""', "action_params", '"\\ud800"'),
    ],
)
def test_a_value_of_the_wrong_kind_costs_its_cell_only(
    audit: Path, bad: bytes, column: str, shown: object
) -> None:
    """The row stays, and can be read and exported."""
    write(audit, b'{"stage":"decided","decision_id":"x","matched_rule":"rule",' + bad + b"}\n")
    logger = AuditLogger(audit)
    (row,) = logger.get_log()
    assert (row[column], row["matched_rule"]) == (shown, "rule")
    assert logger.export_jsonl(audit / "out.jsonl") == 1


def test_a_file_with_a_name_of_its_own_is_read(audit: Path) -> None:
    """Such as a journal restored from a backup by hand."""
    write(audit, encode_line(decided()), name="restored copy.jsonl")
    write(audit, encode_line(decided(decision_id="x")), name=".hidden.new")
    assert list(statuses(audit).values()) == ["unknown"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_is_refused(audit: Path, make: object) -> None:
    """A pipe would be waited for, and a link could read anything."""
    assert callable(make)
    make(audit / "journal" / "x-000001.jsonl")
    with pytest.raises(AuditError, match=r"x-000001\.jsonl` is not a regular file"):
        connect(audit)


@pytest.mark.parametrize(
    "name",
    ["it's", 'say "x"', "[1]", "a*b?", "日本 é", "{a,b}", "%41", "; DROP TABLE audit; --", "new\nline"],
)
def test_the_path_may_have_any_characters(tmp_path: Path, name: str) -> None:
    """It is never taken for SQL or for a pattern."""
    Journal(tmp_path / name).append(decided(decision_id="mine"))
    Journal(tmp_path / "ab").append(decided(decision_id="not mine"))
    assert [row["decision_id"] for row in AuditLogger(tmp_path / name).get_log()] == ["mine"]


def test_sealed_rows_are_found_by_any_path(tmp_path: Path) -> None:
    """Which files of the lake count is told by their names, and DuckDB has its own way to write one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    names = ["it's [1] {a,b} 日本", "in//side", "trailing/", "to/../up", "link/below"]
    paths = [f"/{tmp_path}/two", f"//{tmp_path}/three", *(f"{tmp_path}/{name}" for name in names)]
    for path in paths:
        journal = Journal(path)
        journal.append(decided(decision_id="1"))
        journal.close()
        assert len(seal(journal.path).seals) == 1
        for file in files(journal.path):
            file.unlink()
    time.sleep(1.1)  # a seal counts for queries that begin a second later
    for path in paths:
        with connect(path) as connection:
            assert connection.execute("SELECT decision_id FROM audit").fetchall() == [("1",)], path


@pytest.mark.parametrize("name", ["back\\slash", "\udcff"])
def test_a_path_that_duckdb_cannot_read_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written: it could never be read."""
    for use in (AuditLogger, connect):
        with pytest.raises(ConfigError, match="DuckDB cannot read below"):
            use(tmp_path / name)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_no_audit_is_no_rows(tmp_path: Path) -> None:
    """Reading makes nothing; to SQL a missing audit is an error, since a wrong name would look like peace."""
    assert AuditLogger(tmp_path / "none").get_log() == []
    with pytest.raises(AuditError, match="no audit at"):
        connect(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert select(tmp_path / "empty", "SELECT count(*) FROM audit") == [(0,)]


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something else")
    with pytest.raises(AuditError, match="is not an audit directory"):
        connect(tmp_path)


def test_times_are_utc_wherever_the_reader_is(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    write(audit, encode_line(decided(timestamp="2026-11-22T16:30:00+02:00")))
    assert select(audit, "SELECT timestamp::VARCHAR, hour(timestamp) FROM audit") == [
        ("2026-11-22 14:30:00+00", 14)
    ]
    (row,) = AuditLogger(audit).get_log()
    assert row["timestamp"] == "2026-11-22T14:30:00.000000+00:00"


def test_readers_do_not_stop_writers(audit: Path) -> None:
    """Connections are opened and queried while one process writes: nothing fails, no row lacks."""
    journal = Journal(audit)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.extend(count for (count,) in select(audit, "SELECT count(*) FROM audit"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(2_000):
        journal.append(decided(decision_id=str(n), reason="x" * 1_000))
    stop.set()
    for reader in readers:
        reader.join()
    assert len(statuses(audit)) == 2_000
    assert seen


def test_only_the_views_of_the_audit_are_in_sight(audit: Path) -> None:
    """What `connect` needs of its own is not among the tables people are shown."""
    assert select(audit, "SHOW TABLES") == sorted([("audit",), *((view.name,) for view in VIEWS)])


def test_the_connection_cannot_write_to_the_audit(audit: Path) -> None:
    write(audit, encode_line(decided()))
    before = [file.read_bytes() for file in files(audit)]
    with connect(audit) as connection:
        with pytest.raises(duckdb.Error):
            connection.execute("DELETE FROM audit")
        connection.execute("CREATE TABLE notes AS SELECT * FROM audit")
    assert [file.read_bytes() for file in files(audit)] == before
