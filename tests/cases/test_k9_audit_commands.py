"""What `aegis audit` prints: to people who make a mistake, on narrow terminals, into pipes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.query.views import VIEWS
from aegis_otel.audit.record import COLUMNS
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided

LONG = "reconcile_customer_ledger_entries_with_the_bank_statement"
CONVERSATION = "conv_689667905b048191b4740501625afd940c7533ace33a2dab"


def ask(*arguments: str, columns: int | None = None) -> Result:
    return CliRunner().invoke(
        main, ["audit", *arguments], env={"COLUMNS": None if columns is None else str(columns)}
    )


@pytest.fixture(autouse=True)
def rows() -> None:
    logger = AuditLogger()
    logger.append(
        decided(risk_level="HIGH", agent_name="Billing", conversation_id=CONVERSATION, action_type=LONG)
    )
    logger.append(decided(decision_id="01930000-0000-7000-8000-000000000002", risk_level="CRITICAL"))
    logger.close()


def test_k9_3_no_rows() -> None:
    """A query without rows says so, and names the columns; also of a table that would not fit."""
    result = ask("sql", "SELECT * FROM audit WHERE false", columns=80)
    assert result.exit_code == 0
    assert result.stdout.startswith("No rows")
    assert "risk_level" in result.stdout


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("risk_level = 'high'", "LOW, MEDIUM, HIGH, CRITICAL"),
        ("risk_level IN ('Critical', 'none')", "LOW, MEDIUM, HIGH, CRITICAL"),
        ("result_status = 'BLOCKED'", "results are in small letters: "),
    ],
)
def test_k9_3_spelling_of_values(text: str, hint: str) -> None:
    """Where nothing is found because a level or a result is spelled otherwise, that is said."""
    result = ask("sql", f"SELECT decision_id FROM audit WHERE {text}")
    assert (result.exit_code, hint in result.stderr) == (0, True)


def test_k9_3_unknown_views_and_columns() -> None:
    """A name that is not there is answered with those that are."""
    table = ask("sql", "SELECT * FROM decisions")
    column = ask("sql", "SELECT risk FROM audit")
    assert (table.exit_code, column.exit_code) == (2, 2)
    assert all(f"`{view.name}`" in table.stderr for view in VIEWS)
    assert all(f"`{each.name}`" in column.stderr for each in COLUMNS)


@pytest.mark.parametrize("where", ['risk_level = "high"', 'risk_level IN ("high")', 'agent_name LIKE "high"'])
def test_k9_3_double_quotes(where: str) -> None:
    """A text in double quotes is explained, and so is its spelling."""
    result = ask("sql", f"SELECT * FROM audit WHERE {where}")
    assert result.exit_code == 2
    assert "single quotes, as 'high'" in result.stderr
    assert "risk levels are in capitals" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("sql", "SELECT action_type, conversation_id, reason FROM audit")])
def test_k9_4_in_a_pipe_nothing_wraps(arguments: tuple[str, ...]) -> None:
    """A row is a line, with whole names, however wide, and without colour."""
    done = subprocess.run(
        [sys.executable, "-m", "aegis_otel", "audit", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")},
    )
    (line,) = [line for line in done.stdout.splitlines() if LONG in line]
    assert CONVERSATION in line
    assert "\x1b" not in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.strip()]) == 4


@pytest.mark.parametrize("columns", [60, 80, 100, 119, 120, 160, 250])
def test_k9_4_names_are_not_broken(columns: int) -> None:
    """At any width a name is whole, and lines are no longer than the terminal where a table has room."""
    out = ask(columns=columns).stdout
    assert LONG in out
    if columns >= 80:
        assert all(len(line) <= columns for line in out.splitlines())


@pytest.mark.parametrize("columns", [80, 100, 140, 200])
def test_k9_4_agent_and_conversation(columns: int) -> None:
    """They are shown, and the session, one value a process, is not."""
    out = ask(columns=columns).stdout
    assert "Billing" in out
    assert CONVERSATION[-10:] in out
    assert "Session" not in out


@pytest.mark.parametrize("columns", [80, 120])
def test_k9_4_on_a_terminal(columns: int) -> None:
    """On a real terminal of that width no line is longer than it is."""
    leader, follower = pty.openpty()
    environment = dict(os.environ, TERM="xterm", COLUMNS=str(columns))
    command = [sys.executable, "-m", "aegis_otel", "audit"]
    with subprocess.Popen(command, stdout=follower, env=environment) as process:
        os.close(follower)
        out = b""
        try:
            while chunk := os.read(leader, 65_536):
                out += chunk
        except OSError:  # the other end is closed
            pass
        assert process.wait() == 0
    os.close(leader)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.decode()).split("\r\n")
    assert any(LONG in line for line in lines)
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--format", form) for form in ("table", "json", "jsonl", "csv")),
        *(("sql", "FROM audit"), ("sql", "FROM audit", "--format", "csv"), ("show", "00000001"), ("stats",)),
    ],
    ids=" ".join,
)
def test_k9_12_head(arguments: tuple[str, ...]) -> None:
    """Whoever stops reading causes no message, and the code of a program that SIGPIPE ends."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "aegis_otel", "audit", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("command", [["stats"], ["show", "1"], ["verify"], ["seal"], ["export", "-"]])
def test_k9_3_the_audit_of_another_user(command: list[str], tmp_path: Path) -> None:
    """Whoever may not look into the audit reads which directory it is, and what to do."""
    audit = tmp_path / "aegis_audit"
    AuditLogger(audit).append(decided())
    code = """
import os, sys
from click.testing import CliRunner
from aegis_otel.cli import main
CliRunner().invoke(main, sys.argv[1:])  # imports what the other user may not be able to read
os.setuid(65534)
main()
"""
    run = subprocess.run(
        [sys.executable, "-c", code, "audit", *command, "--path", audit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = (
        f"Error: cannot read the audit at `{audit}`: permission denied; run this as the user that writes it\n"
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "", said)
