"""`aegis demo`: the script is the same for the same seed, and what is played is what the script says."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel import Action, Policy, PolicyError, semconv
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import Condition, compile_filters
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.cli import main
from aegis_otel.model import Approval
from aegis_otel.policy.lint import lint
from aegis_otel.policy_tools.replay.replay import replay
from examples.demo import policies
from examples.demo.play import Load, play
from examples.demo.script import AGENTS, Step, runs
from examples.demo.tools import make_agents
from tests.support.receiver import receiving
from tests.support.records import select

ROOT = Path(__file__).parents[2]
SECRETS = ("tok_demo_", "correct-horse", "demo-")


def test_a_seed_is_a_story() -> None:
    """Of as many calls as asked for, at times that fit; another seed is another."""
    story = list(runs(7, 60, 5))
    assert story == list(runs(7, 60, 5))
    assert story != list(runs(8, 60, 5))
    assert sum(run.calls for run in story) == 300
    assert all(0 <= run.at < 60 for run in story)
    assert [run.at for run in story] == sorted(run.at for run in story)
    assert {run.agent for run in story} == set(AGENTS)


def test_a_long_story_is_never_held_whole() -> None:
    """A year of calls begins at once."""
    assert next(runs(1, 365 * 86_400, 200)).number == 1


def test_agents_have_the_tools_of_their_script() -> None:
    agents = make_agents()
    for run in runs(3, 600, 5):
        tools = {tool.name for tool in agents[run.agent].tools}
        assert {step.tool for turn in run.turns for step in turn} <= tools


def test_policies() -> None:
    """The first two are sound and differ, and the third is refused for one word."""
    relaxed, tightened = Policy.from_text(policies.relaxed()), Policy.from_text(policies.tightened())
    assert (lint(relaxed), lint(tightened)) == ([], [])
    assert relaxed.digest != tightened.digest
    with pytest.raises(PolicyError, match="blok"):
        Policy.from_text(policies.mistyped())


def comes_to(step: Step, agent: str, policy: Policy) -> tuple[Any, ...]:
    """What the audit will say of a call."""
    decision = policy.evaluate(Action(step.tool, params=step.arguments, agent=agent))
    human = None
    if decision.approval is Approval.APPROVE:
        human = {"yes": "approved", "no": "denied", "late": "expired"}[step.answer]
    if decision.approval is Approval.BLOCK:
        status = "blocked"
    elif human in ("denied", "expired"):
        status = "denied"
    else:
        status = {"returns": "success", "raises": "failed", "hangs": "cancelled"}[step.end]
    return agent, step.tool, decision.matched_rule, human, status


async def test_what_is_played_is_the_script(tmp_path: Path) -> None:
    """Call by call, by the policy that was in force; and the process that died left its two."""
    load = Load(tmp_path / "audit", tmp_path / "policy.yaml", 5, 2.0, 30)
    told: list[int] = []
    said: list[str] = []
    played = await play(load, told.append, said.append)
    assert (played.calls, played.stopped, played.sent) == (60, False, True)
    assert told[-1] == load.calls
    assert len(said) == 3
    assert CapturePoint.installed is None, "the SDK is as it was"
    before, after = Policy.from_text(policies.relaxed()), Policy.from_text(policies.tightened())
    expected = Counter(
        comes_to(step, run.agent, before if run.at < 1.0 else after)
        for run in runs(5, 2.0, 30)
        for turn in run.turns
        for step in turn
    )
    expected["ops", None, "restarts_ask", None, "pending"] += 1
    expected["billing", None, "charges", None, "unknown"] += 1
    sql = "SELECT agent_name, tool_name, matched_rule, human_decision, result_status FROM audit"
    assert Counter(select(load.audit, sql)) == expected
    assert {status for *_, status in expected} >= {"blocked", "denied", "failed", "success"}
    assert select(load.audit, "SELECT count(DISTINCT policy_digest) FROM audit") == [(2,)]
    assert len(read_seals(load.audit)) == 1, "there is something to verify"


async def test_no_secret_of_the_script_is_in_the_audit(tmp_path: Path) -> None:
    load = Load(tmp_path / "audit", tmp_path / "policy.yaml", 2, 1.0, 40)
    script = str(list(runs(2, 1.0, 40)))
    assert all(secret in script for secret in SECRETS)
    await play(load, lambda _: None, lambda _: None)
    shown = str(select(load.audit, "SELECT COLUMNS(*)::VARCHAR FROM audit"))
    assert re.search(r"\[REDACTED \d+ chars\]", shown)
    assert not re.search(r"tok_demo_[0-9a-f]|correct-horse|demo-[0-9a-f]{9}", shown)


DEMO = [sys.executable, "-m", "aegis_otel", "demo"]
OPTIONS: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: it sets up the SDK's tracing for good."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([*DEMO, *arguments], env=env, timeout=60, **OPTIONS)


def test_the_summary_leads_on() -> None:
    """Every command that it names works; where an audit is already, the demo takes another directory."""
    Path("aegis_demo_audit/journal").mkdir(parents=True)
    ran = command("--minutes", "0.01", "--rate", "20")
    assert re.match(r"14 calls of \d agents: \d+ success, ", ran.stdout), ran
    commands = re.findall(r"^  aegis (.*)$", ran.stdout, re.MULTILINE)
    assert len(commands) == 3
    for each in commands:
        assert "--path aegis_demo_audit_2" in each
        assert CliRunner().invoke(main, shlex.split(each)).exit_code == 0, each
    assert "No OTLP endpoint was set" in ran.stdout
    assert "PASSED" in Path("report.html").read_text()


@pytest.mark.parametrize("after", [0.5, 3.0])
def test_an_interrupt_ends_it_with_the_summary(after: float) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*DEMO, "--minutes", "5", "--rate", "20", "--path", "here"], env=env, **OPTIONS
    )
    while not Path("here/journal").is_dir() or not list(Path("here/journal").iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert "Traceback" not in error
    assert re.search(r"^\d+ calls of \d agents? \(ended early\): ", out)
    assert "aegis report --path here" in out
    assert select("here", "SELECT count(*) FROM audit WHERE result_status IN ('open', 'unknown')") == [(0,)]


def test_only_a_new_directory_will_do() -> None:
    """What agents really did, and what the demo's did, are never in one audit."""
    Path("audit").mkdir()
    Path("audit/journal").mkdir()
    for path, said in (("audit", "exists already"), ("s3://bucket/x", "directory on this machine")):
        result = CliRunner().invoke(main, ["demo", "--path", path])
        assert result.exit_code == 2
        assert said in result.stderr
    ran = command("--minutes", "0.01", "--path", "/dev/null/x")
    assert ran.returncode in (1, 2)
    assert ran.stderr.startswith("Error: ")


@pytest.mark.parametrize("status", [200, 400])
def test_signals_go_where_they_are_told_to(status: int) -> None:
    """All three kinds, the seal's event too; and where they are refused, the summary says so."""
    with receiving() as collector:
        collector.status = status
        ran = command("--minutes", "0.01", "--rate", "20", "--endpoint", collector.endpoint)
    assert ran.returncode == 0, ran.stderr
    assert "Grafana, where it runs beside the collector: http://127.0.0.1:3000" in ran.stdout
    if status != 200:
        assert f"Not all signals arrived at {collector.endpoint}: " in ran.stdout
        assert "Failed to export" in ran.stdout
        return
    assert f"The signals went to {collector.endpoint}." in ran.stdout
    assert collector.services() == {"aegis-demo"}
    events = Counter(log.event_name for log in collector.logs())
    assert events[semconv.EVENT_DECISION] == 12, "those of the process that died went with it"
    assert events[semconv.EVENT_POLICY_LOAD_FAILED] == 1
    assert events[semconv.EVENT_AUDIT_SEALED] == 1
    assert semconv.METRIC_DECISIONS in collector.metrics()
    assert {span.name.partition(" ")[0] for span in collector.spans()} >= {
        "invoke_agent",
        "govern_tool",
        "chat",
    }


def test_an_endpoint_where_nobody_listens_is_said_at_once() -> None:
    ran = command("--endpoint", "http://127.0.0.1:9", "--path", "here", NO_PROXY="*", no_proxy="*")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "nothing receives signals at `http://127.0.0.1:9`" in ran.stderr
    assert not Path("here").exists()


async def test_its_calls_are_replayed(tmp_path: Path) -> None:
    """Its own policies decide nothing otherwise; another decides each call as it decides the script's own."""
    load = Load(tmp_path / "audit", tmp_path / "policy.yaml", 5, 4.0, 30)
    await play(load, lambda _: None, lambda _: None)
    before, after = Policy.from_text(policies.relaxed()), Policy.from_text(policies.tightened())
    with connect(load.audit) as audit:
        for each in (before, after):
            found = replay(each, audit, Condition("policy_digest = ?", [each.digest]))
            assert (found.differences, found.obstacles) == ((), ())
            assert found.same == found.calls > 50
        found = replay(after, audit, compile_filters(None, {}))
    expected: Counter[tuple[str, str, str, str]] = Counter()
    for run in runs(5, 4.0, 30):
        for step in (step for turn in run.turns for step in turn):
            action = Action(step.tool, params=step.arguments, agent=run.agent)
            was, now = (policy.evaluate(action) for policy in (before if run.at < 2.0 else after, after))
            if (was.approval, was.matched_rule) != (now.approval, now.matched_rule):
                expected[was.approval, was.matched_rule, now.approval, now.matched_rule] += 1
    assert expected
    assert found.obstacles == ()
    assert Counter({each[1:5]: each.calls for each in found.differences}) == expected
    assert found.same == found.calls - expected.total() == load.calls + 2 - expected.total()


async def test_a_policy_that_reads_more_than_the_demo_recorded_cannot_be_replayed(tmp_path: Path) -> None:
    """What the tools' validation makes of arguments that no rule read then is not known."""
    load = Load(tmp_path / "audit", tmp_path / "policy.yaml", 5, 2.0, 30)
    await play(load, lambda _: None, lambda _: None)
    rule = "name: words, match: { type: fetch_page }, conditions: { param_contains: { url: intranet } }"
    new = policies.relaxed().replace("rules:\n", f"rules:\n  - {{ {rule}, approval: block }}\n")
    (tmp_path / "new.yaml").write_text(new)
    arguments = [
        "policy",
        "replay",
        str(tmp_path / "new.yaml"),
        "--path",
        str(load.audit),
        "--format",
        "json",
    ]
    ran = CliRunner().invoke(main, arguments)
    found = json.loads(ran.output)
    steps = Counter(step.tool for run in runs(5, 2.0, 30) for turn in run.turns for step in turn)
    (obstacle,) = found["cannot_be_replayed"]
    assert obstacle["calls"] == steps["fetch_page"] > 0
    assert obstacle["reason"].startswith("rules read arguments that no rule read then")
    changed = sum(each["calls"] for each in found["differences"])
    assert found["same"] + changed + obstacle["calls"] == found["calls"] == load.calls + 2
    assert CliRunner().invoke(main, [*arguments, "--strict"]).exit_code == 1
