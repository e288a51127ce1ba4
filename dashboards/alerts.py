"""The alerts: what fires when, and in what words. `alert_files` writes them for Prometheus and Grafana."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aegis_otel import semconv
from aegis_otel.model import DEFAULT_RULE
from dashboards.conditions import happened, surplus
from dashboards.queries import count, counted, increase, share, total
from dashboards.signals import (
    APPROVAL,
    AUDIT_ERRORS,
    AUDIT_RECORDS,
    COLLECTOR_EVENTS,
    DECISIONS,
    ENQUEUE_FAILED,
    ERROR,
    EVALUATION,
    EXPORTER,
    JOB,
    MODE,
    OPERATION,
    OUTCOME,
    PENDING,
    QUEUE_CAPACITY,
    QUEUE_SIZE,
    RELOAD,
    RELOADS,
    RISK,
    RULE,
    SDK_LOGS,
    SDK_SPANS,
    SEAL_ERRORS,
    SEND_FAILED,
    SPAN_CALLS,
    UNKNOWN_OUTCOMES,
)

Severity = Literal["critical", "warning"]
_WHO = (JOB, RULE, OUTCOME, MODE)
VALUE = "<value>"
"""In a text: the measured value, which Prometheus and Grafana spell differently."""


@dataclass(frozen=True)
class Alert:
    name: str
    expr: str
    """Of what it watches; the alert is on where this is above `over`."""
    summary: str
    description: str
    severity: Severity = "warning"
    over: float = 0
    hold: str = "0s"
    """How long it must be so."""
    keep: str = ""
    """How long it stays on after."""
    board: str = "aegis-overview"
    told: Literal['printf "%.0f"', "humanizePercentage", "humanize"] = 'printf "%.0f"'
    """How its value is written in a text."""
    logs: str = ""
    """In place of `expr`, for Grafana alone: LogQL."""


@dataclass(frozen=True)
class Group:
    name: str
    every: str
    alerts: tuple[Alert, ...] = field(default=())


def _told(label: str) -> str:
    """The value of a label, in a text."""
    return f"{{{{ $labels.{label} }}}}"


def _critical() -> tuple[Alert, ...]:
    critical = DECISIONS.all({RISK: "critical"})
    unasked = DECISIONS.all({RISK: "critical", OUTCOME: "allowed"})
    watched = DECISIONS.all({RISK: "critical", MODE: "monitor", OUTCOME: "!allowed"})
    event = f'event_name="{semconv.EVENT_DECISION}" | {RISK}="critical"'
    exact = count(f'{{service_name=~".+"}} | {event}', "service_name", RULE, OUTCOME, window="2m")
    return (
        Alert(
            "AegisCriticalDecision",
            happened(critical, by=_WHO),
            f"CRITICAL call of {_told(JOB)}: {_told(OUTCOME)} by {_told(RULE)}",
            f"An agent called a tool at CRITICAL risk, {VALUE} time(s) in two minutes. "
            f"Outcome `{_told(OUTCOME)}`, rule `{_told(RULE)}`, mode `{_told(MODE)}`.",
            "critical",
            keep="5m",
            board="aegis-audit",
        ),
        Alert(
            "AegisCriticalExecutedWithoutHuman",
            happened(unasked, watched, by=_WHO),
            f"A CRITICAL call of {_told(JOB)} ran and nobody was asked",
            f"Rule `{_told(RULE)}` let a CRITICAL call run without a human, {VALUE} time(s) in two minutes: "
            f"it says `auto`, or the mode (`{_told(MODE)}`) stops nothing.",
            "critical",
            keep="5m",
            board="aegis-audit",
        ),
        Alert(
            "AegisCriticalDecisionEvent",
            "",
            f"CRITICAL call of {_told('service_name')}: {_told(OUTCOME)} by {_told(RULE)}",
            f"{VALUE} decision event(s) of CRITICAL risk in two minutes, counted from the events themselves.",
            "critical",
            board="aegis-audit",
            logs=exact,
        ),
    )


def _governance() -> tuple[Alert, ...]:
    failed = DECISIONS.all({OUTCOME: "error"})
    refused = RELOADS.all({RELOAD: "refused"})
    ran = SPAN_CALLS.all({OPERATION: semconv.EXECUTE_TOOL})
    decided = happened(DECISIONS.all(), by=(JOB,), window="10m")
    return (
        Alert(
            "AegisGovernanceFailing",
            happened(failed, by=(JOB, RULE)),
            f"Governance fails in {_told(JOB)}: calls are stopped by a fault",
            f"{VALUE} call(s) in two minutes did not run because governance itself failed "
            f"(rule `{_told(RULE)}`).",
            "critical",
            keep="5m",
            board="aegis-audit",
        ),
        Alert(
            "AegisPolicyLoadFailed",
            happened(refused, by=(JOB,), window="15m"),
            f"{_told(JOB)} refused a changed policy",
            "A watched policy file was changed and refused; the old policy stays in force.",
            board="aegis-decisions",
        ),
        Alert(
            "AegisGovernanceSilent",
            f"{increase(ran, JOB, window='10m')} > 0\nunless (\n{decided}\n)",
            f"{_told(JOB)} runs tools and decides nothing",
            f"{VALUE} tool call(s) in ten minutes left a span and none a decision: governance is not there.",
            "critical",
            hold="5m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisAuditWriteFailed",
            happened(AUDIT_ERRORS.all(), by=(JOB,)),
            f"The audit of {_told(JOB)} cannot be written",
            f"{VALUE} record(s) in two minutes were not taken by the audit journal. "
            "Calls are blocked, unless `on_audit_failure` says otherwise.",
            "critical",
            keep="5m",
            board="aegis-pipeline",
        ),
    )


def _agents() -> tuple[Alert, ...]:
    enforced = {APPROVAL: "approve", MODE: "enforce"}
    expired = increase(DECISIONS.all({OUTCOME: "expired"}), JOB, window="30m")
    fallen = increase(DECISIONS.all({RULE: DEFAULT_RULE}), JOB, window="1h")
    decided = increase(DECISIONS.all(), JOB, window="1h")
    buckets = f"sum by (le, {JOB}) (rate({EVALUATION.all()}[10m]))"
    return (
        Alert(
            "AegisBlockedBurst",
            increase(DECISIONS.all({OUTCOME: "blocked"}), JOB, RULE, MODE, window="5m"),
            f"Many calls of {_told(JOB)} are blocked by {_told(RULE)}",
            f"{VALUE} calls were blocked in five minutes: an agent misled or in a loop, or a wrong rule.",
            over=20,
            board="aegis-decisions",
        ),
        Alert(
            "AegisApprovalBacklog",
            total(PENDING.all(), JOB),
            f"Calls of {_told(JOB)} wait for a human",
            f"{VALUE} calls have waited for ten minutes, or others took their place: agents stand still.",
            over=5,
            hold="10m",
            board="aegis-approvals",
        ),
        Alert(
            "AegisApprovalExpiry",
            f"{share(expired, increase(DECISIONS.all(enforced), JOB, window='30m'))} and ({expired} > 2)",
            f"Nobody answers the approvals of {_told(JOB)}",
            f"{VALUE} of the calls that asked a human in half an hour had no answer in time.",
            over=0.2,
            told="humanizePercentage",
            hold="5m",
            board="aegis-approvals",
        ),
        Alert(
            "AegisPolicyEvaluationSlow",
            f"histogram_quantile(0.99, {buckets})",
            f"The policy of {_told(JOB)} takes long to decide",
            f"One decision in a hundred takes {VALUE} s or more.",
            over=0.01,
            told="humanize",
            hold="10m",
            board="aegis-decisions",
        ),
        Alert(
            "AegisDefaultRuleFallthrough",
            f"{share(fallen, decided)} and ({decided} > 20)",
            f"No rule covers what {_told(JOB)} does",
            f"{VALUE} of the calls of an hour was decided by the policy's default.",
            over=0.1,
            told="humanizePercentage",
            hold="15m",
            board="aegis-decisions",
        ),
    )


def _pipeline() -> tuple[Alert, ...]:
    arrived = counted(COLLECTOR_EVENTS.all(), JOB, window="1h")
    decided = counted(DECISIONS.all(), JOB, window="1h")
    counts = f"count({COLLECTOR_EVENTS.all()})"  # else the collector counts no events at all
    lost = [group[item].all() for group in (SEND_FAILED, ENQUEUE_FAILED) for item in group]
    dropped = (SDK_LOGS.all({ERROR: "~.+"}), SDK_SPANS.all({ERROR: "~.+"}))
    return (
        Alert(
            "AegisAuditReconciliationGap",
            surplus(DECISIONS, AUDIT_RECORDS, "1h"),
            f"{_told(JOB)} made decisions that have no audit row",
            f"{VALUE} decision(s) of the last hour are counted and have no row in the audit journal.",
            hold="5m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisUnknownOutcome",
            happened(UNKNOWN_OUTCOMES.all(), by=(JOB,), window="10m"),
            f"Nobody knows what came of calls of {_told(JOB)}",
            f"{VALUE} call(s) were let through and their process was gone before it said what came of them.",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisAuditSealFailing",
            happened(SEAL_ERRORS.all(), by=(JOB,), window="1h"),
            f"The audit of {_told(JOB)} cannot be sealed",
            f"{VALUE} sealing(s) failed in an hour. Nothing is lost: the journal stays, and grows.",
            hold="15m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisDecisionEventsMissing",
            f"1 - ({arrived} or 0 * ({decided}))\n/ (({decided}) > 20)\nand on () {counts}",
            f"Decision events of {_told(JOB)} do not reach the collector",
            f"{VALUE} of the decisions of an hour has no event at the collector.",
            over=0.1,
            told="humanizePercentage",
            hold="10m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisTelemetryDropped",
            happened(*dropped, by=(JOB, ERROR), window="5m"),
            f"{_told(JOB)} drops telemetry",
            f"{VALUE} event(s) or span(s) in five minutes were dropped in the agent (`{_told(ERROR)}`).",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisCollectorExportFailing",
            happened(*lost, by=(JOB, EXPORTER), window="5m"),
            f"The collector's exporter {_told(EXPORTER)} loses data",
            f"{VALUE} item(s) in five minutes could not be delivered and are gone.",
            hold="1m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisCollectorQueueFilling",
            f"max by ({JOB}, {EXPORTER}) ({QUEUE_SIZE.all()} / {QUEUE_CAPACITY.all()})",
            f"The queue of the collector's exporter {_told(EXPORTER)} fills",
            f"It is full to {VALUE}; when it is full, what comes next is lost.",
            over=0.8,
            told="humanizePercentage",
            hold="5m",
            board="aegis-pipeline",
        ),
    )


def groups() -> tuple[Group, ...]:
    return (
        Group("aegis-critical", "15s", _critical()),
        Group("aegis-governance", "15s", _governance()),
        Group("aegis-agents", "1m", _agents()),
        Group("aegis-pipeline", "1m", _pipeline()),
    )


def alerts() -> list[Alert]:
    return [alert for group in groups() for alert in group.alerts]
