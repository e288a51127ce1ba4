"""The alerts: what fires when, and in what words. `alert_files` writes them for Prometheus and Grafana."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aegis_otel import semconv
from aegis_otel.model import DEFAULT_RULE
from dashboards.conditions import happened, surplus
from dashboards.queries import count, counted, highest, increase, share, total
from dashboards.signals import (
    APPROVAL,
    AUDIT_ERRORS,
    AUDIT_RECORDS,
    CANDIDATE_APPROVAL,
    CANDIDATE_DECISIONS,
    CANDIDATE_RULE,
    COLLECTOR_EVENTS,
    DECISIONS,
    ENQUEUE_FAILED,
    ERROR,
    EVALUATION,
    EXPORTER,
    INBOX,
    INBOX_ENDED,
    INBOX_WAITING,
    INSTANCE,
    JOB,
    KIND,
    MODE,
    OPERATION,
    OUTCOME,
    PENDING,
    POLICY_REFUSED,
    QUESTION_STATUS,
    QUEUE_CAPACITY,
    QUEUE_SIZE,
    RISK,
    RULE,
    SDK_LOGS,
    SDK_SPANS,
    SEAL_ERRORS,
    SEND_FAILED,
    SPAN_CALLS,
    STATE_ERRORS,
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
    value_format: Literal['printf "%.0f"', "humanizePercentage", "humanize"] = 'printf "%.0f"'
    """The format of the value in a text."""
    logs: str = ""
    """In place of `expr`, for Grafana alone: LogQL."""


@dataclass(frozen=True)
class Group:
    name: str
    every: str
    alerts: tuple[Alert, ...] = field(default=())


def _label(label: str) -> str:
    """Return the template for the value of a label in a text."""
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
            f"CRITICAL call of {_label(JOB)}: {_label(OUTCOME)} by {_label(RULE)}",
            f"An agent called a tool at CRITICAL risk, {VALUE} time(s) in two minutes. "
            f"Outcome `{_label(OUTCOME)}`, rule `{_label(RULE)}`, mode `{_label(MODE)}`.",
            "critical",
            keep="5m",
            board="aegis-audit",
        ),
        Alert(
            "AegisCriticalExecutedWithoutHuman",
            happened(unasked, watched, by=_WHO),
            f"A CRITICAL call of {_label(JOB)} ran and no human was asked",
            f"Rule `{_label(RULE)}` let a CRITICAL call run without a human, {VALUE} time(s) in two minutes: "
            f"the rule says `auto`, or the mode is `monitor` (it is `{_label(MODE)}`).",
            "critical",
            keep="5m",
            board="aegis-audit",
        ),
        Alert(
            "AegisCriticalDecisionEvent",
            "",
            f"CRITICAL call of {_label('service_name')}: {_label(OUTCOME)} by {_label(RULE)}",
            f"{VALUE} decision event(s) of CRITICAL risk in two minutes, counted in Loki.",
            "critical",
            board="aegis-audit",
            logs=exact,
        ),
    )


def _governance() -> tuple[Alert, ...]:
    failed = DECISIONS.all({OUTCOME: "error"})
    looser = (
        CANDIDATE_DECISIONS.all({APPROVAL: "block", CANDIDATE_APPROVAL: "~approve|auto"}),
        CANDIDATE_DECISIONS.all({APPROVAL: "approve", CANDIDATE_APPROVAL: "auto"}),
    )
    ran = SPAN_CALLS.all({OPERATION: semconv.EXECUTE_TOOL})
    decided = happened(DECISIONS.all(), by=(JOB,), window="10m")
    return (
        Alert(
            "AegisGovernanceFailing",
            happened(failed, by=(JOB, RULE)),
            f"Governance fails in {_label(JOB)} and stops calls",
            f"{VALUE} call(s) in two minutes did not run because governance itself failed "
            f"(rule `{_label(RULE)}`).",
            "critical",
            keep="5m",
            board="aegis-audit",
        ),
        Alert(
            "AegisPolicyLoadFailed",
            total(POLICY_REFUSED.all(), JOB, KIND),
            f"{_label(JOB)} refuses a changed policy",
            f"In {VALUE} process(es) the watched files are refused as they are now (`{_label(KIND)}`): an "
            "older policy is still in force there, or in use as a candidate.",
            board="aegis-decisions",
        ),
        Alert(
            "AegisStateUnavailable",
            happened(STATE_ERRORS.all(), by=(JOB,), window="5m"),
            f"{_label(JOB)} cannot use the state that processes share",
            f"{VALUE} use(s) in five minutes failed. Calls under limits and sequences are refused meanwhile.",
            "critical",
            keep="5m",
            board="aegis-decisions",
        ),
        Alert(
            "AegisCandidateWouldLoosen",
            happened(*looser, by=(JOB, APPROVAL, CANDIDATE_APPROVAL, CANDIDATE_RULE), window="15m"),
            f"The candidate policy of {_label(JOB)} would loosen calls",
            f"{VALUE} call(s) in 15 minutes, for which the policy asks `{_label(APPROVAL)}`, would be "
            f"`{_label(CANDIDATE_APPROVAL)}` under the candidate, by rule `{_label(CANDIDATE_RULE)}`.",
            board="aegis-decisions",
        ),
        Alert(
            "AegisGovernanceSilent",
            f"{increase(ran, JOB, window='10m')} > 0\nunless (\n{decided}\n)",
            f"{_label(JOB)} runs tools without decisions",
            f"{VALUE} tool call(s) in ten minutes have a span, but no decision was counted: "
            "tools may run without a policy.",
            "critical",
            hold="5m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisAuditWriteFailed",
            happened(AUDIT_ERRORS.all(), by=(JOB,)),
            f"The audit of {_label(JOB)} cannot be written",
            f"{VALUE} record(s) in two minutes could not be written to the audit journal. "
            "Calls are blocked, unless `on_audit_failure` is `allow`.",
            "critical",
            keep="5m",
            board="aegis-pipeline",
        ),
    )


def _expiring(expired: str, asked: str, *by: str) -> str:
    """Return the share of questions that expired, where more than two did."""
    return highest(f"{share(expired, asked)} and ({expired} > 2)", *by)


def _agents() -> tuple[Alert, ...]:
    enforced = {APPROVAL: "approve", MODE: "enforce"}
    expired = increase(DECISIONS.all({OUTCOME: "expired"}), JOB, window="30m")
    asked = increase(DECISIONS.all(enforced), JOB, window="30m")
    # Each process that uses an inbox counts all of its questions.
    in_inbox = INBOX_ENDED.all({QUESTION_STATUS: "~used|denied|expired"})
    lapsed = increase(INBOX_ENDED.all({QUESTION_STATUS: "expired"}), JOB, INSTANCE, INBOX, window="30m")
    answered = increase(in_inbox, JOB, INSTANCE, INBOX, window="30m")
    fallen = increase(DECISIONS.all({RULE: DEFAULT_RULE}), JOB, window="1h")
    decided = increase(DECISIONS.all(), JOB, window="1h")
    buckets = f"sum by (le, {JOB}) (rate({EVALUATION.all()}[10m]))"
    return (
        Alert(
            "AegisBlockedBurst",
            increase(DECISIONS.all({OUTCOME: "blocked"}), JOB, RULE, MODE, window="5m"),
            f"Many calls of {_label(JOB)} are blocked by {_label(RULE)}",
            f"{VALUE} calls were blocked in five minutes (mode `{_label(MODE)}`): an agent is misled or in a "
            "loop, or the rule is wrong.",
            over=20,
            board="aegis-decisions",
        ),
        Alert(
            "AegisApprovalBacklog",
            # An inbox has the questions of saved runs as well. Those of handlers may be in both.
            highest(f"\n{total(PENDING.all(), JOB)}\nor {highest(INBOX_WAITING.all(), JOB, INBOX)}\n", JOB),
            f"Many calls of {_label(JOB)} wait for a human",
            f"{VALUE} calls wait for an answer, in handlers or in the inbox, where those of paused runs are; "
            "it has been more than five for ten minutes.",
            over=5,
            hold="10m",
            board="aegis-approvals",
        ),
        Alert(
            "AegisApprovalExpiry",
            highest(
                f"\n{_expiring(expired, asked, JOB)}\nor {_expiring(lapsed, answered, JOB, INBOX)}\n", JOB
            ),
            f"Requests for approval of {_label(JOB)} expire",
            f"{VALUE} of the requests in half an hour had no answer in time, those of paused runs included. "
            "A call that waited in its process was denied. "
            "A paused run is asked about anew when it is resumed.",
            over=0.2,
            value_format="humanizePercentage",
            hold="5m",
            board="aegis-approvals",
        ),
        Alert(
            "AegisPolicyEvaluationSlow",
            f"histogram_quantile(0.99, {buckets})",
            f"Policy decisions of {_label(JOB)} are slow",
            f"One decision in a hundred takes {VALUE} s or more.",
            over=0.01,
            value_format="humanize",
            hold="10m",
            board="aegis-decisions",
        ),
        Alert(
            "AegisDefaultRuleFallthrough",
            f"{share(fallen, decided)} and ({decided} > 20)",
            f"Many calls of {_label(JOB)} match no rule",
            f"The policy's default decided {VALUE} of the calls of the last hour.",
            over=0.1,
            value_format="humanizePercentage",
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
            f"Decisions of {_label(JOB)} have no audit row",
            f"{VALUE} decision(s) of the last hour were counted but have no row in the audit journal.",
            hold="5m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisUnknownOutcome",
            happened(UNKNOWN_OUTCOMES.all(), by=(JOB,), window="10m"),
            f"Calls of {_label(JOB)} have an unknown outcome",
            f"{VALUE} call(s) were allowed, and their process died before it recorded the outcome.",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisAuditSealFailing",
            happened(SEAL_ERRORS.all(), by=(JOB,), window="1h"),
            f"The audit of {_label(JOB)} cannot be sealed",
            f"{VALUE} sealing(s) failed in the last hour. Nothing is lost: the journal stays and grows.",
            hold="15m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisDecisionEventsMissing",
            f"1 - ({arrived} or 0 * ({decided}))\n/ (({decided}) > 20)\nand on () {counts}",
            f"Decision events of {_label(JOB)} do not reach the collector",
            f"{VALUE} of the decisions of the last hour have no event at the collector.",
            over=0.1,
            value_format="humanizePercentage",
            hold="10m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisTelemetryDropped",
            happened(*dropped, by=(JOB, ERROR), window="5m"),
            f"{_label(JOB)} drops telemetry",
            f"The agent dropped {VALUE} event(s) or span(s) in five minutes (`{_label(ERROR)}`).",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisCollectorExportFailing",
            happened(*lost, by=(JOB, EXPORTER), window="5m"),
            f"The collector's exporter {_label(EXPORTER)} loses data",
            f"{VALUE} item(s) in five minutes could not be delivered and are lost.",
            hold="1m",
            board="aegis-pipeline",
        ),
        Alert(
            "AegisCollectorQueueFilling",
            f"max by ({JOB}, {EXPORTER}) ({QUEUE_SIZE.all()} / {QUEUE_CAPACITY.all()})",
            f"The queue of the collector's exporter {_label(EXPORTER)} is almost full",
            f"{VALUE} of the queue is in use. A full queue refuses or loses data.",
            over=0.8,
            value_format="humanizePercentage",
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
