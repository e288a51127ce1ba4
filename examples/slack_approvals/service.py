"""A web service between the page's notifications and Slack: it posts questions and takes clicks.

POST /notifications   from `aegis approvals serve`: a question waits, or has ended
POST /slack           from Slack: somebody has clicked
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

import httpx2
from slack import Click, NotFromSlack, check_signature, message_after, message_for, read_click
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval import AnswerDesk, AnswerRefused, Person, open_answer_desk

LARGEST_BODY = 1_000_000
MOST_POSTED = 10_000
_log = logging.getLogger("slack_approvals")


class Service:
    def __init__(self, desk: AnswerDesk, approvers: Path) -> None:
        self.desk = desk
        self.approvers = approvers
        self.notifications = Webhook(os.environ["AEGIS_NOTIFY_SECRET"])
        self.signing_secret = os.environ["SLACK_SIGNING_SECRET"]
        self.channel = os.environ["SLACK_CHANNEL"]
        self.team = os.environ["SLACK_TEAM"]
        self.api = httpx2.AsyncClient(
            base_url=os.environ.get("SLACK_API", "https://slack.com/api"),
            headers={"authorization": f"Bearer {os.environ['SLACK_BOT_TOKEN']}"},
        )
        # Of each decision id the channel, the message and the question's digest; keep it in a database.
        self.posted: dict[str, tuple[str, str, str]] = {}
        routes = [
            Route("/notifications", self.on_notification, methods=["POST"]),
            Route("/slack", self.on_slack, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def on_notification(self, request: Request) -> Response:
        """Post a question, or say in its place what became of it."""
        try:
            told = self.notifications.verify(await body_of(request), dict(request.headers))
        except (WebhookVerificationError, ValueError, TypeError) as error:  # the others: no signature at all
            return PlainTextResponse(str(error), 401)
        asked = told["data"]
        decision_id, digest = asked["decision_id"], asked["question_digest"]
        posted = self.posted.get(decision_id)
        if told["type"] == "approval.ended" and posted is not None:
            await self.call("chat.update", channel=posted[0], ts=posted[1], **message_after(asked))
        elif told["type"] == "approval.waiting" and posted is None:
            sent = await self.call("chat.postMessage", channel=self.channel, **message_for(asked))
            self.remember(decision_id, sent["channel"], sent["ts"], digest)
        elif told["type"] == "approval.waiting" and posted is not None and posted[2] != digest:
            # It is another question by now; the same one may come twice.
            await self.call("chat.update", channel=posted[0], ts=posted[1], **message_for(asked))
            self.remember(decision_id, posted[0], posted[1], digest)
        return Response(status_code=204)

    async def on_slack(self, request: Request) -> Response:
        """Take a click. Slack says who it was, and its signature that it was Slack."""
        body = await body_of(request)
        try:
            check_signature(self.signing_secret, request.headers, body)
        except NotFromSlack as error:
            return PlainTextResponse(str(error), 401)
        click = read_click(body)
        if click is not None:
            if click.teams != {self.team} or click.channel != self.channel:
                _log.warning("a click of %s is from another workspace or channel", escape(click.user))
                return PlainTextResponse("the click is from another workspace or channel", 403)
            if click.decision_id not in self.posted:  # after a restart
                self.remember(click.decision_id, click.channel, click.message, click.question_digest)
            said = await run_in_threadpool(self.answer, click)
            await self.call("chat.postEphemeral", channel=click.channel, user=click.user, text=said)
        return Response(status_code=200)

    def remember(self, decision_id: str, channel: str, message: str, digest: str) -> None:
        self.posted[decision_id] = channel, message, digest
        if len(self.posted) > MOST_POSTED:
            del self.posted[next(iter(self.posted))]

    def answer(self, click: Click) -> str:
        """Sign and store an answer, and return what its author reads."""
        known: dict[str, Any] | None = json.loads(self.approvers.read_text()).get(click.user)
        if known is None:
            _log.warning("a click of %s, who is not among the approvers", escape(click.user))
            who = f"the Slack user {click.user}"
            self.desk.inbox.refuse(click.decision_id, who, "they are not in approvers.json")
            return "You are not among the approvers."
        person = Person(known["name"], tuple(known["roles"]), "service")
        try:
            status = self.desk.give(click.decision_id, click.question_digest, person, approved=click.approved)
        except AnswerRefused as error:
            return f"This answer does not count: {error}."
        return "Noted. Somebody else has to say yes as well." if status == "waiting" else f"Noted: {status}."

    async def call(self, method: str, **arguments: Any) -> Any:
        """Call Slack's Web API. Where it fails, so does the request, and the notification is sent again."""
        answer = (await self.api.post(f"/{method}", json=arguments)).raise_for_status().json()
        if not answer["ok"]:
            raise HTTPException(502, f"Slack refuses {method}: {answer['error']}")
        return answer


async def body_of(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, "a larger body than anybody sends")
    return body


def make_app() -> Starlette:
    """For `uvicorn --factory service:make_app`. AEGIS_... variables name the answer key and the inbox."""
    return Service(open_answer_desk(), Path("approvers.json")).app
