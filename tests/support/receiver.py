"""What an OpenTelemetry Collector would be sent, on a real socket, and what it would write of it."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


@dataclass
class Received:
    """What a collector was sent, decoded."""

    endpoint: str = ""
    status: int = 200
    """What it answers."""
    headers: list[str | None] = field(default_factory=list)
    requests: dict[str, list[Any]] = field(default_factory=lambda: {"traces": [], "logs": [], "metrics": []})

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests["traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def logs(self) -> list[Any]:
        return [
            log
            for request in self.requests["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for log in scope.log_records
        ]

    def metrics(self) -> dict[str, Any]:
        return {
            metric.name: metric
            for request in self.requests["metrics"]
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def services(self) -> set[str]:
        """`service.name` of every resource that sent something."""
        resources = [
            group.resource
            for signal, groups in (
                ("traces", "resource_spans"),
                ("logs", "resource_logs"),
                ("metrics", "resource_metrics"),
            )
            for request in self.requests[signal]
            for group in getattr(request, groups)
        ]
        return {attributes(resource)["service.name"] for resource in resources}


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes}


@contextmanager
def receiving() -> Iterator[Received]:
    """A receiver of OTLP over HTTP, as long as this lasts."""
    received = Received()
    kinds = {
        "/v1/traces": ("traces", trace_service_pb2.ExportTraceServiceRequest),
        "/v1/logs": ("logs", logs_service_pb2.ExportLogsServiceRequest),
        "/v1/metrics": ("metrics", metrics_service_pb2.ExportMetricsServiceRequest),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            signal, kind = kinds[self.path]
            received.headers.append(self.headers.get("x-tenant"))
            if received.status == 200:
                received.requests[signal].append(kind.FromString(body))
            self.send_response(received.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        received.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield received
        server.shutdown()
        thread.join()


def otlp_line(request: logs_service_pb2.ExportLogsServiceRequest) -> str:
    """A batch as the collector's file exporter writes it: ids in hex, else as protobuf does."""
    batch = MessageToDict(request)
    for resource in batch.get("resourceLogs", ()):
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                for name in {"traceId", "spanId"} & record.keys():
                    record[name] = base64.b64decode(record[name]).hex()
    return json.dumps(batch, separators=(",", ":")) + "\n"
