"""Every name this package emits, with its meaning, and what each signal carries. Nothing else spells one.

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

# --- operations (span names are "{operation} {what}") ---
GOVERN_TOOL = "govern_tool"
AWAIT_APPROVAL = "await_approval"
EXECUTE_TOOL = "execute_tool"
INVOKE_WORKFLOW = "invoke_workflow"
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
HANDOFF = "handoff"
RUN_GUARDRAIL = "run_guardrail"
MCP_LIST_TOOLS = "tools/list"  # a method of MCP, and the span's name by its conventions

# --- attribute keys: GenAI conventions ---
GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_TOOL_NAME = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE = "gen_ai.tool.type"
GEN_AI_TOOL_CALL_ID = "gen_ai.tool.call.id"
GEN_AI_TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
GEN_AI_AGENT_NAME = "gen_ai.agent.name"
GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id"
GEN_AI_WORKFLOW_NAME = "gen_ai.workflow.name"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_RESPONSE_ID = "gen_ai.response.id"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_CACHE_CREATION_TOKENS = "gen_ai.usage.cache_creation.input_tokens"  # the old name of it
GEN_AI_REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
MCP_METHOD_NAME = "mcp.method.name"
ERROR_TYPE = "error.type"
EXCEPTION_TYPE = "exception.type"

# --- attribute keys: ours ---
DECISION_ID = "aegis.decision.id"
DECISION_OUTCOME = "aegis.decision.outcome"
DECISION_REASON = "aegis.decision.reason"
DECISION_RESENT = "aegis.decision.resent"
POLICY_APPROVAL = "aegis.policy.approval"
POLICY_RULE_NAME = "aegis.policy.rule.name"
POLICY_DIGEST = "aegis.policy.digest"
POLICY_SOURCE = "aegis.policy.source"
POLICY_RELOAD_OUTCOME = "aegis.policy.reload.outcome"
RISK_LEVEL = "aegis.risk.level"
ENFORCEMENT_MODE = "aegis.enforcement.mode"
ACTION_TYPE = "aegis.action.type"
ACTION_TARGET = "aegis.action.target"
ARGUMENTS_DIGEST = "aegis.action.arguments.digest"
APPROVAL_OUTCOME = "aegis.approval.outcome"
APPROVAL_CHANNEL = "aegis.approval.channel"
APPROVAL_WAIT = "aegis.approval.wait_time"
RESULT_STATUS = "aegis.result.status"
AUDIT_ID = "aegis.audit.id"
AUDIT_SEAL = "aegis.audit.seal"
AUDIT_CHAIN = "aegis.audit.chain"
AUDIT_PREVIOUS_CHAIN = "aegis.audit.previous_chain"
AUDIT_ROWS = "aegis.audit.rows"
AUDIT_UNKNOWN = "aegis.audit.unknown"
SDK_TRACE_ID = "aegis.sdk.trace.id"
HANDOFF_TARGET = "aegis.handoff.target"
GUARDRAIL_NAME = "aegis.guardrail.name"
GUARDRAIL_TRIGGERED = "aegis.guardrail.triggered"
MCP_SERVER_NAME = "aegis.mcp.server.name"

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(GEN_AI_OPERATION_NAME, "string", "the first word of the span's name"),
    Attribute(GEN_AI_TOOL_NAME, "string", "the tool as the model calls it"),
    Attribute(GEN_AI_TOOL_TYPE, "string", "`function`, for a tool of the SDK"),
    Attribute(GEN_AI_TOOL_CALL_ID, "string", "the model's id of the call"),
    Attribute(
        GEN_AI_TOOL_CALL_ARGUMENTS,
        "string",
        "redacted arguments as JSON; only when GenAI content capture is on",
    ),
    Attribute(
        GEN_AI_AGENT_NAME,
        "string",
        "the agent that asked; of a `handoff`, the one that hands over; of `invoke_workflow`, the workflow",
    ),
    Attribute(GEN_AI_CONVERSATION_ID, "string", "the conversation or group the run belongs to"),
    Attribute(
        GEN_AI_WORKFLOW_NAME,
        "string",
        "`RunConfig.workflow_name`, or the name given to `trace()`; the conventions have `gen_ai.agent.name` "
        "for it now, and the next release has no other",
    ),
    Attribute(
        GEN_AI_PROVIDER_NAME, "string", "`openai`, whose API the SDK speaks; the server may be another's"
    ),
    Attribute(GEN_AI_REQUEST_MODEL, "string", "the model asked for, where the SDK tells it"),
    Attribute(GEN_AI_RESPONSE_MODEL, "string", "the model that answered, where the SDK tells it"),
    Attribute(GEN_AI_RESPONSE_ID, "string", "the provider's id of the answer"),
    Attribute(GEN_AI_INPUT_TOKENS, "int", "tokens in, cached ones included; of an agent, all its turns"),
    Attribute(GEN_AI_OUTPUT_TOKENS, "int", "tokens out; of an agent, all its turns"),
    Attribute(GEN_AI_CACHE_READ_TOKENS, "int", "tokens in that came from the provider's cache"),
    Attribute(GEN_AI_CACHE_WRITE_TOKENS, "int", "tokens in that were written to the provider's cache"),
    Attribute(
        GEN_AI_CACHE_CREATION_TOKENS,
        "int",
        "the old name of `gen_ai.usage.cache_write.input_tokens`, until the next release",
    ),
    Attribute(GEN_AI_REASONING_TOKENS, "int", "tokens out that were spent on reasoning"),
    Attribute(MCP_METHOD_NAME, "string", "`tools/list`"),
    Attribute(ERROR_TYPE, "string", "the exception's class, or what failed; low cardinality"),
    Attribute(EXCEPTION_TYPE, "string", "the exception's class with its module; never its message"),
    Attribute(DECISION_ID, "string", "the one id of a call: in the audit row, on the span, on the event"),
    Attribute(DECISION_OUTCOME, "string", "`allowed`, `approved`, `blocked`, `denied`, `expired` or `error`"),
    Attribute(
        DECISION_REASON,
        "string",
        "why, in one sentence without argument values; where the call was not let through",
    ),
    Attribute(
        DECISION_RESENT,
        "boolean",
        "true on an event that `aegis audit resend` made of the audit row; the id tells it from others",
    ),
    Attribute(POLICY_APPROVAL, "string", "what the rule asks for: `auto`, `approve` or `block`"),
    Attribute(
        POLICY_RULE_NAME,
        "string",
        "the rule that decided; `<default>` when none matched, `<error>` when the policy could not be asked",
    ),
    Attribute(POLICY_DIGEST, "string", "the digest of the policy in force"),
    Attribute(POLICY_SOURCE, "string[]", "the policy's file names"),
    Attribute(POLICY_RELOAD_OUTCOME, "string", "`loaded` or `refused`"),
    Attribute(RISK_LEVEL, "string", "`low`, `medium`, `high` or `critical`"),
    Attribute(
        ENFORCEMENT_MODE,
        "string",
        "`enforce` or `monitor`: what would have been, nothing is stopped; on the span only `monitor`",
    ),
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
        "where the human was asked: `cli`, `sdk`, `auto`, `deny`, `none`, or what a handler calls itself",
    ),
    Attribute(APPROVAL_WAIT, "double", "seconds the answer took"),
    Attribute(RESULT_STATUS, "string", "the audit row's `result_status` when the span ended"),
    Attribute(AUDIT_ID, "string", "which audit it is; tells nothing of the audit's key"),
    Attribute(AUDIT_SEAL, "int", "the number of a seal, from 1 without a gap"),
    Attribute(
        AUDIT_CHAIN, "string", "the chain value of a seal, which stands for all that was sealed until then"
    ),
    Attribute(AUDIT_PREVIOUS_CHAIN, "string", "the chain value that the seal follows"),
    Attribute(AUDIT_ROWS, "int", "rows in the segments that a seal adds, those of merged segments too"),
    Attribute(
        AUDIT_UNKNOWN,
        "int",
        "calls that were sealed as `unknown`: their process was gone before it said what came of them",
    ),
    Attribute(SDK_TRACE_ID, "string", "the SDK's own trace id, the same before and after an interruption"),
    Attribute(HANDOFF_TARGET, "string", "the agent that takes over"),
    Attribute(GUARDRAIL_NAME, "string", "the agent's input or output guardrail"),
    Attribute(GUARDRAIL_TRIGGERED, "boolean", "whether its tripwire stopped the run"),
    Attribute(MCP_SERVER_NAME, "string", "the MCP server that was asked for its tools"),
)

# --- the sets that signals share ---
_CALL = (GEN_AI_TOOL_NAME, GEN_AI_TOOL_CALL_ID, GEN_AI_AGENT_NAME, GEN_AI_CONVERSATION_ID)
_DECISION = (DECISION_ID, RISK_LEVEL, POLICY_RULE_NAME)
_TOKENS = (GEN_AI_INPUT_TOKENS, GEN_AI_OUTPUT_TOKENS)
_CACHE_TOKENS = (GEN_AI_CACHE_READ_TOKENS, GEN_AI_CACHE_WRITE_TOKENS, GEN_AI_CACHE_CREATION_TOKENS)

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
    Span(
        f"{INVOKE_WORKFLOW} {{workflow}}",
        "INTERNAL",
        "one trace of the SDK: a run, or what `trace()` groups; a resumed run has one of its own",
        (
            GEN_AI_OPERATION_NAME,
            GEN_AI_AGENT_NAME,
            GEN_AI_WORKFLOW_NAME,
            GEN_AI_CONVERSATION_ID,
            SDK_TRACE_ID,
        ),
    ),
    Span(
        f"{INVOKE_AGENT} {{agent}}",
        "INTERNAL",
        "an agent at work, until it is done or hands over",
        (GEN_AI_OPERATION_NAME, GEN_AI_AGENT_NAME, GEN_AI_CONVERSATION_ID, *_TOKENS, ERROR_TYPE),
    ),
    Span(
        f"{CHAT} {{model}}",
        "CLIENT",
        "one call of a model, where its implementation tells the SDK's tracing",
        (
            GEN_AI_OPERATION_NAME,
            GEN_AI_PROVIDER_NAME,
            GEN_AI_REQUEST_MODEL,
            GEN_AI_RESPONSE_MODEL,
            GEN_AI_RESPONSE_ID,
            GEN_AI_CONVERSATION_ID,
            *_TOKENS,
            *_CACHE_TOKENS,
            GEN_AI_REASONING_TOKENS,
            ERROR_TYPE,
        ),
    ),
    Span(
        f"{HANDOFF} {{agent}}",
        "INTERNAL",
        "an agent hands over to another",
        (GEN_AI_OPERATION_NAME, GEN_AI_AGENT_NAME, HANDOFF_TARGET, GEN_AI_CONVERSATION_ID, ERROR_TYPE),
    ),
    Span(
        f"{RUN_GUARDRAIL} {{guardrail}}",
        "INTERNAL",
        "an agent's guardrail at work (a tool's guardrails have no span)",
        (
            GEN_AI_OPERATION_NAME,
            GUARDRAIL_NAME,
            GUARDRAIL_TRIGGERED,
            GEN_AI_CONVERSATION_ID,
            ERROR_TYPE,
        ),
    ),
    Span(
        MCP_LIST_TOOLS,
        "CLIENT",
        "an MCP server is asked for its tools, or the SDK's cache is",
        (MCP_METHOD_NAME, MCP_SERVER_NAME, GEN_AI_CONVERSATION_ID, ERROR_TYPE),
    ),
)

EVENT_DECISION = "aegis.tool.decision"
EVENT_APPROVAL_REQUESTED = "aegis.approval.requested"
EVENT_APPROVAL_RESOLVED = "aegis.approval.resolved"
EVENT_POLICY_LOADED = "aegis.policy.loaded"
EVENT_POLICY_LOAD_FAILED = "aegis.policy.load_failed"
EVENT_AUDIT_WRITE_FAILED = "aegis.audit.write_failed"
EVENT_AUDIT_SEALED = "aegis.audit.sealed"
EVENT_PROBE = "aegis.probe"
EVENT_TOOL_EXCEPTION = "gen_ai.execute_tool.exception"

BY_RISK = "by risk"
SEVERITIES: dict[str, tuple[int, str]] = {
    "low": (9, "INFO"),
    "medium": (10, "INFO2"),
    "high": (13, "WARN"),
    "critical": (17, "ERROR"),
}
"""Severity number and text of an event about a call, by `aegis.risk.level`."""

MIRRORED = (DECISION_OUTCOME, RISK_LEVEL)
"""What the span event carries that stands for `aegis.tool.decision` where no logger takes it."""

_ASKED = (*_CALL, *_DECISION, APPROVAL_CHANNEL)

EVENTS: tuple[Event, ...] = (
    Event(
        EVENT_DECISION,
        BY_RISK,
        "the final verdict on one call, exactly once, before the body runs",
        (
            *_CALL,
            *_DECISION,
            POLICY_APPROVAL,
            POLICY_DIGEST,
            ENFORCEMENT_MODE,
            DECISION_OUTCOME,
            DECISION_REASON,
            DECISION_RESENT,
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
    Event(
        EVENT_TOOL_EXCEPTION,
        "WARN",
        "a tool's body raised (GenAI conventions; only where the span of the body is ours)",
        (GEN_AI_TOOL_NAME, GEN_AI_TOOL_CALL_ID, GEN_AI_AGENT_NAME, DECISION_ID, EXCEPTION_TYPE),
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
    Event(
        EVENT_AUDIT_SEALED,
        "INFO",
        "part of the audit was sealed; kept elsewhere, it is a witness for `aegis audit verify --witness`",
        (AUDIT_ID, AUDIT_SEAL, AUDIT_CHAIN, AUDIT_PREVIOUS_CHAIN, AUDIT_ROWS, AUDIT_UNKNOWN),
    ),
    Event(EVENT_PROBE, "INFO", "`aegis doctor` checks that events arrive; it is no decision", (DECISION_ID,)),
)

METRIC_DECISIONS = "aegis.decisions"
METRIC_EVALUATION_DURATION = "aegis.policy.evaluation.duration"
METRIC_APPROVAL_DURATION = "aegis.approval.duration"
METRIC_APPROVAL_PENDING = "aegis.approval.pending"
METRIC_EXECUTE_TOOL_DURATION = "gen_ai.execute_tool.duration"
METRIC_INVOKE_AGENT_DURATION = "gen_ai.invoke_agent.duration"
METRIC_AUDIT_ERRORS = "aegis.audit.errors"
METRIC_AUDIT_RECORDS = "aegis.audit.records"
METRIC_AUDIT_SEAL_ERRORS = "aegis.audit.seal_errors"
METRIC_AUDIT_UNKNOWN_OUTCOMES = "aegis.audit.unknown_outcomes"
METRIC_HOOK_ERRORS = "aegis.hook.errors"
METRIC_POLICY_RELOADS = "aegis.policy.reloads"

METRICS: tuple[Metric, ...] = (
    Metric(
        METRIC_DECISIONS,
        "observable counter",
        "{decision}",
        "final decisions; starts at zero for every rule of the loaded policy (the riskiest 1,500 label sets)",
        (DECISION_OUTCOME, POLICY_APPROVAL, RISK_LEVEL, POLICY_RULE_NAME, ENFORCEMENT_MODE),
    ),
    Metric(
        METRIC_EVALUATION_DURATION,
        "histogram",
        "s",
        "how long the policy took to decide; only with `AEGIS_EVALUATION_DURATION=on`",
        (DECISION_OUTCOME,),
        (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1),
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
        "calls that wait for a human now, inside a handler; not the runs that the SDK paused",
        (),
    ),
    Metric(
        METRIC_EXECUTE_TOOL_DURATION,
        "histogram",
        "s",
        "how long tool bodies took (GenAI conventions; only where the span is ours)",
        (GEN_AI_TOOL_NAME, GEN_AI_TOOL_TYPE, GEN_AI_AGENT_NAME, ERROR_TYPE),
        (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ),
    Metric(
        METRIC_INVOKE_AGENT_DURATION,
        "histogram",
        "s",
        "how long agents and workflows took (GenAI conventions; only where the span is ours)",
        (GEN_AI_OPERATION_NAME, GEN_AI_AGENT_NAME, ERROR_TYPE),
        (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
    ),
    Metric(
        METRIC_AUDIT_RECORDS,
        "observable counter",
        "{record}",
        "calls whose row was begun in the audit journal; fewer than decisions means decisions without a row",
        (),
    ),
    Metric(
        METRIC_AUDIT_ERRORS,
        "observable counter",
        "{error}",
        "records the audit journal did not take",
        (),
    ),
    Metric(
        METRIC_AUDIT_SEAL_ERRORS,
        "observable counter",
        "{error}",
        "sealings that this process began and that failed; the journal stays, and grows",
        (),
    ),
    Metric(
        METRIC_AUDIT_UNKNOWN_OUTCOMES,
        "observable counter",
        "{call}",
        "calls, of any process, that this one had sealed as `unknown`: they were allowed, and their process "
        "was gone before it said what came of them. Counted when they are sealed, which may be an hour later",
        (),
    ),
    Metric(
        METRIC_HOOK_ERRORS,
        "observable counter",
        "{error}",
        "exceptions raised by user hooks, isolated and counted",
        (),
    ),
    Metric(
        METRIC_POLICY_RELOADS,
        "observable counter",
        "{reload}",
        "changes of watched policy files that came into force or were refused; the first load is none",
        (POLICY_RELOAD_OUTCOME,),
    ),
)
