"""Files of rows: whole or not at all, for this user only, and exact where they promise it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pytest

from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.export import (
    csv_table,
    json_array,
    json_lines,
    write_file,
    write_jsonl,
    write_parquet,
)
from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.record import COLUMNS
from aegis_otel.errors import AuditError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided

ALL = Condition("true", [])
EVIL = "\x1b]0;x\x07\u202e\r\nforged,row"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_jsonl_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there stays until the new file is complete, and no draft is left."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    target.chmod(0o644)

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        assert target.read_text() == "old"
        raise AuditError("gone")

    with pytest.raises(AuditError, match="gone"):
        write_jsonl(target, rows())
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert target.read_text() == "old"
    assert write_jsonl(target, [{"a": 1}]) == 1
    assert (target.read_text(), mode(target)) == ('{"a": 1}\n', 0o600)


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The file it means is replaced, and the link stays."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_jsonl(tmp_path / "link", [{"a": 1}])
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "real").read_text()) == {"a": 1}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "there")
    with pytest.raises(AuditError, match="it is not a regular file"):
        write_jsonl(tmp_path / "there", [])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        AuditError, match=r"cannot export to .*: no such file or directory; choose another place"
    ):
        write_jsonl(tmp_path / "missing" / "out", [])

    def full(_: TextIO) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(AuditError, match=r"cannot export to .*: no space left on device; free some space"):
        write_file(tmp_path / "out", full)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "text"), [([], "[]\n"), ([{"a": 1}, {"a": "é"}], '[\n{"a": 1},\n{"a": "\\u00e9"}\n]\n')]
)
def test_a_json_array(rows: list[dict[str, Any]], text: str) -> None:
    file = io.StringIO()
    assert json_array(file, rows) == len(rows)
    assert file.getvalue() == text


def table(write: Callable[..., int], *values: Any) -> list[list[str]]:
    file = io.StringIO()
    assert write(file, [{"v": value} for value in values], ["v"]) == len(values)
    return list(csv.reader(io.StringIO(file.getvalue())))


class TestCsv:
    def test_values(self) -> None:
        """Numbers as they are, nothing as nothing, structures as JSON."""
        assert table(csv_table, 1, -2.5, None, True, "a,b", 'say "x"', {"k": [1]}) == [
            ["v"],
            ["1"],
            ["-2.5"],
            [""],
            ["true"],
            ["a,b"],
            ['say "x"'],
            ['{"k": [1]}'],
        ]

    def test_b44_a_row_is_a_line_and_acts_on_no_terminal(self) -> None:
        """B44: escape sequences, overrides of direction and line ends are shown, not written."""
        file = io.StringIO()
        csv_table(file, [{"v": EVIL}], ["v"])
        assert file.getvalue() == 'v\n"\\x1b]0;x\\x07\\u202e\\r\\nforged,row"\n'

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)"])
    def test_a_formula_is_text(self, text: str) -> None:
        """A spreadsheet would run it, and with it what an agent was told to write."""
        assert table(csv_table, text) == [["v"], ["'" + text]]


class TestParquet:
    @pytest.fixture
    def audit(self) -> duckdb.DuckDBPyConnection:
        logger = AuditLogger()
        for n in range(5):
            time = f"2026-11-22T1{n}:00:00.000000+00:00"
            logger.append(decided(decision_id=f"id-{n}", timestamp=time, reason=EVIL, duration_s=n / 4))
        return connect()

    def test_it_has_the_rows_exactly(self, audit: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
        """Read by another engine: the columns, the values, oldest first; for this user only."""
        import polars

        assert write_parquet(tmp_path / "o'ut.parquet", audit, ALL, None) == 5
        frame = polars.read_parquet(tmp_path / "o'ut.parquet")
        assert frame.columns == [column.name for column in COLUMNS]
        assert frame["decision_id"].to_list() == [f"id-{n}" for n in range(5)]
        assert frame["reason"].to_list() == [EVIL] * 5
        assert frame["duration_s"].to_list() == [0, 0.25, 0.5, 0.75, 1]
        assert frame["timestamp"].dtype == polars.Datetime("us", "UTC")
        assert [json.loads(text) for text in frame["action_params"]] == [{"document_id": "42"}] * 5
        assert mode(tmp_path / "o'ut.parquet") == 0o600

    def test_filters_and_limit(self, audit: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
        """The newest that match."""
        condition = Condition("decision_id < ?", ["id-3"])
        assert write_parquet(tmp_path / "out", audit, condition, 2) == 2
        found = duckdb.read_parquet(str(tmp_path / "out")).project("decision_id").fetchall()
        assert found == [("id-1",), ("id-2",)]

    def test_an_old_file_survives_a_failure(self, audit: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("old")
        with pytest.raises(AuditError, match="cannot export the audit"):
            write_parquet(tmp_path / "out", audit, Condition("error('no')", []), None)
        assert (tmp_path / "out").read_text() == "old"
        assert {path.name for path in tmp_path.iterdir()} == {"out", "aegis_audit"}

    @pytest.mark.parametrize("name", [b"\xff", b"a\\b"])
    def test_a_place_that_duckdb_cannot_name(
        self, audit: duckdb.DuckDBPyConnection, tmp_path: Path, name: bytes
    ) -> None:
        """A file's name need not be UTF-8, but DuckDB's text must be; the directory is what counts."""
        place = tmp_path / os.fsdecode(name)
        place.mkdir()
        with pytest.raises(AuditError, match="DuckDB cannot write below a name"):
            write_parquet(place / "out", audit, ALL, None)
        place.rmdir()
        assert write_parquet(place, audit, ALL, None) == 5


def test_json_lines_are_told_apart(tmp_path: Path) -> None:
    """One row is one line, whatever is in it."""

    def write(file: TextIO) -> int:
        return json_lines(file, [{"v": EVIL}, {"v": 2}])

    assert write_file(tmp_path / "out", write) == 2
    lines = (tmp_path / "out").read_text().splitlines()
    assert [json.loads(line)["v"] for line in lines] == [EVIL, 2]
