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
        purpose="Tool calls of agents: what was decided, what was stopped, who is waited for. Begin here.",
        sections=[
            Section("Now", [*_figures(), *_firing()]),
            Section("Decisions", _decisions()),
            Section("Who and what", _who()),
            Section("Speed", _speed()),
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
                "Calls of CRITICAL risk in the time range, however they ended.",
                "Any. Most policies block them, but that an agent tried is news.",
                "Open the audit trail, read agent, tool and reason; tell the owner of the agent.",
            ),
            Query(or_zero(counted(critical)), at_end=True),
            red_from=0.5,
        ),
        panels.number(
            "CRITICAL without a human",
            Words(
                "CRITICAL calls that ran and nobody was asked, because a rule says `auto`.",
                "Any. A CRITICAL rule should ask or block.",
                "Find the rule under Decisions & policy and change it to `approve` or `block`.",
            ),
            Query(or_zero(counted(alone)), at_end=True),
            red_from=0.5,
        ),
        panels.number(
            "Stopped",
            Words(
                "Share of calls that were blocked, denied or not answered in time.",
                "A jump against the same hour yesterday: an agent is misled, or a policy is too strict.",
                "Compare with the rules that stopped them; look at one call in the audit trail.",
            ),
            Query(share(counted(DECISIONS.shown(STOPPED)), counted(every)), at_end=True),
            unit="percentunit",
            yellow_from=0.2,
            red_from=0.5,
        ),
        panels.number(
            "Waiting for a human",
            Words(
                "Calls that wait for an answer now.",
                "More than a few, for long: agents stand still until somebody answers.",
                "Open Approvals and answer, or find who should.",
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
                "Any. Agents are stopped although the policy would have let them.",
                "Read the reason in the audit trail's errors; then the runbook of AegisGovernanceFailing.",
            ),
            Query(or_zero(counted(DECISIONS.shown({OUTCOME: "error"}))), at_end=True),
            red_from=0.5,
        ),
        panels.number(
            "Audit records lost",
            Words(
                "Records that the audit journal did not take.",
                "Any: something was decided of which there is no record on that host.",
                "Free the disk or mend its rights, then `aegis audit verify`.",
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
                "Aegis alerts that fire or are about to.",
                "Anything in this list.",
                "Click it, follow its runbook link.",
            ),
        ),
        panels.log(
            "Newest CRITICAL decisions",
            Words(
                "The newest calls of CRITICAL risk: tool, agent, outcome, rule, reason.",
                "One that is `allowed` or `approved` and that nobody expected.",
                "Open the entry and follow its trace; search its decision id in the audit trail.",
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
                "Final decisions a second, by how they ended.",
                "Red, orange or purple growing; or everything falling to nothing while agents work.",
                "Growing red: Decisions & policy. Nothing at all: Pipeline health.",
            ),
            Query(rate(DECISIONS.shown(), OUTCOME), legend(OUTCOME)),
            unit="cps",
            stacked=True,
        ),
        panels.lines(
            "Share stopped, by service",
            Words(
                "Share of each service's calls that were blocked, denied or expired.",
                "One service far above the others or above its own past.",
                "Choose that service above, and look which rule stops it.",
            ),
            Query(share(rate(DECISIONS.shown(STOPPED), JOB), rate(DECISIONS.shown(), JOB)), legend(JOB)),
            unit="percentunit",
        ),
        panels.lines(
            "Mix of risks",
            Words(
                "How calls divide into risks.",
                "The red or orange band widening: agents do riskier things than they used to.",
                "See which tools it is below; ask whether the policy still fits.",
            ),
            Query(rate(DECISIONS.shown(), RISK), legend(RISK)),
            unit="cps",
            stacked=True,
            percent=True,
        ),
        panels.lines(
            "Governed without failure",
            Words(
                "Share of calls whose decision was made and recorded: the objective is 99.9 %.",
                "Below 99.9 %: each missing call was stopped by a fault, not by the policy.",
                "Look at the audit trail's errors and at Pipeline health.",
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
            "Agents whose calls are stopped most",
            Words(
                "Stopped calls in the time range, by agent.",
                "One agent alone at the top: it is misled, or its instructions do not fit its policy.",
                "Choose the agent above and read its newest calls in the audit trail.",
            ),
            _most(refused, AGENT),
            width=8,
        ),
        panels.bars(
            "Tools that are stopped most",
            Words(
                "Stopped calls in the time range, by tool.",
                "A tool that agents need for their work: the policy may be too strict.",
                "See which rule stops it under Decisions & policy; the reason is in the audit trail.",
            ),
            _most(refused, TOOL),
            width=8,
        ),
        panels.bars(
            "Tools that run most",
            Words(
                "Governed calls in the time range, by tool.",
                "A tool that runs far more than it used to: an agent in a loop costs money.",
                "Choose the tool above and look which agent calls it.",
            ),
            _most(every, TOOL),
            width=8,
        ),
        panels.lines(
            "CRITICAL and HIGH decisions by agent",
            Words(
                "Decision events of high risk, by agent, counted exactly from the events.",
                "An agent that had none until today.",
                "Read its conversation in the audit trail.",
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
                "95th percentile of tool bodies, by tool. Only where the span is ours.",
                "A tool slower than it was; agents wait for it.",
                "Follow a dot to its trace; the time is the tool's, governance is not in it.",
            ),
            Query(quantile(0.95, TOOL_DURATION, TOOL), legend(TOOL), exemplars=True),
            unit="s",
        ),
        panels.lines(
            "How long a decision takes",
            Words(
                "Percentiles of asking the policy. Empty unless AEGIS_EVALUATION_DURATION=on.",
                "More than a millisecond: a regular expression on large arguments, or a starved process.",
                "`aegis policy check`; look at the processor of that host.",
            ),
            *(Query(quantile(q, EVALUATION), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)),
            unit="s",
        ),
    ]
