"""Write what is generated: `python -m dashboards` (`make dashboards`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.alert_files import grafana_rules, prometheus_rules
from dashboards.approvals import approvals
from dashboards.audit_trail import audit_trail
from dashboards.board import Board
from dashboards.decisions import decisions
from dashboards.overview import overview
from dashboards.pipeline import pipeline

HERE = Path(__file__).parent
BOARDS = (overview, decisions, approvals, audit_trail, pipeline)


def boards() -> list[Board]:
    return [board() for board in BOARDS]


def generated() -> dict[str, str]:
    """Every generated file, by its path under `dashboards/`."""
    files = {}
    for board in boards():
        document = json.loads(JSONEncoder().encode(board.build()))
        _without_what_grafana_has_no_more(document)
        text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False)
        files[f"grafana/{board.uid}.json"] = text + "\n"
    files["prometheus/aegis.rules.yaml"] = prometheus_rules()
    files["provisioning/alerting/aegis.yaml"] = grafana_rules()
    return files


def _without_what_grafana_has_no_more(document: dict[str, Any]) -> None:
    """The SDK writes some settings of other kinds, or of older versions, to everything."""
    for variable in document["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min"):
            variable.pop(name, None)
    for panel in document["panels"]:
        if panel["type"] == "table":
            panel["options"].pop("footer", None)


def main() -> None:
    for name, text in generated().items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
