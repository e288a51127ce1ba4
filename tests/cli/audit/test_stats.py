"""`aegis audit stats`: counts that add up, as bars and as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided


@pytest.fixture
def audit() -> AuditLogger:
    """Six calls in three hours, two of them asked about."""
    logger = AuditLogger()
    asked = {
        "approval": "approve",
        "risk_level": "HIGH",
        "matched_rule": "ask",
        "tool_name": "pay",
        "agent_name": "Bo",
    }
    for n, values in enumerate(
        (
            {"result_status": "success", "duration_s": 0.5},
            {"result_status": "blocked"},
            {"result_status": "blocked"},
            asked
            | {
                "result_status": "success",
                "human_decision": "approved",
                "approval_wait_s": 2.0,
                "duration_s": 1.5,
            },
            asked | {"result_status": "denied", "human_decision": "denied", "approval_wait_s": 4.0},
            asked | {"result_status": "pending"},
        )
    ):
        time = f"2026-11-22T{(10, 10, 10, 11, 13, 13)[n]}:00:0{n}+00:00"
        logger.append(decided(**{"decision_id": str(n), "timestamp": time} | values))
    return logger


def stats(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["audit", "stats", *arguments], catch_exceptions=False, **options)


def report(*arguments: str) -> Any:
    result = stats(*arguments, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def pairs(counts: list[dict[str, Any]]) -> list[tuple[Any, int]]:
    return [(count["value"], count["calls"]) for count in counts]


def test_inventory_113_json(audit: AuditLogger) -> None:
    """By everything, the most frequent first; waits and durations in seconds."""
    found = report()
    assert found["calls"] == 6
    assert (found["first"], found["last"]) == ("2026-11-22T10:00:00+00:00", "2026-11-22T13:00:05+00:00")
    assert found["wait_s"] == {"p50": 3.0, "p95": pytest.approx(3.9), "max": 4.0}
    assert found["duration_s"] == {"p50": 1.0, "p95": pytest.approx(1.45), "max": 1.5}
    by = {name: pairs(counts) for name, counts in found["by"].items()}
    assert sorted(by.pop("result_status")) == [("blocked", 2), ("denied", 1), ("pending", 1), ("success", 2)]
    assert by.pop("answer") == [(None, 3), ("approved", 1), ("denied", 1), ("waiting", 1)]
    assert by == {
        "risk_level": [("CRITICAL", 3), ("HIGH", 3)],
        "matched_rule": [("ask", 3), ("rule", 3)],
        "tool_name": [("delete_document", 3), ("pay", 3)],
        "agent_name": [("Bo", 3), (None, 3)],
        "hour": [
            ("2026-11-22T10:00:00+00:00", 3),
            ("2026-11-22T11:00:00+00:00", 1),
            ("2026-11-22T13:00:00+00:00", 2),
        ],
    }


def test_who_did_not_answer_took_no_time_to_answer(audit: AuditLogger) -> None:
    """A question that expired says how long it could be answered, not how fast people are."""
    late = {"result_status": "denied", "approval": "approve", "human_decision": "expired"}
    for name in ("late", "later"):
        audit.append(decided(decision_id=name, approval_wait_s=600.0, **late))
    assert report()["wait_s"] == {"p50": 3.0, "p95": pytest.approx(3.9), "max": 4.0}
    lines = stats().stdout.splitlines()
    assert (
        "humans answered after 3 s (p50), 3.9 s (p95), 4 s at most; 2 questions expired unanswered" in lines
    )


def test_nobody_has_ever_answered() -> None:
    AuditLogger().append(decided(result_status="denied", human_decision="expired", approval_wait_s=600.0))
    assert "1 question expired unanswered" in stats().stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        (("--risk", "high"), 3),
        (("--status", "blocked"), 2),
        (("--tool", "pay", "--since", "2026-11-22T13:00"), 2),
        (("--rule", "ask", "--agent", "Bo", "--until", "2026-11-22T12:00"), 1),
        (("--session", "none"), 0),
    ],
)
def test_b43_filters_apply(audit: AuditLogger, arguments: tuple[str, ...], calls: int) -> None:
    """B43: to every number."""
    found = report(*arguments)
    assert found["calls"] == calls
    assert all(sum(count["calls"] for count in counts) == calls for counts in found["by"].values())


def test_bars(audit: AuditLogger) -> None:
    """The longest is the most frequent; hours without a call are there, with none."""
    lines = [
        re.sub(r"\u2501+", lambda bar: f"[{len(bar[0])}]", line).split()
        for line in stats().stdout.splitlines()
    ]
    assert ["blocked", "2", "[40]"] in lines
    assert ["denied", "1", "[20]"] in lines
    hours = lines[lines.index(["Hour", "(UTC)"]) + 1 :]
    assert hours == [
        ["11-22", "10:00", "3", "[40]"],
        ["11-22", "11:00", "1", "[13]"],
        ["11-22", "12:00", "0"],
        ["11-22", "13:00", "2", "[27]"],
    ]
    assert stats().stdout.splitlines()[:3] == [
        "6 calls, 2026-11-22 10:00:00 to 2026-11-22 13:00:05 UTC",
        "humans answered after 3 s (p50), 3.9 s (p95), 4 s at most",
        "bodies took 1 s (p50), 1.45 s (p95), 1.5 s at most",
    ]


def test_narrow_terminals_have_shorter_bars_not_broken_names() -> None:
    AuditLogger().append(decided(matched_rule="ask_before_anything_is_written"))
    for width in (40, 60, 80):
        lines = stats(env={"COLUMNS": str(width)}).stdout.splitlines()
        (line,) = [line for line in lines if line.startswith("ask_")]
        assert re.fullmatch(r"ask_before_anything_is_written 1 \u2501{4,40} *", line)
        assert max(map(len, lines)) <= width


def test_a_long_list_is_cut_and_still_adds_up() -> None:
    logger = AuditLogger()
    for n in range(13):
        logger.append(decided(decision_id=str(n), matched_rule=f"rule-{n:02}"))
    lines = stats().stdout.splitlines()
    rules = [line.split()[:3] for line in lines[lines.index("Rule") + 1 :][:11]]
    assert rules[0][:2] == ["rule-00", "1"]
    assert rules[10] == ["(3", "more)", "3"]


def test_b44_nothing_in_a_value_acts_on_the_terminal() -> None:
    """B44"""
    evil = "\x1b[2K\x1b]0;x\x07\u202e\r\n[bold]x[/]"
    AuditLogger().append(decided(matched_rule=evil, tool_name=evil, agent_name=evil, risk_level=evil))
    for arguments in ((), ("--format", "json")):
        assert not re.search(r"[^\n\x20-\x7e\u2501]", stats(*arguments, env={"COLUMNS": "120"}).stdout)


def test_nothing_there(audit: AuditLogger) -> None:
    """No rows is an answer, no audit is none."""
    assert stats("--rule", "none").stdout == "No audit entries found.\n"
    result = stats("--path", "nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert stats("--risk", "bogus").exit_code == 2
