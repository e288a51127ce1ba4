"""What the commands of `aegis audit` say where there is nothing to do, and where something is wrong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.location import address, prepare
from aegis_otel.cli import main
from aegis_otel.config import APPROVAL_TIMEOUT, RELOAD_INTERVAL
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    logger = AuditLogger(tmp_path / "audit")
    logger.append(decided(decision_id="1", action_type="refund", action_target="default"))
    logger.append(completed(decision_id="1"))
    logger.close()
    return logger.path


def aegis(audit: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", "--path", str(audit), *arguments])


def test_a_dry_run_of_prune_with_nothing_to_remove(audit: Path) -> None:
    assert aegis(audit, "prune", "--keep", "1h", "--dry-run").output == "nothing to remove\n"


def test_a_suffix_that_is_no_format(audit: Path) -> None:
    """It would be JSON lines in a file that says otherwise."""
    ran = aegis(audit, "export", "x.xlsx")
    assert ran.exit_code == 2
    assert "`.xlsx` is no format: give --format json, jsonl, csv or parquet" in ran.output
    assert aegis(audit, "export", "x.xlsx", "--format", "csv").exit_code == 0
    assert aegis(audit, "export", "plain").exit_code == 0


def test_a_target_that_is_none_is_left_out(audit: Path) -> None:
    for arguments in ((), ("show", "1")):
        shown = aegis(audit, *arguments).output
        assert "refund" in shown
        assert "-> default" not in shown


def test_an_endpoint_that_is_away_is_one_error(
    audit: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exporter logs is its reason, not lines beside it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with caplog.at_level(logging.WARNING):
        ran = aegis(audit, "resend", "--endpoint", "http://127.0.0.1:1")
    assert ran.exit_code == 1
    assert caplog.records == []
    (line,) = ran.output.splitlines()
    assert "; the exporter says: " in line
    assert "Connection refused" in line


def test_the_name_of_a_bucket_that_is_too_short() -> None:
    with pytest.raises(ConfigError, match="a bucket's name has at least 3 characters"):
        address("s3://b/p")
    assert address("s3://our/p") == "s3://our/p"


def test_each_number_of_seconds_has_its_own_example() -> None:
    with pytest.raises(ConfigError, match=r"such as 2$"):
        RELOAD_INTERVAL.value(-1)
    with pytest.raises(ConfigError, match=r"such as 300$"):
        APPROVAL_TIMEOUT.value(-1)


@pytest.mark.parametrize("command", [[], ["audit"], ["policy"]])
def test_a_summary_is_not_cut(command: list[str]) -> None:
    ran = CliRunner().invoke(main, [*command, "-h"])
    assert (ran.exit_code, ran.exception) == (0, None), ran.output
    listed = ran.output.partition("Commands:")[2]
    assert listed, ran.output
    assert "..." not in listed


def test_a_range_of_all_numbers_is_not_shown() -> None:
    for command in ([], ["sql"]):
        assert "<=" not in CliRunner().invoke(main, ["audit", *command, "-h"]).output
    assert CliRunner().invoke(main, ["audit", "--limit", "0"]).exit_code == 2


def test_nothing_to_seal_leaves_no_bar(tmp_path: Path) -> None:
    """Standard error is a terminal here, and nothing is written to it."""
    prepare(tmp_path / "audit")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "aegis_otel", "audit", "--path", str(tmp_path / "audit"), "seal"]
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True, env=here)
    os.write(theirs, b"!")
    written = os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    assert (ran.stdout, written) == ("nothing to seal\n", b"!")
