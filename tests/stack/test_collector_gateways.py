"""Two gateways: the spans of a trace meet in one of them. And who may send to a gateway: TLS and a token."""

from __future__ import annotations

import random
import secrets
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.road import TOKEN, Keys, Load, decision_events, gateway_to_files, post
from tests.stack.stack import COLLECTOR, Collector, eventually, running

TRACES, EACH = 300, 4
SERVICES = ("web", "agent", "tools")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def gateway(binary: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("gateway")
    with running(
        binary, folder / "one", COLLECTOR / "gateway.yaml", gateway_to_files(folder), **keys.gateway
    ) as made:
        yield made


# --- whole traces ---


def spans_of(trace: str) -> list[tuple[str, dict[str, Any]]]:
    """Some spans of one trace, each with the service that sends it."""
    return [
        (
            SERVICES[number % len(SERVICES)],
            {
                "traceId": trace,
                "spanId": secrets.token_hex(8),
                "name": f"step {number}",
                "kind": 1,
                "startTimeUnixNano": "1000000000",
                "endTimeUnixNano": "2000000000",
            },
        )
        for number in range(EACH)
    ]


def test_the_spans_of_a_trace_meet_in_one_gateway(binary: Path, keys: Keys, tmp_path: Path) -> None:
    """Spans of many traces, shuffled, from several services and in many payloads."""
    traces = [secrets.token_hex(16) for _ in range(TRACES)]
    spans = [each for trace in traces for each in spans_of(trace)]
    random.shuffle(spans)
    configurations = (COLLECTOR / "gateway.yaml", gateway_to_files(tmp_path))
    whole = {**keys.gateway, "COLLECTOR_SAMPLING_PERCENTAGE": "100", "COLLECTOR_DECISION_WAIT": "2s"}
    with (
        running(binary, tmp_path / "one", *configurations, **whole) as one,
        running(binary, tmp_path / "two", *configurations, **whole) as two,
        running(binary, tmp_path / "agent", COLLECTOR / "agent.yaml", **keys.agent(one, two)) as agent,
    ):
        for begin in range(0, len(spans), 30):
            by_service = defaultdict(list)
            for service, span in spans[begin : begin + 30]:
                by_service[service].append(span)
            post(agent, "traces", by_service)

        def look() -> list[dict[str, set[str]]]:
            return [spans_by_trace(each) for each in (one, two)]

        found = eventually(look, lambda both: count(both) == len(spans))
    assert count(found) == len(spans), agent.output()[-4000:]
    first, second = found
    assert set(first) & set(second) == set()
    assert {len(ids) for each in found for ids in each.values()} == {EACH}
    assert min(len(first), len(second)) > TRACES / 10, "both have their part"


def spans_by_trace(gateway: Collector) -> dict[str, set[str]]:
    found = defaultdict(set)
    for span in gateway.spans():
        found[span["traceId"]].add(span["spanId"])
    return found


def count(found: list[dict[str, set[str]]]) -> int:
    return sum(len(ids) for each in found for ids in each.values())


# --- who may send ---

OTHER = "the-token-of-somebody-else"
REFUSED = {
    "wrong token": ({"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{OTHER}"}, "401"),
    "no token": ({"OTEL_EXPORTER_OTLP_HEADERS": ""}, "401"),
    "unknown authority": ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "other"}, "CERTIFICATE_VERIFY_FAILED"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_application_without_the_right_is_refused_told_so_and_goes_on(
    case: str, gateway: Collector, keys: Keys, tmp_path: Path
) -> None:
    settings, told = REFUSED[case]
    if "OTEL_EXPORTER_OTLP_CERTIFICATE" in settings:
        settings = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(Keys(tmp_path / "other").authority)}
    allowed = {**keys.application(gateway), "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with Load(tmp_path / "load", 30, 30, **{**allowed, **settings}) as load:
        assert load.finish() < 5
        assert told in load.said()
        assert TOKEN not in load.said()
        assert OTHER not in load.said()
        assert len(load.decided()) == 30
        assert load.accepted() == []
    assert load.decided() & set(decision_events(gateway)) == set()


def test_an_application_with_the_right_token_is_let_in(
    gateway: Collector, keys: Keys, tmp_path: Path
) -> None:
    with Load(tmp_path / "load", 30, 30, **keys.application(gateway)) as load:
        load.finish()
    arrived = eventually(lambda: set(decision_events(gateway)), load.decided().issubset)
    assert load.decided() - arrived == set()


@pytest.mark.parametrize("case", ["wrong token", "unknown authority"])
def test_an_agent_without_the_right_says_so_and_its_application_goes_on(
    case: str, binary: Path, gateway: Collector, keys: Keys, tmp_path: Path
) -> None:
    other = Keys(tmp_path / "other")
    settings, told = {
        "wrong token": (keys.agent(gateway, token=OTHER), "Unauthenticated"),
        "unknown authority": (other.agent(gateway), "certificate signed by unknown authority"),
    }[case]
    with running(binary, tmp_path / "agent", COLLECTOR / "agent.yaml", **settings) as agent:
        with Load(tmp_path / "load", 30, 30, OTEL_EXPORTER_OTLP_ENDPOINT=agent.http) as load:
            assert load.finish() < 5
        assert told in eventually(agent.output, lambda said: told in said)
        assert OTHER not in agent.output()
        assert len(load.decided()) == 30
        assert load.decided() & set(decision_events(gateway)) == set()
        # Told that it may not, it gives up what it sent, and counts it; not let speak at all, it keeps it.
        lost = eventually(lambda: given_up(agent), lambda count: bool(count) or case != "wrong token")
        decisions_and_more = 30 + 2 * 3 + 1
        assert lost == (decisions_and_more if case == "wrong token" else 0)


def given_up(agent: Collector) -> float:
    series = agent.samples("otelcol_exporter_send_failed_log_records", own=True)
    return sum(count for labels, count in series if labels["exporter"] == "otlp_grpc/events")


def test_what_waited_for_a_certificate_arrives_once_it_is_mended(
    binary: Path, gateway: Collector, keys: Keys, tmp_path: Path
) -> None:
    settings = Keys(tmp_path / "other").agent(gateway)
    with (
        running(binary, tmp_path / "agent", COLLECTOR / "agent.yaml", **settings) as agent,
        Load(tmp_path / "load", 30, 30, OTEL_EXPORTER_OTLP_ENDPOINT=agent.http) as load,
    ):
        load.finish()
    with running(binary, tmp_path / "agent", COLLECTOR / "agent.yaml", **keys.agent(gateway)):
        arrived = eventually(lambda: set(decision_events(gateway)), load.decided().issubset)
    assert load.decided() - arrived == set()
