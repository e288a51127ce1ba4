"""What the page and the notifications read of an inbox: all that waits, and then each change."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from aegis_otel.cli.approvals.inbox_follower import EXPIRE_EVERY_S, InboxFollower
from aegis_otel.errors import StateError
from aegis_otel.governance.approvals.inbox import Inbox, QuestionStatus
from aegis_otel.state.opening import open_inbox
from tests.support.inbox import shared_question


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return open_inbox(f"sqlite:///{tmp_path}/state.sqlite3")


def put(inbox: Inbox, expires_s: float | None = None) -> str:
    return inbox.put(shared_question(expires_s=expires_s)).question.decision_id


def read(follower: InboxFollower) -> list[tuple[str, QuestionStatus]]:
    return [(each.question.decision_id, each.status) for states in follower.poll() for each in states]


def withdraw(inbox: Inbox, decision_id: str) -> None:
    inbox.end(decision_id, inbox.look([decision_id])[decision_id].digest, QuestionStatus.WITHDRAWN)


def test_first_what_waits_then_what_changes(inbox: Inbox) -> None:
    first, over = put(inbox), put(inbox)
    withdraw(inbox, over)
    follower = InboxFollower(inbox)
    assert follower.change == 0
    assert read(follower) == [(first, QuestionStatus.WAITING)]
    assert read(follower) == []
    second = put(inbox)
    withdraw(inbox, first)
    before = follower.change
    assert read(follower) == [(second, QuestionStatus.WAITING), (first, QuestionStatus.WITHDRAWN)]
    assert follower.change > before


def test_what_waits_comes_again_on_demand(inbox: Inbox) -> None:
    waiting, over = put(inbox), put(inbox)
    follower = InboxFollower(inbox)
    assert len(read(follower)) == 2
    withdraw(inbox, over)
    follower.start_again()
    assert read(follower) == [(waiting, QuestionStatus.WAITING)]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_part_whose_reader_failed_comes_again(inbox: Inbox, *, is_first: bool) -> None:
    follower = InboxFollower(inbox)
    if not is_first:
        assert read(follower) == []
    asked = put(inbox)

    def read_and_fail() -> None:
        for _ in follower.poll():
            raise OverflowError

    with pytest.raises(OverflowError):
        read_and_fail()
    assert read(follower) == [(asked, QuestionStatus.WAITING)]


def test_it_ends_what_is_due_now_and_then(inbox: Inbox) -> None:
    """Not each time, as it is asked twice a second."""
    clock = Clock()
    follower = InboxFollower(inbox, clock)
    assert read(follower) == []
    asked = put(inbox, expires_s=0.01)
    time.sleep(0.02)
    clock.at += EXPIRE_EVERY_S
    assert read(follower) == [(asked, QuestionStatus.WAITING)]
    clock.at += 0.1
    assert read(follower) == [(asked, QuestionStatus.EXPIRED)]


def test_an_inbox_that_is_away_is_read_when_it_is_back(inbox: Inbox) -> None:
    class Away:
        is_away = True

        def __getattr__(self, name: str) -> object:
            if self.is_away:
                raise StateError("away")
            return getattr(inbox, name)

    away = Away()
    follower = InboxFollower(away)  # type: ignore[arg-type]  # it has all that is needed
    asked = put(inbox)
    with pytest.raises(StateError):
        list(follower.poll())
    away.is_away = False
    assert read(follower) == [(asked, QuestionStatus.WAITING)]
