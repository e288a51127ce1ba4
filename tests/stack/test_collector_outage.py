"""Outage: the collector killed under load, the backend behind it away; nothing that was accepted is lost.

An application sends to agent.yaml, which sends to gateway.yaml with files in place of Kafka.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from aegis_otel import semconv
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.runtime.audit import AuditLogger
from tests.stack.road import FOREIGN, Keys, Load, decision_events, gateway_to_files
from tests.stack.stack import COLLECTOR, ROOT, Collector, eventually, running

AT_MOST, PER_SECOND = 12_000, 60
BACKEND_AWAY_S = 60
AGENT_AWAY_S = 6
PATIENCE_S = 90
SLOWEST_S = 5
# The SDK's queue and patience are short here, so that in AGENT_AWAY_S it loses some both ways.
SHORT = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "64",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "32",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
}


class Run:
    def __init__(self, load: Load, slowest: float, backend: Collector) -> None:
        self.load, self.slowest, self.backend = load, slowest, backend
        self.all = load.decided()
        self.accepted = {decision for name, decision in load.accepted() if name == semconv.EVENT_DECISION}

    def events(self) -> Counter[str]:
        return eventually(lambda: decision_events(self.backend), self.accepted.issubset, PATIENCE_S)

    def counted(self, metric: str) -> Counter[str]:
        """A count of the SDK about its log records at the end, by error; '' is none."""
        latest: Counter[str] = Counter()
        for attributes, value in self.backend.points(metric):
            error = attributes.get("error.type", "")
            latest[error] = max(latest[error], value)
        return latest


@pytest.fixture(scope="module")
def run(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("outage")
    keys = Keys(folder / "keys")
    configurations = (COLLECTOR / "gateway.yaml", gateway_to_files(folder))
    with (
        running(binary, folder / "backend", *configurations, **keys.gateway) as backend,
        running(binary, folder / "agent", COLLECTOR / "agent.yaml", **keys.agent(backend)) as agent,
        Load(folder / "load", AT_MOST, PER_SECOND, OTEL_EXPORTER_OTLP_ENDPOINT=agent.http, **SHORT) as load,
    ):
        assert eventually(lambda: decision_events(backend), bool), agent.output()[-4000:]
        agent.kill()  # with what it was about to send
        agent.start()
        time.sleep(3)
        backend.stop()
        time.sleep(BACKEND_AWAY_S / 2)
        agent.kill()  # with a queue that fills
        time.sleep(AGENT_AWAY_S)
        agent.start()
        time.sleep(BACKEND_AWAY_S / 2 - AGENT_AWAY_S)
        backend.start()
        time.sleep(3)
        load.enough()
        slowest = load.finish()
        assert eventually(lambda: waiting(agent), lambda count: count == 0, PATIENCE_S) == 0
        yield Run(load, slowest, backend)


def waiting(agent: Collector) -> float:
    """Batches in the queues on disk, sent ones that are not acknowledged included."""
    return sum(value for _, value in agent.samples("otelcol_exporter_queue_size", own=True))


def test_every_decision_that_was_accepted_is_in_the_file(run: Run) -> None:
    assert len(run.accepted) > BACKEND_AWAY_S / 2 * PER_SECOND, "most were accepted"
    assert run.accepted - set(run.events()) == set()


def test_nothing_is_in_the_file_that_was_not_decided(run: Run) -> None:
    assert set(run.events()) - run.all == set()


def test_the_application_was_not_held_up(run: Run) -> None:
    assert run.slowest < SLOWEST_S


def test_the_sdk_counts_what_it_dropped_and_what_it_could_not_send(run: Run) -> None:
    loaded, asked, sealed = 1, 2 * len(run.load.decided("high")), len(read_seals(run.load.audit))
    made = len(run.all) + loaded + asked + sealed
    processed = eventually(
        lambda: run.counted("otel.sdk.processor.log.processed"), lambda found: found.total() >= made
    )
    exported = run.counted("otel.sdk.exporter.log.exported")
    assert set(processed) == {"", "queue_full"}
    assert len(exported) > 1, "some could not be sent"
    assert exported.total() == processed[""]
    assert exported[""] == len(run.load.accepted())
    assert processed.total() == made


def resend(run: Run, folder: Path, *options: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    asked = [sys.executable, "-m", "aegis_otel", "audit", "resend", "--path", str(run.load.audit), *options]
    done = subprocess.run(
        asked, env={**kept, "PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_resend_brings_exactly_what_is_missing(run: Run, binary: Path, tmp_path: Path) -> None:
    there = set(run.events())
    missing = run.all - there
    assert missing, "the SDK lost some"
    file = str(run.backend.directory / "logs.jsonl")
    with running(binary, tmp_path / "again", COLLECTOR / "local.yaml") as collector:
        resend(run, tmp_path, "--missing-from", file, "--endpoint", collector.http)
        again = eventually(lambda: decision_events(collector), missing.issubset)
        assert again == dict.fromkeys(missing, 1)
        rows = {row["decision_id"]: row for row in AuditLogger(run.load.audit).get_log(limit=1_000_000)}
        for each in collector.events():
            attributes = each["attributes"]
            row = rows[attributes[semconv.DECISION_ID]]
            assert attributes[semconv.DECISION_RESENT] is True
            assert each["traceId"] == row["trace_id"]
            assert each["spanId"] == row["span_id"]
            decided = datetime.fromisoformat(row["timestamp"]).timestamp()
            assert abs(int(each["timeUnixNano"]) / 1e9 - decided) < 1
        files = ("--missing-from", file, "--missing-from", str(collector.directory / "logs.jsonl"))
        assert "would send 0 of" in resend(run, tmp_path, *files, "--endpoint", collector.http, "--dry-run")
