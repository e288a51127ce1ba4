"""The attributes of signals about a call: of its spans and its events. What is not known is left out.

Each attribute costs about a microsecond, so a signal has what it is needed for. The decision event is
complete, because a span may be sampled away. The span leaves out the digests of policy and arguments, what
the rule asked for, and the reason where the call ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.util.types import AttributeValue

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.call import Call, tool_of
from aegis_otel.model import Outcome

if TYPE_CHECKING:
    from aegis_otel.audit.seals.seal_log import Seal

Attributes = dict[str, AttributeValue]


def user_attributes(record: AuditRecord, on_signals: str) -> Attributes:
    """Return how signals name the user: by hash, by id, or not at all.

    Args:
        record: The record of the call.
        on_signals: The value of the setting `user_on_signals`.
    """
    if on_signals == "hash" and record.user_hash is not None:
        return {semconv.USER_HASH: record.user_hash}
    if on_signals == "id" and record.user_id is not None:
        return {semconv.USER_ID: text(record.user_id)}
    return {}


def call_attributes(record: AuditRecord, user: Attributes | None = None) -> Attributes:
    """Return what the span and every event of a call share: its tool, agent, subject, rule, risk and id.

    Risk and id come last: where the number of attributes is limited, the SDK drops the oldest.

    Args:
        record: The record of the call.
        user: From `user_attributes`.
    """
    shared: Attributes = {semconv.GEN_AI_TOOL_NAME: text(tool_of(record))}
    if record.tool_call_id is not None:
        shared[semconv.GEN_AI_TOOL_CALL_ID] = text(record.tool_call_id)
    if record.agent_name is not None:
        shared[semconv.GEN_AI_AGENT_NAME] = text(record.agent_name)
    if record.conversation_id is not None:
        shared[semconv.GEN_AI_CONVERSATION_ID] = text(record.conversation_id)
    if record.tenant_id is not None:
        shared[semconv.TENANT_ID] = text(record.tenant_id)
    if user:
        shared.update(user)
    shared[semconv.POLICY_RULE_NAME] = record.matched_rule or ""
    shared[semconv.RISK_LEVEL] = risk(record)
    shared[semconv.DECISION_ID] = record.decision_id
    return shared


def decision_attributes(
    record: AuditRecord, outcome: Outcome | None, error: str | None, shared: Attributes
) -> Attributes:
    """Return the attributes of the decision event, whose last are those of `shared`.

    Args:
        record: The record of the call.
        outcome: How it was decided; an error when None.
        error: What failed in governance itself, where something did.
        shared: From `call_attributes`.
    """
    attributes: Attributes = {
        semconv.DECISION_OUTCOME: (outcome or Outcome.ERROR)._value_,  # `.value` costs ten times as much
        semconv.POLICY_APPROVAL: record.approval or "",
        semconv.POLICY_DIGEST: record.policy_digest or "",
        semconv.ENFORCEMENT_MODE: record.mode or "",
    }
    if record.candidate_approval is not None:
        attributes[semconv.CANDIDATE_APPROVAL] = record.candidate_approval
        attributes[semconv.CANDIDATE_RULE_NAME] = record.candidate_rule or ""
    if record.args_digest is not None:
        attributes[semconv.ARGUMENTS_DIGEST] = record.args_digest
    add_refusal(attributes, record, outcome, error)
    attributes.update(shared)
    return attributes


def govern_attributes(record: AuditRecord, shared: Attributes) -> Attributes:
    """Return the attributes with which `govern_tool` starts, whose last are those of `shared`.

    Args:
        record: The record of the call.
        shared: From `call_attributes`, as in the functions below.
    """
    attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.GOVERN_TOOL}
    if record.mode != "enforce":
        attributes[semconv.ENFORCEMENT_MODE] = record.mode or ""
    if record.action_type is not None and record.action_type != shared[semconv.GEN_AI_TOOL_NAME]:
        attributes[semconv.ACTION_TYPE] = text(record.action_type)
    if record.action_target is not None and record.action_target != "default":
        attributes[semconv.ACTION_TARGET] = text(record.action_target)
    attributes.update(shared)
    return attributes


def end_attributes(call: Call, shared: Attributes, *, is_error: bool) -> Attributes:
    """Return what is set at the end of `govern_tool`: how the call was decided, and how it ended."""
    outcome = call.outcome
    attributes: Attributes = {semconv.RESULT_STATUS: call.status._value_}
    if outcome is not None:
        attributes[semconv.DECISION_OUTCOME] = outcome._value_
    if outcome is not Outcome.ALLOWED or call.error_type is not None:  # most calls have nothing to add
        add_refusal(attributes, call.record, outcome, call.error_type)
    if is_error:
        attributes.setdefault(semconv.ERROR_TYPE, "_OTHER")
    # Set anew, they are the last to be dropped.
    attributes[semconv.RISK_LEVEL] = shared[semconv.RISK_LEVEL]
    attributes[semconv.DECISION_ID] = shared[semconv.DECISION_ID]
    return attributes


def execute_attributes(
    record: AuditRecord, shared: Attributes, *, with_arguments: bool
) -> tuple[Attributes, Attributes]:
    """Return the attributes with which `execute_tool` starts, and those of its duration metric."""
    labels: Attributes = {semconv.GEN_AI_TOOL_NAME: shared[semconv.GEN_AI_TOOL_NAME]}
    if record.tool_name is not None:
        labels[semconv.GEN_AI_TOOL_TYPE] = "function"
    if semconv.GEN_AI_AGENT_NAME in shared:
        labels[semconv.GEN_AI_AGENT_NAME] = shared[semconv.GEN_AI_AGENT_NAME]
    attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL, **labels}
    if semconv.GEN_AI_TOOL_CALL_ID in shared:
        attributes[semconv.GEN_AI_TOOL_CALL_ID] = shared[semconv.GEN_AI_TOOL_CALL_ID]
    if with_arguments and record.action_params is not None:
        attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = text(record.action_params)
    return attributes, labels


def await_attributes(call: Call, shared: Attributes) -> Attributes:
    """Return the attributes with which `await_approval` starts."""
    return {
        semconv.GEN_AI_OPERATION_NAME: semconv.AWAIT_APPROVAL,
        semconv.GEN_AI_TOOL_NAME: shared[semconv.GEN_AI_TOOL_NAME],
        semconv.APPROVAL_CHANNEL: call.channel or "",
        semconv.DECISION_ID: call.record.decision_id,
    }


def answer_attributes(record: AuditRecord, answer: str, seconds: float) -> Attributes:
    """Return what is set at the end of `await_approval`: the answer, and how many seconds it took."""
    return {
        semconv.APPROVAL_OUTCOME: answer,
        semconv.APPROVAL_WAIT: seconds,
        semconv.DECISION_ID: record.decision_id,  # set anew, it is the last to be dropped
    }


def add_refusal(
    attributes: Attributes, record: AuditRecord, outcome: Outcome | None, error: str | None
) -> None:
    """Add why a call was not let through, where it was not, and what failed, where something did."""
    if record.reason and outcome is not Outcome.ALLOWED and outcome is not Outcome.APPROVED:
        attributes[semconv.DECISION_REASON] = text(record.reason)
    if error is not None:
        attributes[semconv.ERROR_TYPE] = error


def seal_attributes(seal: Seal) -> Attributes:
    """Return everything that a witness of a seal needs."""
    return {
        semconv.AUDIT_ID: seal.audit,
        semconv.AUDIT_SEAL: seal.seal,
        semconv.AUDIT_CHAIN: seal.chain,
        semconv.AUDIT_PREVIOUS_CHAIN: seal.previous,
        semconv.AUDIT_ROWS: seal.rows,
        semconv.AUDIT_UNKNOWN: seal.unknown,
    }


def risk(record: AuditRecord) -> str:
    """Return the risk as signals spell it: in lower case, `critical` where it is not known."""
    return (record.risk_level or "critical").lower()


def text(value: str) -> str:
    """Return `value` with what UTF-8 cannot encode escaped.

    One lone surrogate, from a file name or a model, would make an exporter drop its whole batch.
    """
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
