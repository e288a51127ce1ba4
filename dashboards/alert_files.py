"""The alerts as Prometheus reads them, and as Grafana provisions them."""

from __future__ import annotations

import os
from typing import Any

import yaml

from dashboards.alerts import VALUE, Alert, Group, groups

RUNBOOKS = os.environ.get(
    "AEGIS_RUNBOOKS", "https://github.com/aegis-otel/aegis-otel/blob/main/docs/runbooks.md"
)
"""Where docs/runbooks.md is to be read; set it to write the files for a copy of your own."""
FOLDER = "Aegis"
_HEADER = "# Written by `make dashboards` from dashboards/alerts.py. Do not edit.\n"
_VALUE = {"prometheus": "$value", "grafana": "$values.A.Value"}


def prometheus_rules() -> str:
    """A rule file."""
    made = [
        {
            "name": group.name,
            "interval": group.every,
            "rules": [_rule(alert) for alert in group.alerts if alert.expr],
        }
        for group in groups()
    ]
    return _HEADER + _yaml({"groups": made})


def grafana_rules() -> str:
    """A file for `provisioning/alerting`. The data sources are those of grafana/otel-lgtm, by uid."""
    return _HEADER + _yaml({"apiVersion": 1, "groups": [_group(group) for group in groups()]})


def runbook(alert: Alert) -> str:
    return f"{RUNBOOKS}#{alert.name.lower()}"


def _rule(alert: Alert) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": prometheus_expr(alert)}
    if alert.hold != "0s":
        rule["for"] = alert.hold
    if alert.keep:
        rule["keep_firing_for"] = alert.keep
    rule["labels"] = {"severity": alert.severity}
    rule["annotations"] = _annotations(alert, "prometheus")
    return rule


def prometheus_expr(alert: Alert) -> str:
    around = "\n" if "\n" in alert.expr else ""
    return f"({around}{alert.expr}{around}) > {alert.over}"


def _annotations(alert: Alert, for_whom: str) -> dict[str, str]:
    value = f"{{{{ {_VALUE[for_whom]} | {alert.value_format} }}}}"
    return {
        "summary": alert.summary,
        "description": alert.description.replace(VALUE, value),
        "runbook_url": runbook(alert),
        "dashboard": alert.board,
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "orgId": 1,
        "name": group.name,
        "folder": FOLDER,
        # Grafana evaluates no more often than every ten seconds, and in multiples of it.
        "interval": "10s" if group.every == "15s" else group.every,
        "rules": [_grafana_rule(alert) for alert in group.alerts],
    }


def _grafana_rule(alert: Alert) -> dict[str, Any]:
    store = "loki" if alert.logs else "prometheus"
    asked = {
        "refId": "A",
        "datasourceUid": store,
        "queryType": "instant" if alert.logs else "",
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": {
            "refId": "A",
            "expr": alert.logs or alert.expr,
            "instant": True,
            "range": False,
            "queryType": "instant" if alert.logs else "",
            "datasource": {"type": store, "uid": store},
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }
    judged = {
        "refId": "B",
        "datasourceUid": "__expr__",
        "relativeTimeRange": {"from": 0, "to": 0},
        "model": {
            "refId": "B",
            "type": "threshold",
            "expression": "A",
            "datasource": {"type": "__expr__", "uid": "__expr__"},
            "conditions": [{"evaluator": {"type": "gt", "params": [alert.over]}}],
        },
    }
    rule = {
        "uid": alert.name.lower(),
        "title": alert.name,
        "condition": "B",
        "data": [asked, judged],
        # No series is the healthy case of most of them; an error is not.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": alert.hold,
        "dashboardUid": alert.board,
        "labels": {"severity": alert.severity},
        "annotations": _annotations(alert, "grafana"),
    }
    if alert.keep:
        rule["keepFiringFor"] = alert.keep
    return rule


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Long expressions as they are read: one part a line."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
