"""What waits, in memory: its order, its end, and questions that cannot be listed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aegis_otel.cli.approvals.page.board import WaitingBoard
from aegis_otel.governance.approvals.inbox import Answer, QuestionStatus, SignedAnswer
from aegis_otel.model import Approvers
from aegis_otel.policy.patterns import compile_glob
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person
from aegis_otel.runtime.approval.answer_signature import load_answer_signer
from aegis_otel.state.opening import open_inbox
from tests.support.approvals_page import Visitor, now, path_of, put, serving


def test_what_ends_first_is_first(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    for minutes in (None, 30, 10, 20):
        put(desk, params=f"{minutes} minutes", expires_s=None if minutes is None else minutes * 60.0)
    assert re.findall(r"(\w+) minutes", visit().get("/").text) == ["10", "20", "30", "None"]


def test_an_expired_question_is_ended_by_the_page(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    state = put(desk, expires_s=0.5)
    bob = visit()
    fields = bob.fields(path_of(state), f"{path_of(state)}/answer")
    time.sleep(0.6)
    late = bob.post(f"{path_of(state)}/answer", {**fields, "answer": "yes"})
    assert late.status == 409
    assert "Expired: nobody answered in time" in late.text
    assert desk.answers(now(desk, state)) == ()
    time.sleep(5)
    bob.get("/")
    assert now(desk, state).status is QuestionStatus.EXPIRED


def test_one_question_that_cannot_be_listed_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong with it."""

    def check(signed: SignedAnswer) -> Answer:
        raise LookupError(signed.key)

    inbox, signer = open_inbox(directory=tmp_path), load_answer_signer(tmp_path / "audit")
    desk = AnswerDesk(inbox, lambda: signer, check)
    bad = put(desk, params="bad", approvers=Approvers(count=2))
    put(desk, params="good")
    desk.give(bad.question.decision_id, bad.digest, Person("cy", (), "local"), approved=True)
    with serving(desk) as port:
        page = Visitor(port, "bob").get("/").text
    assert "good" in page
    assert bad.question.decision_id not in page
    assert "cannot be listed: LookupError" in caplog.text


def test_very_many_approvers_hold_nobody_up(desk: AnswerDesk) -> None:
    """An agent asks hundreds of questions with thousands of approvers each: one list judges some of them."""
    put(desk, params="good", approvers=Approvers(users=("amy",)), expires_s=600.0)
    for number in range(60):
        users = tuple(f"u{number}-{each}*x*y" for each in range(2_000))
        put(desk, params=f"bad {number}", approvers=Approvers(users=users), expires_s=300.0)
    board, bob = WaitingBoard(desk), Person("bob", (), "local")
    board.refresh()
    before = compile_glob.cache_info().misses
    first = board.listed(bob)
    assert 0 < compile_glob.cache_info().misses - before < 60_000
    assert "good" in first[-1].question.preview
    assert not first[-1].is_theirs
    assert (
        10 < [each.is_theirs for each in first].count(False) < 60
    )  # of the others only their own page says it
    for _ in range(5):
        last = board.listed(bob)
    assert not any(each.is_theirs for each in last)
    assert board.listed(Person("amy", (), "local"))[-1].is_theirs


def test_approvers_beyond_a_size_are_not_kept(desk: AnswerDesk) -> None:
    """However many questions wait. These are listed for everybody, and their own page says who may answer."""
    board = WaitingBoard(desk)
    put(desk, params="good", approvers=Approvers(users=("ann",)), expires_s=10.0)
    for number in range(12):
        users = tuple(f"u{number}-{'x' * 1_000}-{each}" for each in range(2_000))
        put(desk, params=f"bad {number}", approvers=Approvers(users=users), expires_s=300.0)
        board.refresh()
    for _ in range(20):
        listed = board.listed(Person("bob", (), "local"))
    assert len(listed) == 13
    assert not listed[0].is_theirs
    assert sum(each.question.approvers is not None for each in listed) == 8
    assert sum(each.is_theirs for each in listed) == 5
