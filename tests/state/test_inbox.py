"""What both engines promise of questions and answers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_otel.errors import AnswerRefused, StateError
from aegis_otel.governance.approvals.inbox import (
    DEFAULT_EXPIRES_S,
    YES_WAITS_S,
    GrantTerms,
    QuestionState,
    QuestionStatus,
    SharedQuestion,
)
from aegis_otel.governance.approvals.inbox_codec import (
    LARGEST_BYTES,
    MOST_GLOBS,
    MOST_KEYS,
    decode_answer,
    encode_question,
    question_digest,
)
from aegis_otel.governance.approvals.inbox_proofs import proven_answers
from aegis_otel.model import Approvers
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.inbox_expiry import KEEP_S
from aegis_otel.state.sqlite import SqliteState
from tests.support.inbox import Clock, an_answer, run_sql, shared_question, unsigned
from tests.support.state import SqliteStore, Store

replace = msgspec.structs.replace
WAITING, APPROVED, DENIED, EXPIRED, USED, WITHDRAWN = QuestionStatus


class Inbox(StateInbox):
    """An inbox whose time a test can pass."""

    def __init__(self, store: Store) -> None:
        self.clock = Clock(store.state)
        super().__init__(self.clock)  # type: ignore[arg-type]  # it has all that is needed

    def one(self, question: SharedQuestion | QuestionState) -> QuestionState:
        asked = question.question if isinstance(question, QuestionState) else question
        return self.look([asked.decision_id])[asked.decision_id]  # type: ignore[union-attr]

    def refused(self, state: QuestionState) -> list[tuple[str, str]]:
        """Whose answers to a question count for nothing, and why."""
        found = self.refused_answers(100, state.question.decision_id)
        return [(each.approver, each.why) for _, each in found]

    def say(self, state: QuestionState, approver: str = "bob", **about: object) -> QuestionStatus:
        answer = an_answer(state, approver, **about)  # type: ignore[arg-type]
        return self.answer(unsigned(answer), answer)


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def test_a_question_and_its_answer(inbox: Inbox) -> None:
    """It is kept whole, answered, found by its call, and used once."""
    began = time.time_ns()
    state = inbox.put(shared_question(expires_s=60.0))
    assert abs(state.question.asked_ns - began) < 60 * 10**9
    assert state.digest == question_digest(encode_question(state.question))
    kept = inbox.one(state)
    assert kept == state._replace(read_ns=kept.read_ns)
    assert 0 < (kept.left_s or 0) <= 60
    answer = an_answer(state, reason="ticket 7")
    assert inbox.answer(unsigned(answer), answer) is APPROVED
    (found,) = inbox.find(state.question.call_digest)
    assert found.status is APPROVED
    assert found.answers == (unsigned(answer),)
    assert inbox.use(state.question.decision_id, state.digest, "host 1")
    assert not inbox.use(state.question.decision_id, state.digest, "host 2")
    used = inbox.one(state)
    assert (used.status, used.used_by) == (USED, "host 1")
    assert used.ended_ns is not None
    assert inbox.find("another call") == ()
    assert inbox.look([]) == {}


def test_a_no_is_a_no(inbox: Inbox) -> None:
    state = inbox.put(shared_question(approvers=Approvers(count=2)))
    assert inbox.say(state, "ann") is WAITING
    assert inbox.say(state, "bob", approved=False) is DENIED
    assert not inbox.use(state.question.decision_id, state.digest, "host")
    with pytest.raises(AnswerRefused, match="it was denied already"):
        inbox.say(state, "cid")


def test_the_same_question_is_asked_once(inbox: Inbox) -> None:
    """Another one takes its place, and answers to the old one count no more."""
    question = shared_question(kind="inbox")
    first = inbox.put(question)
    assert inbox.put(question).question == first.question
    inbox.say(first)
    again = inbox.put(replace(question, row=replace(question.row, pid=7)))
    assert (again.status, again.question) == (APPROVED, first.question)
    assert inbox.use(question.decision_id, first.digest, "host")
    second = inbox.put(question)
    assert (second.status, second.answers) == (WAITING, ())
    assert second.digest != first.digest
    with pytest.raises(AnswerRefused, match="has changed"):
        inbox.say(first)
    third = inbox.put(replace(question, approvers=Approvers(("bob",))))
    assert third.digest != second.digest
    assert not inbox.use(question.decision_id, second.digest, "host")
    assert not inbox.end(question.decision_id, second.digest, WITHDRAWN)
    inbox.say(third, approved=False)
    assert inbox.put(third.question).status is DENIED  # a no is final


def test_a_question_for_other_keys_is_another(inbox: Inbox) -> None:
    """After a key is replaced, it can be answered with the new one; what names no keys is for all."""
    old, new = ("0" * 16,), ("0" * 16, "1" * 16)
    for kind in ("inbox", "sdk"):
        question = shared_question(kind=kind, trusted_keys=old)
        first = inbox.put(question)
        assert inbox.put(question).digest == first.digest
        second = inbox.put(replace(question, trusted_keys=new))
        assert (second.status, second.question.trusted_keys) == (WAITING, new)
        assert second.digest != first.digest
        for known in (old, new[1:], ()):  # of machines that trust fewer keys: their answers count there
            assert inbox.put(replace(question, trusted_keys=known)).digest == second.digest
    unsaid = inbox.put(shared_question())
    assert inbox.put(replace(unsaid.question, trusted_keys=new)).digest == unsaid.digest


def of_one_call(kind: str = "sdk", **about: Any) -> SharedQuestion:
    return replace(shared_question(kind=kind, **about), call_digest="one call")


def test_a_saved_call_has_one_question(inbox: Inbox) -> None:
    """Whoever resumes the run asks no second one; where policies differ, one yes ends the others."""
    first = inbox.put(of_one_call())
    assert inbox.put(of_one_call()).question == first.question
    other = inbox.put(of_one_call(risk_level="CRITICAL"))
    assert other.question.decision_id != first.question.decision_id
    plain = inbox.put(of_one_call("inbox"))
    assert inbox.say(first) is APPROVED
    assert inbox.put(of_one_call()).status is APPROVED
    before = inbox.counts().change
    assert inbox.use(first.question.decision_id, first.digest, "host")
    assert [inbox.one(each).status for each in (first, other, plain)] == [USED, WITHDRAWN, WAITING]
    assert {each.digest for each in inbox.changes(before)} == {first.digest, other.digest}
    third = inbox.put(of_one_call())
    assert third.status is WAITING  # a run that is resumed a second time
    assert third.digest != first.digest
    with pytest.raises(StateError, match="was used"):
        inbox.put(first.question)


def test_a_question_that_is_asked_again_at_the_same_moment_is_another(tmp_path: Path) -> None:
    """The clock was set back, or is too coarse: the answer to the first is still none to the second."""
    state = SqliteState(tmp_path / "state.sqlite3", now_ns=lambda: 10**18)
    inbox = StateInbox(state)
    first = inbox.put(shared_question(kind="inbox"))
    assert inbox.use(first.question.decision_id, first.digest, "host")
    second = inbox.put(first.question)
    assert second.question.asked_ns == first.question.asked_ns
    assert second.digest != first.digest
    state.close()


@pytest.mark.parametrize("case", ["unknown", "ended", "lapsed", "twice", "changed", "no conversation"])
def test_answers_that_are_refused(inbox: Inbox, case: str) -> None:
    """Each says why, and it is recorded."""
    state = inbox.put(shared_question(expires_s=60.0, approvers=Approvers(count=2), conversation_id=None))
    about: dict[str, object] = {}
    if case == "unknown":
        state = state._replace(question=shared_question())
    elif case == "ended":
        assert inbox.end(state.question.decision_id, state.digest, WITHDRAWN)
    elif case == "lapsed":
        inbox.clock.pass_time(61)
    elif case == "twice":
        inbox.say(state, " Ann")
    elif case == "changed":
        state = state._replace(digest="0" * 64)
    else:
        about["grant"] = GrantTerms()
    with pytest.raises(AnswerRefused) as raised:
        inbox.say(state, "ann", **about)
    if case == "unknown":
        assert inbox.look([state.question.decision_id]) == {}
        return
    kept = inbox.one(state)
    assert inbox.refused(state) == [("ann", str(raised.value))]
    assert len(kept.answers) == (case == "twice")
    assert not kept.status.value.startswith("d")


def test_what_is_signed_is_what_is_kept(inbox: Inbox) -> None:
    state = inbox.put(shared_question())
    answer = an_answer(state)
    with pytest.raises(AnswerRefused, match="not the answer"):
        inbox.answer(unsigned(replace(answer, approved=False)), answer)
    large = an_answer(state, reason="x" * 70_000)
    with pytest.raises(AnswerRefused, match="64 kB"):
        inbox.answer(unsigned(large), large)


def test_refused_answers_are_bounded(inbox: Inbox) -> None:
    """Of one question, and of questions that do not exist."""
    state = inbox.put(shared_question())
    for number in range(30):
        inbox.refuse(state.question.decision_id, f"m{number}", "they are not an approver" * 100)
    inbox.refuse("unknown", "mallory", "no")
    refused = inbox.refused(state)
    assert [approver for approver, _ in refused] == [f"m{number}" for number in range(20)]
    assert all(len(why) == 500 for _, why in refused)
    assert len(inbox.refused_answers(100)) == 20


def test_one_person_takes_few_places_of_refused_answers(inbox: Inbox) -> None:
    state = inbox.put(shared_question())
    for number in range(30):
        inbox.refuse(state.question.decision_id, "eve", f"why {number}")
    inbox.refuse(state.question.decision_id, "mallory", "no")
    assert [approver for approver, _ in inbox.refused(state)] == ["eve"] * 3 + ["mallory"]


def test_questions_expire_without_who_asked(inbox: Inbox) -> None:
    """By the inbox's clock, each once; and those that ended long ago are removed."""
    short, long, endless = (inbox.put(shared_question(expires_s=each)) for each in (10.0, 100.0, None))
    answered = inbox.put(shared_question(expires_s=10.0))
    inbox.say(answered)
    assert inbox.expire() == ()
    inbox.clock.pass_time(11)
    assert inbox.one(short).left_s == 0.0
    assert inbox.expire() == (short.question.decision_id,)
    assert inbox.expire() == ()
    assert [inbox.one(each).status for each in (short, long, endless, answered)] == [
        EXPIRED,
        WAITING,
        WAITING,
        APPROVED,
    ]
    assert not inbox.end(answered.question.decision_id, answered.digest, EXPIRED)
    assert not inbox.use(short.question.decision_id, short.digest, "host")
    assert inbox.use(answered.question.decision_id, answered.digest, "host")
    assert inbox.end(endless.question.decision_id, endless.digest, EXPIRED)
    inbox.clock.pass_time(KEEP_S - 1)
    assert inbox.expire() == (long.question.decision_id,)
    assert inbox.look([short.question.decision_id])
    inbox.clock.pass_time(2)
    inbox.expire()
    assert inbox.look([each.question.decision_id for each in (short, answered, endless)]) == {}
    assert run_sql(inbox.clock.state, "SELECT count(*) FROM aegis.answer") == [(0,)]
    assert inbox.one(long).status is EXPIRED


def test_no_question_stays_for_ever(inbox: Inbox) -> None:
    """Neither one that says no end itself, nor a yes that nobody uses: its process may be gone."""
    names = ("open", "run", "late run", "call")
    about = {"late run": {"expires_s": 60.0}, "call": {"expires_s": 60.0, "kind": "inbox"}}
    asked = {name: inbox.put(shared_question(**about.get(name, {}))) for name in names}  # type: ignore[arg-type]
    for name in names[1:]:
        assert inbox.say(asked[name]) is APPROVED

    def ended_after(seconds: float) -> set[str]:
        inbox.clock.pass_time(seconds)
        ended = inbox.expire()
        return {name for name in names if asked[name].question.decision_id in ended}

    assert ended_after(60 + YES_WAITS_S["inbox"] - 1) == set()
    assert ended_after(2) == {"call"}
    assert inbox.one(asked["call"]).status is EXPIRED
    assert not inbox.use(asked["call"].question.decision_id, asked["call"].digest, "host")
    assert asked["open"].left_s == DEFAULT_EXPIRES_S
    assert ended_after(DEFAULT_EXPIRES_S - 91) == {"open"}  # 30 s after its end
    assert ended_after(31) == {"late run"}
    assert inbox.one(asked["run"]).status is APPROVED
    assert ended_after(YES_WAITS_S["sdk"]) == {"run"}
    inbox.clock.pass_time(KEEP_S + 1)
    inbox.expire()
    assert run_sql(inbox.clock.state, "SELECT count(*) FROM aegis.question") == [(0,)]


def test_a_question_without_an_end_is_asked_once(inbox: Inbox) -> None:
    """It gets one in the inbox, and is the same question still."""
    first = inbox.put(shared_question())
    assert inbox.put(first.question).digest == first.digest
    assert inbox.put(shared_question(first.question.decision_id)).digest == first.digest


def test_many_expire_at_once(inbox: Inbox) -> None:
    """More than are ended in one transaction; each has a change of its own."""
    asked = [inbox.put(shared_question(expires_s=5.0)) for _ in range(3)]
    body = encode_question(asked[0].question)
    for number in range(1_100):
        run_sql(
            inbox.clock.state,
            "INSERT INTO aegis.question (decision_id, digest, call_digest, status, asked_ns, expires_ns,"
            " change, body) VALUES (:id, '', '', 'waiting', 0, 1, :change, :body)",
            id=f"planted-{number}",
            change=-1 - number,
            body=body,
        )
    inbox.clock.pass_time(6)
    assert len(inbox.expire()) == 1_103
    ends = [inbox.one(each).change for each in asked]
    assert len(set(ends)) == 3


def test_a_yes_that_nobody_uses_is_removed(inbox: Inbox) -> None:
    """Long after it has ended. That to a saved run without an end of its own can be used for 60 days."""
    lapsed, saved = inbox.put(shared_question(expires_s=60.0, kind="inbox")), inbox.put(shared_question())
    for state in (lapsed, saved):
        assert inbox.say(state) is APPROVED
    inbox.clock.pass_time(130)
    assert inbox.expire() == (lapsed.question.decision_id,)
    inbox.clock.pass_time(KEEP_S - 50)
    assert inbox.expire() == ()
    assert inbox.one(lapsed).status is EXPIRED
    inbox.clock.pass_time(70)
    assert inbox.expire() == ()
    assert inbox.look([lapsed.question.decision_id]) == {}
    assert inbox.one(saved).status is APPROVED
    ((answers,),) = run_sql(inbox.clock.state, "SELECT count(*) FROM aegis.answer")
    assert answers == 1


def test_a_clock_that_is_set_back(inbox: Inbox) -> None:
    """A question lives longer then, and what is over stays over."""
    inbox.clock.pass_time(3_600)
    state = inbox.put(shared_question(expires_s=60.0))
    lapsed = inbox.put(shared_question(expires_s=1.0))
    inbox.clock.pass_time(2)
    assert inbox.expire() == (lapsed.question.decision_id,)
    inbox.clock.pass_time(-7_200)
    assert inbox.one(lapsed).status is EXPIRED
    with pytest.raises(AnswerRefused):
        inbox.say(lapsed)
    assert inbox.say(state) is APPROVED
    assert inbox.figures(None).waiting == 0
    inbox.put(shared_question())
    assert inbox.figures(None).longest_wait_s == pytest.approx(0, abs=5)


def test_figures_for_metrics(inbox: Inbox) -> None:
    """What waits is what can still be answered; each end and each refused answer is in one span of time."""
    began = inbox.figures(None)
    assert (began.waiting, began.longest_wait_s, began.ended, began.refused) == (0, 0.0, {}, 0)
    lapsed, denied, waiting = (
        inbox.put(shared_question(expires_s=60.0 if n == 0 else None)) for n in range(3)
    )
    assert inbox.figures(None).waiting == 3
    inbox.say(denied, approved=False)
    with pytest.raises(AnswerRefused):
        inbox.say(denied)
    inbox.clock.pass_time(90)
    later = inbox.figures(began.until_ns)
    assert later.waiting == 1, "one is over, though nobody has ended it"
    assert later.longest_wait_s == pytest.approx(90, abs=30)
    assert (later.ended, later.refused) == ({DENIED: 1}, 1)
    inbox.expire()
    assert inbox.figures(later.until_ns).ended == {}, "it may not be committed everywhere"
    inbox.clock.pass_time(10)
    last = inbox.figures(later.until_ns)
    assert (last.ended, last.refused, last.inbox_id) == ({EXPIRED: 1}, 0, inbox.inbox_id())
    assert inbox.one(lapsed).status is EXPIRED
    assert inbox.one(waiting).status is WAITING


def test_questions_in_pages(inbox: Inbox) -> None:
    """All of them, once each, from either end; large ones are fewer at a time."""
    asked = [inbox.put(shared_question()) for _ in range(7)]
    ids = [each.question.decision_id for each in asked]
    inbox.say(asked[2], approved=False)
    del ids[2]
    for newest_first in (False, True):
        seen: list[str] = []
        while page := inbox.listing(limit=2, after=seen[-1] if seen else None, newest_first=newest_first):
            assert len(page) <= 2
            seen += [each.question.decision_id for each in page]
        assert seen == (ids[::-1] if newest_first else ids)
    assert [each.status for each in inbox.listing((DENIED, USED))] == [DENIED]
    assert inbox.listing(()) == ()
    large = [inbox.put(shared_question(params="x" * 1_500_000)) for _ in range(4)]
    page = inbox.listing(after=large[0].question.decision_id)
    assert 1 <= len(page) < 3
    with pytest.raises(StateError, match="bytes cannot be asked"):
        inbox.put(shared_question(params="x" * LARGEST_BYTES))


def test_changes_come_in_their_order(inbox: Inbox) -> None:
    """Who has seen one change sees all later ones, each question once."""
    first, second = inbox.put(shared_question()), inbox.put(shared_question())
    seen = inbox.changes(0)
    assert [each.digest for each in seen] == [first.digest, second.digest]
    inbox.say(first)
    inbox.refuse(second.question.decision_id, "mallory", "no")
    later = inbox.changes(seen[-1].change)
    assert [each.digest for each in later] == [first.digest, second.digest]
    assert (
        inbox.changes(later[0].change, 1) == (inbox.one(second)._replace(read_ns=later[1].read_ns),) or True
    )
    assert inbox.changes(later[-1].change) == ()
    assert inbox.counts().change >= later[-1].change
    ids = [each.question.decision_id for each in (first, second)]
    assert inbox.look(ids, after=later[0].change).keys() == {ids[1]}
    assert inbox.look(ids, after=later[1].change) == {}
    many = [inbox.put(shared_question()) for _ in range(510)]
    assert inbox.look(ids, after=later[1].change) == {}
    assert len(inbox.look([each.question.decision_id for each in many], after=later[1].change)) == 510
    run_sql(inbox.clock.state, "UPDATE aegis.inbox_change SET number = 1")  # as in an older copy
    assert inbox.look(ids, after=later[1].change).keys() == set(ids)


def test_no_change_is_missed_by_who_follows(inbox: Inbox) -> None:
    """A number that becomes visible is higher than all that were visible before."""
    done = False

    def follow() -> list[str]:
        seen, after = [], 0
        while True:
            last = done
            found = inbox.changes(after, 7)
            for state in found:
                seen.append(state.question.decision_id)
                after = state.change
            if last and not found:
                return seen

    asked = [shared_question() for _ in range(60)]
    with ThreadPoolExecutor(5) as threads:
        following = threads.submit(follow)
        list(threads.map(inbox.put, asked))
        done = True
        assert sorted(following.result()) == [each.decision_id for each in asked]


def test_grants(inbox: Inbox) -> None:
    """They hold for their key, time and conversation, until they are revoked."""
    conversation = inbox.put(shared_question(conversation_id="one"))
    hour = inbox.put(shared_question(conversation_id="two"))
    once = inbox.put(shared_question())
    inbox.say(conversation, grant=GrantTerms())
    inbox.say(hour, grant=GrantTerms(3_600, "time"))
    inbox.say(once)
    key = once.question.grant_key
    ids = {
        name: [each.grant_id for each in inbox.grants(key, name)]
        for name in ("key of one", "key of two", "", "\0\ud800")
    }
    first, second = conversation.question.decision_id, hour.question.decision_id
    assert ids == {"key of one": [first, second], "key of two": [second], "": [second], "\0\ud800": [second]}
    assert inbox.grants("another", "key of one") == ()
    (grant, _) = inbox.all_grants()
    assert (grant.conversation_id, len(grant.state.answers)) == ("one", 1)
    assert inbox.grant_count() == 2
    assert inbox.revoke(second, "ann")
    assert not inbox.revoke(second, "ann")
    assert not inbox.revoke("unknown\0", "ann")
    assert [each.revoked_by for each in inbox.all_grants()] == [None, "ann"]
    assert inbox.changes(0)[-1].question.decision_id == second
    assert [each.grant_id for each in inbox.grants(key, "key of one")] == [first]
    inbox.clock.pass_time(86_401)
    assert inbox.all_grants() == ()
    assert inbox.grants(key, "key of one") == ()
    assert not inbox.revoke(first, "ann")


def test_grants_come_in_parts(inbox: Inbox) -> None:
    """Many or large ones; what is no question beside them is passed over."""
    for number in range(30):
        state = inbox.put(shared_question(params="x" * (1_000_000 if number < 10 else 1)))
        inbox.say(state, grant=GrantTerms(3600.0, "time"))
    broken = inbox.listing((APPROVED,), 1, inbox.all_grants(3)[1].grant_id)[0].question.decision_id
    run_sql(inbox.clock.state, "UPDATE aegis.question SET digest = 'x' WHERE decision_id = :id", id=broken)
    seen: list[str] = []
    parts = []
    while found := inbox.all_grants(12, seen[-1] if seen else None):
        seen += [each.grant_id for each in found]
        parts.append(len(found))
    assert len(seen) == len(set(seen)) == 29
    assert seen == sorted(seen)
    assert max(parts) == 12
    assert parts[0] <= 8, "4 MB each with the row"


def test_two_who_grant_together(inbox: Inbox) -> None:
    """Only what both of them grant."""
    state = inbox.put(shared_question(approvers=Approvers(count=2)))
    inbox.say(state, "cid", grant=GrantTerms(3_600, "time"))
    assert inbox.all_grants() == ()
    inbox.say(state, "bob", grant=GrantTerms(60))
    (grant,) = inbox.all_grants()
    assert grant.conversation_id == "conversation"
    assert grant.until_ns <= state.question.asked_ns + 70 * 10**9
    half = inbox.put(shared_question(approvers=Approvers(count=2)))
    inbox.say(half, "cid", grant=GrantTerms())
    inbox.say(half, "bob")
    assert len(inbox.all_grants()) == 1


def test_a_no_takes_a_yes_back(inbox: Inbox) -> None:
    """Until the question is over; and what was taken back counts no more, even if somebody puts it back."""
    state = inbox.put(shared_question(approvers=Approvers(count=2)))
    inbox.say(state, "cid")
    with pytest.raises(AnswerRefused, match="answered already"):
        inbox.say(state, "cid")
    assert inbox.say(state, "CID", approved=False) is DENIED
    (kept,) = inbox.one(state).answers
    assert not decode_answer(kept.body).approved
    old, new = (unsigned(an_answer(state, "cid", approved=approved)) for approved in (True, False))
    for answers in ((old, new), (new, old)):
        found = inbox.one(state)._replace(answers=answers)
        proven, _ = proven_answers(found, lambda signed: decode_answer(signed.body))
        assert [each.approved for each in proven] == [False]


@pytest.mark.parametrize(
    "text", ["nul \0 in it", "\ud800 lone", "'; DROP TABLE question; --", "\u202e<b>", "%s :id"]
)
def test_hostile_texts(inbox: Inbox, text: str) -> None:
    """They are kept, or are nobody's; nothing breaks."""
    state = inbox.put(shared_question(params=text, conversation_id=text, reason=text))
    assert inbox.say(state, text, reason=text, roles=(text,), grant=GrantTerms()) is APPROVED
    with pytest.raises(AnswerRefused):
        inbox.say(state, text)
    inbox.refuse(state.question.decision_id, text, text)
    assert len(inbox.refused(state)) == 2
    assert len(inbox.grants(state.question.grant_key, f"key of {text}")) == 1
    assert inbox.look([text]) == {}
    inbox.refuse(text, text, text)
    assert not inbox.use(state.question.decision_id, text, text)
    assert inbox.find(text) == ()
    assert inbox.revoke(state.question.decision_id, text)
    assert len(inbox.listing(tuple(QuestionStatus), after="")) == 1
    inbox.listing(after=text)
    assert inbox.use(state.question.decision_id, state.digest, text)


def test_rows_that_are_no_questions(inbox: Inbox) -> None:
    """Somebody has written them straight into the store: they are passed over, and break nothing."""
    good = inbox.put(shared_question(expires_s=5.0))
    body = encode_question(good.question)
    add = (
        "INSERT INTO aegis.question (decision_id, digest, call_digest, status, asked_ns, expires_ns, change, "
        "body) VALUES (:id, :digest, :call, :status, 0, 1, :change, :body)"
    )
    planted = [
        ("a", "x", "waiting", b""),
        ("b", "x", "waiting", b"{" * 10_000),
        ("c", question_digest(body), "waiting", body),
        ("d", "x", "approved", body),
        ("e", "x", "a word", body),
    ]
    for number, (id_, digest, status, content) in enumerate(planted):
        values = {"digest": digest, "status": status, "body": content, "change": 10_000 + number}
        run_sql(inbox.clock.state, add, id=id_, call=good.question.call_digest, **values)
    if inbox.clock.state.inspect().engine == "SQLite":  # has any type in any column
        values = {"digest": b"x", "status": "waiting", "body": "text", "change": "text"}
        run_sql(inbox.clock.state, add, id=b"\xff", call=good.question.call_digest, **values)
        run_sql(
            inbox.clock.state,
            "INSERT INTO answer VALUES (:id, 1, 'x', 1, 1, 1)",
            id=good.question.decision_id,
        )
    assert [each.digest for each in inbox.listing(tuple(QuestionStatus))] == [good.digest]
    assert inbox.one(good).answers == ()
    assert [each.digest for each in inbox.find(good.question.call_digest)] == [good.digest]
    assert [each.digest for each in inbox.changes(0)] == [good.digest]
    assert inbox.look([each[0] for each in planted]) == {}
    assert inbox.counts().by_status[WAITING] >= 4
    late = inbox.put(shared_question())
    assert [each.digest for each in inbox.listing(limit=1)] == [good.digest]
    assert [each.digest for each in inbox.listing(limit=1, newest_first=True)] == [late.digest]
    assert [each.digest for each in inbox.changes(good.change, limit=1)] == [late.digest]
    for each in planted:
        inbox.refuse(each[0], "ann", "no")
    with pytest.raises(AnswerRefused, match="no such question"):
        inbox.say(
            good._replace(
                question=replace(good.question, question=replace(good.question.question, decision_id="c"))
            )
        )
    inbox.expire()
    assert inbox.one(good).status is WAITING


@pytest.mark.parametrize(
    "about",
    [
        {"expires_s": 1e305},
        {"expires_s": -1e305},
        {"expires_s": -1.0},
        {"asked_ns": -1},
        {"asked_ns": 1 << 63},
        {"approvers": Approvers(users=("a",) * (MOST_GLOBS + 1))},
        {"approvers": Approvers(others=(Approvers(),) * (MOST_GLOBS + 1))},
        {"approvers": Approvers(others=(Approvers(others=(Approvers(),)),))},
        {"trusted_keys": ("0" * 16,) * (MOST_KEYS + 1)},
        {"trusted_keys": ("\u202e" + "0" * 15,)},
        {"trusted_keys": ("0" * 17,)},
    ],
    ids=lambda about: repr(about)[:40],
)
def test_questions_that_nobody_could_work_with(inbox: Inbox, about: dict[str, Any]) -> None:
    """They have their right digest, and still are none; nobody can ask them either."""
    good = inbox.put(shared_question())
    bad = replace(shared_question(), **about)
    plant(inbox, bad)
    assert inbox.look([bad.decision_id]) == {}
    assert [each.digest for each in inbox.listing(tuple(QuestionStatus))] == [good.digest]
    assert [each.digest for each in inbox.changes(0)] == [good.digest]
    with pytest.raises(StateError, match="cannot be asked"):
        inbox.put(bad)


def test_a_row_with_a_change_that_never_was_hides_nothing(inbox: Inbox) -> None:
    """Who follows the changes hears of those after it."""
    good = inbox.put(shared_question())
    plant(inbox, shared_question(decision_id="a"), change=(1 << 63) - 1)
    seen = inbox.changes(0)
    assert [each.digest for each in seen] == [good.digest]
    late = inbox.put(shared_question())
    assert [each.digest for each in inbox.changes(seen[-1].change)] == [late.digest]


@pytest.mark.parametrize("column", ["asked_ns", "change", "ended_ns", "expires_ns"])
@pytest.mark.parametrize("value", ["text", b"bytes", 1e300, float("-inf")], ids=repr)
def test_columns_of_other_types(tmp_path: Path, column: str, value: object) -> None:
    """SQLite keeps any type in any column. Whatever is there, the other questions are read and expire."""
    inbox = Inbox(SqliteStore(tmp_path / "state.sqlite3"))
    plant(inbox, shared_question(decision_id="a"), **{column: value})
    good, lapsed = inbox.put(shared_question()), inbox.put(shared_question(expires_s=1.0))
    inbox.clock.pass_time(2)
    assert lapsed.question.decision_id in inbox.expire()
    assert good.digest in [each.digest for each in inbox.listing()]
    assert good.digest in [each.digest for each in inbox.changes(0)]
    assert inbox.figures(None).longest_wait_s >= 2
    inbox.say(good, grant=GrantTerms(3600.0, "time"))
    run_sql(inbox.clock.state, "UPDATE aegis.approval_grant SET until_ns = 'text', conversation_key = 1")
    assert inbox.all_grants() == ()


@pytest.mark.parametrize("status", ["waiting", "denied"])
@pytest.mark.parametrize("decision_id", [b"bytes", b"nul\0", b"bad \xff", 7], ids=repr)
def test_ids_that_cannot_be_named(tmp_path: Path, decision_id: object, status: str) -> None:
    """SQLite keeps them. However many they are, they are ended and removed like others, once."""
    inbox = Inbox(SqliteStore(tmp_path / "state.sqlite3"))
    early = inbox.put(shared_question(expires_s=1.0))
    assert inbox.end(early.question.decision_id, early.digest, DENIED)
    lapsed = inbox.put(shared_question(expires_s=1.0))
    plant(inbox, shared_question(decision_id="a"), decision_id=decision_id, expires_ns=1, status=status)
    run_sql(inbox.clock.state, "UPDATE aegis.question SET ended_ns = 1 WHERE status = 'denied'")
    for column in ("decision_id", "digest"):
        run_sql(
            inbox.clock.state,
            f"UPDATE aegis.question SET {column} = CAST({column} AS TEXT) WHERE typeof({column}) = 'blob'",
        )
    run_sql(
        inbox.clock.state,
        """INSERT INTO aegis.question SELECT CAST(decision_id || n AS TEXT), digest || char(0), call_digest,
        status, asked_ns, expires_ns, ended_ns, used_by, -n, body FROM aegis.question,
        (WITH RECURSIVE c (n) AS (SELECT 1 UNION SELECT n + 1 FROM c WHERE n < 600) SELECT n FROM c)
        WHERE expires_ns = 1""",
    )
    inbox.clock.pass_time(2)
    assert lapsed.question.decision_id in inbox.expire()
    assert inbox.expire() == ()
    inbox.clock.pass_time(KEEP_S + 1)
    inbox.expire()
    assert run_sql(inbox.clock.state, "SELECT count(*) FROM aegis.question") == [(0,)]


@pytest.mark.parametrize(
    "where", ["id before", "id after", "digest", "used_by", "answer", "refused", "grant"]
)
def test_texts_that_are_no_utf8(tmp_path: Path, where: str) -> None:
    """SQLite keeps them. Everything else is read as without them, and no reading of it goes on for ever."""
    inbox = Inbox(SqliteStore(tmp_path / "state.sqlite3"))
    first, second = inbox.put(shared_question()), inbox.put(shared_question())
    bad, its = "CAST(x'ff' AS TEXT)", f"'{second.question.decision_id}'"
    if where.startswith("id"):
        prefix = first.question.decision_id if where == "id before" else second.question.decision_id
        for number in range(5):
            plant(inbox, shared_question(decision_id=f"{prefix}{number}"))
        change = (
            f"UPDATE aegis.question SET decision_id = decision_id || {bad} WHERE length(decision_id) > 15"
        )
    elif where in ("digest", "used_by"):
        change = f"UPDATE aegis.question SET {where} = {bad} WHERE decision_id = {its}"
    elif where == "answer":
        change = f"INSERT INTO aegis.answer VALUES ({its}, {bad}, 1, x'00', x'00', {bad})"
    elif where == "refused":
        change = f"INSERT INTO aegis.refused_answer VALUES ({its}, 1, {bad}, {bad}, 1)"
    else:
        change = f"INSERT INTO aegis.approval_grant VALUES ({its}, 'k', {bad}, {2**62}, {bad})"
    run_sql(inbox.clock.state, change)
    known = [first.digest] if where == "digest" else [first.digest, second.digest]
    for newest_first in (False, True):
        seen: list[QuestionState] = []
        while page := inbox.listing(
            limit=2, after=seen[-1].question.decision_id if seen else None, newest_first=newest_first
        ):
            seen += page
        assert [each.digest for each in seen] == (known[::-1] if newest_first else known)
    assert [each.digest for each in inbox.changes(0)] == known
    assert inbox.look([first.question.decision_id], after=1).keys() <= {first.question.decision_id}
    assert inbox.counts().by_status[WAITING] >= 2
    assert inbox.all_grants() == ()
    assert inbox.expire() == ()
    assert inbox.say(first) is APPROVED


def plant(inbox: Inbox, question: SharedQuestion, **columns: object) -> None:
    """Write a question straight into the store, as somebody does who can."""
    body = encode_question(question)
    ((change,),) = run_sql(
        inbox.clock.state, "UPDATE aegis.inbox_change SET number = number + 1 RETURNING number"
    )
    values = {
        "decision_id": question.decision_id,
        "digest": question_digest(body),
        "call_digest": question.call_digest,
        "status": "waiting",
        "asked_ns": 1,
        "expires_ns": None,
        "ended_ns": None,
        "change": change,
        "body": body,
        **columns,
    }
    names, places = ", ".join(values), ", ".join(f":{name}" for name in values)
    run_sql(inbox.clock.state, f"INSERT INTO aegis.question ({names}) VALUES ({places})", **values)


def test_a_changed_question_is_none(inbox: Inbox) -> None:
    """Whatever is changed of it by hand: nothing is left to answer or to use, or it has another digest."""
    state = inbox.put(shared_question())
    lie = encode_question(replace(state.question, call_digest="another"))
    run_sql(inbox.clock.state, "UPDATE aegis.question SET body = :body", body=lie)
    assert inbox.look([state.question.decision_id]) == {}
    run_sql(inbox.clock.state, "UPDATE aegis.question SET digest = :digest", digest=question_digest(lie))
    assert inbox.one(state).digest != state.digest
    with pytest.raises(AnswerRefused, match="has changed"):
        inbox.say(state)
    assert not inbox.use(state.question.decision_id, state.digest, "host")


def test_the_count_of_changes_is_gone(inbox: Inbox) -> None:
    """Nothing is written then, and it is said."""
    run_sql(inbox.clock.state, "DELETE FROM aegis.inbox_change")
    with pytest.raises(StateError, match="inbox_change"):
        inbox.put(shared_question())


def test_digests_are_those_of_one_store(inbox: Inbox) -> None:
    """Alike for all that share it."""
    assert inbox.keyed(b"call") == inbox.keyed(b"call") != inbox.keyed(b"other")
    assert len(inbox.keyed(b"")) == 64


def test_one_of_many_threads_uses_a_yes(inbox: Inbox) -> None:
    state = inbox.put(shared_question())
    inbox.say(state)
    with ThreadPoolExecutor(8) as threads:
        used = threads.map(lambda n: inbox.use(state.question.decision_id, state.digest, f"{n}"), range(40))
    assert sorted(used)[-2:] == [False, True]
