"""K4: what people read says of an answer that nobody has proven."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Runner
from click.testing import CliRunner

from aegis_otel.cli import main
from tests.cases.paused_runs import ASKS, Desk
from tests.cases.test_k4_answers import forged_yes, plant
from tests.report.test_report import Page
from tests.support.kit import Bench

BENCH = Callable[..., Bench]


@pytest.fixture
def asking(installed: BENCH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BENCH:
    """A bench whose approvals are the SDK's, with a key that its answers are proven with."""
    key = tmp_path / "approval-key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    monkeypatch.setenv("AEGIS_APPROVAL_KEY", str(key))
    return lambda **options: installed(approvals="sdk", **{"policy": ASKS} | options)


def read(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def shown(b: Bench) -> tuple[str, dict[str, Any], str]:
    """The one call as `show` prints it, as JSON, and the report's page."""
    b.runtime.audit.close()
    audit, id = str(b.audit), b.row()["decision_id"]
    text = read("audit", "show", "--db", audit, id)
    form = json.loads(read("audit", "show", "--db", audit, "--format", "json", id))
    return text, form, Page(read("report", "--path", audit, "--out", "-")).text


@pytest.mark.parametrize("chained", [False, True])
async def test_k4_a_planted_answer_is_shown_as_not_proven(asking: BENCH, chained: bool) -> None:
    """In a file that does not hold, and in one that does but without the proof."""
    b, desk = asking(), Desk()
    await desk.paused()
    plant(b.audit, forged_yes(b.row()), chained=chained)
    text, form, page = shown(b)
    assert form["row"]["human_decision"] == "approved", "that is what the line says"
    assert "answer        not proven" in text
    assert form["answer_not_proven"] is True
    assert "1 call with a human's answer that is not proven" in page


async def test_k4_a_no_that_was_turned_is_shown_as_not_proven(asking: BENCH) -> None:
    """A proven no, and a planted yes after it."""
    b, desk = asking(), Desk()
    state = await desk.state(await desk.paused())
    state.reject(state.get_interruptions()[0])
    row = b.row()
    assert row["human_decision"] == "denied"
    plant(b.audit, forged_yes(row), chained=False)
    _, form, page = shown(b)
    assert "answer that is not proven" in page
    assert form["answer_not_proven"] is True


async def test_k4_a_proven_answer_is_not_marked_holds(asking: BENCH) -> None:
    b, desk = asking(), Desk()
    await Runner.run(desk.agent(), await desk.state(await desk.approved(await desk.paused())))
    text, _, page = shown(b)
    assert desk.paid == [5]
    assert "not proven" not in text
    assert "answer that is not proven" not in page


async def test_k7_prune_says_what_it_ended(
    asking: BENCH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many questions ended as expired, also where no row was removed; and it does so once."""
    key = tmp_path / "seal.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    key.chmod(0o600)
    monkeypatch.setenv("AEGIS_SEAL_KEY", os.fspath(key))
    b, desk = asking(), Desk()
    await desk.paused(5, "call_0")
    await desk.paused(6, "call_1")
    b.runtime.audit.close()
    arguments = ("audit", "prune", "--db", str(b.audit), "--keep", "0h")
    said = "ended 2 questions that nobody answered: expired, and sealed next\nnothing to remove\n"
    assert read(*arguments) == said
    assert read(*arguments) == "nothing to remove\n"
    assert {row["human_decision"] for row in b.rows()} == {"expired"}
