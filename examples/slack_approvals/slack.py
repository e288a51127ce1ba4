"""What Slack sends and is sent: its signature, a message with buttons, and a click on one of them."""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from aegis_otel.redaction.terminal import escape

WINDOW_S = 300
LONGEST_TEXT = 2_800  # of the 3,000 characters that Slack shows of a text
LONGEST_FACT = 300


class NotFromSlack(Exception):
    """A request that is not signed by Slack, or too old."""


class Click(NamedTuple):
    """A click on a button."""

    teams: frozenset[str | None]
    """The workspaces of the app and of who has clicked."""
    user: str
    channel: str
    message: str
    approved: bool
    decision_id: str
    question_digest: str


def check_signature(secret: str, headers: Mapping[str, str], body: bytes, now: float | None = None) -> None:
    """Raise NotFromSlack if Slack has not signed the body within the last five minutes.

    https://docs.slack.dev/authentication/verifying-requests-from-slack
    """
    sent = headers.get("x-slack-request-timestamp", "")
    if (
        not (sent.isascii() and sent.isdecimal() and len(sent) < 12)
        or abs((now or time.time()) - int(sent)) > WINDOW_S
    ):
        raise NotFromSlack("the time of the request is missing, or more than five minutes away")
    if not hmac.compare_digest(sign(secret, sent, body), headers.get("x-slack-signature", "").encode()):
        raise NotFromSlack("the signature is wrong")


def sign(secret: str, timestamp: str, body: bytes) -> bytes:
    """Return Slack's signature of a body, in version v0."""
    signed = f"v0:{timestamp}:".encode() + body
    return b"v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()


def read_click(body: bytes) -> Click | None:
    """Return the click that Slack tells of; None if it tells of something else."""
    (text,) = parse_qs(body.decode())["payload"]
    payload = json.loads(text)
    if payload["type"] != "block_actions":
        return None
    (action,) = payload["actions"]
    if action["action_id"] not in ("approve", "deny"):
        return None  # the link to the page
    value = json.loads(action["value"])
    return Click(
        frozenset([payload["team"]["id"], payload["user"].get("team_id")]),
        payload["user"]["id"],
        payload["container"]["channel_id"],
        payload["container"]["message_ts"],
        action["action_id"] == "approve",
        value["id"],
        value["digest"],
    )


def message_for(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message that asks, as blocks. Every text in it is shown as it is, never as markup."""
    question = asked["question"]
    heading = f"{question['agent_name']} wants to use {question['action_type']}"
    facts = {
        "risk": question["risk_level"],
        "until": asked["expires_at"] or "somebody answers",
        "agent": question["agent_name"],
        "tool": question["action_type"],
        "target": question.get("action_target"),
        "what it does": question.get("action_description"),
        "for": question["user_id"] or "an unknown user",
        "tenant": question.get("tenant_id"),
        "rule": question["matched_rule"],
        "because": question["reason"],
    }
    lines = [f"{name}: {visible(str(fact))}" for name, fact in facts.items() if fact]
    arguments = json.dumps(question["action_params"], indent=1, ensure_ascii=False)
    value = json.dumps({"id": asked["decision_id"], "digest": asked["question_digest"]})
    page = {"type": "button", "action_id": "open", "text": _plain("Open the page"), "url": asked["url"]}
    buttons = [
        {
            "type": "button",
            "action_id": "approve",
            "style": "primary",
            "text": _plain("Approve"),
            "value": value,
        },
        {"type": "button", "action_id": "deny", "style": "danger", "text": _plain("Deny"), "value": value},
    ]
    shown = "\n".join(visible(line) for line in arguments.split("\n"))
    fits = question["action_params"] is not None and len(shown) <= LONGEST_TEXT
    if not fits:
        shown = "The arguments do not fit here: answer on the page."
    if not fits or any(len(line) > LONGEST_FACT for line in lines):
        buttons = []  # nobody approves the unseen
    text = [{"type": "text", "text": shown}]
    return {
        "text": as_markup(visible(heading)),
        "blocks": [
            {
                "type": "section",
                "text": _plain("\n".join(line[:LONGEST_FACT] for line in lines)[:LONGEST_TEXT]),
            },
            {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": text}]},
            {"type": "actions", "elements": [*buttons, page]},
        ],
    }


def message_after(ended: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message in its place when the question has ended: without buttons."""
    by = ", ".join(answer["approver"] for answer in ended.get("answers", []))
    question = ended["question"]
    status = ended["status"]
    if status == "unknown":
        status = "it is not known what became of it, as no answer is proven"
    said = f"{question['agent_name']} wanted to use {question['action_type']}: {status}"
    text = visible(f"{said} by {by}" if by else said)
    return {"text": as_markup(text), "blocks": [{"type": "section", "text": _plain(text[:LONGEST_TEXT])}]}


def visible(text: str) -> str:
    """Return a text on one line, with escapes for what nobody can see or what hides other characters."""
    return escape(text)


def as_markup(text: str) -> str:
    """Return the text of a notification, which Slack reads as markup, without links and mentions."""
    shown = text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}..."
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
