"""`aegis audit sql` as it is typed; what a query can do is in tests/audit/query/test_sandbox.py."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.record import COLUMNS
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided

EVIL = "\x1b[2K\x1b]0;x\x07\u202e\r\n=[bold]x"
COUNT = "SELECT risk_level, count(*) AS calls FROM audit GROUP BY 1 ORDER BY 1"


@pytest.fixture(autouse=True)
def audit() -> AuditLogger:
    """Three rows in the default place."""
    logger = AuditLogger()
    for n, risk in enumerate(("LOW", "LOW", "HIGH")):
        logger.append(decided(decision_id=f"id-{n}", risk_level=risk))
    return logger


def ask(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["audit", "sql", *arguments], catch_exceptions=False, **options)


class TestFormat:
    def test_a_table_for_people(self) -> None:
        """Numbers to the right."""
        lines = [line.strip() for line in ask(COUNT).stdout.splitlines() if line.strip(" \u2500")]
        assert lines == ["risk_level  calls", "HIGH            1", "LOW             2"]

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("json", '[\n{"risk_level": "HIGH", "calls": 1},\n{"risk_level": "LOW", "calls": 2}\n]\n'),
            ("jsonl", '{"risk_level": "HIGH", "calls": 1}\n{"risk_level": "LOW", "calls": 2}\n'),
            ("csv", "risk_level,calls\nHIGH,1\nLOW,2\n"),
        ],
    )
    def test_for_programs(self, form: str, expected: str) -> None:
        """Nothing but data; and the same into a file, for this user only."""
        result = ask(COUNT, "--format", form)
        assert (result.exit_code, result.stdout, result.stderr) == (0, expected, "")
        assert ask(COUNT, "--output", f"out.{form}").stdout == f"Exported 2 entries to out.{form}\n"
        assert Path(f"out.{form}").read_text() == expected
        assert stat.S_IMODE(Path(f"out.{form}").stat().st_mode) == 0o600

    @pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
    def test_a_dash_is_standard_output(self, form: str) -> None:
        to_file = ask(COUNT, "--format", form, "-o", "-")
        assert (to_file.exit_code, to_file.stdout, to_file.stderr) == (
            *(0, ask(COUNT, "--format", form).stdout, ""),
        )
        assert ask(COUNT, "--output", "-").stdout == ask(COUNT, "--format", "jsonl").stdout
        assert not Path("-").exists()

    def test_parquet(self) -> None:
        result = ask(COUNT, "-o", "out.parquet")
        assert (result.exit_code, result.stdout) == (0, "Exported 2 entries to out.parquet\n")
        assert duckdb.read_parquet("out.parquet").fetchall() == [("HIGH", 1), ("LOW", 2)]
        assert stat.S_IMODE(Path("out.parquet").stat().st_mode) == 0o600

    def test_no_rows(self) -> None:
        empty = "SELECT decision_id FROM audit WHERE false"
        assert [ask(empty, "--format", form).stdout for form in ("json", "jsonl", "csv")] == [
            "[]\n",
            "",
            "decision_id\n",
        ]
        assert "decision_id" in ask(empty).stdout

    def test_a_row_too_wide_for_the_terminal_has_a_line_for_each_value(self) -> None:
        lines = ask("FROM audit ORDER BY decision_id", env={"COLUMNS": "80"}).stdout.splitlines()
        assert lines[0] == "decision_id         id-0"
        assert lines[2] == "timestamp           2026-11-22 14:30:00"
        assert lines[5] == 'action_params       {"document_id": "42"}'
        assert lines[6] == "args_digest         -"
        assert len(lines) == 3 * (len(COLUMNS) + 1)

    def test_a_table_has_an_end_and_says_so(self) -> None:
        out = ask("FROM range(1000000000000)").stdout
        assert out.splitlines()[-1] == "The first 1000 rows: all with --format jsonl or --output."
        assert len(out.splitlines()) < 1_010

    def test_b44_nothing_in_a_value_or_a_name_acts_on_the_terminal(self) -> None:
        """B44: escaped in every format, in tables of both shapes."""
        quoted = EVIL.replace('"', '""')
        sql = f"SELECT '{EVIL}' AS \"{quoted}\""
        for form, width in (("table", "30"), ("table", "200"), ("json", "80"), ("csv", "80")):
            out = ask(sql, "--format", form, env={"COLUMNS": width}).stdout
            assert not re.search(r"[^\n\x20-\x7e\u2500]", out), form
            out = out.replace("'=", "=")  # of the formula in CSV
            assert out.count(r"\x1b[2K\x1b]0;x\x07\u202e\r\n=[bold]x") == (0 if form == "json" else 2)


class TestFailure:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("DROP VIEW audit",), "Error: the statement is not one SELECT: only reading is possible here"),
            (("SELCT 1",), 'Error: syntax error at or near "SELCT"'),
            (("SELECT nope FROM audit",), 'Error: Referenced column "nope" not found'),
            (("SELECT '\x1b[2J' FROM nope\x1b",), "Error: "),
            ((), "give one query, in quotes"),
            (("--views", "FROM audit"), "--views takes no query"),
            (("FROM audit", "--format", "parquet"), "say where with --output FILE"),
            (("FROM audit", "--format", "table", "-o", "x"), "--output does not go with --format table"),
            (("FROM audit", "--format", "parquet", "-o", "-"), "parquet needs a file"),
            (("FROM audit", "-o", ""), "give the file a name"),
            (("SELECT 'x'::INT",), "Error: Could not convert string 'x' to INT32"),
            (("FROM audit WHERE timestamp > 'yesterday'",), "Error: invalid timestamp field format"),
            (("FROM audit", "--timeout", "0"), "0 is not in the range"),
            (("FROM audit", "--timeout", "soon"), "is not a valid float"),
        ],
    )
    def test_wrong_usage(self, arguments: tuple[str, ...], expected: str) -> None:
        """Exit code 2, one line of ours, no data, no file."""
        result = ask(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert expected in result.stderr
        assert "\x1b" not in result.stderr
        assert sorted(path.name for path in Path().iterdir()) == ["aegis_audit"]

    @pytest.mark.parametrize("output", [(), ("-o", "out.csv"), ("-o", "out.parquet")])
    def test_a_query_that_takes_too_long(self, output: tuple[str, ...]) -> None:
        """Exit code 1, one line, and an older file stays as it was."""
        for name in output[1:]:
            Path(name).write_text("old")
        result = ask(
            "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
            "--timeout",
            "1",
            *output,
        )
        assert result.exit_code == 1
        assert (
            result.stderr
            == "Error: the query took longer than 1 s and was stopped: narrow it or give it more\n"
        )
        assert [Path(name).read_text() for name in output[1:]] == ["old"] * len(output[1:])
        assert {path.name for path in Path().iterdir()} == {"aegis_audit", *output[1:]}

    def test_no_audit(self, tmp_path: Path) -> None:
        result = ask("FROM audit", "--path", "nowhere")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"no audit at `{tmp_path}/nowhere` (")

    def test_what_cannot_be_read_is_told_beside_the_answer(self, audit: AuditLogger) -> None:
        """An answer without some of the rows must not look like one with all."""
        (audit.path / "journal" / "torn.jsonl").write_text('{"stage":"dec')
        result = ask("SELECT count(*) AS calls FROM audit", "--format", "csv")
        assert (result.exit_code, result.stdout) == (0, "calls\n3\n")
        assert result.stderr == "Journal lines left out because they cannot be read: 1\n"

    def test_ctrl_c_ends_it(self) -> None:
        """At once, and without a traceback; nothing of it is left running."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "aegis_otel",
                "audit",
                "sql",
                "SELECT i FROM range(1000000000000) t(i)",
                "--format",
                "csv",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "i\n"  # it is under way
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err.strip()) == (1, "Aborted!")
        assert time.monotonic() - begun < 10
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


def test_views_for_other_tools() -> None:
    """`--views` prints SQL, and only SQL, that a plain DuckDB runs."""
    with duckdb.connect() as plain:
        plain.execute(ask("--views").stdout)
        assert plain.execute(COUNT).fetchall() == [("HIGH", 1), ("LOW", 2)]
        assert plain.execute("SELECT sum(calls) FROM decisions_by_rule").fetchall() == [(3,)]


def test_options_before_the_command_are_its_own(audit: AuditLogger) -> None:
    """`aegis audit --path DIR --format csv sql ...`; one that means nothing to it is refused."""
    audit.close()
    Path("aegis_audit").rename("other")
    runner = CliRunner()
    result = runner.invoke(main, ["audit", "--path", "other", "--format", "csv", "sql", COUNT])
    assert result.stdout == "risk_level,calls\nHIGH,1\nLOW,2\n"
    result = runner.invoke(main, ["audit", "--path", "other", "--risk", "low", "sql", COUNT])
    assert result.exit_code == 2
    assert "does not go with `sql`" in result.stderr


def test_json_has_the_arguments_as_they_are() -> None:
    (row,) = json.loads(ask("SELECT action_params FROM audit LIMIT 1", "--format", "json").stdout)
    assert row == {"action_params": {"document_id": "42"}}
