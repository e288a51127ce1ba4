"""Whole journal lines, rows, spans and events of one approved call, field by field."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.id_generator import IdGenerator

from aegis_otel import Action, Policy
from aegis_otel.audit.record import COLUMNS
from aegis_otel.governance.call import Origin
from aegis_otel.governance.governor import Governor
from aegis_otel.governance.hooks import RuntimeHooks
from aegis_otel.governance.isolation import IsolatedSignals
from aegis_otel.redaction.settings import digest as redaction_digest
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import POLICY, ScriptedApprover, Telemetry

START_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z


class FixedSystem:
    """A clock that moves a millisecond each time it is read, and ids that count."""

    host, service = "host", "service"

    def __init__(self) -> None:
        self._ticks, self._ids = itertools.count(), itertools.count(1)

    def pid(self) -> int:
        return 7

    def now_ns(self) -> int:
        return START_NS + next(self._ticks) * 1_000_000

    def monotonic(self) -> float:
        return next(self._ticks) / 1000

    def new_id(self) -> str:
        return f"decision-{next(self._ids)}"


class CountingIds(IdGenerator):
    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._ids)

    def generate_trace_id(self) -> int:
        return 0xABC


@pytest.fixture
def telemetry() -> Any:
    made = Telemetry()
    made.tracer_provider.id_generator = CountingIds()
    yield made
    made.close()


@pytest.fixture
def audit(tmp_path: Path) -> Any:
    logger = AuditLogger(tmp_path / "audit")
    yield logger
    logger.close()


def governor(telemetry: Telemetry, audit: AuditLogger, *answers: Any) -> Governor:
    return Governor(
        policy=Policy.from_dict(POLICY),
        journal=audit,
        signals=IsolatedSignals(telemetry.recorder()),
        approver=ScriptedApprover(*answers),
        approval_timeout=5,
        hooks=RuntimeHooks(),
        system=FixedSystem(),
        session_id="session",
    )


def of_spans(telemetry: Telemetry) -> list[dict[str, Any]]:
    return [
        {
            "name": span.name,
            "id": span.context.span_id,
            "parent": span.parent.span_id if span.parent else None,
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes),
            "events": [(event.name, dict(event.attributes)) for event in span.events],
        }
        for span in telemetry.spans()
    ]


async def body() -> str:
    return "paid"


async def test_an_approved_call(telemetry: Telemetry, audit: AuditLogger) -> None:
    """Three journal lines, one row, three spans, three events."""
    governed = governor(telemetry, audit, True)
    action = Action("write_payment", "bank", {"amount": 5, "token": "t0ps3cret"}, agent="Clerk")
    call = await governed.authorize(action, Origin("pay", "call_1", "conversation"))
    assert await governed.run(call, body) == "paid"

    (journal,) = (audit.path / "journal").glob("*.jsonl")
    digest = Policy.from_dict(POLICY).digest
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert all(re.fullmatch("[0-9a-f]{64}", line.pop("chain")) for line in lines)
    decided, resolved, completed = lines
    assert re.fullmatch("hmac-sha256:[0-9a-f]{64}", resolved.pop("proof"))
    args_digest = decided["args_digest"]
    assert args_digest.startswith("hmac-sha256:")
    assert decided == {
        "stage": "decided",
        "decision_id": "decision-1",
        "timestamp": "2026-01-01T00:00:00.000000+00:00",
        "session_id": "session",
        "action_type": "write_payment",
        "action_target": "bank",
        "action_params": '{"amount":5,"token":"[REDACTED 9 chars]"}',
        "args_digest": args_digest,
        "risk_level": "HIGH",
        "approval": "approve",
        "matched_rule": "write_asks",
        "reason": "rule `write_asks` matched",
        "policy_digest": digest,
        "mode": "enforce",
        "result_status": "pending",
        "agent_name": "Clerk",
        "tool_name": "pay",
        "tool_call_id": "call_1",
        "conversation_id": "conversation",
        "trace_id": f"{0xABC:032x}",
        "span_id": f"{1:016x}",
        "service": "service",
        "host": "host",
        "pid": 7,
        "redaction_digest": redaction_digest(),
        "schema_version": 6,
    }
    assert resolved == {
        "stage": "resolved",
        "decision_id": "decision-1",
        "timestamp": "2026-01-01T00:00:00.006000+00:00",
        "risk_level": "HIGH",
        "approval": "approve",
        "matched_rule": "write_asks",
        "reason": "rule `write_asks` matched",
        "policy_digest": digest,
        "human_decision": "approved",
        "approver": "someone",
        "approval_wait_s": 0.001,
        "result_status": "open",
        "outcome": "approved",
    }
    assert completed == {
        "stage": "completed",
        "decision_id": "decision-1",
        "timestamp": "2026-01-01T00:00:00.010000+00:00",
        "result_status": "success",
        "duration_s": 0.002,
    }

    (row,) = audit.get_log()
    assert row == {
        **dict.fromkeys(column.name for column in COLUMNS),
        **{
            name: value
            for line in (decided, resolved, completed)
            for name, value in line.items()
            if name != "stage"
        },
        "timestamp": "2026-01-01T00:00:00.000000+00:00",
        "action_params": {"amount": 5, "token": "[REDACTED 9 chars]"},
    }

    tool = {"gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "call_1", "gen_ai.agent.name": "Clerk"}
    asked = {
        **tool,
        "gen_ai.conversation.id": "conversation",
        "aegis.decision.id": "decision-1",
        "aegis.risk.level": "high",
        "aegis.policy.rule.name": "write_asks",
    }
    answered = {
        "aegis.approval.channel": "scripted",
        "aegis.approval.outcome": "approved",
        "aegis.approval.wait_time": 0.001,
    }
    assert of_spans(telemetry) == [
        {
            "name": "govern_tool pay",
            "id": 1,
            "parent": None,
            "status": "UNSET",
            "attributes": {
                "gen_ai.operation.name": "govern_tool",
                **asked,
                "aegis.action.type": "write_payment",
                "aegis.action.target": "bank",
                "aegis.result.status": "success",
                "aegis.decision.outcome": "approved",
            },
            "events": [],
        },
        {
            "name": "await_approval pay",
            "id": 2,
            "parent": 1,
            "status": "UNSET",
            "attributes": {
                "gen_ai.operation.name": "await_approval",
                "gen_ai.tool.name": "pay",
                "aegis.decision.id": "decision-1",
                **answered,
            },
            "events": [],
        },
        {
            "name": "execute_tool pay",
            "id": 3,
            "parent": 1,
            "status": "UNSET",
            "attributes": {
                "gen_ai.operation.name": "execute_tool",
                **tool,
                "gen_ai.tool.type": "function",
            },
            "events": [],
        },
    ]
    assert telemetry.events("aegis.approval.requested") == [{**asked, "aegis.approval.channel": "scripted"}]
    assert telemetry.events("aegis.approval.resolved") == [{**asked, **answered}]
    assert telemetry.events("aegis.tool.decision") == [
        {
            **asked,
            "aegis.policy.approval": "approve",
            "aegis.action.arguments.digest": args_digest,
            "aegis.decision.outcome": "approved",
            "aegis.policy.digest": digest,
            "aegis.enforcement.mode": "enforce",
        }
    ]
