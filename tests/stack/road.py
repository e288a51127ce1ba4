"""What the tests of agent.yaml, gateway.yaml and writer.yaml share: keys, files as backends, and load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import trustme

from aegis_otel import semconv
from aegis_otel.runtime.audit import AuditLogger
from tests.stack.stack import HERE, ROOT, Collector

TOKEN = "the-token-of-the-gateway"
# Settings of the machine that a load must not see; the last two would win over the certificate it is told.
FOREIGN = ("AEGIS_", "OTEL_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_FILES = """\
exporters:
  file/traces: { path: "${env:COLLECTOR_DIR}/traces.jsonl", rotation: { max_megabytes: 100 } }
  file/logs: { path: "${env:COLLECTOR_DIR}/logs.jsonl", rotation: { max_megabytes: 100 } }
  file/metrics: { path: "${env:COLLECTOR_DIR}/metrics.jsonl", rotation: { max_megabytes: 100 } }
  file/twice: { path: "${env:COLLECTOR_DIR}/twice.jsonl", rotation: { max_megabytes: 100 } }
service:
  pipelines:
"""
_GATEWAY = """\
    traces/must_arrive: { exporters: [file/traces] }
    traces/sampled: { exporters: [file/traces] }
    logs/events: { exporters: [file/logs, signal_to_metrics] }
    logs/other: { exporters: [file/logs] }
    metrics: { exporters: [file/metrics] }
    metrics/made: { exporters: [file/metrics] }
"""
_WRITER = """\
    traces/clickhouse: { exporters: [file/traces] }
    logs/clickhouse: { exporters: [file/logs] }
    logs/loki: { exporters: [file/twice] }
    traces/tempo: { exporters: [file/twice] }
    metrics/prometheus: { exporters: [file/metrics] }
"""


def gateway_to_files(folder: Path) -> Path:
    """A second configuration for a gateway: files in place of Kafka."""
    return _written(folder / "gateway_to_files.yaml", _FILES + _GATEWAY)


def gateway_to_kafka(folder: Path) -> Path:
    """A second configuration for a gateway: what it is, with messages that are written sooner."""
    sooner = "sending_queue: { batch: { flush_timeout: 200ms } }"
    exporters = "".join(
        f"  kafka/{name}: {{ {sooner} }}\n" for name in ("events", "other", "metrics", "must_arrive")
    )
    return _written(folder / "gateway_to_kafka.yaml", f"exporters:\n{exporters}")


def writer_to_files(folder: Path) -> Path:
    """A second configuration for a writer: files in place of the backends."""
    return _written(folder / "writer_to_files.yaml", _FILES + _WRITER)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class Keys:
    """An authority, and what it signed for gateways on this machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        made = authority.issue_cert(HERE, "localhost")
        self.authority, own, key = (folder / name for name in ("ca.pem", "own.pem", "key.pem"))
        authority.cert_pem.write_to_path(str(self.authority))
        made.cert_chain_pems[0].write_to_path(str(own))
        made.private_key_pem.write_to_path(str(key))
        self.gateway = {
            "COLLECTOR_TLS_CERT_FILE": str(own),
            "COLLECTOR_TLS_KEY_FILE": str(key),
            "COLLECTOR_TOKEN": TOKEN,
        }

    def agent(self, *gateways: Collector, token: str = TOKEN) -> dict[str, str]:
        """What agent.yaml needs to send to these gateways."""
        addresses = [urlsplit(each.grpc).netloc for each in gateways]
        return {
            "COLLECTOR_TOKEN": token,
            "COLLECTOR_GATEWAY": addresses[0],
            "COLLECTOR_GATEWAYS": f"[{', '.join(addresses)}]",
            "COLLECTOR_GATEWAY_CA_FILE": str(self.authority),
        }

    def application(self, gateway: Collector, token: str = TOKEN) -> dict[str, str]:
        """What an application needs that sends to a gateway itself."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.http.replace("http:", "https:"),
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(self.authority),
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}",
        }


class Load:
    """`load_program.py` in a process of its own, and its audit."""

    def __init__(self, folder: Path, calls: int, per_second: int, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.audit = folder, folder / "audit"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        numbers = (str(calls), str(per_second))
        files = (str(folder / "accepted"), str(folder / "enough"))
        self._said = folder / "said.txt"
        with self._said.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.stack.load_program", *numbers, *files],
                cwd=folder,
                env={
                    **kept,
                    "PYTHONPATH": str(ROOT),
                    "AEGIS_AUDIT_DIR": str(self.audit),
                    "OTEL_SERVICE_NAME": "load",
                    **environment,
                },
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def enough(self) -> None:
        """Have it make no further calls."""
        assert self.process.poll() is None, f"it ended before its time: {self.said()}"
        (self.folder / "enough").touch()

    def finish(self, within: float = 120) -> float:
        """Wait for its end, which is to be a good one. Gives the seconds that its slowest call took."""
        said, _ = self.process.communicate(timeout=within)
        assert self.process.returncode == 0, self.said()
        return float(said)

    def said(self) -> str:
        return self._said.read_text()

    def accepted(self) -> list[tuple[str, str]]:
        """Name and decision of the events that the exporter said had arrived."""
        file = self.folder / "accepted"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(name, decision) for name, _, decision in (line.partition(" ") for line in lines)]

    def decided(self, *risks: str) -> set[str]:
        """Ids of the decisions in the audit, of these risks or of all."""
        rows = AuditLogger(self.audit).get_log(limit=1_000_000)
        return {row["decision_id"] for row in rows if not risks or row["risk_level"].lower() in risks}


def post(
    collector: Collector,
    signal: str,
    by_service: dict[str, list[dict[str, Any]]],
    resource: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Send log records or spans (`logs`, `traces`) as OTLP/JSON.

    Raises:
        urllib.error.HTTPError: the collector did not take them.
    """
    resources, scopes, items = {
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        "traces": ("resourceSpans", "scopeSpans", "spans"),
    }[signal]
    payload = {
        resources: [
            {
                "resource": {"attributes": encoded({**resource, "service.name": service})},
                scopes: [{items: found}],
            }
            for service, found in by_service.items()
        ]
    }
    request = urllib.request.Request(
        f"{collector.http}/v1/{signal}", json.dumps(payload).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        pass


def encoded(attributes: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]


def decision_events(collector: Collector) -> Counter[str]:
    """How often the event of each decision is in a collector's file, by id."""
    return Counter(
        each["attributes"][semconv.DECISION_ID]
        for each in collector.events()
        if each.get("eventName") == semconv.EVENT_DECISION
    )


def decision_spans(collector: Collector) -> Counter[str]:
    """How often `govern_tool` of each decision is in a collector's file, by id."""
    return Counter(
        each["attributes"][semconv.DECISION_ID]
        for each in collector.spans()
        if each["attributes"].get(semconv.GEN_AI_OPERATION_NAME) == semconv.GOVERN_TOOL
    )
