"""The instruments: created here, from the table in `semconv`, and nowhere else."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable

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
from aegis_otel.telemetry.counts import Counts
from aegis_otel.version import __version__

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
