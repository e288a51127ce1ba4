"""The committed dashboards and rules, as tests read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards"
DURATIONS = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s", "$__auto": "1m"}


@cache
def boards() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(path.read_text()) for path in sorted((DASHBOARDS / "grafana").glob("*.json")))


@dataclass(frozen=True)
class Panel:
    board: str
    json: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.board}: {self.json.get('title')}"


@dataclass(frozen=True)
class Target:
    """One query, of a panel, a variable or an annotation."""

    place: str
    store: str
    expr: str
    panel: Panel | None = None

    def __str__(self) -> str:
        return self.place


def panels() -> list[Panel]:
    return [
        Panel(board["uid"], panel)
        for board in boards()
        for panel in board["panels"]
        if panel["type"] != "row"
    ]


def targets(store: str) -> list[Target]:
    """Of every panel."""
    return [
        Target(f"{panel} {target['refId']}", store, target.get("expr") or target.get("query") or "", panel)
        for panel in panels()
        for target in panel.json.get("targets", [])
        if target["datasource"]["type"] == store
    ]


def marks() -> list[Target]:
    return [
        Target(f"{board['uid']}: mark {mark['name']}", "loki", mark["expr"])
        for board in boards()
        for mark in board["annotations"]["list"]
    ]


@cache
def rules() -> tuple[dict[str, Any], ...]:
    document = yaml.safe_load((DASHBOARDS / "prometheus/aegis.rules.yaml").read_text())
    return tuple(rule for group in document["groups"] for rule in group["rules"])


@cache
def grafana_rules() -> tuple[dict[str, Any], ...]:
    document = yaml.safe_load((DASHBOARDS / "provisioning/alerting/aegis.yaml").read_text())
    return tuple(rule for group in document["groups"] for rule in group["rules"])


def promql() -> Iterator[Target]:
    """Every PromQL expression there is."""
    yield from targets("prometheus")
    for rule in rules():
        yield Target(f"rule {rule['alert']}", "prometheus", rule["expr"])
    for rule in grafana_rules():
        for query in rule["data"]:
            if query["datasourceUid"] == "prometheus":
                yield Target(f"Grafana's rule {rule['title']}", "prometheus", query["model"]["expr"])
    for board in boards():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])
                assert asked, variable["query"]
                yield Target(f"{board['uid']}: variable {variable['name']}", "prometheus", asked[1])


def expanded(expr: str, choice: str = ".*") -> str:
    """As Grafana sends it when everything is chosen."""
    for name, duration in DURATIONS.items():
        expr = expr.replace(name, duration)
    return re.sub(r"\$(?:\{)?(?!__)[a-z_]+\}?", choice, expr)
