"""The collector: decisions a second through local.yaml, and what an agent pays when it is down.

Through local.yaml against the same binary with nothing but OTLP in and files out, in turns. A decision is its
event and its two spans, sent as fast as it is taken. Then governed calls in processes of their own, with the
collector up and with nobody at its port. `python benchmarks/collector.py [rounds]`; needs `make collector`.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from signals import make_call

from aegis_otel.audit.record import RecordStatus
from aegis_otel.model import Outcome
from aegis_otel.telemetry.recorder import Recorder

ROOT = Path(__file__).parents[1]
BATCH, SECONDS, SENDERS = 500, 4.0, 2

BARE = """
receivers:
  otlp:
    protocols:
      http: { endpoint: "127.0.0.1:${env:COLLECTOR_OTLP_HTTP_PORT}" }
exporters:
  file/traces: { path: "${env:COLLECTOR_DIR}/traces.jsonl", rotation: { max_megabytes: 100 } }
  file/logs: { path: "${env:COLLECTOR_DIR}/logs.jsonl", rotation: { max_megabytes: 100 } }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [file/traces] }
    logs: { receivers: [otlp], exporters: [file/logs] }
  telemetry: { metrics: { level: none } }
"""

CALLS = """
import asyncio, sys, time
from aegis_otel import Action, Policy, Runtime, configure_otlp
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.model import Result, ResultStatus

class Nothing(BaseExecutor):
    async def execute(self, action):
        return Result(action, ResultStatus.SUCCESS)

async def main():
    configure_otlp()
    rule = {"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}
    runtime = Runtime(policy=Policy.from_dict({"rules": [rule]}), executor=Nothing())
    action = Action("search", "web", {"query": "governance", "limit": 5})
    for _ in range(200):
        await runtime.run_one(action)
    cpu, begun = time.thread_time(), time.perf_counter()
    for _ in range(3_000):
        await runtime.run_one(action)
        await asyncio.sleep(0)
    print((time.thread_time() - cpu) / 3_000 * 1e6, (time.perf_counter() - begun) / 3_000 * 1e6)

asyncio.run(main())
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    made = subprocess.run(
        ["make", "-s", "collector"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    binary = made.stdout.splitlines()[-1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = folder / "bare.yaml"
        bare.write_text(BARE)
        throughput(binary, {"local.yaml": ROOT / "collector" / "local.yaml", "bare": bare}, folder, rounds)
        agents(binary, folder, rounds)


def throughput(binary: str, configurations: dict[str, Path], folder: Path, rounds: int) -> None:
    logs, spans = payloads()
    rates: dict[str, list[float]] = {name: [] for name in configurations}
    for number in range(rounds):
        for name, configuration in configurations.items():
            with running(binary, configuration, folder / f"{name}-{number}") as endpoint:
                rates[name].append(per_second(endpoint, logs, spans))
    print(f"{'decisions a second':24}{'median':>9}{'best':>9}")
    for name, found in rates.items():
        print(f"{name:24}{statistics.median(found):9,.0f}{max(found):9,.0f}")
    ratios = [a / b for a, b in zip(rates["local.yaml"], rates["bare"], strict=True)]
    print(f"local.yaml / bare: median {statistics.median(ratios):.2f} (at least 0.5)")


def payloads() -> tuple[bytes, bytes]:
    """The event and the two spans of some decisions, as an agent sends them."""
    logs, spans = InMemoryLogRecordExporter(), InMemorySpanExporter()
    logger_provider, tracer_provider = LoggerProvider(), TracerProvider()
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    recorder = Recorder(
        tracer_provider=tracer_provider, logger_provider=logger_provider, meter_provider=MeterProvider([])
    )
    for _ in range(BATCH):
        call = make_call()
        recorder.opened(call)
        call.outcome, call.status = Outcome.ALLOWED, RecordStatus.OPEN
        recorder.decided(call)
        with recorder.executing(call):
            pass
        call.status = RecordStatus.SUCCESS
        recorder.closed(call)
    return (
        encode_logs(logs.get_finished_logs()).SerializeToString(),
        encode_spans(spans.get_finished_spans()).SerializeToString(),
    )


def per_second(endpoint: str, logs: bytes, spans: bytes) -> float:
    """Decisions of which everything was taken, by some senders at once, for some seconds."""
    sent = [0] * SENDERS
    end = time.perf_counter() + SECONDS

    def send(number: int) -> None:
        with requests.Session() as session:
            session.headers["Content-Type"] = "application/x-protobuf"
            while time.perf_counter() < end:
                for signal, payload in (("logs", logs), ("traces", spans)):
                    session.post(f"{endpoint}/v1/{signal}", payload, timeout=30).raise_for_status()
                sent[number] += BATCH

    begun = time.perf_counter()
    threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent) / (time.perf_counter() - begun)


def agents(binary: str, folder: Path, rounds: int) -> None:
    taken: dict[str, list[tuple[float, float]]] = {"up": [], "down": []}
    for number in range(rounds):
        with running(binary, ROOT / "collector" / "local.yaml", folder / f"agent-{number}") as endpoint:
            taken["up"].append(governed(endpoint, folder / f"up-{number}"))
        taken["down"].append(governed(endpoint, folder / f"down-{number}"))
    print(f"\n{'a governed call, us':24}{'CPU':>9}{'wall':>9}")
    for name, found in taken.items():
        cpu, wall = (statistics.median(each) for each in zip(*found, strict=True))
        print(f"{f'collector {name}':24}{cpu:9.1f}{wall:9.1f}")
    for number, what in enumerate(("CPU", "wall")):
        ratios = [down[number] / up[number] for up, down in zip(taken["up"], taken["down"], strict=True)]
        print(f"down / up, {what}: median {statistics.median(ratios):.2f} (at most 1.1)")


def governed(endpoint: str, audit: Path) -> tuple[float, float]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "AEGIS_AUDIT_DIR": str(audit),
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }
    ran = subprocess.run(
        [sys.executable, "-c", CALLS],
        env=os.environ | environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    cpu, wall = ran.stdout.split()
    return float(cpu), float(wall)


@contextmanager
def running(binary: str, configuration: Path, folder: Path) -> Iterator[str]:
    """A collector with a configuration; gives where it takes OTLP over HTTP."""
    folder.mkdir()
    names = sorted(set(re.findall(r"\$\{env:(COLLECTOR_\w*PORT)", configuration.read_text())))
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    environment = {name: str(port) for name, port in ports.items()} | {
        "COLLECTOR_DIR": str(folder),
        "COLLECTOR_HOST": "127.0.0.1",
    }
    with (folder / "collector.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "--config", str(configuration)], env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        port = ports["COLLECTOR_OTLP_HTTP_PORT"]
        wait_for(port, process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"the collector does not listen: {(folder / 'collector.log').read_text()[-2000:]}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    main()
