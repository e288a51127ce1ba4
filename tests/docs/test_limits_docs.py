"""docs/limits.md: what it says of the calls of one turn holds for the SDK that is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT, read_page

_OPTION = "RunConfig(tool_execution=ToolExecutionConfig(max_function_tool_concurrency=1))"
_PROGRAM = f"""
import asyncio, sys
from agents import Agent, RunConfig, Runner, ToolExecutionConfig, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel

set_tracing_disabled(True)
after = {{"after": {{"type": "read_customer", "within": "run"}}}}
rule = {{"name": "no_mail", "match": {{"type": "send_email"}}, "conditions": after, "approval": "block"}}
policy = {{"version": "1", "defaults": {{"approval": "auto"}}, "rules": [rule]}}
aegis_otel.instrument(aegis_otel.Policy.from_dict(policy))

@function_tool
async def read_customer() -> str:
    await asyncio.sleep(0.01)
    return "read"

@function_tool
async def send_email() -> str:
    return "sent"

async def main() -> None:
    turn = [function_call(name, {{}}, call_id=name) for name in sys.argv[1:]]
    model = ScriptedModel([turn, [assistant_message("done")]])
    agent = Agent(name="Clerk", model=model, tools=[read_customer, send_email])
    result = await Runner.run(agent, "go", run_config={_OPTION})
    print([item.output[:15] for item in result.new_items if item.type == "tool_call_output_item"])

for _ in range(5):
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        (("read_customer", "send_email"), ["read", "[AEGIS BLOCKED]"]),
        (("send_email", "read_customer"), ["sent", "read"]),
    ],
    ids=["the read first", "the mail first"],
)
def test_one_at_a_time_they_are_judged_in_their_order(
    names: tuple[str, ...], outputs: list[str], tmp_path: Path
) -> None:
    assert f"`{_OPTION}`" in read_page("limits.md")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM, *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(outputs)] * 5
