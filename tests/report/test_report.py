"""`aegis report`: one page that says what the audit says, whatever values do, and needs nothing else."""

from __future__ import annotations

import re
import stat
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from aegis_otel import Action, Policy, Runtime
from aegis_otel.audit.journal.policy_changes import text_name
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.audit.record import COLUMNS
from aegis_otel.cli import main
from aegis_otel.report.buckets import MAX_BUCKETS, TimeBuckets
from aegis_otel.report.page import ReportScope, read_proof, render_page
from aegis_otel.report.queries import ReportQueries
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.state.opening import open_inbox
from tests.support.inbox import shared_question
from tests.support.records import decided

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
VOID = {"meta", "wbr"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "nav"),
    *("h1", "h2", "h3", "p", "a", "ul", "li", "dl", "div", "dt", "dd", "strong", "span", "bdi", "code"),
    *("figure", "figcaption", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("svg", "g", "rect", "line", "wbr", "pre"),
}
ASKED = {"approval": "approve", "risk_level": "HIGH", "matched_rule": "ask", "tool_name": "pay"}
CALLS: tuple[dict[str, Any], ...] = (
    {"result_status": "success", "duration_s": 0.5, "risk_level": "LOW", "matched_rule": "reads"},
    {"result_status": "blocked", "approval": "block", "matched_rule": "never", "agent_name": "Bo"},
    {"result_status": "failed", "result_error": "Timeout: no answer", "duration_s": 1.5, "risk_level": "LOW"},
    ASKED
    | {"result_status": "success", "human_decision": "approved", "approver": "dana", "approval_wait_s": 2.0},
    ASKED
    | {"result_status": "denied", "human_decision": "denied", "approver": "lee", "approval_wait_s": 90.0},
    ASKED | {"result_status": "denied", "human_decision": "expired", "approval_wait_s": 300.0},
    ASKED | {"result_status": "pending"},
    {"result_status": "success", "mode": "monitor", "agent_name": "Watched"},
)


@pytest.fixture
def audit() -> Path:
    """A call of each kind, a minute apart."""
    logger = AuditLogger()
    for n, values in enumerate(CALLS):
        time = f"2026-11-22T10:0{n}:00+00:00"
        base = {"decision_id": f"id-{n}", "timestamp": time, "policy_digest": f"sha256:{n // 4}"}
        logger.append(decided(**base | values))
    return logger.path


class Page(HTMLParser):
    """What a browser would see of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self.goes_on = False
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.goes_on = tag == "wbr"
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.goes_on = False
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.goes_on:
            self.words[-1] += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)
        self.goes_on = False

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["report", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def report(*arguments: str, code: int = 0) -> Page:
    run(*arguments, code=code)
    return Page(Path("report.html").read_text())


def made() -> str:
    """The page without what the command adds: the same clock every time."""
    with connect() as connection:
        asked = ReportQueries(connection, compile_filters(None, {}))
        proof = read_proof(Path("aegis_audit").absolute(), [], None, len(CALLS))
        return render_page(asked, proof, ReportScope("A title", "aegis_audit", None, None, NOW))


def test_what_the_page_says(audit: Path) -> None:
    page = report("--out", "report.html", "--title", "The week")
    for said in (
        "The week",
        "8, 2026-11-22 10:00:00 to 2026-11-22 10:07:00 UTC",
        "1 call of CRITICAL risk ran without a human's approval",
        "1 call still waiting for a human",
        "1 call got no answer in time, and did not run",
        "1 call in monitor mode: decided and recorded, not enforced",
        "4 calls needed the approval of a human. Half of the answers came within 46 s",
        "expired: nobody answered in time 1",
        "dana 1 1 0 2 s 2 s",
        "lee 1 0 1 90 s 90 s",
        "Timeout: no answer",
        "sha256:1 2026-11-22 10:04:00 2026-11-22 10:07:00 4 0",
        "none: nothing is sealed yet",
        "Not verified for this page",
    ):
        assert said in page.text, said
    assert "unknown" not in re.findall(r"href=\"#(\w+)\">\d", page.source), "there is no unknown outcome"


def test_every_number_adds_up(audit: Path) -> None:
    """Each breakdown is of all calls, the chart too."""
    page = report()
    for caption in ("By result", "By risk", "Most frequent first", "Agents", "Tools", "Services"):
        table = page.source.partition(f">{caption}</caption>")[2].partition("</table>")[0]
        assert sum(map(int, re.findall(r'data-label="Calls"[^>]*>(\d+)<', table))) == len(CALLS), caption
    shown = re.findall(r"<title>2026-11-22 [\d:]+: ([^<]*)</title>", page.source)
    assert sum(int(number) for each in shown for number in re.findall(r"\d+", each)) == len(CALLS)


def test_a_table_alone_in_its_section_does_not_repeat_the_heading(audit: Path) -> None:
    """Its caption has the order, which the heading does not have."""
    sections = re.findall(r"<h2[^>]*>([^<]*)</h2>(.*?)</section>", report().source, re.DOTALL)
    captions = {title: re.findall(r"<caption[^>]*>([^<]*)</caption>", inner) for title, inner in sections}
    assert captions["By rule"] == captions["Failures"] == ["Most frequent first"]
    for title in ("CRITICAL calls", "Blocked calls", "Denied calls", "Policy versions"):
        assert captions[title] == ["Newest first"], title
    assert re.search(r'unknown-title">[^<]*</h2>.*?<p class="empty">None\.</p>', report().source, re.DOTALL)


def test_the_page_needs_nothing_else_and_runs_nothing(audit: Path) -> None:
    page = report()
    assert page.source.startswith("<!DOCTYPE html>")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert ("meta", "content", policy) in page.attributes
    assert set(page.tags) <= TAGS
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "style", "action"), (tag, name)
        assert name != "href" or re.fullmatch("#[a-z]+", value or ""), value
    assert not re.search(r"url\(|@import", page.source)


def test_who_approved_and_by_what_grants() -> None:
    """Each of several persons, on what terms, what a grant let run, and whose answers were refused."""
    terms = '{"users": [], "roles": ["finance"], "count": 2, "self": false, "expires_s": 900.0}'
    asked = {**ASKED, "result_status": "success", "human_decision": "approved", "approval_terms": terms}
    logger = AuditLogger()
    inbox = open_inbox(directory=logger.path)
    inbox.put(shared_question("id-two"))
    inbox.refuse("id-two", "eve", "they are none of the rule's approvers")
    inbox.refuse(inbox.put(shared_question("other")).question.decision_id, "mallory", "too late")
    for decision_id, approver, reason in (
        ("id-two", "dana, lee", None),
        ("id-one", "dana, kim", None),
        ("id-granted", "kim", "granted with decision id-one until 2026-11-22T11:00:00+00:00; all of today"),
    ):
        logger.append(decided(decision_id=decision_id, approver=approver, approval_reason=reason, **asked))
    logger.append(decided(decision_id="id-late", **asked | {"human_decision": "expired"}))
    text = report().text
    for said in (
        "dana 2 2 0",
        "kim 1 1 0",  # a grant is no answer
        "2 of: role `finance`, not the user that the agent acts for, within 15 min 4 3 0 1",
        "id-one kim ask 2026-11-22T11:00:00+00:00 1",
        "eve they are none of the rule's approvers ask id-two",
    ):
        assert said in text, said
    assert "mallory" not in text, "that answer was to no call of this audit"


def test_accessible(audit: Path) -> None:
    """Headings in order, tables with captions and headers, charts with words, links that lead somewhere."""
    page = report()
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert ("html", "lang", "en") in page.attributes
    assert page.tags.count("caption") == page.tags.count("table") > 8
    assert {value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")} == {"row", "col"}
    named = sum(
        1 for tag, name, _ in page.attributes if tag == "svg" and name in ("aria-label", "aria-hidden")
    )
    assert named == page.tags.count("svg")
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    linked = {(value or "")[1:] for _, name, value in page.attributes if name == "href"}
    assert linked <= set(ids)


EVIL = (
    '</title></style><script>alert("x")</script><img src=x onerror=alert(1)>',
    "\"' onmouseover='alert(1)' x=\"",
    "\u202eevil\u2066\u200b\x00\x1b[2J\x07\r\n",
    "&lt;b&gt;&amp;",
    "A" * 1_000_000,
    "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627",
)


@pytest.mark.parametrize("evil", EVIL, ids=["tags", "attribute", "unseen", "entities", "long", "hebrew"])
def test_no_value_acts_on_the_page(evil: str) -> None:
    """In whatever column it is: it is shown as text, on one line, and cut."""
    logger = AuditLogger()
    names = (
        *("action_type", "action_target", "matched_rule", "agent_name", "tool_name", "service", "approver"),
        *("human_decision", "result_error", "policy_digest", "session_id", "approval", "mode"),
    )
    texts = dict.fromkeys(names, evil)
    for n, status in enumerate(("failed", "pending", "unknown", evil)):
        arguments = '{"x":' + f'"{evil.encode("unicode_escape").decode("ascii")}"' + "}" if n else "{}"
        logger.append(
            decided(decision_id=f"{n}{evil}", result_status=status, action_params=arguments, **texts)
        )
    logger.append(decided(decision_id="risk", risk_level=evil))
    page = report("--title", evil)
    assert set(page.tags) <= TAGS
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", page.source)
    assert len(page.source) < 120_000
    if len(evil) < 100:
        shown = evil.translate({0: "\\x00", 7: "\\x07", 0x1B: "\\x1b", 0x200B: "\\u200b"})
        shown = shown.translate({0x202E: "\\u202e", 0x2066: "\\u2066", 10: "\\n", 13: "\\r"})
        assert shown in page.text


def test_long_names_stay_apart() -> None:
    """Two agents whose names begin alike are two, although neither name is shown whole."""
    logger = AuditLogger()
    for n in range(2):
        logger.append(decided(decision_id=str(n), agent_name="x" * 500 + str(n)))
    page = report()
    assert len(set(re.findall(r"x{80}\.\.\. 501 characters, md5 [0-9a-f]{8}", page.text))) == 2


def test_what_is_cut_says_so() -> None:
    """Arguments and errors too: nobody takes a beginning for all of it."""
    AuditLogger().append(
        decided(action_params='{"text":"' + "y" * 991 + '"}', result_status="failed", result_error="z" * 5000)
    )
    page = report()
    assert re.search(r'\{"text":"y{191}\.\.\. 1002 characters', page.text)
    assert re.search(r"z{200}\.\.\. 5000 characters", page.text)
    assert "y" * 192 not in page.text
    assert "z" * 201 not in page.text


def test_an_attribute_cannot_be_left() -> None:
    """No value is in an attribute: quotes in it are text, and end nothing."""
    quotes = "\" onclick='y'>"
    AuditLogger().append(decided(agent_name=quotes, risk_level=quotes, result_status=quotes))
    page = report()
    assert "onclick" not in str(page.attributes)
    assert quotes in page.text


def test_lists_are_bounded_and_say_so() -> None:
    logger = AuditLogger()
    for n in range(60):
        time = f"2026-11-22T10:{n:02}:00+00:00"
        values = {"matched_rule": f"rule-{n:02}", "agent_name": f"agent-{n:02}", "result_status": "blocked"}
        logger.append(decided(decision_id=f"{n:08}", timestamp=time, **values))
    page = report()
    assert "And 10 more calls." in page.text
    assert "And 35 more agents." in page.text
    assert page.text.index("00000059") < page.text.index("00000010"), "the newest first"
    assert "00000009" not in page.text


def test_the_same_audit_is_the_same_page(audit: Path) -> None:
    assert made() == made()
    assert "2026-11-23 08:00:00 UTC" in made()


def test_only_a_period(audit: Path) -> None:
    page = report("--since", "2026-11-22T10:02", "--until", "2026-11-22T10:04")
    assert "since 2026-11-22T10:02 and until 2026-11-22T10:04" in page.text
    assert "2, 2026-11-22 10:02:00 to 2026-11-22 10:03:00 UTC" in page.text
    assert "never" not in page.text
    assert "--since" in run("--since", "yesterday-ish", code=2).stderr or "since" in page.text


def test_no_calls_is_an_answer(audit: Path) -> None:
    page = report("--since", "2027-01-01")
    assert "No call was recorded in this period." in page.text
    assert "Verification and seals" in page.text


def test_no_audit_is_none() -> None:
    result = run("--path", "nowhere", code=1)
    assert "no audit at" in result.stderr
    assert not Path("report.html").exists()


def test_the_file(audit: Path) -> None:
    """For this user only; whole, or as it was; `-` is standard output."""
    Path("report.html").write_text("older")
    assert run().stdout == "Wrote report.html\n"
    assert stat.S_IMODE(Path("report.html").stat().st_mode) == 0o600
    assert run("--out", "-").stdout.startswith("<!DOCTYPE html>")
    for out in ("nowhere/report.html", "."):
        assert "cannot export to" in run("--out", out, code=1).stderr
    run("--out", "", code=2)
    assert sorted(each.name for each in Path().iterdir()) == ["aegis_audit", "report.html"]


def test_a_page_that_fails_leaves_the_older_one(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("report.html").write_text("older")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", fail)
    assert "no space left on device" in run(code=1).stderr
    assert Path("report.html").read_text() == "older"
    assert sorted(each.name for each in Path().iterdir()) == ["aegis_audit", "report.html"]


def test_the_proof(audit: Path) -> None:
    """Asked to, the page says what a verification found, and so does the exit code."""
    CliRunner().invoke(main, ["audit", "seal"], catch_exceptions=False)
    page = report("--verify")
    assert re.search(r"PASSED: \d+ sealed rows and \d+ journal lines are as they were written", page.text)
    assert "`aegis audit verify` proves it with --witness" in page.text, "what is not proven is said"
    (segment,) = Path("aegis_audit/lake").glob("date=*/*.parquet")
    segment.write_bytes(segment.read_bytes() + b"x")
    page = report("--verify", "--since", "2027-01-01", code=1)
    assert "Needs attention Verification FAILED: 1 finding" in page.text
    assert segment.name in page.text


def test_what_is_left_out_is_on_the_page(audit: Path) -> None:
    with next((audit / "journal").iterdir()).open("ab") as journal:
        journal.write(b"no record\n")
    page = report()
    assert "1 part of the audit could not be read and is left out." in page.text
    assert "journal lines that cannot be read: 1" in page.text


@pytest.mark.parametrize(
    ("span", "width"),
    [
        (0, "1 second"),
        (50, "1 second"),
        (100, "2 seconds"),
        (3600, "2 minutes"),
        (86_400, "30 minutes"),
        (7 * 86_400, "6 hours"),
        (365 * 86_400, "7 days"),
        (30 * 365 * 86_400, "1 year"),
        (9000 * 365 * 86_400, "137 years"),
    ],
)
def test_a_time_line_has_round_steps(span: int, width: str) -> None:
    found = TimeBuckets.covering(0, span * 1_000_000)
    assert found.width_text == width
    assert 0 < found.size <= MAX_BUCKETS


def test_times_that_no_calendar_has() -> None:
    """They have no place on the time line, and all else is there: a table may hold any."""
    times = ("infinity", "-infinity", "294247-01-01", "0044-03-15 (BC)", "0001-01-01", "2026-11-22", None)
    columns = ", ".join(f'"{column.name}" {column.sql_type}' for column in COLUMNS)
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = 'UTC'; CREATE TABLE audit ({columns})")
        for time in times:
            connection.execute('INSERT INTO audit BY NAME SELECT ?::TIMESTAMPTZ AS "timestamp"', [time])
        asked = ReportQueries(connection, compile_filters(None, {}))
        about = ReportScope("A title", "audit", None, None, NOW)
        page = Page(render_page(asked, read_proof(Path("audit"), [], None, len(times)), about))
    assert "Calls 7, not a calendar time UTC" in page.text
    bars = re.findall(r"<title>[^<]*: 1 unsettled</title>", page.source)
    assert len(bars) == 2


def test_policies_that_decided_are_shown_with_rules_that_never_fired() -> None:
    text = "# <b>why</b> \u202e\nrules:\n- {name: used, match: {type: pay}}\n- {name: <i>idle</i>}\n"
    policy = Policy.from_text(text)
    runtime = Runtime(policy=policy, audit_logger=AuditLogger())
    runtime.audit.log("s", policy.evaluate(Action("pay")))
    other = Policy.from_text("rules: [{name: all, approval: block}]")
    runtime.update_policy(other)
    runtime.audit.log("s", other.evaluate(Action("pay")))
    source = report().source
    assert "1 rule of 2 decided no call in this period:" in source
    assert "<i>idle" not in source
    assert "&lt;i&gt;idle&lt;/i&gt;" in source
    assert "# &lt;b&gt;why&lt;/b&gt; \\u202e\nrules:\n- {name: used" in source
    assert "Each of its rules decided a call in this period." in source
    Path("aegis_audit", text_name(policy.digest)).write_text("rules: []")  # a changed text is not shown
    assert "decided no call in this period" not in report().source
