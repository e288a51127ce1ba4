"""The rules of Grafana's dashboard-linter, as far as they hold for dashboards with three data sources.

Not held: an `instance` variable and matcher. An instance here is one process of an agent with a random id;
nobody chooses by it, and the linter's documentation says to leave it out where data sources do not share it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest

from tests.dashboards.boards import Panel, Target, boards, expanded, panels, promql, targets

each_board = pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
each_panel = pytest.mark.parametrize("panel", panels(), ids=str)
each_promql = pytest.mark.parametrize("target", targets("prometheus"), ids=str)
UNITS = {"none", "string", "short", "percentunit", "bytes", "s", "cps"}
"""Those of Grafana's that are used here."""
MAY_STAND_ALONE = {
    "aegis-pipeline: Decisions without a record",  # two counters of one process, held against each other
    "aegis-pipeline: Series of the decision counter",  # counts the series, not what they say
}


def variable(board: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in board["templating"]["list"] if each["name"] == name)


@each_board
def test_template_datasource_rule(board: dict[str, Any]) -> None:
    for store in ("prometheus", "loki", "tempo"):
        found = variable(board, f"{store}_datasource")
        assert (found["type"], found["query"]) == ("datasource", store)
        assert found["label"] == f"{store.title()} data source"


@each_board
def test_template_job_rule(board: dict[str, Any]) -> None:
    job = variable(board, "job")
    assert job["datasource"]["uid"] == "${prometheus_datasource}"
    assert (job["type"], job["label"], job["multi"], job["allValue"]) == ("query", "Job", True, ".+")


@each_board
def test_template_on_time_change_reload_rule(board: dict[str, Any]) -> None:
    for each in board["templating"]["list"]:
        assert each["type"] != "query" or each["refresh"] == 2, each["name"]


@each_board
def test_uneditable_dashboard(board: dict[str, Any]) -> None:
    assert board["editable"] is False


@each_board
def test_panel_datasource_rule(board: dict[str, Any]) -> None:
    """No data source by a fixed uid, anywhere."""
    uids = set(
        re.findall(
            r'"uid": "([^"]*)"', json.dumps([board["panels"], board["templating"], board["annotations"]])
        )
    )
    assert uids <= {f"${{{store}_datasource}}" for store in ("prometheus", "loki", "tempo")}, uids


@each_panel
def test_panel_title_description_rule(panel: Panel) -> None:
    assert panel.json["title"]
    assert panel.json["description"]


@each_panel
def test_panel_units_rule(panel: Panel) -> None:
    assert panel.json["fieldConfig"]["defaults"]["unit"] in UNITS


@each_panel
def test_panel_no_targets_rule(panel: Panel) -> None:
    assert panel.json["type"] == "alertlist" or panel.json["targets"]


@each_promql
def test_target_promql_rule(target: Target) -> None:
    assert promql_parser.parse(expanded(target.expr))


@each_promql
def test_target_job_rule(target: Target) -> None:
    for selector in selectors(target.expr):
        jobs = [(str(m.op), m.value) for m in selector.matchers.matchers if m.name == "job"]
        assert jobs, target.expr
        assert all(op == "MatchOp.Re" for op, _ in jobs), target.expr


@each_promql
def test_target_rate_interval_rule(target: Target) -> None:
    for function, window in re.findall(r"\b(i?rate)\([^\[]*\[([^\]]+)\]", target.expr):
        assert window == "$__rate_interval", f"{function} over {window}"


@each_promql
def test_target_counter_agg_rule(target: Target) -> None:
    """What is counted is shown as a rate or an increase, never as it stands."""
    if target.panel is not None and str(target.panel) in MAY_STAND_ALONE:
        return
    bare = re.findall(r"\w+_total(?:\{[^}]*\})?(?!\[)(?![\w{])(?! offset)", target.expr)
    assert not bare, bare


@pytest.mark.parametrize("target", targets("loki"), ids=str)
def test_target_logql_auto_rule(target: Target) -> None:
    """`$__auto` along the time, `$__range` for one figure of all of it."""
    for window in re.findall(r"\[([^\]]+)\]", target.expr):
        assert target.panel is not None
        (once,) = {each["queryType"] == "instant" for each in target.panel.json["targets"]}
        assert window == ("$__range" if once else "$__auto")


def test_template_label_promql_rule() -> None:
    variables = [target for target in promql() if ": variable " in target.place]
    assert len(variables) >= 4 * len(boards())
    for target in variables:
        promql_parser.parse(expanded(target.expr))


def selectors(expr: str) -> list[promql_parser.VectorSelector]:
    found = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expanded(expr)), visit)
    return found
