"""The desk at which people's answers are taken, as the page, the commands and programs of others use it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person, open_answer_desk
from aegis_otel.runtime.approval.answer_signature import load_answer_signer
from tests.runtime.approval.test_answer_signature import make_pair
from tests.support.approvals_page import make_desk
from tests.support.inbox import an_answer, shared_question


@pytest.fixture
def desk(tmp_path: Path) -> AnswerDesk:
    return make_desk(tmp_path / "audit")


def give(desk: AnswerDesk, state: QuestionState, name: str, *, approved: bool = True) -> QuestionStatus:
    person = Person(name, (), "service")
    return desk.give(state.question.decision_id, state.digest, person, approved=approved)


@pytest.mark.parametrize(
    "name", ["", " bob", "bob, eve", "bob\ufe0f", "bob\u2800", "\u202ebob", "b" * 257, "bob\n"], ids=ascii
)
def test_a_name_that_could_be_taken_for_another(name: str, desk: AnswerDesk) -> None:
    """A program of somebody else may pass on any name."""
    state = desk.inbox.put(shared_question(approvers=Approvers(("bob",))))
    with pytest.raises(AnswerRefused, match="the name"):
        give(desk, state, name)
    now = desk.inbox.look([state.question.decision_id])[state.question.decision_id]
    assert (now.status, len(desk.refused(now.question.decision_id))) == (QuestionStatus.WAITING, 1)


def test_an_address_in_upper_case_is_the_same(desk: AnswerDesk) -> None:
    state = desk.inbox.put(shared_question(approvers=Approvers(("bob@example.com",))))
    assert give(desk, state, "Bob@Example.COM") is QuestionStatus.APPROVED


def test_an_answer_that_the_agent_would_not_trust_is_not_written(
    desk: AnswerDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with another key can end no question, as a yes or a no that counts for nothing would."""
    state = desk.inbox.put(shared_question(trusted_keys=("0123456789abcdef", "fedcba9876543210")))
    before = desk.inbox.counts().change
    for approved in (True, False):
        with pytest.raises(AnswerRefused) as refused:
            give(desk, state, "bob", approved=approved)
    own = desk._signer().key_id
    assert str(refused.value) == (
        f"it would be signed with the own key of the user who runs this, {own}, and the agent that asks "
        "trusts 0123456789abcdef and fedcba9876543210: name the private key of what it trusts with "
        "`AEGIS_ANSWER_KEY`, which is not set"
    )
    assert desk.inbox.counts().change == before, "nothing was written"
    private, _ = make_pair(tmp_path)
    monkeypatch.setenv("AEGIS_ANSWER_KEY", str(private))
    other = open_answer_desk(str(tmp_path / "audit"))
    with pytest.raises(AnswerRefused, match=f"the key of `AEGIS_ANSWER_KEY`, {other._signer().key_id}, and"):
        give(other, state, "bob")
    right = msgspec.structs.replace(shared_question(), trusted_keys=(other._signer().key_id, own))
    assert give(other, other.inbox.put(right), "bob") is QuestionStatus.APPROVED


def test_an_answer_with_a_key_that_nobody_named_is_forged_and_none_that_cannot_be_checked(
    desk: AnswerDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to the inbox can sign one with a key of their own."""
    (tmp_path / "forger").mkdir()
    private, _ = make_pair(tmp_path / "forger")
    with monkeypatch.context() as patch:
        patch.setenv("AEGIS_ANSWER_KEY", str(private))
        forger = load_answer_signer(tmp_path / "audit")
    named = (desk._signer().key_id,)
    forged, true = (desk.inbox.put(shared_question(trusted_keys=named)) for _ in range(2))
    answer = an_answer(forged, "mallory")
    desk.inbox.answer(forger.sign(answer), answer)
    give(desk, true, "bob")
    now = desk.inbox.look([each.question.decision_id for each in (forged, true)])
    assert [desk.has_unknown_key(now[each.question.decision_id]) for each in (forged, true)] == [False, False]
    (tmp_path / "other").mkdir()
    _, public = make_pair(tmp_path / "other")
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(public))
    other = open_answer_desk(str(tmp_path / "audit"))
    assert [other.has_unknown_key(now[each.question.decision_id]) for each in (forged, true)] == [False, True]


def test_a_question_that_does_not_say_which_keys_count(desk: AnswerDesk) -> None:
    assert give(desk, desk.inbox.put(shared_question()), "bob") is QuestionStatus.APPROVED


def test_a_question_that_is_over_says_so_whatever_the_key(desk: AnswerDesk) -> None:
    state = desk.inbox.put(shared_question(trusted_keys=("0123456789abcdef",)))
    desk.inbox.end(state.question.decision_id, state.digest, QuestionStatus.WITHDRAWN)
    with pytest.raises(AnswerRefused, match="nobody waits"):
        give(desk, state, "bob")
