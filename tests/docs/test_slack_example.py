"""examples/slack_approvals: Slack's signature, and what its messages show and do not show."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
import uvicorn

from aegis_otel.cli.approvals import notifications
from aegis_otel.cli.approvals.notifications import Notifier, notifying
from aegis_otel.governance.approvals.inbox import Inbox
from aegis_otel.governance.approvals.inbox_proofs import proven_answers
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval import open_answer_desk
from aegis_otel.runtime.approval.answer_signature import load_answer_keys
from aegis_otel.state.opening import open_inbox
from tests.support.inbox import shared_question

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "slack_approvals"
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
# The request and its signature are those of Slack's documentation, "Verifying requests from Slack".
TIMESTAMP = "1531420618"
BODY = urlencode(
    {
        "token": "xyzz0WbapA4vBCDEFasx0q6G",
        "team_id": "T1DC2JH3J",
        "team_domain": "testteamnow",
        "channel_id": "G8PSS9T3V",
        "channel_name": "foobar",
        "user_id": "U2CERLKJA",
        "user_name": "roadrunner",
        "command": "/webhook-collect",
        "text": "",
        "response_url": "https://hooks.slack.com/commands/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN",
        "trigger_id": "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    }
).encode()
SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


@pytest.fixture(scope="module")
def slack() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_slack", EXAMPLE / "slack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(
    slack: ModuleType, now: float = float(TIMESTAMP), body: bytes = BODY, **changed: str | None
) -> None:
    headers = {"x-slack-request-timestamp": TIMESTAMP, "x-slack-signature": SIGNATURE, **changed}
    slack.check_signature(
        SECRET, {name: value for name, value in headers.items() if value is not None}, body, now
    )


def test_the_signature_of_slacks_documentation(slack: ModuleType) -> None:
    for seconds in (-300, 0, 299):
        check(slack, float(TIMESTAMP) + seconds)


@pytest.mark.parametrize("seconds", [301, -301, 86_400 * 365])
def test_a_request_that_is_sent_again_later(slack: ModuleType, seconds: int) -> None:
    with pytest.raises(slack.NotFromSlack, match="more than five minutes"):
        check(slack, float(TIMESTAMP) + seconds)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": BODY + b"&x=1"},
        {"x-slack-signature": None},
        {"x-slack-signature": ""},
        {"x-slack-signature": SIGNATURE.upper()},
        {"x-slack-signature": SIGNATURE[:-1]},
        {"x-slack-signature": "v0=é"},
        {"x-slack-request-timestamp": None},
        {"x-slack-request-timestamp": str(int(TIMESTAMP) + 1)},
        {"x-slack-request-timestamp": "١٥٣١٤٢٠٦١٨"},
        {"x-slack-request-timestamp": "-1"},
        {"x-slack-request-timestamp": "1" * 5_000},
    ],
    ids=str,
)
def test_a_request_that_slack_did_not_sign(slack: ModuleType, changed: dict[str, Any]) -> None:
    with pytest.raises(slack.NotFromSlack):
        check(slack, **changed)


def question(params: Any, **more: Any) -> dict[str, Any]:
    asked = {
        "agent_name": "Clerk",
        "action_type": "pay",
        "user_id": "carl",
        "risk_level": "HIGH",
        "matched_rule": "payments",
        "reason": "Payments are asked about",
        "action_params": params,
    }
    return {
        "decision_id": "d-1",
        "question_digest": "0" * 64,
        "url": "https://approvals.example.com/questions/d-1",
        "expires_at": None,
        "question": {**asked, **more},
    }


def buttons(message: dict[str, Any]) -> list[str]:
    return [element["action_id"] for element in message["blocks"][-1]["elements"]]


def test_a_message_shows_all_of_the_arguments(slack: ModuleType) -> None:
    message = slack.message_for(question({"amount": 1900, "to": "Zoë & <Söhne>"}))
    assert buttons(message) == ["approve", "deny", "open"]
    (shown,) = message["blocks"][1]["elements"][0]["elements"]
    assert json.loads(shown["text"]) == {"amount": 1900, "to": "Zoë & <Söhne>"}
    assert "mrkdwn" not in json.dumps(message), "a text would be read as markup"


@pytest.mark.parametrize("params", [None, {"note": "x" * 3_000}, {"note": "\u202e" * 500}])
def test_nobody_approves_what_is_not_shown(slack: ModuleType, params: Any) -> None:
    assert buttons(slack.message_for(question(params))) == ["open"]


def test_hostile_texts_are_shown_as_they_are(slack: ModuleType) -> None:
    text = "<!channel> *bold* \u202eevil\x1b[2J\u200b"
    message = slack.message_for(question({"note": text}, agent_name=text))
    sent = json.dumps(message, ensure_ascii=False)
    for char in "\u202e\x1b\u200b":
        assert char not in sent
    assert "\\\\u202e" in sent
    for block in message["blocks"]:
        assert block.get("text", {"type": "plain_text"})["type"] == "plain_text"


def test_names_forge_no_facts(slack: ModuleType) -> None:
    """Each fact is on a line of its own, the risk first; one that is cut takes the buttons away."""
    name = "A\nrisk: LOW\u3164\u034f1\u0336000"
    message = slack.message_for(question({}, agent_name=name, action_target="prod-db", tenant_id="north"))
    lines = message["blocks"][0]["text"]["text"].split("\n")
    assert lines[0] == "risk: HIGH"
    assert "target: prod-db" in lines
    assert "tenant: north" in lines
    assert lines[2] == "agent: A\\nrisk: LOW\\u3164\\u034f1\\u0336000"
    message = slack.message_for(question({}, action_target="/safe/" + "a" * 400 + "/../../etc/passwd"))
    assert buttons(message) == ["open"]


def test_the_notification_of_a_message_is_no_markup(slack: ModuleType) -> None:
    asked = question({}, agent_name="<!channel> <https://evil.example|Approve here>")
    for message in (slack.message_for(asked), slack.message_after({**asked, "status": "denied"})):
        assert message["text"].startswith("&lt;!channel&gt; &lt;https://evil.example|Approve here&gt; want")


def test_messages_are_within_slacks_limits(slack: ModuleType) -> None:
    """3,000 characters of a text, 2,000 of a button's value."""
    message = slack.message_for(question({"note": "x" * 2_700}, reason="y" * 5_000, agent_name="z" * 5_000))
    assert len(message["blocks"][0]["text"]["text"]) <= 3_000
    assert all(len(element.get("value", "")) <= 2_000 for element in message["blocks"][-1]["elements"])


def test_a_click(slack: ModuleType) -> None:
    message = slack.message_for(question({"amount": 1}))
    approve, deny, page = message["blocks"][-1]["elements"]
    for element, approved in ((approve, True), (deny, False)):
        clicked = slack.read_click(body_of(element))
        assert clicked == slack.Click(frozenset({"T1"}), "U0ANN", "C1", "17.1", approved, "d-1", "0" * 64)
    assert slack.read_click(body_of(page)) is None
    assert slack.read_click(urlencode({"payload": json.dumps({"type": "view_closed"})}).encode()) is None


def body_of(element: dict[str, Any]) -> bytes:
    payload = {
        "type": "block_actions",
        "team": {"id": "T1"},
        "user": {"id": "U0ANN", "team_id": "T1"},
        "container": {"channel_id": "C1", "message_ts": "17.1"},
        "actions": [element],
    }
    return urlencode({"payload": json.dumps(payload)}).encode()


def test_who_has_answered(slack: ModuleType) -> None:
    ended = {**question({}), "status": "approved", "answers": [{"approver": "ann@example.com"}]}
    assert slack.message_after(ended)["text"] == "Clerk wanted to use pay: approved by ann@example.com"
    assert slack.message_after({**question({}), "status": "expired"})["text"].endswith("pay: expired")
    unproven = slack.message_after({**question({}), "status": "unknown", "answers": []})
    assert unproven["text"].endswith("pay: it is not known what became of it, as no answer is proven")


# --- the service, between a real inbox and a stand-in for Slack ---


class Bench:
    """The example's service, the stand-in for Slack, and an inbox whose questions the service is told of."""

    def __init__(self, inbox: Inbox, slack: Any, service: str) -> None:
        self.inbox = inbox
        self.slack = slack
        self.service = service

    def ask(self, decision_id: str, **about: Any) -> dict[str, Any]:
        """Put a question, and return the message that Slack shows of it."""
        before = len([method for method, _ in self.slack.calls if method == "chat.postMessage"])
        self.inbox.put(shared_question(decision_id, **about))
        message: dict[str, Any] = self.slack.wait_for("chat.postMessage", before + 1)
        return message

    def click(self, user: str, message: dict[str, Any], button: str) -> str:
        """Click, and return what the person reads."""
        before = len([method for method, _ in self.slack.calls if method == "chat.postEphemeral"])
        assert self.slack.click(self.service, user, message, button) == 200
        told: str = self.slack.wait_for("chat.postEphemeral", before + 1)["text"]
        return told

    def status(self, decision_id: str) -> str:
        (state,) = self.inbox.look([decision_id]).values()
        return str(state.status)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in ("slack", "service", "slack_stand_in"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(notifications, "_POLL_S", 0.05)
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    settings = {
        "AEGIS_STATE": f"sqlite:///{tmp_path}/state.sqlite3",
        "AEGIS_NOTIFY_SECRET": secret,
        "SLACK_SIGNING_SECRET": SECRET,
        "SLACK_BOT_TOKEN": "xoxb-1",
        "SLACK_CHANNEL": "C1",
        "SLACK_TEAM": "T1",
        "XDG_STATE_HOME": str(tmp_path / "keys"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    work = tmp_path / "work"  # the keys are elsewhere
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "approvers.json").write_text((EXAMPLE / "approvers.json").read_text())
    stand_in = importlib.import_module("slack_stand_in")
    with stand_in.running(SECRET, "xoxb-1", "T1") as slack:
        monkeypatch.setenv("SLACK_API", slack.address)
        service = importlib.import_module("service")
        desk = open_answer_desk()
        with (
            serving(service.make_app()) as address,
            notifying(
                Notifier(
                    desk.inbox,
                    desk.answers,
                    f"{address}/notifications",
                    secret,
                    "https://approvals.example.com",
                )
            ),
        ):
            yield Bench(desk.inbox, slack, address)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


FINANCE = Approvers(roles=("accounting",))


def test_from_a_question_to_an_answer_in_slack(bench: Bench) -> None:
    """Who may not answer is told so; who may answers by name and roles; the message says what came of it."""
    message = bench.ask("d-1", approvers=FINANCE)
    assert message["channel"] == "C1"
    assert bench.click("U0EVE", message, "approve") == "You are not among the approvers."
    assert "does not count" in bench.click("U0BOB", message, "approve")
    assert bench.status("d-1") == "waiting"
    assert bench.click("U0ANN", message, "approve") == "Noted: approved."
    after = bench.slack.wait_for("chat.update")
    assert after["text"].endswith("approved by ann@example.com")
    assert after["channel"], after["ts"]
    assert "actions" not in {block["type"] for block in after["blocks"]}
    (state,) = bench.inbox.look(["d-1"]).values()
    (answer,), others = proven_answers(state, load_answer_keys(Path("aegis_audit")))
    assert (answer.approver, answer.roles, answer.sign_in) == ("ann@example.com", ("accounting",), "service")
    assert not others
    assert "does not count" in bench.click("U0ANN", message, "deny"), "it is over"


def test_two_have_to_say_yes(bench: Bench) -> None:
    message = bench.ask("d-1", approvers=Approvers(count=2))
    assert bench.click("U0ANN", message, "approve") == "Noted. Somebody else has to say yes as well."
    assert "does not count" in bench.click("U0ANN", message, "approve")
    assert bench.click("U0BOB", message, "approve") == "Noted: approved."


def test_a_no(bench: Bench) -> None:
    assert bench.click("U0ANN", bench.ask("d-1", approvers=FINANCE), "deny") == "Noted: denied."


def test_a_click_on_another_question_than_was_shown(bench: Bench) -> None:
    """The button's value comes back from Slack, but a message may be old."""
    message = bench.ask("d-1", approvers=FINANCE)
    changed = json.loads(json.dumps(message))
    value = json.loads(message["blocks"][-1]["elements"][0]["value"])
    changed["blocks"][-1]["elements"][0]["value"] = json.dumps({**value, "digest": "0" * 64})
    assert "does not count" in bench.click("U0ANN", changed, "approve")
    assert bench.status("d-1") == "waiting"


def test_a_click_from_elsewhere(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """In another workspace, a user may have the same id; in another channel, other people read along."""
    message = bench.ask("d-1", approvers=FINANCE)
    assert bench.slack.click(bench.service, "U0ANN", {**message, "channel": "C2"}, "approve") == 403
    bench.slack.team = "T2"
    assert bench.slack.click(bench.service, "U0ANN", message, "approve") == 403
    assert caplog.text.count("a click of U0ANN is from another workspace or channel") == 2
    assert bench.status("d-1") == "waiting"


def test_somebody_who_is_an_approver_no_more(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """They are told so, and it is written down: in the log, and once with the question."""
    message = bench.ask("d-1", approvers=FINANCE)
    Path("approvers.json").write_text("{}")
    for _ in range(2):
        assert bench.click("U0ANN", message, "approve") == "You are not among the approvers."
    assert "a click of U0ANN, who is not among the approvers" in caplog.text
    assert [(each.approver, each.why) for _, each in bench.inbox.refused_answers(10, "d-1")] == [
        ("the Slack user U0ANN", "they are not in approvers.json")
    ]


def test_a_question_that_was_replaced(bench: Bench) -> None:
    """Its message is replaced as well, and its buttons answer the new one."""
    bench.ask("d-1", approvers=FINANCE)
    bench.inbox.put(shared_question("d-1", "another call", approvers=FINANCE))
    changed = bench.slack.wait_for("chat.update")
    assert "another call" in json.dumps(changed)
    assert bench.click("U0ANN", changed, "approve") == "Noted: approved."


def test_nobody_else_tells_the_service_anything(bench: Bench) -> None:
    """Neither a click that Slack has not signed nor a message that the page has not."""
    message = bench.ask("d-1", approvers=FINANCE)
    bench.slack.signing_secret = "of somebody else"
    assert bench.slack.click(bench.service, "U0ANN", message, "approve") == 401
    told = httpx2.post(f"{bench.service}/notifications", json={"type": "approval.ended"}, trust_env=False)
    assert told.status_code == 401
    for signature in ("zzz", "v1,a,b", "v1,abc", "v1,", "v1,\u00e9", ""):
        sent = [
            (b"webhook-id", b"msg_1"),
            (b"webhook-timestamp", str(int(time.time())).encode()),
            (b"webhook-signature", signature.encode("latin-1")),
        ]
        told = httpx2.post(f"{bench.service}/notifications", content=b"{}", headers=sent, trust_env=False)
        assert told.status_code == 401, signature
    assert bench.status("d-1") == "waiting"


def test_a_message_that_slack_does_not_take_is_sent_again(bench: Bench) -> None:
    bench.slack.token = "another one"
    bench.inbox.put(shared_question("d-1"))
    time.sleep(0.5)
    assert not bench.slack.calls
    bench.slack.token = "xoxb-1"
    assert bench.slack.wait_for("chat.postMessage")


# --- the whole of it ---


@pytest.mark.timeout(180)
def test_a_run_is_not_held_up_by_the_question_of_an_earlier_one(tmp_path: Path) -> None:
    """One that was killed has left its question in the inbox beside the audit."""
    (tmp_path / "aegis_audit").mkdir()
    inbox, first = open_inbox(directory=tmp_path / "aegis_audit"), "00000000-0000-7000-8000-000000000001"
    left = inbox.put(shared_question(first, approvers=FINANCE))
    ran = run_example(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "approved by ann@example.com" in ran.stdout
    (state,) = inbox.look([first]).values()
    assert (state.digest, state.answers) == (left.digest, ()), "nobody has answered it"


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "standardwebhooks.py").write_text("raise ModuleNotFoundError('no standardwebhooks here')")
    ran = run_example(tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.endswith("ModuleNotFoundError: no standardwebhooks here\n")


def run_example(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a copy of the example in a folder."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AEGIS_")}
    own = {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder.with_suffix(".keys"))}
    return subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env={**variables, **own},
        capture_output=True,
        text=True,
        timeout=100,
    )
