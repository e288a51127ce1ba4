"""Every name this package emits, with its meaning. Nothing else spells a signal name.

`gen_ai.*` names are the published OpenTelemetry GenAI semantic conventions (development status, schema
1.43.0-dev); everything about decision, risk, policy, approval and audit is this project's own `aegis.*`.
docs/telemetry.md is generated from this module.
"""

from __future__ import annotations

from typing import NamedTuple


class Attribute(NamedTuple):
    key: str
    type: str
    meaning: str


class Event(NamedTuple):
    name: str
    severity: str
    """Severity text, or `by risk`: see `SEVERITIES`."""
    meaning: str
    attributes: tuple[str, ...]


class Metric(NamedTuple):
    name: str
    instrument: str
    unit: str
    meaning: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()


class Span(NamedTuple):
    name: str
    kind: str
    meaning: str
    attributes: tuple[str, ...]


SCOPE = "aegis_otel"

# --- operations (span names are "{operation} {tool}") ---
GOVERN_TOOL = "govern_tool"
AWAIT_APPROVAL = "await_approval"
EXECUTE_TOOL = "execute_tool"

# --- attribute keys: GenAI conventions ---
GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_TOOL_NAME = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE = "gen_ai.tool.type"
GEN_AI_TOOL_CALL_ID = "gen_ai.tool.call.id"
GEN_AI_TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
GEN_AI_AGENT_NAME = "gen_ai.agent.name"
GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id"
ERROR_TYPE = "error.type"

# --- attribute keys: ours ---
DECISION_ID = "aegis.decision.id"
DECISION_OUTCOME = "aegis.decision.outcome"
DECISION_REASON = "aegis.decision.reason"
POLICY_APPROVAL = "aegis.policy.approval"
POLICY_RULE_NAME = "aegis.policy.rule.name"
POLICY_DIGEST = "aegis.policy.digest"
POLICY_SOURCE = "aegis.policy.source"
RISK_LEVEL = "aegis.risk.level"
ENFORCEMENT_MODE = "aegis.enforcement.mode"
ACTION_TYPE = "aegis.action.type"
ACTION_TARGET = "aegis.action.target"
ARGUMENTS_DIGEST = "aegis.action.arguments.digest"
APPROVAL_OUTCOME = "aegis.approval.outcome"
APPROVAL_CHANNEL = "aegis.approval.channel"
APPROVAL_WAIT = "aegis.approval.wait_time"
RESULT_STATUS = "aegis.result.status"

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(GEN_AI_OPERATION_NAME, "string", "`govern_tool`, `await_approval` or `execute_tool`"),
    Attribute(GEN_AI_TOOL_NAME, "string", "the tool as the model calls it"),
    Attribute(GEN_AI_TOOL_TYPE, "string", "`function`, for a tool of the SDK"),
    Attribute(GEN_AI_TOOL_CALL_ID, "string", "the model's id of the call"),
    Attribute(
        GEN_AI_TOOL_CALL_ARGUMENTS,
        "string",
        "redacted arguments as JSON; only when GenAI content capture is on",
    ),
    Attribute(GEN_AI_AGENT_NAME, "string", "the agent that asked"),
    Attribute(GEN_AI_CONVERSATION_ID, "string", "the conversation or group the run belongs to"),
    Attribute(ERROR_TYPE, "string", "the exception's class, or what failed; low cardinality"),
    Attribute(DECISION_ID, "string", "the one id of a call: in the audit row, on the span, on the event"),
    Attribute(DECISION_OUTCOME, "string", "`allowed`, `approved`, `blocked`, `denied`, `expired` or `error`"),
    Attribute(
        DECISION_REASON,
        "string",
        "why, in one sentence without argument values; where the call was not let through",
    ),
    Attribute(POLICY_APPROVAL, "string", "what the rule asks for: `auto`, `approve` or `block`"),
    Attribute(
        POLICY_RULE_NAME,
        "string",
        "the rule that decided; `<default>` when none matched, `<error>` when the policy could not be asked",
    ),
    Attribute(POLICY_DIGEST, "string", "the digest of the policy in force"),
    Attribute(POLICY_SOURCE, "string[]", "the policy's file names"),
    Attribute(RISK_LEVEL, "string", "`low`, `medium`, `high` or `critical`"),
    Attribute(ENFORCEMENT_MODE, "string", "`enforce`; on the span only where it is something else"),
    Attribute(ACTION_TYPE, "string", "what `match.type` saw, where it is not the tool's name"),
    Attribute(ACTION_TARGET, "string", "what `match.target` saw, where it is not `default`"),
    Attribute(
        ARGUMENTS_DIGEST,
        "string",
        "keyed digest of the arguments (`hmac-sha256:` and hex), never their values",
    ),
    Attribute(APPROVAL_OUTCOME, "string", "`approved`, `denied`, `expired` or `error`"),
    Attribute(
        APPROVAL_CHANNEL,
        "string",
        "where the human was asked: `cli`, `auto`, `deny`, `none`, or what a handler calls itself",
    ),
    Attribute(APPROVAL_WAIT, "double", "seconds the answer took"),
    Attribute(RESULT_STATUS, "string", "the audit row's `result_status` when the span ended"),
)

# --- the sets that signals share ---
_CALL = (GEN_AI_TOOL_NAME, GEN_AI_TOOL_CALL_ID, GEN_AI_AGENT_NAME, GEN_AI_CONVERSATION_ID)
_DECISION = (DECISION_ID, POLICY_APPROVAL, RISK_LEVEL, POLICY_RULE_NAME)

SPANS: tuple[Span, ...] = (
    Span(
        f"{GOVERN_TOOL} {{tool}}",
        "INTERNAL",
        "one governed tool call, from the decision to the end of the body; the decision is on it at creation",
        (
            GEN_AI_OPERATION_NAME,
            *_CALL,
            *_DECISION,
            ACTION_TYPE,
            ACTION_TARGET,
            ARGUMENTS_DIGEST,
            ENFORCEMENT_MODE,
            DECISION_OUTCOME,
            DECISION_REASON,
            RESULT_STATUS,
            ERROR_TYPE,
        ),
    ),
    Span(
        f"{AWAIT_APPROVAL} {{tool}}",
        "INTERNAL",
        "the time a human took; only when one is asked",
        (
            GEN_AI_OPERATION_NAME,
            GEN_AI_TOOL_NAME,
            DECISION_ID,
            APPROVAL_CHANNEL,
            APPROVAL_OUTCOME,
            APPROVAL_WAIT,
        ),
    ),
    Span(
        f"{EXECUTE_TOOL} {{tool}}",
        "INTERNAL",
        "the tool's body; only when it ran and no other instrumentation's tool span is current",
        (
            GEN_AI_OPERATION_NAME,
            GEN_AI_TOOL_NAME,
            GEN_AI_TOOL_TYPE,
            GEN_AI_TOOL_CALL_ID,
            GEN_AI_AGENT_NAME,
            GEN_AI_TOOL_CALL_ARGUMENTS,
            ERROR_TYPE,
        ),
    ),
)

EVENT_DECISION = "aegis.tool.decision"
EVENT_APPROVAL_REQUESTED = "aegis.approval.requested"
EVENT_APPROVAL_RESOLVED = "aegis.approval.resolved"
EVENT_POLICY_LOADED = "aegis.policy.loaded"
EVENT_POLICY_LOAD_FAILED = "aegis.policy.load_failed"
EVENT_AUDIT_WRITE_FAILED = "aegis.audit.write_failed"

BY_RISK = "by risk"
SEVERITIES: dict[str, tuple[int, str]] = {
    "low": (9, "INFO"),
    "medium": (10, "INFO2"),
    "high": (13, "WARN"),
    "critical": (17, "ERROR"),
}
"""Severity number and text of an event about a call, by `aegis.risk.level`."""

MIRRORED = (DECISION_OUTCOME, RISK_LEVEL)
"""What the span event that mirrors `aegis.tool.decision` carries: the rest is on the span around it."""

_ASKED = (*_CALL, DECISION_ID, RISK_LEVEL, POLICY_RULE_NAME, APPROVAL_CHANNEL)

EVENTS: tuple[Event, ...] = (
    Event(
        EVENT_DECISION,
        BY_RISK,
        "the final verdict on one call, exactly once, before the body runs",
        (
            *_CALL,
            *_DECISION,
            POLICY_DIGEST,
            ENFORCEMENT_MODE,
            DECISION_OUTCOME,
            DECISION_REASON,
            ARGUMENTS_DIGEST,
            ERROR_TYPE,
        ),
    ),
    Event(EVENT_APPROVAL_REQUESTED, BY_RISK, "a human is asked", _ASKED),
    Event(
        EVENT_APPROVAL_RESOLVED,
        BY_RISK,
        "the human answered, or did not in time",
        (*_ASKED, APPROVAL_OUTCOME, APPROVAL_WAIT),
    ),
    Event(EVENT_POLICY_LOADED, "INFO", "a policy came into force", (POLICY_DIGEST, POLICY_SOURCE)),
    Event(
        EVENT_POLICY_LOAD_FAILED,
        "ERROR",
        "a changed policy was refused; the old one stays in force",
        (POLICY_SOURCE, ERROR_TYPE),
    ),
    Event(
        EVENT_AUDIT_WRITE_FAILED,
        "ERROR",
        "a record could not be written; a call that had not begun did not run",
        (DECISION_ID, GEN_AI_TOOL_NAME, ERROR_TYPE),
    ),
)

METRIC_DECISIONS = "aegis.decisions"
METRIC_APPROVAL_DURATION = "aegis.approval.duration"
METRIC_APPROVAL_PENDING = "aegis.approval.pending"
METRIC_EXECUTE_TOOL_DURATION = "gen_ai.execute_tool.duration"
METRIC_AUDIT_ERRORS = "aegis.audit.errors"
METRIC_HOOK_ERRORS = "aegis.hook.errors"

METRICS: tuple[Metric, ...] = (
    Metric(
        METRIC_DECISIONS,
        "observable counter",
        "{decision}",
        "final decisions; starts at zero for every rule of the loaded policy (the riskiest 1,500 label sets)",
        (DECISION_OUTCOME, POLICY_APPROVAL, RISK_LEVEL, POLICY_RULE_NAME, ENFORCEMENT_MODE),
    ),
    Metric(
        METRIC_APPROVAL_DURATION,
        "histogram",
        "s",
        "how long a human took to answer",
        (APPROVAL_OUTCOME, APPROVAL_CHANNEL),
        (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400),
    ),
    Metric(
        METRIC_APPROVAL_PENDING,
        "observable up-down counter",
        "{request}",
        "calls that wait for a human now",
        (),
    ),
    Metric(
        METRIC_EXECUTE_TOOL_DURATION,
        "histogram",
        "s",
        "how long tool bodies took (GenAI conventions; only where the span is ours)",
        (GEN_AI_TOOL_NAME, GEN_AI_AGENT_NAME, ERROR_TYPE),
        (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ),
    Metric(
        METRIC_AUDIT_ERRORS,
        "observable counter",
        "{error}",
        "records the audit journal did not take",
        (),
    ),
    Metric(
        METRIC_HOOK_ERRORS,
        "observable counter",
        "{error}",
        "exceptions raised by user hooks, isolated and counted",
        (),
    ),
)
