"""The real collector: every configuration starts, and one governed run goes through local.yaml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from aegis_otel import semconv
from aegis_otel.runtime.audit import AuditLogger
from tests.stack.agent_program import VALUE
from tests.stack.stack import COLLECTOR, CONFIGURATIONS, HERE, ROOT, Collector, eventually, running

CALLS = 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    made = trustme.CA().issue_cert(HERE, "localhost")
    made.cert_chain_pems[0].write_to_path(str(directory / "own.pem"))
    made.private_key_pem.write_to_path(str(directory / "key.pem"))
    return {
        "COLLECTOR_TLS_CERT_FILE": str(directory / "own.pem"),
        "COLLECTOR_TLS_KEY_FILE": str(directory / "key.pem"),
        "COLLECTOR_TOKEN": "a-token",
        "COLLECTOR_GATEWAY": "127.0.0.1:9",
        "COLLECTOR_GATEWAYS": "[127.0.0.1:9]",
        "KAFKA_BROKERS": "[127.0.0.1:9]",
    }


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_is_valid(binary: Path, name: str, certificate: dict[str, str]) -> None:
    asked = [binary, "validate", "--config", COLLECTOR / f"{name}.yaml"]
    done = subprocess.run(asked, env={**os.environ, **certificate}, text=True, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_starts_and_nothing_in_it_is_deprecated(
    binary: Path, name: str, certificate: dict[str, str], tmp_path: Path
) -> None:
    # `validate` does not speak of deprecated names: the collector does when it starts.
    with running(binary, tmp_path / "out", COLLECTOR / f"{name}.yaml", **certificate) as collector:
        pass
    said = collector.output()
    assert "Everything is ready" in said
    assert [line for line in said.splitlines() if "deprecated" in line.lower()] == []


class Run:
    """One program of an agent that was governed and exported, and where it went."""

    def __init__(self, collector: Collector, audit: Path) -> None:
        self.collector = collector
        self.rows = AuditLogger(audit).get_log(limit=10 * CALLS)

    def counted(self, *columns: str) -> Counter[tuple[str, ...]]:
        return Counter(tuple(str(row[column]).lower() for column in columns) for row in self.rows)


@pytest.fixture(scope="module")
def run(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("local")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AEGIS_", "OTEL_"))}
    with running(binary, directory / "out", COLLECTOR / "local.yaml") as collector:
        subprocess.run(
            [sys.executable, "-m", "tests.stack.agent_program", str(CALLS)],
            cwd=directory,
            check=True,
            timeout=90,
            env={
                **kept,
                "PYTHONPATH": str(ROOT),
                "OPENAI_AGENTS_DISABLE_TRACING": "1",
                "AEGIS_AUDIT_DIR": str(directory / "audit"),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http,
                "OTEL_SERVICE_NAME": "clerk",
                "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=office,service.instance.id=one",
            },
        )
        yield Run(collector, directory / "audit")


def decisions(run: Run) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]]:
        return [each for each in run.collector.events() if each.get("eventName") == semconv.EVENT_DECISION]

    return eventually(look, lambda found: len(found) >= CALLS)


def test_every_row_of_the_audit_is_one_event_in_the_file(run: Run) -> None:
    assert len(run.rows) == CALLS
    events = Counter(each["attributes"][semconv.DECISION_ID] for each in decisions(run))
    assert events == Counter(row["decision_id"] for row in run.rows)


def test_the_severity_of_an_event_is_that_of_its_risk(run: Run) -> None:
    seen = {
        (each["attributes"][semconv.RISK_LEVEL], each["severityNumber"], each["severityText"])
        for each in decisions(run)
    }
    assert seen == {(risk, *semconv.SEVERITIES[risk]) for risk in ("low", "high", "critical")}
    assert ("critical", 17, "ERROR") in seen


@pytest.mark.parametrize("metric", ["aegis_decisions_total", "aegis_collector_decision_events_total"])
def test_prometheus_counts_what_the_audit_holds(run: Run, metric: str) -> None:
    def look() -> Counter[str]:
        counted: Counter[str] = Counter()
        for labels, value in run.collector.samples(metric):
            counted[labels["aegis_risk_level"]] += int(value)
        return +counted

    expected = Counter({risk: count for (risk,), count in run.counted("risk_level").items()})
    assert eventually(look, expected.__eq__) == expected


def test_spans_are_counted_by_tool(run: Run) -> None:
    def look() -> Counter[tuple[str, str]]:
        return Counter(
            {
                (labels["gen_ai_tool_name"], labels["aegis_risk_level"]): int(value)
                for labels, value in run.collector.samples("traces_span_metrics_calls_total")
                if labels.get("gen_ai_operation_name") == semconv.GOVERN_TOOL
            }
        )

    expected = run.counted("tool_name", "risk_level")
    assert eventually(look, expected.__eq__) == expected


@pytest.mark.parametrize(
    "metric",
    ["aegis_decisions_total", "aegis_collector_decision_events_total", "traces_span_metrics_calls_total"],
)
def test_series_carry_the_labels_of_the_agent(run: Run, metric: str) -> None:
    series = eventually(lambda: run.collector.samples(metric), bool)
    assert series
    for labels, _ in series:
        who = (labels["job"], labels["instance"], labels["service_name"], labels["service_namespace"])
        assert who == ("office/clerk", "one", "clerk", "office")
        assert not [name for name in labels if name.startswith("otel_scope")]


def test_a_histogram_has_its_usual_name(run: Run) -> None:
    series = eventually(lambda: run.collector.samples("aegis_approval_duration_seconds_bucket"), bool)
    assert {float(labels["le"]) for labels, _ in series} >= {1.0, 86400.0, float("inf")}


def test_no_value_of_an_argument_is_in_a_file(run: Run) -> None:
    decisions(run)
    written = sorted(path.name for path in run.collector.directory.glob("*.jsonl"))
    assert written == ["logs.jsonl", "metrics.jsonl", "traces.jsonl"]
    for name in written:
        text = (run.collector.directory / name).read_text()
        assert "aegis." in text
        assert VALUE not in text


def post(collector: Collector, signal: str, payload: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{collector.http}/v1/{signal}",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_what_an_agent_left_ends_and_a_quiet_hour_writes_nothing(binary: Path, tmp_path: Path) -> None:
    """With seconds for the hour of local.yaml."""
    hurried = tmp_path / "hurried.yaml"
    text = (COLLECTOR / "local.yaml").read_text()
    hurried.write_text(
        text.replace("_expiration: 1h", "_expiration: 4s").replace("_interval: 5s", "_interval: 1s")
    )
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "gone"}}]}
    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "work",
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "2000000000",
    }
    counted = {"asInt": "3", "timeUnixNano": str(time.time_ns()), "startTimeUnixNano": str(time.time_ns())}
    total = {"dataPoints": [counted], "aggregationTemporality": 2, "isMonotonic": True}
    event = {"eventName": semconv.EVENT_DECISION}
    with running(binary, tmp_path / "out", hurried) as collector:

        def series() -> set[str]:
            with urllib.request.urlopen(f"{collector.prometheus}/metrics", timeout=5) as answer:
                return set(re.findall(r'^(\w+)\{[^}]*job="gone"', answer.read().decode(), re.MULTILINE))

        for signal, scopes, record in (
            ("Spans", "scopeSpans", {"spans": [span]}),
            ("Metrics", "scopeMetrics", {"metrics": [{"name": "own", "sum": total}]}),
            ("Logs", "scopeLogs", {"logRecords": [event]}),
        ):
            payload = {f"resource{signal}": [{"resource": resource, scopes: [record]}]}
            post(collector, {"Spans": "traces"}.get(signal, signal.lower()), payload)
        seen = eventually(series, lambda found: len(found) >= 6)
        assert {"own_total", "traces_span_metrics_calls_total"} < seen
        assert "aegis_collector_decision_events_total" in seen
        assert eventually(series, lambda found: not found) == set()
        written = [
            metric["name"]
            for payload in collector.lines("metrics.jsonl")
            for each in payload["resourceMetrics"]
            for scope in each["scopeMetrics"]
            for metric in scope["metrics"]
        ]
        assert written == ["own"]


SECRETS = {
    "db.password": "hunter2hunter2",
    "gen_ai.tool.call.arguments": '{"to": "x", "api_key": "no-known-shape"}',
    "http.request.header.authorization": "Basic dXNlcjpwYXNzd29yZDEyMw==",
    "note": "use sk-proj-abcdefghij0123456789 for this",
    "url.full": "https://user:pa55word@example.com/x",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcDEF123",
    "key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
}
HIDDEN = ["hunter2", "no-known-shape", "dXNlcjpwYXNz", "sk-proj", "pa55word", "eyJhbGci", "MIIEpAIB"]


def test_secrets_do_not_reach_the_file(binary: Path, tmp_path: Path) -> None:
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in SECRETS.items()]
    nested = {"key": "deep", "value": {"kvlistValue": {"values": attributes}}}
    kept = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}}
    payload = {
        "resourceLogs": [
            {
                "resource": {"attributes": attributes},
                "scopeLogs": [
                    {"logRecords": [{"eventName": "a", "attributes": [*attributes, nested, kept]}]}
                ],
            }
        ]
    }
    with running(binary, tmp_path / "out", COLLECTOR / "local.yaml") as collector:
        post(collector, "logs", payload)
        (event,) = eventually(collector.events, bool)
        text = (collector.directory / "logs.jsonl").read_text()
    assert [each for each in HIDDEN if each in text] == []
    assert event["attributes"]["gen_ai.usage.input_tokens"] == "12"
    assert event["attributes"]["note"] == "use **** for this"
