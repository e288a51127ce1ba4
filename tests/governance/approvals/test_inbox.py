"""Questions and answers that processes share: what is bound to what, and what counts for nothing."""

from __future__ import annotations

import msgspec
import pytest

from aegis_otel import Action, Subject
from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.inbox import (
    Answer,
    Grant,
    GrantTerms,
    QuestionState,
    QuestionStatus,
    SharedQuestion,
    SignedAnswer,
)
from aegis_otel.governance.approvals.inbox_codec import (
    ANSWER_DOMAIN,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
    question_digest,
)
from aegis_otel.governance.approvals.inbox_proofs import (
    LATE_NS,
    call_payload,
    conversation_payload,
    grant_payload,
    granted,
    granting_answers,
    grants_the_same,
    has_scope,
    person_payload,
    proven_answers,
    shows_the_same,
)
from aegis_otel.governance.call import NOWHERE, Origin
from aegis_otel.model import Approval, Approvers, RiskLevel, Verdict
from tests.support.inbox import an_answer, shared_question, unsigned

replace = msgspec.structs.replace


def state_of(question: SharedQuestion, *answers: SignedAnswer) -> QuestionState:
    digest = question_digest(encode_question(question))
    return QuestionState(question, digest, QuestionStatus.WAITING, answers, 1, question.asked_ns)


def trusting(signed: SignedAnswer) -> Answer:
    if signed.key != "key":
        raise AnswerRefused("it is not signed")
    return decode_answer(signed.body)


@pytest.mark.parametrize(
    "text", ["plain", "ünï\u202ecode", "nul \0", "\ud800 lone", "<script>", "\x1b[2J", "x" * 1_000_000]
)
def test_what_is_kept_is_what_was_asked(text: str) -> None:
    """Also texts that UTF-8 does not have: then with an escape, and always alike."""
    question = shared_question(params=text, approvers=Approvers(("*@ops",), count=2), expires_s=9.5)
    body = encode_question(question)
    kept = decode_question(body)
    assert encode_question(kept) == body
    assert kept == question or "\ud800" in text
    assert kept.expires_ns == kept.asked_ns + 9_500_000_000


@pytest.mark.parametrize(
    "damage",
    [
        (b'"kind":"sdk"', b'"kind":"sms"'),
        (b'"version":1', b'"version":2'),
        (b'"kind":', b'"new":1,"kind":'),
        (b'"tool_name":"charge"', b'"tool_name":"other"'),
        (b'"run_1"}', b'"run_1"'),
        (b'"tool_call_id":"call_1"', b'"tool_call_id":"call_2"'),
        (b'"run_id":"run_1"', b'"run_id":"run_2"'),
    ],
)
def test_what_is_no_question(damage: tuple[bytes, bytes]) -> None:
    """It is not shown, and no answer is to it; the row has to be of the call that is shown."""
    body = encode_question(shared_question()).replace(b'"kind":"sdk"', b'"version":1,"kind":"sdk"')
    decode_question(body)
    damaged = body.replace(*damage, 1)
    assert damaged != body
    with pytest.raises(ValueError, match=r".+"):
        decode_question(damaged)


def test_an_answer_begins_with_its_domain() -> None:
    """So that what is signed for something else is never one."""
    answer = an_answer(state_of(shared_question()), grant=GrantTerms(60.0, "time"))
    body = encode_answer(answer)
    assert decode_answer(body) == answer
    for other in (
        body.removeprefix(ANSWER_DOMAIN),
        body + b"x",
        body.replace(b'"approved":true', b'"approved":1'),
    ):
        with pytest.raises(ValueError, match=r".+"):
            decode_answer(other)


def test_answers_that_do_not_count() -> None:
    """Of another question, key or time, and the second one of a person."""
    state = state_of(shared_question(expires_s=60.0))
    ends = state.question.expires_ns or 0
    first = an_answer(state, approver="Ann@example.com")
    forged = SignedAnswer(encode_answer(first), b"", "another")
    answers = (
        forged,
        unsigned(replace(first, question_digest="0" * 64)),
        unsigned(replace(first, decision_id="another")),
        unsigned(replace(first, approver="cid", answered_ns=ends + LATE_NS + 1)),
        unsigned(first),
        unsigned(replace(first, approver="ann@EXAMPLE.com ")),
        unsigned(replace(first, approver="bob", answered_ns=ends + LATE_NS)),
    )
    proven, others = proven_answers(state._replace(answers=answers), trusting)
    assert [each.approver for each in proven] == ["Ann@example.com", "bob"]
    assert len(others) == 5


def test_each_question_is_another() -> None:
    """Its nonce and its time are part of what is answered, as all of it is."""
    question = shared_question()
    digests = {
        question_digest(encode_question(each))
        for each in (
            question,
            replace(question, nonce="2"),
            replace(question, asked_ns=2),
            replace(question, call_digest="2"),
            replace(question, approvers=Approvers(count=2)),
            replace(question, row=replace(question.row, pid=2)),
        )
    }
    assert len(digests) == 6


@pytest.mark.parametrize(
    "name", ["action_params", "action_type", "tool_name", "agent_name", "user_id", "matched_rule", "reason"]
)
def test_a_question_that_shows_another_call(name: str) -> None:
    """Who writes to the inbox can put the digest of one call below the text of another."""
    own = shared_question()
    lie = replace(own, question=replace(own.question, **{name: '{"harmless":1}'}))
    assert shows_the_same(replace(own, nonce="7", asked_ns=7), own)
    assert not shows_the_same(lie, own)
    assert grants_the_same(lie, own) is (name in ("action_params", "agent_name", "reason"))
    assert not shows_the_same(replace(own, call_digest="7"), own)
    assert not grants_the_same(replace(own, grant_key="7"), own)


@pytest.mark.parametrize("of", ["run", "call", "user"])
def test_a_question_of_another(of: str) -> None:
    """What is shown of these may be alike, as it is redacted."""
    own = shared_question()
    field = {"run": "run_id", "call": "tool_call_id"}.get(of, f"{of}_key")
    assert not shows_the_same(replace(own, **{field: "another"}), own)
    elsewhere = replace(own, conversation_key="", question=replace(own.question, conversation_id=None))
    assert shows_the_same(elsewhere, own), "who resumes a run need not name the conversation"


def test_nothing_is_granted_for_all_users() -> None:
    """Where the user is not known, and in no conversation."""
    state = state_of(shared_question(user_id=None, conversation_id=None))
    assert not has_scope(state.question, "time")
    assert not has_scope(state.question, "conversation")
    for scope in ("time", "conversation"):
        kept = state._replace(answers=(unsigned(an_answer(state, grant=GrantTerms(60.0, scope))),))
        grant = Grant(state.question.decision_id, kept, False, 10**20)
        assert granting_answers(grant, state.question, trusting) == ()


def test_digests_are_of_one_call_and_one_grant() -> None:
    """No part of a call can move into the next one; a grant is for any arguments and any agent."""
    action = Action("charge", "card", agent="Clerk", subject=Subject("ann"))
    origin = Origin("charge", "call_1", run_id="run_1")
    others = [
        (Action("charge", "card", agent="Clerk"), origin),
        (Action("charge", "card", agent="Other", subject=Subject("ann")), origin),
        (Action("charge", "other", agent="Clerk", subject=Subject("ann")), origin),
        (action, Origin("charge", "call_2", run_id="run_1")),
        (action, Origin("charge", "call_1", run_id="run_2")),
        (action, NOWHERE),
    ]
    calls = {call_payload(*each, b"{}") for each in [(action, origin), *others]}
    assert len(calls | {call_payload(action, origin, b'{"a":1}')}) == 8
    verdict = Verdict(Approval.APPROVE, RiskLevel.HIGH, "rule", policy_digest="sha256:00")
    grants = [grant_payload(verdict, *each) for each in others]
    own = grant_payload(verdict, action, origin)
    assert [each == own for each in grants] == [False, True, False, True, True, False]
    for about in ({"matched_rule": "another"}, {"policy_digest": "sha256:01"}):
        assert grant_payload(replace(verdict, **about), action, origin) != own
    assert person_payload("Ann") == person_payload("ann") != conversation_payload("ann")


def test_what_answers_grant_together() -> None:
    """The strictest terms; nothing where one of them grants nothing."""
    state = state_of(shared_question())
    ann = an_answer(state, approver="ann", answered_ns=10, grant=GrantTerms(60.0, "time"))
    bob = an_answer(state, approver="bob", answered_ns=20, grant=GrantTerms(30.0))
    assert granted([ann]) == (60_000_000_010, False)
    assert granted([ann, bob]) == (30_000_000_020, True)
    assert granted([ann, replace(bob, grant=None)]) is None
    assert granted([replace(ann, approved=False)]) is None
    assert granted([]) is None
    for seconds in (0, -1, 86_401, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="86400"):
            GrantTerms(seconds)


def test_a_grant_holds_by_its_answers_alone() -> None:
    """Who can write to the inbox can change all that it says of a grant, and not what was signed."""
    state = state_of(replace(shared_question(), asked_ns=5))
    given = an_answer(state, grant=GrantTerms(60.0), answered_ns=5)

    def holds(answer: Answer = given, own: SharedQuestion = state.question, **changed: object) -> bool:
        kept = state._replace(answers=(unsigned(answer),), read_ns=int(str(changed.pop("now", 5))))
        grant = Grant(state.question.decision_id, kept, False, 10**20)._replace(**changed)
        return bool(granting_answers(grant, own, trusting))

    question = state.question.question
    assert holds()
    assert holds(own=replace(state.question, question=replace(question, action_params="{}")))
    assert not holds(now=60_000_000_005)
    assert not holds(revoked_by="ann")
    assert not holds(replace(given, grant=None))
    assert not holds(replace(given, approved=False))
    assert not holds(replace(given, question_digest="0" * 64))
    assert not holds(own=replace(state.question, question=replace(question, action_target="other")))
    elsewhere = replace(state.question, conversation_key="key of another that looks alike")
    assert not holds(own=elsewhere)
    assert holds(replace(given, grant=GrantTerms(60.0, "time")), own=elsewhere)
    nowhere = replace(state.question, conversation_key="")
    assert not holds(own=nowhere)
    looks_otherwise = replace(state.question, question=replace(question, conversation_id="other"))
    assert not holds(own=looks_otherwise)
