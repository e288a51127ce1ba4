"""K4: a line counts once its newline is there, for readers, for sealing and for verification alike."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import AuditRecord
from tests.cases.test_k4_planted_lines import audit, call, first, found, yes
from tests.cases.test_k4_planted_lines import plant as plant_whole
from tests.support.records import select, statuses, wait_until_seen

__all__ = ["audit"]


def plant(audit: Path, *records: AuditRecord) -> Path:
    """A file whose chain holds and whose last line has no newline."""
    path = plant_whole(audit, *records)
    path.write_bytes(path.read_bytes()[:-1])
    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As long as this lasts, the writer of a file counts as alive."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("alive", [False, True], ids=["ended", "alive"])
def test_k4_a_line_without_its_newline_is_not_shown_and_not_sealed(audit: Path, alive: bool) -> None:
    """The lines before it are."""
    path = plant(audit, *call("whole"), first("open"), first("torn", result_status="success"))
    with held(path if alive else audit / "key"):
        assert statuses(audit) == {
            "ours": "success",
            "whole": "success",
            "open": "open" if alive else "unknown",
        }
        assert found(audit) == []
    assert seal(audit).problems == []
    wait_until_seen(audit)
    assert statuses(audit) == {"ours": "success", "whole": "success", "open": "unknown"}
    assert found(audit) == []


def test_k4_the_end_of_a_call_without_its_newline_is_not_shown_and_not_sealed(audit: Path) -> None:
    path = plant(audit, *call("blocked", result_status="blocked", approval="block"))
    assert statuses(audit)["blocked"] == "blocked"
    assert seal(audit).problems == []
    wait_until_seen(audit)
    assert statuses(audit)["blocked"] == "blocked"
    assert found(audit) == []
    path.unlink()


def test_k4_a_torn_answer_is_not_shown_as_one(audit: Path) -> None:
    plant(audit, first("asked", result_status="pending", approval="approve"), yes("asked"))
    assert select(audit, "SELECT human_decision, approver FROM audit WHERE decision_id = 'asked'") == [
        (None, None)
    ]
    assert found(audit) == []
