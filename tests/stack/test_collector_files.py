"""What collector/ says, held against itself, `semconv` and dashboards/: nothing has to be built."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from aegis_otel import semconv
from aegis_otel.model import Outcome, RiskLevel
from tests.stack.stack import COLLECTOR, CONFIGURATIONS, ROOT

MANIFEST = yaml.safe_load((COLLECTOR / "builder.yaml").read_text())
COMPOSE = yaml.safe_load((COLLECTOR / "compose.yaml").read_text())
CONFIGURED = {name: yaml.safe_load((COLLECTOR / f"{name}.yaml").read_text()) for name in CONFIGURATIONS}
KINDS = ("extensions", "receivers", "processors", "connectors", "exporters")

STANDARD = {
    *(
        "service.name",
        "service.namespace",
        "service.instance.id",
        "deployment.environment.name",
        "event.name",
    ),
    *(
        "collector.instance.id",
        "signal_to_metrics.service.instance.id",
    ),  # what the connectors call themselves
}
MADE_HERE = {"aegis.collector.decision.events"}
"""The one name that the collector gives and the library does not know."""


def strings(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        for value in found.values():
            yield from strings(value)
    elif isinstance(found, list):
        for value in found:
            yield from strings(value)
    elif isinstance(found, str):
        yield found


def types(config: dict[str, Any], kind: str) -> set[str]:
    return {name.partition("/")[0] for name in config.get(kind, {})}


def modules(kind: str) -> list[str]:
    return [entry["gomod"].split()[0] for entry in MANIFEST[kind]]


# --- the manifest ---


def test_the_manifest_pins_one_release() -> None:
    release = MANIFEST["dist"]["version"]
    versions = {entry["gomod"].split()[1] for kind in KINDS for entry in MANIFEST[kind]}
    assert versions == {f"v{release}"}
    assert len({entry["gomod"].split()[1] for entry in MANIFEST["providers"]}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_built_is_what_is_used(kind: str) -> None:
    used = {name.replace("_", "") for config in CONFIGURED.values() for name in types(config, kind)}
    used = {{"otlpgrpc": "otlp"}.get(name, name) for name in used}
    built = {module.rpartition("/")[2].removesuffix(kind.removesuffix("s")) for module in modules(kind)}
    assert built == used


# --- the configurations ---


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_variable_is_in_the_example(name: str) -> None:
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (COLLECTOR / "example.env").read_text(), re.MULTILINE))
    for variable, default in re.findall(
        r"\$\{env:(\w+)(?::-([^}]*))?\}", (COLLECTOR / f"{name}.yaml").read_text()
    ):
        assert variable in example, f"{variable} of {name}.yaml is not in example.env"
        if default:
            assert example[variable] == default, f"{variable} has another default in {name}.yaml"


def test_the_example_has_no_variable_that_nothing_reads() -> None:
    texts = "".join((COLLECTOR / f"{name}.yaml").read_text() for name in (*CONFIGURATIONS, "compose"))
    for variable in re.findall(r"^([A-Z_]+)=", (COLLECTOR / "example.env").read_text(), re.MULTILINE):
        assert re.search(rf"\$\{{(env:)?{variable}\b", texts), f"nothing reads {variable}"


def test_the_example_says_what_compose_passes_on() -> None:
    marked, marks = set(), ""
    for line in (COLLECTOR / "example.env").read_text().splitlines():
        if found := re.match(r"# ([LAGWP](?: [LAGWP])*)(?:[:;]|$)", line):
            marks = found[1]
        elif line.startswith("# ---"):
            marks = ""
        elif "P" in marks and not line.startswith("#"):
            marked.add(line.partition("=")[0])
    compose = (COLLECTOR / "compose.yaml").read_text()
    assert marked - {""} == set(re.findall(r"\$\{([A-Z_]+)", compose))


def test_a_shell_reads_the_example() -> None:
    read = ["sh", "-ec", '. ./example.env; printf %s "$COLLECTOR_GATEWAYS"']
    done = subprocess.run(read, cwd=COLLECTOR, text=True, capture_output=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(yaml.safe_load(done.stdout)) == 2


def named(text: str) -> set[str]:
    """Names of attributes, events and metrics in a string of a configuration."""
    return {
        *re.findall(r"(?<![\w.])(?:aegis|gen_ai|mcp|error|service|deployment)(?:\.[a-z_]+)+", text),
        *re.findall(r'attributes\["([^"]+)"\]', text),
        *re.findall(r'delete_key\([\w.]+, "([^"]+)"\)', text),
    }


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_name_is_one_of_semconv(name: str) -> None:
    known = {
        *(each.key for each in semconv.ATTRIBUTES),
        *(each.name for each in (*semconv.EVENTS, *semconv.METRICS)),
    }
    found = set[str]().union(*(named(text) for text in strings(CONFIGURED[name])))
    for connector in CONFIGURED[name].get("connectors", {}).values():
        found |= {each["name"] for each in connector.get("dimensions", ())}
        found |= {each["key"] for made in connector.get("logs", ()) for each in made["attributes"]}
    assert found - known - STANDARD - MADE_HERE == set()
    if name in ("local", "gateway", "laptop"):
        assert semconv.RISK_LEVEL in found


def test_redaction_is_the_same_everywhere() -> None:
    said = [config["processors"]["redaction"] for name, config in CONFIGURED.items() if name != "writer"]
    assert all(each == said[0] for each in said)


def test_what_is_not_looked_at_for_secrets_cannot_hold_what_somebody_typed() -> None:
    not_looked_at = CONFIGURED["local"]["processors"]["redaction"]["ignored_keys"]
    known = {each.key for each in semconv.ATTRIBUTES}
    for key in not_looked_at:
        assert key in known or key.startswith(("service.", "telemetry.sdk.")), f"{key} is of somebody else"
    typed = {
        *(semconv.GEN_AI_TOOL_CALL_ARGUMENTS, semconv.DECISION_REASON, semconv.ACTION_TARGET),
        *(semconv.GEN_AI_CONVERSATION_ID, semconv.GEN_AI_WORKFLOW_NAME, semconv.ERROR_TYPE),
    }
    assert not typed & set(not_looked_at)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_comes_from_outside_is_limited_and_redacted_first(name: str) -> None:
    config = CONFIGURED[name]
    for pipeline, parts in config["service"]["pipelines"].items():
        if not set(parts["receivers"]) & set(config["receivers"]):
            continue
        assert parts["processors"][0] == "memory_limiter", f"{pipeline} takes in what memory does not hold"
        if name in ("agent", "gateway") or (name != "writer" and not pipeline.startswith("metrics")):
            assert "redaction" in parts["processors"], f"{pipeline} lets secrets through"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_exporters_batch_in_their_queue(name: str) -> None:
    assert "batch" not in types(CONFIGURED[name], "processors")
    for exporter, settings in CONFIGURED[name].get("exporters", {}).items():
        if exporter.partition("/")[0] in ("file", "prometheus"):
            continue
        queue = settings.get("sending_queue") or settings["remote_write_queue"]
        assert "batch" in queue or queue == {"enabled": False}, exporter


@pytest.mark.parametrize("name", ["agent", "gateway"])
def test_events_are_never_sampled_and_never_given_up(name: str) -> None:
    config = CONFIGURED[name]
    pipeline = config["service"]["pipelines"]["logs/events"]
    assert pipeline["processors"] == ["memory_limiter", "filter/events", "redaction"]
    others = [
        parts["exporters"] for key, parts in config["service"]["pipelines"].items() if key != "logs/events"
    ]
    for exporter in (e for e in pipeline["exporters"] if e in config["exporters"]):
        settings = config["exporters"][exporter]
        assert settings["retry_on_failure"]["max_elapsed_time"] == 0
        assert settings["sending_queue"]["storage"] == "file_storage"
        assert settings["sending_queue"]["block_on_overflow"] is True
        assert all(exporter not in each for each in others), "another signal could fill the queue of events"


def test_the_gateway_keeps_what_the_sampler_must_not_lose() -> None:
    config = CONFIGURED["gateway"]
    (kept,) = config["processors"]["filter/must_arrive"]["trace_conditions"]
    (passed,) = config["processors"]["filter/may_be_sampled"]["trace_conditions"]
    assert kept == f"not ({passed})"
    risks = set(re.findall(rf'"{semconv.RISK_LEVEL}"\] == "(\w+)"', passed))
    outcomes = set(re.findall(rf'"{semconv.DECISION_OUTCOME}"\] == "(\w+)"', passed))
    assert risks == {RiskLevel.HIGH.name.lower(), RiskLevel.CRITICAL.name.lower()}
    assert {each.value for each in Outcome} - outcomes <= {"allowed", "approved", "pending"}
    assert "span.status.code == STATUS_CODE_ERROR" in passed
    policies = {each["type"]: each for each in config["processors"]["tail_sampling"]["policies"]}
    by_key = {
        each["string_attribute"]["key"]: set(each["string_attribute"]["values"])
        for each in config["processors"]["tail_sampling"]["policies"]
        if each["type"] == "string_attribute"
    }
    assert by_key == {semconv.RISK_LEVEL: risks, semconv.DECISION_OUTCOME: outcomes}
    assert policies["status_code"]["status_code"]["status_codes"] == ["ERROR"]
    # A trace that was dropped is forgotten, so that a decision which comes late is looked at anew.
    assert "non_sampled_cache_size" not in config["processors"]["tail_sampling"]["decision_cache"]


def test_spans_are_measured_before_they_are_sampled() -> None:
    pipelines = CONFIGURED["gateway"]["service"]["pipelines"]
    assert pipelines["traces/in"]["exporters"] == ["span_metrics", "forward"]
    assert pipelines["traces/in"]["processors"] == ["memory_limiter", "redaction"]
    assert pipelines["traces/sampled"]["receivers"] == ["forward"]


def test_the_gateway_asks_for_a_token_over_tls() -> None:
    for protocol in CONFIGURED["gateway"]["receivers"]["otlp"]["protocols"].values():
        assert protocol["auth"] == {"authenticator": "bearertokenauth"}
        assert set(protocol["tls"]) == {"cert_file", "key_file"}
    assert "bearertokenauth" in CONFIGURED["gateway"]["service"]["extensions"]


# --- Prometheus ---


def test_a_scrape_and_otlp_give_the_same_labels() -> None:
    otlp = yaml.safe_load((COLLECTOR / "compose" / "prometheus.yaml").read_text())["otlp"]
    for exporter in (
        CONFIGURED["local"]["exporters"]["prometheus"],
        CONFIGURED["writer"]["exporters"]["prometheus_remote_write"],
    ):
        assert exporter["resource_constant_labels"]["included"] == otlp["promote_resource_attributes"]
        assert exporter["translation_strategy"] == otlp["translation_strategy"]
        assert exporter.get("without_scope_info") or exporter.get("disable_scope_info")


@pytest.mark.parametrize("name", ["local", "gateway", "laptop"])
def test_series_of_spans_end_with_their_agent(name: str) -> None:
    """By default they are sent for ever. Minutes would be too few: agents are quiet for longer."""
    assert CONFIGURED[name]["connectors"]["span_metrics"]["metrics_expiration"] == "1h"


def test_only_what_agents_send_goes_into_files() -> None:
    config = CONFIGURED["local"]
    for pipeline, parts in config["service"]["pipelines"].items():
        if any(exporter.startswith("file/") for exporter in parts["exporters"]):
            assert parts["receivers"] == ["otlp"], pipeline


def test_the_scrape_leaves_the_labels_of_the_agents() -> None:
    scrapes = yaml.safe_load((COLLECTOR / "prometheus.yaml").read_text())["scrape_configs"]
    honored = {
        target: scrape.get("honor_labels", False)
        for scrape in scrapes
        for target in scrape["static_configs"][0]["targets"]
    }
    assert honored == {"localhost:8889": True, "localhost:8888": False}


def test_prometheus_finds_the_alerts() -> None:
    for path in yaml.safe_load((COLLECTOR / "prometheus.yaml").read_text())["rule_files"]:
        assert (COLLECTOR / path).exists()


# --- compose ---


def test_compose_runs_the_release_of_the_manifest() -> None:
    image = COMPOSE["services"]["collector"]["image"]
    assert image == f"otel/opentelemetry-collector-contrib:{MANIFEST['dist']['version']}"
    for name, service in COMPOSE["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), f"{name} is not pinned"


def test_the_stock_image_has_every_component() -> None:
    lines = (ROOT / "tests" / "stack" / "contrib_distribution.txt").read_text().splitlines()
    _, *listed = (line for line in lines if not line.startswith("#"))
    assert f"release {MANIFEST['dist']['version']}" in lines
    assert {module for kind in (*KINDS, "providers") for module in modules(kind)} <= set(listed)


def test_compose_mounts_what_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source, target, mode = volume.split(":")
            assert (COLLECTOR / source).exists(), f"{source} is not there"
            assert target.startswith("/")
            assert mode == "ro"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{port} is open to other machines"


def test_compose_gives_grafana_what_its_data_sources_need() -> None:
    provisioned = ROOT / "dashboards" / "provisioning"
    wanted = {
        variable
        for path in provisioned.rglob("*.yaml")
        for variable in re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", path.read_text())
    }
    assert wanted
    assert wanted <= set(COMPOSE["services"]["grafana"]["environment"])
    sources = yaml.safe_load((provisioned / "datasources" / "aegis.yaml").read_text())["datasources"]
    assert {each["uid"] for each in sources} == {"prometheus", "tempo", "loki"}
    laptop = CONFIGURED["laptop"]["exporters"]
    assert {key.partition("/")[2] for key in laptop} == {each["uid"] for each in sources}
