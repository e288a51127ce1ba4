"""Which forms the page takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html import unescape

import pytest

from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person
from tests.support.approvals_page import Visitor, now, path_of, put, refusals


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"origin": "https://evil.example"}, "https://evil.example"),
        ({"origin": "null"}, "`null`"),
        ({"origin": None}, "no `Origin`"),
        ({"origin": "http://127.0.0.1"}, "`http://127.0.0.1`"),
        ({"sec-fetch-site": "cross-site"}, "another site"),
        ({"sec-fetch-site": "same-site"}, "another site"),
        ({"content-type": "text/plain"}, "not a form"),
        ({"content-type": "multipart/form-data; boundary=x"}, "not a form"),
    ],
)
def test_a_form_of_another_site_is_refused(
    desk: AnswerDesk, visit: Callable[..., Visitor], headers: dict[str, str | None], why: str
) -> None:
    """Even with cookie and token of the person."""
    state = put(desk)
    bob = visit()
    path = f"{path_of(state)}/answer"
    fields = {**bob.fields(path_of(state), path), "answer": "yes"}
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    answer = bob.post(path, fields, **named)
    assert answer.status == 403
    assert why in answer.sentences
    assert now(desk, state).status is QuestionStatus.WAITING
    (refused,) = refusals(desk, state)
    assert refused[0] == "bob"
    assert refused[1] in unescape(answer.text)
    assert "evil" not in refused[1]


def test_nobody_takes_the_places_of_refused_answers(
    desk: AnswerDesk, visit: Callable[..., Visitor], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is signed in may send what they like: it is in the log, and some of it is recorded."""
    state = put(desk, approvers=Approvers(users=("cfo",)))
    path = f"{path_of(state)}/answer"
    eve, mallory = visit("eve"), visit("mallory")
    for number in range(25):
        eve.post(path, {"answer": "yes"}, origin=f"https://x{number}.example")
        eve.post(path, {"answer": "yes"}, sec_fetch_site="cross-site")
        eve.post(path, {"answer": "yes"}, content_type="text/plain")
        eve.post(path, {"answer": "yes"})
        assert f"https://x{number}.example" in caplog.text
    assert len(refusals(desk, state)) == 3
    mallory.post(path, {"answer": "yes"})
    with pytest.raises(AnswerRefused):
        desk.give(state.question.decision_id, state.digest, Person("mallory", (), "oidc"), approved=True)
    assert [name for name, _ in refusals(desk, state)] == ["eve"] * 3 + ["mallory"] * 2


def test_a_form_counts_for_its_person_browser_and_question_only(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    state, other = put(desk), put(desk)
    bob, eve = visit("bob"), visit("eve")
    path = f"{path_of(state)}/answer"
    of_bob = {**bob.fields(path_of(state), path), "answer": "yes"}
    of_other = {**bob.fields(path_of(other), f"{path_of(other)}/answer"), "answer": "yes"}
    eve.get("/")
    assert eve.post(path, of_bob).status == 403, "another person"
    eve.cookies = dict(bob.cookies)
    assert eve.post(path, of_bob).status == 403, "another person with the same cookie"
    assert visit("bob").post(path, of_bob).status == 403, "no cookie"
    bob_elsewhere = visit("bob")
    bob_elsewhere.get("/")
    assert bob_elsewhere.post(path, of_bob).status == 403, "another browser"
    assert bob.post(path, of_other).status == 403, "the form of another question"
    assert bob.post(path, {**of_bob, "digest": other.digest}).status == 403, "another digest"
    for token in ("", "1.x", "9" * 40, f"{int(time.time())}.{'0' * 64}", "\u0661.00"):
        assert bob.post(path, {**of_bob, "token": token}).status == 403
    assert now(desk, state).status is QuestionStatus.WAITING
    assert len(refusals(desk, state)) == 3, "each person and reason once"
    assert bob.post(path, of_bob).status == 303


def test_a_cookie_that_this_page_has_not_made(visit: Callable[..., Visitor]) -> None:
    """Only texts as the page makes them are sent back; any other is replaced."""
    bob = visit()
    for forged in ("a" * 42 + " ", '"' + "a" * 42 + "\\001" + '"', "a" * 42 + "!"):
        bob.cookies = {"aegis-form": forged}
        assert bob.get("/").status == 200
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", bob.cookies["aegis-form"])
    kept = dict(bob.cookies)
    bob.get("/")
    assert bob.cookies == kept


@pytest.mark.parametrize(
    "body", ["a=1&a=2&token=x", "answer=yes;", "&".join(f"f{n}=1" for n in range(20)), "x=%ff"]
)
def test_a_form_that_is_none(desk: AnswerDesk, visit: Callable[..., Visitor], body: str) -> None:
    state = put(desk)
    bob = visit()
    headers: dict[str, str | None] = {
        "origin": bob.origin,
        "content-type": "application/x-www-form-urlencoded",
    }
    assert bob.send("POST", f"{path_of(state)}/answer", body, headers).status == 403
    huge = bob.send("POST", f"{path_of(state)}/answer", "reason=" + "x" * 70_000, headers)
    assert huge.status == 403
