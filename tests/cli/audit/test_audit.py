"""`aegis audit` as it is typed, and the frame around every command."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.semconv import __version__
from tests.support.records import decided, python


@pytest.fixture
def audit() -> AuditLogger:
    """Five rows in the default place, an hour apart from 12:00 UTC on."""
    logger = AuditLogger()
    for n, values in enumerate(
        (
            {
                "risk_level": "LOW",
                "result_status": "success",
                "action_type": "web_search",
                "action_target": "web",
                "tool_name": "search",
            },
            {
                "risk_level": "HIGH",
                "result_status": "success",
                "human_decision": "approved",
                "agent_name": "Writer",
            },
            {
                "risk_level": "HIGH",
                "result_status": "denied",
                "human_decision": "denied",
                "session_id": "other",
            },
            {"risk_level": "CRITICAL", "result_status": "blocked", "matched_rule": "block_deletes"},
            {"risk_level": "MEDIUM", "result_status": "pending"},
        )
    ):
        time = f"2026-11-22T{12 + n}:00:00.000000+00:00"
        logger.append(decided(**{"decision_id": f"id-{n}", "timestamp": time} | values))
    return logger


def aegis(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False, **options)


def shown(*arguments: str) -> str:
    """The ids that a query finds, in order."""
    result = aegis("audit", *arguments, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    return "".join(row["decision_id"][-1] for row in json.loads(result.stdout))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "43210"),
        (("--risk", "high"), "21"),
        (("--risk", "HIGH"), "21"),
        (("--status", "blocked"), "3"),
        (("--status", "BLOCKED"), "3"),
        (("--risk", "high", "--status", "denied"), "2"),
        (("--session", "other"), "2"),
        (("--rule", "block_deletes"), "3"),
        (("--agent", "Writer"), "1"),
        (("--since", "2026-11-22T14:00:00"), "432"),
        (("--since", "2026-11-22T16:00:00+02:00", "--until", "2026-11-22T15:00Z"), "2"),
        (("--limit", "2"), "43"),
        (("--db", "aegis_audit.db"), "43210"),
        (("--path", "aegis_audit", "--risk", "low"), "0"),
        (("--rule", "none"), ""),
        (("--tool", "search"), "0"),
        (("--risk-level", "medium"), "4"),
        (("--type", "web_search"), "0"),
        (("--action-type", "delete_document", "--since", "2026-11-22T14:00"), "432"),
        (("--until", "52w"), ""),
    ],
)
def test_b04_inventory_100_to_104_flags(audit: AuditLogger, arguments: tuple[str, ...], found: str) -> None:
    """B04: the tutorial's flags as printed, and ours; newest first, and all of them must hold."""
    assert shown(*arguments) == found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--user", "alice"), "20"),
        (("--user", "alice", "--tenant", "acme"), "0"),
        (("--tenant", "globex"), "21"),
        (("--conversation", "c-1"), "1"),
        (("--approver", "bob"), "2"),
        (("--mode", "MONITOR"), "1"),
        (("--mode", "enforce", "--user", "mallory"), ""),
    ],
)
def test_whose_calls_they_are(arguments: tuple[str, ...], found: str) -> None:
    logger = AuditLogger()
    for n, values in enumerate(
        (
            {"user_id": "alice", "tenant_id": "acme", "user_roles": '["clerk"]', "mode": "enforce"},
            {"user_id": "mallory", "tenant_id": "globex", "conversation_id": "c-1", "mode": "monitor"},
            {"user_id": "alice", "tenant_id": "globex", "approver": "bob", "human_decision": "denied"},
        )
    ):
        time = f"2026-11-22T{12 + n}:00:00.000000+00:00"
        logger.append(decided(**{"decision_id": f"id-{n}", "timestamp": time} | values))
    assert shown(*arguments) == found
    told = aegis("audit", "show", "id-0").stdout
    assert [line.split()[-1] for line in told.splitlines() if "user " in line or "tenant " in line] == [
        "alice",
        "acme",
    ]


def test_the_directory_can_be_given_by_the_environment(
    audit: AuditLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.close()
    Path("aegis_audit").rename("elsewhere")
    monkeypatch.setenv("AEGIS_AUDIT_DIR", "elsewhere.db")
    assert shown() == "43210"


class TestExport:
    def test_inventory_103_b04_json_lines(self, audit: AuditLogger) -> None:
        """The tutorial's command: every entry as a line of JSON, oldest first, for this user only."""
        result = aegis("audit", "--export", "audit_export.jsonl")
        assert (result.exit_code, result.stdout) == (0, "Exported 5 entries to audit_export.jsonl\n")
        lines = Path("audit_export.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == audit.get_log()[::-1]
        assert stat.S_IMODE(Path("audit_export.jsonl").stat().st_mode) == 0o600

    def test_b43_filters_apply(self, audit: AuditLogger) -> None:
        """B43: not all rows whatever was asked for."""
        result = aegis("audit", "--risk", "critical", "--export", "out.jsonl")
        assert result.stdout == "Exported 1 entry to out.jsonl\n"
        assert json.loads(Path("out.jsonl").read_text())["risk_level"] == "CRITICAL"
        aegis("audit", "--limit", "2", "--export", "out.jsonl")
        assert [json.loads(line)["decision_id"] for line in Path("out.jsonl").read_text().splitlines()] == [
            "id-3",
            "id-4",
        ]

    def test_b43_a_directory_is_a_clear_error(self, audit: AuditLogger, tmp_path: Path) -> None:
        """B43: not a traceback."""
        result = aegis("audit", "--export", str(tmp_path))
        assert (result.exit_code, result.stderr) == (
            1,
            f"Error: cannot export to `{tmp_path}`: it is not a regular file\n",
        )

    def test_a_table_is_no_file(self, audit: AuditLogger) -> None:
        result = aegis("audit", "--export", "out", "--format", "table")
        assert result.exit_code == 2
        assert "--output does not go with --format table" in result.stderr
        assert not Path("out").exists()


class TestFormat:
    def test_json_and_jsonl_are_the_rows(self, audit: AuditLogger) -> None:
        """Nothing but data on standard output, equal to what the library gives."""
        assert json.loads(aegis("audit", "--format", "json").stdout) == audit.get_log()
        lines = aegis("audit", "--format", "jsonl").stdout.splitlines()
        assert [json.loads(line) for line in lines] == audit.get_log()

    def test_no_entries(self, audit: AuditLogger) -> None:
        """Inventory 105: said in words to people, as an empty list to programs; finding none is fine."""
        results = [aegis("audit", "--rule", "none", "--format", form) for form in ("table", "json", "jsonl")]
        assert [result.stdout for result in results] == ["No audit entries found.\n", "[]\n", ""]
        assert [result.exit_code for result in results] == [0, 0, 0]

    def test_unreadable_lines_are_told_beside_the_data(self, audit: AuditLogger) -> None:
        """A torn line is not passed over in silence, and does not spoil the JSON."""
        (audit.path / "journal" / "torn.jsonl").write_text('{"stage":"dec')
        result = aegis("audit", "--format", "json")
        assert len(json.loads(result.stdout)) == 5
        assert result.stderr == "Journal lines left out because they cannot be read: 1\n"


class TestTable:
    def test_inventory_105_narrow(self, audit: AuditLogger) -> None:
        """At 80 columns: what was to be done, by which rule, how bad it is, the decision, what came of it."""
        time, delete = "11-22", "delete_document -> storage"
        assert ["|".join(re.split(r"  +", line)) for line in table(80)] == [
            "|Action -> Target",
            "Time (UTC)|(Rule)|Risk|Decision|Result|ID",
            f"{time} 16:00|{delete}|MEDIUM|auto|pending|id-4",
            "|(rule)",
            f"{time} 15:00|{delete}|CRITICAL|auto|blocked|id-3",
            "|(block_deletes)",
            f"{time} 14:00|{delete}|HIGH|denied|denied|id-2",
            "|(rule)",
            f"{time} 13:00|{delete}|HIGH|approved|success|id-1",
            "|(rule)",
            "|Writer",
            f"{time} 12:00|web_search -> web|LOW|auto|success|id-0",
            "|(rule)",
        ]

    def test_inventory_105_wide(self, audit: AuditLogger) -> None:
        """With room for it: the year, agent and decision too."""
        day, delete = "2026-11-22", "delete_document -> storage"
        assert ["|".join(re.split(r"  +", line)) for line in table(140)] == [
            "Time (UTC)|Agent|Action -> Target|Risk|Decision|Rule|Result|ID",
            f"{day} 16:00:00|-|{delete}|MEDIUM|auto|rule|pending|id-4",
            f"{day} 15:00:00|-|{delete}|CRITICAL|auto|block_deletes|blocked|id-3",
            f"{day} 14:00:00|-|{delete}|HIGH|denied|rule|denied|id-2",
            f"{day} 13:00:00|Writer|{delete}|HIGH|approved|rule|success|id-1",
            f"{day} 12:00:00|-|web_search -> web|LOW|auto|rule|success|id-0",
        ]

    @pytest.mark.parametrize("width", [20, 50, 60, 80, 100, 140])
    def test_no_table_leaves_out_the_decision(self, audit: AuditLogger, width: int) -> None:
        ran = aegis("audit", env={"COLUMNS": str(width)})
        assert "approved" in ran.stdout
        assert ran.stderr == ""

    def test_wide_characters_keep_the_columns_in_line(self, audit: AuditLogger) -> None:
        """Characters of two columns and accents of none are counted as a terminal shows them."""
        audit.append(decided(decision_id="wide", agent_name="代理人", matched_rule="re\u0301gle"))
        lines = aegis("audit", env={"COLUMNS": "140"}).stdout.splitlines()
        ends = {cell_len(line) - len(line.rsplit(maxsplit=1)[-1]) for line in lines if line[1:2].isdigit()}
        assert len(ends) == 1

    def test_sixty_columns(self, audit: AuditLogger) -> None:
        """Rule goes below the action, result and risk below the decision; all stay whole."""
        delete = "delete_document -> storage"
        assert table(60) == [
            "                                         Decision",
            "             Action -> Target            Result",
            "Time (UTC)   (Rule)                      Risk      ID",
            f"11-22 16:00  {delete}  auto      id-4",
            "             (rule)                      pending",
            "                                         MEDIUM",
            f"11-22 15:00  {delete}  auto      id-3",
            "             (block_deletes)             blocked",
            "                                         CRITICAL",
            f"11-22 14:00  {delete}  denied    id-2",
            "             (rule)                      denied",
            "                                         HIGH",
            f"11-22 13:00  {delete}  approved  id-1",
            "             (rule)                      success",
            "             Writer                      HIGH",
            "11-22 12:00  web_search -> web           auto      id-0",
            "             (rule)                      success",
            "                                         LOW",
        ]

    def test_a_terminal_too_narrow_for_a_table_cuts_nothing_off(self, audit: AuditLogger) -> None:
        """It breaks the lines itself."""
        out = aegis("audit", env={"COLUMNS": "20"}).stdout
        for word in ("CRITICAL", "blocked", "pending", "id-0"):
            assert word in out

    def test_monitor_mode_is_to_be_seen(self, audit: AuditLogger) -> None:
        """A call that would have been blocked must not look as if policy had let it through."""
        assert "monitor" not in "".join(table(80) + table(140))
        time = "2026-11-23T12:00:00+00:00"
        watched = {"mode": "monitor", "approval": "block", "result_status": "success"}
        audit.append(decided(decision_id="watched", timestamp=time, **watched))
        told = "(monitor): decided and recorded, not enforced."
        wide = ["|".join(re.split(r"  +", line)) for line in table(140)]
        assert wide[1].split("|")[3:] == ["CRITICAL", "block", "rule", "success", "watched"]
        assert (wide[2].split("|")[1:], wide[-1]) == (["(monitor)"], told)
        for width in (60, 80):
            narrow = table(width)
            (below,) = [number for number, line in enumerate(narrow) if line.endswith("  (monitor)")]
            column = narrow[below].index("(monitor)")
            assert narrow[below - 1][column:].startswith(("CRITICAL", "rule", "block"))
            assert narrow[-1] == told

    def test_what_is_not_shown_is_said(self) -> None:
        """A table stops at 50 rows, and says so."""
        logger = AuditLogger()
        for n in range(60):
            logger.append(decided(decision_id=f"id-{n}"))
        assert aegis("audit").stdout.endswith(
            "The newest 50 of 60 entries: more with --limit, all with --format json.\n"
        )
        assert "The newest" not in aegis("audit", "--limit", "60").stdout

    def test_b44_nothing_in_a_value_acts_on_the_terminal(self) -> None:
        """B44: escape sequences, bells, forged lines, overrides of direction and markup are shown as text."""
        evil = "\x1b[2K\x1b]0;x\x07\x9b1A\u202e\u200b\r\n[bold]x[/] :boom: "
        AuditLogger().append(
            decided(
                **dict.fromkeys(
                    ("action_type", "action_target", "agent_name", "matched_rule", "session_id"), evil
                )
            )
        )
        for form in ("table", "json", "jsonl", "csv"):
            out = aegis("audit", "--format", form, env={"COLUMNS": "160"}).stdout
            assert not re.search(r"[^\n\x20-\x7e\u2500]", out), form
        shown = re.sub(r"\s", "", aegis("audit", env={"COLUMNS": "500"}).stdout)
        assert (
            shown.count(r"\x1b[2K\x1b]0;x\x07\x9b1A\u202e\u200b\r\n[bold]x[/]:boom:") == 3
        )  # the target is cut
        assert len(aegis("audit", env={"COLUMNS": "500"}).stdout.strip().splitlines()) == 3

    def test_long_values_are_cut_in_the_table_only(self) -> None:
        AuditLogger().append(decided(matched_rule="r" * 500))
        assert "r" * 60 + "..." in aegis("audit", env={"COLUMNS": "300"}).stdout
        assert json.loads(aegis("audit", "--format", "json").stdout)[0]["matched_rule"] == "r" * 500

    def test_an_incomplete_row_is_shown(self) -> None:
        """A call whose first line was lost still has a row."""
        AuditLogger().append(
            decided(**dict.fromkeys(("timestamp", "action_type", "risk_level", "result_status"), ""))
        )
        assert table(80)[1].split() == ["-", "-", "-", "->", "storage", "-", "auto", "rule", "-", "00000001"]

    def test_an_ascii_terminal(self, audit: AuditLogger) -> None:
        """Where the output cannot hold a character, its escape stands for it."""
        audit.append(decided(decision_id="new", timestamp="2026-11-23T00:00:00+00:00", action_type="löschen"))
        environment = {
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": "ascii",
        }
        out = run("audit", env=environment).stdout
        assert "l\\xf6schen" in out
        assert out.isascii()

    def test_colour_only_on_a_terminal_and_only_if_wanted(self, audit: AuditLogger) -> None:
        """Colour is for people: none in a pipe, none with --no-color."""
        assert "\x1b[" in in_a_terminal("audit")
        assert "\x1b[" not in in_a_terminal("--no-color", "audit")
        assert "\x1b[" not in run("audit").stdout


class TestFailure:
    def test_inventory_105_no_audit(self, tmp_path: Path) -> None:
        """A message and exit code 1; nothing is made."""
        for arguments in ((), ("--format", "json"), ("--export", "out.jsonl")):
            result = aegis("audit", *arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == (
                f"no audit at `{tmp_path}/aegis_audit` (there is no such directory): it is made with the "
                "first record; name another with --path or AEGIS_AUDIT_DIR\n"
            )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--risk", "bogus"), "'low', 'medium', 'high', 'critical'"),
            (("--status", "bogus"), "'pending', 'open', 'success', 'failed', 'blocked', 'denied'"),
            (("--since", "yesterday"), "expected an ISO 8601 time such as `2026-11-22T14:30:00+01:00`"),
            (("--until", "\x1b[2J"), r"`until` is `\x1b[2J`"),
            (("--limit", "0"), "0 is not in the range 1<=x<=9223372036854775807"),
            (("--limit", str(2**63)), "is not in the range 1<=x<=9223372036854775807"),
            (("--format", "xml"), "'table', 'json', 'jsonl', 'csv', 'parquet'"),
            (("--since", "2 hours"), "or how long ago, such as `90s`, `30m`, `2h` or `7d`"),
            (("--since", "999999999w"), "expected a time within the years 1 to 9999"),
            (("--path", ""), "cannot be named ''"),
            (("--nonsense",), "No such option"),
        ],
    )
    def test_wrong_usage_says_what_can_be_given(
        self, audit: AuditLogger, arguments: tuple[str, ...], expected: str
    ) -> None:
        """Exit code 2, and no data."""
        result = aegis("audit", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert expected in result.stderr

    def test_a_foreign_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = aegis("audit", "--path", ".")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: `{tmp_path}` is not an audit directory")
        assert result.stderr.count("\n") == 1

    def test_a_newer_schema(self, audit: AuditLogger) -> None:
        """Rows that this version may misread are not shown as if they were understood."""
        audit.append(decided(decision_id="new", schema_version=99))
        commands = [(), ("show", "id-0"), ("stats",), ("export", "out"), ("--output", "out")]
        for command in (*commands, ("sql", "FROM audit"), ("export", "-")):
            result = aegis("audit", *command)
            assert (result.exit_code, result.stdout) == (1, "")
            assert re.fullmatch(
                r"Error: the audit at `.*` has rows of schema 99, .* a newer one\n", result.stderr
            )
        assert not Path("out").exists()

    def test_half_of_an_audit(self, audit: AuditLogger) -> None:
        """Where a part was deleted, that is said, and nothing is made in its place."""
        audit.digest(b"")
        shutil.rmtree(audit.path / "journal")
        result = aegis("audit")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert "journal" in result.stderr
        assert [path.name for path in audit.path.iterdir()] == ["key"]

    def test_only_the_sealed_part_of_an_audit(self, audit: AuditLogger) -> None:
        """It is an audit all the same, and it is said what can be done with it."""
        audit.close()
        shutil.rmtree(audit.path / "journal")
        (audit.path / "lake").mkdir()
        for command in ((), ("stats",), ("sql", "FROM audit"), ("verify",), ("seal",)):
            result = aegis("audit", *command)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == (
                f"Error: `{audit.path}` is a part of an audit only: it has no `journal`; restore it, or "
                "check what is sealed by `aegis audit verify` with --witness or --public-key\n"
            )

    def test_a_sealed_file_that_is_damaged(self, audit: AuditLogger) -> None:
        """One line, whatever is asked, and no traceback."""
        audit.close()
        assert aegis("audit", "seal").exit_code == 0
        (file,) = audit.path.glob("lake/date=*/*.parquet")
        file.write_bytes(b"x" * file.stat().st_size)
        for command in ((), ("show", "id-0"), ("stats",), ("sql", "FROM audit"), ("export", "out"), ("-f",)):
            result = aegis("audit", *command)
            assert (result.exit_code, result.stdout) == (1, ""), command
            assert result.stderr.startswith("Error: cannot read the audit: ")
            assert f"{file.name}'" in result.stderr
            assert result.stderr.count("\n") == 1
        assert not Path("out").exists()

    @pytest.mark.parametrize(
        "command",
        [
            *((), ("show", "x"), ("sql", "FROM audit"), ("sql", "--views"), ("stats",), ("export", "out")),
            *(("export", "-"), ("--follow",), ("verify",), ("seal",), ("prune", "--keep", "1d")),
        ],
    )
    def test_every_command_refuses_what_is_no_audit(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        """Missing, empty, foreign, or a file: one line, exit code 1, nothing made."""
        (tmp_path / "empty").mkdir()
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "file").write_text("")
        (tmp_path / "file").write_text("")
        for path, told in (
            ("missing", "no audit at"),
            ("empty", "(the directory is empty)"),
            ("foreign", "not an audit directory"),
            ("file", "is a file"),
        ):
            result = aegis("audit", *command, "--path", path)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
            assert told in result.stderr
        assert {path.name for path in tmp_path.rglob("*")} == {"empty", "foreign", "file"}

    @pytest.mark.parametrize(
        ("command", "printed"),
        [
            ((), "No audit entries found.\n"),
            (("--format", "json"), "[]\n"),
            (("--format", "jsonl"), ""),
            (("--output", "-"), ""),
            (("stats",), "No audit entries found.\n"),
            (("export", "out.jsonl"), "Exported 0 entries to out.jsonl\n"),
            (("export", "-", "--format", "json"), "[]\n"),
        ],
    )
    def test_finding_nothing_is_an_answer(
        self, audit: AuditLogger, command: tuple[str, ...], printed: str
    ) -> None:
        """Exit code 0 where there is an audit, with rows or yet without; only an id must be there."""
        AuditLogger("new").check()
        for of in (("--path", "new"), ("--rule", "none")):
            result = aegis("audit", *of, *command)
            assert (result.exit_code, result.stdout, result.stderr) == (0, printed, "")
        for of in (("sql", "FROM audit", "--path", "new"), ("sql", "FROM audit WHERE false")):
            assert (aegis("audit", *of, "--format", "json").stdout, aegis("audit", *of).exit_code) == (
                "[]\n",
                0,
            )
        assert aegis("audit", "show", "none").exit_code == 1

    def test_a_reader_that_goes_away(self, audit: AuditLogger) -> None:
        """`aegis audit | head` ends in silence, whatever is left to write."""
        for n in range(3_000):
            audit.append(decided(decision_id=f"more-{n}"))
        command = f"{sys.executable} -m aegis_otel audit --format jsonl | head -n 1"
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, env=environment(), check=True
        )
        assert (done.stdout.count("\n"), done.stderr) == (1, "")

    @pytest.mark.parametrize("form", ["table", "json", "jsonl"])
    def test_an_output_that_is_full(self, audit: AuditLogger, form: str) -> None:
        """One line that says why, and an exit code; no traceback."""
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "aegis_otel", "audit", "--format", form],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )
        assert (done.returncode, done.stderr) == (1, "Error: no space left on device\n")


class TestFrame:
    def test_inventory_114_version(self) -> None:
        assert aegis("--version").stdout == f"aegis-otel, version {__version__}\n"

    def test_help_names_the_commands_and_loads_little(self) -> None:
        """Neither DuckDB nor the SDKs are loaded to print help."""
        code = """
import sys
from click.testing import CliRunner
from aegis_otel.cli import main
result = CliRunner().invoke(main, ["--help"])
print(result.output)
print([name for name in ("duckdb", "agents", "opentelemetry", "rich") if name in sys.modules])
"""
        out, err = python(code).communicate()
        assert err == ""
        assert re.search(r"audit +Show the audit", out)
        assert re.search(r"policy +\S", out)
        assert out.endswith("[]\n")

    def test_every_command_of_the_audit_is_there_and_loads_little(self) -> None:
        """Their help neither needs DuckDB nor a terminal library."""
        code = """
import sys
from click.testing import CliRunner
from aegis_otel.cli import main
for name in ("export", "show", "sql", "stats"):
    assert CliRunner().invoke(main, ["audit", name, "--help"]).exit_code == 0
print(CliRunner().invoke(main, ["audit", "--help"]).output)
print([name for name in ("duckdb", "agents", "opentelemetry", "rich", "pydantic") if name in sys.modules])
"""
        out, err = python(code).communicate()
        assert err == ""
        assert {"export", "show", "sql", "stats"} <= set(re.findall(r"^  (\w+)  ", out, re.MULTILINE))
        assert out.endswith("[]\n")

    def test_an_unknown_command_is_wrong_usage(self) -> None:
        assert aegis("bogus").exit_code == 2
        assert aegis("audit", "bogus").exit_code == 2


def table(width: int) -> list[str]:
    """The lines of the table without its rules, at a width that none of them may exceed."""
    lines = aegis("audit", env={"COLUMNS": str(width)}).stdout.splitlines()
    assert max(map(len, lines)) <= width
    return [line.removeprefix(" ").rstrip() for line in lines if line.strip(" \u2500")]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])} | more


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "aegis_otel", *arguments],
        capture_output=True,
        text=True,
        env=environment(**env or {}),
        check=True,
    )


def in_a_terminal(*arguments: str) -> str:
    """What the command writes to a real terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "aegis_otel", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", COLUMNS="80"),
    ):
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 4_096):
                written += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
    return written.decode()
