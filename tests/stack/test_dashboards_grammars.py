"""LogQL and TraceQL by Grafana's own grammars, and the dashboards by its published types."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import semconv
from tests.dashboards import node
from tests.dashboards.boards import Target, boards, expanded, grafana_rules, marks, targets
from tests.dashboards.test_names import LOKI_OWN

if node.missing() and not os.environ.get("AEGIS_REQUIRE_STACK"):
    pytest.skip(str(node.missing()), allow_module_level=True)

SPAN_ATTRIBUTES = {f"span.{name}" for span in semconv.SPANS for name in span.attributes}
EVENT_ATTRIBUTES = {name.replace(".", "_") for event in semconv.EVENTS for name in event.attributes}


def queries() -> list[Target]:
    ruled = [
        Target(f"Grafana's rule {rule['title']}", "loki", query["model"]["expr"])
        for rule in grafana_rules()
        for query in rule["data"]
        if query["datasourceUid"] == "loki"
    ]
    return [*targets("loki"), *marks(), *ruled, *targets("tempo")]


def test_every_logql_and_traceql_expression_parses_and_names_what_is_emitted() -> None:
    asked = queries()
    assert len(asked) > 30
    known = {"loki": EVENT_ATTRIBUTES | LOKI_OWN, "tempo": SPAN_ATTRIBUTES | {"resource.service.name"}}
    for target, answer in zip(
        asked, node.parsed([(each.store, expanded(each.expr)) for each in asked]), strict=True
    ):
        assert not answer["errors"], f"{target}: {answer['errors'][0]}"
        assert answer["names"], target
        assert set(answer["names"]) <= known[target.store], f"{target}: {set(answer['names'])}"


@pytest.mark.parametrize(
    ("store", "expr"),
    [
        ("loki", '{service_name=~".+"} | event_name=="x"'),
        ("loki", 'sum by (a) (count_over_time({service_name="x"} [1m])'),
        ("tempo", '{ span.aegis.risk.level == "critical" }'),
        ("tempo", "{ span.a = 1 } | selekt(span.a)"),
    ],
)
def test_the_grammars_refuse_what_is_wrong(store: str, expr: str) -> None:
    (answer,) = node.parsed([(store, expr)])
    assert answer["errors"]


COMPOSABLE = "@grafana/schema/dist/esm/raw/composable"
KINDS = {
    "timeseries": "TimeSeries",
    "stat": "Stat",
    "table": "Table",
    "bargauge": "BarGauge",
    "heatmap": "Heatmap",
    "logs": "Logs",
    "statetimeline": "StateTimeline",
}
"""Panel type -> what its options are called among the published types."""
MARKS = """
type Query = { refId: string; expr: string; queryType: string; direction: string; maxLines: number };
type Mark = { expr: string; titleFormat: string; tagKeys: string };
type Annotations = { annotations?: { list?: (AnnotationQuery<Query & DataQuery> & Mark)[] } };
type Board = Plain<Omit<Dashboard, "annotations"> & Annotations>;
"""
"""What Loki adds to an annotation: the queries of data sources are not among the published types."""


def imports() -> str:
    lines = [
        'import type { AnnotationQuery, Dashboard, DataQuery } from "@grafana/schema";',
        'import type { Plain } from "./plain.js";',
    ]
    for kind, name in KINDS.items():
        path = f"{COMPOSABLE}/{kind}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f'import type {{ Options as {name} }} from "{path}";')
    return "\n".join([*lines, MARKS])


def as_typescript(documents: Sequence[dict[str, Any]]) -> str:
    """Each dashboard and each panel's options, with the type that it must have."""
    said = [imports()]
    for number, board in enumerate(documents):
        said.append(f"export const board{number}: Board = {json.dumps(board, indent=1)};")
        for panel in board["panels"]:
            where = f"{number}_{panel['id']}"
            if panel["type"] in KINDS:
                options = json.dumps(panel["options"])
                said.append(
                    f"export const options{where}: Plain<Partial<{KINDS[panel['type']]}>> = {options};"
                )
    return "\n".join(said)


def test_every_dashboard_is_of_grafanas_published_type(tmp_path: Path) -> None:
    """`@grafana/schema` has the classic dashboard as TypeScript; what it does not know is an error."""
    assert node.type_errors(as_typescript(boards()), tmp_path) == []


def broken(board: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(board))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("graphTooltips",), 1),
        (("panels", 1, "gridPos", "h"), "tall"),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "mode"), "some"),
        (("annotations", "list", 0, "iconColour"), "red"),
        (("panels", 1, "options", "graphMode"), "pie"),
    ],
    ids=str,
)
def test_the_published_types_refuse_what_is_wrong(path: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    wrong = broken(next(board for board in boards() if board["uid"] == "aegis-overview"), *path, value=value)
    found = node.type_errors(as_typescript([wrong]), tmp_path)
    assert any(str(path[-1]) in line or str(value) in line for line in found), found
