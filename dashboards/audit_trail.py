"""The audit trail: single decisions, their conversations and their traces."""

from __future__ import annotations

from typing import Any

from aegis_otel import semconv
from dashboards import panels
from dashboards.board import CONVERSATION_URL, DECISION_URL, TRACE_URL, Board, Section, written
from dashboards.panels import Words
from dashboards.queries import Query, count, events, legend, line, span, spans
from dashboards.signals import (
    AGENT,
    ANSWER,
    CONVERSATION,
    DECISION,
    ERROR,
    MODE,
    OUTCOME,
    REASON,
    RISK,
    RULE,
    TENANT,
    TOOL,
    USER,
)

LINKS = {"trace": TRACE_URL, "decision id": DECISION_URL, "conversation": CONVERSATION_URL}
COLUMNS = {
    "Time": "time",
    RISK: "risk",
    OUTCOME: "outcome",
    TOOL: "tool",
    AGENT: "agent",
    TENANT: "tenant",
    USER: "user",
    RULE: "rule",
    REASON: "reason",
    MODE: "mode",
    CONVERSATION: "conversation",
    "trace_id": "trace",
    DECISION: "decision id",
}


OF_TENANT = {TENANT: "~$tenant"}
"""The decisions for the tenants that the board shows; `.*` is also of those for nobody known."""

STOPPED = {OUTCOME: "~blocked|denied|expired", **OF_TENANT}


def audit_trail() -> Board:
    return Board(
        uid="aegis-audit",
        title="Aegis: audit trail",
        purpose="Single decisions with agent, tool, rule, conversation and trace. It shows what reached the "
        "backends; the complete audit is on the host (`aegis audit`).",
        sections=[
            Section("Decisions", _decisions()),
            Section("One decision and its conversation", _one()),
            Section("Traces", _traces()),
            Section("Seals and faults", _own()),
        ],
        extra=[
            written("decision", "Decision id", "Shows the events and spans of one call below."),
            written(
                "tenant",
                "Tenant",
                "A regular expression of the tenants whose decisions are shown; all of them by default.",
                default=".*",
            ),
            written("conversation", "Conversation", "Shows all calls of one conversation below."),
        ],
    )


def _decisions() -> list[panels.Placed]:
    return [
        panels.rows(
            "Decisions",
            Words(
                "Each decision, newest first, filtered by the variables above. Ids and traces are links.",
                "A call of CRITICAL risk with outcome `allowed` or `approved` that nobody expected.",
                "Click the trace to see what happened around it, or the decision id to see its events below.",
            ),
            Query(events(semconv.EVENT_DECISION, OF_TENANT), store="loki", limit=500),
            steps=_table(COLUMNS),
            links=LINKS,
            height=14,
        ),
        panels.lines(
            "Decisions by risk",
            Words(
                "Number of decision events, by risk.",
                "Red where there was none before.",
                "Drag over it to narrow the time, then read the table.",
            ),
            Query(count(events(semconv.EVENT_DECISION, OF_TENANT), RISK), legend(RISK), store="loki"),
            bars=True,
            stacked=True,
        ),
        panels.lines(
            "Decisions by outcome",
            Words(
                "Number of decision events, by outcome.",
                "Purple (error): governance itself failed.",
                "Drag over it to narrow the time, then read the table.",
            ),
            Query(count(events(semconv.EVENT_DECISION, OF_TENANT), OUTCOME), legend(OUTCOME), store="loki"),
            bars=True,
            stacked=True,
        ),
        panels.lines(
            "Stopped calls by tenant",
            Words(
                "Number of blocked, denied and expired calls, for the ten tenants that have most of them.",
                "One tenant alone: its users ask for what they may not have, or its policy is too strict.",
                "Set the tenant above, then read the table.",
            ),
            Query(
                f"topk(10, {count(events(semconv.EVENT_DECISION, STOPPED), TENANT)})",
                legend(TENANT),
                store="loki",
            ),
            bars=True,
            stacked=True,
            width=24,
        ),
    ]


def _one() -> list[panels.Placed]:
    every = "|".join(
        (semconv.EVENT_DECISION, semconv.EVENT_APPROVAL_REQUESTED, semconv.EVENT_APPROVAL_RESOLVED)
    )
    one = events(every, {DECISION: "$decision"}, narrowed=False)
    replay = events(every, {CONVERSATION: "$conversation"}, narrowed=False)
    said = line("event_name", TOOL, RISK, RULE, OUTCOME, ANSWER, REASON)
    return [
        panels.log(
            "Events of the decision above",
            Words(
                "Every event of one call: request, answer, decision. Empty until a decision id is set above.",
                "Two decisions with one id and without `aegis_decision_resent`: the call is counted twice.",
                "Run `aegis audit show ID` on the host: it has the redacted arguments.",
            ),
            Query(one + said, store="loki"),
            width=12,
        ),
        panels.rows(
            "Spans of the decision above",
            Words(
                "The stored spans of that call. Empty until a decision id is set above.",
                "Events without a span: sampling dropped the span, or the trace store lost it.",
                "Check the sampling ratio. The gateway always keeps HIGH and CRITICAL calls.",
            ),
            Query(spans(span(semconv.DECISION_ID, "$decision"), select=_SELECT), store="tempo"),
            width=12,
            height=9,
        ),
        panels.log(
            "Events of the conversation above",
            Words(
                "All calls, requests and answers of one conversation, newest first.",
                "A blocked call, followed by another tool that does the same.",
                "Read it from the bottom up, then inform the owner of the agent.",
            ),
            Query(replay + said, store="loki", limit=500),
        ),
    ]


_SELECT = (
    semconv.GEN_AI_TOOL_NAME,
    semconv.GEN_AI_AGENT_NAME,
    semconv.RISK_LEVEL,
    semconv.POLICY_RULE_NAME,
    semconv.DECISION_OUTCOME,
    semconv.DECISION_ID,
)


def _traces() -> list[panels.Placed]:
    tool = span(semconv.GEN_AI_TOOL_NAME, "$tool", "=~")
    risky = spans(
        span(semconv.RISK_LEVEL, "high|critical", "=~"),
        span(semconv.DECISION_OUTCOME, "allowed|approved", "=~"),
        tool,
        select=_SELECT,
    )
    agent = span(semconv.GEN_AI_OPERATION_NAME, semconv.INVOKE_AGENT)
    blocked = span(semconv.DECISION_OUTCOME, "blocked|denied", "=~")
    chain = f"{spans(agent)} >> {{ {blocked} }} | select({', '.join(f'span.{name}' for name in _SELECT)})"
    twice = f"{spans(blocked)} | count() > 1"
    failed = spans(
        span(semconv.GEN_AI_OPERATION_NAME, semconv.EXECUTE_TOOL),
        "status = error",
        select=(semconv.GEN_AI_TOOL_NAME, semconv.GEN_AI_AGENT_NAME, semconv.ERROR_TYPE),
    )
    return [
        panels.rows(
            "HIGH and CRITICAL calls that ran",
            Words(
                "Spans of calls with HIGH or CRITICAL risk that were allowed or approved.",
                "A call that nobody expected.",
                "Open the trace to see what the agent did before and after.",
            ),
            Query(risky, store="tempo", limit=50),
            width=12,
        ),
        panels.rows(
            "Stopped calls",
            Words(
                "Spans of blocked and denied calls that have an agent's span above them.",
                "The same agent again and again.",
                "Open the trace and read what led to the call.",
            ),
            Query(chain, store="tempo", limit=50),
            width=12,
        ),
        panels.rows(
            "Traces with several stopped calls",
            Words(
                "Traces with two or more stopped calls: agents that try again by other means.",
                "A trace with a CRITICAL call.",
                "Read the conversation and inform the owner of the agent, who can stop it.",
            ),
            Query(twice, store="tempo", limit=50),
            width=12,
        ),
        panels.rows(
            "Failed tools",
            Words(
                "Tool bodies that ran and failed.",
                "A tool that fails on each call: agents try again and again.",
                "Send the `error.type` to its owner.",
            ),
            Query(failed, store="tempo", limit=50),
            width=12,
        ),
    ]


def _own() -> list[panels.Placed]:
    faults = f"{semconv.EVENT_AUDIT_WRITE_FAILED}|{semconv.EVENT_POLICY_LOAD_FAILED}"
    errors = events(semconv.EVENT_DECISION, {OUTCOME: "error"})
    sealed = events(semconv.EVENT_AUDIT_SEALED, narrowed=False)
    seals = line("aegis_audit_id", "aegis_audit_seal", "aegis_audit_rows", "aegis_audit_chain")
    return [
        panels.log(
            "Seals",
            Words(
                "Each seal of an audit with its chain value. Stored here, it is a witness of the seal.",
                "A gap in the seal numbers of one audit, or two chain values for one number.",
                "Run `aegis audit verify --witness FILE` with the collector's file; see docs/audit-proof.md.",
            ),
            Query(sealed + seals, store="loki"),
            width=12,
        ),
        panels.log(
            "Audit and policy faults",
            Words(
                "Records that could not be written, and policies that were refused.",
                "Any entry.",
                "Audit: check disk space and permissions. Policy: run `aegis policy check FILE`.",
            ),
            Query(
                events(faults, narrowed=False) + line("event_name", ERROR, "aegis_policy_source"),
                store="loki",
            ),
            width=12,
        ),
        panels.log(
            "Calls stopped because governance failed",
            Words(
                "Decisions with outcome `error`, with the reason.",
                "Any entry: the policy may allow these calls.",
                "Follow the runbook of AegisGovernanceFailing.",
            ),
            Query(errors + line(TOOL, AGENT, RULE, REASON, ERROR), store="loki"),
        ),
    ]


def _table(columns: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Log lines as a table: their labels are columns, in this order, and nothing else is."""
    order = {name: number for number, name in enumerate(columns)}
    return [
        ("extractFields", {"source": "labels", "format": "json", "replace": False, "keepTime": True}),
        ("filterFieldsByName", {"include": {"names": list(columns)}}),
        ("organize", {"renameByName": columns, "indexByName": order, "excludeByName": {}}),
    ]
