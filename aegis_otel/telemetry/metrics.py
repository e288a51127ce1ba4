"""Metrics brought out early, off the caller's path: a CRITICAL must not wait for the next export interval.

The counters, as plain integers that meters read when they collect.

Adding to a synchronous OpenTelemetry counter costs ten times what a whole count here does, and cannot
start a series at zero without faking a measurement.

A forked worker starts again at zero, with the same label sets: it is another process with its own series,
and what its parent counted is reported by the parent.

The instruments: created here, from the table in `semconv`, and nowhere else.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from opentelemetry.metrics import (
    CallbackOptions,
    CallbackT,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from aegis_otel import semconv
from aegis_otel.config import EVALUATION_DURATION
from aegis_otel.model import DEFAULT_RULE, ERROR_RULE, Approval, Mode, Outcome, RiskLevel
from aegis_otel.version import __version__

ZERO_LIMIT = 1_500
"""How many label sets a policy may start at zero. The SDK keeps 2,000 per instrument and adds up the rest in
one unlabelled overflow point, so the zeros of a huge policy must leave room for what really happens."""

_PLAUSIBLE = {
    Approval.AUTO: (Outcome.ALLOWED, Outcome.ERROR),
    Approval.APPROVE: (Outcome.APPROVED, Outcome.DENIED, Outcome.EXPIRED, Outcome.ERROR),
    Approval.BLOCK: (Outcome.BLOCKED, Outcome.ERROR),
}
_PLAUSIBLE_UNASKED = {**_PLAUSIBLE, Approval.APPROVE: (Outcome.ALLOWED, Outcome.ERROR)}
"""In monitor mode nobody is asked."""


LOADED, REFUSED = "loaded", "refused"
"""What becomes of a change of the policy's files."""

Labels = tuple[str, str, str, str, str]
"""Outcome, approval, risk, rule and mode: the labels of one series, and only values that a policy bounds."""


class Verdicts(Protocol):
    """What a rule, or the default of a policy, asks for."""

    @property
    def approval(self) -> Approval: ...
    @property
    def risk_level(self) -> RiskLevel: ...


class Rule(Verdicts, Protocol):
    """A rule as far as counting needs it."""

    @property
    def name(self) -> str: ...


def plausible(rules: Iterable[Rule], default: Verdicts, mode: str) -> list[Labels]:
    """Every label set that calls under these rules can be counted with, the highest risk first."""
    asked = [(rule.risk_level, rule.approval, rule.name) for rule in rules]
    asked.append((default.risk_level, default.approval, DEFAULT_RULE))
    asked.sort(key=lambda entry: -entry[0])
    ends = _PLAUSIBLE_UNASKED if mode == Mode.MONITOR else _PLAUSIBLE
    sets = [(Outcome.ERROR.value, Approval.BLOCK.value, "critical", ERROR_RULE, mode)]
    for risk, approval, rule in asked:
        level = risk.name.lower()
        sets.extend((end.value, approval.value, level, rule, mode) for end in ends[approval])
    return sets


class Counts:
    """What was counted in this process, for one meter provider."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decisions: dict[Labels, int] = {}
        self.pending = 0
        """Calls that wait for a human now."""
        self.audit_records = 0
        self.audit_errors = 0
        self.seal_errors = 0
        self.unknown_outcomes = 0
        """Calls that were sealed, and of which nobody knows how they ended."""
        self.hook_errors = 0
        self.reloads = {LOADED: 0, REFUSED: 0}
        _every.add(self)

    def decided(self, labels: Labels) -> None:
        with self._lock:
            self._decisions[labels] = self._decisions.get(labels, 0) + 1

    def asked(self) -> None:
        with self._lock:
            self.pending += 1

    def answered(self) -> None:
        with self._lock:
            self.pending -= 1

    def recorded(self) -> None:
        with self._lock:
            self.audit_records += 1

    def audit_failed(self) -> None:
        with self._lock:
            self.audit_errors += 1

    def sealed(self, unknown: int) -> None:
        with self._lock:
            self.unknown_outcomes += unknown

    def sealing_failed(self) -> None:
        with self._lock:
            self.seal_errors += 1

    def hook_failed(self) -> None:
        with self._lock:
            self.hook_errors += 1

    def reloaded(self, outcome: str) -> None:
        with self._lock:
            self.reloads[outcome] += 1

    def start_at_zero(self, sets: Sequence[Labels]) -> None:
        """Give each of `sets` a series, in their order and up to `ZERO_LIMIT` series in all."""
        with self._lock:
            for labels in sets:
                if len(self._decisions) >= ZERO_LIMIT:
                    return
                self._decisions.setdefault(labels, 0)

    def decisions(self) -> list[tuple[Labels, int]]:
        with self._lock:
            return list(self._decisions.items())

    def _begin_again(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        self._decisions = dict.fromkeys(self._decisions, 0)
        self.pending = self.audit_records = self.audit_errors = self.hook_errors = 0
        self.seal_errors = self.unknown_outcomes = 0
        self.reloads = dict.fromkeys(self.reloads, 0)


_every: weakref.WeakSet[Counts] = weakref.WeakSet()


def _begin_again_in_child() -> None:
    for counts in _every:
        counts._begin_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again_in_child)


_METRICS = {metric.name: metric for metric in semconv.METRICS}
_lock = threading.Lock()
_counts_of: list[tuple[weakref.ref[MeterProvider], Counts]] = []
"""By identity: a provider of others may have no hash."""
_global_counts: list[Counts] = []
"""At most one: what the global provider reads. Registered before a provider is installed, it is handed on to
the provider by the API, and must not be registered there again."""


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


def _shared_counts(provider: MeterProvider, meter: Meter) -> Counts:
    with _lock:
        _counts_of[:] = [entry for entry in _counts_of if entry[0]() is not None]
        known = [counts for reference, counts in _counts_of if reference() is provider]
        if known:
            return known[0]
        is_global = provider is get_meter_provider()
        if is_global and _global_counts:
            counts = _global_counts[0]
        else:
            counts = Counts()
            if is_global:
                _global_counts.append(counts)
            _observe(meter, counts)
        _counts_of.append((weakref.ref(provider), counts))
        return counts


def invoke_agent_duration(provider: MeterProvider | None) -> Histogram:
    """What a bridge measures with."""
    meter = (provider or get_meter_provider()).get_meter(semconv.SCOPE, __version__)
    return _histogram(meter, semconv.METRIC_INVOKE_AGENT_DURATION)


def _histogram(meter: Meter, name: str) -> Histogram:
    metric = _METRICS[name]
    return meter.create_histogram(
        name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
    )


def _observe(meter: Meter, counts: Counts) -> None:
    keys = _METRICS[semconv.METRIC_DECISIONS].attributes

    def decisions(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, dict(zip(keys, labels, strict=True))) for labels, count in counts.decisions()
        ]

    def reloads(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {semconv.POLICY_RELOAD_OUTCOME: outcome})
            for outcome, count in counts.reloads.items()
        ]

    def plain(read: Callable[[], int]) -> list[CallbackT]:
        return [lambda _: [Observation(read())]]

    for name, create, callbacks in (
        (semconv.METRIC_DECISIONS, meter.create_observable_counter, [decisions]),
        (
            semconv.METRIC_APPROVAL_PENDING,
            meter.create_observable_up_down_counter,
            plain(lambda: counts.pending),
        ),
        (semconv.METRIC_AUDIT_RECORDS, meter.create_observable_counter, plain(lambda: counts.audit_records)),
        (semconv.METRIC_AUDIT_ERRORS, meter.create_observable_counter, plain(lambda: counts.audit_errors)),
        (
            semconv.METRIC_AUDIT_SEAL_ERRORS,
            meter.create_observable_counter,
            plain(lambda: counts.seal_errors),
        ),
        (
            semconv.METRIC_AUDIT_UNKNOWN_OUTCOMES,
            meter.create_observable_counter,
            plain(lambda: counts.unknown_outcomes),
        ),
        (semconv.METRIC_HOOK_ERRORS, meter.create_observable_counter, plain(lambda: counts.hook_errors)),
        (semconv.METRIC_POLICY_RELOADS, meter.create_observable_counter, [reloads]),
    ):
        create(name, callbacks, _METRICS[name].unit, _METRICS[name].meaning)


_log = logging.getLogger("aegis_otel")

PAUSE = 5.0
"""Seconds between two flushes; what is asked for in between is one flush at the end of them."""
_EXIT_PATIENCE = 2.0
"""Seconds the exit of the process waits for a flush under way, before the SDK closes its connection."""


class Flusher:
    """Flushes meter providers from one short-lived daemon thread, which exists only while there is work."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._begin_again()
        self._at_exit = False

    def _begin_again(self) -> None:
        """Threads do not survive a fork."""
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
            except RuntimeError:  # no thread to be had: the next export interval brings it out
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
        """The process ends: what is still wanted, the SDK sends when it shuts down."""
        self._exiting.set()
        thread = self._thread
        if thread is not None:
            thread.join(_EXIT_PATIENCE)


flusher = Flusher()
"""One for the process: the pause holds for all recorders together."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=flusher._begin_again)
