"""Who may answer the SDK's interruptions, how many of them, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from aegis_otel import AuditError, Policy, acting_for
from aegis_otel.adapters.openai_agents import answered_by
from aegis_otel.audit.record import AuditRecord
from aegis_otel.audit.verify.verify import verify
from aegis_otel.governance.approvals.paused.paused_calls import ShownCall
from aegis_otel.governance.approvals.question import ApprovalAnswer
from aegis_otel.governance.recording import timestamp, unix_ns
from aegis_otel.runtime.audit import AuditLogger
from tests.adapters.openai_agents.capture.test_sdk_approvals import DENIED, Clerk, act, asking, outcomes
from tests.support.kit import Bench

__all__ = ["asking"]  # a fixture
BENCH = Callable[..., Bench]
ANN, BOB, CARL = "ann@ops", "bob@ops", "carl@ops"
OPS = {"users": ["*@ops"], "count": 2}


def policy(approvers: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "name": "r",
        "match": {"type": "act"},
        "approval": "approve",
        "risk_level": "high",
    }
    rule |= keys if approvers is None else {"approvers": approvers, **keys}
    return {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}, "rules": [rule]}


async def paused(b: Bench, user: str | None = CARL) -> tuple[Clerk, Any]:
    """Return an agent whose run waits, and its saved state."""
    clerk = Clerk(b, [act()])
    if user is None:
        return clerk, await clerk.saved(await clerk.run())
    with acting_for(user=user):
        return clerk, await clerk.saved(await clerk.run())


async def resumed(clerk: Clerk, state: Any, user: str = CARL) -> Any:
    with acting_for(user=user):
        return await clerk.run(state)


async def test_two_persons_say_yes(asking: BENCH) -> None:
    b = asking(policy=policy(OPS))
    clerk, state = await paused(b)
    with answered_by(ANN, BOB, "mallory", reason="seen"):
        state.approve(state.get_interruptions()[0])
    await resumed(clerk, state)
    assert clerk.ran == ["act 1"]
    row = b.row()
    assert (row["approver"], row["approval_reason"], row["outcome"]) == (f"{ANN}, {BOB}", "seen", "approved")
    assert outcomes(b) == {"c1": "approved"}
    assert verify(b.audit).findings == []


@pytest.mark.parametrize(
    ("approvers", "who", "roles", "why"),
    [
        (OPS, (ANN,), (), "1 more person has to say yes"),
        (OPS, (ANN, ANN.upper()), (), "1 more person has to say yes"),
        (OPS, (ANN, CARL), (), "carl@ops does not count: it is by the user that the agent acts for"),
        (OPS, (ANN, "mallory"), (), "mallory does not count: they are none of the rule's approvers"),
        ({"roles": "finance"}, (ANN,), ["ops"], "they are none of the rule's approvers"),
        ({"roles": "finance"}, (ANN, BOB), {CARL: ["finance"]}, "they are none of the rule's approvers"),
    ],
)
async def test_a_yes_that_does_not_count_changes_nothing(
    approvers: dict[str, Any], who: tuple[str, ...], roles: Any, why: str, asking: BENCH
) -> None:
    """Neither for the SDK nor in the audit: those who may answer can do so after it."""
    b = asking(policy=policy(approvers))
    clerk, state = await paused(b)
    (interruption,) = state.get_interruptions()
    with answered_by(*who, roles=roles), pytest.raises(AuditError, match=why):
        state.approve(interruption)
    with answered_by("mallory"), pytest.raises(AuditError, match="mallory does not count"):
        state.reject(interruption)
    with pytest.raises(AuditError, match="an answer without a name does not count"):
        state.approve(interruption)
    assert b.row()["result_status"] == "pending"
    assert len((await resumed(clerk, state)).interruptions) == 1, "it still waits"
    assert clerk.ran == []
    with answered_by(ANN, BOB, roles={ANN: ["finance"], BOB: ("x",)}):
        state.approve(interruption)
    await resumed(clerk, state)
    assert clerk.ran == ["act 1"]


async def test_one_no_is_a_no(asking: BENCH) -> None:
    b = asking(policy=policy(OPS))
    clerk, state = await paused(b)
    with answered_by(ANN):
        state.reject(state.get_interruptions()[0])
    await resumed(clerk, state)
    assert (clerk.ran, clerk.read) == ([], [DENIED])
    assert (b.row()["outcome"], b.row()["approver"]) == ("denied", ANN)


async def test_it_must_be_known_who_is_somebody_else(asking: BENCH) -> None:
    """Else nobody could answer: the call is refused at once, and nothing waits."""
    b = asking(policy=policy(OPS))
    clerk = Clerk(b, [act()])
    assert (await clerk.run()).interruptions == []
    assert clerk.read == ["[AEGIS DENIED] Approval could not be obtained"]
    assert "it is not known which user the agent acts for" in b.row()["result_error"]


async def test_where_it_may_be_the_same_person_it_need_not_be_known(asking: BENCH) -> None:
    clerk, state = await paused(asking(policy=policy(OPS | {"self": True})), None)
    with answered_by(ANN, BOB):
        state.approve(state.get_interruptions()[0])
    await clerk.run(state)
    assert clerk.ran == ["act 1"]


async def test_a_masked_name_is_known_for_the_requester(asking: BENCH) -> None:
    """The row does not have the name, but its digest."""
    secret = "sk-live-4eC39HqLyjWDarjtT1zdp7dc"
    b = asking(policy=policy({"count": 1}))
    clerk, state = await paused(b, secret)
    assert b.row()["user_id"].startswith("[REDACTED")
    with answered_by(secret), pytest.raises(AuditError, match="by the user that the agent acts for"):
        state.approve(state.get_interruptions()[0])
    with answered_by(ANN):
        state.approve(state.get_interruptions()[0])
    await resumed(clerk, state, secret)
    assert clerk.ran == ["act 1"]


async def test_roles_are_a_list() -> None:
    for wrong in ((ANN, "finance"), (ANN, BOB, ["finance"])):
        with (
            pytest.raises(TypeError, match="`roles` must be a list"),
            answered_by(*wrong[:-1], roles=wrong[-1]),
        ):
            pass


async def test_a_yes_to_other_persons_is_none(asking: BENCH) -> None:
    """The policy has changed since: those whom it names now are asked."""
    b = asking(policy=policy({"users": [ANN]}))
    clerk, state = await paused(b)
    with answered_by(ANN):
        state.approve(state.get_interruptions()[0])
    b.runtime.governor.policy = Policy.from_dict(policy({"users": [BOB]}))
    again = await resumed(clerk, state)
    assert clerk.ran == []
    (interruption,) = again.interruptions
    state = await clerk.saved(again)
    with answered_by(ANN), pytest.raises(AuditError, match="ann@ops does not count"):
        state.approve(interruption)
    with answered_by(BOB):
        state.approve(state.get_interruptions()[0])
    await resumed(clerk, state)
    assert clerk.ran == ["act 1"]
    assert b.row()["approver"] == BOB
    assert verify(b.audit).findings == []


@pytest.mark.parametrize("now", [policy(), policy({"users": [ANN]}, expires="1h")])
async def test_a_yes_counts_where_the_same_persons_are_asked_or_anybody(
    now: dict[str, Any], asking: BENCH
) -> None:
    b = asking(policy=policy({"users": [ANN]}, expires="1h"))
    clerk, state = await paused(b)
    with answered_by(ANN):
        state.approve(state.get_interruptions()[0])
    b.runtime.governor.policy = Policy.from_dict(now)
    await resumed(clerk, state)
    assert clerk.ran == ["act 1"]
    assert verify(b.audit).findings == []


async def test_after_its_time_nobody_can_answer(asking: BENCH) -> None:
    b = asking(policy=policy({"count": 1}, expires="1s"))
    _, state = await paused(b)
    (interruption,) = state.get_interruptions()
    time.sleep(1.1)
    for answer in (state.approve, state.reject):
        with answered_by(ANN), pytest.raises(AuditError, match="could not be answered any more"):
            answer(interruption)
    assert b.row()["result_status"] == "pending"


async def test_a_yes_in_time_holds_after_it(asking: BENCH) -> None:
    b = asking(policy=policy({"count": 1}, expires="1s"))
    clerk, state = await paused(b)
    with answered_by(ANN):
        state.approve(state.get_interruptions()[0])
    time.sleep(1.1)
    await resumed(clerk, state)
    assert clerk.ran == ["act 1"]


async def test_who_may_answer_cannot_be_changed_beside_the_question(asking: BENCH) -> None:
    """Who writes to the audit can say that anybody may answer; the gate asks whom the policy names."""
    b = asking(policy=policy(OPS))
    clerk, state = await paused(b)
    (interruption,) = state.get_interruptions()
    paused_calls = b.runtime.governor.paused_calls
    shown = ShownCall(interruption.call_id, interruption.tool_name, "Clerk", interruption.arguments)
    waiting = paused_calls.find(shown, b.row()["run_id"])
    assert waiting is not None
    line = AuditRecord(
        stage="resolved",
        decision_id=waiting.row.decision_id,
        timestamp=timestamp(unix_ns(waiting.last) + 1_000),
        result_status="pending",
        approval_terms='{"users": [], "roles": [], "count": 1, "self": true}',
    )
    AuditLogger(b.audit).append(line)
    waiting = paused_calls.find(shown, b.row()["run_id"])
    assert waiting is not None
    paused_calls.answer(waiting, interruption.arguments, [ApprovalAnswer(True, "mallory")])
    with answered_by("mallory"):
        state.approve(interruption)
    assert len((await resumed(clerk, state)).interruptions) == 1
    assert clerk.ran == []
