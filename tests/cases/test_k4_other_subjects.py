"""K4: a call that was paused for one subject, and is resumed for another, is asked anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from agents import Runner
from agents.testing import function_call

from aegis_otel import acting_for
from aegis_otel.audit.record import AuditRecord
from aegis_otel.audit.verify.verify import verify
from tests.cases.paused_runs import ALLOWS, ASKS, Desk
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
ALICE = {"user": "alice", "tenant": "acme", "roles": ["clerk"]}
OTHERS = [
    {"user": "mallory", "tenant": "acme", "roles": ["clerk"]},
    {"user": "alice", "tenant": "globex", "roles": ["clerk"]},
    {"user": "alice", "tenant": "acme", "roles": ["clerk", "boss"]},
    {"user": "alice", "tenant": "acme"},
    None,
]


def doing(who: dict[str, Any] | None) -> AbstractContextManager[Any]:
    return nullcontext() if who is None else acting_for(**who)


async def paused_and_approved(desk: Desk, who: dict[str, Any] | None) -> str:
    with doing(who):
        return await desk.approved(await desk.paused())


@pytest.mark.parametrize("who", [ALICE, None])
@pytest.mark.parametrize(("policy", "own"), [(ALLOWS, True), (ASKS, False), (ASKS, True)])
async def test_k4_a_yes_counts_for_whom_it_was_asked_for(
    installed: BENCH, policy: dict[str, Any], own: bool, who: Any
) -> None:
    b, desk = installed(policy=policy, approvals="sdk"), Desk(asks=own)
    saved = await paused_and_approved(desk, who)
    with doing(who):
        await desk.resumed(saved)
    assert desk.paid == [5]
    assert b.row()["user_id"] == (who and "alice")


MANY = [f"role-{number:04}" for number in range(1_000)]
ALIKE = [
    ({"user": "4111111111111111"}, {"user": "5555555555554444"}),
    ({"user": "alice", "tenant": "4111111111111111"}, {"user": "alice", "tenant": "5555555555554444"}),
    ({"roles": [*MANY, "x"]}, {"roles": [*MANY, "y"]}),
]
"""Subjects that are the same once they are redacted and cut."""


@pytest.mark.parametrize(("who", "other"), ALIKE, ids=["user", "tenant", "roles"])
@pytest.mark.parametrize(("policy", "own"), [(ALLOWS, True), (ASKS, False)])
async def test_k4_subjects_whose_columns_are_alike_are_not_the_same(
    installed: BENCH, policy: dict[str, Any], own: bool, who: dict[str, Any], other: dict[str, Any]
) -> None:
    b, desk = installed(policy=policy, approvals="sdk"), Desk(asks=own)
    saved = await paused_and_approved(desk, who)
    with doing(other):
        result = await desk.resumed(saved)
    assert desk.paid == []
    assert len(result.interruptions) == 1
    first, second = b.rows()
    columns = ("user_id", "tenant_id", "user_roles")
    assert [first[name] for name in columns] == [second[name] for name in columns]
    with doing(who):
        await desk.resumed(saved)
    assert desk.paid == [5]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("policy", "own"), [(ALLOWS, True), (ASKS, False), (ASKS, True)])
async def test_k4_for_anybody_else_a_human_is_asked_anew(
    installed: BENCH, policy: dict[str, Any], own: bool, other: dict[str, Any] | None
) -> None:
    """The other's question is a row of its own; the first yes stays good for whom it was given."""
    b, desk = installed(policy=policy, approvals="sdk"), Desk(asks=own)
    saved = await paused_and_approved(desk, ALICE)
    with doing(other):
        result = await desk.resumed(saved)
    assert desk.paid == []
    assert len(result.interruptions) == 1
    asked = result.to_state().to_string()
    with doing(other):
        await desk.resumed(await desk.approved(asked))
    assert desk.paid == [5]
    with doing(ALICE):
        await desk.resumed(saved)
    assert desk.paid == [5, 5]
    first, second = b.rows()
    assert [first["user_id"], second["user_id"]] == ["alice", other and other["user"]]
    assert [first["result_status"], second["result_status"]] == ["success", "success"]
    assert first["decision_id"] != second["decision_id"]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("is_saved", [True, False])
async def test_k4_so_is_the_tools_own_question_where_a_handler_has_the_policys(
    installed: BENCH, other: dict[str, Any] | None, is_saved: bool
) -> None:
    b, desk = installed(policy=ALLOWS), Desk(asks=True)
    if is_saved:
        saved = await paused_and_approved(desk, ALICE)
        with doing(other):
            result = await desk.resumed(saved)
    else:
        agent = desk.agent(function_call("refund", {"amount": 5}, call_id="call_0"))
        with doing(ALICE):
            state = (await Runner.run(agent, "go")).to_state()
        state.approve(state.get_interruptions()[0])
        with doing(other):
            result = await Runner.run(agent, state)
    assert (desk.paid, len(result.interruptions)) == ([], 1)
    state = result.to_state()
    state.approve(state.get_interruptions()[0])
    with doing(other):
        await desk.resumed(state.to_string())
    assert desk.paid == [5]
    assert b.row()["user_id"] == (other and other["user"])


async def test_k4_whoever_takes_the_subject_out_of_a_saved_run_is_asked_anew(installed: BENCH) -> None:
    installed(policy=ALLOWS)
    desk = Desk(asks=True)
    saved = json.loads(await paused_and_approved(desk, ALICE))
    assert len(saved["aegis"].pop("subject")) == 64
    with acting_for(user="mallory"):
        result = await desk.resumed(json.dumps(saved))
    assert (desk.paid, len(result.interruptions)) == ([], 1)


async def test_k4_a_row_cannot_be_given_to_another_subject_after_it_was_answered(installed: BENCH) -> None:
    """A line in the journal that names another subject changes nothing that counts."""
    b, desk = installed(policy=ASKS, approvals="sdk"), Desk()
    saved = await paused_and_approved(desk, ALICE)
    row = b.row()
    b.runtime.audit.append(
        AuditRecord(
            stage="resolved",
            decision_id=row["decision_id"],
            timestamp="2099-01-01T00:00:00.000000+00:00",
            result_status="pending",
            human_decision="approved",
            user_id="mallory",
        )
    )
    with acting_for(**{**ALICE, "user": "mallory"}):
        await desk.resumed(saved)
    assert desk.paid == []
    assert verify(b.audit).findings != []
