"""Machines that share an inbox, and the desk where their questions are answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.audit.verify.verify import verify
from aegis_otel.runtime.approval import ApprovalHandler
from tests.support.kit import Bench, make_bench
from tests.support.machines import Desk, Machine, Machines, policy


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """Begins a process with the audit of that name; all share one state."""
    monkeypatch.setenv("AEGIS_STATE", f"sqlite:///{tmp_path}/state.sqlite3")
    made: list[Bench] = []

    @contextmanager
    def begin(name: str, approver: ApprovalHandler | None = None, **rule: Any) -> Iterator[Machine]:
        bench = make_bench(tmp_path / name, policy=policy(**rule), approver=approver)
        point = CapturePoint(bench.runtime.governor, {}, approvals="sdk")
        point.install()
        made.append(bench)
        try:
            yield Machine(bench)
        finally:
            point.uninstall()
            bench.runtime.audit.close()

    yield begin
    for bench in made:
        bench.telemetry.close()
        if (bench.audit / "journal").exists():
            assert verify(bench.audit).findings == []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)
