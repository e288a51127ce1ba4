"""Audit records for tests, and what a reader makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.record import AuditRecord, encode
from aegis_otel.audit.seals.seal_log import read_seals

DECIDED: dict[str, Any] = {
    "stage": "decided",
    "decision_id": "01930000-0000-7000-8000-000000000001",
    "timestamp": "2026-11-22T14:30:00.000000+00:00",
    "session_id": "a3f1b2c4d5e6",
    "action_type": "delete_document",
    "action_target": "storage",
    "action_params": '{"document_id":"42"}',
    "risk_level": "CRITICAL",
    "approval": "auto",
    "matched_rule": "rule",
    "result_status": "open",
}


def decided(**changed: Any) -> AuditRecord:
    """The first line of a call that is running."""
    return AuditRecord(**DECIDED | changed)


def completed(**changed: Any) -> AuditRecord:
    """The last line of the same call."""
    base = {
        "stage": "completed",
        "decision_id": DECIDED["decision_id"],
        "timestamp": "2026-11-22T14:30:01.000000+00:00",
        "result_status": "success",
        "duration_s": 1.0,
    }
    return AuditRecord(**base | changed)


def write_call(audit: Path, name: str, day: str = "2026-11-22", **first: Any) -> None:
    """Write the lines of a call of that day that succeeded, as a process that then ends."""
    at = f"{day}T14:30:0"
    with closing(Journal(audit)) as journal:
        journal.append(decided(decision_id=name, timestamp=f"{at}0.000000+00:00", **first))
        journal.append(completed(decision_id=name, timestamp=f"{at}1.000000+00:00"))


def encode_line(record: AuditRecord) -> bytes:
    """A line of a journal as others might write it: without a chain."""
    return encode(record) + b"\n"


def select(
    path: str | os.PathLike[str], sql: str = "SELECT decision_id, result_status FROM audit ORDER BY 1"
) -> Any:
    """What SQL finds in an audit."""
    with connect(path) as connection:
        return connection.execute(sql).fetchall()


def statuses(path: str | os.PathLike[str]) -> dict[str, str]:
    return dict(select(path))


def files(audit: Path) -> list[Path]:
    return sorted((audit / "journal").iterdir())


def wait_until_seen(*audits: Path) -> None:
    """Until queries take the last seals into account, which is a second after they were made."""
    last = max(datetime.fromisoformat(each.sealed_at) for audit in audits for each in read_seals(audit))
    while (datetime.now(UTC) - last).total_seconds() < 1.1:
        time.sleep(0.05)


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Another Python process on this package, with pipes to it."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        **options,
    )
