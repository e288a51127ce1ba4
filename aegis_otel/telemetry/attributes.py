"""Attribute sets, built from the record of a call. An attribute that is not known is left out."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.util.types import AttributeValue

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.call import tool_of
from aegis_otel.model import Outcome

Attributes = dict[str, AttributeValue]


class Sealed(Protocol):
    """A seal as far as telemetry needs it."""

    @property
    def audit(self) -> str: ...
    @property
    def seal(self) -> int: ...
    @property
    def chain(self) -> str: ...
    @property
    def previous(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def unknown(self) -> int: ...


_LET_THROUGH = (Outcome.ALLOWED, Outcome.APPROVED)


def of_call(record: AuditRecord) -> Attributes:
    """Which tool, by whom, in which conversation, and what the policy says of it as the record has it now.

    Built once per call and shared by its signals: this is the hot path, so each is one dict and no more.
    Risk and id come last: with a limit on the number of attributes the SDK drops the oldest.
    """
    facts: Attributes = {semconv.GEN_AI_TOOL_NAME: text(tool_of(record))}
    if record.tool_call_id is not None:
        facts[semconv.GEN_AI_TOOL_CALL_ID] = text(record.tool_call_id)
    if record.agent_name is not None:
        facts[semconv.GEN_AI_AGENT_NAME] = text(record.agent_name)
    if record.conversation_id is not None:
        facts[semconv.GEN_AI_CONVERSATION_ID] = text(record.conversation_id)
    if record.args_digest is not None:
        facts[semconv.ARGUMENTS_DIGEST] = record.args_digest
    facts[semconv.POLICY_APPROVAL] = record.approval or ""
    facts[semconv.POLICY_RULE_NAME] = record.matched_rule or ""
    facts[semconv.RISK_LEVEL] = risk(record)
    facts[semconv.DECISION_ID] = record.decision_id
    return facts


def of_decision(record: AuditRecord, outcome: Outcome | None, error: str | None) -> Attributes:
    """What the decision event has beside what it says of the call."""
    return {
        semconv.DECISION_OUTCOME: (outcome or Outcome.ERROR)._value_,  # `.value` costs ten times as much
        semconv.POLICY_DIGEST: record.policy_digest or "",
        semconv.ENFORCEMENT_MODE: record.mode or "",
        **of_refusal(record, outcome, error),
    }


def of_refusal(record: AuditRecord, outcome: Outcome | None, error: str | None) -> Attributes:
    """Why a call was not let through, where it was not, and what failed, where something did."""
    attributes: Attributes = {}
    if record.reason and outcome not in _LET_THROUGH:
        attributes[semconv.DECISION_REASON] = text(record.reason)
    if error is not None:
        attributes[semconv.ERROR_TYPE] = error
    return attributes


def of_seal(seal: Sealed) -> Attributes:
    """Everything a witness needs."""
    return {
        semconv.AUDIT_ID: seal.audit,
        semconv.AUDIT_SEAL: seal.seal,
        semconv.AUDIT_CHAIN: seal.chain,
        semconv.AUDIT_PREVIOUS_CHAIN: seal.previous,
        semconv.AUDIT_ROWS: seal.rows,
        semconv.AUDIT_UNKNOWN: seal.unknown,
    }


def risk(record: AuditRecord) -> str:
    """The risk as signals spell it."""
    return (record.risk_level or "critical").lower()


def text(value: str) -> str:
    """`value` with what UTF-8 cannot encode escaped.

    One lone surrogate, from a file name or a model, would make an exporter drop the whole batch it is in.
    """
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
