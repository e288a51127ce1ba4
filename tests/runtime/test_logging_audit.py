"""Records told to others: subscribers, and Python's logging."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from aegis_otel import Action, Policy, Runtime
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.record import AuditRecord
from aegis_otel.errors import AuditError
from aegis_otel.model import Result, ResultStatus
from aegis_otel.runtime.audit import AuditLogger, LoggingAuditLogger
from tests.support.kit import POLICY, ScriptedApprover
from tests.support.records import completed, decided, statuses


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """What the logger was told, as (level, line)."""
    caplog.set_level(logging.DEBUG, "aegis.audit")
    return lambda: [
        (r.levelname, json.loads(r.getMessage())) for r in caplog.records if r.name == "aegis.audit"
    ]


class TestSubscribe:
    def test_inventory_94_every_record_once_it_is_on_disk(self) -> None:
        """Told what was written, in order, and no more after unsubscribe."""
        audit, seen = AuditLogger(), []
        audit.subscribe(lambda record: seen.append((record.stage, statuses(audit.path)[record.decision_id])))
        audit.append(decided())
        audit.append(completed())
        assert seen == [("decided", "open"), ("completed", "success")]

    def test_inventory_94_unsubscribe(self) -> None:
        audit, seen = AuditLogger(), list[AuditRecord]()
        audit.subscribe(seen.append)
        audit.unsubscribe(seen.append)
        audit.unsubscribe(seen.append)
        audit.append(decided())
        assert seen == []

    def test_a_subscriber_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """Not by what it raises, and not by what it does to its record."""
        audit = AuditLogger()

        def hostile(record: AuditRecord) -> None:
            record.decision_id = "forged"
            raise ValueError("no")

        audit.subscribe(hostile)
        record = decided()
        audit.append(record)
        assert record == decided()
        assert "a subscriber to the audit failed" in caplog.text

    def test_what_is_not_on_disk_is_not_told(self) -> None:
        audit, seen = AuditLogger(), list[AuditRecord]()
        audit.subscribe(seen.append)
        audit.path.write_text("in the way")
        with pytest.raises(AuditError):
            audit.append(decided())
        assert seen == []


class TestLogging:
    @pytest.mark.parametrize(
        ("risk", "level"),
        [("LOW", "DEBUG"), ("MEDIUM", "INFO"), ("HIGH", "WARNING"), ("CRITICAL", "ERROR")],
    )
    def test_inventory_98_the_level_is_the_risk(self, lines: Any, risk: str, level: str) -> None:
        """For all lines of a call, also the last, which says no risk."""
        audit = LoggingAuditLogger(db_path="elsewhere.db")
        audit.append(decided(risk_level=risk))
        audit.append(completed())
        assert [(at, line["stage"]) for at, line in lines()] == [(level, "decided"), (level, "completed")]
        assert audit.path.name == "elsewhere"
        assert list(statuses(audit.path).values()) == ["success"]

    def test_inventory_97_98_redacted_like_the_audit(self, lines: Any) -> None:
        LoggingAuditLogger().log(
            "s", Policy.from_dict({"rules": []}).evaluate(Action("a", "b", {"password": "p4ss"}))
        )
        ((_, line),) = lines()
        assert json.loads(line["action_params"]) == {"password": "[REDACTED 4 chars]"}

    async def test_a_runtime_logs_each_line_of_a_call(self, lines: Any) -> None:
        class Echo(BaseExecutor):
            async def execute(self, action: Action) -> Result:
                return Result(action, ResultStatus.SUCCESS)

        runtime = Runtime(
            policy=Policy.from_dict(POLICY),
            executor=Echo(),
            approval_handler=ScriptedApprover(True),
            audit_logger=LoggingAuditLogger(),
        )
        await runtime.run_one(Action("write_report", "storage"))
        assert [(level, line["stage"]) for level, line in lines()] == [
            ("WARNING", "decided"),
            ("WARNING", "resolved"),
            ("WARNING", "completed"),
        ]

    def test_only_unfinished_calls_are_remembered(self) -> None:
        audit = LoggingAuditLogger()
        for n in range(3):
            audit.append(decided(decision_id=f"blocked-{n}", result_status="blocked"))
            audit.append(decided(decision_id=f"open-{n}"))
        audit.append(completed(decision_id="open-0"))
        assert list(audit._levels) == ["open-1", "open-2"]
