"""The alerts: both forms say the same, every one is explained, the first CRITICAL is not missed by design."""

from __future__ import annotations

import re

import pytest
import yaml

from aegis_otel import semconv
from dashboards.alerts import VALUE, alerts
from tests.dashboards.boards import DASHBOARDS, ROOT, boards, grafana_rules, rules

WANTED = {
    *("CriticalDecision", "CriticalDecisionEvent", "CriticalExecutedWithoutHuman", "BlockedBurst"),
    *("ApprovalBacklog", "ApprovalExpiry", "PolicyLoadFailed", "PolicyEvaluationSlow"),
    *("DefaultRuleFallthrough", "AuditWriteFailed", "AuditReconciliationGap", "TelemetryDropped"),
    *("CollectorExportFailing", "GovernanceSilent", "UnknownOutcome"),
}


def sections() -> dict[str, str]:
    text = (ROOT / "docs/runbooks.md").read_text()
    parts = re.split(r"^## (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_alerts_that_were_asked_for_are_there() -> None:
    assert {f"Aegis{name}" for name in WANTED} <= {alert.name for alert in alerts()}


def test_both_forms_have_the_same_alerts() -> None:
    """Grafana has those on logs beside."""
    on_logs = {alert.name for alert in alerts() if alert.logs}
    assert {rule["title"] for rule in grafana_rules()} - on_logs == {rule["alert"] for rule in rules()}
    assert on_logs == {"AegisCriticalDecisionEvent"}


def test_both_forms_ask_the_same() -> None:
    theirs = {rule["title"]: rule for rule in grafana_rules()}
    for rule in rules():
        other = theirs[rule["alert"]]
        asked, judged = (query["model"] for query in other["data"])
        assert asked["expr"] in rule["expr"]
        (limit,) = judged["conditions"][0]["evaluator"]["params"]
        assert rule["expr"].endswith(f" > {limit}")
        assert rule.get("for", "0s") == other["for"]
        assert rule["labels"] == other["labels"]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_every_alert_has_a_runbook(alert) -> None:
    section = sections().get(alert.name)
    assert section, f"docs/runbooks.md has no section {alert.name}"
    for word in ("**Means:**", "**Look at", "do"):
        assert word in section.replace("**Do:**", "do"), f"{alert.name}: no {word}"


def test_no_runbook_is_about_an_alert_that_is_not_there() -> None:
    assert set(sections()) == {alert.name for alert in alerts()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_runbook_and_dashboard(rule) -> None:
    notes = rule["annotations"]
    assert notes["runbook_url"].endswith(f"docs/runbooks.md#{rule['alert'].lower()}")
    assert notes["dashboard"] in {board["uid"] for board in boards()}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert VALUE not in notes["description"] + notes["summary"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_texts_use_labels_that_the_result_has(rule) -> None:
    told = set(
        re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"] + rule["annotations"]["description"])
    )
    kept = re.search(r"(?:sum|max) by \(([^)]*)\)|by \((?:le, )([^)]*)\)", rule["expr"])
    assert kept is not None
    assert told <= set((kept[1] or kept[2]).split(", ")), told


def test_panels_and_texts_name_alerts_that_exist() -> None:
    known = {alert.name for alert in alerts()}
    texts = [panel.get("description", "") for board in boards() for panel in board["panels"]]
    named = {name for text in texts for name in re.findall(r"\bAegis[A-Z]\w+", text)}
    assert named <= known, named - known


def test_the_end_of_a_question_is_called_a_no_only_where_a_process_waited() -> None:
    """A paused run is asked about anew when it is resumed."""
    name = "AegisApprovalExpiry"
    (prometheus,) = [rule["annotations"]["description"] for rule in rules() if rule["alert"] == name]
    (grafana,) = [rule["annotations"]["description"] for rule in grafana_rules() if rule["title"] == name]
    for text in (prometheus, grafana, " ".join(sections()[name].split())):
        assert "A call that waited in its process was denied." in text
        assert "A paused run is asked about anew when it is resumed." in text


def test_critical_alerts_match_labels_that_start_at_zero() -> None:
    """A matcher on any other label would find no zero before the first call."""
    (metric,) = [each for each in semconv.METRICS if each.name == semconv.METRIC_DECISIONS]
    zeros = {attribute.replace(".", "_") for attribute in metric.attributes}
    for rule in rules():
        if "Critical" in rule["alert"]:
            matched = set(re.findall(r"[{,](\w+)(?:=|!=|=~)\"", rule["expr"]))
            assert matched
            assert matched <= zeros, matched - zeros


def test_the_first_critical_pages_within_a_minute_by_configuration() -> None:
    """Rules are evaluated, and the page goes out, without a wait of their own."""
    document = yaml.safe_load((DASHBOARDS / "prometheus/aegis.rules.yaml").read_text())
    (group,) = [each for each in document["groups"] if each["name"] == "aegis-critical"]
    assert group["interval"] == "15s"
    assert all("for" not in rule for rule in group["rules"])
    manager = yaml.safe_load((DASHBOARDS / "prometheus/alertmanager.yaml").read_text())
    (page,) = [route for route in manager["route"]["routes"] if 'severity="critical"' in route["matchers"]]
    assert page["group_wait"] == "0s"
