"""The page of approvals, served in a thread, and a person who visits it without a browser."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aegis_otel.cli.approvals.page.app import Page
from aegis_otel.cli.approvals.page.guard import read_site
from aegis_otel.cli.approvals.page.server import make_server
from aegis_otel.cli.approvals.page.sign_in.proxy import ProxySignIn
from aegis_otel.governance.approvals.inbox import Inbox, QuestionState
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from aegis_otel.runtime.approval.answer_signature import load_answer_keys, load_answer_signer
from aegis_otel.state.opening import open_inbox
from tests.support.inbox import shared_question

USER, ROLES = "x-user", "x-roles"
EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202egnp\u200b\x00\u0301"
"""A text that tries to be markup, and has characters that nobody sees."""


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def sentences(self) -> str:
        """Return the text as we wrote it: names that the page shows as code are between backticks."""
        return unescape(re.sub("</?code>", "`", self.text))


def make_desk(audit: Path) -> AnswerDesk:
    """A desk at the SQLite of an audit directory, with the keys that commands and agents of the user have."""
    inbox, signer = open_inbox(directory=audit), load_answer_signer(audit)
    return AnswerDesk(inbox, lambda: signer, load_answer_keys(audit))


@contextmanager
def serving(desk: AnswerDesk, proxy: str = "127.0.0.1") -> Iterator[int]:
    """Serve the page, which believes a proxy with the address `proxy`. Yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    site = read_site(f"http://127.0.0.1:{port}")
    sign_in = ProxySignIn(USER, [proxy], roles_header=ROLES)
    page = Page(desk, sign_in, site, b"k" * 32)
    page.load()
    server = make_server(page)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port
    finally:
        page.change_stream.end()
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


class Visitor:
    """Somebody whom the proxy has signed in; their cookies are kept. Nobody, if they have no name."""

    def __init__(self, port: int, name: str = "", roles: str = "") -> None:
        self._port = port
        self._headers = {USER: name, ROLES: roles} if name else {}
        self.cookies: dict[str, str] = {}
        self.origin = f"http://127.0.0.1:{port}"

    def send(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str | None] | None = None
    ) -> Response:
        """Send a request; a header that is None is left out."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        every = {"host": f"127.0.0.1:{self._port}", **self._headers, "cookie": cookie, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(
                method, path, body, {name: value for name, value in every.items() if value is not None}
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)

    def get(self, path: str, **headers: str | None) -> Response:
        return self.send(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def post(self, path: str, fields: dict[str, str], **headers: str | None) -> Response:
        """Send a form as this page's browser would."""
        sent = {
            "origin": self.origin,
            "content-type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.send("POST", path, urlencode(fields), sent)

    def fields(self, path: str, action: str) -> dict[str, str]:
        """Return the hidden fields of the form on a page that is sent to `action`."""
        found = re.search(
            rf'<form method="post" action="{re.escape(action)}".*?</form>', self.get(path).text, re.S
        )
        assert found is not None, f"no form for {action} at {path}"
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', found[0])
        return {name: unescape(value) for name, value in hidden}

    def answer(self, decision_id: str, said: str, **fields: str) -> Response:
        """Open a question, and answer it by its form."""
        path = f"/questions/{decision_id}"
        return self.post(f"{path}/answer", {**self.fields(path, f"{path}/answer"), "answer": said, **fields})


def put(desk: AnswerDesk, **about: Any) -> QuestionState:
    return desk.inbox.put(shared_question(**about))


def now(desk: AnswerDesk, state: QuestionState) -> QuestionState:
    return desk.inbox.look([state.question.decision_id])[state.question.decision_id]


def refusals(desk: AnswerDesk, state: QuestionState) -> list[tuple[str, str]]:
    return [(each.approver, each.why) for each in desk.refused(state.question.decision_id)]


def path_of(state: QuestionState) -> str:
    return f"/questions/{state.question.decision_id}"


class FailingInbox:
    """An inbox whose news cannot be read for some time, for a reason that nobody has thought of."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.fails = False

    def changes(self, after: int, limit: int = 100) -> tuple[QuestionState, ...]:
        if self.fails:
            raise OverflowError("nobody has thought of it")
        return self._inbox.changes(after, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)
