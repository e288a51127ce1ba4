"""Sign-in by OpenID Connect in a real browser, at a provider on another site than the page.

Needs `chromium` on PATH.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.browser import Browser, started
from tests.stack.test_report_browser import CHROMIUM
from tests.support import identity_provider
from tests.support.approvals_page import make_desk
from tests.support.inbox import shared_question


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None, "no `chromium` on PATH: apt-get install chromium"
    with started(CHROMIUM, tmp_path_factory.mktemp("chromium")) as running:
        running.look()
        yield running


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The address of a page with one question, `d-1`; its provider is at `localhost`, another site."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    make_desk(tmp_path / "audit").inbox.put(shared_question("d-1", user_id="carl"))
    with identity_provider.running(f"{address}/sign-in/back") as provider:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "aegis_otel", "approvals", "serve", "--port", str(port)),
                *("--url", address, "--path", str(tmp_path / "audit")),
                *("--oidc-issuer", provider.issuer.replace("127.0.0.1", "localhost")),
                *("--oidc-client-id", identity_provider.CLIENT_ID, "--oidc-roles-claim", "groups"),
                *("--allow-user", "*@example.com"),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "AEGIS_OIDC_CLIENT_SECRET": identity_provider.CLIENT_SECRET,
            },
            cwd=tmp_path,
        )
        try:
            for _ in range(400):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def cookies(browser: Browser, page: str) -> dict[str, tuple[bool, str]]:
    """The cookies that the browser has for the page: whether they are `HttpOnly`, and their `SameSite`."""
    found = browser.call("Network.getCookies", urls=[page])["cookies"]
    return {each["name"]: (each["httpOnly"], each.get("sameSite", "")) for each in found}


def test_from_a_link_to_the_provider_and_back(browser: Browser, page: str) -> None:
    """Whoever opens a question signs in, sees it, and is gone after the sign-out."""
    browser.call("Network.clearBrowserCookies")
    browser.open(f"{page}/questions/d-1")
    assert browser.ask("document.title") == "Provider"
    assert browser.ask("location.hostname") == "localhost"
    browser.events.clear()
    browser.ask("document.querySelector('button[value=ann]').click()")
    browser.wait_for_load()
    assert browser.ask("location.pathname + location.search") == "/questions/d-1"
    assert "ann@example.com" in browser.ask("document.body.innerText")
    kept = cookies(browser, page)
    assert kept["aegis-session"] == (True, "Lax")
    assert not any("sign-in" in name for name in kept)
    logged = [each["entry"] for each in browser.seen("Log.entryAdded")]
    assert not [entry for entry in logged if entry.get("url", "").startswith(page)]

    browser.events.clear()
    browser.ask("document.querySelector('form[action=\"/sign-out\"] button').click()")
    browser.wait_for_load()
    assert "aegis-session" not in cookies(browser, page)
    browser.open(f"{page}/")
    assert browser.ask("document.title") == "Provider"


def test_a_sign_in_that_was_begun_before_another_one(browser: Browser, page: str) -> None:
    """As in two tabs: the first one comes back, too, and to where it began."""
    browser.open(f"{page}/questions/d-1")
    first = browser.ask("location.href")
    browser.open(f"{page}/ended")
    assert browser.ask("document.title") == "Provider"
    browser.open(first)
    browser.events.clear()
    browser.ask("document.querySelector('button[value=ann]').click()")
    browser.wait_for_load()
    assert browser.ask("location.pathname") == "/questions/d-1"
    assert "ann@example.com" in browser.ask("document.body.innerText")
    browser.call("Network.clearBrowserCookies")


def test_somebody_who_declines(browser: Browser, page: str) -> None:
    browser.open(f"{page}/")
    browser.events.clear()
    browser.ask("document.querySelector('button[value=\"\"]').click()")
    browser.wait_for_load()
    assert browser.ask("location.origin") == page
    assert "access_denied" in browser.ask("document.body.innerText")
    assert "aegis-session" not in cookies(browser, page)
