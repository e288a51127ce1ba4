"""K9: what a newcomer meets at the start and at the end of a program."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, function_call
from pydantic import BaseModel

import aegis_otel
from aegis_otel import Action, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.approval import CLIApprovalHandler
from tests.support.kit import POLICY, Bench

BENCH = Callable[..., Bench]
ROOT = Path(aegis_otel.__file__).parents[1]
RULES = 'version: "1"\nrules: [{ name: all, match: { type: "*" }, approval: auto, risk_level: low }]\n'


def program(place: Path, code: str, *, loader: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as a program of its own in `place`, which is in front of everything that is installed."""
    (place / "app.py").write_text(code)
    (place / "policy.yaml").write_text(RULES)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "OTEL_", "OPENAI_"))}
    path = os.pathsep.join([str(place), str(ROOT)])
    wrapper = [str(Path(sys.executable).with_name("opentelemetry-instrument"))] if loader else []
    return subprocess.run(
        [*wrapper, sys.executable, "app.py"],
        cwd=place,
        env={**kept, "PYTHONPATH": path, "OPENAI_AGENTS_DISABLE_TRACING": "1", **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


def old_sdk(place: Path) -> None:
    """An SDK of version 0.20 as far as it matters: its metadata, and imports that fail as its own do."""
    (place / "agents").mkdir()
    (place / "agents" / "__init__.py").write_text("import httpx_that_is_not_here\n")
    metadata = place / "openai_agents-0.20.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 0.20.3\n")


NEEDED = "openai-agents 0.20.3 is installed, and 0.21 or newer is needed: run `pip install"


@pytest.mark.parametrize(
    "code",
    [
        'import aegis_otel; aegis_otel.instrument("policy.yaml")',
        "from aegis_otel.adapters.openai_agents import governed_tool",
        'import aegis_otel; aegis_otel.AegisTracingProcessor("policy.yaml")',
    ],
)
def test_k9_an_old_sdk_is_named(code: str, tmp_path: Path) -> None:
    old_sdk(tmp_path)
    done = program(tmp_path, code)
    assert f"ConfigError: {NEEDED}" in done.stderr
    assert "httpx_that_is_not_here" not in done.stderr


def test_k9_an_old_sdk_runs_nothing_ungoverned(tmp_path: Path) -> None:
    """Under the loader, which passes over what is raised, the program does not begin."""
    old_sdk(tmp_path)
    for loader, code in ((True, "print('BEGAN')"), (False, BY_HAND)):
        done = program(tmp_path, code, loader=loader, AEGIS_POLICY="policy.yaml")
        assert (done.returncode, done.stdout) == (1, "")
        assert NEEDED in done.stderr
        assert "Traceback" not in done.stderr


BY_HAND = """\
from aegis_otel import AegisInstrumentor
AegisInstrumentor().instrument(policy="policy.yaml")
print("BEGAN")
"""


@pytest.mark.timeout(300)
def test_k9_instrument_beside_the_loader_names_the_loader(tmp_path: Path) -> None:
    """With and without a policy in the environment: who was first, and what to change."""
    code = 'import aegis_otel\naegis_otel.instrument("policy.yaml", approvals="sdk")\n'
    refusing = program(tmp_path, code, loader=True)
    governing = program(tmp_path, code, loader=True, AEGIS_POLICY="policy.yaml")
    for done in (refusing, governing):
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(
            "aegis_otel.errors.ConfigError: `opentelemetry-instrument` has loaded aegis before"
        )
        assert "set AEGIS_POLICY" in last
        assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=aegis" in last
    assert "refuses every tool call" in refusing.stderr.splitlines()[-1]
    alone = program(tmp_path, code, loader=True, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="aegis")
    assert alone.returncode == 0, alone.stderr


DEAD = """\
import asyncio, time
from aegis_otel import Action, Policy, Runtime, Result, ResultStatus, configure_otlp
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.errors import ConfigError
configure_otlp()
class Executor(BaseExecutor):
    async def execute(self, action):
        return Result(action=action, status=ResultStatus.SUCCESS)
policy = Policy.from_dict({"version": "1", "defaults": {"approval": "auto", "risk_level": "critical"}})
print(asyncio.run(Runtime(policy=policy, executor=Executor()).run_one(Action("x"))))
print(time.time())
"""


@pytest.mark.parametrize("signal", ["", "_LOGS"])
def test_k9_a_dead_endpoint_is_one_line_and_a_short_end(signal: str, tmp_path: Path) -> None:
    """The line names endpoint and variable, without its password; what was lost is said."""
    variable = f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT"
    done = program(tmp_path, DEAD, **{variable: "http://ann:hunter2@127.0.0.1:9"})
    ended = time.time()
    assert "[OK]" in done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith(f"signals do not reach http://127.0.0.1:9 ({variable})")
    assert re.search(r"signals were lost at the end: .*\d+ log records", lines[1])
    assert "hunter2" not in done.stderr
    assert ended - float(done.stdout.split()[-1]) < 12


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action=action, status=ResultStatus.SUCCESS)


async def test_k9_the_terminal_shows_deadline_and_id(bench: BENCH, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("y\n")
    with (tmp_path / "in").open() as stdin, (tmp_path / "out").open("w") as out:
        handler = CLIApprovalHandler(stdin=stdin, stdout=out)
        b = bench(approver=handler, executor=Executor(), timeout=300)
        assert (await b.runtime.run_one(Action("write_x"))).ok
    shown = (tmp_path / "out").read_text()
    assert f"  Id:      {b.row()['decision_id']}\n" in shown
    assert re.search(r"  Until:   \d\d:\d\d:\d\d UTC([+-]\d\d:\d\d)?, in (300|29\d) s\n", shown)


class Answer(BaseModel):
    text: str


async def test_k9_a_refusal_as_final_output_is_documented(tmp_path: Path) -> None:
    """What docs/approvals.md says of `stop_on_first_tool` is what happens."""

    @function_tool
    def delete_x() -> str:
        raise AssertionError("the body ran")

    instrumentation = aegis_otel.instrument(Policy.from_dict(POLICY), audit_dir=tmp_path / "audit")
    try:
        model = ScriptedModel([[function_call("delete_x", {}, call_id="1")]])
        agent = Agent(name="A", tools=[delete_x], output_type=Answer, tool_use_behavior="stop_on_first_tool")
        result = await Runner.run(agent, "go", run_config=RunConfig(model=model))
    finally:
        await asyncio.to_thread(instrumentation.shutdown)
    assert result.final_output == "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes"
    said = (ROOT / "docs" / "approvals.md").read_text()
    assert "stop_on_first_tool" in said


def test_k9_the_first_run_is_explained() -> None:
    """The SDK's own line, which the first run shows, is in the README beside what the run prints."""
    assert "`OPENAI_API_KEY is not set, skipping trace export`" in (ROOT / "README.md").read_text()


def test_k9_14_the_time_that_the_collector_takes_to_build_is_said() -> None:
    """Where the command is named first, and nowhere otherwise."""
    page = (ROOT / "collector" / "README.md").read_text(encoding="utf-8")
    first = next(line for line in page.splitlines() if "make collector" in line)
    assert "the first time, about eleven minutes on two cores" in first
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "collector" / "README.md"]
    assert not [each.name for each in pages if "six minutes" in each.read_text(encoding="utf-8")]


def test_k9_an_approval_key_that_cannot_be_used_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a handler too: the answers of such a program would have no proof, and could not be sealed."""
    monkeypatch.setenv("AEGIS_APPROVAL_KEY", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"there is no approval key `.*/nowhere`: make one with"):
        aegis_otel.instrument(Policy.from_dict(POLICY), approvals="handler", audit_dir=tmp_path / "audit")
    assert CapturePoint.installed is None


def test_k9_redaction_settings_that_are_not_there() -> None:
    with pytest.raises(ConfigError) as refused:
        aegis_otel.instrument(Policy.from_dict(POLICY), redaction="nowhere.yaml")
    said = "the redaction settings in `nowhere.yaml` cannot be read: no such file or directory"
    assert str(refused.value) == said


def test_k9_redaction_settings_that_are_empty(tmp_path: Path) -> None:
    """A file that was cut off says nothing of what it hid."""
    (tmp_path / "redaction.yaml").write_text("# names: [iban]\n")
    with pytest.raises(ConfigError, match=r"redaction\.yaml` are empty: write `\{\}` where nothing is set"):
        aegis_otel.instrument(Policy.from_dict(POLICY), redaction=tmp_path / "redaction.yaml")
