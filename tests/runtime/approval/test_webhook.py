"""A web service is asked, over real HTTP and TLS: what it is sent, and what counts as its answer."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import json
import logging
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from standardwebhooks.webhooks import Webhook

from aegis_otel import Action, ConfigError, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.runtime.approval import WebhookApprovalHandler, webhook
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ANOTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
UNOBTAINABLE = "Approval could not be obtained"
YES = b'{"approved": true}'


class Asked(NamedTuple):
    """One request, as the service got it."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def question(self) -> dict[str, Any]:
        return json.loads(self.body)


def signed(message_id: str, body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers of a signed message, by the words of the specification."""
    stamp = str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for every request
    request_queue_size = 100

    def handle_error(self, *_: Any) -> None:
        """Clients go away; that is what some of them are here for."""


class Service:
    """A web service on this machine; `reply` gets each request and writes the response."""

    def __init__(self, reply: Callable[[Asked, Response], None], tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                asked = Asked({name.lower(): value for name, value in self.headers.items()}, body)
                service.asked.append(asked)
                reply(asked, Response(self, asked))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ask?from=agent"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Response:
    def __init__(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        self.handler, self.asked = handler, asked

    def json(self, body: bytes = YES, status: int = 200, **headers: str) -> None:
        """A signed JSON response, but for what `headers` say otherwise."""
        self.raw(
            body, status, **{"content_type": "application/json", **signed(self.asked.id, body), **headers}
        )

    def raw(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.handler.send_response(status)
        all_headers = {"content_length": str(len(body)), **headers}
        for name, value in {name.replace("_", "-"): value for name, value in all_headers.items()}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def client_has_left(self) -> bool:
        """Waits for the client to close the connection, at most 10 seconds."""
        self.handler.connection.settimeout(10)
        try:
            return self.handler.connection.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Starts services; they end with the test."""
    started: list[Service] = []

    def start(reply: Callable[[Asked, Response], None], **options: Any) -> Service:
        started.append(Service(reply, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


SERVE = Callable[..., Service]


class Executor(BaseExecutor):
    """Remembers what it carried out."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def execute(self, action: Action) -> Result:
        self.did.append(action.type)
        return Result(action=action, status=ResultStatus.SUCCESS)


ACTION = Action(
    "write_x",
    "postgres://app:hunter2@db/orders",
    {"to": "ann", "password": "hunter2", "note": "<script>"},
    "Writes with sk-live-4eC39HqLyjWDarjtT1zdp7dc",
    agent="Clerk",
)


async def ask(
    bench: BENCH, handler: WebhookApprovalHandler, *, action: Action = ACTION, timeout: float = 10.0
) -> tuple[Bench, Result]:
    """One action that needs approval; its body ran exactly when the result is a success."""
    executor = Executor()
    b = bench(approver=handler, executor=executor, timeout=timeout)
    result = await b.runtime.run_one(action)
    assert executor.did == (["write_x"] if result.ok else [])
    return b, result


def assert_no_approval(b: Bench, result: Result) -> None:
    """Denied, since nobody could be asked: in the row, in the one event and in the one count."""
    assert (result.status, result.error) == (ResultStatus.DENIED, UNOBTAINABLE)
    row = b.row()
    assert (row["result_status"], row["human_decision"], row["reason"]) == ("denied", None, "approval_error")
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert (event["aegis.decision.outcome"], event["aegis.decision.id"]) == ("denied", row["decision_id"])
    assert [n for n in b.telemetry.points("aegis.decisions").values() if n] == [1]


async def test_inventory_85_the_question(bench: BENCH, serve: SERVE) -> None:
    """Everything a human needs and nothing secret, signed so that any library of the standard accepts it."""
    service = serve(lambda asked, response: response.json())
    handler = WebhookApprovalHandler(service.url, secret=SECRET, headers={"Authorization": "Bearer gateway"})
    before = datetime.now(UTC)
    b, result = await ask(bench, handler, timeout=60)
    assert result.ok
    (asked,), row = service.asked, b.row()
    assert Webhook(SECRET).verify(asked.body, asked.headers) == asked.question
    assert asked.headers["authorization"] == "Bearer gateway"
    assert asked.headers["content-type"] == "application/json"
    question = asked.question
    expires = datetime.fromisoformat(question.pop("expires_at"))
    assert before + timedelta(seconds=59) < expires < datetime.now(UTC) + timedelta(seconds=61)
    assert question.pop("action_description") == "Writes with [REDACTED 32 chars]"
    assert question == {
        "decision_id": row["decision_id"],
        "session_id": "session",
        "conversation_id": None,
        "agent_name": "Clerk",
        "user_id": None,
        "tenant_id": None,
        "user_roles": None,
        "tool_name": None,
        "action_type": "write_x",
        "action_target": row["action_target"],
        "action_params": {"to": "ann", "password": "[REDACTED 7 chars]", "note": "<script>"},
        "args_digest": row["args_digest"],
        "risk_level": "HIGH",
        "approval": "approve",
        "matched_rule": "write_asks",
        "reason": row["reason"],
        "policy_digest": b.runtime.policy.digest,
        "approvers": None,
    }
    assert b"hunter2" not in asked.body


TWO_OF_FINANCE = {
    "version": "1",
    "rules": [
        {
            "name": "two",
            "risk_level": "high",
            "approval": "approve",
            "approvers": {"users": "boss", "roles": ["finance"], "count": 2, "self": True},
            "expires": "20s",
        }
    ],
}


@pytest.mark.parametrize(
    ("answers", "approver"),
    [
        ([{"approver": "ann", "roles": ["finance"]}, {"approver": "boss"}], "ann, boss"),
        ([{"approver": "ann", "roles": ["finance"]}, {"approver": "bob"}], None),
        ([{"approver": "ann", "roles": ["finance"]}, {"approver": "ANN", "roles": ["finance"]}], None),
        ([{"approver": "boss", "reason": "yes"}], None),
    ],
)
async def test_answers_of_several_persons(
    answers: list[dict[str, Any]], approver: str | None, bench: BENCH, serve: SERVE
) -> None:
    body = json.dumps({"answers": [{"approved": True} | each for each in answers]}).encode()
    service = serve(lambda asked, response: response.json(body))
    executor = Executor()
    handler = WebhookApprovalHandler(service.url, secret=SECRET)
    b = bench(policy=TWO_OF_FINANCE, approver=handler, executor=executor, timeout=600)
    result = await b.runtime.run_one(ACTION)
    (asked,) = service.asked
    assert asked.question["approvers"] == {
        "users": ["boss"],
        "roles": ["finance"],
        "count": 2,
        "self": True,
    }
    left = datetime.fromisoformat(asked.question["expires_at"]) - datetime.now(UTC)
    assert left < timedelta(seconds=20)
    assert (b.row()["approver"], executor.did) == (approver, ["write_x"] if approver else [])
    if approver is None:
        assert_no_approval(b, result)


@pytest.mark.parametrize("yes", [True, False])
async def test_an_answer_with_its_author(yes: bool, bench: BENCH, serve: SERVE) -> None:
    """Yes and no, who and why: in the row; the outcome in event and span."""
    said = {"approved": yes, "approver": "U024BE7LH", "reason": "per ticket 7", "more": [1]}
    body = json.dumps(said)

    def reply(asked: Asked, response: Response) -> None:
        now = datetime.now(UTC)
        response.json(
            body.encode(),
            webhook_timestamp=str(int(now.timestamp())),
            webhook_signature=Webhook(SECRET).sign(asked.id, now, body),
        )

    service = serve(reply)
    b, result = await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET))
    assert result.error == (None if yes else "Action denied by human operator")
    outcome, row = "approved" if yes else "denied", b.row()
    assert (row["human_decision"], row["approver"], row["approval_reason"]) == (
        outcome,
        "U024BE7LH",
        "per ticket 7",
    )
    (event,) = b.telemetry.events("aegis.tool.decision")
    (asked,) = b.telemetry.spans("await_approval")
    assert event["aegis.decision.outcome"] == asked.attributes["aegis.approval.outcome"] == outcome
    assert asked.attributes["aegis.approval.channel"] == "webhook"


@pytest.mark.parametrize(
    "body",
    [
        b'{"approved": "false"}',
        b'{"approved": "no"}',
        b'{"approved": "true"}',
        b'{"approved": 1}',
        b'{"approved": null}',
        b'{"approved": [true]}',
        b'{"Approved": true}',
        b'{"answer": {"approved": true}}',
        b'[{"approved": true}]',
        b"true",
        b'"approved"',
        b"",
        b"{}",
        b'{"approved": true} {"approved": false}',
        b'{"approved": false, "approved": true}',
        b'{"approved": true, "approver": {"name": "ann"}}',
        b'{"approved": true, "reason": 7}',
        b'{"answers": []}',
        b'{"answers": [true]}',
        b'{"answers": [{"approved": "true"}]}',
        b'{"answers": {"approved": true}}',
        b'{"approved": true, "answers": [{"approved": true}]}',
        b'{"approved": true, "roles": "finance"}',
        b'{"approved": true, "roles": [1]}',
        b'\xef\xbb\xbf{"approved": true}',
        '{"approved": true}'.encode("utf-16"),
        b'{"approved": true, "reason": "\xff"}',
        b"[" * 60_000,
        b"<html>approved: true</html>",
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_b25_only_json_true_approves(
    body: bytes, bench: BENCH, serve: SERVE, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else a service says with status 200, type JSON and a good signature approves nothing."""
    service = serve(lambda asked, response: response.json(body))
    assert_no_approval(*await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET)))
    assert "the approval handler failed" in caplog.text
    assert "WebhookError: the webhook's answer is not signed" not in caplog.text


def to_itself(asked: Asked, response: Response) -> None:
    response.json(status=307, location=f"http://127.0.0.1:{response.handler.server.server_address[1]}/yes")


def compressed(asked: Asked, response: Response) -> None:
    body = gzip.compress(YES)
    response.raw(body, content_type="application/json", content_encoding="gzip", **signed(asked.id, YES))


def endless(asked: Asked, response: Response) -> None:
    response.handler.send_response(200)
    response.handler.send_header("content-type", "application/json")
    response.handler.end_headers()
    for _ in range(10_000):
        response.handler.wfile.write(b" " * 10_000)


PLAIN = "something else than plain application/json"
LIES: dict[str, tuple[Callable[[Asked, Response], None], str]] = {
    "a page": (
        lambda asked, response: response.json(b"<html>true</html>", content_type="text/html"),
        PLAIN,
    ),
    "JSON that says it is a page": (lambda asked, response: response.json(content_type="text/html"), PLAIN),
    "no type": (lambda asked, response: response.raw(YES, **signed(asked.id, YES)), PLAIN),
    "compressed": (compressed, PLAIN),
    "an error": (lambda asked, response: response.json(status=500), "status 500"),
    "not found": (lambda asked, response: response.json(status=404), "status 404"),
    "another success": (lambda asked, response: response.json(status=201), "status 201"),
    "nothing": (lambda asked, response: response.raw(b"", 204), "status 204"),
    "a redirect": (to_itself, "status 307"),
    "larger than an answer is": (lambda asked, response: response.json(YES + b" " * 70_000), "larger than"),
    "without an end": (endless, "larger than"),
    "cut off": (lambda asked, response: response.json(content_length="1000"), "RemoteProtocolError"),
    "no HTTP": (
        lambda asked, response: response.handler.wfile.write(b"approved: true\r\n\r\n"),
        "RemoteProtocolError",
    ),
    "closes the connection": (lambda asked, response: None, "RemoteProtocolError"),
}


@pytest.mark.parametrize(("reply", "why"), LIES.values(), ids=LIES)
async def test_what_is_no_answer_denies(
    reply: Callable[[Asked, Response], None],
    why: str,
    bench: BENCH,
    serve: SERVE,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lie, an outage or somebody else's page: asked once, denied at once, and the log says why."""
    service = serve(reply)
    assert_no_approval(*await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET)))
    assert len(service.asked) == 1
    assert why in caplog.text


def echo(asked: Asked, response: Response) -> None:
    ours = {name: asked.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    response.json(asked.body, **ours)


FORGERIES: dict[str, Callable[[Asked, Response], None]] = {
    "unsigned": lambda asked, response: response.raw(YES, content_type="application/json"),
    "empty signature": lambda asked, response: response.json(webhook_signature=""),
    "another secret": lambda asked, response: response.json(**signed(asked.id, YES, ANOTHER)),
    "another question's yes": lambda asked, response: response.json(**signed("msg_another", YES)),
    "another body": lambda asked, response: response.json(**signed(asked.id, b'{"approved": false}')),
    "another time": lambda asked, response: response.json(webhook_timestamp="1"),
    "the question itself": echo,
    "no text": lambda asked, response: response.json(webhook_signature="v1,\xe9\xff"),
}


@pytest.mark.parametrize("reply", FORGERIES.values(), ids=FORGERIES)
async def test_a_yes_without_the_secret_is_none(
    reply: Callable[[Asked, Response], None], bench: BENCH, serve: SERVE, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever answers must know the secret, and mean this question and this answer."""
    assert_no_approval(*await ask(bench, WebhookApprovalHandler(serve(reply).url, secret=SECRET)))
    why = "missing required field `approved`" if reply is echo else "is not signed with the secret"
    assert why in caplog.text


async def test_a_secret_can_be_replaced(bench: BENCH, serve: SERVE) -> None:
    """Meanwhile the service signs with both; one signature that fits is enough."""

    def reply(asked: Asked, response: Response) -> None:
        new, old = signed(asked.id, YES, ANOTHER), signed(asked.id, YES)
        both = f"{new['webhook-signature']} {old['webhook-signature']}"
        response.json(**{**old, "webhook-signature": both})

    assert (await ask(bench, WebhookApprovalHandler(serve(reply).url, secret=SECRET)))[1].ok


HANGS: dict[str, Callable[[Asked, Response], None]] = {
    "says nothing": lambda asked, response: response.client_has_left(),
    "says `not yet` for ever": lambda asked, response: response.raw(b"", 202),
    "begins an answer": lambda asked, response: (
        response.raw(b"{", content_type="application/json", content_length="100"),
        response.client_has_left(),
    ),
}


@pytest.mark.parametrize("reply", HANGS.values(), ids=HANGS)
async def test_a_service_that_hangs_is_expired(
    reply: Callable[[Asked, Response], None], bench: BENCH, serve: SERVE
) -> None:
    """No answer in time: in the row, in the event and for the model."""
    b, result = await ask(bench, WebhookApprovalHandler(serve(reply).url, secret=SECRET), timeout=0.3)
    assert (result.status, result.error) == (ResultStatus.DENIED, "Approval timed out")
    assert (b.row()["human_decision"], b.row()["result_status"]) == ("expired", "denied")
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert event["aegis.decision.outcome"] == "expired"


async def test_a_withdrawn_question_is_taken_back(bench: BENCH, serve: SERVE) -> None:
    """When the run is cancelled the connection is closed, so that the service can tell its human."""
    arrived, left = threading.Event(), threading.Event()

    def reply(asked: Asked, response: Response) -> None:
        arrived.set()
        if response.client_has_left():
            left.set()

    executor = Executor()
    b = bench(approver=WebhookApprovalHandler(serve(reply).url, secret=SECRET), executor=executor, timeout=60)
    run = asyncio.create_task(b.runtime.run_one(ACTION))
    assert await asyncio.to_thread(arrived.wait, 30)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await asyncio.to_thread(left.wait, 30)
    assert (b.row()["result_status"], executor.did) == ("cancelled", [])


async def test_not_yet_is_asked_again_under_the_same_id(
    bench: BENCH, serve: SERVE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time freshly signed, so that the service can keep the answer by id and check the time."""
    monkeypatch.setattr(webhook, "_AGAIN_S", 0.01)

    def reply(asked: Asked, response: Response) -> None:
        if len(service.asked) < 4:
            response.raw(b"<p>asked the team</p>", 202, content_type="text/html")
        else:
            response.json()

    service = serve(reply)
    assert (await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET)))[1].ok
    assert len(service.asked) == 4
    assert len({(asked.id, asked.body) for asked in service.asked}) == 1
    for asked in service.asked:
        Webhook(SECRET).verify(asked.body, asked.headers)


async def test_a_request_held_too_long_is_asked_again(
    bench: BENCH, serve: SERVE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may hold the response until the human answers; what a proxy loses is asked for anew."""
    monkeypatch.setattr(webhook, "_AGAIN_S", 0.01)

    def reply(asked: Asked, response: Response) -> None:
        if len(service.asked) == 1:
            assert response.client_has_left()
        else:
            response.json()

    service = serve(reply)
    assert (await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET, timeout=0.5)))[1].ok
    assert len(service.asked) > 1
    assert len({asked.id for asked in service.asked}) == 1


async def test_another_question_has_another_id(bench: BENCH, serve: SERVE) -> None:
    """A policy that changed asks anew, and what the service has kept for the first question is no answer."""
    rules = [{"name": "new", "match": {"type": "*"}, "risk_level": "critical", "approval": "approve"}]
    answers: dict[str, bytes] = {}

    def reply(asked: Asked, response: Response) -> None:
        if not answers:
            b.runtime.update_policy(Policy.from_dict({"version": "1", "rules": rules}))
        said = {"approved": asked.question["matched_rule"] == "write_asks"}
        response.json(answers.setdefault(asked.id, json.dumps(said).encode()))

    executor = Executor()
    handler = WebhookApprovalHandler(serve(reply).url, secret=SECRET)
    b = bench(approver=handler, executor=executor, timeout=10)
    result = await b.runtime.run_one(ACTION)
    assert (result.error, executor.did) == ("Action denied by human operator", [])
    assert list(answers.values()) == [b'{"approved": true}', b'{"approved": false}']


async def test_many_questions_at_once(bench: BENCH, serve: SERVE) -> None:
    """Each has its own answer, while the event loop is free: the service waits for all of them."""
    together = threading.Barrier(20)

    def reply(asked: Asked, response: Response) -> None:
        together.wait(10)
        number = asked.question["action_params"]["n"]
        response.json(json.dumps({"approved": number % 2 == 0, "approver": f"person {number}"}).encode())

    handler = WebhookApprovalHandler(serve(reply).url, secret=SECRET)
    b = bench(approver=handler, executor=Executor(), timeout=20)
    await asyncio.gather(*(b.runtime.run_one(Action("write_x", params={"n": n})) for n in range(20)))
    for row in b.rows():
        number = row["action_params"]["n"]
        assert row["approver"] == f"person {number}"
        assert row["human_decision"] == ("denied" if number % 2 else "approved")


@pytest.mark.parametrize(
    "url", ["https://nowhere.invalid/ask", "http://127.0.0.1:9/ask"], ids=["no such host", "refused"]
)
async def test_a_service_that_is_not_there_denies(url: str, bench: BENCH) -> None:
    """At once: nobody has been asked, so nobody will answer."""
    assert_no_approval(*await ask(bench, WebhookApprovalHandler(url, secret=SECRET), timeout=60))


async def test_the_environments_proxy_is_not_asked(
    bench: BENCH, serve: SERVE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable meant for other traffic sends no question elsewhere."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    service = serve(lambda asked, response: response.json())
    assert (await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET)))[1].ok


async def test_nothing_secret_is_logged(bench: BENCH, serve: SERVE, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the secret, nor the headers, nor what the service said, at any level."""
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": "Bearer gateway-token"}
    service = serve(lambda asked, response: response.json(b'{"approved": "not-for-the-log"}'))
    assert_no_approval(*await ask(bench, WebhookApprovalHandler(service.url, secret=SECRET, headers=headers)))
    assert "the approval handler failed" in caplog.text
    for secret in (SECRET, SECRET.removeprefix("whsec_"), "gateway-token", "not-for-the-log", "hunter2"):
        assert secret not in caplog.text


async def test_what_a_human_cannot_see_they_cannot_approve(bench: BENCH, serve: SERVE) -> None:
    """A question that is too large is not cut: it is not asked."""
    service = serve(lambda asked, response: response.json())
    action = Action("write_x", params={"text": "x" * 1_000_001})
    handler = WebhookApprovalHandler(service.url, secret=SECRET)
    assert_no_approval(*await ask(bench, handler, action=action))
    assert service.asked == []


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for 127.0.0.1, and the file of the authority that made it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, tmp_path / "ca.pem"


@pytest.mark.parametrize("trusted", [True, False])
async def test_https_needs_no_secret_but_a_certificate(
    trusted: bool, tls: Any, bench: BENCH, serve: SERVE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned answers count if the certificate is good; if not, the service is told no question."""
    context, authority = tls
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    service = serve(lambda asked, response: response.raw(YES, content_type="application/json"), tls=context)
    b, result = await ask(bench, WebhookApprovalHandler(service.url.replace("http:", "https:")))
    if trusted:
        assert result.ok
        assert "webhook-signature" not in service.asked[0].headers
    else:
        assert_no_approval(b, result)
        assert service.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"url": "http://approvals.example.com/"},
            "`url` must be https://..., or http://... on this machine",
        ),
        ({"url": "http://localhost.example.com/"}, "`url` must be https"),
        ({"url": "http://127.0.0.1.example.com/"}, "`url` must be https"),
        ({"url": "ftp://example.com/"}, "`url` must be https"),
        ({"url": "https:///ask"}, "`url` must be https"),
        ({"url": "approvals.example.com"}, "`url` must be https"),
        ({"url": "https://exa\x00mple.com"}, "`url` is no URL"),
        ({"url": None}, "`url` is no URL"),
        ({"url": "https://ann:hunter2@example.com/"}, "`url` has a user or password in it"),
        ({"url": "http://localhost/", "secret": None}, "`url` is http, so its answers prove nothing"),
        ({"secret": "hunter2"}, "`secret` must be `whsec_` and base64 of 24 to 64 random bytes"),
        ({"secret": SECRET.removeprefix("whsec_")}, "`secret` must be"),
        ({"secret": "whsec_aHVudGVyMg=="}, "`secret` must be"),
        ({"secret": "whsec_hunter2!"}, "`secret` must be"),
        ({"timeout": 0}, "`timeout` is `0`: expected a number of seconds above 0"),
        ({"timeout": float("nan")}, "`timeout` is `nan`"),
        ({"timeout": float("inf")}, "`timeout` is `inf`"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    """At construction, with what to pass, and never with what may be secret."""
    good = {"url": "https://example.com/", "secret": SECRET}
    with pytest.raises(ConfigError) as raised:
        WebhookApprovalHandler(**{**good, **arguments})
    assert str(raised.value).startswith(message)
    assert "hunter2" not in str(raised.value)


async def test_outside_of_a_call_there_is_nothing_to_ask() -> None:
    """A handler is asked by a Runtime; on its own it has no decision to ask about."""
    policy = Policy.from_dict({"version": "1"})
    with pytest.raises(LookupError, match="no question is being asked"):
        await WebhookApprovalHandler("https://example.com/").request_approval(policy.evaluate(ACTION))


def test_who_asks_no_webhook_loads_no_http_client() -> None:
    """It would be most of the time that loading a Runtime takes."""
    program = """
import sys
from aegis_otel import Runtime
from aegis_otel.runtime.approval import CallbackApprovalHandler
print("httpx2" in sys.modules)
from aegis_otel.runtime.approval import WebhookApprovalHandler
print("httpx2" in sys.modules)
"""
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.split() == ["False", "True"]
