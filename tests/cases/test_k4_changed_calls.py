"""K4: what a call was, what was answered and how it ended is changed by no line that comes later."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import AuditRecord
from tests.cases.paused_runs import ASKS, Desk
from tests.cases.test_k4_planted_lines import (
    assert_found_and_not_sealed,
    audit,
    call,
    first,
    found,
    plant,
    write,
)
from tests.support.kit import Bench
from tests.support.records import completed, statuses, wait_until_seen

__all__ = ["audit"]
BENCH = Callable[..., Bench]


@pytest.mark.parametrize("said", [{"approver": "dana"}, {"approval_reason": "ticket 4711"}])
@pytest.mark.parametrize("stage", ["decided", "resolved", "completed"])
def test_k4_an_approver_without_an_answer_is_found(audit: Path, said: dict[str, str], stage: str) -> None:
    if stage == "decided":
        path = plant(audit, *call(**said))
    else:
        time = "2026-11-22T14:30:00.500000+00:00"
        path = plant(
            audit,
            first(),
            AuditRecord(stage=stage, decision_id="planted", timestamp=time, **said),  # type: ignore[arg-type]
        )
    assert_found_and_not_sealed(audit, path)


# --- lines that change what a call was ---

MEMBERS = {
    "action_type": "drop_table",
    "action_target": "production",
    "action_params": '{"amount":5000}',
    "args_digest": "hmac-sha256:" + "0" * 64,
    "shown_digest": "hmac-sha256:" + "0" * 64,
    "risk_level": "LOW",
    "approval": "block",
    "matched_rule": "another",
    "reason": "because",
    "policy_digest": "sha256:" + "0" * 64,
    "mode": "monitor",
    "session_id": "another",
    "agent_name": "another",
    "tool_name": "drop_table",
    "tool_call_id": "call_9",
    "conversation_id": "another",
    "run_id": "another",
    "tool_original_name": "another",
    "service": "another",
    "host": "another",
    "trace_id": "0" * 32,
    "schema_version": 1,
    "redaction_digest": "sha256:" + "0" * 64,
    "approver": "boss@example.com",
    "approval_reason": "because",
    "approval_wait_s": 9.0,
    "pid": 1,
}


@pytest.fixture
def asking(installed: BENCH) -> BENCH:
    """A bench whose approvals are the SDK's."""
    return lambda **options: installed(approvals="sdk", **{"policy": ASKS} | options)


def late(stage: str, decision_id: str, **changed: Any) -> AuditRecord:
    """A line that counts after all that are there."""
    line = {"stage": stage, "decision_id": decision_id, "timestamp": "2099-01-01T00:00:00.000000+00:00"}
    return AuditRecord(**line | changed)


@pytest.mark.parametrize("stage", ["resolved", "completed"])
async def test_k4_what_a_proven_yes_was_to_is_changed_by_no_line(asking: BENCH, stage: str) -> None:
    """Nor who said it: the row of a call that ran by a proven yes is as it was."""
    b, desk = asking(), Desk()
    await desk.resumed(await desk.approved(await desk.paused()))
    assert desk.paid == [5]
    b.runtime.audit.close()
    assert found(b.audit) == []
    decision = b.row()["decision_id"]
    for member, value in MEMBERS.items():
        path = plant(b.audit, late(stage, decision, **{member: value}))
        assert found(b.audit), member
        path.unlink()
    path = plant(b.audit, late(stage, decision, action_target="production"))
    assert_found_and_not_sealed(b.audit, path)


@pytest.mark.parametrize("stage", ["resolved", "completed"])
@pytest.mark.parametrize("status", ["blocked", "success"])
def test_k4_what_a_call_was_is_changed_by_no_line(audit: Path, stage: str, status: str) -> None:
    """Of one that was blocked and of one that ran, without a human."""
    if status == "success":
        write(audit, *call("theirs"))
    else:
        write(audit, first("theirs", approval="block", result_status="blocked"))
    assert found(audit) == []
    for member, value in MEMBERS.items():
        path = plant(audit, late(stage, "theirs", **{member: value}))
        assert found(audit), member
        path.unlink()
    assert_found_and_not_sealed(audit, plant(audit, late(stage, "theirs", action_target="production")))


def test_k4_a_call_of_very_many_lines_is_judged_in_time(audit: Path) -> None:
    """Its lines are told apart without comparing each with each."""
    from aegis_otel.audit.answers.call_check import unsealable_files

    lines = [late("resolved", "theirs", result_status="open") for _ in range(30_000)]
    path = plant(audit, first("theirs"), *lines)
    began = time.process_time()
    assert "two lines of one time" in " ".join(unsealable_files(audit, {}).values())
    assert time.process_time() - began < 10
    assert_found_and_not_sealed(audit, path)


@pytest.mark.parametrize("member", ["result_error", "error_type", "duration_s"])
@pytest.mark.parametrize("then", [None, "open"])
def test_k4_how_a_call_ended_is_said_by_its_last_line(audit: Path, member: str, then: str | None) -> None:
    """An earlier line would say it of a call that succeeded."""
    write(audit, *call("theirs"))
    assert found(audit) == []
    said: dict[str, Any] = {member: 9.0 if member == "duration_s" else "It failed"}
    time = "2026-11-22T14:30:00.500000+00:00"
    line = AuditRecord(stage="resolved", decision_id="theirs", timestamp=time, result_status=then, **said)
    assert_found_and_not_sealed(audit, plant(audit, line))


@pytest.mark.parametrize("stage", ["resolved", "completed"])
@pytest.mark.parametrize("then", ["success", "failed", "cancelled", "open", "pending", "skipped", "denied"])
@pytest.mark.parametrize("before", ["blocked", "denied", "skipped", "success"])
def test_k4_a_call_that_has_ended_ends_once(audit: Path, before: str, then: str, stage: str) -> None:
    lines = call("theirs") if before == "success" else (first("theirs", result_status=before),)
    write(audit, *lines)
    assert found(audit) == []
    if before == "success" and stage == "resolved":
        return  # what is resolved comes before what is completed, which stays as it is
    assert_found_and_not_sealed(audit, plant(audit, late(stage, "theirs", result_status=then)))


@pytest.mark.parametrize("stage", ["resolved", "completed"])
@pytest.mark.parametrize("then", ["success", "failed", "open"])
async def test_k4_a_call_that_waits_does_not_run_without_an_answer(
    asking: BENCH, then: str, stage: str
) -> None:
    b, desk = asking(), Desk()
    await desk.paused()
    b.runtime.audit.close()
    assert found(b.audit) == []
    assert_found_and_not_sealed(
        b.audit, plant(b.audit, late(stage, b.row()["decision_id"], result_status=then))
    )


async def test_k4_a_proven_no_stays_one(asking: BENCH) -> None:
    """A line that says that it ran, and one with the yes to another question."""
    b, desk = asking(), Desk()
    state = await desk.state(await desk.paused())
    state.reject(state.get_interruptions()[0])
    b.runtime.audit.close()
    assert found(b.audit) == []
    ran = late("completed", b.row()["decision_id"], result_status="success")
    assert_found_and_not_sealed(b.audit, plant(b.audit, ran))


@pytest.mark.parametrize("time", ["2026-11-22T14:29:00.000000+00:00", "2026-11-22T14:30:00.000000+00:00"])
def test_k4_a_call_begins_once(audit: Path, time: str) -> None:
    """Whichever of two first lines would be the one that readers take for the first."""
    write(audit, *call("theirs"))
    assert_found_and_not_sealed(audit, plant(audit, first("theirs", timestamp=time)))


def test_k4_two_lines_of_one_time_are_found(audit: Path) -> None:
    """Which of them readers show, nothing says."""
    write(audit, *call("theirs"))
    path = plant(audit, completed(decision_id="theirs", result_status="failed"))
    assert_found_and_not_sealed(audit, path)


def test_k4_a_call_that_is_sealed_does_not_begin_again(audit: Path) -> None:
    """Readers would show it twice."""
    write(audit, first("theirs", approval="block", result_status="blocked"))
    assert seal(audit).problems == []
    assert found(audit) == []
    plant(audit, *call("theirs"))
    assert found(audit)
    seal(audit)
    wait_until_seen(audit)
    assert statuses(audit)["theirs"] == "blocked"


async def test_k4_a_line_in_a_carried_file_is_found(asking: BENCH) -> None:
    """A question that is carried over a seal, and a change to it after that."""
    b, desk = asking(), Desk()
    await desk.paused()
    b.runtime.audit.close()
    assert seal(b.audit).problems == []
    assert found(b.audit) == []
    path = plant(b.audit, late("resolved", b.row()["decision_id"], action_params='{"amount":1}'))
    assert_found_and_not_sealed(b.audit, path)


# --- questions that expired ---

LATER, LAST = "2099-01-01T00:00:01.000000+00:00", "2099-01-01T00:00:02.000000+00:00"


@pytest.mark.parametrize("then", [{}, {"result_status": "denied"}, {"result_status": "open"}])
async def test_k4_a_call_that_ran_by_a_proven_yes_has_not_expired(
    asking: BENCH, then: dict[str, str]
) -> None:
    """Nobody proves that a question expired, so a line that says so counts only while it waits."""
    b, desk = asking(), Desk()
    await desk.resumed(await desk.approved(await desk.paused()))
    assert desk.paid == [5]
    b.runtime.audit.close()
    assert found(b.audit) == []
    path = plant(b.audit, late("resolved", b.row()["decision_id"], human_decision="expired", **then))
    assert_found_and_not_sealed(b.audit, path)


@pytest.mark.parametrize("then", ["open", "pending", "skipped", "blocked", "cancelled", None])
def test_k4_a_question_that_expired_was_denied(audit: Path, then: str | None) -> None:
    """It ends so once: another line that says it expired says no other end."""
    expired = late("resolved", "theirs", human_decision="expired", result_status="denied")
    again = msgspec.structs.replace(expired, timestamp=LATER)
    write(audit, first("theirs", approval="approve", result_status="pending"), expired)
    write(audit, again)
    assert found(audit) == []
    planted = msgspec.structs.replace(again, timestamp=LAST, result_status=then)
    assert_found_and_not_sealed(audit, plant(audit, planted))


def test_k4_a_call_that_was_let_through_does_not_wait_again(audit: Path) -> None:
    """It would never be sealed, and end as expired when its time in the audit is over."""
    write(audit, first("theirs", result_status="open"))
    assert found(audit) == []
    assert_found_and_not_sealed(audit, plant(audit, late("resolved", "theirs", result_status="pending")))


@pytest.mark.parametrize("said", [{"approval": "block"}, {"human_decision": "expired"}])
@pytest.mark.parametrize("ended", [True, False])
def test_k4_a_call_that_contradicts_itself_is_not_sealed(
    audit: Path, said: dict[str, str], ended: bool
) -> None:
    """Once it was sealed, it would be found for ever, and nothing would heal it."""
    lines = call(result_status="open", **said)
    assert_found_and_not_sealed(audit, plant(audit, *lines[: None if ended else 1]))


def test_k4_a_body_that_waits_for_an_answer_inside_of_it_has_not_expired(audit: Path) -> None:
    """Its own question was answered before it began."""
    write(audit, first("theirs", result_status="open"))
    write(audit, late("resolved", "theirs", result_status="pending", duration_s=1.5))
    assert found(audit) == []
    expired = late("resolved", "theirs", human_decision="expired", result_status="denied")
    assert_found_and_not_sealed(audit, plant(audit, msgspec.structs.replace(expired, timestamp=LATER)))
