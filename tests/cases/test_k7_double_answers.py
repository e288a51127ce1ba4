"""K7: whoever comes second with an answer, or with a run that was resumed already, leaves no row for ever."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from agents import RunConfig, Runner, ToolExecutionConfig, ToolGuardrailFunctionOutput, ToolInputGuardrail
from agents.testing import function_call
from click.testing import CliRunner

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.maintenance.retention import prune
from aegis_otel.cli import main
from tests.cases.paused_runs import ASKS, Desk
from tests.support.kit import Bench
from tests.support.records import wait_until_seen

BENCH = Callable[..., Bench]


@pytest.fixture
def asking(installed: BENCH) -> BENCH:
    """A bench whose approvals are the SDK's."""
    return lambda **options: installed(approvals="sdk", **{"policy": ASKS} | options)


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seal.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o600)
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(path))


@pytest.mark.usefixtures("key")
async def test_k7_the_loser_of_a_double_answer_ends(asking: BENCH) -> None:
    """Two processes resume one approved run: one runs, the other asks again, and that question ends."""
    b, desk = asking(), Desk()
    approved = await desk.approved(await desk.paused())
    await desk.resumed(approved)
    assert len((await desk.resumed(approved)).interruptions) == 1
    assert [row["result_status"] for row in b.rows()] == ["success", "pending"]
    b.runtime.audit.close()
    prune(b.audit, keep=timedelta(days=1))
    assert [row["result_status"] for row in b.rows()] == ["success", "pending"], "it may still be answered"
    prune(b.audit, keep=timedelta(0))
    first, second = b.rows()
    assert (first["result_status"], first["human_decision"]) == ("success", "approved")
    assert (second["result_status"], second["human_decision"]) == ("denied", "expired")
    b.runtime.audit.close()
    seal(b.audit)
    wait_until_seen(b.audit)
    prune(b.audit, keep=timedelta(0))
    wait_until_seen(b.audit)
    assert b.rows() == []


@pytest.mark.usefixtures("key")
async def test_k7_an_answer_after_its_end_does_not_count(asking: BENCH) -> None:
    """Who answers a question that has ended is asked again when the run is resumed."""
    b, desk = asking(), Desk()
    saved = await desk.paused()
    b.runtime.audit.close()
    prune(b.audit, keep=timedelta(0))
    approved = await desk.approved(saved)
    assert len((await desk.resumed(approved)).interruptions) == 1
    assert desk.paid == []
    assert [row["result_status"] for row in b.rows()] == ["denied", "pending"]


async def test_k7_two_answers_at_once_holds(asking: BENCH) -> None:
    """A no that came first is final: the yes raises, and the row keeps what it says."""
    b, desk = asking(), Desk()
    saved = await desk.paused()
    yes, no = await desk.state(saved), await desk.state(saved)
    no.reject(no.get_interruptions()[0])
    assert b.row()["result_status"] == "denied"
    yes.approve(yes.get_interruptions()[0])  # there is no question any more
    assert len((await Runner.run(desk.agent(), yes)).interruptions) == 1
    assert desk.paid == []
    assert [row["result_status"] for row in b.rows()] == ["denied", "pending"]


async def test_k7_a_question_that_a_guardrail_settles_ends(asking: BENCH) -> None:
    """Guardrails that run before the approval reject the call that was just put to a human."""
    b, desk = asking(), Desk()
    no = ToolInputGuardrail(lambda data: ToolGuardrailFunctionOutput.reject_content("theirs"))
    desk.tool.tool_input_guardrails = [no]
    early = RunConfig(tool_execution=ToolExecutionConfig(pre_approval_tool_input_guardrails=True))
    agent = desk.agent(function_call("refund", {"amount": 5}, call_id="call_0"))
    assert not (await Runner.run(agent, "go", run_config=early)).interruptions
    assert (b.row()["result_status"], b.row()["human_decision"]) == ("skipped", None)
    (told,) = b.telemetry.events("aegis.tool.decision")
    assert told["aegis.decision.outcome"] == "expired"


async def test_k7_the_alert_sees_questions_of_paused_runs(asking: BENCH) -> None:
    """They wait in the inbox, whose metric the alert reads; the runbook's commands show them."""
    b, desk = asking(), Desk()
    await desk.paused(5, "call_0")
    await desk.paused(6, "call_1")
    until = time.monotonic() + 20
    while not (waiting := b.telemetry.points("aegis.inbox.waiting")) and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert sum(waiting.values()) == 2
    assert sum(b.telemetry.points("aegis.approval.pending").values()) == 0
    b.runtime.audit.close()
    page = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text(encoding="utf-8")
    runbook = page.partition("## AegisApprovalBacklog")[2].partition("## ")[0]
    commands = re.findall(r"^    aegis (.+)$", runbook, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        shown = CliRunner().invoke(main, command.split(), env={"AEGIS_AUDIT_DIR": str(b.audit)})
        assert (shown.exit_code, shown.stdout.count("refund")) == (0, 2), command
