"""`aegis report`: whether the audit holds stands first, and every row is accounted for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.report.test_report import Page
from tests.support.records import decided

ASKED = {"approval": "approve", "risk_level": "CRITICAL", "matched_rule": "ask", "action_type": "pay"}
CALLS: tuple[dict[str, Any], ...] = (
    {"risk_level": "LOW", "result_status": "success", "reason": "rule `reads` matched"},
    ASKED
    | {"result_status": "success", "human_decision": "approved", "approver": "dana", "approval_wait_s": 2.0}
    | {"approval_reason": "the invoice was checked"},
    ASKED
    | {"result_status": "denied", "human_decision": "denied", "approver": "lee", "approval_wait_s": 9.0}
    | {"approval_reason": "wrong customer", "risk_level": "HIGH"},
    {
        "result_status": "blocked",
        "approval": "block",
        "matched_rule": "never",
        "reason": "rule `never` matched",
    },
    {"result_status": "blocked", "approval": "block", "matched_rule": "other", "risk_level": "LOW"},
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@pytest.fixture(autouse=True)
def audit() -> Path:
    """Sealed rows, and one that waits, which no seal takes."""
    logger = AuditLogger()
    for n, values in enumerate(CALLS):
        logger.append(
            decided(**{"decision_id": f"id-{n}", "timestamp": f"2026-11-22T10:0{n}:00+00:00"} | values)
        )
    logger.close()
    seal(logger.path)
    logger = AuditLogger()
    logger.append(decided(decision_id="id-9", **ASKED | {"result_status": "pending"}))
    logger.close()
    return logger.path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments], catch_exceptions=False)


def report(*arguments: str, code: int = 0) -> Page:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    return Page(Path("report.html").read_text())


def rows(page: Page, section: str) -> list[str]:
    """The text of each row of a section's table."""
    body = page.source.partition(f'id="{section}"')[2].partition("</section>")[0].partition("<tbody")[2]
    found = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [Page(each).text for each in found]


def test_k9_9_the_verification_stands_at_the_top() -> None:
    """Before any number: that it passed, or was not made."""
    page = report("--verify")
    header = Page(page.source.partition("<header>")[2].partition("</header>")[0]).text
    assert "PASSED" in header
    header = Page(report().source.partition("<header>")[2].partition("</header>")[0]).text
    assert "Not verified for this page" in header


def test_k9_9_a_failed_verification_stands_at_the_top(audit: Path) -> None:
    (segment,) = (audit / "lake").glob("date=*/*.parquet")
    segment.write_bytes(segment.read_bytes() + b"x")
    page = report("--verify", "--since", "2027-01-01", code=1)
    assert "FAILED: 1 finding" in Page(page.source.partition("<header>")[2].partition("</header>")[0]).text


def test_k9_9_every_row_is_accounted_for() -> None:
    """Rows that are sealed and rows that are not yet add up to the calls of the page."""
    text = report("--verify").text
    match = re.search(
        r"PASSED: (\d+) sealed rows.*? The audit has (\d+) rows, of which (\d+) (?:is|are) not sealed", text
    )
    assert match is not None
    sealed, total, unsealed = map(int, match.groups())
    assert (sealed, total, unsealed) == (len(CALLS), len(CALLS) + 1, 1)
    assert f"Calls {total}, 2026-11-22" in text


def test_k9_9_critical_calls_have_approver_and_reason() -> None:
    found = rows(report(), "critical")
    (approved,) = [each for each in found if "success" in each]
    assert "dana" in approved
    assert "the invoice was checked" in approved
    (blocked,) = [each for each in found if "never" in each]
    assert "rule `never` matched" in blocked


def test_k9_9_blocked_and_denied_calls_are_listed() -> None:
    """Of any risk, each in a section of its own that the contents link to."""
    page = report()
    blocked, denied = rows(page, "blocked"), rows(page, "denied")
    assert [("never" in each, "other" in each) for each in blocked] == [(False, True), (True, False)]
    assert len(denied) == 1
    assert "lee" in denied[0]
    assert "wrong customer" in denied[0]
    assert {"#blocked", "#denied"} <= {value for _, name, value in page.attributes if name == "href"}


@pytest.mark.parametrize("arguments", [(), ("--verify",)])
def test_k9_9_no_advice_names_options_that_report_does_not_have(arguments: tuple[str, ...]) -> None:
    """An option that is another command's is named together with that command."""
    has = set(OPTION.findall(run("--help").stdout))
    for sentence in re.findall(r"[^.<>]*--[a-z][^<>]*", report(*arguments).source.partition("</style>")[2]):
        named = set(OPTION.findall(sentence))
        assert named <= has or "`aegis audit verify` proves it with" in sentence, sentence


def test_k9_one_row_that_is_not_sealed() -> None:
    assert "The audit has 6 rows, of which 1 is not sealed yet." in report("--verify").text
