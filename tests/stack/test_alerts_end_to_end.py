"""The CRITICAL alert, whole: agent, collector, Prometheus, Alertmanager, webhook, as they are shipped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards.conditions import happened
from dashboards.signals import DECISIONS, JOB, RISK
from tests.dashboards import debian
from tests.dashboards.boards import DASHBOARDS
from tests.dashboards.services import Inbox, Prometheus, alertmanager, inbox, prometheus
from tests.stack.conftest import cannot_be_had
from tests.stack.stack import COLLECTOR, ROOT, Collector, eventually, running

CRITICAL = DECISIONS.all({RISK: "critical"})
WINDOW_S = 120
"""Of the alert's expression."""


class Agent:
    """One process of an agent that goes on living."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AEGIS_", "OTEL_"))}
        own = {
            "PYTHONPATH": str(ROOT),
            "OTEL_SERVICE_NAME": "clerk",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,  # and metrics once a minute, as the SDK does by itself
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.dashboards.living_agent"],
            env=kept | own,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert self._answer() == "ready", "the agent did not start; what it said is above"
        except BaseException:
            self._process.kill()
            self.end()
            raise

    def call(self, tool: str) -> float:
        """Call a tool; when it was called."""
        when = time.time()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{tool}\n")
        self._process.stdin.flush()
        assert self._answer() == "called"
        return when

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate(timeout=60)


@dataclass
class Whole:
    """Everything between an agent and whoever is paged."""

    collector: Collector
    prometheus: Prometheus
    inbox: Inbox
    folder: Path


@pytest.fixture
def whole(binary: Path, tmp_path: Path) -> Iterator[Whole]:
    if missing := debian.no_alertmanager():
        cannot_be_had(missing)
    rules = DASHBOARDS / "prometheus/aegis.rules.yaml"
    with ExitStack() as parts:
        collector = parts.enter_context(running(binary, tmp_path / "collector", COLLECTOR / "local.yaml"))
        pages = parts.enter_context(inbox())
        manager = parts.enter_context(alertmanager(tmp_path / "manager", pages.url))
        store = parts.enter_context(
            prometheus(tmp_path / "store", collector, every="15s", rules=rules, manager=manager)
        )
        yield Whole(collector, store, pages, tmp_path)


def test_the_first_critical_pages_within_a_minute_and_a_restart_of_the_collector_pages_nobody(
    whole: Whole,
) -> None:
    agent = Agent(whole.folder, whole.collector.http)
    try:
        agent.call("search")
        called = agent.call("delete_report")
        arrived = eventually(lambda: whole.inbox.alerts("AegisCriticalDecision"), bool, within=90)
        assert arrived, whole.prometheus.query("ALERTS")
        (paged, alert), *_ = arrived
        assert paged - called < 60
        assert alert["labels"] == {
            "alertname": "AegisCriticalDecision",
            "severity": "critical",
            "job": "clerk",
            "aegis_policy_rule_name": "nothing_else",
            "aegis_decision_outcome": "blocked",
            "aegis_enforcement_mode": "enforce",
        }
        assert alert["annotations"]["summary"] == "CRITICAL call of clerk: blocked by nothing_else"
        assert alert["annotations"]["runbook_url"].endswith("docs/runbooks.md#aegiscriticaldecision")
        assert not whole.inbox.alerts("AegisCriticalExecutedWithoutHuman")

        whole.collector.kill()
        time.sleep(40)
        whole.collector.start()
        agent.call("search")
        # Known again: the agent sends its counts once a minute.
        count = f"sum({CRITICAL})"
        back = eventually(lambda: whole.prometheus.value(count), bool, within=120)
        assert back == 1
        quiet_from, came_back = called + WINDOW_S + 45, time.time()
        until = max(quiet_from, came_back + WINDOW_S) + 15
        time.sleep(max(0.0, until - time.time()))
        moments = [until - ago for ago in range(0, int(until - max(quiet_from, came_back)), 15)]
        asked = happened(CRITICAL, by=(JOB,))
        naive = f"{CRITICAL} > 0 unless {CRITICAL} offset 2m"
        assert any(whole.prometheus.query(naive, at=moment) for moment in moments), "no trap was set"
        assert [moment for moment in moments if whole.prometheus.query(asked, at=moment)] == []

        pages = len(whole.inbox.alerts("AegisCriticalDecision"))
        assert pages == 1
        called = agent.call("delete_report")
        fires = eventually(lambda: whole.prometheus.query(asked), bool, within=60)
        assert fires, "the alert has to see the next one all the same"
    finally:
        agent.end()
