"""What of Slack this example needs, on 127.0.0.1: its Web API, and people who click on buttons."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode

import httpx2
from slack import sign


class StandIn:
    """A Slack with one channel."""

    def __init__(self, signing_secret: str, token: str, team: str) -> None:
        self.team = team
        self.signing_secret = signing_secret
        self.token = token
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.address = ""

    def answer(self, method: str, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        if token != f"Bearer {self.token}":
            return {"ok": False, "error": "invalid_auth"}
        self.calls.append((method, arguments))
        return {
            "ok": True,
            "channel": arguments["channel"],
            "ts": arguments.get("ts", f"{len(self.calls)}.0001"),
        }

    def wait_for(self, method: str, count: int = 1) -> dict[str, Any]:
        """Return what the service has sent, the `count`th time that it called a method."""
        for _ in range(600):
            found = [arguments for name, arguments in self.calls if name == method]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.05)
        raise TimeoutError(f"the service has not called {method}")

    def click(self, service: str, user: str, message: dict[str, Any], button: str) -> int:
        """Click on a button of a message; return the status with which the service answers."""
        (element,) = [each for each in message["blocks"][-1]["elements"] if each["action_id"] == button]
        payload = {
            "type": "block_actions",
            "team": {"id": self.team},
            "user": {"id": user, "team_id": self.team},
            "container": {"channel_id": message["channel"], "message_ts": "1.0001"},
            "actions": [element],
        }
        body = urlencode({"payload": json.dumps(payload)}).encode()
        now = str(int(time.time()))
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "x-slack-request-timestamp": now,
            "x-slack-signature": sign(self.signing_secret, now, body).decode(),
        }
        return httpx2.post(f"{service}/slack", content=body, headers=headers, trust_env=False).status_code


@contextmanager
def running(signing_secret: str, token: str, team: str) -> Iterator[StandIn]:
    slack = StandIn(signing_secret, token, team)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arguments = json.loads(self.rfile.read(int(self.headers["content-length"])))
            method = self.path.rpartition("/")[2]
            body = json.dumps(slack.answer(method, arguments, self.headers["authorization"] or "")).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    slack.address = f"http://127.0.0.1:{server.server_port}/api"
    try:
        yield slack
    finally:
        server.shutdown()
        server.server_close()
