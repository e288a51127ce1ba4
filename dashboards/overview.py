"""Overview: is everything well, and where to look if not."""

from __future__ import annotations

from aegis_otel import semconv
from dashboards import panels
from dashboards.board import Board, Section
from dashboards.panels import Words
from dashboards.queries import (
    Query,
    count,
    counted,
    events,
    legend,
    line,
    or_zero,
    quantile,
    rate,
    share,
    total,
)
from dashboards.signals import (
    AGENT,
    AUDIT_ERRORS,
    DECISIONS,
    EVALUATION,
    JOB,
    OUTCOME,
    PENDING,
    RISK,
    RULE,
    TOOL,
    TOOL_DURATION,
)

STOPPED = {OUTCOME: "~blocked|denied|expired"}


def overview() -> Board:
    return Board(
        uid="aegis-overview",
        title="Aegis: overview",
        purpose="Start here: what was decided on the tool calls of agents, and which wait for a human.",
        sections=[
            Section("Now", [*_figures(), *_firing()]),
            Section("Decisions", _decisions()),
            Section("Agents and tools", _who()),
            Section("Latency", _speed()),
        ],
    )


def _figures() -> list[panels.Placed]:
    critical = DECISIONS.shown({RISK: "critical"})
    alone = DECISIONS.shown({RISK: "critical", OUTCOME: "allowed"})
    every = DECISIONS.shown()
    return [
        panels.number(
            "CRITICAL decisions",
            Words(
                "Calls of CRITICAL risk in the time range, whatever their outcome.",
                "Any value above zero: even a blocked call shows that an agent tried.",
                "Open Audit trail; read agent, tool and reason; inform the owner of the agent.",
            ),
            Query(or_zero(counted(critical)), at_end=True),
            red_from=0.5,
        ),
        panels.number(
            "CRITICAL without a human",
            Words(
                "CRITICAL calls that ran without asking a human, because a rule says `auto`.",
                "Any value above zero: a CRITICAL rule should ask or block.",
                "Find the rule in Decisions and policy and change it to `approve` or `block`.",
            ),
            Query(or_zero(counted(alone)), at_end=True),
            red_from=0.5,
        ),
        panels.number(
            "Stopped calls",
            Words(
                "Share of calls that were blocked, denied or expired.",
                "A jump against the same hour yesterday: an agent is misled, or the policy is too strict.",
                "Find the rules that stopped them in Decisions and policy; read one call in Audit trail.",
            ),
            Query(share(counted(DECISIONS.shown(STOPPED)), counted(every)), at_end=True),
            unit="percentunit",
            yellow_from=0.2,
            red_from=0.5,
        ),
        panels.number(
            "Waiting for a human",
            Words(
                "Calls that wait for a human's answer now.",
                "More than a few for many minutes: these agents stand still until somebody answers.",
                "Open Approvals, then answer or find the approver.",
            ),
            Query(or_zero(total(PENDING.shown()))),
            yellow_from=1,
            red_from=6,
            spark=True,
        ),
        panels.number(
            "Governance failed",
            Words(
                "Calls that did not run because governance failed: audit not writable, internal error.",
                "Any value above zero: agents are stopped although the policy may allow the call.",
                "Read the reasons in Audit trail, then follow the runbook of AegisGovernanceFailing.",
            ),
            Query(or_zero(counted(DECISIONS.shown({OUTCOME: "error"}))), at_end=True),
            red_from=0.5,
        ),
        panels.number(
            "Audit records lost",
            Words(
                "Records that could not be written to the audit journal.",
                "Any value above zero: a decision has no record on that host.",
                "Free disk space or fix the permissions, then run `aegis audit verify`.",
            ),
            Query(or_zero(counted(AUDIT_ERRORS.shown())), at_end=True),
            red_from=0.5,
        ),
    ]


def _firing() -> list[panels.Placed]:
    stopped = events(semconv.EVENT_DECISION, {RISK: "critical"})
    return [
        panels.alerts(
            "Alerts",
            Words(
                "Aegis alerts that are firing or pending.",
                "Any entry.",
                "Open the alert and follow its runbook link.",
            ),
        ),
        panels.log(
            "Newest CRITICAL decisions",
            Words(
                "The newest calls of CRITICAL risk, with tool, agent, outcome, rule and reason.",
                "An `allowed` or `approved` call that nobody expected.",
                "Open the entry and follow its trace; search for its decision id in Audit trail.",
            ),
            Query(
                stopped + line(TOOL, AGENT, OUTCOME, RULE, "aegis_decision_reason"), store="loki", limit=20
            ),
            width=12,
            height=8,
        ),
    ]


def _decisions() -> list[panels.Placed]:
    return [
        panels.lines(
            "Decisions by outcome",
            Words(
                "Final decisions per second, by outcome.",
                "Red, orange or purple grows, or everything drops to zero while agents work.",
                "If red grows, open Decisions and policy. If all is zero, open Pipeline health.",
            ),
            Query(rate(DECISIONS.shown(), OUTCOME), legend(OUTCOME)),
            unit="cps",
            stacked=True,
        ),
        panels.lines(
            "Share of stopped calls by service",
            Words(
                "Share of each service's calls that were blocked, denied or expired.",
                "One service far above the others, or above its own usual level.",
                "Select the service as the job above, then find the rule in Decisions and policy.",
            ),
            Query(share(rate(DECISIONS.shown(STOPPED), JOB), rate(DECISIONS.shown(), JOB)), legend(JOB)),
            unit="percentunit",
        ),
        panels.lines(
            "Calls by risk",
            Words(
                "Share of each risk level in all calls.",
                "The red or orange band widens: agents make riskier calls than before.",
                "Find the tools below and check whether the policy still fits.",
            ),
            Query(rate(DECISIONS.shown(), RISK), legend(RISK)),
            unit="cps",
            stacked=True,
            percent=True,
        ),
        panels.lines(
            "Calls without a governance failure",
            Words(
                "Share of calls whose decision was made and recorded; the objective is 99.9 %.",
                "Below 99.9 %: a fault stopped the missing calls, not the policy.",
                "Read the reasons at the end of Audit trail, and check Pipeline health.",
            ),
            Query(
                f"1 - ({share(rate(DECISIONS.shown({OUTCOME: 'error'})), rate(DECISIONS.shown()))})",
                "governed",
            ),
            Query("vector(0.999)", "objective"),
            unit="percentunit",
        ),
    ]


def _who() -> list[panels.Placed]:
    refused = events(semconv.EVENT_DECISION, {OUTCOME: "~blocked|denied|expired"})
    every = events(semconv.EVENT_DECISION)
    return [
        panels.bars(
            "Agents with the most stopped calls",
            Words(
                "Stopped calls in the time range, by agent.",
                "One agent far above the others: it is misled, or its instructions do not fit the policy.",
                "Select the agent above and read its newest calls in Audit trail.",
            ),
            _most(refused, AGENT),
            width=8,
        ),
        panels.bars(
            "Tools with the most stopped calls",
            Words(
                "Stopped calls in the time range, by tool.",
                "A tool that agents need for their work: the policy may be too strict.",
                "Find the rule in Decisions and policy and the reason in Audit trail.",
            ),
            _most(refused, TOOL),
            width=8,
        ),
        panels.bars(
            "Tools with the most calls",
            Words(
                "Governed calls in the time range, by tool.",
                "A tool with far more calls than usual: an agent in a loop costs money.",
                "Select the tool above and find the agent that calls it.",
            ),
            _most(every, TOOL),
            width=8,
        ),
        panels.lines(
            "CRITICAL and HIGH decisions by agent",
            Words(
                "Decision events of HIGH and CRITICAL risk, by agent.",
                "An agent that had none before today.",
                "Read its conversation in Audit trail.",
            ),
            Query(
                count(events(semconv.EVENT_DECISION, {RISK: "~critical|high"}), AGENT, RISK),
                legend(AGENT, RISK),
                store="loki",
            ),
            bars=True,
            width=24,
            height=6,
        ),
    ]


def _most(pipeline: str, label: str) -> Query:
    """The ten values of a label that most events have."""
    counts = count(pipeline, label, window="$__range")
    return Query(f"topk(10, {counts})", legend(label), store="loki", at_end=True)


def _speed() -> list[panels.Placed]:
    return [
        panels.lines(
            "How long tools take",
            Words(
                "95th percentile, by tool. Tools whose span another package makes are not counted.",
                "A tool that is slower than before: agents wait for it.",
                "Follow a dot to its trace. The time is the tool's own, without governance.",
            ),
            Query(quantile(0.95, TOOL_DURATION, TOOL), legend(TOOL), exemplars=True),
            unit="s",
        ),
        panels.lines(
            "How long decisions take",
            Words(
                "Percentiles of the policy evaluation time. Empty unless AEGIS_EVALUATION_DURATION=on.",
                "More than a millisecond: a regular expression on large arguments, or too little CPU.",
                "Run `aegis policy check FILE`; check the CPU load of that host.",
            ),
            *(Query(quantile(q, EVALUATION), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)),
            unit="s",
        ),
    ]
