"""`aegis audit export`, and files by `--output`; tests/audit/query/test_export.py has what is in them."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.cli.audit.test_audit import in_a_terminal
from tests.support.records import decided


@pytest.fixture
def audit() -> AuditLogger:
    """Four rows, an hour apart."""
    logger = AuditLogger()
    for n, risk in enumerate(("LOW", "HIGH", "HIGH", "LOW")):
        time = f"2026-11-22T1{n}:00:00+00:00"
        logger.append(decided(decision_id=str(n), timestamp=time, risk_level=risk, tool_name=f"tool-{n}"))
    return logger


def aegis(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], catch_exceptions=False)


def ids(path: str) -> str:
    """What a file has, in its order, by its suffix."""
    if path.endswith("parquet"):
        return "".join(id for (id,) in duckdb.read_parquet(path).project("decision_id").fetchall())
    text = Path(path).read_text()
    if path.endswith("csv"):
        return "".join(line.partition(",")[0] for line in text.splitlines()[1:])
    rows = json.loads(text) if path.endswith("json") else [json.loads(line) for line in text.splitlines()]
    return "".join(row["decision_id"] for row in rows)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("export", "out.jsonl"),
        ("export", "out.json"),
        ("export", "out.csv"),
        ("export", "out.parquet"),
        ("export", "out"),
        ("--output", "out.csv"),
        ("-o", "out.parquet"),
        ("--export", "out"),
    ],
)
def test_all_rows_oldest_first_in_the_format_of_the_suffix(
    audit: AuditLogger, command: str, file: str
) -> None:
    """JSON lines where it says nothing."""
    result = aegis(command, file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"Exported 4 entries to {file}\n", "")
    assert ids(file) == "0123"


@pytest.mark.parametrize(
    ("file", "filters", "found"),
    [
        ("out.jsonl", ("--risk", "high"), "12"),
        ("out.json", ("--status", "open", "--limit", "3"), "123"),
        ("out.csv", ("--since", "2026-11-22T11:30", "--until", "2026-11-22T13:00"), "2"),
        ("out.parquet", ("--risk-level", "HIGH", "--limit", "1"), "2"),
        ("out.parquet", ("--action-type", "none"), ""),
        ("out.csv", ("--tool", "tool-3"), "3"),
    ],
)
def test_b43_inventory_104_filters_apply_to_every_format(
    audit: AuditLogger, file: str, filters: tuple[str, ...], found: str
) -> None:
    """B43: before and after the name of the command, and without it."""
    for arguments in (("export", *filters, file), (*filters, "export", file), (*filters, "-o", file)):
        assert aegis(*arguments).exit_code == 0
        assert ids(file) == found


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("command", [("export", "-"), ("--output", "-"), ("-o", "-")])
def test_a_dash_is_standard_output(audit: AuditLogger, command: tuple[str, ...], form: str) -> None:
    """Nothing but what the file would have, oldest first, by the filters; JSON lines by itself."""
    assert aegis("export", f"out.{form}", "--risk", "high").exit_code == 0
    result = aegis("--risk", "high", "--format", form, *command)
    assert (result.exit_code, result.stdout, result.stderr) == (0, Path(f"out.{form}").read_text(), "")
    assert (aegis(*command).stdout == aegis("export", "-", "--format", form).stdout) is (form == "jsonl")
    assert not Path("-").exists()


def test_a_format_wins_over_the_suffix(audit: AuditLogger) -> None:
    aegis("export", "--format", "csv", "out.json")
    assert Path("out.json").read_text().startswith("decision_id,session_id,")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("export",), 2, "Missing argument 'FILE'"),
        (("export", "--format", "table", "out"), 2, "'json', 'jsonl', 'csv', 'parquet'"),
        (("--output", "out", "export", "other"), 2, "--export does not go with `export`"),
        (("--output", "out", "--follow"), 2, "--output does not go with --follow"),
        (("--format", "parquet"), 2, "--format parquet is a file: say where with --output FILE"),
        (("export", "--format", "parquet", "-"), 2, "parquet needs a file: it cannot go to standard output"),
        (("--format", "parquet", "-o", "-"), 2, "parquet needs a file: it cannot go to standard output"),
        (("export", ""), 2, "give the file a name, or `-` for standard output"),
        (("export", "--since", "yesterday", "out"), 2, "`since` is `yesterday`"),
        (("export", "missing/out.csv"), 1, "no such file or directory; choose another place"),
        (("export", "."), 1, "it is not a regular file"),
        (("export", "--path", "nowhere", "out"), 1, "no audit at"),
    ],
)
def test_b43_wrong_usage_writes_nothing(
    audit: AuditLogger, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    """B43: a line, an exit code, and no file."""
    result = aegis(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert expected in result.stderr
    assert [path.name for path in Path().iterdir()] == ["aegis_audit"]


@pytest.mark.parametrize("file", ["out.jsonl", "out.parquet"])
def test_a_terminal_sees_that_it_works(audit: AuditLogger, file: str) -> None:
    """A bar or a spinner beside the data, gone at the end."""
    assert "Exporting" in in_a_terminal("audit", "export", file)
