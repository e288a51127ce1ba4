"""The paths of the page: what people see, what they may do, and what is refused and recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.governance.approvals.inbox_codec import encode_answer
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from aegis_otel.state.opening import open_state
from tests.support.approvals_page import Visitor, now, path_of, put, refusals, serving
from tests.support.inbox import an_answer, run_sql

FINANCE = Approvers(roles=("finance",))


def test_a_question_is_listed_shown_and_approved(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """The answer is signed, with who gave it, how they signed in, and why."""
    state = put(desk, params="order 7", expires_s=900.0)
    bob = visit("bob@example.com", "support, finance")
    listed = bob.get("/")
    assert listed.status == 200
    assert "1 question waits for you" in listed.text
    assert "order 7" in bob.get(path_of(state)).text
    done = bob.answer(state.question.decision_id, "yes", reason="  ticket 4711 ")
    assert (done.status, done.headers["location"]) == (303, path_of(state))
    after = now(desk, state)
    assert after.status is QuestionStatus.APPROVED
    (answer,) = desk.answers(after)
    assert (answer.approved, answer.approver, answer.sign_in) == (True, "bob@example.com", "proxy")
    assert (answer.roles, answer.reason, answer.grant) == (("finance", "support"), "ticket 4711", None)
    shown = bob.get(path_of(state)).text
    assert "Approved by bob@example.com" in shown
    assert "You approved it." in shown
    assert "<textarea" not in shown
    assert "No question waits for you" in bob.get("/").text
    assert path_of(state) in bob.get("/ended").text


def test_a_no_is_one(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    state = put(desk)
    assert visit().answer(state.question.decision_id, "no", grant="hour").status == 303
    after = now(desk, state)
    assert after.status is QuestionStatus.DENIED
    assert [each.grant for each in desk.answers(after)] == [None]
    assert "Denied by bob" in visit("eve").get(path_of(state)).text


def test_two_have_to_say_yes(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """The first one sees that another one is needed, the second one whose yes is there."""
    state = put(desk, approvers=Approvers(roles=("finance",), count=2))
    bob, cid = visit("bob", "finance"), visit("cid", "finance")
    assert "Waits for 2 more to say yes" in bob.get(path_of(state)).text
    bob.answer(state.question.decision_id, "yes")
    assert now(desk, state).status is QuestionStatus.WAITING
    shown = bob.get(path_of(state)).text
    assert "Waits for one more to say yes" in shown
    assert 'value="yes">Approve' not in shown
    assert "No question waits for you" in bob.get("/").text
    assert "yes from bob, 1 more needed; you have answered" in bob.get("/?show=all").text
    assert "Yes from bob." in cid.get(path_of(state)).text
    cid.answer(state.question.decision_id, "yes")
    assert now(desk, state).status is QuestionStatus.APPROVED


@pytest.mark.parametrize(
    ("name", "roles", "why"),
    [("bob", "support", "you are none of the rule"), ("ANN", "finance", "the agent acts for you")],
)
def test_who_may_not_answer_is_told_why(
    desk: AnswerDesk, visit: Callable[..., Visitor], name: str, roles: str, why: str
) -> None:
    """They see the question, not the form; it is not among those for them."""
    state = put(desk, approvers=FINANCE)
    person = visit(name, roles)
    assert "No question waits for you" in person.get("/").text
    assert why in person.get("/?show=all").text
    shown = person.get(path_of(state)).text
    assert why in shown
    assert "<textarea" not in shown


def test_a_grant_is_given_seen_and_revoked(
    desk: AnswerDesk, visit: Callable[..., Visitor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aegis_otel.approvals")
    state, other = put(desk), put(desk, conversation_id=None)
    bob = visit()
    assert 'value="conversation"' in bob.get(path_of(state)).text
    assert 'value="conversation"' not in bob.get(path_of(other)).text, "it is in no conversation"
    for_nobody = bob.get(path_of(put(desk, user_id=None))).text
    assert 'value="hour"' not in for_nobody, "it would be one for every user"
    assert 'value="conversation"' in for_nobody
    bob.answer(state.question.decision_id, "yes", grant="conversation")
    bob.answer(other.question.decision_id, "yes", grant="hour")
    first, second = desk.inbox.all_grants()
    assert first.conversation_id == "conversation"
    assert second.conversation_id is None
    assert 3590 < (second.until_ns - second.state.read_ns) / 1e9 <= 3600
    shown = visit("eve").get("/grants").text
    assert shown.count("given by bob") == 2
    action = f"/grants/{first.grant_id}/revoke"
    eve = visit("eve")
    fields = eve.fields("/grants", action)
    for _ in range(2):
        assert eve.post(action, fields).status == 303
    written = [each for each in caplog.messages if "has signed in" not in each]
    assert written == [f"eve has ended the grant {first.grant_id}"]
    assert [each.grant_id for each in desk.inbox.all_grants() if each.revoked_by is None] == [second.grant_id]
    assert eve.get("/grants").text.count("given by bob") == 1


def test_a_yes_is_taken_back_by_a_no(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    state = put(desk, approvers=Approvers(count=2))
    bob = visit("bob")
    bob.answer(state.question.decision_id, "yes")
    shown = bob.get(path_of(state)).text
    assert "You approved it. You can take that back by a no." in shown
    assert ('value="yes">Approve' in shown, 'value="no">Deny' in shown) == (False, True)
    bob.answer(state.question.decision_id, "no")
    assert now(desk, state).status is QuestionStatus.DENIED
    assert "You denied it." in bob.get(path_of(state)).text


def test_a_page_whose_key_does_not_count_takes_no_answer(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    """It says so instead of the form, and a form that was loaded before changes nothing."""
    state = put(desk, trusted_keys=(desk._signer().key_id,))
    bob = visit()
    path = f"{path_of(state)}/answer"
    fields = {**bob.fields(path_of(state), path), "answer": "yes"}
    bad = put(desk, trusted_keys=("0123456789abcdef",))
    shown = bob.get(path_of(bad)).text
    assert "No answer on this page counts for it" in shown
    assert "trusts 0123456789abcdef" in shown
    assert "<textarea" not in shown
    assert bob.post(path, fields).status == 303
    assert now(desk, state).status is QuestionStatus.APPROVED


def test_a_replayed_form_is_no_second_answer(
    desk: AnswerDesk, visit: Callable[..., Visitor], caplog: pytest.LogCaptureFixture
) -> None:
    state = put(desk, approvers=Approvers(count=2))
    bob = visit()
    path = f"{path_of(state)}/answer"
    fields = {**bob.fields(path_of(state), path), "answer": "yes"}
    assert bob.post(path, fields).status == 303
    again = bob.post(path, fields)
    assert again.status == 409
    assert "does not count" in again.text
    assert "Refused answers" in again.text
    after = now(desk, state)
    assert after.status is QuestionStatus.WAITING
    assert len(desk.answers(after)) == 1
    assert [each.approver for each in desk.refused(state.question.decision_id)] == ["bob"]
    (line,) = (each for each in caplog.messages if "refused at the page" in each)
    assert line == (
        f"refused at the page of approvals: they have answered already (POST {path} from 127.0.0.1 by bob)"
    )


def test_a_question_that_changed_meanwhile_is_not_answered(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    """The same call, asked anew with other arguments: the yes was to the old ones."""
    state = put(desk, params="10 euros")
    bob = visit()
    path = f"{path_of(state)}/answer"
    fields = {**bob.fields(path_of(state), path), "answer": "yes"}
    put(desk, decision_id=state.question.decision_id, params="10,000 euros")
    late = bob.post(path, fields)
    assert late.status == 409
    assert "another one than was shown" in late.text
    assert "10,000 euros" in late.text
    assert now(desk, state).status is QuestionStatus.WAITING


@pytest.mark.parametrize("said", [{}, {"answer": "maybe"}, {"answer": "yes", "grant": "for ever"}])
def test_neither_a_yes_nor_a_no(
    desk: AnswerDesk, visit: Callable[..., Visitor], said: dict[str, str]
) -> None:
    state = put(desk)
    bob = visit()
    path = f"{path_of(state)}/answer"
    assert bob.post(path, {**bob.fields(path_of(state), path), **said}).status == 400
    assert now(desk, state).status is QuestionStatus.WAITING


def test_nobody_sees_anything_without_signing_in(desk: AnswerDesk, port: int) -> None:
    state = put(desk, params="secret plans")
    nobody = Visitor(port)
    for path in ("/", "/?show=all", path_of(state), "/ended", "/grants", "/changes", "/questions/none"):
        answer = nobody.get(path)
        assert answer.status == 401
        assert "secret plans" not in answer.text
    assert nobody.post(f"{path_of(state)}/answer", {"answer": "yes"}).status == 401
    assert refusals(desk, state) == []


def test_a_forged_header_names_nobody(desk: AnswerDesk, caplog: pytest.LogCaptureFixture) -> None:
    """It comes from an address that is not the proxy's: refused, and written down in log and inbox."""
    state = put(desk)
    with serving(desk, proxy="10.9.9.9") as port, caplog.at_level(logging.WARNING):
        mallory = Visitor(port, "ann@example.com", "finance")
        forged = {"x_forwarded_for": "10.9.9.9"}
        for answer in (
            mallory.get(path_of(state)),
            mallory.post(f"{path_of(state)}/answer", {"answer": "yes"}, **forged),
        ):
            assert answer.status == 403
            assert "It was refused: the header `x-user` came from 127.0.0.1" in answer.sentences
    assert now(desk, state).status is QuestionStatus.WAITING
    assert refusals(desk, state) == []
    written = [each.getMessage() for each in caplog.records if "refused at the page" in each.getMessage()]
    assert len(written) == 2, "each attempt once"
    assert all("not the proxy" in each for each in written)


def test_nobody_writes_into_the_inbox(
    desk: AnswerDesk, port: int, visit: Callable[..., Visitor], caplog: pytest.LogCaptureFixture
) -> None:
    """So no attempt of a person goes unrecorded, and no open page is loaded again for it."""
    state, nobody = put(desk), Visitor(port)
    before = desk.inbox.counts().change
    for number in range(25):
        nobody.post(f"{path_of(state)}/answer", {"answer": "yes"})
        nobody.post(f"{path_of(state)}/answer", {"answer": "yes"}, origin="https://evil.example")
        nobody.post(f"/questions/none-{number}/answer", {"answer": "yes"})
    assert desk.inbox.counts().change == before
    assert caplog.text.count("nobody is signed in") == 50
    bob, path = visit("bob"), f"{path_of(state)}/answer"
    fields = bob.fields(path_of(state), path)
    for _ in range(25):
        assert bob.post(path, {**fields, "digest": "0" * 64}).status == 403
    assert [each[0] for each in refusals(desk, state)] == ["bob"], "once for each reason"
    assert desk.inbox.counts().change == before + 1


def test_a_slash_at_the_end_is_another_page(visit: Callable[..., Visitor]) -> None:
    """It leads nowhere: least of all to http, where a proxy with TLS is before the page."""
    answer = visit().get("/ended/")
    assert answer.status == 404
    assert "location" not in answer.headers


def test_what_is_not_there(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    state = put(desk)
    bob = visit()
    assert bob.get("/questions/none").status == 404
    assert bob.get("/questions/" + "x" * 5000).status == 404
    assert bob.get("/questions/%00%ff").status == 404
    assert bob.get("/nope").status == 404
    assert bob.get("/static/../page.py").status == 404
    assert bob.get(f"{path_of(state)}/answer").status == 405
    assert bob.get("/?page=999999").status == 200
    assert bob.get("/?page=-1").status == 200
    assert bob.get("/ended?after=%00").status == 200


def test_signing_out_is_the_proxys_matter(visit: Callable[..., Visitor]) -> None:
    bob = visit()
    assert "still signed in" in bob.post("/sign-out", bob.fields("/", "/sign-out")).text
    assert bob.post("/sign-out", {}).status == 403


def test_the_inbox_that_is_away_is_said(
    desk: AnswerDesk, visit: Callable[..., Visitor], tmp_path: Path
) -> None:
    """Lists are shown as they were; what needs the inbox says that it cannot be reached."""
    state = put(desk, params="order 7")
    bob = visit()
    fields = bob.fields(path_of(state), f"{path_of(state)}/answer")
    (tmp_path / "audit" / "state.sqlite3").rename(tmp_path / "audit" / "away")
    (tmp_path / "audit" / "state.sqlite3").mkdir()
    try:
        listed = bob.get("/")
        assert listed.status == 200
        assert "may be out of date" in listed.text
        assert "order 7" in listed.text
        assert bob.get(path_of(state)).status == 503
        assert bob.post(f"{path_of(state)}/answer", {**fields, "answer": "yes"}).status == 503
    finally:
        (tmp_path / "audit" / "state.sqlite3").rmdir()
        (tmp_path / "audit" / "away").rename(tmp_path / "audit" / "state.sqlite3")
    assert bob.get(path_of(state)).status == 200


@pytest.mark.parametrize("status", ["approved", "used", "denied"])
def test_a_status_that_no_answer_proves(
    desk: AnswerDesk, tmp_path: Path, visit: Callable[..., Visitor], status: str
) -> None:
    """Whoever can write to the inbox can write it there, with an answer that nobody has signed."""
    state, bob = put(desk), visit()
    answer = an_answer(state, "cfo", approved=status != "denied")
    forged = {"body": encode_answer(answer), "signature": b"none", "key": "key"}
    stored = open_state(directory=tmp_path / "audit")
    run_sql(stored, "UPDATE aegis.question SET status = :status, ended_ns = 1, change = 100", status=status)
    run_sql(stored, "UPDATE aegis.inbox_change SET number = 100")
    run_sql(
        stored,
        "INSERT INTO aegis.answer VALUES (:id, 'cfo', 1, :body, :signature, :key)",
        id=state.question.decision_id,
        **forged,
    )
    said = f"nknown: it is stored as {status}, and no answer proves that"
    page = bob.get(path_of(state)).text
    assert f"U{said}" in page
    assert "cfo" not in page
    for words in ("The run can be resumed", "went on", "Denied by", "Approved by"):
        assert words not in page
    assert f"u{said}" in bob.get("/ended").text
    stored.close()


def test_a_yes_that_was_taken_says_no_more(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """The call may have been blocked after it, by a limit that was used up meanwhile."""
    state, bob = put(desk), visit()
    bob.answer(state.question.decision_id, "yes")
    assert desk.inbox.use(state.question.decision_id, state.digest, "host, pid 7")
    page = bob.get(path_of(state)).text
    assert "The agent has taken the yes. Whether the call ran is in the agent&#39;s audit." in page
    assert "went on" not in page


def test_users_of_one_name_have_their_tenants(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """In each list."""
    state, bob = put(desk, user_id="carl", tenant_id="acme"), visit()
    said = "for <bdi>carl</bdi>, tenant <bdi>acme</bdi>"
    assert said in bob.get("/").text
    bob.answer(state.question.decision_id, "yes", grant="hour")
    assert [said in bob.get(path).text for path in ("/ended", "/grants")] == [True, True]


def test_a_status_that_answers_prove(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    yes, no = put(desk), put(desk)
    bob = visit()
    for state, said in ((yes, "yes"), (no, "no")):
        path = f"{path_of(state)}/answer"
        bob.post(path, {**bob.fields(path_of(state), path), "answer": said})
    assert "Approved by bob" in bob.get(path_of(yes)).text
    assert "Denied by bob" in bob.get(path_of(no)).text
    ended = bob.get("/ended").text
    assert "approved, and not used yet" in ended
    assert "unknown" not in ended
