"""Counts and policies: zeros before the first decision, one registration, forks, flushes."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from aegis_otel import semconv
from aegis_otel.audit.record import RecordStatus
from aegis_otel.errors import PolicyError, Problem
from aegis_otel.model import Approval, Outcome, RiskLevel, Verdict
from aegis_otel.telemetry.instruments import (
    OVERFLOW,
    SERIES_LIMIT,
    ZERO_LIMIT,
    Counts,
    DecisionLabels,
    Flusher,
    plausible_labels,
)
from aegis_otel.telemetry.recorder import Recorder
from tests.support.telemetry import Sink, finish, make_call, sink


@dataclass
class ARule:
    name: str
    approval: Approval
    risk_level: RiskLevel

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.approval, self.risk_level, self.name)


@dataclass
class APolicy:
    rules: list[ARule]
    default: ARule = field(default_factory=lambda: ARule("", Approval.APPROVE, RiskLevel.MEDIUM))
    digest: str = "sha256:p"
    sources: tuple[str, ...] = ("base.yaml", "team.yaml")

    @property
    def compiled(self) -> APolicy:
        return self


RULES = [
    ARule("reads", Approval.AUTO, RiskLevel.LOW),
    ARule("writes", Approval.APPROVE, RiskLevel.HIGH),
    ARule("deletes", Approval.BLOCK, RiskLevel.CRITICAL),
]


@pytest.fixture
def seen() -> Iterator[Sink]:
    with sink() as made:
        yield made


def decide(seen: Sink, recorder: Any = None, **fields: Any) -> None:
    recorder = recorder or seen.recorder()
    call = make_call(**fields)
    recorder.opened(call)
    finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)


def test_every_plausible_count_is_zero_before_the_first_decision(seen: Sink) -> None:
    """An alert on an increase needs a sample before it: one for each way each rule can end."""
    seen.recorder().policy_loaded(APolicy(RULES))

    def zeros(approval: str, rule: str, risk: str, *outcomes: str) -> dict[tuple[str, ...], int]:
        return {(outcome, "enforce", approval, rule, risk): 0 for outcome in outcomes}

    asked = ("approved", "denied", "expired", "error")
    assert seen.points("aegis.decisions") == {
        **zeros("auto", "reads", "low", "allowed", "error"),
        **zeros("approve", "writes", "high", *asked),
        **zeros("block", "deletes", "critical", "blocked", "error"),
        **zeros("approve", "<default>", "medium", *asked),
        **zeros("block", "<error>", "critical", "error"),
    }
    assert seen.points("aegis.approval.pending") == {(): 0}
    assert seen.points("aegis.audit.errors") == {(): 0}
    assert seen.points("aegis.hook.errors") == {(): 0}


def test_a_real_count_has_the_labels_of_its_zero(seen: Sink) -> None:
    """Another label set would leave the zero, and with it the alert, standing."""
    recorder = seen.recorder()
    recorder.policy_loaded(APolicy(RULES))
    before = set(seen.points("aegis.decisions"))
    decide(seen, recorder, rule="reads")
    assert set(seen.points("aegis.decisions")) == before
    assert seen.decisions() == {("allowed", "enforce", "auto", "reads", "low"): 1}


def test_a_reload_keeps_what_was_counted(seen: Sink) -> None:
    """Zeros are for what has no count yet."""
    recorder = seen.recorder()
    recorder.policy_loaded(APolicy(RULES))
    decide(seen, recorder, rule="reads")
    recorder.policy_loaded(APolicy(RULES))
    assert seen.decisions() == {("allowed", "enforce", "auto", "reads", "low"): 1}


def test_a_huge_policy_leaves_room_for_what_happens(seen: Sink) -> None:
    """The SDK folds what exceeds 2,000 label sets into one: the riskiest have their zeros, and calls fit."""
    rules = [ARule(f"r{n}", Approval.AUTO, RiskLevel(1 + n % 4)) for n in range(5_000)]
    recorder = seen.recorder()
    recorder.policy_loaded(APolicy(rules))
    decide(seen, recorder, rule="r0")
    points = seen.points("aegis.decisions")
    assert len(points) == ZERO_LIMIT + 1
    assert points["allowed", "enforce", "auto", "r0", "low"] == 1
    assert {risk for _, _, _, rule, risk in points if rule != "r0"} == {"critical"}


@pytest.mark.parametrize("metric", [semconv.METRIC_DECISIONS, semconv.METRIC_CANDIDATE_DECISIONS])
def test_reloads_with_ever_new_names_of_rules_do_not_fill_the_memory(seen: Sink, metric: str) -> None:
    """No count is lost: what is beyond the limit is in one series, as the SDK has it beyond its own."""
    recorder = seen.recorder()
    counts = recorder._counts
    width = len(next(each for each in semconv.METRICS if each.name == metric).attributes)
    for number in range(SERIES_LIMIT + 5_000):
        counts.add(metric, (*["auto"] * (width - 1), f"r{number}"))
    series = counts.read(metric)
    assert len(series) == SERIES_LIMIT + 1
    assert series[OVERFLOW] == 5_000
    counts.add(metric, (*["auto"] * (width - 1), "r7"))
    assert counts.read(metric)[(*["auto"] * (width - 1), "r7")] == 2
    points = seen.points(metric)
    assert sum(points.values()) == SERIES_LIMIT + 5_001
    assert points[True,] >= 5_000


def test_the_riskiest_come_first() -> None:
    """And of one risk, the policy's order."""
    rules = [labels.rule for labels in plausible_labels(APolicy(RULES), "enforce")]
    assert list(dict.fromkeys(rules)) == ["<error>", "deletes", "writes", "<default>", "reads"]


def test_recorders_on_one_provider_share_their_counts(seen: Sink) -> None:
    """A second registration of an instrument would be dropped by the SDK, and its counts with it."""
    first, second = seen.recorder(), seen.recorder()
    decide(seen, first)
    decide(seen, second)
    second.hook_failed()
    assert list(seen.decisions().values()) == [2]
    assert seen.points("aegis.hook.errors") == {(): 1}


def test_providers_do_not_share(seen: Sink) -> None:
    """What one backend is told is not told to another."""
    with sink() as other:
        decide(seen)
        decide(other)
        decide(other)
        assert list(seen.decisions().values()) == [1]
        assert list(other.decisions().values()) == [2]


GLOBALS = """
import sys
from opentelemetry import metrics, trace, _logs
from tests.support.telemetry import Sink, finish, make_call
from aegis_otel.audit.record import RecordStatus
from aegis_otel.model import Outcome
from aegis_otel.telemetry.recorder import Recorder

def decide(recorder):
    call = make_call()
    recorder.opened(call)
    finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)

early = Recorder()
decide(early)
seen = Sink()
trace.set_tracer_provider(seen.tracer_provider)
_logs.set_logger_provider(seen.logger_provider)
metrics.set_meter_provider(seen.meter_provider)
decide(early)
decide(Recorder())
decide(seen.recorder())
assert len(seen.spans()) == len(seen.events()) == 3, (seen.spans(), seen.events())
assert list(seen.decisions().values()) == [4], seen.decisions()
"""


def test_a_provider_installed_later_is_found() -> None:
    """A recorder made before the globals were set exports to them, and shares counts with later ones."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", GLOBALS],
        cwd=__file__.rsplit("/tests/", 1)[0],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


def test_policy_events(seen: Sink) -> None:
    """What came into force, and what was refused; never the text of an error, which may quote the policy."""
    recorder = seen.recorder()
    recorder.policy_loaded(APolicy(RULES))
    recorder.policy_load_failed(("team.yaml",), PolicyError([Problem("secret", "team.yaml", 1, 1)]))
    assert seen.events() == [
        {
            "name": "aegis.policy.loaded",
            "severity": (9, "INFO"),
            "attributes": {
                "aegis.policy.digest": "sha256:p",
                "aegis.policy.source": ("base.yaml", "team.yaml"),
            },
        },
        {
            "name": "aegis.policy.load_failed",
            "severity": (17, "ERROR"),
            "attributes": {"aegis.policy.source": ("team.yaml",), "error.type": "PolicyError"},
        },
    ]
    assert all(log.timestamp for log in seen.raw_logs())


def test_a_broken_log_pipeline_does_not_keep_a_policy_from_loading(
    seen: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """The governor's isolation does not reach here; the recorder's own does."""

    class Broken:
        def enabled(self, **_: Any) -> bool:
            return True

        def on_emit(self, _: Any) -> None:
            raise RuntimeError("pipeline")

        def shutdown(self) -> None:
            pass

        def force_flush(self, *_: Any) -> bool:
            return True

    seen.logger_provider.add_log_record_processor(Broken())  # type: ignore[arg-type]
    seen.recorder().policy_loaded(APolicy(RULES))
    assert len(seen.points("aegis.decisions")) == 13
    assert "telemetry failed on `aegis.policy.loaded`" in caplog.text


def test_the_labels_are_in_the_order_of_their_keys() -> None:
    """A field of `DecisionLabels` and its key in `semconv` stand at the same place."""
    (metric,) = [each for each in semconv.METRICS if each.name == semconv.METRIC_DECISIONS]
    assert dict(zip(DecisionLabels._fields, metric.attributes, strict=True)) == {
        "outcome": "aegis.decision.outcome",
        "approval": "aegis.policy.approval",
        "risk": "aegis.risk.level",
        "rule": "aegis.policy.rule.name",
        "mode": "aegis.enforcement.mode",
    }


COUNTED = DecisionLabels("allowed", "auto", "low", "r", "enforce")
ZERO = DecisionLabels("blocked", "block", "high", "s", "enforce")


def _counts_in_child(counts: Counts, results: Any) -> None:
    counts.add(semconv.METRIC_DECISIONS, COUNTED)
    names = (semconv.METRIC_DECISIONS, semconv.METRIC_APPROVAL_PENDING, semconv.METRIC_HOOK_ERRORS)
    results.put([list(counts.read(name).items()) for name in names])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_counts_its_own() -> None:
    """It starts at zero with the same label sets, even when the lock was held as it was forked."""
    counts = Counts()
    counts.add(semconv.METRIC_DECISIONS, COUNTED)
    counts.start_at_zero([ZERO])
    counts.add(semconv.METRIC_APPROVAL_PENDING)
    counts.add(semconv.METRIC_HOOK_ERRORS)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_counts_in_child, args=(counts, results), daemon=True)
    with counts._lock:
        child.start()
    decisions, pending, hook_errors = results.get(timeout=20)
    child.join(20)
    assert decisions == [(COUNTED, 1), (ZERO, 0)]
    assert pending == hook_errors == [((), 0)]
    assert counts.read(semconv.METRIC_DECISIONS)[COUNTED] == 1


class Flushed:
    """A provider that counts how often it was flushed, and can hold a flush up."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.threads: set[threading.Thread] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self.began = threading.Event()

    def force_flush(self) -> None:
        self.began.set()
        self.go_on.wait(10)
        self.times.append(time.monotonic())
        self.threads.add(threading.current_thread())
        raise RuntimeError("the collector is away")

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.times) < count and time.monotonic() < deadline:
            time.sleep(0.005)


def test_flushes_are_paced_and_never_on_the_callers_path() -> None:
    """What is asked for during a flush is one more, a pause later, by the same thread, which then ends."""
    flusher, provider = Flusher(pause=0.05), Flushed()
    provider.go_on.clear()
    flusher.request(provider)  # type: ignore[arg-type]
    assert provider.began.wait(10)
    for _ in range(100):
        flusher.request(provider)  # type: ignore[arg-type]
    assert provider.times == []
    provider.go_on.set()
    provider.wait_for(2)
    (thread,) = provider.threads
    thread.join(10)
    assert len(provider.times) == 2
    assert provider.times[1] - provider.times[0] >= 0.05
    assert thread.daemon
    flusher.request(provider)  # type: ignore[arg-type]
    provider.wait_for(3)
    assert len(provider.times) == 3


class Kept(MetricExporter):
    """Keeps the names of the metrics of each export."""

    def __init__(self) -> None:
        super().__init__()
        self.exports: list[set[str]] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        found = metrics_data.resource_metrics[0].scope_metrics[0].metrics
        self.exports.append({metric.name for metric in found})
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass

    def wait_for(self, count: int) -> int:
        deadline = time.monotonic() + 10
        while len(self.exports) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return len(self.exports)


def test_a_policy_and_a_critical_decision_are_brought_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the export interval is over; a lesser risk waits for it."""
    monkeypatch.setattr("aegis_otel.telemetry.recorder.flusher", Flusher(pause=0.0))
    kept = Kept()
    provider = MeterProvider([PeriodicExportingMetricReader(kept, export_interval_millis=3_600_000)])
    recorder = Recorder(meter_provider=provider)

    def decide(risk: RiskLevel) -> None:
        call = make_call(risk=risk)
        recorder.opened(call)
        finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)

    try:
        recorder.policy_loaded(APolicy(RULES))
        assert kept.wait_for(1) == 1
        assert "aegis.decisions" in kept.exports[0]
        decide(RiskLevel.HIGH)
        time.sleep(0.2)
        assert len(kept.exports) == 1
        decide(RiskLevel.CRITICAL)
        assert kept.wait_for(2) == 2
    finally:
        provider.shutdown()
