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
        purpose="Whether every decision is recorded and arrives: agents, collector, backends.",
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
                "Decisions counted, less the rows begun in the audit journal, since the processes began.",
                "Above zero: something was decided of which no row exists (AegisAuditReconciliationGap).",
                "Its runbook: first the disk, then `aegis audit verify`.",
            ),
            Query(f"clamp_min({or_zero(f'{total(decided)} - {total(AUDIT_RECORDS.shown())}')}, 0)"),
            red_from=0.5,
            width=6,
        ),
        panels.number(
            "Decisions counted",
            Words(
                "Decisions in the time range, as the agents count them.",
                "None while agents work (AegisGovernanceSilent).",
                "`aegis doctor` in the agent's environment.",
            ),
            Query(or_zero(counted(decided)), at_end=True),
            width=6,
        ),
        panels.number(
            "Rows in the audit",
            Words(
                "Rows begun in the audit journals in the time range.",
                "Fewer than decisions. More is fine: calls that still wait, and skipped ones.",
                "Runbook of AegisAuditReconciliationGap.",
            ),
            Query(or_zero(counted(AUDIT_RECORDS.shown())), at_end=True),
            width=6,
        ),
        panels.number(
            "Events at the collector",
            Words(
                "Decision events that reached the collector in the time range.",
                "Much fewer than decisions: events are lost between agent and collector.",
                "See the SDK's queue below; then `aegis audit resend --since 2h`.",
            ),
            Query(or_zero(counted(arrived)), at_end=True),
            width=6,
        ),
        panels.lines(
            "The same decisions, counted in three places",
            Words(
                "Decisions by the agents, rows by the audit, events by the collector, per second.",
                "Lines that part for longer than a minute: the lower one loses something.",
                "Rows below decisions: the audit. Events below decisions: network, queue or collector.",
            ),
            Query(rate(decided), "decisions"),
            Query(rate(AUDIT_RECORDS.shown()), "rows"),
            Query(rate(arrived), "events at the collector"),
            unit="cps",
        ),
        panels.lines(
            "Events in Loki",
            Words(
                "Decision events that are in Loki, by service.",
                "Fewer than reach the collector: the exporter to Loki fails.",
                "See the failed sends below; `aegis audit resend --missing-from FILE` fills the gap.",
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
                "Records a second that the audit journal did not take, by service.",
                "Any (AegisAuditWriteFailed).",
                "Free the disk, mend its rights; then `aegis audit verify`.",
            ),
            Query(rate(AUDIT_ERRORS.shown(), JOB), legend(JOB)),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Calls of which nobody knows the end",
            Words(
                "Calls that were let through and whose process was gone before it said what came of them. "
                "Counted when they are sealed, which may be an hour later.",
                "Any (AegisUnknownOutcome): the tool may have done its work, half of it, or nothing.",
                "`aegis audit --status unknown` lists them; find out what each did.",
            ),
            Query(increase(UNKNOWN_OUTCOMES.shown(), JOB, window="$__rate_interval"), legend(JOB)),
            bars=True,
            width=8,
        ),
        panels.lines(
            "Sealings that failed",
            Words(
                "Attempts to seal the audit journal to Parquet that failed; the journal stays, and grows.",
                "Any that lasts (AegisAuditSealFailing).",
                "`aegis audit seal` on the host says what is wrong.",
            ),
            Query(increase(SEAL_ERRORS.shown(), JOB, window="$__rate_interval"), legend(JOB)),
            bars=True,
            width=8,
        ),
        panels.lines(
            "Hooks that raised",
            Words(
                "Exceptions a second in hooks of the application. They change no verdict.",
                "Any that lasts: whoever wrote the hook believes it works.",
                "The process's log has the traceback; tell the owner of the application.",
            ),
            Query(rate(HOOK_ERRORS.shown(), JOB), legend(JOB)),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Series of decisions",
            Words(
                "Series of the decisions counter: the SDK keeps 2,000 a process and sums the rest.",
                "Near 2,000 a process: rules that come after are counted without their name.",
                "Fewer rules in one policy, or a view with a higher limit.",
            ),
            Query(f"max by ({JOB}) (count by ({JOB}, {INSTANCE}) ({decided_series()}))", legend(JOB)),
            width=8,
        ),
        panels.lines(
            "Dropped in the SDK",
            Words(
                "Events and spans a second that the SDK's queue dropped. Needs "
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
                "Any (AegisTelemetryDropped).",
                "Is the collector slow or away? Else a longer queue: OTEL_BLRP_MAX_QUEUE_SIZE.",
            ),
            Query(rate(SDK_LOGS.shown({ERROR: "~.+"}), JOB, ERROR), "events: " + legend(ERROR)),
            Query(rate(SDK_SPANS.shown({ERROR: "~.+"}), JOB, ERROR), "spans: " + legend(ERROR)),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Events in the SDK's queue",
            Words(
                "Events that wait in the agents to be sent. Needs "
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
                "Near 2,048: the oldest are dropped next.",
                "Look at the collector: is it there, does it refuse?",
            ),
            Query(f"max by ({JOB}) ({SDK_LOG_QUEUE.shown()})", legend(JOB)),
            width=12,
        ),
        panels.lines(
            "Exports from the agents",
            Words(
                "Events a second whose export ended, by error; no error is success. Needs "
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
                "Any error.",
                "`aegis doctor` in the agent's environment tries the endpoint.",
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
            "Let in",
            Words(
                "Spans, events and metric points a second that the collector took.",
                "Nothing, while agents run.",
                "Is the collector up, and do agents send to it? `aegis doctor`.",
            ),
            *(Query(rate(ACCEPTED[item].shown()), item) for item in ITEMS),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Turned away",
            Words(
                "What the collector refused, because its memory limit was reached or a queue was full.",
                "Any that lasts: agents keep it only as long as their own queues hold.",
                "More memory or more collectors; see what backend is slow.",
            ),
            *(Query(rate(REFUSED[item].shown()), item) for item in ITEMS),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Delivered",
            Words(
                "What the collector delivered, by exporter.",
                "An exporter at zero while the others work.",
                "Its backend is away, or its token ended.",
            ),
            *(Query(rate(SENT[item].shown(), EXPORTER), f"{legend(EXPORTER)}: {item}") for item in ITEMS),
            unit="cps",
            width=8,
        ),
        panels.lines(
            "Lost at export",
            Words(
                "What could not be delivered and is gone, by exporter.",
                "Any (AegisCollectorExportFailing).",
                "The collector's log says why; `aegis audit resend` sends the decisions again.",
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
            "How full the queues are",
            Words(
                "What waits for a backend, as a share of what may wait, by exporter.",
                "Above 80 % (AegisCollectorQueueFilling): what comes next is lost.",
                "Bring the backend back; a queue on disk survives a restart of the collector.",
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
                "Near its limit: it begins to turn away what comes in.",
                "Tail sampling holds whole traces: shorten its wait, or add a gateway.",
            ),
            Query(f"max by ({JOB}, {INSTANCE}) ({MEMORY.shown()})", legend(JOB, INSTANCE)),
            unit="bytes",
            width=8,
        ),
        panels.lines(
            "Up since",
            Words(
                "Seconds since each collector began.",
                "A saw: it is killed again and again, and loses what is not in a queue on disk.",
                "Look at its memory just before, and at the host's log.",
            ),
            Query(f"max by ({JOB}, {INSTANCE}) ({UPTIME.shown()})", legend(JOB, INSTANCE)),
            unit="s",
            width=24,
            height=5,
        ),
    ]
