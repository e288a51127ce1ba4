"""Pipeline health: does everything that is decided arrive, and is the audit whole."""

from __future__ import annotations

from aegis_otel import semconv
from dashboards import panels
from dashboards.board import Board, Section, collector
from dashboards.panels import Words
from dashboards.queries import Query, count, counted, events, increase, legend, or_zero, rate, total
from dashboards.signals import (
    ACCEPTED,
    AUDIT_ERRORS,
    AUDIT_RECORDS,
    COLLECTOR_EVENTS,
    DECISIONS,
    ENQUEUE_FAILED,
    ERROR,
    EXPORTER,
    HOOK_ERRORS,
    INSTANCE,
    ITEMS,
    JOB,
    MEMORY,
    OUTCOME,
    QUEUE_CAPACITY,
    QUEUE_SIZE,
    REFUSED,
    RISK,
    RULE,
    SDK_LOG_EXPORTS,
    SDK_LOG_QUEUE,
    SDK_LOGS,
    SDK_SPANS,
    SEAL_ERRORS,
    SEND_FAILED,
    SENT,
    UNKNOWN_OUTCOMES,
    UPTIME,
)

UNNARROWED = {RULE: "~.+", RISK: "~.+", OUTCOME: "~.+"}
"""A reconciliation counts everything, whatever is chosen above."""


def pipeline() -> Board:
    return Board(
        uid="aegis-pipeline",
        title="Aegis: pipeline health",
        purpose="Whether every decision is in the audit and arrives at the collector and the backends.",
        sections=[
            Section("Reconciliation", _reconciliation()),
            Section("In the agents", _agents()),
            Section("In the collector", _collector()),
        ],
        extra=[collector()],
    )


def _reconciliation() -> list[panels.Placed]:
    decided = DECISIONS.shown(UNNARROWED)
    arrived = COLLECTOR_EVENTS.shown({RISK: "~.+", OUTCOME: "~.+"})
    stored = events(semconv.EVENT_DECISION, narrowed=False)
    return [
        panels.number(
            "Decisions without a record",
            Words(
                "Counted decisions minus rows in the audit journal, since the processes started.",
                "Any value above zero: decisions have no audit row (AegisAuditReconciliationGap).",
                "Follow its runbook: check the disk, then run `aegis audit verify`.",
            ),
            Query(f"clamp_min({or_zero(f'{total(decided)} - {total(AUDIT_RECORDS.shown())}')}, 0)"),
            red_from=0.5,
            width=6,
        ),
        panels.number(
            "Decisions counted",
            Words(
                "Decisions in the time range, counted by the agents.",
                "Zero while agents work (AegisGovernanceSilent).",
                "Run `aegis doctor` in the agent's environment.",
            ),
            Query(or_zero(counted(decided)), at_end=True),
            width=6,
        ),
        panels.number(
            "Audit rows",
            Words(
                "Rows begun in the audit journals in the time range.",
                "Fewer rows than decisions. More is normal: calls that still wait, and skipped calls.",
                "Follow the runbook of AegisAuditReconciliationGap.",
            ),
            Query(or_zero(counted(AUDIT_RECORDS.shown())), at_end=True),
            width=6,
        ),
        panels.number(
            "Events at the collector",
            Words(
                "Decision events that reached the collector in the time range.",
                "Far fewer events than decisions: events are lost between agent and collector.",
                "Check the SDK's queue below, then run `aegis audit resend --since 2h`.",
            ),
            Query(or_zero(counted(arrived)), at_end=True),
            width=6,
        ),
        panels.lines(
            "Decisions, audit rows and events",
            Words(
                "The same calls per second, counted by the agents, the audit and the collector.",
                "Lines that differ for longer than a minute: the lower one has lost something.",
                "Few rows: check the audit. Few events: check network, queue and collector.",
            ),
            Query(rate(decided), "decisions"),
            Query(rate(AUDIT_RECORDS.shown()), "rows"),
            Query(rate(arrived), "events at the collector"),
            unit="cps",
        ),
        panels.lines(
            "Events in Loki",
            Words(
                "Decision events stored in Loki, by service.",
                "Fewer events than at the collector: the exporter to Loki fails.",
                "Check the export failures below; `aegis audit resend --missing-from FILE` fills the gap.",
            ),
            Query(count(stored, "service_name"), "{{service_name}}", store="loki"),
            bars=True,
        ),
    ]


def _agents() -> list[panels.Placed]:
    return [
        panels.lines(
            "Audit records lost",
            Words(
                "Records per second that could not be written to the audit journal, by service.",
                "Any value above zero (AegisAuditWriteFailed).",
                "Free disk space or fix the permissions, then run `aegis audit verify`.",
            ),
            Query(rate(AUDIT_ERRORS.shown(), JOB), legend(JOB)),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Calls with an unknown outcome",
            Words(
                "Allowed calls whose process died before it recorded the outcome. "
                "They are counted at sealing, which may be an hour later.",
                "Any value above zero (AegisUnknownOutcome): the tool may have done all or part of its work.",
                "Run `aegis audit --status unknown`, then find out for each call what was done.",
            ),
            Query(increase(UNKNOWN_OUTCOMES.shown(), JOB, window="$__rate_interval"), legend(JOB)),
            bars=True,
            width=8,
        ),
        panels.lines(
            "Failed sealings",
            Words(
                "Failed attempts to seal the audit journal to Parquet. The journal stays and grows.",
                "Failures that continue (AegisAuditSealFailing).",
                "Run `aegis audit seal` on the host: it names the problem.",
            ),
            Query(increase(SEAL_ERRORS.shown(), JOB, window="$__rate_interval"), legend(JOB)),
            bars=True,
            width=8,
        ),
        panels.lines(
            "Hook errors",
            Words(
                "Exceptions per second in the application's hooks. They change no verdict.",
                "Errors that continue: the hook does not do its work.",
                "Send the traceback from the process log to the owner of the application.",
            ),
            Query(rate(HOOK_ERRORS.shown(), JOB), legend(JOB)),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Series of the decision counter",
            Words(
                "Series of `aegis.decisions`. The SDK keeps 2,000 per process and sums the rest in one.",
                "Near 2,000: further rules are counted without their name.",
                "Reduce the rules of the policy, or set a higher limit with a view in the OpenTelemetry SDK.",
            ),
            Query(f"max by ({JOB}) (count by ({JOB}, {INSTANCE}) ({decided_series()}))", legend(JOB)),
            width=8,
        ),
        panels.lines(
            "Dropped in the SDK",
            Words(
                "Events and spans per second that the SDK's queue dropped. Needs "
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
                "Any value above zero (AegisTelemetryDropped).",
                "Check that the collector is up and fast enough. Otherwise raise OTEL_BLRP_MAX_QUEUE_SIZE.",
            ),
            Query(rate(SDK_LOGS.shown({ERROR: "~.+"}), JOB, ERROR), "events: " + legend(ERROR)),
            Query(rate(SDK_SPANS.shown({ERROR: "~.+"}), JOB, ERROR), "spans: " + legend(ERROR)),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Events in the SDK's queue",
            Words(
                "Events that wait in the agents for their export. Needs "
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
                "Near 2,048: the queue drops the oldest events next.",
                "Check that the collector is up and does not refuse data.",
            ),
            Query(f"max by ({JOB}) ({SDK_LOG_QUEUE.shown()})", legend(JOB)),
            width=12,
        ),
        panels.lines(
            "Exports from the agents",
            Words(
                "Exported events per second, by error; an empty error means success. Needs "
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
                "Any error.",
                "Run `aegis doctor` in the agent's environment: it tests the endpoint.",
            ),
            Query(rate(SDK_LOG_EXPORTS.shown(), JOB, ERROR), legend(JOB, ERROR)),
            unit="cps",
            width=12,
        ),
    ]


def decided_series() -> str:
    return DECISIONS.shown(UNNARROWED)


def _collector() -> list[panels.Placed]:
    return [
        panels.lines(
            "Accepted",
            Words(
                "Spans, log records and metric points per second that the collector accepted.",
                "Zero while agents run.",
                "Check that the collector is up; run `aegis doctor` in an agent's environment.",
            ),
            *(Query(rate(ACCEPTED[item].shown()), item) for item in ITEMS),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Refused",
            Words(
                "Items per second that the collector refused because of its memory limit or a full queue.",
                "Refusals that continue: the agents hold the data only until their own queues are full.",
                "Find the slow backend below; add memory or collectors.",
            ),
            *(Query(rate(REFUSED[item].shown()), item) for item in ITEMS),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Delivered",
            Words(
                "Items per second that a backend took, by exporter.",
                "One exporter at zero while the others work.",
                "Check whether its backend is up and its token still valid.",
            ),
            *(Query(rate(SENT[item].shown(), EXPORTER), f"{legend(EXPORTER)}: {item}") for item in ITEMS),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Export failures",
            Words(
                "Data that could not be delivered and is lost, by exporter.",
                "Any value above zero (AegisCollectorExportFailing).",
                "Read the collector's log for the cause; `aegis audit resend` sends the decisions again.",
            ),
            *(
                Query(rate(SEND_FAILED[item].shown(), EXPORTER), f"{legend(EXPORTER)}: {item}")
                for item in ITEMS
            ),
            *(
                Query(rate(ENQUEUE_FAILED[item].shown(), EXPORTER), f"{legend(EXPORTER)}: {item}, queue full")
                for item in ITEMS
            ),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Queue usage",
            Words(
                "Used share of the queue, by exporter.",
                "Above 80 % (AegisCollectorQueueFilling): a full queue refuses or loses data.",
                "Restore the backend. A queue on disk survives a restart of the collector.",
            ),
            Query(
                f"max by ({EXPORTER}) ({QUEUE_SIZE.shown()} / {QUEUE_CAPACITY.shown()})",
                legend(EXPORTER),
            ),
            unit="percentunit",
            width=8,
        ),
        panels.lines(
            "Memory",
            Words(
                "Memory of each collector.",
                "Near the limit: the collector begins to refuse data.",
                "Tail sampling holds whole traces: shorten COLLECTOR_DECISION_WAIT, or add a gateway.",
            ),
            Query(f"max by ({JOB}, {INSTANCE}) ({MEMORY.shown()})", legend(JOB, INSTANCE)),
            unit="bytes",
            width=8,
        ),
        panels.lines(
            "Uptime",
            Words(
                "Seconds since each collector started.",
                "A saw tooth: the collector restarts repeatedly and loses data that is not queued on disk.",
                "Check its memory before the restart, and the host's log.",
            ),
            Query(f"max by ({JOB}, {INSTANCE}) ({UPTIME.shown()})", legend(JOB, INSTANCE)),
            unit="s",
            width=24,
            height=5,
        ),
    ]
