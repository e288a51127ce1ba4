"""Prometheus and Alertmanager as processes, and a place that pages arrive at."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.dashboards import debian
from tests.dashboards.boards import ROOT
from tests.stack.stack import HERE, Collector, eventually, free_ports

SCRAPED = ROOT / "collector" / "prometheus.yaml"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, path: str, **parameters: Any) -> Any:
        """What its API answers; raises `QueryError` with its words where it refuses."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(error.read().decode()) from error

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        answer = self.ask("query", query=expr, **({} if at is None else {"time": at}))
        return [answer] if answer["resultType"] in ("scalar", "string") else answer["result"]

    def value(self, expr: str) -> float:
        """Of an expression with one result; 0 for none."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else 0.0


class QueryError(AssertionError):
    """Prometheus does not take an expression."""


@contextmanager
def prometheus(
    folder: Path,
    collector: Collector,
    *,
    every: str = "1s",
    rules: Path | None = None,
    manager: str = "",
    others: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a collector as collector/prometheus.yaml says, but for ports and pace.

    Of `others` only what they say about themselves is scraped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load(SCRAPED.read_text())
    settings["global"] = {"scrape_interval": every, "evaluation_interval": every}
    places = {"agents": [collector.prometheus], "otelcol": [collector.telemetry, *others]}
    for job in settings["scrape_configs"]:
        targets = [place.removeprefix("http://") for place in places[job["job_name"]]]
        job["static_configs"] = [{"targets": targets}]
    settings["rule_files"] = [] if rules is None else [str(rules)]
    if manager:
        target = manager.removeprefix("http://")
        settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    (port,) = free_ports(1)
    command = [
        str(debian.program("prometheus")),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HERE}:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with _process(folder / "prometheus.log", command, f"http://{HERE}:{port}"):
        yield Prometheus(f"http://{HERE}:{port}")


@dataclass
class Inbox:
    """What was delivered, and when."""

    url: str
    pages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def alerts(self, name: str, status: str = "firing") -> list[tuple[float, dict[str, Any]]]:
        return [
            (when, alert)
            for when, page in list(self.pages)
            for alert in page["alerts"]
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]


@contextmanager
def inbox() -> Iterator[Inbox]:
    """A webhook's other end."""
    received: list[tuple[float, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((time.time(), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HERE, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Inbox(f"http://{HERE}:{server.server_port}", received)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def alertmanager(folder: Path, where: str) -> Iterator[str]:
    """An Alertmanager with the shipped configuration, its webhooks at `where`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load((ROOT / "dashboards/prometheus/alertmanager.yaml").read_text())
    for receiver in settings["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook["url"] = where + urllib.parse.urlsplit(hook["url"]).path
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(settings))
    (port,) = free_ports(1)
    arguments = [
        f"--config.file={folder / 'alertmanager.yaml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={HERE}:{port}",
        "--cluster.listen-address=",
    ]
    with _process(folder / "alertmanager.log", [*debian.alertmanager(), *arguments], f"http://{HERE}:{port}"):
        yield f"http://{HERE}:{port}"


@contextmanager
def _process(log: Path, command: list[str], url: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{log.stem} did not start; it said:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        assert eventually(ready, bool), f"{log.stem} is not ready; it said:\n{log.read_text()[-3000:]}"
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
