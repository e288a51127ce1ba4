"""What the page says: hostile texts, facts that are cut, lists of many."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from aegis_otel.cli.approvals.page.views import PER_PAGE, Views
from aegis_otel.governance.approvals.inbox import GrantTerms, QuestionStatus
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person
from tests.support.approvals_page import EVIL, Visitor, path_of, put
from tests.support.inbox import shared_question


class TagReader(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.classes: list[str] = []
        self.script = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.classes += [value or "" for name, value in attrs if name == "class"]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.script += data


def test_hostile_texts_are_only_texts(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """In every field, on every page: no markup of theirs, and no character that nobody sees."""
    names = ("action_type", "action_target", "agent_name", "user_id", "tenant_id", "matched_rule", "reason")
    more = ("conversation_id", "policy_digest", "tool_name", "risk_level")
    state = put(desk, params=EVIL, user_roles=json.dumps([EVIL]), **dict.fromkeys((*names, *more), EVIL))
    bob = visit("bob")
    pages = [bob.get(path).text for path in ("/", "/?show=all", path_of(state))]
    bob.answer(state.question.decision_id, "yes", grant="hour", reason=EVIL)
    pages += [bob.get(path).text for path in (path_of(state), "/ended", "/grants")]
    for page in pages:
        assert "<img" not in page
        assert "<script>" not in page
        assert r"\u202e" in page
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u200b\u202e]", page)
        reader = TagReader()
        reader.feed(page)
        assert {"img", "iframe", "style"} & reader.tags == set()
        assert {each for each in reader.attributes if each.startswith("on")} == set()
        assert "style" not in reader.attributes
        assert not any("script" in each for each in reader.classes)
        assert reader.script == "", "no inline script"


def test_a_fact_that_is_cut_hides_nothing_from_who_approves(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    """Such as the end of a target."""
    state = put(desk, action_target=f"/safe/{'a' * 2_100}/../../etc/passwd")
    bob, path = visit(), path_of(state)
    first = bob.get(path)
    assert "etc/passwd" not in first.text
    assert 'value="yes"' not in first.text
    part = bob.fields(path, f"{path}/answer")
    assert bob.post(f"{path}/answer", {**part, "answer": "yes"}).status == 409
    assert "etc/passwd" in bob.get(f"{path}?all=1").text
    whole = bob.fields(f"{path}?all=1", f"{path}/answer")
    assert bob.post(f"{path}/answer", {**whole, "answer": "yes"}).status == 303


def test_names_in_our_sentences_are_code_and_texts_of_agents_are_not(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    """Whatever stands between the backticks of a rule is escaped."""
    who = Approvers(users=("root", "<img src=x>*"), roles=("fin*",))
    state = put(desk, approvers=who, reason="as `root` said", trusted_keys=("0123456789abcdef",))
    page = visit().get(path_of(state)).text
    assert "<code>root</code>, <code>&lt;img src=x&gt;*</code> or role <code>fin*</code>" in page
    assert "name the private key of what it trusts with <code>AEGIS_ANSWER_KEY</code>" in page
    assert "as `root` said" in page


def test_people_see_their_roles(visit: Callable[..., Visitor]) -> None:
    assert "<bdi>bob</bdi>, with <bdi>finance, staff</bdi>" in visit(roles="staff,finance").get("/").text


@pytest.mark.parametrize(
    "about",
    [
        {"user_roles": "[" * 100_000},
        {"user_roles": "1" * 5_000},
        {"action_params": '{"a":' + "[" * 200_000 + "]" * 200_000 + "}"},
        {"risk_level": None, "action_type": None, "agent_name": None, "matched_rule": None, "reason": None},
    ],
    ids=["roles", "number", "arguments", "nothing"],
)
def test_a_question_of_any_texts_is_shown(
    desk: AnswerDesk, visit: Callable[..., Visitor], about: dict[str, Any]
) -> None:
    shared = shared_question()
    of_row = {name: value for name, value in about.items() if name != "action_params"}
    state = desk.inbox.put(
        msgspec.structs.replace(
            shared,
            question=msgspec.structs.replace(shared.question, **about),
            row=msgspec.structs.replace(shared.row, **of_row),
        )
    )
    assert [visit().get(path).status for path in ("/", path_of(state))] == [200, 200]


def test_grants_are_paged(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    for number in range(60):
        state = put(desk, action_type=f"charge{number:02}.")
        terms = GrantTerms(3600.0, "time")
        desk.give(
            state.question.decision_id, state.digest, Person("bob", (), "local"), approved=True, grant=terms
        )
    first = visit().get("/grants").text
    more = re.search(r'href="(/grants\?after=[^"]+)">Newer', first)
    assert more is not None
    second = visit().get(more[1]).text
    assert "Newer" not in second
    seen = [re.findall(r"<bdi>charge(\d+)\.</bdi>", page) for page in (first, second)]
    assert seen == [[f"{n:02}" for n in range(50)], [f"{n:02}" for n in range(50, 60)]]


def test_lists_of_many_are_paged(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    for number in range(120):
        put(desk, params=f"number {number:03}.")
    bob = visit()
    first = bob.get("/").text
    assert "120 questions wait for you" in first
    seen = [
        number
        for page in (1, 2, 3)
        for number in re.findall(r"number (\d+)\.", bob.get(f"/?page={page}").text)
    ]
    assert seen == [f"{number:03}" for number in range(120)]
    assert re.findall(r"number (\d+)\.", bob.get("/?page=99").text) == [f"{n:03}" for n in range(100, 120)]


def test_a_time_that_is_in_no_calendar_is_no_other_time(desk: AnswerDesk) -> None:
    template = Views(desk)._environment.from_string(
        "{% import 'parts.html' as parts %}{{ parts.moment(at, relative=true) }}"
    )
    assert template.render(at=1 << 80).strip() == "at no calendar time"
    assert 'datetime="1970-01-01T00:00:01+00:00" data-until=' in template.render(at=1_000_000_000)


def test_ended_questions_say_who_answered_and_for_whom(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    yes, left = put(desk, user_id="carl", tenant_id=None), put(desk, user_id=None, tenant_id=None)
    visit("bob").answer(yes.question.decision_id, "yes")
    desk.inbox.end(left.question.decision_id, left.digest, QuestionStatus.WITHDRAWN)
    newest, oldest = visit().get("/ended").text.split('<li class="card">')[1:]
    assert "answered by <bdi>bob</bdi>, for <bdi>carl</bdi>, by the rule <bdi>ask</bdi>" in oldest
    assert '<p class="small">for no named user, by the rule <bdi>ask</bdi>' in newest
    assert "answered by" not in newest


def test_ended_questions_are_paged(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """A link to older ones stands only where there are some; behind the last one, there is a way back."""

    def end_some(count: int) -> None:
        for _ in range(count):
            state = put(desk)
            desk.inbox.end(state.question.decision_id, state.digest, QuestionStatus.WITHDRAWN)

    end_some(PER_PAGE)
    first = visit().get("/ended").text
    assert first.count('<li class="card">') == PER_PAGE
    assert 'class="pages"' not in first
    end_some(1)
    older = re.search(r'href="(/ended\?after=[^"]+)">Older', visit().get("/ended").text)
    assert older is not None
    second = visit().get(unescape(older[1])).text
    assert second.count('<li class="card">') == 1
    assert '<a href="/ended">Newest</a>' in second
    assert "Older" not in second
    behind = visit().get("/ended?after=0").text
    assert "None here" in behind
    assert '<a href="/ended">Newest</a>' in behind
