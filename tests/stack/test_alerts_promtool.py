"""Every alert by Prometheus' own tool: on at its fault, off in a healthy hour, and no page for a restart."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards import debian
from tests.dashboards.boards import DASHBOARDS, rules
from tests.dashboards.faults import BLOCKED, FAULTS, HEALTHY, HOUR, STEP_S, Fault

if debian.missing() and not os.environ.get("AEGIS_REQUIRE_STACK"):
    pytest.skip(str(debian.missing()), allow_module_level=True)

RULES = DASHBOARDS / "prometheus/aegis.rules.yaml"
NAMES = [rule["alert"] for rule in rules()]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(debian.program("promtool")), *arguments], capture_output=True, text=True, timeout=120
    )


def firing(alert: str = "") -> str:
    return f'count(ALERTS{{alertstate="firing"{f",alertname={alert!r}" if alert else ""}}})'.replace("'", '"')


def verdict(folder: Path, series: dict[str, str], **tests: Any) -> str:
    """What `promtool test rules` says; nothing when all is as it should be."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [
            {
                "interval": f"{STEP_S}s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                **tests,
            }
        ],
    }
    path = folder / "tests.yaml"
    path.write_text(yaml.safe_dump(document))
    ran = promtool("test", "rules", str(path))
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def at(minute: float, expr: str, count: int | None) -> dict[str, Any]:
    """An expectation: so many alerts are on at that minute; None for none."""
    expected = [] if count is None else [{"labels": "{}", "value": count}]
    return {"expr": expr, "eval_time": f"{round(minute * 60)}s", "exp_samples": expected}


def test_promtool_checks_the_rules() -> None:
    ran = promtool("check", "rules", str(RULES))
    assert ran.returncode == 0, ran.stderr
    assert f"SUCCESS: {len(NAMES)} rules found" in ran.stdout


def test_alertmanager_checks_its_configuration() -> None:
    command = [
        str(debian.program("amtool")),
        "check-config",
        str(DASHBOARDS / "prometheus/alertmanager.yaml"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_nothing_is_on_in_a_healthy_hour(tmp_path: Path) -> None:
    expected = [at(minute / 4, firing(), None) for minute in range(2 * HOUR)]
    assert verdict(tmp_path, HEALTHY, promql_expr_test=expected) == ""


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_alert_is_on_at_its_fault_and_only_then(fault: Fault, tmp_path: Path) -> None:
    expected = [at(minute, firing(fault.alert), 1) for minute in fault.on]
    expected += [at(minute, firing(fault.alert), None) for minute in fault.off]
    assert verdict(tmp_path, fault.all(), promql_expr_test=expected) == ""


def test_every_alert_has_a_fault_that_it_is_seen_to_fire_at() -> None:
    assert {fault.alert for fault in FAULTS if fault.on} == set(NAMES)


def test_promtool_tells_when_an_expectation_is_wrong(tmp_path: Path) -> None:
    """Or the tests above would say nothing."""
    assert "FAILED" in verdict(
        tmp_path, HEALTHY, promql_expr_test=[at(30, firing("AegisCriticalDecision"), 1)]
    )


def test_the_page_says_what_how_and_where(tmp_path: Path) -> None:
    """All labels and texts of a CRITICAL, as they reach Alertmanager."""
    (rule,) = [each for each in rules() if each["alert"] == "AegisCriticalDecision"]
    told = {
        "job": "shop/agents",
        "aegis_policy_rule_name": "block_deletes",
        "aegis_decision_outcome": "blocked",
        "aegis_enforcement_mode": "enforce",
    }
    expected = {
        "eval_time": "31m",
        "alertname": rule["alert"],
        "exp_alerts": [
            {
                "exp_labels": {**told, "severity": "critical"},
                "exp_annotations": {
                    "summary": "CRITICAL call of shop/agents: blocked by block_deletes",
                    "description": "An agent called a tool at CRITICAL risk, 1 time(s) in two minutes. "
                    "Outcome `blocked`, rule `block_deletes`, mode `enforce`.",
                    "runbook_url": rule["annotations"]["runbook_url"],
                    "dashboard": "aegis-audit",
                },
            }
        ],
    }
    series = {**HEALTHY, BLOCKED: "0x120 1x480"}
    assert verdict(tmp_path, series, alert_rule_test=[expected]) == ""
