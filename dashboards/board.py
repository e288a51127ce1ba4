"""The frame of every dashboard: its variables, its links to the others, its annotations and its grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from aegis_otel import semconv
from aegis_otel.model import Outcome, RiskLevel
from dashboards.panels import ORANGE, PURPLE, RED, Placed
from dashboards.queries import SOURCES, Query, events
from dashboards.signals import AGENT, DECISIONS, DIGEST, OUTCOME, RISK, RULE, SPAN_CALLS, TOOL, UPTIME

COLUMNS = 24
TAG = "aegis"
ALL = VariableOption(text="All", value="$__all")
SPELLED_TRACE = quote(
    '{"a":{"datasource":"${tempo_datasource}","queries":[{"refId":"A","queryType":"traceql","query":"${__value.raw}",'
    '"datasource":{"type":"tempo","uid":"${tempo_datasource}"}}],"range":{"from":"${__from}","to":"${__to}"}}}',
    safe="${}.",
)
TRACE_URL = f"/explore?schemaVersion=1&panes={SPELLED_TRACE}"
"""Where a trace id leads."""
DECISION_URL = "/d/aegis-audit?${__url_time_range}&var-decision=${__value.raw}"
CONVERSATION_URL = "/d/aegis-audit?${__url_time_range}&var-conversation=${__value.raw}"


@dataclass(frozen=True)
class Section:
    title: str
    panels: Sequence[Placed]


@dataclass(frozen=True)
class Board:
    uid: str
    title: str
    purpose: str
    sections: Sequence[Section]
    extra: Sequence[Any] = ()
    """Variables that only this dashboard has."""
    since: str = "now-6h"

    def build(self) -> Any:
        made = dashboard.Dashboard(self.title).uid(self.uid).description(self.purpose).tags([TAG]).readonly()
        made.timezone("browser").time(self.since, "now").refresh("30s").tooltip(DashboardCursorSync.CROSSHAIR)
        made.variables([*variables(), *self.extra]).annotations(marks())
        made.link(
            dashboard.DashboardLink("Aegis dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .icon("external link")
            .tooltip("The other dashboards, at the same time range and with the same choices")
            .include_vars(True)
            .keep_time(True)
        )
        self._lay_out(made)
        return made.build()

    def _lay_out(self, made: dashboard.Dashboard) -> None:
        """Panels from left to right; where one does not fit, the next line of the grid begins."""
        y = number = 0
        for section in self.sections:
            number += 1
            made.with_row(dashboard.Row(section.title).id(number).grid_pos(GridPos(1, COLUMNS, 0, y)))
            y += 1
            x = tallest = 0
            for placed in section.panels:
                if x + placed.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                made.with_panel(placed.at(x, y, number))
                x, tallest = x + placed.width, max(tallest, placed.height)
            y += tallest


def variables() -> list[Any]:
    """What every dashboard can be narrowed by. Prometheus is first: the others hang on it."""
    sources = [
        dashboard.DatasourceVariable(f"{store}_datasource")
        .label(f"{store.title()} data source")
        .type(store)
        .current(VariableOption(text=store.title(), value=store))
        for store in SOURCES
    ]
    of_job = {"job": "~$job"}
    return [
        *sources,
        asked("job", "Job", f"label_values({DECISIONS.all()}, job)").all_value(".+"),
        # Loki and Tempo know a service by its name alone; a job may be `namespace/name`.
        asked("service", "Service", f"label_values({DECISIONS.all(of_job)}, job)")
        .regex(r"/(?:.*\/)?(.+)/")
        .hide(VariableHide.HIDE_VARIABLE),
        asked("agent", "Agent", f"label_values({SPAN_CALLS.all(of_job)}, {AGENT})").all_value(".*"),
        asked("tool", "Tool", f"label_values({SPAN_CALLS.all(of_job)}, {TOOL})").all_value(".*"),
        listed("risk", "Risk", [level.name.lower() for level in reversed(RiskLevel)]),
        asked("rule", "Rule", f"label_values({DECISIONS.all(of_job)}, {RULE})").all_value(".*"),
        listed("outcome", "Outcome", [outcome.value for outcome in Outcome]),
    ]


def asked(name: str, title: str, query: str) -> dashboard.QueryVariable:
    """Return a variable whose values Prometheus returns."""
    made = dashboard.QueryVariable(name).label(title).datasource(SOURCES["prometheus"]).query(query)
    made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    return made.multi(True).include_all(True).current(ALL)


def listed(name: str, title: str, values: list[str]) -> dashboard.CustomVariable:
    """Return a variable with fixed values."""
    made = dashboard.CustomVariable(name).label(title).values(",".join(values))
    return made.multi(True).include_all(True).all_value(".*").current(ALL)


def written(name: str, title: str, meaning: str, *, default: str = "") -> dashboard.TextBoxVariable:
    """Return a variable that a person or a link fills in."""
    return dashboard.TextBoxVariable(name).label(title).description(meaning).default_value(default)


def collector() -> dashboard.QueryVariable:
    """The collector is a job of its own."""
    return asked("collector", "Collector", f"label_values({UPTIME.all()}, job)").all_value(".+")


def marks() -> list[Any]:
    """What happened, as lines through every panel."""
    kinds = (
        (
            "CRITICAL decisions",
            RED,
            events(semconv.EVENT_DECISION, {RISK: "critical"}),
            f"{TOOL},{RULE},{OUTCOME}",
        ),
        ("Policy loaded", ORANGE, events(semconv.EVENT_POLICY_LOADED, narrowed=False), DIGEST),
        ("Policy refused", PURPLE, events(semconv.EVENT_POLICY_LOAD_FAILED, narrowed=False), "error_type"),
    )
    return [
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCES["loki"])
        .enable(True)
        .icon_color(colour)
        .expr(query)
        .target(Query(query, store="loki").target("Anno"))
        .title_format(name)
        .tag_keys(keys)
        for name, colour, query, keys in kinds
    ]
