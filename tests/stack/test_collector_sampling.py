"""Sampling at 1 %, in the SDK and at the gateway: every decision that matters is there all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_otel import semconv
from tests.stack.road import Keys, Load, decision_events, decision_spans, gateway_to_files
from tests.stack.stack import COLLECTOR, Collector, eventually, running

CALLS, PER_SECOND = 1_000, 250
WHOLE_S = 2
KEPT = ("high", "critical")


class Run:
    """A load that went through a collector."""

    def __init__(self, load: Load, collector: Collector) -> None:
        self.collector = collector
        self.all, self.must_arrive = load.decided(), load.decided(*KEPT)

    def spans(self) -> Counter[str]:
        """Of decisions, by id: once all are there that must be, and whatever may come with them."""
        return eventually(lambda: decision_spans(self.collector), self.must_arrive.issubset)


@pytest.fixture(scope="module")
def sdk(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The SDK samples; the collector, which is local.yaml, does not."""
    folder = tmp_path_factory.mktemp("sdk")
    with running(binary, folder / "collector", COLLECTOR / "local.yaml") as collector:
        sampler = {"OTEL_TRACES_SAMPLER": "aegis_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        with Load(
            folder / "load", CALLS, PER_SECOND, OTEL_EXPORTER_OTLP_ENDPOINT=collector.http, **sampler
        ) as load:
            load.finish()
        yield Run(load, collector)


@pytest.fixture(scope="module")
def tail(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The SDK sends everything; the gateway samples what it sends on."""
    folder = tmp_path_factory.mktemp("tail")
    keys = Keys(folder / "keys")
    settings = {"COLLECTOR_SAMPLING_PERCENTAGE": "1", "COLLECTOR_DECISION_WAIT": f"{WHOLE_S}s"}
    overlay = gateway_to_files(folder)
    with running(
        binary, folder / "gateway", COLLECTOR / "gateway.yaml", overlay, **keys.gateway, **settings
    ) as gateway:
        with Load(folder / "load", CALLS, PER_SECOND, **keys.application(gateway)) as load:
            load.finish()
        eventually(lambda: measured(gateway), lambda count: count >= CALLS)
        eventually(lambda: decision_spans(gateway), lambda found: len(found) > CALLS, within=WHOLE_S + 2)
        yield Run(load, gateway)


@pytest.fixture(params=["sdk", "tail"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def measured(collector: Collector) -> int:
    """Spans of decisions that were counted, all risks together."""
    latest = {
        tuple(sorted(attributes.items())): value
        for attributes, value in collector.points("traces.span.metrics.calls")
        if attributes.get(semconv.GEN_AI_OPERATION_NAME) == semconv.GOVERN_TOOL
    }
    return sum(latest.values())


def test_the_load_is_what_it_says(run: Run) -> None:
    assert len(run.all) == CALLS
    assert len(run.must_arrive) == CALLS // 5


def test_every_decision_arrives_as_an_event(run: Run) -> None:
    events = eventually(lambda: decision_events(run.collector), lambda found: len(found) >= CALLS)
    assert events == dict.fromkeys(run.all, 1)


def test_every_high_and_critical_decision_arrives_as_a_span_and_once(run: Run) -> None:
    spans = run.spans()
    assert run.must_arrive - set(spans) == set()
    assert set(spans.values()) == {1}


def test_of_the_rest_few_do(run: Run) -> None:
    low = set(run.spans()) - run.must_arrive
    assert len(low) <= 0.05 * (CALLS - len(run.must_arrive))  # 8 of 800 are to be expected


def test_an_event_belongs_to_its_span_even_where_that_is_not_kept(run: Run) -> None:
    for each in run.collector.events():
        if each.get("eventName") == semconv.EVENT_DECISION:
            assert len(each["traceId"]) == 32
            assert len(each["spanId"]) == 16


def test_the_gateway_keeps_the_whole_trace_of_such_a_decision(tail: Run) -> None:
    """`request`, which is the application's own and says nothing of a risk."""
    spans = tail.collector.spans()
    kept = {each["traceId"] for each in spans if each["name"] == "request"}
    decided = {each["traceId"] for each in spans if each["attributes"].get(semconv.RISK_LEVEL) in KEPT}
    assert len(decided) == len(tail.must_arrive)
    assert decided - kept == set()


def test_the_gateway_measures_the_spans_before_it_samples_them(tail: Run) -> None:
    assert measured(tail.collector) == CALLS
