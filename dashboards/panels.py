"""The kinds of panels: what each looks like is decided here, what it asks is decided where it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    logs,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    LogsSortOrder,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
)

from dashboards.queries import SOURCES, Query

GREEN, BLUE, YELLOW, ORANGE, RED, PURPLE, GREY = (
    *("green", "blue", "yellow", "orange", "red", "purple", "text"),
)
COLOURS = {
    "allowed": GREEN,
    "approved": BLUE,
    "blocked": RED,
    "denied": ORANGE,
    "expired": YELLOW,
    "error": PURPLE,
    "low": GREEN,
    "medium": BLUE,
    "high": ORANGE,
    "critical": RED,
}
"""Outcomes and risks have one colour on every dashboard."""


@dataclass(frozen=True)
class Words:
    """The description of a panel for the person on call: what it shows, what is bad, and what to do."""

    shows: str
    bad: str
    do: str

    def __str__(self) -> str:
        return f"{self.shows}\n\n**Bad:** {self.bad}\n\n**Do:** {self.do}"


@dataclass(frozen=True)
class Placed:
    """A panel and how much of the grid's 24 columns it takes."""

    panel: Any
    width: int
    height: int

    def at(self, x: int, y: int, number: int) -> Any:
        return self.panel.id(number).grid_pos(GridPos(h=self.height, w=self.width, x=x, y=y))


def _begin(panel: Any, title: str, words: Words, queries: Iterable[Query], unit: str) -> Any:
    queries = list(queries)
    panel.title(title).description(str(words)).unit(unit).datasource(SOURCES[queries[0].store])
    for number, query in enumerate(queries):
        panel.with_target(query.target(chr(ord("A") + number)))
    return panel


def lines(
    title: str,
    words: Words,
    *queries: Query,
    unit: str = "short",
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    percent: bool = False,
    bars: bool = False,
) -> Placed:
    """Values along time."""
    panel = _begin(timeseries.Panel(), title, words, queries, unit)
    panel.min(0).line_width(2).fill_opacity(30 if stacked else 8).show_points(VisibilityMode.AUTO)
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    panel.legend(legend.display_mode(LegendDisplayMode.LIST).calcs([]))
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    panel.tooltip(tooltip)
    if bars:
        panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80)
    if stacked:
        mode = StackingMode.PERCENT if percent else StackingMode.NORMAL
        panel.stacking(common.StackingConfig().mode(mode).group("A"))
    _colour_by_name(panel)
    return Placed(panel, width, height)


def number(
    title: str,
    words: Words,
    query: Query,
    *,
    unit: str = "short",
    red_from: float | None = None,
    yellow_from: float | None = None,
    width: int = 4,
    height: int = 4,
    spark: bool = False,
) -> Placed:
    """One big figure, coloured by what is bad."""
    panel = _begin(stat.Panel(), title, words, [query], unit)
    panel.thresholds(_steps(yellow_from, red_from)).no_value("none")
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    panel.color_mode(BigValueColorMode.BACKGROUND if red_from is not None else BigValueColorMode.VALUE)
    panel.graph_mode(BigValueGraphMode.AREA if spark else BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return Placed(panel, width, height)


def bars(
    title: str, words: Words, query: Query, *, unit: str = "short", width: int = 12, height: int = 8
) -> Placed:
    """Many figures side by side, the longest bar first."""
    panel = _begin(bargauge.Panel(), title, words, [query], unit)
    panel.min(0).orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.GRADIENT)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.thresholds(_steps(None, None))
    _colour_by_name(panel)
    return Placed(panel, width, height)


def heat(title: str, words: Words, query: Query, *, unit: str, width: int = 12, height: int = 8) -> Placed:
    """How a histogram's buckets fill along time."""
    panel = _begin(heatmap.Panel(), title, words, [query], unit)
    panel.color(heatmap.HeatmapColorOptions().scheme("Oranges").steps(64)).calculate(False)
    panel.y_axis(heatmap.YAxisConfig().unit(unit))
    return Placed(panel, width, height)


def states(title: str, words: Words, *queries: Query, width: int = 24, height: int = 5) -> Placed:
    """Which of several things was so, along time."""
    panel = _begin(statetimeline.Panel(), title, words, queries, "short")
    panel.merge_values(True).row_height(0.8).fill_opacity(70).show_value(VisibilityMode.NEVER)
    return Placed(panel, width, height)


def rows(
    title: str,
    words: Words,
    *queries: Query,
    unit: str = "short",
    steps: Iterable[tuple[str, dict[str, Any]]] = (),
    links: Mapping[str, str] | None = None,
    width: int = 24,
    height: int = 10,
) -> Placed:
    """A table; `steps` are transformations, `links` column -> where a click on it goes."""
    panel = _begin(table.Panel(), title, words, queries, unit)
    for name, options in steps:
        panel.with_transformation(DataTransformerConfig(id_val=name, options=options))
    for column, url in (links or {}).items():
        link = {"title": f"Open {column}", "url": url, "targetBlank": True}
        panel.override_by_name(column, [DynamicConfigValue("links", [link])])
    for column in ("outcome", "risk"):
        mapped = {name: {"color": colour, "index": n} for n, (name, colour) in enumerate(COLOURS.items())}
        properties = [
            DynamicConfigValue("mappings", [{"type": "value", "options": mapped}]),
            DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ]
        panel.override_by_name(column, properties)
    return Placed(panel, width, height)


def log(title: str, words: Words, query: Query, *, width: int = 24, height: int = 9) -> Placed:
    """Events as they came, newest first; a click on one shows all of it."""
    panel = _begin(logs.Panel(), title, words, [query], "string")
    panel.show_time(True).wrap_log_message(True).enable_log_details(True)
    panel.sort_order(LogsSortOrder.DESCENDING)
    return Placed(panel, width, height)


def alerts(title: str, words: Words, *, width: int = 12, height: int = 8) -> Placed:
    """The alerts that fire now. It asks Grafana itself, so it has no query."""
    panel = dashboard.Panel().type("alertlist").title(title).description(str(words)).unit("none")
    panel.options(
        {
            "alertName": "Aegis",
            "alertInstanceLabelFilter": "",
            "dashboardAlerts": False,
            "groupBy": [],
            "groupMode": "default",
            "maxItems": 20,
            "sortOrder": 1,
            "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": True},
            "viewMode": "list",
        }
    )
    return Placed(panel, width, height)


def _steps(yellow_from: float | None, red_from: float | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(None, GREEN)]
    if yellow_from is not None:
        steps.append(Threshold(yellow_from, YELLOW))
    if red_from is not None:
        steps.append(Threshold(red_from, RED))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _colour_by_name(panel: Any) -> None:
    for name, colour in COLOURS.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [DynamicConfigValue("color", fixed)])
