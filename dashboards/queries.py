"""Queries: PromQL, LogQL and TraceQL, put together from signals and names, and as Grafana's targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import loki, prometheus, tempo
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.loki import LokiQueryDirection
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType

from aegis_otel import semconv
from dashboards.signals import AGENT, OUTCOME, RISK, RULE, TOOL, VARIABLES, Signal, Where, label

Store = Literal["prometheus", "loki", "tempo"]
RATE = "$__rate_interval"
SOURCES: dict[Store, DataSourceRef] = {
    "prometheus": DataSourceRef("prometheus", "${prometheus_datasource}"),
    "loki": DataSourceRef("loki", "${loki_datasource}"),
    "tempo": DataSourceRef("tempo", "${tempo_datasource}"),
}


@dataclass(frozen=True)
class Query:
    """One target of a panel."""

    expr: str
    legend: str = ""
    store: Store = "prometheus"
    at_end: bool = False
    """Asked once, for the end of the time range; else along it."""
    table: bool = False
    exemplars: bool = False
    limit: int = 100

    def target(self, ref: str) -> Any:
        source = SOURCES[self.store]
        if self.store == "tempo":
            found = tempo.Dataquery().query_type("traceql").query(self.expr).limit(self.limit)
            return found.table_type(SearchTableType.SPANS).ref_id(ref).datasource(source)
        if self.store == "loki":
            logs = loki.Dataquery().expr(self.expr).query_type("instant" if self.at_end else "range")
            logs.max_lines(self.limit).direction(LokiQueryDirection.BACKWARD)
            if self.legend:
                logs.legend_format(self.legend)
            return logs.ref_id(ref).datasource(source)
        asked = prometheus.Dataquery().expr(self.expr).legend_format(self.legend or "__auto")
        asked = asked.instant() if self.at_end else asked.range()
        asked.format(PromQueryFormat.TABLE if self.table else PromQueryFormat.TIME_SERIES)
        if self.exemplars:
            asked.exemplar(True)
        return asked.ref_id(ref).datasource(source)


def legend(*labels: str) -> str:
    """A series by the values of its labels."""
    return ": ".join(f"{{{{{label}}}}}" for label in labels)


# --- PromQL ---
def rate(selector: str, *by: str) -> str:
    return f"{_sum(by)} (rate({selector}[{RATE}]))"


def increase(selector: str, *by: str, window: str = "$__range") -> str:
    return f"{_sum(by)} (increase({selector}[{window}]))"


def counted(selector: str, *by: str, window: str = "$__range") -> str:
    """How much was counted in the window, what a series began with included.

    `increase` alone knows nothing of that: what ends before it is scraped twice would have done nothing.
    """
    grown = increase(selector, *by, window=window)
    began = f"min_over_time({selector}[{window}]) unless {selector} offset {window}"
    return f"{grown} + {total(began, *by)} or {grown}"


def total(selector: str, *by: str) -> str:
    return f"{_sum(by)} ({selector})"


def highest(expr: str, *by: str) -> str:
    """The highest of what several processes report of one thing."""
    return f"max by ({', '.join(by)}) ({expr})"


def share(part: str, whole: str) -> str:
    """Nothing where the whole is nothing: no decision is not a share of zero."""
    return f"({part}) / (({whole}) > 0)"


def quantile(q: float, histogram: Signal, *by: str, where: Where | None = None) -> str:
    buckets = rate(histogram.shown(where), "le", *by)
    return f"histogram_quantile({q}, {buckets})"


def or_zero(expr: str) -> str:
    return f"({expr}) or vector(0)"


def _sum(by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)})" if by else "sum"


# --- LogQL ---
_NARROWED = (AGENT, TOOL, RISK, RULE)


def events(name: str, where: Where | None = None, *, service: str = "$service", narrowed: bool = True) -> str:
    """Events of one name, or of several parted by `|`, from Loki.

    They are narrowed by the dashboard's variables as far as events of that name have the attribute.
    """
    kinds = [event for event in semconv.EVENTS if event.name in name.split("|")]
    if len(kinds) != len(name.split("|")):
        raise ValueError(f"`{name}` names an event that semconv.EVENTS does not have")
    had: list[set[str]] = [{label(attribute) for attribute in event.attributes} for event in kinds]
    common = set(had[0]).intersection(*had)
    if unknown := set(where or {}) - {key for keys in had for key in keys}:
        raise ValueError(f"events `{name}` have no {sorted(unknown)}")
    operator = "=~" if "|" in name else "="
    spelled = name.replace(".", "\\\\.") if "|" in name else name
    stages = [f'event_name{operator}"{spelled}"']
    if narrowed:
        keys = (*_NARROWED, OUTCOME)
        stages += [
            f'{key}=~"${VARIABLES[key]}"' for key in keys if key in common and key not in (where or {})
        ]
    for key, value in (where or {}).items():
        stages.append(_filter(key, value))
    return f'{{service_name=~"{service}"}} | ' + " | ".join(stages)


def _filter(key: str, value: str) -> str:
    for sign, operator in (("!~", "!~"), ("~", "=~"), ("!", "!=")):
        if value.startswith(sign):
            return f'{key}{operator}"{value.removeprefix(sign)}"'
    return f'{key}="{value}"'


def line(*keys: str) -> str:
    """A log line of some attributes, for people."""
    return " | line_format `" + "  ".join(f"{{{{.{key}}}}}" for key in keys) + "`"


def count(pipeline: str, *by: str, window: str = "$__auto") -> str:
    return f"{_sum(by)} (count_over_time({pipeline} [{window}]))"


# --- TraceQL ---
def spans(*conditions: str, select: tuple[str, ...] = ()) -> str:
    """Spans of the chosen services; conditions are TraceQL, `select` OpenTelemetry names."""
    found = "{ " + " && ".join(('resource.service.name =~ "$service"', *conditions)) + " }"
    if select:
        found += " | select(" + ", ".join(f"span.{name}" for name in select) + ")"
    return found


def span(attribute: str, value: str, operator: str = "=") -> str:
    return f'span.{attribute} {operator} "{value}"'
