"""What processes report of the inbox that they share: metrics of all of it, events of what they do."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.errors import AnswerRefused, StateError
from aegis_otel.governance.approvals.inbox import GrantTerms, QuestionState, QuestionStatus, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import encode_answer
from aegis_otel.model import Approvers
from aegis_otel.runtime import inbox_signals
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person
from aegis_otel.runtime.approval.answer_signature import load_answer_keys, load_answer_signer
from aegis_otel.runtime.inbox_signals import ReportedInbox
from aegis_otel.state import inbox_figures
from aegis_otel.state.engine import SharedState
from aegis_otel.state.opening import open_state
from aegis_otel.testing import Signals
from tests.support.inbox import an_answer, shared_question

BOB, ANN = Person("bob", (), "oidc"), Person("ann", (), "oidc")


@pytest.fixture
def seen() -> Iterator[Signals]:
    signals = Signals()
    yield signals
    signals.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SharedState]:
    state = open_state(directory=tmp_path / "audit")
    yield state
    state.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inbox is read as often as it is asked, and transactions take no time."""
    monkeypatch.setattr(inbox_signals, "_READ_EVERY_S", 0.0)
    monkeypatch.setattr(inbox_figures, "_SETTLED_NS", 0)


@pytest.fixture
def inbox(state: SharedState, seen: Signals, quick: None) -> ReportedInbox:
    return ReportedInbox(state, seen.recorder())


@pytest.fixture
def desk(inbox: ReportedInbox, tmp_path: Path) -> AnswerDesk:
    signer, check = load_answer_signer(tmp_path / "audit"), load_answer_keys(tmp_path / "audit")
    return AnswerDesk(inbox, lambda: signer, check)


def ask(inbox: ReportedInbox, **about: Any) -> QuestionState:
    return inbox.put(shared_question(**about))


def say(desk: AnswerDesk, state: QuestionState, person: Person = BOB, **about: Any) -> QuestionStatus:
    return desk.give(state.question.decision_id, state.digest, person, **{"approved": True, **about})


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Collect until the metrics say so: each time, they say what was read after the time before."""
    ends = time.monotonic() + 20
    while (found := read()) != wanted:
        assert time.monotonic() < ends, found
        time.sleep(0.02)


def values(seen: Signals, name: str) -> dict[str, Any]:
    """The values of a metric, by its last label."""
    return {pairs[-1][1]: value for pairs, value in seen.points(f"aegis.inbox.{name}").items()}


def test_what_waits_and_how_it_ended(inbox: ReportedInbox, desk: AnswerDesk, seen: Signals) -> None:
    """Also questions of paused runs, whichever process ends them, and ends of before are not counted."""
    say(desk, ask(inbox), approved=False)
    first, second, _ = ask(inbox), ask(inbox, kind="inbox"), ask(inbox, expires_s=0.05)
    own = inbox.inbox_id()
    zeros = {"used": 0, "denied": 0, "expired": 0, "withdrawn": 0}
    until(lambda: values(seen, "waiting"), {own: 2})
    counted = values(seen, "ended")
    assert {**counted, "expired": 0} == zeros, "one may have expired before it began to count"
    assert list(values(seen, "longest_wait")) == [own]
    say(desk, first, grant=GrantTerms(3600.0, "time"))
    assert inbox.use(first.question.decision_id, first.digest, "me")
    say(desk, second, approved=False)
    with pytest.raises(AnswerRefused):
        say(desk, second, ANN)
    until(lambda: values(seen, "ended"), {**counted, "used": 1, "denied": 1})
    until(lambda: (values(seen, "waiting"), values(seen, "grants")), ({own: 0}, {own: 1}))
    until(lambda: values(seen, "refused_answers"), {own: 1})
    assert values(seen, "longest_wait") == {own: 0.0}


def test_what_lapses_is_ended_though_nobody_waits(inbox: ReportedInbox, seen: Signals) -> None:
    """The process that asked is gone: who measures the inbox ends its question, and counts and reports it."""
    until(lambda: values(seen, "waiting"), {inbox.inbox_id(): 0})
    lapsed = ask(inbox, expires_s=0.05)
    until(lambda: values(seen, "ended").get("expired"), 1)
    (event,) = seen.events("aegis.inbox.expired")
    assert event == {"aegis.inbox.id": inbox.inbox_id(), "aegis.decision.id": lapsed.question.decision_id}


@pytest.mark.usefixtures("quick")
def test_two_of_one_process_count_once(state: SharedState, seen: Signals) -> None:
    """Two Runtimes with one inbox; and what is gone reports nothing."""
    inbox, another = ReportedInbox(state, seen.recorder()), ReportedInbox(state, seen.recorder())
    ask(inbox)
    until(lambda: values(seen, "waiting"), {inbox.inbox_id(): 1})
    assert another.inbox_id() == inbox.inbox_id()
    del inbox, another
    gc.collect()
    until(lambda: values(seen, "waiting"), {})


def test_nothing_is_said_while_the_state_is_away(
    inbox: ReportedInbox, seen: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No old figure is reported as if it were of now, the failures are counted, and it goes on after."""
    until(lambda: values(seen, "waiting"), {inbox.inbox_id(): 0})
    with monkeypatch.context() as away:

        def fail(_: object) -> None:
            raise StateError("away")

        away.setattr(ReportedInbox, "expire", fail)
        until(lambda: values(seen, "waiting"), {})
        (failures,) = seen.points("aegis.state.errors").values()
        assert failures > 0
    until(lambda: values(seen, "waiting"), {inbox.inbox_id(): 0})


def test_it_is_read_when_metrics_are_collected_and_seldom(
    state: SharedState, seen: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a collection no file is made; of many in a row, one reads, in a thread of its own."""
    inbox = ReportedInbox(state, seen.recorder())
    assert not (tmp_path / "audit").exists()
    reads: list[str] = []
    expire = ReportedInbox.expire

    def counted(self: ReportedInbox) -> tuple[str, ...]:
        import threading

        reads.append(threading.current_thread().name)
        return expire(self)

    monkeypatch.setattr(ReportedInbox, "expire", counted)
    until(lambda: values(seen, "waiting"), {inbox.inbox_id(): 0})
    for _ in range(20):
        seen.metrics("aegis.inbox.waiting")
    assert reads == ["aegis-state"]


def test_a_forked_child_counts_anew(inbox: ReportedInbox, desk: AnswerDesk, seen: Signals) -> None:
    """What its parent has read is reported by the parent."""
    until(lambda: values(seen, "waiting"), {inbox.inbox_id(): 0})
    say(desk, ask(inbox), approved=False)
    until(lambda: values(seen, "ended").get("denied"), 1)
    meter = inbox._meter
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        read = meter.latest()
        os._exit(0 if read is None or not any(read.ended.values()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert meter.latest() is not None


def test_events_of_answers_and_grants(inbox: ReportedInbox, desk: AnswerDesk, seen: Signals) -> None:
    """Each has the inbox and the decision; why an answer counts for nothing has no value of an argument."""
    about = {"aegis.inbox.id": inbox.inbox_id()}
    asked = ask(inbox)
    id = {"aegis.decision.id": asked.question.decision_id}
    say(desk, asked, grant=GrantTerms(3600.0, "time"))
    assert seen.events("aegis.inbox.answered") == [{**about, **id, "aegis.approval.outcome": "approved"}]
    given = {**about, "aegis.approval.grant.id": asked.question.decision_id}
    assert seen.events("aegis.inbox.granted") == [given]
    with pytest.raises(AnswerRefused):
        say(desk, asked, ANN)
    refused = {**about, **id, "aegis.approval.refusal": "it was approved already"}
    assert seen.events("aegis.inbox.answer_refused") == [refused]
    assert inbox.revoke(asked.question.decision_id, "ann")
    assert not inbox.revoke(asked.question.decision_id, "ann")
    assert seen.events("aegis.inbox.grant_revoked") == [given]


def test_an_answer_that_the_inbox_refuses_is_an_event(inbox: ReportedInbox, seen: Signals) -> None:
    """Also where the desk let it through; one that is withdrawn meanwhile, say."""
    asked = ask(inbox)
    inbox.end(asked.question.decision_id, asked.digest, QuestionStatus.WITHDRAWN)
    answer = an_answer(asked)
    with pytest.raises(AnswerRefused):
        inbox.answer(SignedAnswer(encode_answer(answer), b"", "k"), answer)
    (event,) = seen.events("aegis.inbox.answer_refused")
    assert event["aegis.approval.refusal"] == "nobody waits for the answer any more"


def test_a_refused_answer_is_an_event_once(inbox: ReportedInbox, desk: AnswerDesk, seen: Signals) -> None:
    """As it is recorded once, however often somebody sends it."""
    asked = ask(inbox, approvers=Approvers(users=("cfo",)))
    for _ in range(5):
        with pytest.raises(AnswerRefused):
            say(desk, asked)
        inbox.refuse(asked.question.decision_id, "bob", "the form is older than 12 hours")
    assert len(seen.events("aegis.inbox.answer_refused")) == 2
    assert len(inbox.refused_answers(10)) == 2


def test_every_grant_is_an_event(inbox: ReportedInbox, desk: AnswerDesk, seen: Signals) -> None:
    """However many there are."""
    asked = [ask(inbox, decision_id=f"d{number:03}") for number in range(52)]
    for each in asked:
        say(desk, each, grant=GrantTerms(3600.0, "time"))
    given = [event["aegis.approval.grant.id"] for event in seen.events("aegis.inbox.granted")]
    assert given == [each.question.decision_id for each in asked]


def test_a_yes_without_a_grant_gives_none(inbox: ReportedInbox, desk: AnswerDesk, seen: Signals) -> None:
    say(desk, ask(inbox))
    assert len(seen.events("aegis.inbox.answered")) == 1
    assert seen.events("aegis.inbox.granted") == []
