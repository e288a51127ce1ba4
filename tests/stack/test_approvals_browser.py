"""The page of `aegis approvals serve` in a real browser: live, by keyboard, on a telephone, in the dark.

Needs `chromium` on PATH.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.stack.browser import Browser, started
from tests.stack.test_report_browser import CHROMIUM, CONTRASTS, STICKING_OUT
from tests.support.approvals_page import make_desk
from tests.support.inbox import shared_question

EVIL = "</pre><script>document.title='pwned'</script><img src=x onerror=alert(2)>\x1b[31m\u202egnp\u200b"
LONG = "unbroken_" * 100


class Served:
    """A page that a process of its own serves to the user of this machine."""

    def __init__(self, process: subprocess.Popen[str], audit: Path) -> None:
        assert process.stdout is not None
        self._lines = process.stdout
        self.desk: AnswerDesk = make_desk(audit)

    def link(self) -> str:
        """The next link that signs a browser in."""
        while not (found := re.search(r"http://\S+/sign-in/link/\S+", line := self._lines.readline())):
            assert line, "the page ended"
        return found[0]

    def put(self, **about: Any) -> QuestionState:
        return self.desk.inbox.put(shared_question(**about))

    def now(self, state: QuestionState) -> QuestionState:
        return self.desk.inbox.look([state.question.decision_id])[state.question.decision_id]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    audit = tmp_path / "audit"
    command = [sys.executable, "-m", "aegis_otel", "approvals", "serve", "--port", "0", "--path", str(audit)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path)
    try:
        yield Served(process, audit)
    finally:
        process.terminate()
        assert process.stdout is not None
        process.stdout.close()
        process.wait(20)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None, "no `chromium` on PATH: apt-get install chromium"
    with started(CHROMIUM, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(running: Browser, served: Served) -> Browser:
    """Signed in, at the list."""
    running.look()
    running.open(served.link())
    assert running.ask("location.pathname") == "/"
    return running


def problems(browser: Browser) -> list[Any]:
    return browser.seen("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")


def path_of(state: QuestionState) -> str:
    return f"/questions/{state.question.decision_id}"


def at(browser: Browser, path: str) -> str:
    return f"{browser.ask('location.origin')}{path}"


AGENT = """
import asyncio, sys, time
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel

rules = [{"name": "refunds", "match": {"type": "refund"}, "approval": "approve", "risk_level": "high"}]
aegis_otel.instrument(aegis_otel.Policy.from_dict({"version": "1", "rules": rules}), approvals="inbox")

@function_tool
def refund(order: str) -> str:
    print("went on at", time.time(), flush=True)
    return "refunded"

model = ScriptedModel(
    [[function_call("refund", {"order": sys.argv[1]}, call_id="call_1")], [assistant_message("Done.")]]
)
result = asyncio.run(Runner.run(Agent(name="Support", model=model, tools=[refund]), "Refund it."))
print(result.final_output)
"""


def test_a_question_appears_is_answered_and_the_agent_goes_on(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    """All without loading a page by hand: the list, the question, the answer, and what came of it."""
    assert browser.ask("document.querySelectorAll('.card').length") == 0
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, "order 7"],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "AEGIS_AUDIT_DIR": str(tmp_path / "audit")},
        cwd=tmp_path,
    )
    try:
        browser.until("document.querySelectorAll('.card').length === 1", 30)
        assert browser.ask("document.title").startswith("(1) ")
        assert browser.ask("document.getElementById('news').textContent") == (
            "One new question. 1 question waits for you"
        )
        assert browser.ask("document.querySelector('h1').textContent") == "1 question waits for you"
        assert "(in 5 min)" in browser.ask("document.querySelector('.card').innerText")
        asked = browser.ask("document.querySelector('.card time').innerText")
        assert re.search(rf"\b{time.localtime().tm_year}\b.* (UTC|GMT|[A-Z]{{3,4}})\b", asked), asked
        browser.events.clear()
        browser.ask("document.querySelector('.card a').click()")
        browser.wait_for_load()
        assert "order 7" in browser.ask("document.querySelector('pre').textContent")
        browser.events.clear()
        clicked = time.time()
        browser.ask("document.querySelector('button.yes').click()")
        assert agent.stdout is not None
        *words, went_on = agent.stdout.readline().split()
        assert words == ["went", "on", "at"]
        assert float(went_on) - clicked < 2
        browser.until("document.body && document.body.innerText.includes('The agent has taken the yes.')")
        assert agent.communicate(timeout=30)[0] == "Done.\n"
    finally:
        agent.kill()
        agent.wait()
        assert agent.stdout is not None
        agent.stdout.close()
    (state,) = served.desk.inbox.listing((QuestionStatus.USED,))
    (answer,) = served.desk.answers(state)
    assert (answer.approved, answer.sign_in) == (True, "local")
    assert problems(browser) == []


def test_a_question_that_ends_elsewhere_leaves(browser: Browser, served: Served) -> None:
    """From the list, and its form from its own page, with what was typed so far."""
    first, second = served.put(params="one"), served.put(params="two")
    browser.until("document.querySelectorAll('.card').length === 2")
    browser.ask(f"document.querySelector('[id=\"q-{second.question.decision_id}\"] a').focus()")
    served.desk.inbox.end(first.question.decision_id, first.digest, QuestionStatus.WITHDRAWN)
    browser.until("document.querySelectorAll('.card').length === 1")
    assert browser.ask("document.activeElement.getAttribute('href')") == path_of(second), "focus stays"
    browser.open(at(browser, path_of(second)))
    browser.ask("document.getElementById('reason').focus()")
    browser.write("because")
    third = served.put()
    browser.until("document.title.startsWith('(2)')")
    assert browser.ask("document.getElementById('reason').value") == "because", "another one changes nothing"
    served.desk.inbox.end(second.question.decision_id, second.digest, QuestionStatus.WITHDRAWN)
    browser.until("!document.getElementById('answer')")
    assert "nobody waits" in browser.ask("document.getElementById('state').innerText")
    assert browser.ask("document.activeElement.id") == "main", "focus is not lost"
    assert third.status is QuestionStatus.WAITING
    assert problems(browser) == []


def test_it_can_be_used_by_keyboard_only(browser: Browser, served: Served) -> None:
    """From the top of the list to the answer; each stop can be seen and heard."""
    state = served.put(params="order 7", user_id="ann")
    browser.until("document.querySelectorAll('.card').length === 1")
    heard = []
    while not heard or "charge" not in heard[-1]:
        browser.press("Tab")
        heard.append(browser.focused())
        assert len(heard) < 12, heard
        outline = browser.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", heard
    assert heard[0] == "link: Skip to the content"
    assert heard[1] == "link: For you 1"
    assert heard[-1] == "link: charge → card"
    browser.events.clear()
    browser.press("Enter")
    browser.wait_for_load()
    heard = []
    while not heard or heard[-1] != "button: Approve":
        browser.press("Tab")
        heard.append(browser.focused())
        assert len(heard) < 15, heard
        if heard[-1].startswith("textbox"):
            browser.write("by keyboard")
    assert any(each.startswith("textbox: Reason") for each in heard)
    assert any(each.startswith("combobox: A yes is for") for each in heard)
    browser.events.clear()
    browser.press("Enter")
    browser.wait_for_load()
    (answer,) = served.desk.answers(served.now(state))
    assert (answer.approved, answer.reason) == (True, "by keyboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 390, 768, 1200])
def test_it_fits_and_can_be_read(
    browser: Browser, served: Served, tmp_path: Path, width: int, scheme: str
) -> None:
    """Nothing sticks out, every text stands out from what is behind it, and fingers can hit the buttons."""
    hostile = dict.fromkeys(("agent_name", "matched_rule", "action_target", "reason"), LONG)
    who = Approvers(users=("*",), roles=(LONG,), count=2, allows_requester=True)
    state = served.put(params=LONG + EVIL, expires_s=900.0, approvers=who, **hostile)
    given = served.put()
    browser.look(width=width, scheme=scheme)
    for path in ("/", "/?show=all", path_of(state), path_of(given)):
        browser.open(at(browser, path))
        check_looks(browser, width)
    browser.ask("document.getElementById('grant').value = 'hour'")
    browser.events.clear()
    browser.ask("document.querySelector('button.yes').click()")
    browser.wait_for_load()
    for path in (path_of(given), "/ended", "/grants", "/questions/none"):
        browser.open(at(browser, path))
        check_looks(browser, width)
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    assert len(browser.screenshot(tmp_path / "page.png")) > 5_000


def check_looks(browser: Browser, width: int) -> None:
    assert browser.ask("document.documentElement.scrollWidth") <= width
    sticking = [each for each in browser.ask(STICKING_OUT) if "preview" not in each]
    assert sticking == []
    weak = [(round(contrast, 2), text) for contrast, text in browser.ask(CONTRASTS) if contrast < 4.5]
    assert weak == []
    sizes = browser.ask(
        "[...document.querySelectorAll('button, select, nav a')].map(e => e.getBoundingClientRect().height)"
    )
    assert all(height >= 24 for height in sizes), sizes
    rows = browser.ask("[...document.querySelectorAll('nav li')].map(e => e.getBoundingClientRect().top)")
    assert len(set(rows)) <= 1, "the menu is on one row"
    buttons = browser.ask(
        "[...document.querySelectorAll('.buttons button')].map(e => e.getBoundingClientRect().height)"
    )
    assert all(height >= 44 for height in buttons), buttons


def test_everything_has_a_name(browser: Browser, served: Served) -> None:
    """What can be used, and the regions of the page, as a screen reader tells of them."""
    state = served.put(params="order 7", expires_s=900.0)
    browser.open(at(browser, path_of(state)))
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    }
    for role in ("link", "button", "textbox", "combobox", "region", "navigation", "heading"):
        assert (role, "") not in named, role
    assert {
        ("button", "Approve"),
        ("button", "Deny"),
        ("navigation", "Approvals"),
        ("region", "Your answer"),
    } <= named
    assert ("heading", "charge → card") in named
    assert browser.ask("document.documentElement.lang") == "en"
    assert browser.ask("document.querySelectorAll('h1').length") == 1
    assert browser.ask("[...document.querySelectorAll('[id]')].length") == browser.ask(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    )


def test_hostile_values_do_nothing(browser: Browser, served: Served) -> None:
    """They are text on every page, also where the script of the page puts it in place."""
    names = ("action_type", "action_target", "agent_name", "user_id", "matched_rule", "reason", "risk_level")
    state = served.put(params=EVIL, user_roles=json.dumps([EVIL]), **dict.fromkeys(names, EVIL))
    browser.until("document.querySelectorAll('.card').length === 1")
    paths = ("/", path_of(state))
    for path in paths:
        browser.open(at(browser, path))
        time.sleep(0.5)
        assert "pwned" not in browser.ask("document.title").partition("·")[2]
        assert (
            browser.ask("document.querySelectorAll('img, iframe, script:not([src]), style, [style]').length")
            == 0
        )
        assert "\\u202e" in browser.ask("document.body.innerText")
        assert "\u202e" not in browser.ask("document.body.innerText")
        assert problems(browser) == []


def test_markup_that_came_through_could_do_nothing(browser: Browser) -> None:
    """The page's own policy stops inline scripts, handlers and styles, and text that would become markup."""
    done = browser.ask(
        """(() => { const script = document.createElement('script'); script.append('window.ran = 1');
        try { document.body.append(script) } catch (error) {}
        try { document.body.innerHTML = '<b>x</b>' } catch (error) { window.caught = error.name }
        return [window.ran === undefined, window.caught] })()"""
    )
    assert done == [True, "TypeError"]


def test_a_megabyte_is_shown_when_asked_for(browser: Browser, served: Served) -> None:
    state = served.put(params=EVIL * 12_000 + "the end")
    browser.open(at(browser, path_of(state)))
    assert browser.ask("document.body.innerText.length") < 60_000
    assert browser.ask("document.querySelectorAll('button.yes').length") == 0
    browser.events.clear()
    browser.ask("document.querySelector('a[href$=\"all=1\"]').click()")
    browser.wait_for_load()
    assert browser.ask("document.querySelector('pre').textContent").endswith('the end"')
    browser.events.clear()
    browser.ask("document.querySelector('button.yes').click()")
    browser.wait_for_load()
    assert served.now(state).status is QuestionStatus.APPROVED


def test_it_works_without_its_script(browser: Browser, served: Served) -> None:
    """By loading the page; times are UTC then."""
    state = served.put(params="order 7", expires_s=900.0)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(at(browser, "/"))
        assert "UTC" in browser.ask("document.querySelector('.card time').textContent")
        browser.open(at(browser, path_of(state)))
        browser.ask("document.querySelector('button.no').focus()")
        browser.events.clear()
        browser.press("Enter")
        browser.wait_for_load()
        assert "You denied it." in browser.ask("document.getElementById('state').innerText")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert served.now(state).status is QuestionStatus.DENIED


def test_who_signs_out_is_out(browser: Browser, served: Served) -> None:
    browser.events.clear()
    browser.ask("document.querySelector('form[action=\"/sign-out\"] button').click()")
    browser.wait_for_load()
    assert "You are signed out" in browser.ask("document.body.innerText")
    browser.open(at(browser, "/"))
    assert "You are not signed in" in browser.ask("document.body.innerText")
    browser.open(served.link())
    assert browser.ask("document.querySelector('h1').textContent") == "No question waits for you"


def test_a_session_that_is_over_is_said(browser: Browser, served: Served) -> None:
    """By a page that stays open: with the next change, without leading anywhere."""
    browser.call("Network.clearBrowserCookies")
    served.put()
    browser.until(
        "document.getElementById('connection').textContent.startsWith('You are no longer signed in')"
    )
    assert browser.ask("document.getElementById('connection').hidden") is False
    assert browser.ask("location.pathname") == "/"


def test_without_a_connection_the_page_says_so(browser: Browser) -> None:
    browser.until("document.getElementById('connection').hidden")
    browser.call(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    try:
        browser.ask("changes.close(); listen()")
        browser.until("!document.getElementById('connection').hidden")
    finally:
        browser.call(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
    browser.until("document.getElementById('connection').hidden", 10)
