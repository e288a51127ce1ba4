"""`aegis approvals revoke` and `expire`."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result

from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from aegis_otel.runtime.approval.row_closing import ClosedRows, close_ended_rows
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.sqlite import SqliteState
from tests.support.approvals_commands import ME, id_of
from tests.support.approvals_page import now, put
from tests.support.records import decided


@pytest.mark.parametrize(
    ("also", "seconds", "conversation"),
    [("conversation", 86_400, "conversation"), ("1h", 3_600, None), ("24h", 86_400, None)],
)
def test_a_grant_is_given_listed_and_revoked(
    desk: AnswerDesk, run: Callable[..., Result], also: str, seconds: int, conversation: str | None
) -> None:
    state = put(desk)
    said = run("approve", id_of(state), "--also", also).output
    (grant,) = desk.inbox.all_grants()
    until = f"{datetime.fromtimestamp(grant.until_ns / 1e9, UTC):%Y-%m-%d %H:%M}"
    assert said.startswith(f"{id_of(state)} approved by {ME}, also for such calls of any agent in ")
    assert f" until {until}" in said
    assert said.endswith(f" UTC; to end that: aegis approvals revoke {grant.grant_id}\n")
    assert grant.conversation_id == conversation
    assert seconds - 10 < (grant.until_ns - grant.state.read_ns) / 1e9 <= seconds
    listed = run("list").output
    assert not re.search(r" $", listed, re.M), "no line ends with a blank"
    assert f"{grant.grant_id}  charge -> card for ann, tenant shop, by rule ask" in listed
    where = f", in conversation {conversation}" if conversation else ", in all conversations"
    left = "60 min" if also == "1h" else "24 h"
    assert f"{where}, given by {ME}, for {left} more\n" in listed.replace("\n  | ", " ")
    (reported,) = json.loads(run("list", "--format", "json").output)["grants"]
    assert reported["by"] == [ME]
    assert run("revoke", grant.grant_id).output == f"{grant.grant_id} ended\n"
    assert "Grants" not in run("list").output
    again = run("revoke", grant.grant_id, "nothing")
    assert again.exit_code == 1
    assert again.output.count("no grant with the id") == 2


def test_revoke_needs_the_whole_id_of_a_grant(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    """And says so: `list` prints only the end of the ids of questions."""
    state = put(desk)
    run("approve", id_of(state), "--also", "1h")
    for part in (id_of(state)[-8:], id_of(state)[:8]):
        ran = run("revoke", part)
        assert ran.exit_code == 2, "wrong usage"
        assert ran.output == (
            f"`{part}` is no whole id: give all of it, as `aegis approvals list` prints it\n"
        )
    assert len(desk.inbox.all_grants()) == 1


def test_expire_ends_what_is_over(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    state, other = put(desk, expires_s=0.05), put(desk)
    time.sleep(0.1)
    assert run("expire").output.startswith(f"{id_of(state)} expired\n")
    assert now(desk, state).status is QuestionStatus.EXPIRED
    assert now(desk, other).status is QuestionStatus.WAITING
    assert run("expire").output == "No question's time is over.\n"


@pytest.mark.parametrize("call_id", ["call_1", None], ids=["of the SDK", "of a Runtime"])
def test_expire_closes_the_row_of_a_question_that_ended_long_ago(
    call_id: str | None,
    desk: AnswerDesk,
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has noticed before that its time was over; it is run once."""
    decision_id = id_of(put(desk, expires_s=5.0))
    with closing(AuditLogger(tmp_path / "audit")) as audit:
        row = decided(
            decision_id=decision_id, approval="approve", result_status="pending", tool_call_id=call_id
        )
        audit.append(row)
        other = decided(decision_id="waits on", approval="approve", result_status="pending")
        audit.append(other)

    def later() -> int:
        return time.time_ns() + 66 * 10**9

    monkeypatch.setattr(RealSystem, "now_ns", staticmethod(later))
    monkeypatch.setitem(SqliteState.__init__.__kwdefaults__, "now_ns", later)
    assert run("expire").output == (
        f"{decision_id} expired\n"
        f"{decision_id} closed: its row does not wait any more\n"
        "1 question ended, 1 row of the audit closed\n"
    )
    assert run("expire").output == "No question's time is over.\n"


@pytest.mark.parametrize("call_id", ["call_1", None], ids=["of the SDK", "of a Runtime"])
def test_expire_says_which_row_it_cannot_close(
    call_id: str | None,
    desk: AnswerDesk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    decision_id = id_of(put(desk, expires_s=0.05))
    time.sleep(0.1)
    with closing(AuditLogger(tmp_path / "audit")) as audit:
        row = decided(
            decision_id=decision_id, approval="approve", result_status="pending", tool_call_id=call_id
        )
        audit.append(row)
        monkeypatch.setattr(os, "write", no_space)
        rows = close_ended_rows(audit, desk.inbox, lambda signed: pytest.fail("no answer"), grace_s=0.0)
        monkeypatch.undo()
    assert rows == ClosedRows()
    assert f"the row of decision {decision_id} stays as it is: " in caplog.text
    assert "no space left on device" in caplog.text


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_expire_closes_the_row_a_minute_after_the_end_and_says_so_before(
    desk: AnswerDesk, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sentence of it contradicts another one."""
    state = put(desk, expires_s=0.05)
    decision_id = id_of(state)
    with closing(AuditLogger(tmp_path / "audit")) as audit:
        row = decided(
            decision_id=decision_id, approval="approve", result_status="pending", tool_call_id="call_1"
        )
        audit.append(row)
    left = (
        "1 row of the audit will be closed a minute after the end of the question, by this command or by the "
        "next process that starts with this audit\n"
    )
    time.sleep(0.1)
    ended = f"{decision_id} expired\n1 question ended, 0 rows of the audit closed\n"
    assert run("expire").output == ended + left
    assert run("expire").output == left

    def later() -> int:
        return time.time_ns() + 61 * 10**9

    monkeypatch.setattr(RealSystem, "now_ns", staticmethod(later))
    monkeypatch.setitem(SqliteState.__init__.__kwdefaults__, "now_ns", later)
    assert run("expire").output == (
        f"{decision_id} closed: its row does not wait any more\n"
        "0 questions ended, 1 row of the audit closed\n"
    )
    assert run("expire").output == "No question's time is over.\n"
    with closing(AuditLogger(tmp_path / "audit")) as audit:
        assert [each["human_decision"] for each in audit.get_log()] == ["expired"]
