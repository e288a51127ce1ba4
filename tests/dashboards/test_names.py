"""Every expression asks for names that something emits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from aegis_otel import semconv
from aegis_otel.audit.record import COLUMNS
from dashboards import signals
from tests.dashboards.boards import Target, expanded, grafana_rules, marks, promql, targets

ROOT = Path(__file__).parents[2]
EVERYWHERE = {"job", "instance"}
LOKI_OWN = {"service_name", "event_name", "trace_id"}
"""What Loki makes of an OTLP record beside its attributes."""


def of_semconv() -> dict[str, set[str]]:
    """Prometheus' series and their labels, by OpenTelemetry's rules, from semconv alone."""
    found = {}
    for metric in semconv.METRICS:
        name = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
        labels = {attribute.replace(".", "_") for attribute in metric.attributes}
        if metric.instrument == "histogram":
            found.update({f"{name}_bucket": labels | {"le"}, f"{name}_count": labels, f"{name}_sum": labels})
        else:
            counter = "counter" in metric.instrument and "up-down" not in metric.instrument
            found[name + ("_total" if counter else "")] = labels
    return found


def known() -> dict[str, set[str]]:
    others = {
        series: {*signal.labels, *({"le"} if series.endswith("_bucket") else ())}
        for signal in signals.OTHERS
        for series in signal.series
    }
    return {**of_semconv(), **others}


def test_signals_name_what_semconv_names() -> None:
    ours = {series for signal in signals.OWN for series in signal.series}
    assert ours == set(of_semconv()), "a metric of semconv has no signal here, or the other way round"


def test_no_series_has_two_meanings() -> None:
    names = [series for signal in signals.SIGNALS for series in signal.series]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("target", list(promql()), ids=str)
def test_promql_uses_known_series_and_labels(target: Target) -> None:
    used: set[str] = set()
    grouped: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name in known(), f"nothing emits `{node.name}`"
            labels = known()[node.name] | EVERYWHERE
            used.update(labels)
            wrong = {matcher.name for matcher in node.matchers.matchers} - labels
            assert not wrong, f"`{node.name}` has no label {wrong}"
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expanded(target.expr)), visit)
    assert grouped <= used, f"grouped by {grouped - used}, which no series in it has"


def logql() -> list[Target]:
    ruled = [
        Target(f"Grafana's rule {rule['title']}", "loki", query["model"]["expr"])
        for rule in grafana_rules()
        for query in rule["data"]
        if query["datasourceUid"] == "loki"
    ]
    return [*targets("loki"), *marks(), *ruled]


@pytest.mark.parametrize("target", logql(), ids=str)
def test_logql_uses_attributes_that_the_events_have(target: Target) -> None:
    (names,) = re.findall(r'event_name=~?"([^"]+)"', target.expr)
    events = [event for event in semconv.EVENTS if event.name in names.replace("\\\\", "").split("|")]
    assert len(events) == names.count("|") + 1, f"no event is called {names}"
    had = {attribute.replace(".", "_") for event in events for attribute in event.attributes} | LOKI_OWN
    filtered = set(re.findall(r"\b(\w+)(?:=~|!~|!=|=)\"", target.expr))
    shown = set(re.findall(r"{{\.(\w+)}}", target.expr))
    grouped = {label for by in re.findall(r"by \(([^)]+)\)", target.expr) for label in by.split(", ")}
    assert filtered | shown | grouped <= had, (filtered | shown | grouped) - had


@pytest.mark.parametrize("target", targets("tempo"), ids=str)
def test_traceql_uses_attributes_that_the_spans_have(target: Target) -> None:
    had = {attribute for span in semconv.SPANS for attribute in span.attributes}
    asked = set(re.findall(r"span\.([a-z_.]+)", target.expr))
    assert asked
    assert asked <= had, asked - had
    assert set(re.findall(r"resource\.([a-z_.]+)", target.expr)) == {"service.name"}


def test_values_that_are_asked_for_exist() -> None:
    """Labels of the counter of decisions are compared with values that it can have."""
    from aegis_otel.model import Approval, Mode, Outcome, RiskLevel

    values = {
        signals.OUTCOME: {each.value for each in Outcome},
        signals.APPROVAL: {each.value for each in Approval},
        signals.RISK: {each.name.lower() for each in RiskLevel},
        signals.MODE: {each.value for each in Mode},
        signals.RELOAD: {"loaded", "refused"},
        signals.OPERATION: {semconv.GOVERN_TOOL, semconv.EXECUTE_TOOL},
    }
    for target in [*promql(), *logql()]:
        for label, value in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"$]+)"', target.expr):
            wanted = set(value.split("|")) - {".+", ".*"}
            assert wanted <= values.get(label, wanted), f"{target}: {label} is never {wanted}"


def clickhouse_views() -> dict[str, str]:
    """The views of `collector/clickhouse/schema.sql`, by name."""
    text = (ROOT / "collector/clickhouse/schema.sql").read_text(encoding="utf-8")
    return dict(re.findall(r"VIEW (\w+) AS\n(.*?);\n", text, re.DOTALL))


@pytest.mark.parametrize("view", clickhouse_views())
def test_clickhouse_reads_attributes_that_the_events_have(view: str) -> None:
    """A view that names no attribute of `semconv` any more would answer with empty texts."""
    sql = clickhouse_views()[view]
    names = set(re.findall(r"EventName (?:= |IN \()'([a-z_.]+)'", sql))
    events = [event for event in semconv.EVENTS if event.name in names]
    assert {event.name for event in events} == names != set()
    had = {attribute for event in events for attribute in event.attributes}
    asked = set(re.findall(r"LogAttributes\['([a-z_.]+)'\]", sql))
    assert asked
    assert asked <= had, asked - had


def test_clickhouse_names_the_columns_of_a_decision_as_the_audit_does() -> None:
    """So a question that is asked of the one is asked of the other in the same words."""
    sql = clickhouse_views()["aegis_decisions"]
    columns = set(re.findall(r" AS (\w+)", sql.partition("FROM")[0]))
    assert len(columns) > 10
    known = {column.name for column in COLUMNS}
    assert columns <= known, columns - known
