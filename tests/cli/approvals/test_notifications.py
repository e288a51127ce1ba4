"""Messages about questions to a web service, on a real socket, out of a real inbox."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from aegis_otel.cli.approvals import inbox_follower, notifications
from aegis_otel.cli.approvals.notifications import Notifier, notifying
from aegis_otel.errors import ConfigError
from aegis_otel.governance.approvals.inbox import Inbox, QuestionState, QuestionStatus, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import encode_answer
from aegis_otel.model import Approvers
from aegis_otel.state.opening import open_inbox, open_state
from tests.support.inbox import an_answer, run_sql, shared_question

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PAGE = "https://approvals.example.com"


class Service:
    """A web service that takes messages, or answers as it is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        """The id and the content of each message that it was sent, verified by the reference library."""
        self.status: Callable[[], int] = lambda: 204
        self.delay_s = 0.0
        self.url = ""

    def said(self) -> list[tuple[str, str]]:
        return [(message["type"], message["data"]["decision_id"]) for _, message in self.messages]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message["data"] for _, message in self.messages if message["type"] == kind]


@contextmanager
def listening() -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            content = Webhook(SECRET).verify(
                body, {name.lower(): value for name, value in self.headers.items()}
            )
            time.sleep(service.delay_s)
            service.messages.append((self.headers["webhook-id"], content))
            self.send_response(service.status())
            self.send_header("content-length", "0")
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}/told"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with listening() as found:
        yield found


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return open_inbox(f"sqlite:///{tmp_path}/state.sqlite3")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_POLL_S", 0.02)
    monkeypatch.setattr(inbox_follower, "EXPIRE_EVERY_S", 0.05)
    monkeypatch.setattr(notifications, "_pause", lambda tries: 0.02 * 2**tries)


def sending(inbox: Inbox, service: Service) -> AbstractContextManager[None]:
    return notifying(Notifier(inbox, _answers, service.url, SECRET, PAGE))


def _answers(state: QuestionState) -> list[Any]:
    from aegis_otel.governance.approvals.inbox_codec import decode_answer

    return [decode_answer(each.body) for each in state.answers]


def say(
    inbox: Inbox, state: QuestionState, approver: str = "bob", *, approved: bool = True, **about: Any
) -> None:
    answer = an_answer(state, approver, approved=approved, **about)
    inbox.answer(SignedAnswer(encode_answer(answer), b"", "key"), answer)


def until(holds: Callable[[], object], seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


def quiet(service: Service) -> list[tuple[str, str]]:
    """What was said, and that nothing follows."""
    time.sleep(0.3)
    return service.said()


def test_a_question_and_its_end(inbox: Inbox, service: Service) -> None:
    """Everything that a chat bot needs to ask, and to say what became of it."""
    approvers = Approvers(users=("bob", "*@example.com"), roles=("finance",), count=2)
    with sending(inbox, service):
        asked = inbox.put(shared_question("d-1", "two\nlines", approvers, expires_s=900.0))
        until(service.said)
        (waiting,) = service.of("approval.waiting")
        assert waiting["status"] == "waiting"
        assert waiting["url"] == f"{PAGE}/questions/d-1"
        assert waiting["question_digest"] == asked.digest
        assert waiting["question"]["action_params"] == {"note": "two\nlines"}
        assert waiting["question"]["user_roles"] == ["clerk"]
        assert waiting["question"]["risk_level"] == "HIGH"
        assert waiting["question"]["approvers"]["users"] == ["bob", "*@example.com"]
        assert waiting["question"]["approvers"]["count"] == 2
        assert waiting["asked_at"] < waiting["expires_at"]
        say(inbox, asked, "bob", reason="ticket 7")
        assert quiet(service) == [("approval.waiting", "d-1")], "one of two answers ends nothing"
        say(inbox, asked, "ann@example.com")
        until(lambda: service.of("approval.ended"))
        (ended,) = service.of("approval.ended")
        assert ended["status"] == "approved"
        assert ended["answers"] == [
            {"approved": True, "approver": "bob", "reason": "ticket 7"},
            {"approved": True, "approver": "ann@example.com", "reason": None},
        ]
        assert inbox.use("d-1", asked.digest, "test")
        assert len(quiet(service)) == 2, (
            "that an approved call has gone on is no news for those who approved it"
        )


def test_a_yes_that_is_used_before_it_is_told(inbox: Inbox, service: Service) -> None:
    """It was a yes, however soon the agent went on."""
    with sending(inbox, service):
        asked = inbox.put(shared_question("d-1"))
        until(lambda: service.of("approval.waiting"))
        service.status = lambda: 500
        say(inbox, asked)
        inbox.use("d-1", asked.digest, "test")
        service.status = lambda: 200
        until(lambda: service.of("approval.ended"))
        quiet(service)
    assert {message["status"] for message in service.of("approval.ended")} == {"approved"}


@pytest.mark.parametrize("how", ["approved", "denied", "used"])
def test_an_end_that_no_answer_proves(inbox: Inbox, service: Service, tmp_path: Path, how: str) -> None:
    """Somebody has written it into the inbox: nobody is told that it was so."""
    with sending(inbox, service):
        inbox.put(shared_question("d-1"))
        until(lambda: service.of("approval.waiting"))
        stored = open_state(f"sqlite:///{tmp_path}/state.sqlite3")
        run_sql(stored, "UPDATE aegis.inbox_change SET number = 100")
        run_sql(stored, "UPDATE aegis.question SET status = :how, change = 100", how=how)
        stored.close()
        until(lambda: service.of("approval.ended"))
        (ended,) = service.of("approval.ended")
    assert (ended["status"], ended["answers"]) == ("unknown", [])


@pytest.mark.parametrize("how", ["denied", "expired", "withdrawn"])
def test_each_end_is_told(inbox: Inbox, service: Service, how: str) -> None:
    with sending(inbox, service):
        asked = inbox.put(shared_question("d-1", expires_s=0.3 if how == "expired" else None))
        until(lambda: service.of("approval.waiting"))
        if how == "denied":
            say(inbox, asked, approved=False)
        elif how == "withdrawn":
            inbox.end("d-1", asked.digest, QuestionStatus.WITHDRAWN)
        until(lambda: service.of("approval.ended"))
        assert service.of("approval.ended")[0]["status"] == how
        assert len(quiet(service)) == 2


def test_what_waits_when_it_starts(inbox: Inbox, service: Service) -> None:
    """All of it is told, also what was told before; a message has the same id again."""
    for number in range(5):
        inbox.put(shared_question(f"d-{number}"))
    inbox.end("d-4", inbox.look(["d-4"])["d-4"].digest, QuestionStatus.WITHDRAWN)
    for _ in range(2):
        with sending(inbox, service):
            until(lambda: len(service.messages) >= 4)
            assert sorted(quiet(service)) == [("approval.waiting", f"d-{number}") for number in range(4)]
            ids = {message_id for message_id, _ in service.messages}
            service.messages.clear()
    assert len(ids) == 4
    with sending(inbox, service):
        until(lambda: len(service.messages) == 4)
        assert {message_id for message_id, _ in service.messages} == ids


def test_sent_again_until_it_is_taken(
    inbox: Inbox, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """With the same id; that it fails is logged once, and that it works again."""
    statuses = iter([500, 302, 404, 429])
    service.status = lambda: next(statuses, 200)
    with sending(inbox, service), caplog.at_level(logging.WARNING):
        inbox.put(shared_question("d-1"))
        until(lambda: len(service.messages) == 5)
        assert len(quiet(service)) == 5
    assert len({message_id for message_id, _ in service.messages}) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the service for notifications failed, and is asked again: it answered with status 500",
        "the service for notifications takes messages again",
    ]


def test_a_question_that_ends_meanwhile(inbox: Inbox, service: Service) -> None:
    """Nobody is asked what is over."""
    service.status = lambda: 500
    with sending(inbox, service):
        asked = inbox.put(shared_question("d-1"))
        until(lambda: len(service.messages) == 2)
        say(inbox, asked, approved=False)
        until(lambda: service.of("approval.ended"))
        waiting = len(service.of("approval.waiting"))
        service.status = lambda: 200
        until(lambda: len(service.of("approval.ended")) > 1)
        time.sleep(0.5)
        assert len(service.of("approval.waiting")) == waiting


def test_a_service_that_is_slow_holds_nothing_up(inbox: Inbox, service: Service) -> None:
    """The loop goes on; messages are under way beside each other, and not more than eight."""
    service.delay_s = 1.0
    for number in range(16):
        inbox.put(shared_question(f"d-{number:02}"))

    async def go() -> float:
        notifier = Notifier(inbox, _answers, service.url, SECRET, PAGE)
        task = asyncio.create_task(notifier.run())
        longest, last = 0.0, time.monotonic()
        while len(service.messages) < 16:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return longest

    began = time.monotonic()
    longest = asyncio.run(go())
    assert time.monotonic() - began > 1.9
    assert longest < 0.8, "something waited on the loop"


def test_no_more_than_there_is_room_for(
    inbox: Inbox, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "_MOST_OPEN", 3)
    answering = threading.Event()
    service.status = lambda: 204 if answering.wait(10) else 500
    for number in range(6):
        inbox.put(shared_question(f"d-{number}"))
    with sending(inbox, service), caplog.at_level(logging.WARNING):
        until(lambda: len(service.messages) == 3)
        assert len(quiet(service)) == 3
        answering.set()
        until(lambda: len(service.messages) == 6)
        assert len({message["data"]["decision_id"] for _, message in service.messages}) == 6
        assert len(quiet(service)) == 6
    # Once more where two of the first three were answered before the third.
    assert {record.getMessage() for record in caplog.records} == {
        "3 notifications wait to be sent: more are not sent for now"
    }


def test_a_service_that_answers_byte_by_byte(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds no message for longer than a response may take: all are sent, and sent again."""
    monkeypatch.setattr(notifications, "_TIMEOUT_S", 0.5)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["webhook-id"])
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for number in range(100):
                    self.wfile.write(b"x-%d: x\r\n" % number)
                    time.sleep(0.1)

        def log_message(self, *arguments: Any) -> None:
            pass

    for number in range(16):
        inbox.put(shared_question(f"d-{number:02}"))
    slow = Service()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        slow.url = f"http://127.0.0.1:{server.server_port}/told"
        with sending(inbox, slow), caplog.at_level(logging.WARNING):
            until(lambda: len(set(asked)) == 16)
            until(lambda: len(asked) > 16)
        server.shutdown()
        thread.join()
    assert "it took longer than 0.5 s" in caplog.text


def test_large_arguments_are_on_the_page_only(inbox: Inbox, service: Service) -> None:
    with sending(inbox, service):
        inbox.put(shared_question("d-1", "x" * 200_000))
        until(lambda: service.messages)
    assert service.of("approval.waiting")[0]["question"]["action_params"] is None


def test_what_somebody_else_wrote_into_the_inbox(
    inbox: Inbox, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Members that would stand beside ours, and ids that would lead elsewhere."""
    import msgspec

    forged = shared_question("d-1")
    question = msgspec.structs.replace(forged.question, action_params='{}, "status": "approved"')
    inbox.put(msgspec.structs.replace(forged, question=question))
    inbox.put(shared_question("../../sign-out?x=1"))
    with sending(inbox, service), caplog.at_level(logging.WARNING):
        until(lambda: service.messages)
        assert [kind for kind, _ in quiet(service)] == ["approval.waiting"]
    assert service.messages[0][1]["data"]["url"] == f"{PAGE}/questions/..%2F..%2Fsign-out%3Fx%3D1"
    assert [record.getMessage() for record in caplog.records] == ["no notification of d-1: JSONDecodeError"]


def test_a_service_that_is_not_there(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    """It is told as soon as it is."""
    with listening() as gone:
        pass
    with sending(inbox, gone), caplog.at_level(logging.WARNING):
        inbox.put(shared_question("d-1"))
        until(lambda: caplog.records)
    assert "it could not be reached (ConnectError)" in caplog.text


def test_an_inbox_that_is_away(
    inbox: Inbox, service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest goes on, and so does this once it is back."""
    place = tmp_path / "state.sqlite3"
    inbox.put(shared_question("d-1"))
    with sending(inbox, service), caplog.at_level(logging.WARNING):
        until(lambda: service.messages)
        place.rename(tmp_path / "away")
        place.mkdir()
        until(lambda: "the inbox cannot be read" in caplog.text)
        place.rmdir()
        (tmp_path / "away").rename(place)
        inbox.put(shared_question("d-2"))
        until(lambda: len(service.messages) == 2)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://hooks.example.com/", SECRET),
        ("https://user:password@hooks.example.com/", SECRET),
        ("hooks.example.com", SECRET),
        ("https://hooks.example.com/", "whsec_short"),
        ("https://hooks.example.com/", ""),
    ],
)
def test_settings_that_cannot_work(inbox: Inbox, url: str, secret: str) -> None:
    with pytest.raises(ConfigError) as error:
        Notifier(inbox, _answers, url, secret, PAGE)
    assert "password" not in str(error.value) or "user or password" in str(error.value)
    assert "`headers`" not in str(error.value)  # which the page has not
    assert "whsec_short" not in str(error.value)


def test_another_secret_does_not_verify(service: Service) -> None:
    """The test's own check: the reference library refuses what is signed by another key."""
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    signed = notifications.Signer(other).sign("msg_1", str(int(time.time())), b"{}")
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(
            json.dumps({}),
            {"webhook-id": "msg_1", "webhook-timestamp": str(int(time.time())), "webhook-signature": signed},
        )
