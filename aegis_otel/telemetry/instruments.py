"""The instruments, created from the table in `semconv`, and the counts behind the observable ones.

Counts are plain integers that meters read when they collect: adding to a synchronous OpenTelemetry counter
costs ten times as much, and cannot start a series at zero without faking a measurement. Rules have
their series at zero from the start, so that the first CRITICAL decision of a process is an increase, which an
alert can see.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from aegis_otel import semconv
from aegis_otel.audit.record import AuditRecord
from aegis_otel.config import EVALUATION_DURATION
from aegis_otel.model import DEFAULT_RULE, ERROR_RULE, Approval, Mode, Outcome
from aegis_otel.semconv import __version__

if TYPE_CHECKING:
    from aegis_otel.governance.approvals.inbox import InboxFigures
    from aegis_otel.policy import Policy

_log = logging.getLogger("aegis_otel")

Labels = tuple[str, ...]
"""The label values of one series, in the order of the keys in the metric's row of `semconv.METRICS`."""

ZERO_LIMIT = 1_500
"""How many label sets a policy may start at zero. The SDK keeps 2,000 per instrument and adds up the rest in
one unlabelled overflow point, so the zeros of a huge policy must leave room for what really happens."""
SERIES_LIMIT = 10_000
"""How many label sets a metric keeps; what has another one after that is counted in one series. It bounds the
memory of a process that loads policies with ever new names of rules. It is above the SDK's own limit, which a
view can raise."""
OVERFLOW: Labels = ()
"""The labels of that series, which is exported with the SDK's attribute for what exceeds its limit."""
_OVERFLOW_ATTRIBUTES = {"otel.metric.overflow": True}

_PLAUSIBLE_OUTCOMES = {
    Approval.AUTO: (Outcome.ALLOWED, Outcome.ERROR),
    Approval.APPROVE: (Outcome.APPROVED, Outcome.DENIED, Outcome.EXPIRED, Outcome.ERROR),
    Approval.BLOCK: (Outcome.BLOCKED, Outcome.ERROR),
}
_METRICS = {metric.name: metric for metric in semconv.METRICS}
LOADED, REFUSED = "loaded", "refused"
"""The outcomes of a change of the policy's files."""
POLICY, CANDIDATE = "policy", "candidate"
"""The kinds of a watched policy."""


class DecisionLabels(NamedTuple):
    """The labels of a series of `aegis.decisions`: only values that a policy bounds.

    A new label is a field here, its value in the two functions below, and its key at the same place in the
    metric's row of `semconv`.
    """

    outcome: str
    approval: str
    risk: str
    rule: str
    mode: str


def decision_labels(record: AuditRecord, outcome: str, risk: str) -> DecisionLabels:
    """Return the labels that a decision is counted with."""
    return DecisionLabels(outcome, record.approval or "", risk, record.matched_rule or "", record.mode or "")


def plausible_labels(policy: Policy, mode: str) -> list[DecisionLabels]:
    """Return every label set that calls under a policy can be counted with, the highest risk first."""
    verdicts = [
        (each.risk_level, each.approval, each.matched_rule, mode if each.mode is Mode.ENFORCE else each.mode)
        for each in (rule.verdict for rule in policy.compiled.rules)
    ]
    verdicts.append((policy.default.risk_level, policy.default.approval, DEFAULT_RULE, mode))
    verdicts.sort(key=lambda verdict: -verdict[0])
    sets = [DecisionLabels(Outcome.ERROR.value, Approval.BLOCK.value, "critical", ERROR_RULE, mode)]
    for risk, approval, rule, its_mode in verdicts:
        nobody_is_asked = its_mode == Mode.MONITOR and approval is Approval.APPROVE
        outcomes = _PLAUSIBLE_OUTCOMES[Approval.AUTO if nobody_is_asked else approval]
        level = risk.name.lower()
        sets += [DecisionLabels(each.value, approval.value, level, rule, its_mode) for each in outcomes]
    return sets


def candidate_labels(candidate: Policy) -> list[Labels]:
    """Return every label set that decisions can be counted with beside a candidate, the loosest first."""
    verdicts = [(rule.approval.value, rule.name) for rule in candidate.rules]
    verdicts.append((candidate.default.approval.value, DEFAULT_RULE))
    rank = {approval.value: number for number, approval in enumerate(Approval)}
    sets = [(before, after, rule) for before in rank for after, rule in verdicts]
    return sorted(sets, key=lambda labels: rank[labels[1]] - rank[labels[0]])


class InboxReadings(NamedTuple):
    """What one process knows of an inbox."""

    figures: InboxFigures
    """As they were read last."""
    ended: Mapping[str, int]
    """The questions that ended since this process began to count, by how they did."""
    refused: int
    """The answers that were refused since then."""


class InboxReader(Protocol):
    """Reads an inbox from time to time."""

    def latest(self) -> InboxReadings | None:
        """Return what was read last, at once, and see that it is read again; None where it is not known."""


_OF_INBOXES: dict[str, Callable[[InboxReadings], Mapping[Labels, float]]] = {
    semconv.METRIC_INBOX_WAITING: lambda read: {(): read.figures.waiting},
    semconv.METRIC_INBOX_LONGEST_WAIT: lambda read: {(): read.figures.longest_wait_s},
    semconv.METRIC_INBOX_GRANTS: lambda read: {(): read.figures.grants},
    semconv.METRIC_INBOX_ENDED: lambda read: {(status,): many for status, many in read.ended.items()},
    semconv.METRIC_INBOX_REFUSED: lambda read: {(): read.refused},
}
"""What each metric of inboxes says of one, by its labels after the id of the inbox."""


class Counts:
    """What was counted in this process, for one meter provider.

    A forked worker starts again at zero, with the same label sets: it is another process with its own series,
    and what its parent counted is reported by the parent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inboxes: weakref.WeakSet[InboxReader] = weakref.WeakSet()
        observed = [
            metric
            for metric in semconv.METRICS
            if metric.instrument.startswith("observable") and metric.name not in _OF_INBOXES
        ]
        self._series: dict[str, dict[Labels, int]] = {
            metric.name: {} if metric.attributes else {(): 0} for metric in observed
        }
        self._series[semconv.METRIC_POLICY_RELOADS] = {(LOADED,): 0, (REFUSED,): 0}
        self._series[semconv.METRIC_POLICY_REFUSED] = {(POLICY,): 0, (CANDIDATE,): 0}
        _all_counts.add(self)

    def add(self, metric: str, labels: Labels = (), amount: int = 1) -> None:
        """Add `amount` to a series of the metric of that name, which need not exist yet.

        Where the metric has `SERIES_LIMIT` series, a new label set is counted in the series `OVERFLOW`.
        """
        series = self._series[metric]
        with self._lock:
            if labels not in series and len(series) >= SERIES_LIMIT:
                labels = OVERFLOW
            series[labels] = series.get(labels, 0) + amount

    def add_decision(self, record: AuditRecord, outcome: str, risk: str) -> None:
        """Count a decision with its labels."""
        self.add(semconv.METRIC_DECISIONS, decision_labels(record, outcome, risk))

    def start_at_zero(self, sets: Sequence[Labels], metric: str = semconv.METRIC_DECISIONS) -> None:
        """Give each of `sets` a series of the metric, in their order and up to `ZERO_LIMIT` series in all."""
        series = self._series[metric]
        with self._lock:
            for labels in sets:
                if len(series) >= ZERO_LIMIT:
                    return
                series.setdefault(labels, 0)

    def read(self, metric: str) -> dict[Labels, int]:
        """Return the series of the metric of that name."""
        with self._lock:
            return dict(self._series[metric])

    def observe(self, meter: Meter) -> None:
        """Create the observable instruments of `meter`, which read these counts."""
        create: dict[str, Callable[..., object]] = {
            "observable counter": meter.create_observable_counter,
            "observable up-down counter": meter.create_observable_up_down_counter,
            "observable gauge": meter.create_observable_gauge,
        }
        for name in (*self._series, *_OF_INBOXES):
            metric = _METRICS[name]
            read = self._inbox_observations if name in _OF_INBOXES else self._observations
            create[metric.instrument](name, [partial(read, metric)], metric.unit, metric.meaning)

    def watch_inbox(self, reader: InboxReader) -> None:
        """Report what `reader` reads of an inbox, for as long as somebody else keeps it."""
        with self._lock:
            self._inboxes.add(reader)

    def _inbox_observations(self, metric: semconv.Metric, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            readers = list(self._inboxes)
        found: dict[Labels, float] = {}
        for reader in readers:
            if (read := reader.latest()) is not None:
                for labels, value in _OF_INBOXES[metric.name](read).items():
                    of_inbox = (read.figures.inbox_id, *labels)  # several Runtimes can have the same one
                    found[of_inbox] = max(value, found.get(of_inbox, 0))
        for of_inbox, value in found.items():
            yield Observation(value, dict(zip(metric.attributes, of_inbox, strict=True)))

    def _observations(self, metric: semconv.Metric, _: CallbackOptions) -> Iterable[Observation]:
        for labels, count in self.read(metric.name).items():
            if metric.attributes and labels == OVERFLOW:
                yield Observation(count, _OVERFLOW_ATTRIBUTES)
            else:
                yield Observation(count, dict(zip(metric.attributes, labels, strict=True)))

    def _begin_again(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        for series in self._series.values():
            series.update(dict.fromkeys(series, 0))


class Instruments:
    """What one recorder measures with.

    A callback cannot be taken off a meter again, and a second registration of an instrument is dropped
    without a word; so all recorders on one meter provider share one `Counts`, registered once.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        provider = provider or get_meter_provider()
        meter = provider.get_meter(semconv.SCOPE, __version__)
        self.counts = _shared_counts(provider, meter)
        measured = EVALUATION_DURATION.value() == "on"
        self.evaluation_duration = _histogram(meter, semconv.METRIC_EVALUATION_DURATION) if measured else None
        self.approval_duration = _histogram(meter, semconv.METRIC_APPROVAL_DURATION)
        self.execute_tool_duration = _histogram(meter, semconv.METRIC_EXECUTE_TOOL_DURATION)
        self.limit_usage = _histogram(meter, semconv.METRIC_LIMIT_USAGE)


_all_counts: weakref.WeakSet[Counts] = weakref.WeakSet()
_counts_lock = threading.Lock()
_counts_of_providers: list[tuple[weakref.ref[MeterProvider], Counts]] = []
"""By identity: a provider of others may have no hash."""
_global_counts: list[Counts] = []
"""At most one: what the global provider reads. Registered before a provider is installed, it is handed on to
the provider by the API, and must not be registered there again."""


def _shared_counts(provider: MeterProvider, meter: Meter) -> Counts:
    with _counts_lock:
        _counts_of_providers[:] = [entry for entry in _counts_of_providers if entry[0]() is not None]
        for reference, counts in _counts_of_providers:
            if reference() is provider:
                return counts
        is_global = provider is get_meter_provider()
        if is_global and _global_counts:
            counts = _global_counts[0]
        else:
            counts = Counts()
            counts.observe(meter)
            if is_global:
                _global_counts.append(counts)
        _counts_of_providers.append((weakref.ref(provider), counts))
        return counts


def invoke_agent_duration(provider: MeterProvider | None) -> Histogram:
    """Return the histogram of how long agents and workflows took."""
    meter = (provider or get_meter_provider()).get_meter(semconv.SCOPE, __version__)
    return _histogram(meter, semconv.METRIC_INVOKE_AGENT_DURATION)


def _histogram(meter: Meter, name: str) -> Histogram:
    metric = _METRICS[name]
    return meter.create_histogram(
        name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
    )


PAUSE_S = 5.0
"""Seconds between two flushes; what is asked for in between is one flush at the end of them."""
_EXIT_PATIENCE_S = 2.0
"""Seconds the exit of the process waits for a flush under way, before the SDK closes its connection."""


class Flusher:
    """Flushes meter providers soon and off the caller's path: a CRITICAL must not wait for the next export.

    It has one short-lived daemon thread, which exists only while there is work.
    """

    def __init__(self, pause: float = PAUSE_S) -> None:
        self._pause = pause
        self._at_exit = False
        self._begin_again()

    def _begin_again(self) -> None:
        """Forget the thread: it does not survive a fork."""
        self._lock = threading.Lock()
        self._wanted: set[MeterProvider] = set()
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._exiting = threading.Event()

    def request(self, provider: MeterProvider) -> None:
        """Have `provider` flushed soon. Without an SDK there is nothing to flush, and nothing is done."""
        if not hasattr(provider, "force_flush") or self._exiting.is_set():
            return
        with self._lock:
            self._wanted.add(provider)
            if self._thread is not None:
                return
            if not self._at_exit:  # after the provider's own handler was registered, so before it is called
                self._at_exit = True
                atexit.register(self._finish)
            thread = threading.Thread(target=self._run, name="aegis-flush", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there is no thread to be had: the next export interval brings it out
                return
            self._thread = thread

    def _run(self) -> None:
        while not self._exiting.wait(max(0.0, self._not_before - time.monotonic())):
            with self._lock:
                wanted, self._wanted = self._wanted, set()
            for provider in wanted:
                try:
                    provider.force_flush()  # type: ignore[attr-defined]
                except Exception:
                    _log.debug("metrics could not be flushed", exc_info=True)
            self._not_before = time.monotonic() + self._pause
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return

    def _finish(self) -> None:
        """Stop at the exit of the process: what is still wanted, the SDK sends when it shuts down."""
        self._exiting.set()
        thread = self._thread
        if thread is not None:
            thread.join(_EXIT_PATIENCE_S)


flusher = Flusher()
"""One for the process: the pause holds for all recorders together."""


def _begin_again_in_child() -> None:
    flusher._begin_again()
    for counts in _all_counts:
        counts._begin_again()


os.register_at_fork(after_in_child=_begin_again_in_child)
