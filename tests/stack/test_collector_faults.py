"""What goes wrong: a queue that is full, and secrets in what other instrumentation sends."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import semconv
from tests.stack.road import Keys, Load, decision_events, encoded, gateway_to_files, post
from tests.stack.stack import COLLECTOR, Collector, eventually, running

# --- a full queue ---

TINY, PAYLOADS = 3, 40
QUEUE = f"""\
exporters:
  otlp_grpc/other: {{ sending_queue: {{ queue_size: {TINY}, num_consumers: 1 }} }}
"""


def other(number: int) -> dict[str, Any]:
    return {"body": {"stringValue": f"line {number}"}}


def decision(number: int) -> dict[str, Any]:
    return {
        "eventName": semconv.EVENT_DECISION,
        "timeUnixNano": str(10**18 + number),
        "attributes": encoded({semconv.DECISION_ID: f"decision-{number}", semconv.RISK_LEVEL: "low"}),
    }


def own(collector: Collector, metric: str, exporter: str) -> float:
    series = collector.samples(f"otelcol_exporter_{metric}", own=True)
    return sum(value for labels, value in series if labels["exporter"] == exporter)


def test_a_queue_that_is_full_refuses_counts_it_and_holds_up_nothing_else(
    binary: Path, tmp_path: Path
) -> None:
    """Other lines fill their queue while the gateway is away; decisions have one of their own."""
    keys = Keys(tmp_path / "keys")
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(QUEUE)
    configurations = (COLLECTOR / "gateway.yaml", gateway_to_files(tmp_path))
    with (
        running(binary, tmp_path / "gateway", *configurations, **keys.gateway) as gateway,
        running(
            binary, tmp_path / "agent", COLLECTOR / "agent.yaml", overlay, **keys.agent(gateway)
        ) as agent,
    ):
        gateway.stop()
        answers = []
        for number in range(PAYLOADS):
            answers.append(answer(agent, other(number)))
            assert answer(agent, decision(number)) == 200
        assert set(answers) == {200, 503}, "whoever is refused may try again"
        refused = answers.count(503)
        assert 0 < refused <= PAYLOADS - TINY
        assert own(agent, "enqueue_failed_log_records", "otlp_grpc/other") == refused
        assert own(agent, "enqueue_failed_log_records", "otlp_grpc/events") == 0
        assert own(agent, "queue_size", "otlp_grpc/other") == own(agent, "queue_capacity", "otlp_grpc/other")
        gateway.start()
        wanted = {f"decision-{number}" for number in range(PAYLOADS)}
        arrived = eventually(lambda: set(decision_events(gateway)), wanted.issubset, within=60)
        assert arrived == wanted
        taken = PAYLOADS - refused
        lines = eventually(lambda: bodies(gateway), lambda found: len(found) >= taken, within=60)
        assert len(lines) == taken
        assert answer(agent, other(PAYLOADS)) == 200


def answer(collector: Collector, record: dict[str, Any]) -> int:
    try:
        post(collector, "logs", {"somebody": [record]})
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def bodies(collector: Collector) -> set[str]:
    return {each["body"]["stringValue"] for each in collector.events() if each.get("body")}


def test_a_full_queue_of_decisions_holds_up_the_exporter_and_not_the_application(
    binary: Path, tmp_path: Path
) -> None:
    """The exporter waits until its patience ends, and what it was told had arrived does."""
    keys = Keys(tmp_path / "keys")
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(QUEUE.replace("otlp_grpc/other", "otlp_grpc/events"))
    configurations = (COLLECTOR / "gateway.yaml", gateway_to_files(tmp_path))
    impatient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_BLRP_SCHEDULE_DELAY": "100"}
    with (
        running(binary, tmp_path / "gateway", *configurations, **keys.gateway) as gateway,
        running(
            binary, tmp_path / "agent", COLLECTOR / "agent.yaml", overlay, **keys.agent(gateway)
        ) as agent,
    ):
        gateway.stop()
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.http, **impatient}
        with Load(tmp_path / "load", 300, 100, **settings) as load:
            assert load.finish() < 5
            accepted = {decision for name, decision in load.accepted() if name == semconv.EVENT_DECISION}
            assert 0 < len(accepted) < len(load.decided()) == 300
        gateway.start()
        arrived = eventually(lambda: set(decision_events(gateway)), accepted.issubset, within=60)
        assert accepted - arrived == set()


# --- secrets ---

SECRETS = {
    "url": ("db.url", "postgres://clerk:{}@db.example.com/x", "pa55-of-the-url"),
    "bearer": ("note", "sent Authorization: Bearer {}", "b3arer0123456789abcdef"),
    "BEARER": ("note.loud", "AUTHORIZATION: BEARER {}", "l0ud0123456789abcdefgh"),
    "basic": ("header", "Basic {}", "dXNlcjpiYXNpYy1wYXNzd29yZA=="),
    "token by name": ("refresh_token", "{}", "t0ken-by-its-name"),
    "password by name": ("db.password", "{}", "passw0rd-by-its-name"),
    "key by name": ("openai_api_key", "{}", "k3y-by-its-name"),
    "openai": ("note.openai", "use {} here", "sk-proj-a1b2c3d4e5f6g7h8i9j0"),
    "github": ("note.github", "use {} here", "ghp_a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8"),
    "aws": ("note.aws", "use {} here", "AKIAQWERTYUIOPASDFGH"),
    "slack": ("note.slack", "use {} here", "xoxb-123456789012-abcdefghij"),
    "stripe": ("note.stripe", "use {} here", "sk_live_a1b2c3d4e5f6g7h8"),
    "jwt": ("note.jwt", "got {}", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.s1gnature0"),
    "arguments": ("gen_ai.tool.call.arguments", '{{"user": "clerk", "password": "{}"}}', "passw0rd-in-json"),
    "private key": ("pem", "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "MIIEvgIBADANBg"),
}
NAMES = (
    *("PASSWORD", "DB_PASSWORD", "Passcode", "passphrase", "SECRET", "clientSecret", "AWS_SECRET_ACCESS_KEY"),
    *(
        "OPENAI_API_KEY",
        "X-Api-Key",
        "apiKey",
        "x-api-key",
        "privateKey",
        "private-key",
        "access-key",
        "accessKey",
    ),
    *("GITHUB_TOKEN", "accessToken", "id-token", "Authorization", "AUTHORIZATION", "proxy-authorization"),
    *("Cookie", "set-cookie", "gcp.credentials", "CREDENTIALS"),
)
NAMED = "what-only-its-name-tells"
BY_NAME = ("refresh_token", "db.password", "openai_api_key")
ATTRIBUTES = {key: text.format(secret) for key, text, secret in SECRETS.values()}
KEPT = {
    semconv.DECISION_ID: "01a21eb9-92e1-7c1c-87ed-b143479a7760",
    semconv.DECISION_OUTCOME: "blocked",
    semconv.DECISION_REASON: "the rule `high-risk-write-operations` blocks it",
    semconv.RISK_LEVEL: "critical",
    semconv.POLICY_RULE_NAME: "no-secret_token-or-password",
    semconv.ARGUMENTS_DIGEST: "hmac-sha256:" + "0123456789abcdef" * 4,
    semconv.GEN_AI_TOOL_NAME: "rotate_api_key",
    "url.full": "https://example.com:8443/a?b=c@d",
    "file": "risk-assessment-of-suppliers.txt",
    "note.of.tests": "task_test_results and disk_prod_01",
    "gen_ai.usage.output_tokens": "12",
}


class Sent:
    """A payload with secrets in every place, through agent.yaml and gateway.yaml."""

    def __init__(self, gateway: Collector) -> None:
        (self.event,) = eventually(gateway.events, bool)
        (self.span,) = eventually(gateway.spans, bool)
        self.text = "".join((gateway.directory / name).read_text() for name in ("logs.jsonl", "traces.jsonl"))


@pytest.fixture(scope="module")
def sent(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    folder = tmp_path_factory.mktemp("secrets")
    keys = Keys(folder / "keys")
    configurations = (COLLECTOR / "gateway.yaml", gateway_to_files(folder))
    attributes = encoded({**ATTRIBUTES, **KEPT, **dict.fromkeys(NAMES, NAMED)})
    known_by_looks = [value for key, value in ATTRIBUTES.items() if key not in BY_NAME]
    everywhere = [
        *attributes,
        {"key": "map", "value": {"kvlistValue": {"values": attributes}}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": v} for v in known_by_looks]}}},
    ]
    event = {"eventName": semconv.EVENT_DECISION, "attributes": everywhere}
    span = {
        "traceId": "0123456789abcdef" * 2,
        "spanId": "0123456789abcdef",
        "name": "call",
        "attributes": everywhere,
        "events": [{"name": "an event", "attributes": attributes}],
    }
    settings = {**keys.gateway, "COLLECTOR_DECISION_WAIT": "1s"}
    with (
        running(binary, folder / "gateway", *configurations, **settings) as gateway,
        running(binary, folder / "agent", COLLECTOR / "agent.yaml", **keys.agent(gateway)) as agent,
    ):
        post(agent, "logs", {"agent": [event]}, ATTRIBUTES)
        post(agent, "traces", {"agent": [span]}, ATTRIBUTES)
        yield Sent(gateway)


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_reaches_the_file(kind: str, sent: Sent) -> None:
    assert SECRETS[kind][2] not in sent.text


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_secret_is_enough(name: str, sent: Sent) -> None:
    assert sent.event["attributes"][name] == "****"
    assert sent.span["attributes"][name] == "****"


def test_so_it_is_in_a_map(sent: Sent) -> None:
    assert NAMED not in sent.text


@pytest.mark.parametrize("where", ["event", "span"])
def test_what_is_no_secret_is_as_it_was(where: str, sent: Sent) -> None:
    attributes = getattr(sent, where)["attributes"]
    assert {key: attributes[key] for key in KEPT} == KEPT


def test_what_is_around_a_secret_stays(sent: Sent) -> None:
    assert sent.event["attributes"]["note.github"] == "use **** here"
    assert sent.event["attributes"]["db.url"].startswith("postgres")
