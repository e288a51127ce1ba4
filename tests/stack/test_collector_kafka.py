"""Gateway, a real Kafka broker, writer: a broker that goes and comes back under load costs no decision."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_otel import semconv
from tests.stack import broker
from tests.stack.conftest import cannot_be_had
from tests.stack.road import (
    Keys,
    Load,
    decision_events,
    decision_spans,
    gateway_to_kafka,
    writer_to_files,
)
from tests.stack.stack import COLLECTOR, Collector, eventually, running

AT_MOST, PER_SECOND = 9_000, 50
AWAY_S = 5
PATIENCE_S = 90
SLOWEST_S = 5


class Run:
    def __init__(self, load: Load, slowest: float, writer: Collector) -> None:
        self.slowest, self.writer = slowest, writer
        self.all, self.must_arrive = load.decided(), load.decided("high", "critical")

    def events(self) -> Counter[str]:
        return eventually(lambda: decision_events(self.writer), self.all.issubset, PATIENCE_S)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[broker.Broker]:
    if missing := broker.missing():
        cannot_be_had(missing)
    made = broker.Broker(tmp_path_factory.mktemp("kafka") / "broker")
    try:
        made.start()
        yield made
    finally:
        made.stop(kill=True)


@pytest.fixture(scope="module")
def run(binary: Path, kafka: broker.Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A load during which the broker is stopped once and killed once."""
    folder = tmp_path_factory.mktemp("run")
    keys = Keys(folder / "keys")
    to_kafka = {"KAFKA_BROKERS": f"[{kafka.address}]", "KAFKA_INSECURE": "true"}
    gateway_settings = {**keys.gateway, **to_kafka, "COLLECTOR_DECISION_WAIT": "2s"}
    reads = (COLLECTOR / "writer.yaml", writer_to_files(folder))
    sends = (COLLECTOR / "gateway.yaml", gateway_to_kafka(folder))
    with (
        running(binary, folder / "gateway", *sends, **gateway_settings) as gateway,
        running(binary, folder / "writer", *reads, **to_kafka) as writer,
        Load(folder / "load", AT_MOST, PER_SECOND, **keys.application(gateway)) as load,
    ):
        assert eventually(lambda: decision_events(writer), bool, PATIENCE_S), writer.output()[-4000:]
        for kill in (False, True):
            kafka.stop(kill=kill)
            time.sleep(AWAY_S)
            kafka.start()
        time.sleep(2)
        load.enough()
        yield Run(load, load.finish(), writer)


def test_every_decision_is_in_the_file(run: Run) -> None:
    assert len(run.all) > AWAY_S * PER_SECOND
    assert run.all - set(run.events()) == set()


def test_what_came_twice_has_the_id_it_had(run: Run) -> None:
    assert set(run.events()) - run.all == set()


def test_the_spans_that_must_arrive_are_in_the_file(run: Run) -> None:
    found = eventually(lambda: decision_spans(run.writer), run.must_arrive.issubset, PATIENCE_S)
    assert run.must_arrive - set(found) == set()


def counts(writer: Collector) -> dict[tuple[tuple[str, str], ...], list[int]]:
    """What each series of the gateway's count of decisions said, in the order of its arrival, once each."""
    found: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for attributes, value in writer.points("aegis.collector.decision.events"):
        said = found.setdefault(tuple(sorted(attributes.items())), [])
        if value not in said:
            said.append(value)
    return found


def test_the_gateways_count_of_decisions_arrives_in_order(run: Run) -> None:
    """At least once: what the application sent again is counted again. Prometheus takes no older sample."""
    found = eventually(
        lambda: counts(run.writer), lambda found: sum(map(max, found.values())) >= len(run.all), PATIENCE_S
    )
    assert sum(map(max, found.values())) >= len(run.all)
    for said in found.values():
        assert said == sorted(said)


def test_an_event_says_its_name_to_backends_without_one(run: Run) -> None:
    run.events()
    names = {each["attributes"]["event.name"] for each in run.writer.events()}
    assert semconv.EVENT_DECISION in names


def test_the_application_was_not_held_up(run: Run) -> None:
    assert run.slowest < SLOWEST_S
