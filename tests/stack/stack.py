"""Starts the real collector with configurations of collector/, on free ports, and reads what it put out."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
COLLECTOR = ROOT / "collector"
CONFIGURATIONS = ("local", "agent", "gateway", "writer", "laptop")
HERE = "127.0.0.1"
T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HERE, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def eventually(look: Callable[[], T], enough: Callable[[T], bool], within: float = 30.0) -> T:
    """What `look` gave when it was enough, or at last when time was up."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if enough(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.2)


@dataclass
class Collector:
    """A collector, until `stop`, `kill` or the end of the `with` around it. It may be started again."""

    command: list[str]
    environment: dict[str, str]
    grpc: str
    http: str
    prometheus: str
    health: str
    telemetry: str
    directory: Path
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """With the ports and the files it had. It is ready to receive when this returns."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.directory, stdout=output, stderr=output
            )
        _wait_for(self)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """As a power cut would, without a chance to write anything down."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The payloads in one of its files. The last line may be under way."""
        path = self.directory / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line]

    def events(self) -> list[dict[str, Any]]:
        """Log records with their attributes as a plain dict."""
        return [
            {**record, "attributes": plain(record.get("attributes", ()))}
            for payload in self.lines("logs.jsonl")
            for resource in payload["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]

    def spans(self) -> list[dict[str, Any]]:
        """Spans with their attributes as a plain dict."""
        return [
            {**span, "attributes": plain(span.get("attributes", ()))}
            for payload in self.lines("traces.jsonl")
            for resource in payload["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def points(self, metric: str) -> list[tuple[dict[str, Any], int]]:
        """Attributes and value of every point of a sum of whole numbers, oldest first."""
        return [
            (plain(point.get("attributes", ())), int(point["asInt"]))
            for payload in self.lines("metrics.jsonl")
            for resource in payload["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for each in scope["metrics"]
            if each["name"] == metric
            for point in each["sum"]["dataPoints"]
        ]

    def samples(self, metric: str, *, own: bool = False) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every series at the Prometheus endpoint, or of the collector's `own`."""
        with urllib.request.urlopen(
            f"{self.telemetry if own else self.prometheus}/metrics", timeout=5
        ) as answer:
            text = answer.read().decode()
        found = re.findall(rf"^{metric}\{{(.*?)\}} (\S+)", text, re.MULTILINE)
        return [
            (dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)), float(value)) for labels, value in found
        ]


def plain(attributes: Any) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values()), None) for each in attributes}


@contextmanager
def running(binary: Path, directory: Path, *configurations: Path, **environment: str) -> Iterator[Collector]:
    """A collector that is ready to receive. Its files are in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    grpc, http, prometheus, health, telemetry = free_ports(5)
    ports = {
        "COLLECTOR_HOST": HERE,
        "COLLECTOR_LISTEN": HERE,
        "COLLECTOR_OTLP_GRPC_PORT": str(grpc),
        "COLLECTOR_OTLP_HTTP_PORT": str(http),
        "COLLECTOR_PROMETHEUS_PORT": str(prometheus),
        "COLLECTOR_HEALTH_PORT": str(health),
        "COLLECTOR_TELEMETRY_PORT": str(telemetry),
        "COLLECTOR_DIR": str(directory),
    }
    collector = Collector(
        [str(binary), *(part for path in configurations for part in ("--config", str(path)))],
        {**os.environ, **ports, **environment},
        f"http://{HERE}:{grpc}",
        f"http://{HERE}:{http}",
        f"http://{HERE}:{prometheus}",
        f"http://{HERE}:{health}",
        f"http://{HERE}:{telemetry}",
        directory,
        directory / "collector.log",
    )
    try:
        collector.start()
        yield collector
    finally:
        collector.stop()


def _wait_for(collector: Collector) -> None:
    def answer() -> int:
        if collector.process.poll() is not None:
            return -1
        try:
            with urllib.request.urlopen(collector.health, timeout=2) as response:
                return int(response.status)
        except OSError:
            return 0

    if eventually(answer, bool) != 200:
        raise AssertionError(f"the collector did not become ready; it said:\n{collector.output()[-4000:]}")
