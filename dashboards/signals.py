"""What can be asked of Prometheus: each signal once, with its unit, its labels and what it means.

aegis-otel's own come from `aegis_otel.semconv`, by OpenTelemetry's rules for Prometheus names. The others are
the collector's and the OpenTelemetry SDK's; their names are in their own documentation and listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aegis_otel import semconv

Kind = Literal["counter", "gauge", "histogram"]
Where = Mapping[str, str]
"""Label -> what it must be: `x`, `!x`, `~x|y` or `!~x|y`."""


def label(attribute: str) -> str:
    """An OpenTelemetry name as Prometheus and Loki spell it."""
    return attribute.replace(".", "_")


AGENT = label(semconv.GEN_AI_AGENT_NAME)
TOOL = label(semconv.GEN_AI_TOOL_NAME)
CONVERSATION = label(semconv.GEN_AI_CONVERSATION_ID)
TENANT = label(semconv.TENANT_ID)
USER = label(semconv.USER_HASH)
ERROR = label(semconv.ERROR_TYPE)
DECISION = label(semconv.DECISION_ID)
OUTCOME = label(semconv.DECISION_OUTCOME)
REASON = label(semconv.DECISION_REASON)
APPROVAL = label(semconv.POLICY_APPROVAL)
RULE = label(semconv.POLICY_RULE_NAME)
CANDIDATE_APPROVAL = label(semconv.CANDIDATE_APPROVAL)
CANDIDATE_RULE = label(semconv.CANDIDATE_RULE_NAME)
DIGEST = label(semconv.POLICY_DIGEST)
RELOAD = label(semconv.POLICY_RELOAD_OUTCOME)
KIND = label(semconv.POLICY_KIND)
RISK = label(semconv.RISK_LEVEL)
MODE = label(semconv.ENFORCEMENT_MODE)
ANSWER = label(semconv.APPROVAL_OUTCOME)
CHANNEL = label(semconv.APPROVAL_CHANNEL)
WAIT = label(semconv.APPROVAL_WAIT)
REFUSAL = label(semconv.APPROVAL_REFUSAL)
GRANT = label(semconv.GRANT_ID)
INBOX = label(semconv.INBOX_ID)
QUESTION_STATUS = label(semconv.INBOX_STATUS)
OPERATION = label(semconv.GEN_AI_OPERATION_NAME)
EXPORTER, RECEIVER = "exporter", "receiver"
JOB, INSTANCE = "job", "instance"

VARIABLES = {AGENT: "agent", TOOL: "tool", RISK: "risk", RULE: "rule", OUTCOME: "outcome"}
"""Label -> the dashboard variable that chooses its values."""


@dataclass(frozen=True)
class Signal:
    """A metric as it is called in Prometheus, without the suffixes of its series."""

    name: str
    kind: Kind
    unit: str
    """Grafana's name of the unit of one value."""
    meaning: str
    labels: tuple[str, ...]
    """Beside `job` and `instance`."""
    job_variable: str = "job"
    """The dashboard variable that its `job` is chosen by; the collector is a job of its own."""
    bare: bool = False
    """A counter without `_total`, as the collector's own are where they are scraped."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which it is in Prometheus."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        suffixed = self.kind == "counter" and not self.bare
        return (f"{self.name}_total",) if suffixed else (self.name,)

    def all(self, where: Where | None = None, part: str = "") -> str:
        """A selector for rules: what `where` asks for, whoever it is from."""
        return self._selector({}, where, part)

    def shown(self, where: Where | None = None, part: str = "") -> str:
        """A selector for panels: narrowed by the dashboard's variables, but for the labels in `where`."""
        chosen = {JOB: f"~${self.job_variable}"}
        chosen.update({key: f"~${VARIABLES[key]}" for key in self.labels if key in VARIABLES})
        return self._selector(chosen, where, part)

    def _selector(self, chosen: Where, where: Where | None, part: str) -> str:
        known = {JOB, INSTANCE, "le", *self.labels}
        if unknown := set(where or {}) - known:
            raise ValueError(f"`{self.name}` has no label {sorted(unknown)}: it has {sorted(known)}")
        name = f"{self.name}_{part or 'bucket'}" if self.kind == "histogram" else self.series[0]
        matchers = [_matcher(key, value) for key, value in {**chosen, **(where or {})}.items()]
        return f"{name}{{{','.join(matchers)}}}" if matchers else name


def _matcher(key: str, value: str) -> str:
    for sign, operator in (("!~", "!~"), ("~", "=~"), ("!", "!=")):
        if value.startswith(sign):
            return f'{key}{operator}"{value.removeprefix(sign)}"'
    return f'{key}="{value}"'


def _own(name: str) -> Signal:
    """A metric of `semconv` by its OpenTelemetry name."""
    metric = next(metric for metric in semconv.METRICS if metric.name == name)
    seconds = metric.unit == "s"
    kind: Kind = "histogram" if metric.instrument == "histogram" else "counter"
    if "up-down" in metric.instrument or "gauge" in metric.instrument:
        kind = "gauge"
    spelled = label(name) + ("_seconds" if seconds else "")
    labels = tuple(label(attribute) for attribute in metric.attributes)
    return Signal(spelled, kind, "s" if seconds else "short", metric.meaning, labels)


DECISIONS = _own(semconv.METRIC_DECISIONS)
EVALUATION = _own(semconv.METRIC_EVALUATION_DURATION)
APPROVAL_WAIT = _own(semconv.METRIC_APPROVAL_DURATION)
PENDING = _own(semconv.METRIC_APPROVAL_PENDING)
INBOX_WAITING = _own(semconv.METRIC_INBOX_WAITING)
INBOX_LONGEST_WAIT = _own(semconv.METRIC_INBOX_LONGEST_WAIT)
INBOX_GRANTS = _own(semconv.METRIC_INBOX_GRANTS)
INBOX_ENDED = _own(semconv.METRIC_INBOX_ENDED)
INBOX_REFUSED = _own(semconv.METRIC_INBOX_REFUSED)
TOOL_DURATION = _own(semconv.METRIC_EXECUTE_TOOL_DURATION)
AGENT_DURATION = _own(semconv.METRIC_INVOKE_AGENT_DURATION)
AUDIT_RECORDS = _own(semconv.METRIC_AUDIT_RECORDS)
AUDIT_ERRORS = _own(semconv.METRIC_AUDIT_ERRORS)
SEAL_ERRORS = _own(semconv.METRIC_AUDIT_SEAL_ERRORS)
UNKNOWN_OUTCOMES = _own(semconv.METRIC_AUDIT_UNKNOWN_OUTCOMES)
HOOK_ERRORS = _own(semconv.METRIC_HOOK_ERRORS)
RELOADS = _own(semconv.METRIC_POLICY_RELOADS)
POLICY_REFUSED = _own(semconv.METRIC_POLICY_REFUSED)
CANDIDATE_DECISIONS = _own(semconv.METRIC_CANDIDATE_DECISIONS)
CANDIDATE_ERRORS = _own(semconv.METRIC_CANDIDATE_ERRORS)
LIMIT_USAGE = _own(semconv.METRIC_LIMIT_USAGE)
STATE_ERRORS = _own(semconv.METRIC_STATE_ERRORS)

# --- what the collector makes of spans and events (collector/README.md) ---
_SPAN_LABELS = (
    *("service_name", "span_name", "span_kind", "status_code", "collector_instance_id"),
    *(OPERATION, TOOL, AGENT, OUTCOME, RISK, RULE, ERROR),
)
SPAN_CALLS = Signal(
    "traces_span_metrics_calls", "counter", "short", "spans, counted before sampling", _SPAN_LABELS
)
SPAN_DURATION = Signal(
    "traces_span_metrics_duration_seconds", "histogram", "s", "how long spans took", _SPAN_LABELS
)
COLLECTOR_EVENTS = Signal(
    "aegis_collector_decision_events",
    "counter",
    "short",
    "decision events that reached the collector",
    (OUTCOME, RISK, "service_name", "collector_instance_id"),
)

# --- the OpenTelemetry SDK about itself, with OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true ---
_SDK_LABELS = ("otel_component_name", "otel_component_type", "server_address", "server_port", ERROR)
SDK_LOGS = Signal(
    "otel_sdk_processor_log_processed", "counter", "short", "events that left the SDK's queue", _SDK_LABELS
)
SDK_SPANS = Signal(
    "otel_sdk_processor_span_processed", "counter", "short", "spans that left the SDK's queue", _SDK_LABELS
)
SDK_LOG_QUEUE = Signal(
    "otel_sdk_processor_log_queue_size", "gauge", "short", "events in the SDK's queue", _SDK_LABELS
)
SDK_LOG_EXPORTS = Signal(
    "otel_sdk_exporter_log_exported", "counter", "short", "events whose export ended", _SDK_LABELS
)


# --- the collector about itself ---
def _collector(name: str, kind: Kind, unit: str, meaning: str, labels: tuple[str, ...]) -> Signal:
    return Signal(f"otelcol_{name}", kind, unit, meaning, labels, job_variable="collector", bare=True)


_EXPORTED = (EXPORTER, "data_type", "server_address", "server_port", "url_path")
ITEMS = ("spans", "log_records", "metric_points")
ACCEPTED = {
    item: _collector(
        f"receiver_accepted_{item}", "counter", "short", f"{item} let in", (RECEIVER, "transport")
    )
    for item in ITEMS
}
REFUSED = {
    item: _collector(
        f"receiver_refused_{item}", "counter", "short", f"{item} turned away", (RECEIVER, "transport")
    )
    for item in ITEMS
}
SENT = {
    item: _collector(f"exporter_sent_{item}", "counter", "short", f"{item} delivered", _EXPORTED)
    for item in ITEMS
}
SEND_FAILED = {
    item: _collector(f"exporter_send_failed_{item}", "counter", "short", f"{item} lost", _EXPORTED)
    for item in ITEMS
}
ENQUEUE_FAILED = {
    item: _collector(
        f"exporter_enqueue_failed_{item}", "counter", "short", f"{item} lost at a full queue", _EXPORTED
    )
    for item in ITEMS
}
QUEUE_SIZE = _collector("exporter_queue_size", "gauge", "short", "what waits for a backend", _EXPORTED)
QUEUE_CAPACITY = _collector("exporter_queue_capacity", "gauge", "short", "what may wait", _EXPORTED)
MEMORY = _collector("process_memory_rss", "gauge", "bytes", "memory of the collector", ())
UPTIME = _collector("process_uptime", "gauge", "s", "seconds since the collector began", ())

OWN = tuple(_own(metric.name) for metric in semconv.METRICS)
OTHERS = (
    *(SPAN_CALLS, SPAN_DURATION, COLLECTOR_EVENTS, SDK_LOGS, SDK_SPANS, SDK_LOG_QUEUE, SDK_LOG_EXPORTS),
    *(
        signal
        for group in (ACCEPTED, REFUSED, SENT, SEND_FAILED, ENQUEUE_FAILED)
        for signal in group.values()
    ),
    *(QUEUE_SIZE, QUEUE_CAPACITY, MEMORY, UPTIME),
)
SIGNALS = OWN + OTHERS
