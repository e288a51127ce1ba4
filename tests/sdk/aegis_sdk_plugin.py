"""A pytest plugin that governs the SDK's own test suite under a policy that allows everything.

`AEGIS_SDK_MODE` names the way (see `MODES`), `AEGIS_SDK_OUTCOMES` the file that gets one line of JSON for
each test: its id and its outcome.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_POLICY = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": []}
_RANK = ["passed", "xfailed", "xpassed", "skipped", "failed"]

pytest_plugins = ()
_bridges: list[Any] = []


def _instrument(**settings: Any) -> None:
    import aegis_otel

    _bridges.extend(aegis_otel.instrument(aegis_otel.Policy.from_dict(_POLICY), **settings).bridges)


def _processor() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    import aegis_otel

    trace.set_tracer_provider(TracerProvider())
    _bridges.append(aegis_otel.AegisTracingProcessor(aegis_otel.Policy.from_dict(_POLICY), mode="enforce"))


MODES: dict[str, Callable[[], None]] = {
    "baseline": lambda: None,
    "enforce": _instrument,
    "monitor": lambda: _instrument(mode="monitor"),
    "sdk": lambda: _instrument(approvals="sdk"),
    "processor": _processor,
}


def pytest_configure(config: pytest.Config) -> None:
    """Govern this process, unless it only hands tests out to others."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return
    mode = os.environ.get("AEGIS_SDK_MODE", "baseline")
    if mode == "baseline":
        return
    os.environ["AEGIS_AUDIT_DIR"] = tempfile.mkdtemp(prefix="audit-", dir=os.environ.get("AEGIS_SDK_SCRATCH"))
    MODES[mode]()


@pytest.fixture(scope="session", autouse=True)
def _bridged(setup_span_processor: None) -> None:
    """Register the bridge again: the suite begins with a trace provider of its own."""
    if _bridges:
        from agents import add_trace_processor

        add_trace_processor(_bridges[0])


class Outcomes:
    """What came of each test: the worst of its three phases."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worst: dict[str, str] = {}
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome of one phase."""
        outcome: str = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0) + report.duration
        known = self._worst.get(report.nodeid, "passed")
        self._worst[report.nodeid] = max(known, outcome, key=_RANK.index)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            self._worst[report.nodeid] = "failed"

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """Write them all."""
        with self._path.open("w") as file:
            for test, outcome in self._worst.items():
                seconds = round(self._seconds.get(test, 0), 3)
                file.write(json.dumps({"test": test, "outcome": outcome, "seconds": seconds}) + "\n")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note outcomes, in the process that hears of all tests."""
    path = os.environ.get("AEGIS_SDK_OUTCOMES")
    if path and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Outcomes(Path(path)), "aegis-outcomes")
