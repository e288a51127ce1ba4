"""Write what is generated: `python -m dashboards` (`make dashboards`)."""

from __future__ import annotations

from pathlib import Path

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
        text = JSONEncoder(sort_keys=True, indent=2).encode(board.build())
        files[f"grafana/{board.uid}.json"] = text + "\n"
    files["prometheus/aegis.rules.yaml"] = prometheus_rules()
    files["provisioning/alerting/aegis.yaml"] = grafana_rules()
    return files


def main() -> None:
    for name, text in generated().items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
