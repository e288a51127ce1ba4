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


__version__ = "0.1.0"
"""The version of the distribution, and of the instrumentation scope in every signal."""
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
    "the agent; on `handoff`, the agent that hands over; on `invoke_workflow`, the workflow",
)
GEN_AI_CONVERSATION_ID = _attribute("gen_ai.conversation.id", "the conversation or group the run belongs to")
USER_HASH = _attribute(
    "user.hash",
    "keyed digest of the user that the agent acts for, of the id before redaction (`hmac-sha256:` and hex); "
    "with `AEGIS_USER_ON_SIGNALS=hash`, the default",
)
USER_ID = _attribute(
    "user.id", "that user's id, as the audit row has it; only with `AEGIS_USER_ON_SIGNALS=id`"
)
TENANT_ID = _attribute("aegis.tenant.id", "the tenant that the agent acts for, where it is known")
GEN_AI_WORKFLOW_NAME = _attribute(
    "gen_ai.workflow.name",
    "the old name of `gen_ai.agent.name` on `invoke_workflow`, until the next release: "
    "`RunConfig.workflow_name`, or the name given to `trace()`",
)
GEN_AI_PROVIDER_NAME = _attribute(
    "gen_ai.provider.name", "`openai`, the API that the SDK uses; another company may run the server"
)
GEN_AI_REQUEST_MODEL = _attribute("gen_ai.request.model", "the requested model, where the SDK reports it")
GEN_AI_RESPONSE_MODEL = _attribute(
    "gen_ai.response.model", "the model that answered, where the SDK reports it"
)
GEN_AI_RESPONSE_ID = _attribute("gen_ai.response.id", "the provider's id of the answer")
GEN_AI_INPUT_TOKENS = _attribute(
    "gen_ai.usage.input_tokens",
    "input tokens, with the cached ones; on `invoke_agent`, the sum of all its turns",
    "int",
)
GEN_AI_OUTPUT_TOKENS = _attribute(
    "gen_ai.usage.output_tokens", "output tokens; on `invoke_agent`, the sum of all its turns", "int"
)
GEN_AI_CACHE_READ_TOKENS = _attribute(
    "gen_ai.usage.cache_read.input_tokens", "input tokens read from the provider's cache", "int"
)
GEN_AI_CACHE_WRITE_TOKENS = _attribute(
    "gen_ai.usage.cache_write.input_tokens", "input tokens written to the provider's cache", "int"
)
GEN_AI_CACHE_CREATION_TOKENS = _attribute(
    "gen_ai.usage.cache_creation.input_tokens",
    "the old name of `gen_ai.usage.cache_write.input_tokens`, until the next release",
    "int",
)
GEN_AI_REASONING_TOKENS = _attribute(
    "gen_ai.usage.reasoning.output_tokens", "output tokens spent on reasoning", "int"
)
MCP_METHOD_NAME = _attribute("mcp.method.name", "`tools/list`")
ERROR_TYPE = _attribute("error.type", "the exception's class, or the kind of failure; low cardinality")
EXCEPTION_TYPE = _attribute("exception.type", "the exception's class with its module; never its message")
DECISION_ID = _attribute(
    "aegis.decision.id", "the id of the call: the same in the audit row, on its spans and on its events"
)
DECISION_OUTCOME = _attribute(
    "aegis.decision.outcome", "`allowed`, `approved`, `blocked`, `denied`, `expired` or `error`"
)
DECISION_REASON = _attribute(
    "aegis.decision.reason",
    "why the call did not run, or would not have in monitor mode: one sentence without argument values",
)
DECISION_RESENT = _attribute(
    "aegis.decision.resent",
    "true on an event that `aegis audit resend` made from the audit row",
    "boolean",
)
POLICY_APPROVAL = _attribute("aegis.policy.approval", "what the rule asks for: `auto`, `approve` or `block`")
POLICY_RULE_NAME = _attribute(
    "aegis.policy.rule.name",
    "the rule that decided; `<default>` when none matched, `<error>` when no policy could be asked",
)
POLICY_DIGEST = _attribute("aegis.policy.digest", "the digest of the policy in force")
POLICY_SOURCE = _attribute("aegis.policy.source", "the policy's file names", "string[]")
POLICY_KIND = _attribute("aegis.policy.kind", "`policy`, which is enforced, or `candidate`")
POLICY_RELOAD_OUTCOME = _attribute("aegis.policy.reload.outcome", "`loaded` or `refused`")
CANDIDATE_APPROVAL = _attribute(
    "aegis.candidate.approval",
    "what the candidate policy would enforce: `auto`, `approve` or `block`; only where there is one",
)
CANDIDATE_RULE_NAME = _attribute(
    "aegis.candidate.rule.name", "the rule of the candidate policy that would decide; `<default>` when none"
)
RISK_LEVEL = _attribute("aegis.risk.level", "`low`, `medium`, `high` or `critical`")
ENFORCEMENT_MODE = _attribute(
    "aegis.enforcement.mode",
    "`enforce`, or `monitor` (of the program or the rule), which records what enforcement would do and stops "
    "nothing; on the span only `monitor`",
)
ACTION_TYPE = _attribute(
    "aegis.action.type", "the value that `match.type` is compared with, where it is not the tool's name"
)
ACTION_TARGET = _attribute(
    "aegis.action.target", "the value that `match.target` is compared with, where it is not `default`"
)
ARGUMENTS_DIGEST = _attribute(
    "aegis.action.arguments.digest",
    "keyed digest of the arguments (`hmac-sha256:` and hex), never their values",
)
APPROVAL_OUTCOME = _attribute("aegis.approval.outcome", "`approved`, `denied`, `expired` or `error`")
APPROVAL_CHANNEL = _attribute(
    "aegis.approval.channel",
    "where the human was asked: `cli`, `sdk`, `auto`, `deny`, `none`, or a handler's own name",
)
APPROVAL_WAIT = _attribute("aegis.approval.wait_time", "seconds from the question to the answer", "double")
APPROVAL_REFUSAL = _attribute(
    "aegis.approval.refusal", "why an answer counts for nothing: one sentence without argument values"
)
GRANT_ID = _attribute("aegis.approval.grant.id", "a grant, by the id of the decision that it was given with")
INBOX_ID = _attribute("aegis.inbox.id", "the inbox, alike in all processes that share it; it reveals nothing")
INBOX_STATUS = _attribute(
    "aegis.inbox.status",
    "how a question ended: `used` (a yes, and its call went on), `denied`, `expired` or `withdrawn`",
)
RESULT_STATUS = _attribute("aegis.result.status", "the audit row's `result_status` when the span ended")
AUDIT_ID = _attribute("aegis.audit.id", "the id of the audit; it reveals nothing about the audit's key")
AUDIT_SEAL = _attribute("aegis.audit.seal", "the number of a seal, from 1 without a gap", "int")
AUDIT_CHAIN = _attribute(
    "aegis.audit.chain", "the chain value of the seal: a digest that covers everything sealed so far"
)
AUDIT_PREVIOUS_CHAIN = _attribute("aegis.audit.previous_chain", "the chain value of the seal before")
AUDIT_ROWS = _attribute(
    "aegis.audit.rows", "rows in the segments that the seal adds, with those of merged segments", "int"
)
AUDIT_UNKNOWN = _attribute(
    "aegis.audit.unknown",
    "calls sealed as `unknown`: their process died before it recorded their outcome",
    "int",
)
SDK_TRACE_ID = _attribute(
    "aegis.sdk.trace.id", "the SDK's own trace id; it stays the same after an interruption"
)
HANDOFF_TARGET = _attribute("aegis.handoff.target", "the agent that takes over")
GUARDRAIL_NAME = _attribute("aegis.guardrail.name", "the agent's input or output guardrail")
GUARDRAIL_TRIGGERED = _attribute(
    "aegis.guardrail.triggered", "whether its tripwire stopped the run", "boolean"
)
MCP_SERVER_NAME = _attribute("aegis.mcp.server.name", "the MCP server that was asked for its tools")
ATTRIBUTES = tuple(_attributes)

# --- the sets that signals share ---
_SUBJECT = (USER_HASH, USER_ID, TENANT_ID)
_CALL = (GEN_AI_TOOL_NAME, GEN_AI_TOOL_CALL_ID, GEN_AI_AGENT_NAME, GEN_AI_CONVERSATION_ID, *_SUBJECT)
_DECISION = (DECISION_ID, RISK_LEVEL, POLICY_RULE_NAME)
_TOKENS = (GEN_AI_INPUT_TOKENS, GEN_AI_OUTPUT_TOKENS)
_CACHE_TOKENS = (GEN_AI_CACHE_READ_TOKENS, GEN_AI_CACHE_WRITE_TOKENS, GEN_AI_CACHE_CREATION_TOKENS)

SPANS: tuple[Span, ...] = (
    Span(
        f"{GOVERN_TOOL} {{tool}}",
        "INTERNAL",
        "one governed tool call, from the decision to the end of the body; risk and rule are on it at start",
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
        "the wait for a human; only when one is asked",
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
        "the tool's body; only when it runs and no other instrumentation's tool span is current",
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
        "one trace of the SDK: a run, or the runs that `trace()` groups; a resumed run gets a new one",
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
        "an agent's work, until it finishes or hands over",
        (GEN_AI_OPERATION_NAME, GEN_AI_AGENT_NAME, GEN_AI_CONVERSATION_ID, *_TOKENS, ERROR_TYPE),
    ),
    Span(
        f"{CHAT} {{model}}",
        "CLIENT",
        "one model call, where the model's implementation reports it to the SDK's tracing",
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
        "one run of an agent's guardrail (a tool's guardrails have no span)",
        (GEN_AI_OPERATION_NAME, GUARDRAIL_NAME, GUARDRAIL_TRIGGERED, GEN_AI_CONVERSATION_ID, ERROR_TYPE),
    ),
    Span(
        MCP_LIST_TOOLS,
        "CLIENT",
        "a request for the tool list of an MCP server, also where the SDK's cache answers it",
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
    "once per call: the final verdict, before the body runs",
    (
        *_CALL,
        *_DECISION,
        POLICY_APPROVAL,
        POLICY_DIGEST,
        CANDIDATE_APPROVAL,
        CANDIDATE_RULE_NAME,
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
    "the human answered, or the time ran out",
    (*_ASKED, APPROVAL_OUTCOME, APPROVAL_WAIT),
)
EVENT_ANSWER_GIVEN = _event(
    "aegis.inbox.answered",
    "INFO",
    "a person's answer was put into the inbox; `aegis.approval.resolved` follows where the call goes on",
    (INBOX_ID, DECISION_ID, APPROVAL_OUTCOME),
)
EVENT_ANSWER_REFUSED = _event(
    "aegis.inbox.answer_refused",
    "WARN",
    "an answer to a question in the inbox counts for nothing, and is recorded there: who gave it, and why",
    (INBOX_ID, DECISION_ID, APPROVAL_REFUSAL),
)
EVENT_QUESTION_EXPIRED = _event(
    "aegis.inbox.expired", "WARN", "the time of a question in the inbox is over", (INBOX_ID, DECISION_ID)
)
EVENT_GRANT_GIVEN = _event(
    "aegis.inbox.granted", "INFO", "a yes in the inbox is one for later calls, too", (INBOX_ID, GRANT_ID)
)
EVENT_GRANT_USED = _event(
    "aegis.inbox.grant_used",
    BY_RISK,
    "a call needed no question, because a grant covers it",
    (*_CALL, *_DECISION, GRANT_ID),
)
EVENT_GRANT_REVOKED = _event(
    "aegis.inbox.grant_revoked", "INFO", "somebody ended a grant before its time", (INBOX_ID, GRANT_ID)
)
EVENT_TOOL_EXCEPTION = _event(
    "gen_ai.execute_tool.exception",
    "WARN",
    "a tool's body raised (GenAI conventions; only where `execute_tool` comes from this package)",
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
    "part of the audit was sealed; stored elsewhere, it is a witness for `aegis audit verify --witness`",
    (AUDIT_ID, AUDIT_SEAL, AUDIT_CHAIN, AUDIT_PREVIOUS_CHAIN, AUDIT_ROWS, AUDIT_UNKNOWN),
)
EVENT_PROBE = _event(
    "aegis.probe", "INFO", "a test event of `aegis doctor`, which checks that events arrive", (DECISION_ID,)
)
EVENTS = tuple(_events)

# --- metrics ---
METRIC_DECISIONS = _metric(
    "aegis.decisions",
    "observable counter",
    "{decision}",
    "final decisions; starts at zero for every rule of the loaded policy (the riskiest 1,500 series)",
    (DECISION_OUTCOME, POLICY_APPROVAL, RISK_LEVEL, POLICY_RULE_NAME, ENFORCEMENT_MODE),
)
METRIC_EVALUATION_DURATION = _metric(
    "aegis.policy.evaluation.duration",
    "histogram",
    "s",
    "how long a policy evaluation took; only with `AEGIS_EVALUATION_DURATION=on`",
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
    "calls that wait for a human now inside a handler; runs that the SDK paused are not counted",
)
METRIC_INBOX_WAITING = _metric(
    "aegis.inbox.waiting",
    "observable gauge",
    "{question}",
    "questions in the inbox that wait for an answer now, those of paused runs as well; each process that "
    "uses the inbox reports all of them, so take the maximum of an inbox, not the sum",
    (INBOX_ID,),
)
METRIC_INBOX_LONGEST_WAIT = _metric(
    "aegis.inbox.longest_wait",
    "observable gauge",
    "s",
    "how long the oldest of these questions waits; 0 where none does",
    (INBOX_ID,),
)
METRIC_INBOX_GRANTS = _metric(
    "aegis.inbox.grants", "observable gauge", "{grant}", "grants in the inbox that hold", (INBOX_ID,)
)
METRIC_INBOX_ENDED = _metric(
    "aegis.inbox.ended",
    "observable counter",
    "{question}",
    "questions in the inbox that ended, whichever process ended them, since this one began to count; take "
    "the maximum of an inbox, not the sum",
    (INBOX_ID, INBOX_STATUS),
)
METRIC_INBOX_REFUSED = _metric(
    "aegis.inbox.refused_answers",
    "observable counter",
    "{answer}",
    "answers to questions in the inbox that count for nothing, counted likewise",
    (INBOX_ID,),
)
METRIC_EXECUTE_TOOL_DURATION = _metric(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "how long tool bodies took (GenAI conventions; only where the span comes from this package)",
    (GEN_AI_TOOL_NAME, GEN_AI_TOOL_TYPE, GEN_AI_AGENT_NAME, ERROR_TYPE),
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
METRIC_INVOKE_AGENT_DURATION = _metric(
    "gen_ai.invoke_agent.duration",
    "histogram",
    "s",
    "how long agents and workflows took (GenAI conventions; only where the span comes from this package)",
    (GEN_AI_OPERATION_NAME, GEN_AI_AGENT_NAME, ERROR_TYPE),
    (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
)
METRIC_AUDIT_RECORDS = _metric(
    "aegis.audit.records",
    "observable counter",
    "{record}",
    "calls with a row in the audit journal; fewer than decisions means decisions without a row",
)
METRIC_AUDIT_ERRORS = _metric(
    "aegis.audit.errors",
    "observable counter",
    "{error}",
    "records that could not be written to the audit journal",
)
METRIC_AUDIT_SEAL_ERRORS = _metric(
    "aegis.audit.seal_errors",
    "observable counter",
    "{error}",
    "failed attempts of this process to seal the journal; the journal stays and grows",
)
METRIC_AUDIT_UNKNOWN_OUTCOMES = _metric(
    "aegis.audit.unknown_outcomes",
    "observable counter",
    "{call}",
    "calls of any process that this one sealed as `unknown`: they were allowed, and their process died "
    "before it recorded the outcome. Counted at sealing, which may be an hour later",
)
METRIC_HOOK_ERRORS = _metric(
    "aegis.hook.errors",
    "observable counter",
    "{error}",
    "exceptions raised by user hooks; they change no verdict",
)
METRIC_POLICY_RELOADS = _metric(
    "aegis.policy.reloads",
    "observable counter",
    "{reload}",
    "changes of watched policy files that came into force or were refused, without the first load",
    (POLICY_RELOAD_OUTCOME,),
)
METRIC_POLICY_REFUSED = _metric(
    "aegis.policy.refused",
    "observable up-down counter",
    "{policy}",
    "watched policies whose files are refused as they are now, so that an older policy is in force or in use",
    (POLICY_KIND,),
)
METRIC_CANDIDATE_DECISIONS = _metric(
    "aegis.candidate.decisions",
    "observable counter",
    "{decision}",
    "decisions about which a candidate policy was asked too: what the policy enforces, and what "
    "the candidate would; starts at zero for the rules of the candidate (1,500 series at most)",
    (POLICY_APPROVAL, CANDIDATE_APPROVAL, CANDIDATE_RULE_NAME),
)
METRIC_CANDIDATE_ERRORS = _metric(
    "aegis.candidate.errors",
    "observable counter",
    "{error}",
    "candidate policies that could not be loaded, and calls about which one could not be asked; they change "
    "no verdict",
)
METRIC_LIMIT_USAGE = _metric(
    "aegis.limit.usage",
    "histogram",
    "1",
    "how much of a limit was used with the call at hand: 1 is all of it, more is over it; once for each "
    "`calls_over`, `total_over` and `tokens_over` that was asked",
    (POLICY_RULE_NAME,),
    (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.5, 2, 5),
)
METRIC_STATE_ERRORS = _metric(
    "aegis.state.errors",
    "observable counter",
    "{error}",
    "uses of the state that processes share that failed; calls that need it are refused meanwhile",
)
METRICS = tuple(_metrics)
