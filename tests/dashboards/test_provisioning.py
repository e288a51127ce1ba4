"""What Grafana loads at its start."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.dashboards.boards import DASHBOARDS, boards, grafana_rules

PROVISIONING = DASHBOARDS / "provisioning"
LGTM = {"prometheus": "prometheus", "tempo": "tempo", "loki": "loki"}
"""uid -> kind, as grafana/otel-lgtm has them."""


def read(name: str) -> dict[str, Any]:
    document = yaml.safe_load((PROVISIONING / name).read_text())
    assert document["apiVersion"] == 1
    return document


def test_data_sources_have_the_uids_of_otel_lgtm() -> None:
    sources = read("datasources/aegis.yaml")["datasources"]
    assert {source["uid"]: source["type"] for source in sources} == LGTM


def test_traces_logs_and_metrics_lead_to_each_other() -> None:
    sources = {source["uid"]: source["jsonData"] for source in read("datasources/aegis.yaml")["datasources"]}
    (exemplar,) = sources["prometheus"]["exemplarTraceIdDestinations"]
    assert exemplar["datasourceUid"] == "tempo"
    assert exemplar["name"] == "trace_id"
    (field,) = sources["loki"]["derivedFields"]
    assert (field["datasourceUid"], field["matcherType"], field["matcherRegex"]) == (
        "tempo",
        "label",
        "trace_id",
    )
    assert sources["tempo"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert "trace_id" in sources["tempo"]["tracesToLogsV2"]["query"]


def test_single_dollar_signs_are_environment_variables_only() -> None:
    """Grafana puts those in when it reads the file; an empty one breaks a query without a word."""
    text = (PROVISIONING / "datasources/aegis.yaml").read_text()
    text = "\n".join(
        line.partition(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#")
    )
    assert set(re.findall(r"(?<!\$)\$\{?(\w+)", text)) == {"PROMETHEUS_URL", "TEMPO_URL", "LOKI_URL"}


def test_dashboards_are_read_from_a_folder_and_cannot_be_changed_by_hand() -> None:
    (provider,) = read("dashboards/aegis.yaml")["providers"]
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False


def test_rules_use_the_provisioned_data_sources_and_dashboards() -> None:
    for rule in grafana_rules():
        asked, judged = rule["data"]
        assert LGTM[asked["datasourceUid"]] == asked["model"]["datasource"]["type"]
        assert judged["datasourceUid"] == "__expr__"
        assert rule["condition"] == judged["refId"]
        assert judged["model"]["expression"] == asked["refId"]
        assert rule["dashboardUid"] in {board["uid"] for board in boards()}


def test_rule_uids_are_unique_and_short_enough() -> None:
    uids = [rule["uid"] for rule in grafana_rules()]
    assert len(set(uids)) == len(uids)
    assert max(map(len, uids)) <= 40, "Grafana takes no more than 40 characters"


def test_intervals_are_multiples_of_ten_seconds() -> None:
    seconds = {"s": 1, "m": 60}
    for group in read("alerting/aegis.yaml")["groups"]:
        number, unit = int(group["interval"][:-1]), group["interval"][-1]
        assert number * seconds[unit] % 10 == 0
        assert group["folder"]
