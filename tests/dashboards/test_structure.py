"""The dashboards as a whole: how many, how laid out, how linked, and that every panel is explained."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any
from urllib.parse import unquote

import click
import pytest

from aegis_otel.cli import main as aegis
from tests.dashboards.boards import ROOT, Panel, boards, grafana_rules, panels, targets

each_board = pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
each_panel = pytest.mark.parametrize("panel", panels(), ids=str)
UIDS = {"aegis-overview", "aegis-decisions", "aegis-approvals", "aegis-audit", "aegis-pipeline"}


def test_there_are_five_dashboards_with_forty_panels_or_more() -> None:
    assert {board["uid"] for board in boards()} == UIDS
    assert len(panels()) >= 40


@each_board
def test_the_model_is_the_one_that_every_grafana_since_ten_reads(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] == 42
    assert {"aegis"} == set(board["tags"])
    assert board["description"]


@each_board
def test_panels_do_not_overlap_and_stay_in_the_grid(board: dict[str, Any]) -> None:
    taken = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]
    for title, at in taken:
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24, title
        assert at["h"] > 0, title
    for (one, a), (other, b) in itertools.combinations(taken, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{board['uid']}: `{one}` and `{other}` lie on each other"


@each_board
def test_lines_of_the_grid_are_full(board: dict[str, Any]) -> None:
    """A hole in the grid is a panel that somebody looks for."""
    lines: dict[int, int] = {}
    for panel in board["panels"]:
        lines[panel["gridPos"]["y"]] = lines.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(lines.values()) == {24}, {y: width for y, width in lines.items() if width != 24}


@each_board
def test_ids_and_titles_are_unique(board: dict[str, Any]) -> None:
    for key in ("id", "title"):
        found = [panel[key] for panel in board["panels"] if key == "id" or panel["type"] != "row"]
        assert len(found) == len(set(found)), sorted(found, key=str)


@each_panel
def test_a_panel_says_what_it_shows_what_is_bad_and_what_to_do(panel: Panel) -> None:
    assert panel.json["title"]
    shows, bad, do = panel.json["description"].split("\n\n")
    assert len(shows) > 15, shows
    assert re.fullmatch(r"\*\*Bad:\*\* .{3,}[.]", bad), bad
    assert re.fullmatch(r"\*\*Do:\*\* .{10,}[.?]", do), do


@each_panel
def test_a_panel_has_a_unit(panel: Panel) -> None:
    assert panel.json["fieldConfig"]["defaults"]["unit"]


@each_board
def test_variables_are_there_and_used(board: dict[str, Any]) -> None:
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names[:3] == ["prometheus_datasource", "loki_datasource", "tempo_datasource"]
    assert {"job", "service", "agent", "tool", "risk", "rule", "outcome"} <= set(names)
    used = set(re.findall(r"\$\{?([a-z_]+)", json.dumps(board["panels"]))) - {"__rate_interval"}
    known = {*names, "__rate_interval", "__range", "__auto", "__value", "__from", "__to", "__url_time_range"}
    assert used <= known, used - known
    free = [variable["name"] for variable in board["templating"]["list"] if variable["type"] == "textbox"]
    assert set(free) <= used


@each_board
def test_dashboards_lead_to_each_other(board: dict[str, Any]) -> None:
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["keepTime"], link["includeVars"]) == (
        "dashboards",
        ["aegis"],
        True,
        True,
    )


@each_board
def test_policy_changes_and_critical_decisions_are_marked(board: dict[str, Any]) -> None:
    marks = {mark["name"]: mark["expr"] for mark in board["annotations"]["list"]}
    assert 'aegis_risk_level="critical"' in marks["CRITICAL decisions"]
    assert 'event_name="aegis.policy.loaded"' in marks["Policy loaded"]
    assert 'event_name="aegis.policy.load_failed"' in marks["Policy refused"]


def test_the_audit_trail_leads_to_traces_decisions_and_conversations() -> None:
    (table,) = [panel for panel in panels() if str(panel) == "aegis-audit: Decisions"]
    links = {
        override["matcher"]["options"]: unquote(link["url"])
        for override in table.json["fieldConfig"]["overrides"]
        for wanted in override["properties"]
        if wanted["id"] == "links"
        for link in wanted["value"]
    }
    panes = json.loads(links["trace"].removeprefix("/explore?schemaVersion=1&panes="))
    assert panes["a"]["queries"][0]["query"] == "${__value.raw}"
    assert panes["a"]["queries"][0]["datasource"] == {"type": "tempo", "uid": "${tempo_datasource}"}
    for column, name in (("decision id", "decision"), ("conversation", "conversation")):
        assert links[column].startswith("/d/aegis-audit?")
        assert f"var-{name}=$" in links[column]
    renamed = table.json["transformations"][-1]["options"]["renameByName"].values()
    assert set(links) <= set(renamed), "a link is on a column that is not there"


def test_all_three_stores_are_asked() -> None:
    assert min(len(targets(store)) for store in ("prometheus", "loki", "tempo")) >= 5


def test_commands_that_are_named_exist() -> None:
    """In panels, alerts and runbooks: no one on call types a command that is not there."""
    texts = [panel.json["description"] for panel in panels()]
    texts += [rule["annotations"]["description"] for rule in grafana_rules()]
    runbooks = (ROOT / "docs/runbooks.md").read_text()
    named = {found for text in [*texts, runbooks] for found in re.findall(r"`(aegis [^`]+)`", text)}
    named |= set(re.findall(r"^ {4,}(aegis .+)$", runbooks, re.MULTILINE))
    assert len(named) > 5
    for words in (name.split() for name in named):
        command: click.Command = aegis
        for word in words[1:]:
            inner = (
                command.get_command(click.Context(command), word)
                if isinstance(command, click.Group)
                else None
            )
            if inner is None:
                break
            command = inner
        assert command is not aegis, f"`{' '.join(words)}`: there is no such command"
        options = {option for parameter in command.params for option in parameter.opts}
        missing = [word for word in words if word.startswith("--") and word not in options]
        assert not missing, f"`{' '.join(words)}`: `{command.name}` has no {missing}"
        if isinstance(command, click.Group) and not command.invoke_without_command:
            raise AssertionError(f"`{' '.join(words)}`: there is no such command")
