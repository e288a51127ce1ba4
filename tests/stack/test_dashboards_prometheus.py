"""Every PromQL expression of panels, variables and rules, asked of a real Prometheus.

It is filled by governed agents through the real collector: a service that enforces (`aegis demo`: four
agents, approvals given, denied and not answered, tools that fail, a policy that is refused, one that is
changed, a process that dies), one in monitor mode that cannot send its events, and a collector whose backends
are away.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT

import pytest
import yaml

from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from dashboards import signals
from dashboards.queries import counted
from tests.dashboards import debian
from tests.dashboards.boards import Target, expanded, promql
from tests.dashboards.services import Prometheus, QueryError, prometheus
from tests.stack.conftest import cannot_be_had
from tests.stack.stack import COLLECTOR, ROOT, eventually, running
from tests.support.inbox import shared_question

ENFORCING, WATCHING, PAGE = "shop/agents", "watching", "approvals"
AWAY = {  # backends nobody answers for: one way to lose each kind of data
    "exporters": {
        "otlp_grpc/tempo": {"endpoint": "127.0.0.1:9", "retry_on_failure": {"enabled": False}},
        "otlp_http/prometheus": {"endpoint": "http://127.0.0.1:9", "retry_on_failure": {"enabled": False}},
        "otlp_http/loki": {
            "endpoint": "http://127.0.0.1:9",
            "sending_queue": {"queue_size": 1, "num_consumers": 1},
        },
    }
}
SHORT = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "2",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "2",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "2",
}
DEAF = {  # while an exporter tries again, its queue of two overflows, however fast the machine is
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:9/v1/logs",
    "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "2",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2",
}
CANDIDATE = """
rules:
  - { name: no_reads, match: { type: search }, approval: block }
  - { name: all_else, approval: auto }
"""
"""A policy that would be stricter with some calls of the watched agents, and looser with others."""
UNSEEN = {
    "otelcol_exporter_send_failed_log_records": "the exporter of logs tries again",
    "otelcol_exporter_enqueue_failed_spans": "only the queue of logs is short",
    "otelcol_exporter_enqueue_failed_metric_points": "only the queue of logs is short",
}
"""Series that this run does not make, and why. Their names are in the collector's documentation."""
ON = {
    "AegisCriticalDecision",
    "AegisCriticalExecutedWithoutHuman",  # in monitor mode
    "AegisCandidateWouldLoosen",
    "AegisUnknownOutcome",
    "AegisTelemetryDropped",
    "AegisDecisionEventsMissing",
    "AegisCollectorExportFailing",
    "AegisCollectorQueueFilling",
}
"""Rules whose condition the run brings about; the others must have nothing to say.

AegisPolicyLoadFailed is none: the policy that `aegis demo` has refused is mended before it ends.
"""


@pytest.fixture(scope="module")
def filled(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if missing := debian.missing():
        cannot_be_had(missing)
    folder = tmp_path_factory.mktemp("prometheus")
    overlay = folder / "away.yaml"
    overlay.write_text(yaml.safe_dump(AWAY))
    with ExitStack() as stack:
        collector = stack.enter_context(running(binary, folder / "collector", COLLECTOR / "local.yaml"))
        failing = stack.enter_context(running(binary, folder / "failing", COLLECTOR / "laptop.yaml", overlay))
        store = stack.enter_context(prometheus(folder / "store", collector, others=[failing.telemetry]))
        demo = subprocess.Popen(
            [
                *(sys.executable, "-m", "aegis_otel", "demo", "--minutes", "0.5", "--rate", "8"),
                *("--endpoint", collector.http, "--path", str(folder / "audit")),
            ],
            env=environment(ENFORCING, "2000"),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stack.enter_context(approvals_page(folder, collector.http))
        agents(folder, collector.http, **SHORT, **DEAF)
        agents(folder, failing.http, **SHORT)
        said, _ = demo.communicate(timeout=300)
        assert demo.returncode == 0, said
        arrived = 'sum(aegis_decisions_total{job="shop/agents"}) > 100'
        assert eventually(lambda: store.query(arrived), bool, within=30)
        time.sleep(3)  # two scrapes more, for rates
        yield store


@contextmanager
def approvals_page(folder: Path, endpoint: str) -> Iterator[None]:
    """The page of an inbox in which a question waits."""
    place = f"sqlite:///{folder}/state.sqlite3"
    state = open_state(place)
    StateInbox(state).put(shared_question())
    state.close()
    page = subprocess.Popen(
        [sys.executable, "-m", "aegis_otel", "approvals", "serve", "--port", "0"],
        env={**environment(PAGE, "1000"), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "AEGIS_STATE": place},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        page.send_signal(SIGINT)
        page.wait(30)


def environment(service: str, interval_ms: str) -> dict[str, str]:
    namespace, _, name = service.rpartition("/")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AEGIS_", "OTEL_"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "OTEL_SERVICE_NAME": name,
        "OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={namespace}" if namespace else "",
        "OTEL_METRIC_EXPORT_INTERVAL": interval_ms,
        "AEGIS_EVALUATION_DURATION": "on",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
    }


def agents(folder: Path, endpoint: str, **settings: str) -> None:
    """45 calls in monitor mode, a third of them CRITICAL, beside a candidate policy."""
    (folder / "candidate.yaml").write_text(CANDIDATE)
    chosen = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "AEGIS_MODE": "monitor",
        "AEGIS_CANDIDATE": "candidate.yaml",
        **settings,
    }
    subprocess.run(
        [sys.executable, "-m", "tests.stack.agent_program", "45"],
        env={**environment(WATCHING, "1000"), **chosen},
        cwd=folder,
        check=True,
        timeout=120,
        capture_output=True,
    )


def asked(target: Target) -> str:
    """Windows as long as the run is; a scrape is a second here."""
    return expanded(target.expr).replace("[1m]", "[30s]").replace("[1h]", "[5m]")


def test_every_expression_is_taken_by_prometheus_and_finds_what_the_run_made(filled: Prometheus) -> None:
    empty, refused = [], []
    for target in promql():
        if target.place.startswith(("rule ", "Grafana's rule ")):
            continue
        try:
            found = filled.query(asked(target))
        except QueryError as error:
            refused.append(f"{target}: {error}")
            continue
        if not found and not any(name in target.expr for name in UNSEEN):
            empty.append(f"{target}: {asked(target)}")
    assert refused == []
    assert empty == []


@pytest.mark.parametrize("form", ["rule ", "Grafana's rule "])
def test_rules_have_something_to_say_where_something_happened(filled: Prometheus, form: str) -> None:
    said = {}
    for target in promql():
        if target.place.startswith(form):
            limit = "" if form == "rule " else f" > {LIMITS[target.place.removeprefix(form)]}"
            said[target.place.removeprefix(form)] = filled.query(f"({target.expr}){limit}")
    assert {name for name, found in said.items() if found} == ON
    (*_, critical) = (found["metric"] for found in said["AegisCriticalDecision"])
    assert set(critical) == {"job", signals.RULE, signals.OUTCOME, signals.MODE}


def limits() -> dict[str, float]:
    from dashboards.alerts import alerts

    return {alert.name: alert.over for alert in alerts()}


LIMITS = limits()


def test_series_have_the_labels_that_signals_promise(filled: Prometheus) -> None:
    """And no other: what a query groups away must be known."""
    from_target = {"__name__", "job", "instance", "le", "service_name", "service_namespace"}
    for signal in signals.SIGNALS:
        for series in signal.series:
            found = filled.ask("series", **{"match[]": series})
            assert found or series in UNSEEN, f"the run made no `{series}`"
            labels = {label for each in found for label in each}
            assert labels - from_target <= set(signal.labels), f"{series}: {labels - from_target}"


def test_both_services_are_jobs_of_their_own(filled: Prometheus) -> None:
    """By namespace and name, or by name alone: what the variable `service` cuts out is what Loki has."""
    jobs = {found["metric"]["job"] for found in filled.query("count by (job) (aegis_decisions_total)")}
    assert jobs == {ENFORCING, WATCHING}


def test_tools_and_agents_are_there_to_be_chosen(filled: Prometheus) -> None:
    calls = signals.SPAN_CALLS.series[0]
    for label in (signals.TOOL, signals.AGENT):
        assert len(filled.query(f'count by ({label}) ({calls}{{job="{ENFORCING}",{label}!=""}})')) >= 4


def test_decisions_rows_and_events_agree_where_nothing_was_lost(filled: Prometheus) -> None:
    of = f'{{job="{ENFORCING}"}}'
    decided = filled.value(f"sum({signals.DECISIONS.series[0]}{of})")
    arrived = filled.value(f"sum({signals.COLLECTOR_EVENTS.series[0]}{of})")
    rows = filled.value(f"sum({signals.AUDIT_RECORDS.series[0]}{of})")
    assert decided > 200
    assert arrived == decided
    assert rows >= decided


def test_a_process_that_is_soon_gone_is_counted_whole(filled: Prometheus) -> None:
    """Its 45 calls may all have come between two scrapes, where an increase is nothing."""
    of = signals.DECISIONS.all({signals.JOB: WATCHING})
    assert 45 <= filled.value(counted(of, window="5m")) < 50


def test_exemplars_lead_to_traces(filled: Prometheus) -> None:
    found = filled.ask(
        "query_exemplars",
        query=f"{signals.TOOL_DURATION.name}_bucket",
        start=time.time() - 600,
        end=time.time(),
    )
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces
    assert all(len(trace) == 32 for trace in traces)
