"""Attribute sets, built once per call from its record and shared by its signals."""

from __future__ import annotations

from typing import cast

from opentelemetry.util.types import AttributeValue

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord
from aegis_otel.runtime.call import Call

Attributes = dict[str, AttributeValue]


def of_call(call: Call) -> Attributes:
    """Which tool, by whom, in which conversation; only what is known."""
    record = call.record
    attributes: Attributes = {semconv.GEN_AI_TOOL_NAME: text(call.tool)}
    if record.tool_call_id is not None:
        attributes[semconv.GEN_AI_TOOL_CALL_ID] = text(record.tool_call_id)
    if record.agent_name is not None:
        attributes[semconv.GEN_AI_AGENT_NAME] = text(record.agent_name)
    if record.conversation_id is not None:
        attributes[semconv.GEN_AI_CONVERSATION_ID] = text(record.conversation_id)
    return attributes


def of_decision(record: AuditRecord) -> Attributes:
    """What the policy says of the call, as far as the record has it now."""
    return cast(
        "Attributes",
        {
            semconv.DECISION_ID: record.decision_id,
            semconv.POLICY_APPROVAL: record.approval,
            semconv.RISK_LEVEL: risk(record),
            semconv.POLICY_RULE_NAME: record.matched_rule,
            semconv.POLICY_DIGEST: record.policy_digest,
            semconv.ENFORCEMENT_MODE: record.mode,
        },
    )


def risk(record: AuditRecord) -> str:
    """The risk as signals spell it."""
    return (record.risk_level or "critical").lower()


def text(value: str) -> str:
    """`value` with what UTF-8 cannot encode escaped.

    One lone surrogate, from a file name or a model, would make an exporter drop the whole batch it is in.
    """
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def error_type(kind: type[BaseException]) -> str:
    """`error.type` of an exception: its class, never its message."""
    return kind.__qualname__
