"""`aegis audit --follow`, and the feed behind it: everything new, every change, nothing twice."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.audit.query.tail import Feed
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided

NOW = datetime.now(UTC).replace(microsecond=0)


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def audit() -> AuditLogger:
    return AuditLogger()


class Reader:
    """What a feed shows, as `id status` in order."""

    def __init__(self, audit: AuditLogger, limit: int = 10, **filters: Any) -> None:
        self._feed = Feed(audit.path, compile_filters(None, filters))  # type: ignore[arg-type]
        self.first = self._told(self._feed.begin(limit))

    def poll(self) -> str:
        return self._told(self._feed.poll())

    def _told(self, rows: list[dict[str, Any]]) -> str:
        return ", ".join(f"{row['decision_id']} {row['result_status']}" for row in rows)


class TestFeed:
    def test_an_audit_without_rows_waits_for_the_first(self, audit: AuditLogger) -> None:
        audit.check()  # the directory is there, and nothing in its journal
        reader = Reader(audit)
        assert (reader.first, reader.poll()) == ("", "")
        audit.append(decided(decision_id="first", timestamp=at(0)))
        assert reader.poll() == "first open"

    def test_what_is_new_and_what_changes(self, audit: AuditLogger) -> None:
        """Each once, oldest first; nothing where nothing happened."""
        audit.append(decided(decision_id="a", timestamp=at(-2), result_status="pending"))
        reader = Reader(audit)
        assert (reader.first, reader.poll()) == ("a pending", "")
        audit.append(decided(decision_id="c", timestamp=at(0)))
        audit.append(decided(decision_id="b", timestamp=at(-1)))
        assert (reader.poll(), reader.poll()) == ("b open, c open", "")
        audit.append(completed(decision_id="a", timestamp=at(1)))
        assert (reader.poll(), reader.poll()) == ("a success", "")

    def test_it_begins_with_the_newest(self, audit: AuditLogger) -> None:
        for n in range(5):
            audit.append(decided(decision_id=str(n), timestamp=at(n), result_status="blocked"))
        reader = Reader(audit, limit=2)
        assert (reader.first, reader.poll()) == ("3 blocked, 4 blocked", "")

    def test_a_call_from_long_ago_is_told_when_it_ends(self, audit: AuditLogger) -> None:
        """Also one that was too old to be shown at first; finished ones of then are not read again."""
        for n in range(3):
            audit.append(decided(decision_id=f"old-{n}", timestamp=at(-86_400 + n)))
        audit.append(completed(decision_id="old-0", timestamp=at(-80_000)))
        audit.append(decided(decision_id="new", timestamp=at(0), result_status="blocked"))
        reader = Reader(audit, limit=1)
        assert (reader.first, reader.poll()) == ("new blocked", "")
        audit.append(completed(decision_id="old-2", timestamp=at(1)))
        assert (reader.poll(), reader.poll()) == ("old-2 success", "")

    def test_a_filter_is_met_when_it_is_met(self, audit: AuditLogger) -> None:
        """A call that did not match when it began, and does when it ends."""
        audit.append(decided(decision_id="a", timestamp=at(-300)))
        audit.append(decided(decision_id="b", timestamp=at(-300)))
        reader = Reader(audit, result_status="success")
        audit.append(completed(decision_id="b", timestamp=at(-200), result_status="failed"))
        audit.append(decided(decision_id="c", timestamp=at(0)))
        assert (reader.first, reader.poll()) == ("", "")
        audit.append(completed(decision_id="a", timestamp=at(1)))
        audit.append(completed(decision_id="c", timestamp=at(1)))
        assert (reader.poll(), reader.poll()) == ("a success, c success", "")

    def test_a_wrong_clock_hides_nobody(self, audit: AuditLogger) -> None:
        """A row of the far future does not make the present the past; a row may come a little late."""
        audit.append(
            decided(decision_id="future", timestamp="2999-01-01T00:00:00+00:00", result_status="blocked")
        )
        reader = Reader(audit)
        audit.append(
            decided(decision_id="now", timestamp=datetime.now(UTC).isoformat(), result_status="blocked")
        )
        audit.append(
            decided(
                decision_id="late",
                timestamp=(datetime.now(UTC) - timedelta(seconds=30)).isoformat(),
                result_status="blocked",
            )
        )
        assert (reader.poll(), reader.poll()) == ("late blocked, now blocked", "")

    def test_a_writer_that_dies_leaves_its_calls_unknown(self, audit: AuditLogger) -> None:
        audit.append(decided(decision_id="a", timestamp=at(0)))
        reader = Reader(audit)
        audit.close()
        assert (reader.first, reader.poll(), reader.poll()) == ("a open", "a unknown", "")


class Following:
    """The command as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aegis_otel", "audit", "--follow", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], 60)[0], "no line came"
        return self._process.stdout.readline().decode().rstrip()

    def stop(self) -> tuple[int, str]:
        self._process.send_signal(signal.SIGINT)
        _, err = self._process.communicate(timeout=30)
        return self._process.returncode, err.decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def following() -> Iterator[Any]:
    started: list[Following] = []

    def start(*arguments: str) -> Following:
        started.append(Following(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def test_lines_for_people_until_ctrl_c(audit: AuditLogger, following: Any) -> None:
    """While another process writes; Ctrl-C is how it ends, and no failure. B44: nothing acts on it."""
    audit.append(decided(decision_id="first", timestamp="2026-11-22T14:30:00+00:00", result_status="pending"))
    process = following()
    assert process.line() == (
        "2026-11-22 14:30:00  CRITICAL  auto      pending    delete_document -> storage  (rule)  first"
    )
    evil = "\x1b[2K\x1b]0;x\x07\u202e\r\n[bold]x[/]"
    audit.append(decided(decision_id="second", timestamp=at(0), action_type=evil, matched_rule=evil))
    shown = process.line()
    assert r"\x1b[2K\x1b]0;x\x07\u202e\r\n[bold]x[/] -> storage" in shown
    assert shown.isascii()
    audit.append(completed(decision_id="first"))
    assert "success" in process.line()
    assert process.stop() == (0, "")


def test_monitor_mode_is_to_be_seen(audit: AuditLogger, following: Any) -> None:
    watched = {"mode": "monitor", "approval": "block", "result_status": "success"}
    audit.append(decided(decision_id="first", timestamp="2026-11-22T14:30:00+00:00", **watched))
    assert following().line() == (
        "2026-11-22 14:30:00  CRITICAL  block     (monitor)  success    "
        "delete_document -> storage  (rule)  first"
    )


def test_rows_for_programs(audit: AuditLogger, following: Any) -> None:
    for n in range(3):
        audit.append(decided(decision_id=str(n), timestamp=at(n - 5)))
    process = following("--format", "jsonl", "--limit", "1", "--risk", "critical")
    assert json.loads(process.line()) == audit.get_log(limit=1)[0]
    audit.append(decided(decision_id="low", timestamp=at(0), risk_level="LOW"))
    audit.append(decided(decision_id="new", timestamp=at(0)))
    assert json.loads(process.line())["decision_id"] == "new"
    assert process.stop() == (0, "")


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_other_formats_have_an_end(audit: AuditLogger, form: str) -> None:
    from click.testing import CliRunner

    from aegis_otel.cli import main

    result = CliRunner().invoke(main, ["audit", "-f", "--format", form])
    assert result.exit_code == 2
    assert "Error: --f" in result.stderr
