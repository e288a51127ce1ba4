"""The page of `aegis report` in a real browser: wide, narrow, dark and printed. Needs `chromium` on PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.stack.browser import Browser, started
from tests.support.records import decided

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None and os.environ.get("AEGIS_REQUIRE_STACK") != "1":
    pytest.skip("needs Debian's chromium on PATH: apt-get install chromium", allow_module_level=True)

EVIL = '</style></title><script>document.title = "pwned"</script><img src="http://127.0.0.1:9/x">'
LONG = "unbroken_" * 100

# Of each text, how far its colour is from what is behind it (WCAG 2), and the text.
CONTRASTS = """
(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(c)) return c } return "rgb(255, 255, 255)" };
  return [...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest("svg"))
    .map(e => { const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)] })
})()
"""
STICKING_OUT = """
[...document.querySelectorAll("body *")].filter(e => !e.closest("thead"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 120))
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of enough calls for every part, among them values that would like to be more than text."""
    folder = tmp_path_factory.mktemp("report")
    logger = AuditLogger(folder / "audit")
    statuses = ("success", "failed", "blocked", "denied", "unknown", "pending", "cancelled")
    for n in range(140):
        status = statuses[n % 7]
        asked = {"approval": "approve", "human_decision": "expired", "approval_wait_s": 300.0}
        logger.append(
            decided(
                decision_id=f"{n:08}",
                timestamp=f"2026-11-22T{10 + n // 60}:{n % 60:02}:00+00:00",
                result_status=status,
                risk_level=("LOW", "MEDIUM", "HIGH", "CRITICAL")[n % 4],
                matched_rule=(EVIL, LONG, f"rule_{n % 9}")[n % 3],
                agent_name=(LONG, "support", EVIL)[n % 3],
                action_target=LONG,
                action_params=f'{{"text":"{LONG}"}}',
                result_error=LONG if status == "failed" else None,
                policy_digest="sha256:" + f"{n % 3}" * 64,
                duration_s=n / 10,
                **(asked if status == "denied" else {}),
            )
        )
    logger.close()
    out = folder / "report.html"
    for command in (["audit", "seal"], ["report", "--verify", "--out", str(out)]):
        done = CliRunner().invoke(main, [*command, "--path", str(folder / "audit")], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None, "no `chromium` on PATH: apt-get install chromium"
    with started(CHROMIUM, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(running: Browser, page: Path) -> Browser:
    running.look()
    running.open(page)
    return running


def test_it_loads_from_disk_and_asks_for_nothing(browser: Browser, page: Path) -> None:
    """No request leaves, nothing is logged, and no value became a part of the page."""
    assert browser.ask("document.readyState") == "complete"
    asked = [each["request"]["url"] for each in browser.seen("Network.requestWillBeSent")]
    assert asked == [page.as_uri()]
    assert browser.seen("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []
    assert browser.ask("document.title") == "Agent activity"
    assert browser.ask("document.querySelectorAll('script, img, iframe, link').length") == 0
    assert browser.ask("document.body.innerText.includes('<img src=')") is True


def test_were_a_value_markup_it_still_could_do_nothing(browser: Browser, page: Path, tmp_path: Path) -> None:
    """The page's own policy stops what its escaping lets through: tried with a tampered page."""
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text().replace("<h1>", f"<h1>{EVIL.partition('</title>')[2]}"))
    browser.open(bad)
    assert browser.ask("document.querySelectorAll('script, img').length") == 2
    assert browser.ask("document.title") == "Agent activity"
    assert [each["entry"]["source"] for each in browser.seen("Log.entryAdded")].count("security") >= 2


def test_headings_and_tables_can_be_heard(browser: Browser) -> None:
    """Also on a narrow screen, where a row is drawn as a block."""
    headings = browser.ask("[...document.querySelectorAll('h1, h2')].map(e => e.textContent)")
    assert headings[0] == "Agent activity"
    assert {
        "Decisions and results",
        "CRITICAL calls",
        "Calls with an unknown outcome",
        "Verification and seals",
    } <= set(headings)
    heard = {}
    for width in (1200, 390):
        browser.look(width=width)
        roles = browser.roles()
        heard[width] = {role: roles.count(role) for role in ("heading", "table", "row", "rowheader", "image")}
    assert heard[1200]["table"] > 8
    assert heard[1200]["image"] == 1, "the time line; the bars repeat numbers beside them"
    assert heard[390] == heard[1200]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1030, 1200])
def test_it_fits_and_can_be_read(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    """Nothing sticks out, whatever its length, and every text stands out from what is behind it."""
    browser.look(width=width, scheme=scheme)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(STICKING_OUT) == []
    weak = [(round(contrast, 2), text) for contrast, text in browser.ask(CONTRASTS) if contrast < 4.5]
    assert weak == []
    picture = browser.screenshot(tmp_path / "page.png")
    assert len(picture) > 20_000, "there is something on it"


def test_dark_is_dark(browser: Browser) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        browser.look(scheme=scheme)
        grounds.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_it_prints(browser: Browser) -> None:
    """On white, also for who reads in the dark; tables fit the sheet; what cannot be used is left out."""
    browser.look(width=680, scheme="dark", media="print")  # an A4 sheet within its margins
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.ask("document.documentElement.scrollWidth") <= 680
    assert browser.ask("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    printed = browser.print()
    assert printed.startswith(b"%PDF-")
    assert 4 <= printed.count(b"/Type /Page\n") <= 40
