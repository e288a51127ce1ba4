"""`opentelemetry-instrument python app.py`: governed without a line of code, never ungoverned by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_otel.runtime.audit import AuditLogger

APP = """\
import asyncio, sys

def say(line):
    sys.stdout.write(line + "\\n")  # at once: tools run in threads

from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

@function_tool
def read_it() -> str:
    say("BODY read_it")
    return "read"

@function_tool
def drop() -> str:
    say("BODY drop")
    return "dropped"

calls = [function_call("read_it", {}, call_id="1"), function_call("drop", {}, call_id="2")]
model = ScriptedModel([calls, [assistant_message("done")]])
asyncio.run(Runner.run(Agent(name="A", tools=[read_it, drop]), "go", run_config=RunConfig(model=model)))
for item in model.calls[-1].input:
    if isinstance(item, dict) and item.get("type") == "function_call_output":
        say("READ " + item["output"])
"""

POLICY = """\
version: "1"
rules:
  - { name: reads, match: { type: "read_*" }, approval: auto, risk_level: low }
  - { name: nothing_else, match: { type: "*" }, approval: block, risk_level: critical }
"""

REFUSED = "READ [AEGIS ERROR] Action not run: governance is unavailable: "

MOVED = """\
import types
from aegis_otel.adapters.openai_agents.capture import function_tools
unread = types.ModuleType("unread")
vars(unread).update(vars(function_tools.tool_execution))
function_tools.tool_execution, function_tools.INVOKER = unread, "renamed_invoker"
from aegis_otel import AegisInstrumentor
AegisInstrumentor().instrument()
"""


def run(place: Path, app: str = APP, *, loader: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would, with nothing of `AEGIS_*` and `OTEL_*` but what is given."""
    (place / "app.py").write_text(app)
    (place / "policy.yaml").write_text(POLICY)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AEGIS_", "OTEL_", "OPENAI_"))
    }
    wrapper = [str(Path(sys.executable).with_name("opentelemetry-instrument"))] if loader else []
    return subprocess.run(
        [*wrapper, sys.executable, "app.py"],
        cwd=place,
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_it_governs(tmp_path: Path) -> None:
    """Two environment settings at most, no code: the blocked body does not run, both calls have rows."""
    done = run(tmp_path, AEGIS_POLICY="policy.yaml", AEGIS_AUDIT_DIR="kept")
    assert done.stdout.splitlines() == [
        "BODY read_it",
        "READ read",
        "READ [AEGIS BLOCKED] Action blocked by policy rule: nothing_else",
    ], done.stderr
    rows = AuditLogger(tmp_path / "kept").get_log()
    assert {(row["tool_name"], row["result_status"]) for row in rows} == {
        ("read_it", "success"),
        ("drop", "blocked"),
    }


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({}, 'no policy: pass `policy="policy.yaml"` or set `AEGIS_POLICY`'),
        ({"AEGIS_POLICY": "gone.yaml"}, "gone.yaml: policy file not found"),
        ({"AEGIS_POLICY": "broken.yaml"}, "broken.yaml:1:10: unknown key `aproval`"),
        ({"AEGIS_POLICY": "policy.yaml", "AEGIS_AUDIT_DIR": "broken.yaml/audit"}, "broken.yaml"),
        ({"AEGIS_POLICY": "policy.yaml", "AEGIS_MODE": "x"}, "`AEGIS_MODE` is `x`: expected enforce or"),
    ],
    ids=["none", "missing", "broken", "audit", "setting"],
)  # fmt: skip
def test_where_it_cannot_start_every_call_is_refused_with_the_reason(
    tmp_path: Path, env: dict[str, str], reason: str
) -> None:
    (tmp_path / "broken.yaml").write_text("rules: [{aproval: block}]")
    done = run(tmp_path, **env)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    assert all(line.startswith(REFUSED) and reason in line for line in lines), lines
    assert "every tool call is refused" in done.stderr


def test_refused_calls_are_recorded_where_they_can_be(tmp_path: Path) -> None:
    """A refusal for want of a policy is a decision like every other."""
    run(tmp_path, AEGIS_AUDIT_DIR="kept")
    rows = AuditLogger(tmp_path / "kept").get_log()
    columns = "result_status", "reason", "risk_level", "matched_rule", "policy_digest"
    assert [tuple(map(row.get, columns)) for row in rows] == [
        ("blocked", "governance_unavailable", "CRITICAL", "<error>", None)
    ] * 2


def test_an_sdk_whose_fields_moved_runs_nothing(tmp_path: Path) -> None:
    """Where calls cannot be refused one by one, the run is."""
    done = run(tmp_path, MOVED + APP, loader=False, AEGIS_POLICY="policy.yaml")
    assert "BODY" not in done.stdout
    assert done.returncode == 1
    assert (
        "ConfigError: [AEGIS ERROR] Action not run: governance is unavailable: the self-test" in done.stderr
    )


HIDDEN = """\
import sys
sys.modules["agents.testing"] = None  # as in an SDK that has no such module
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize()
del sys.modules["agents.testing"]
"""

BROKEN_OFF = """\
from opentelemetry.instrumentation.auto_instrumentation import _load
class Other:
    def instrument(self, **settings): raise RuntimeError("not mine to say")
class Entry:
    name = "other"
    def load(self): return Other
found = _load.entry_points
def entry_points(**which):
    theirs = [Entry()] if which.get("group") == "opentelemetry_instrumentor" else []
    return [*theirs, *found(**which)]
_load.entry_points = entry_points
_load._EntryPointDistFinder.dist_for = lambda self, entry: None
_load.get_dist_dependency_conflicts = lambda dist: None
from opentelemetry.instrumentation.auto_instrumentation import initialize
try:
    initialize(swallow_exceptions=True)
except RuntimeError:
    pass
"""


@pytest.mark.parametrize("start", [HIDDEN, BROKEN_OFF], ids=["module missing", "another one raises"])
def test_where_the_loader_passes_over_us_nothing_runs(tmp_path: Path, start: str) -> None:
    """It goes on without a word where a module is missing, and stops where another instrumentor raises."""
    done = run(tmp_path, start + APP, loader=False, AEGIS_POLICY="policy.yaml")
    assert "BODY" not in done.stdout, done.stderr
    assert done.returncode == 1
    assert "[AEGIS ERROR] Action not run: governance is unavailable: " in done.stderr


def test_switched_off_it_is_off(tmp_path: Path) -> None:
    done = run(tmp_path, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="openai_agents, aegis")
    assert "BODY drop" in done.stdout, done.stderr


def test_a_secret_in_a_broken_policy_stays_there(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("rules: [{approval: 'password=hunter2hunter2'}]")
    done = run(tmp_path, AEGIS_POLICY="broken.yaml")
    assert "broken.yaml:1:" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_monitor_mode_stops_nothing_even_then(tmp_path: Path) -> None:
    done = run(tmp_path, AEGIS_MODE="monitor")
    assert done.stdout.splitlines() == ["BODY read_it", "BODY drop", "READ read", "READ dropped"], done.stderr
    assert "neither governed nor recorded" in done.stderr


def test_two_files_are_merged(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(
        'version: "1"\nrules: [{ name: drops, match: { type: drop }, approval: auto, risk_level: high }]\n'
    )
    done = run(tmp_path, AEGIS_POLICY=f"first.yaml{os.pathsep}policy.yaml")
    assert "BODY drop" in done.stdout, done.stderr
