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


_attributes: list[Attribute] = []
_events: list[Event] = []
_metrics: list[Metric] = []


# Each name is declared once, with what is to be said of it: the tables of docs/telemetry.md hold all of them.


def _attribute(key: str, meaning: str, kind: str = "string") -> str:
    _attributes.append(Attribute(key, kind, meaning))
    return key


def _event(name: str, severity: str, meaning: str, attributes: tuple[str, ...]) -> str:
    _events.append(Event(name, severity, meaning, attributes))
    return name


def _metric(  # noqa: PLR0917
    name: str,
    instrument: str,
    unit: str,
    meaning: str,
    attributes: tuple[str, ...] = (),
    buckets: tuple[float, ...] = (),
) -> str:
    _metrics.append(Metric(name, instrument, unit, meaning, attributes, buckets))
    return name


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

# --- attributes ---
GEN_AI_OPERATION_NAME = _attribute("gen_ai.operation.name", "the first word of the span's name")
GEN_AI_TOOL_NAME = _attribute("gen_ai.tool.name", "the tool as the model calls it")
GEN_AI_TOOL_TYPE = _attribute("gen_ai.tool.type", "`function`, for a tool of the SDK")
GEN_AI_TOOL_CALL_ID = _attribute("gen_ai.tool.call.id", "the model's id of the call")
GEN_AI_TOOL_CALL_ARGUMENTS = _attribute(
    "gen_ai.tool.call.arguments", "redacted arguments as JSON; only when GenAI content capture is on"
)
GEN_AI_AGENT_NAME = _attribute(
    "gen_ai.agent.name",
    "the agent that asked; of a `handoff`, the one that hands over; of `invoke_workflow`, the workflow",
)
GEN_AI_CONVERSATION_ID = _attribute("gen_ai.conversation.id", "the conversation or group the run belongs to")
GEN_AI_WORKFLOW_NAME = _attribute(
    "gen_ai.workflow.name",
    "`RunConfig.workflow_name`, or the name given to `trace()`; the conventions have `gen_ai.agent.name` "
    "for it now, and the next release has no other",
)
GEN_AI_PROVIDER_NAME = _attribute(
    "gen_ai.provider.name", "`openai`, whose API the SDK speaks; the server may be another's"
)
GEN_AI_REQUEST_MODEL = _attribute("gen_ai.request.model", "the model asked for, where the SDK tells it")
GEN_AI_RESPONSE_MODEL = _attribute("gen_ai.response.model", "the model that answered, where the SDK tells it")
GEN_AI_RESPONSE_ID = _attribute("gen_ai.response.id", "the provider's id of the answer")
GEN_AI_INPUT_TOKENS = _attribute(
    "gen_ai.usage.input_tokens", "tokens in, cached ones included; of an agent, all its turns", "int"
)
GEN_AI_OUTPUT_TOKENS = _attribute(
    "gen_ai.usage.output_tokens", "tokens out; of an agent, all its turns", "int"
)
GEN_AI_CACHE_READ_TOKENS = _attribute(
    "gen_ai.usage.cache_read.input_tokens", "tokens in that came from the provider's cache", "int"
)
GEN_AI_CACHE_WRITE_TOKENS = _attribute(
    "gen_ai.usage.cache_write.input_tokens", "tokens in that were written to the provider's cache", "int"
)
GEN_AI_CACHE_CREATION_TOKENS = _attribute(
    "gen_ai.usage.cache_creation.input_tokens",
    "the old name of `gen_ai.usage.cache_write.input_tokens`, until the next release",
    "int",
)
GEN_AI_REASONING_TOKENS = _attribute(
    "gen_ai.usage.reasoning.output_tokens", "tokens out that were spent on reasoning", "int"
)
MCP_METHOD_NAME = _attribute("mcp.method.name", "`tools/list`")
ERROR_TYPE = _attribute("error.type", "the exception's class, or what failed; low cardinality")
EXCEPTION_TYPE = _attribute("exception.type", "the exception's class with its module; never its message")
DECISION_ID = _attribute(
    "aegis.decision.id", "the one id of a call: in the audit row, on the span, on the event"
)
DECISION_OUTCOME = _attribute(
    "aegis.decision.outcome", "`allowed`, `approved`, `blocked`, `denied`, `expired` or `error`"
)
DECISION_REASON = _attribute(
    "aegis.decision.reason",
    "why, in one sentence without argument values; where the call was not let through",
)
DECISION_RESENT = _attribute(
    "aegis.decision.resent",
    "true on an event that `aegis audit resend` made of the audit row; the id tells it from others",
    "boolean",
)
POLICY_APPROVAL = _attribute("aegis.policy.approval", "what the rule asks for: `auto`, `approve` or `block`")
POLICY_RULE_NAME = _attribute(
    "aegis.policy.rule.name",
    "the rule that decided; `<default>` when none matched, `<error>` when the policy could not be asked",
)
POLICY_DIGEST = _attribute("aegis.policy.digest", "the digest of the policy in force")
POLICY_SOURCE = _attribute("aegis.policy.source", "the policy's file names", "string[]")
POLICY_RELOAD_OUTCOME = _attribute("aegis.policy.reload.outcome", "`loaded` or `refused`")
RISK_LEVEL = _attribute("aegis.risk.level", "`low`, `medium`, `high` or `critical`")
ENFORCEMENT_MODE = _attribute(
    "aegis.enforcement.mode",
    "`enforce` or `monitor`: what would have been, nothing is stopped; on the span only `monitor`",
)
ACTION_TYPE = _attribute("aegis.action.type", "what `match.type` saw, where it is not the tool's name")
ACTION_TARGET = _attribute("aegis.action.target", "what `match.target` saw, where it is not `default`")
ARGUMENTS_DIGEST = _attribute(
    "aegis.action.arguments.digest",
    "keyed digest of the arguments (`hmac-sha256:` and hex), never their values",
)
APPROVAL_OUTCOME = _attribute("aegis.approval.outcome", "`approved`, `denied`, `expired` or `error`")
APPROVAL_CHANNEL = _attribute(
    "aegis.approval.channel",
    "where the human was asked: `cli`, `sdk`, `auto`, `deny`, `none`, or what a handler calls itself",
)
APPROVAL_WAIT = _attribute("aegis.approval.wait_time", "seconds the answer took", "double")
RESULT_STATUS = _attribute("aegis.result.status", "the audit row's `result_status` when the span ended")
AUDIT_ID = _attribute("aegis.audit.id", "which audit it is; tells nothing of the audit's key")
AUDIT_SEAL = _attribute("aegis.audit.seal", "the number of a seal, from 1 without a gap", "int")
AUDIT_CHAIN = _attribute(
    "aegis.audit.chain", "the chain value of a seal, which stands for all that was sealed until then"
)
AUDIT_PREVIOUS_CHAIN = _attribute("aegis.audit.previous_chain", "the chain value that the seal follows")
AUDIT_ROWS = _attribute(
    "aegis.audit.rows", "rows in the segments that a seal adds, those of merged segments too", "int"
)
AUDIT_UNKNOWN = _attribute(
    "aegis.audit.unknown",
    "calls that were sealed as `unknown`: their process was gone before it said what came of them",
    "int",
)
SDK_TRACE_ID = _attribute(
    "aegis.sdk.trace.id", "the SDK's own trace id, the same before and after an interruption"
)
HANDOFF_TARGET = _attribute("aegis.handoff.target", "the agent that takes over")
GUARDRAIL_NAME = _attribute("aegis.guardrail.name", "the agent's input or output guardrail")
GUARDRAIL_TRIGGERED = _attribute(
    "aegis.guardrail.triggered", "whether its tripwire stopped the run", "boolean"
)
MCP_SERVER_NAME = _attribute("aegis.mcp.server.name", "the MCP server that was asked for its tools")
ATTRIBUTES = tuple(_attributes)

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

# --- events ---
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

EVENT_DECISION = _event(
    "aegis.tool.decision",
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
)
EVENT_APPROVAL_REQUESTED = _event("aegis.approval.requested", BY_RISK, "a human is asked", _ASKED)
EVENT_APPROVAL_RESOLVED = _event(
    "aegis.approval.resolved",
    BY_RISK,
    "the human answered, or did not in time",
    (*_ASKED, APPROVAL_OUTCOME, APPROVAL_WAIT),
)
EVENT_TOOL_EXCEPTION = _event(
    "gen_ai.execute_tool.exception",
    "WARN",
    "a tool's body raised (GenAI conventions; only where the span of the body is ours)",
    (GEN_AI_TOOL_NAME, GEN_AI_TOOL_CALL_ID, GEN_AI_AGENT_NAME, DECISION_ID, EXCEPTION_TYPE),
)
EVENT_POLICY_LOADED = _event(
    "aegis.policy.loaded", "INFO", "a policy came into force", (POLICY_DIGEST, POLICY_SOURCE)
)
EVENT_POLICY_LOAD_FAILED = _event(
    "aegis.policy.load_failed",
    "ERROR",
    "a changed policy was refused; the old one stays in force",
    (POLICY_SOURCE, ERROR_TYPE),
)
EVENT_AUDIT_WRITE_FAILED = _event(
    "aegis.audit.write_failed",
    "ERROR",
    "a record could not be written; a call that had not begun did not run",
    (DECISION_ID, GEN_AI_TOOL_NAME, ERROR_TYPE),
)
EVENT_AUDIT_SEALED = _event(
    "aegis.audit.sealed",
    "INFO",
    "part of the audit was sealed; kept elsewhere, it is a witness for `aegis audit verify --witness`",
    (AUDIT_ID, AUDIT_SEAL, AUDIT_CHAIN, AUDIT_PREVIOUS_CHAIN, AUDIT_ROWS, AUDIT_UNKNOWN),
)
EVENT_PROBE = _event(
    "aegis.probe", "INFO", "`aegis doctor` checks that events arrive; it is no decision", (DECISION_ID,)
)
EVENTS = tuple(_events)

# --- metrics ---
METRIC_DECISIONS = _metric(
    "aegis.decisions",
    "observable counter",
    "{decision}",
    "final decisions; starts at zero for every rule of the loaded policy (the riskiest 1,500 label sets)",
    (DECISION_OUTCOME, POLICY_APPROVAL, RISK_LEVEL, POLICY_RULE_NAME, ENFORCEMENT_MODE),
)
METRIC_EVALUATION_DURATION = _metric(
    "aegis.policy.evaluation.duration",
    "histogram",
    "s",
    "how long the policy took to decide; only with `AEGIS_EVALUATION_DURATION=on`",
    (DECISION_OUTCOME,),
    (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1),
)
METRIC_APPROVAL_DURATION = _metric(
    "aegis.approval.duration",
    "histogram",
    "s",
    "how long a human took to answer",
    (APPROVAL_OUTCOME, APPROVAL_CHANNEL),
    (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400),
)
METRIC_APPROVAL_PENDING = _metric(
    "aegis.approval.pending",
    "observable up-down counter",
    "{request}",
    "calls that wait for a human now, inside a handler; not the runs that the SDK paused",
)
METRIC_EXECUTE_TOOL_DURATION = _metric(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "how long tool bodies took (GenAI conventions; only where the span is ours)",
    (GEN_AI_TOOL_NAME, GEN_AI_TOOL_TYPE, GEN_AI_AGENT_NAME, ERROR_TYPE),
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
METRIC_INVOKE_AGENT_DURATION = _metric(
    "gen_ai.invoke_agent.duration",
    "histogram",
    "s",
    "how long agents and workflows took (GenAI conventions; only where the span is ours)",
    (GEN_AI_OPERATION_NAME, GEN_AI_AGENT_NAME, ERROR_TYPE),
    (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
)
METRIC_AUDIT_RECORDS = _metric(
    "aegis.audit.records",
    "observable counter",
    "{record}",
    "calls whose row was begun in the audit journal; fewer than decisions means decisions without a row",
)
METRIC_AUDIT_ERRORS = _metric(
    "aegis.audit.errors", "observable counter", "{error}", "records the audit journal did not take"
)
METRIC_AUDIT_SEAL_ERRORS = _metric(
    "aegis.audit.seal_errors",
    "observable counter",
    "{error}",
    "sealings that this process began and that failed; the journal stays, and grows",
)
METRIC_AUDIT_UNKNOWN_OUTCOMES = _metric(
    "aegis.audit.unknown_outcomes",
    "observable counter",
    "{call}",
    "calls, of any process, that this one had sealed as `unknown`: they were allowed, and their process "
    "was gone before it said what came of them. Counted when they are sealed, which may be an hour later",
)
METRIC_HOOK_ERRORS = _metric(
    "aegis.hook.errors",
    "observable counter",
    "{error}",
    "exceptions raised by user hooks, isolated and counted",
)
METRIC_POLICY_RELOADS = _metric(
    "aegis.policy.reloads",
    "observable counter",
    "{reload}",
    "changes of watched policy files that came into force or were refused; the first load is none",
    (POLICY_RELOAD_OUTCOME,),
)
METRICS = tuple(_metrics)
