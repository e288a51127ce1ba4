"""`configure_otlp()` in a process of its own, against a receiver on a real socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from aegis_otel.telemetry.export_setup import configure_otlp
from tests.support.receiver import Received, attributes, receiving

ROOT = Path(__file__).parents[2]

SEND = """
from aegis_otel import configure_otlp
from aegis_otel.audit.record import RecordStatus
from aegis_otel.model import Approval, Outcome, RiskLevel
from aegis_otel.telemetry.recorder import Recorder
from tests.support.telemetry import finish, make_call, run_body

print(*configure_otlp(), sep=",")
recorder = Recorder()
allowed = make_call(decision_id="d-allowed")
recorder.opened(allowed)
run_body(recorder, allowed, Outcome.ALLOWED)
blocked = make_call(approval=Approval.BLOCK, risk=RiskLevel.CRITICAL, decision_id="d-blocked", tool="delete")
recorder.opened(blocked)
finish(recorder, blocked, Outcome.BLOCKED, RecordStatus.BLOCKED)
print(allowed.record.trace_id, allowed.record.span_id)
print(configure_otlp())
"""


@pytest.fixture
def over_http() -> Iterator[Received]:
    with receiving() as received:
        yield received


@pytest.fixture
def over_grpc() -> Iterator[Received]:
    received = Received()

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.requests["traces"].append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Logs(logs_service_pb2_grpc.LogsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.requests["logs"].append(request)
            return logs_service_pb2.ExportLogsServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.requests["metrics"].append(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield received
    server.stop(0).wait()


def run(code: str, **environment: str) -> list[str]:
    """The lines `code` prints in a process of its own, which must end well and say nothing else."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def check(received: Received, printed: list[str]) -> None:
    """Names, ids, severities and counts of the two calls of `SEND` arrived."""
    wired, ids, again = printed
    assert (wired, again) == ("traces,logs,metrics", "()")
    trace_id, span_id = ids.split()
    spans = {span.name: span for span in received.spans()}
    assert set(spans) == {"govern_tool search", "execute_tool search", "govern_tool delete"}
    govern = spans["govern_tool search"]
    assert (govern.trace_id.hex(), govern.span_id.hex()) == (trace_id, span_id)
    assert spans["execute_tool search"].parent_span_id == govern.span_id
    assert not govern.events, "the log record carries the decision"
    assert attributes(govern)["aegis.decision.id"] == "d-allowed"
    assert attributes(spans["govern_tool delete"])["aegis.risk.level"] == "critical"
    logs = {attributes(log)["aegis.decision.id"]: log for log in received.logs()}
    assert {(log.event_name, log.severity_number, log.severity_text) for log in logs.values()} == {
        ("aegis.tool.decision", 9, "INFO"),
        ("aegis.tool.decision", 17, "ERROR"),
    }
    assert logs["d-allowed"].span_id == govern.span_id
    assert logs["d-allowed"].time_unix_nano > 0
    assert attributes(logs["d-blocked"])["aegis.decision.outcome"] == "blocked"
    metrics = received.metrics()
    counted = {
        attributes(point)["aegis.decision.outcome"]: point.as_int
        for point in metrics["aegis.decisions"].sum.data_points
    }
    assert counted == {"allowed": 1, "blocked": 1}
    assert metrics["aegis.decisions"].sum.is_monotonic
    (duration,) = metrics["gen_ai.execute_tool.duration"].histogram.data_points
    assert duration.count == 1
    assert list(duration.explicit_bounds)[:2] == [0.01, 0.02]


def test_over_http(over_http: Received) -> None:
    """The default protocol: everything has arrived when the process ends, with resource and headers."""
    printed = run(
        SEND,
        OTEL_EXPORTER_OTLP_ENDPOINT=over_http.endpoint,
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=acme",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_SERVICE_NAME="clerks",
    )
    check(over_http, printed)
    assert over_http.services() == {"clerks"}
    assert set(over_http.headers) == {"acme"}


def test_over_grpc(over_grpc: Received) -> None:
    """The same over gRPC, with the service's name among the resource attributes."""
    printed = run(
        SEND,
        OTEL_EXPORTER_OTLP_ENDPOINT=over_grpc.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_RESOURCE_ATTRIBUTES="service.name=clerks",
    )
    check(over_grpc, printed)
    assert over_grpc.services() == {"clerks"}


def test_each_signal_has_its_own_endpoint_and_protocol(over_http: Received, over_grpc: Received) -> None:
    """Logs by HTTP to one place, traces by gRPC to another, metrics nowhere."""
    wired, *_ = run(
        SEND,
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{over_http.endpoint}/v1/logs",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=over_grpc.endpoint,
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
    )
    assert wired == "traces,logs"
    assert len(over_http.logs()) == 2
    assert len(over_grpc.spans()) == 3
    assert over_http.spans() == over_grpc.logs() == []
    assert over_http.metrics() == over_grpc.metrics() == {}


ASK = "from aegis_otel import configure_otlp; print(configure_otlp())"
SOMEWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("environment", "wired"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": SOMEWHERE, "OTEL_SDK_DISABLED": "true"}, ()),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": SOMEWHERE,
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_METRICS_EXPORTER": "none",
            },
            ("logs",),
        ),
    ],
    ids=["no endpoint", "an empty endpoint", "SDK disabled", "exporters chosen"],
)
def test_only_what_is_asked_for_is_wired(environment: dict[str, str], wired: tuple[str, ...]) -> None:
    """An endpoint is the switch; the standard variables can turn each signal off."""
    assert run(ASK, **environment) == [str(wired)]


def test_an_exporter_that_nobody_sets_up_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`console` needs another package: without a word the program would seem to have no signals."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console, otlp")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    assert configure_otlp() == ()
    (record,) = caplog.records
    assert record.getMessage().startswith("`console` in OTEL_TRACES_EXPORTER is not set up")
    assert "opentelemetry-distro" in record.getMessage()


def test_without_an_endpoint_the_sdk_is_not_loaded() -> None:
    """Nothing configured costs nothing."""
    assert run(f"{ASK}\nimport sys; print('opentelemetry.sdk' in sys.modules)") == ["()", "False"]


def test_an_installed_provider_is_never_replaced(over_http: Received) -> None:
    """The application's tracing stays; only the signals that nobody set up are added."""
    own = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
mine = TracerProvider()
trace.set_tracer_provider(mine)
none = metrics.NoOpMeterProvider()
metrics.set_meter_provider(none)
from aegis_otel import configure_otlp
print(configure_otlp(), trace.get_tracer_provider() is mine, metrics.get_meter_provider() is none)
"""
    assert run(own, OTEL_EXPORTER_OTLP_ENDPOINT=over_http.endpoint) == ["('logs',) True True"]


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": SOMEWHERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "`http/json` in OTEL_EXPORTER_OTLP_PROTOCOL is not supported; use `http/protobuf` or `grpc`",
        ),
        (
            {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "localhost:4318"},
            "`localhost:4318` in OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is no URL; write it as "
            "`http://localhost:4318`, or set OTEL_EXPORTER_OTLP_PROTOCOL to `grpc`",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": SOMEWHERE,
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "rar",
            },
            'OTLP export cannot be set up: Invalid value "rar" for compression envvar '
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION; correct the `OTEL_*` variables",
        ),
    ],
    ids=["protocol", "endpoint", "what an exporter refuses"],
)
def test_a_value_that_cannot_work_is_refused_whole(environment: dict[str, str], complaint: str) -> None:
    """The variable is named, and no signal is left half wired."""
    attempt = """
from aegis_otel import ConfigError, configure_otlp
from opentelemetry import trace
try:
    configure_otlp()
except ConfigError as error:
    print(error)
print(type(trace.get_tracer_provider()).__name__)
"""
    assert run(attempt, **environment) == [complaint, "ProxyTracerProvider"]


def test_a_collector_that_is_away_costs_no_call_and_no_exit() -> None:
    """Signals are lost, decisions are not: the process works and ends by itself."""
    ran = subprocess.run(
        [sys.executable, "-c", SEND],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": SOMEWHERE,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0
    wired, ids, _ = ran.stdout.splitlines()
    assert wired == "traces,logs,metrics"
    assert len(ids) == 32 + 1 + 16
