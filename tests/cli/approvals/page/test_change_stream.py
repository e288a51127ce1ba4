"""How open pages hear of changes."""

from __future__ import annotations

import http.client
import time
from collections.abc import Generator
from contextlib import ExitStack, closing

import pytest

from aegis_otel.cli.approvals.page.change_stream import MOST_OF_ONE
from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_page import FailingInbox, Visitor, put, serving


def events(port: int, seconds: float, name: str = "bob") -> Generator[tuple[float, str], None, None]:
    """The events that an open page gets, each with when."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
        connection.request("GET", "/changes", headers={"x-user": name})
        with connection.getresponse() as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            while line := answer.readline():
                if line.startswith(b"event: "):
                    yield time.monotonic(), line.decode()


def test_an_open_page_hears_of_changes(desk: AnswerDesk, port: int) -> None:
    """Of a question that another process asks, and of the end of it, within a second and a half."""
    with closing(events(port, 10)) as heard:
        next(heard)
        asked = time.monotonic()
        state = put(desk)
        assert next(heard)[0] - asked < 1.5
        ended = time.monotonic()
        desk.inbox.end(state.question.decision_id, state.digest, QuestionStatus.WITHDRAWN)
        assert next(heard)[0] - ended < 1.5


def test_open_pages_hear_again_after_any_failure(desk: AnswerDesk, caplog: pytest.LogCaptureFixture) -> None:
    inbox = FailingInbox(desk.inbox)
    failing = AnswerDesk(inbox, desk._signer, desk._check)  # type: ignore[arg-type]  # it has all that is needed
    with serving(failing) as port, closing(events(port, 10)) as heard:
        next(heard)
        inbox.fails = True
        time.sleep(2)
        inbox.fails = False
        put(desk)
        next(heard)
    assert caplog.text.count("nobody has thought of it") == 1


def test_a_server_that_stops_ends_the_streams(desk: AnswerDesk) -> None:
    with serving(desk) as port:
        heard = events(port, 30)
        next(heard)
    assert list(heard) == []


def test_nobody_takes_all_the_streams(desk: AnswerDesk, port: int) -> None:
    with ExitStack() as pages:
        for _ in range(MOST_OF_ONE):
            next(pages.enter_context(closing(events(port, 30))))
        assert Visitor(port, "bob").get("/changes").status == 503
        next(pages.enter_context(closing(events(port, 30, "ann"))))


def test_nobody_takes_all_the_streams_by_asking_at_once(port: int) -> None:
    """All requests are there before the first response begins. When they have gone, their places are free."""
    for _ in range(2):
        with ExitStack() as pages:
            asked = [
                pages.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)))
                for _ in range(5 * MOST_OF_ONE)
            ]
            for each in asked:
                each.connect()
            for each in asked:
                each.request("GET", "/changes", headers={"x-user": "eve"})
            answers = [pages.enter_context(each.getresponse()).status for each in asked]
            assert sorted(answers) == [200] * MOST_OF_ONE + [503] * 4 * MOST_OF_ONE
        time.sleep(1)


def test_a_browser_that_goes_at_once_frees_its_place(port: int) -> None:
    for _ in range(3 * MOST_OF_ONE):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/changes", headers={"x-user": "bob"})
    time.sleep(1)
    with closing(events(port, 10)) as heard:
        next(heard)
