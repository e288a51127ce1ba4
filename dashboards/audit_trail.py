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
    TOOL,
)

LINKS = {"trace": TRACE_URL, "decision id": DECISION_URL, "conversation": CONVERSATION_URL}
COLUMNS = {
    "Time": "time",
    RISK: "risk",
    OUTCOME: "outcome",
    TOOL: "tool",
    AGENT: "agent",
    RULE: "rule",
    REASON: "reason",
    MODE: "mode",
    CONVERSATION: "conversation",
    "trace_id": "trace",
    DECISION: "decision id",
}


def audit_trail() -> Board:
    return Board(
        uid="aegis-audit",
        title="Aegis: audit trail",
        purpose="Single decisions: what, who, by which rule; its conversation; its trace. The audit itself "
        "is on the host (`aegis audit`); this is what reached the backends.",
        sections=[
            Section("Decisions", _decisions()),
            Section("One decision, one conversation", _one()),
            Section("Traces", _traces()),
            Section("The audit's own events", _own()),
        ],
        extra=[
            written("decision", "Decision id", "One call: its events and its spans, further down."),
            written(
                "conversation", "Conversation", "One conversation: all that its agents did, further down."
            ),
        ],
    )


def _decisions() -> list[panels.Placed]:
    return [
        panels.rows(
            "Decisions",
            Words(
                "Each decision, newest first, narrowed by what is chosen above. Ids and traces are links.",
                "A red risk with outcome `allowed` or `approved` that nobody expected.",
                "Click the trace for what happened around it; the decision id for all that is known of it.",
            ),
            Query(events(semconv.EVENT_DECISION), store="loki", limit=500),
            steps=_table(COLUMNS),
            links=LINKS,
            height=14,
        ),
        panels.lines(
            "Decisions by risk",
            Words(
                "Decision events, by risk, counted exactly.",
                "Red where there was none.",
                "Drag over it to narrow the time, then read the table.",
            ),
            Query(count(events(semconv.EVENT_DECISION), RISK), legend(RISK), store="loki"),
            bars=True,
            stacked=True,
        ),
        panels.lines(
            "Decisions by outcome",
            Words(
                "Decision events, by outcome, counted exactly.",
                "Purple: governance itself failed.",
                "Drag over it to narrow the time, then read the table.",
            ),
            Query(count(events(semconv.EVENT_DECISION), OUTCOME), legend(OUTCOME), store="loki"),
            bars=True,
            stacked=True,
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
            "The decision with the id above",
            Words(
                "Every event of one call: asked, answered, decided. Empty until an id is above.",
                "Two decisions of one id without `aegis_decision_resent`: one call counted twice.",
                "`aegis audit show ID` on the host has its redacted arguments.",
            ),
            Query(one + said, store="loki"),
            width=12,
        ),
        panels.rows(
            "Its spans",
            Words(
                "The spans of that call, whichever of them were kept. Empty until an id is above.",
                "No span although there are events: it was sampled away, or the trace store lost it.",
                "HIGH and CRITICAL are always kept; the others by the sampling ratio.",
            ),
            Query(spans(span(semconv.DECISION_ID, "$decision"), select=_SELECT), store="tempo"),
            width=12,
            height=9,
        ),
        panels.log(
            "The conversation above, as it went",
            Words(
                "All that agents of one conversation asked for and were answered, newest first.",
                "A blocked call, and then another tool that does the same.",
                "Read it from below; tell the owner of the agent.",
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
                "Spans of risky calls that were let through.",
                "One that nobody expected.",
                "Open the trace: what the agent did before and after.",
            ),
            Query(risky, store="tempo", limit=50),
            width=12,
        ),
        panels.rows(
            "Agents that were stopped",
            Words(
                "Stopped calls below the agent that asked for them.",
                "The same agent over and over.",
                "Open the trace and read what led to the call.",
            ),
            Query(chain, store="tempo", limit=50),
            width=12,
        ),
        panels.rows(
            "Runs stopped more than once",
            Words(
                "Traces with two stopped calls or more: agents that try again by other means.",
                "Any with CRITICAL in it.",
                "Read the conversation; a misled agent is stopped at its owner's, not at the policy.",
            ),
            Query(twice, store="tempo", limit=50),
            width=12,
        ),
        panels.rows(
            "Tools that failed",
            Words(
                "Tool bodies that ran and raised.",
                "A tool that fails at each call: agents try again and again.",
                "Tell its owner the `error.type`.",
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
                "Each seal of an audit with its chain value: kept here, it is a witness against its owner.",
                "A gap in the numbers of one audit, or two chain values for one number.",
                "`aegis audit verify --witness` with these values; see docs/audit-proof.md.",
            ),
            Query(sealed + seals, store="loki"),
            width=12,
        ),
        panels.log(
            "Faults of audit and policy",
            Words(
                "Records that could not be written, policies that were refused.",
                "Any.",
                "Disk full or read-only: mend it. A policy: `aegis policy check FILE`.",
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
                "Any: the policy would perhaps have let them.",
                "Runbook of AegisGovernanceFailing.",
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
