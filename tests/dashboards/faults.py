"""Series for promtool: a healthy hour, and the fault that each alert is about.

One value every fifteen seconds, in promtool's notation: `0+1x20` begins at 0 and grows by 1 for 20 steps,
`_x4` is absent for four.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis_otel import semconv
from aegis_otel.model import DEFAULT_RULE, ERROR_RULE
from dashboards import signals as s

JOB = {"job": "shop/agents", "instance": "one"}
COLLECTOR = {"job": "otelcol", "instance": "gateway"}
STEP_S = 15
HOUR = 240
"""Steps in an hour."""


def named(series: str, labels: dict[str, str]) -> str:
    return series + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def decision(outcome: str, approval: str, risk: str, rule: str, mode: str = "enforce", **more: str) -> str:
    labels = {s.OUTCOME: outcome, s.APPROVAL: approval, s.RISK: risk, s.RULE: rule, s.MODE: mode}
    return named(s.DECISIONS.series[0], {**JOB, **labels, **more})


ALLOWED = decision("allowed", "auto", "low", "search_auto")
APPROVED = decision("approved", "approve", "high", "write_asks")
EXPIRED = decision("expired", "approve", "high", "write_asks")
BLOCKED = decision("blocked", "block", "critical", "block_deletes")
BLOCKED_HIGH = decision("blocked", "block", "high", "block_mails")
CRITICAL_ALLOWED = decision("allowed", "auto", "critical", "too_kind")
WATCHED = decision("blocked", "block", "critical", "block_deletes", "monitor")
DEFAULTED = decision("approved", "approve", "medium", DEFAULT_RULE)
ERRORS = decision("error", "block", "critical", ERROR_RULE)
RECORDS = named(s.AUDIT_RECORDS.series[0], JOB)
AUDIT_ERRORS = named(s.AUDIT_ERRORS.series[0], JOB)
SEAL_ERRORS = named(s.SEAL_ERRORS.series[0], JOB)
UNKNOWN = named(s.UNKNOWN_OUTCOMES.series[0], JOB)
REFUSED = named(s.POLICY_REFUSED.series[0], {**JOB, s.KIND: "policy"})
REFUSED_CANDIDATE = named(s.POLICY_REFUSED.series[0], {**JOB, s.KIND: "candidate"})
LOADED = named(s.RELOADS.series[0], {**JOB, s.RELOAD: "loaded"})
PENDING = named(s.PENDING.series[0], JOB)
INBOX = {**JOB, s.INBOX: "3f9c"}
IN_INBOX = named(s.INBOX_WAITING.series[0], INBOX)
"""The page of approvals reports the same, as a service of its own."""
ON_PAGE = named(s.INBOX_WAITING.series[0], {**INBOX, "job": "approvals", "instance": "page"})
ENDED_USED = named(s.INBOX_ENDED.series[0], {**INBOX, s.QUESTION_STATUS: "used"})
ENDED_EXPIRED = named(s.INBOX_ENDED.series[0], {**INBOX, s.QUESTION_STATUS: "expired"})
ENDED_WITHDRAWN = named(s.INBOX_ENDED.series[0], {**INBOX, s.QUESTION_STATUS: "withdrawn"})
STATE_ERRORS = named(s.STATE_ERRORS.series[0], JOB)


def candidate(before: str, after: str) -> str:
    labels = {s.APPROVAL: before, s.CANDIDATE_APPROVAL: after, s.CANDIDATE_RULE: "new_rule"}
    return named(s.CANDIDATE_DECISIONS.series[0], {**JOB, **labels})


ARRIVED = named(s.COLLECTOR_EVENTS.series[0], {**JOB, s.OUTCOME: "allowed", s.RISK: "low"})
EXECUTED = named(s.SPAN_CALLS.series[0], {**JOB, s.OPERATION: semconv.EXECUTE_TOOL, s.TOOL: "search"})
DROPPED = named(s.SDK_LOGS.series[0], {**JOB, s.ERROR: "queue_full"})
HANDLED = named(s.SDK_LOGS.series[0], JOB)
SENT = named(s.SENT["log_records"].series[0], {**COLLECTOR, s.EXPORTER: "otlp_http/loki"})
LOST = named(s.SEND_FAILED["log_records"].series[0], {**COLLECTOR, s.EXPORTER: "otlp_http/loki"})
QUEUED = named(s.QUEUE_SIZE.series[0], {**COLLECTOR, s.EXPORTER: "otlp_http/loki"})
CAPACITY = named(s.QUEUE_CAPACITY.series[0], {**COLLECTOR, s.EXPORTER: "otlp_http/loki"})


OTHER = {"job": "other", "instance": "three"}
OTHERS = named(s.DECISIONS.series[0], {**OTHER, s.RULE: "search_auto", s.RISK: "low"})


def bucket(le: str) -> str:
    return named(s.EVALUATION.series[0], {**JOB, s.OUTCOME: "allowed", "le": le})


HEALTHY = {
    ALLOWED: "0+2x600",
    APPROVED: "0+0.1x600",
    EXPIRED: "0x600",
    BLOCKED: "0x600",
    BLOCKED_HIGH: "0+0.05x600",
    CRITICAL_ALLOWED: "0x600",
    DEFAULTED: "0+0.01x600",
    ERRORS: "0x600",
    RECORDS: "0+2.2x600",
    AUDIT_ERRORS: "0x600",
    SEAL_ERRORS: "0x600",
    UNKNOWN: "0x600",
    REFUSED: "0x600",
    REFUSED_CANDIDATE: "0x600",
    LOADED: "0x100 1x500",
    PENDING: "0 1 2 1 0x300 3 2 1 0x300",
    IN_INBOX: "4x600",
    ON_PAGE: "4x600",
    ENDED_USED: "0+0.1x600",
    ENDED_EXPIRED: "0x600",
    ENDED_WITHDRAWN: "0+1x600",
    STATE_ERRORS: "0x600",
    candidate("auto", "auto"): "0+2x600",
    candidate("auto", "block"): "0+0.1x600",
    candidate("approve", "block"): "0+0.1x600",
    candidate("approve", "auto"): "0x600",
    candidate("block", "approve"): "0x600",
    ARRIVED: "2+2.15x600",
    EXECUTED: "2+2x600",
    HANDLED: "5+5x600",
    SENT: "9+5x600",
    LOST: "0x600",
    QUEUED: "0 3 1 0x600",
    CAPACITY: "1000x600",
    bucket("0.0001"): "0+2x600",
    bucket("0.001"): "0+2.1x600",
    bucket("+Inf"): "0+2.1x600",
}
"""Work goes on: calls are allowed, approved, now and then blocked at HIGH; all are recorded and arrive."""


@dataclass(frozen=True)
class Fault:
    """What is different from health, and which minutes of it an alert is on and off."""

    alert: str
    what: str
    series: dict[str, str | None]
    on: tuple[float, ...] = ()
    off: tuple[float, ...] = field(default=(10, 29))

    def __str__(self) -> str:
        return f"{self.alert}: {self.what}"

    def all(self) -> dict[str, str]:
        changed = {**HEALTHY, **self.series}
        return {name: values for name, values in changed.items() if values is not None}


DECIDED = [name for name in HEALTHY if name.startswith(s.DECISIONS.series[0])]

# Faults begin at minute 30, which is step 120.
_CRITICAL, _UNASKED = "AegisCriticalDecision", "AegisCriticalExecutedWithoutHuman"
FAULTS = (
    Fault(
        _CRITICAL, "the first one of a series that began at zero", {BLOCKED: "0x120 1x480"}, (30.75, 32, 36)
    ),
    Fault(_CRITICAL, "it ends when nothing follows", {BLOCKED: "0x120 1x480"}, (31,), (29, 40, 90)),
    Fault(_CRITICAL, "the first sample ever is one", {BLOCKED: "_x120 1x480"}, (30.5, 32)),
    Fault(_CRITICAL, "a second one in an old series", {BLOCKED: "0x20 1x100 2x480"}, (31,), (15, 29)),
    Fault(
        _CRITICAL,
        "the collector was away and nothing was new",
        {BLOCKED: "0x4 3x116 _x40 3x440"},
        (2,),
        (39, 41, 60),
    ),
    Fault(
        _CRITICAL,
        "the collector was away for an hour",
        {BLOCKED: "0x4 3x116 _x240 3x240"},
        (2,),
        (85, 91, 95, 120),
    ),
    Fault(
        _CRITICAL,
        "one came while the collector was away",
        {BLOCKED: "0x4 3x116 _x40 4x440"},
        (40.75, 41),
        (29, 39),
    ),
    Fault(
        _CRITICAL,
        "the process began anew and counts from zero",
        {BLOCKED: "0x4 3x116 0x20 1x460"},
        (35.75,),
        (29, 34),
    ),
    Fault(
        _CRITICAL, "the process began anew with one already", {BLOCKED: "0x4 3x116 1x480"}, (30.75,), (29,)
    ),
    Fault(
        _CRITICAL,
        "another process begins, with its zeros",
        {decision("blocked", "block", "critical", "block_deletes", instance="two"): "_x120 0x480"},
    ),
    Fault(
        _CRITICAL,
        "another process begins and has one at once",
        {decision("blocked", "block", "critical", "block_deletes", instance="two"): "_x120 1x480"},
        (30.75,),
    ),
    Fault(_UNASKED, "a rule says auto", {CRITICAL_ALLOWED: "0x120 1x480"}, (30.75, 32)),
    Fault(_UNASKED, "blocked in monitor mode ran all the same", {WATCHED: "0x120 1x480"}, (30.75,)),
    Fault(_UNASKED, "blocked is not run", {BLOCKED: "0x120 1x480"}, (), (31, 33, 40)),
    Fault("AegisGovernanceFailing", "calls end in errors", {ERRORS: "0x120 1+1x480"}, (30.75, 50)),
    Fault(
        "AegisPolicyLoadFailed",
        "a changed file is refused, and fixed after an hour",
        {REFUSED: "0x120 1x240 0x240"},
        (31, 46, 89),
        (29, 92),
    ),
    Fault(
        "AegisPolicyLoadFailed",
        "a candidate is refused",
        {REFUSED_CANDIDATE: "_x120 1x480"},
        (31, 100),
        (29,),
    ),
    Fault(
        "AegisStateUnavailable",
        "the server is down for ten minutes",
        {STATE_ERRORS: "0x120 1+1x40 41x440"},
        (31, 40, 50),
        (29, 55),
    ),
    Fault(
        "AegisCandidateWouldLoosen",
        "what is asked about would run",
        {candidate("approve", "auto"): "0x120 1x480"},
        (31, 44),
        (29, 50),
    ),
    Fault(
        "AegisCandidateWouldLoosen",
        "what is blocked would be asked about",
        {candidate("block", "approve"): "0x120 1x480"},
        (31, 44),
        (29, 50),
    ),
    Fault(
        "AegisGovernanceSilent",
        "tools run and nothing is decided",
        {
            name: f"{values.split('x')[0]}x120 500x480"
            for name, values in HEALTHY.items()
            if name.startswith(s.DECISIONS.series[0])
        },
        (46, 60),
        (29, 35),
    ),
    Fault(
        "AegisGovernanceSilent",
        "a service without governance at all",
        {name: None for name in HEALTHY if name.startswith("aegis_")},
        (30,),
        (5,),
    ),
    Fault("AegisGovernanceSilent", "nobody works at night", dict.fromkeys(HEALTHY, "5x600"), (), (30, 60)),
    Fault(
        "AegisGovernanceSilent",
        "a process so short that its first sample is its last",
        {name: None if name in DECIDED else values for name, values in HEALTHY.items()}
        | {ALLOWED: "_x120 45x480", EXECUTED: "_x120 20x4 40x476", RECORDS: "_x120 45x480"},
        (),
        (31, 36, 38, 40),
    ),
    Fault("AegisAuditWriteFailed", "the disk is full", {AUDIT_ERRORS: "0x120 1+1x480"}, (30.75, 50)),
    Fault("AegisAuditWriteFailed", "at the first call", {AUDIT_ERRORS: "_x120 1x480"}, (30.75,)),
    Fault("AegisBlockedBurst", "an agent tries again and again", {BLOCKED_HIGH: "0x120 0+2x480"}, (34, 60)),
    Fault("AegisApprovalBacklog", "nobody answers", {PENDING: "0x120 8x480"}, (41, 60), (29, 35)),
    Fault(
        "AegisApprovalBacklog",
        "nobody answers about paused runs",
        {IN_INBOX: "4x120 8x480"},
        (41, 60),
        (29, 35),
    ),
    Fault("AegisApprovalBacklog", "several processes report the same questions", {PENDING: "4x600"}),
    Fault("AegisApprovalBacklog", "a page without agents", {IN_INBOX: None, ON_PAGE: "8x600"}, (15,), (5,)),
    Fault(
        "AegisApprovalExpiry",
        "most questions of paused runs expire",
        {ENDED_EXPIRED: "0x120 0+0.5x480"},
        (50, 90),
        (29,),
    ),
    Fault(
        "AegisApprovalExpiry",
        "two of four questions in the inbox are no pattern",
        {ENDED_EXPIRED: "0x120 1x20 2x460", ENDED_USED: "0x100 1 2x500"},
        (),
        (60,),
    ),
    Fault(
        "AegisApprovalExpiry",
        "most expire",
        {EXPIRED: "0x120 0+0.5x480"},
        (50, 90),
        (29,),
    ),
    Fault(
        "AegisApprovalExpiry",
        "two of four are no pattern",
        {EXPIRED: "0x120 1x20 2x460", APPROVED: "0x100 1 2x500"},
        (),
        (60,),
    ),
    Fault(
        "AegisPolicyEvaluationSlow",
        "a tenth takes longer than a millisecond, none is known to take less than a second",
        {bucket("0.001"): "0+2x600", bucket("1"): "0+2.2x600", bucket("+Inf"): "0+2.2x600"},
        (30,),
        (),
    ),
    Fault(
        "AegisDefaultRuleFallthrough", "tools without a rule", {DEFAULTED: "0x120 0+1x480"}, (70, 100), (29,)
    ),
    Fault(
        "AegisAuditReconciliationGap", "rows are missing", {RECORDS: "0+2.2x120 264+1x480"}, (37, 60), (29,)
    ),
    Fault(
        "AegisAuditReconciliationGap",
        "an old gap that does not grow",
        {RECORDS: "0+2.2x600", ALLOWED: "10+2x600"},
        (30,),
        (90, 120),
    ),
    Fault("AegisUnknownOutcome", "a process was killed", {UNKNOWN: "0x120 2x480"}, (31, 38), (29, 45)),
    Fault(
        "AegisAuditSealFailing",
        "the lake cannot be written",
        {SEAL_ERRORS: "0x120 1+0.1x480"},
        (46, 60),
        (29, 40),
    ),
    Fault(
        "AegisDecisionEventsMissing",
        "events are lost on the way",
        {ARRIVED: "2+2.15x120 261+0.5x480"},
        (70, 100),
        (29,),
    ),
    Fault(
        "AegisDecisionEventsMissing", "one service sends no events", {OTHERS: "_x120 0+1x480"}, (60,), (29,)
    ),
    Fault(
        "AegisDecisionEventsMissing",
        "a collector that does not count events",
        {ARRIVED: None},
        (),
        (60, 100),
    ),
    Fault(
        "AegisDecisionEventsMissing",
        "the collector began anew",
        {ARRIVED: "2+2.15x120 _x8 1+2.15x470"},
        (),
        (40, 60, 90),
    ),
    Fault("AegisTelemetryDropped", "the first drop ever", {DROPPED: "_x120 7x480"}, (31,)),
    Fault("AegisTelemetryDropped", "more are dropped", {DROPPED: "0x120 1+3x480"}, (31, 60)),
    Fault("AegisCollectorExportFailing", "a backend is away", {LOST: "0x120 50+50x480"}, (33, 60), (29,)),
    Fault("AegisCollectorQueueFilling", "a backend is slow", {QUEUED: "10x120 900x480"}, (36, 60), (29, 31)),
)
