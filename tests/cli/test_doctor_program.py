"""`aegis doctor MODULE:AGENT` of a program that governs itself: what it set up is what is looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.cli import main as aegis

PROGRAM = """
import aegis_otel
from aegis_otel import Policy, Runtime
from aegis_otel.runtime.approval import DenyApprovalHandler
from agents import Agent, function_tool

@function_tool
def look(x: int) -> str:
    return ""

mine = aegis_otel.instrument({arguments})
clerk = Agent(name="Clerk", tools=[look])
"""
OWN = "policy='own.yaml', audit_dir='own_audit'"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Without settings of the environment: what is there, the program set up."""
    for name in ("AEGIS_POLICY", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "own.yaml").write_text(
        "defaults: { approval: auto }\nrules: [{ name: a, approval: block }]\n"
    )
    yield tmp_path
    program = sys.modules.pop("doctor_program_of_its_own", None)
    if program is not None:
        program.mine.shutdown()
    assert CapturePoint.installed is None


def doctor(folder: Path, arguments: str, *options: str) -> tuple[int, dict[str, tuple[str, str]]]:
    (folder / "doctor_program_of_its_own.py").write_text(PROGRAM.format(arguments=arguments))
    command = ["doctor", "doctor_program_of_its_own:clerk", "--format", "json", *options]
    result = CliRunner().invoke(aegis, command, catch_exceptions=False)
    report: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, {each["name"]: (each["status"], each["detail"]) for each in report["checks"]}


def test_it_is_said_with_what(folder: Path) -> None:
    """Mode, policy, audit and who is asked; not those that the environment would mean, which has none."""
    code, found = doctor(folder, OWN + ", mode='monitor', approval_handler=DenyApprovalHandler()")
    assert code == 0
    assert found["program"] == (
        "ok",
        "governs itself: mode `monitor`, approvals `handler`, on_ungoverned `warn`",
    )
    status, detail = found["policy"]
    assert (status, detail[:32]) == ("ok", "`own.yaml` valid, rules: 1, sha2")
    assert found["audit"] == ("ok", f"`{folder / 'own_audit'}` can be written")
    assert found["approvals"] == ("ok", "nobody is asked in monitor mode")
    assert "settings" not in found
    assert not (folder / "aegis_audit").exists()


def test_its_policy_is_looked_at(folder: Path) -> None:
    (folder / "own.yaml").write_text("rules: [{ name: a }, { name: b }]\n")
    code, found = doctor(folder, OWN + ", approvals='sdk'")
    assert code == 1
    assert found["policy lint"][0] == "failed"
    assert "can never match" in found["policy lint"][1]
    assert found["approvals"] == ("ok", "asked for by the SDK's interruptions")


def test_a_policy_that_is_given_is_looked_at_instead(folder: Path) -> None:
    (folder / "other.yaml").write_text("rules: []\n")
    handler = ", approval_handler=DenyApprovalHandler()"
    _, found = doctor(folder, OWN + handler, "--policy", "other.yaml")
    assert found["approvals"] == ("ok", "asked for by its `DenyApprovalHandler`")
    assert found["policy"][1].startswith("valid, rules: 0, ")
    assert found["program"][0] == "ok"


def test_a_runtime_of_its_own(folder: Path) -> None:
    code, found = doctor(folder, "runtime=Runtime(policy=Policy.from_dict({'rules': []}))")
    assert code == 0
    assert "mode `enforce`" in found["program"][1]
    assert found["policy"][1].startswith("`<policy>` valid, rules: 0, ")
    assert found["approvals"][0] == "warning"
