"""docs/audit-proof.md: every command prints what is shown, in the order of the text."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.cli import main
from tests.audit.verify.test_witness import Collector
from tests.support.records import completed, decided

TEXT = (Path(__file__).parents[2] / "docs" / "audit-proof.md").read_text(encoding="utf-8")
COMMANDS = [
    part
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)
    if part
]
_HASH = re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{24}(?:[0-9a-f]{32})?)?\b(?!-)")


def write(calls: range) -> None:
    """Calls of a process that is gone, and a question that waits."""
    journal = Journal()
    for n in calls:
        time = f"2025-06-{21 + n // 3}T09:{n:02d}:00.000000+00:00"
        journal.append(decided(decision_id=str(n), timestamp=time))
        journal.append(completed(decision_id=str(n), timestamp=time))
    if 0 in calls:
        journal.append(decided(decision_id="asks", result_status="pending"))
    journal.close()


def test_every_command_prints_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests apart: those are other ones each time."""
    calls = iter((range(3), range(3, 4)))
    programs = set()
    for shown in COMMANDS:
        command, _, output = shown.partition("\n")
        program, *arguments = shlex.split(command)
        programs.add(program)
        if program == "export":
            name, _, value = arguments[0].partition("=")
            monkeypatch.setenv(name, value)
        elif program == "aegis":
            if arguments[1] == "seal":
                write(next(calls))
            if "--witness" in arguments:
                Collector(Path("seals.jsonl")).saw(*read_seals(Path("aegis_audit")))
            result = CliRunner().invoke(main, arguments, env={"COLUMNS": "110"}, catch_exceptions=False)
            assert _HASH.sub("#", result.output) == _HASH.sub("#", output), command
            assert result.exit_code == ("FAILED" in output)
        else:
            ran = subprocess.run([program, *arguments], env=os.environ, capture_output=True, timeout=60)
            assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b""), command
    assert programs == {"aegis", "sed", "openssl", "export"}


def test_a_copy_can_be_taken_while_nothing_is_sealed(tmp_path: Path) -> None:
    """As the text says, and the copy passes."""
    (commands,) = re.findall(r"^    flock.*\n    aegis.*$", TEXT, re.MULTILINE)
    copying, verifying = (shlex.split(line) for line in commands.splitlines())
    write(range(2))
    CliRunner().invoke(main, ["audit", "seal"], catch_exceptions=False)
    Collector(Path("seals.jsonl")).saw(*read_seals(Path("aegis_audit")))
    assert subprocess.run(copying, timeout=60).returncode == 0
    for name in ("key", "journal/*.jsonl"):
        for path in Path("copy").glob(name):
            path.unlink()
    Path("copy/journal").rmdir()
    result = CliRunner().invoke(main, [*verifying[1:-2]], catch_exceptions=False)
    assert result.exit_code == 0, result.output
