"""K4: one yes is to one run of the body, however many resume the paused run at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import Runner

from aegis_otel.governance.approvals.paused.paused_calls import ShownCall
from aegis_otel.governance.approvals.question import ApprovalAnswer
from tests.cases.paused_runs import ALLOWS, ASKS, Desk
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
USED = "[AEGIS ERROR] Action not run: its approval was used or withdrawn meanwhile"


@pytest.mark.parametrize(("policy", "own"), [(ALLOWS, True), (ASKS, False), (ASKS, True)])
async def test_k4_one_yes_runs_one_of_those_that_resume_at_once(
    installed: BENCH, policy: dict[str, Any], own: bool
) -> None:
    """The others find the answer taken, and ask no handler in its place."""
    b, desk = installed(True, True, True, policy=policy, approvals="sdk"), Desk(asks=own)
    saved = await desk.approved(await desk.paused())
    results = await asyncio.gather(*[desk.resumed(saved) for _ in range(4)])
    assert desk.paid == [5]
    assert b.approver.asked == []
    read = [item.output for result in results for item in result.new_items if hasattr(item, "output")]
    assert sorted(read) == [USED] * (len(read) - 1) + ["refunded 5"]
    rows = b.rows()
    assert [row["result_status"] for row in rows].count("success") == 1
    assert {row["reason"] for row in rows if row["result_status"] == "blocked"} <= {"approval_used"}
    assert len(read) + sum(len(result.interruptions) for result in results) == len(results)


async def test_k4_a_yes_withdrawn_while_the_run_goes_on_runs_nothing(
    installed: BENCH, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A no that is given between the SDK's question and the body is final."""
    b, desk = installed(policy=ALLOWS, approvals="sdk"), Desk(asks=True)
    saved = await desk.approved(await desk.paused())
    other = await desk.state(saved)
    item = other.get_interruptions()[0]
    take_over = type(b.runtime.audit).take_over

    def late(audit: Any, *given: Any, **named: Any) -> Any:
        paused_calls = b.runtime.governor.paused_calls
        waiting = paused_calls.find(
            ShownCall("call_0", "refund", "Desk", item.arguments), b.rows()[0]["run_id"]
        )
        assert waiting is not None
        paused_calls.answer(waiting, item.arguments, [ApprovalAnswer(False, "bob")])
        return take_over(audit, *given, **named)

    monkeypatch.setattr(type(b.runtime.audit), "take_over", late)
    result = await Runner.run(desk.agent(), await desk.state(saved))
    assert desk.paid == []
    assert [item.output for item in result.new_items if hasattr(item, "output")] == [USED]
    assert [row["result_status"] for row in b.rows()] == ["denied", "blocked"]
