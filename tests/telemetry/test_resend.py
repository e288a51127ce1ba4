"""`aegis audit resend`: the events that the audit makes again are those that the agent sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

from aegis_otel import Action, Policy, Subject
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.record import AuditRecord
from aegis_otel.cli import main
from aegis_otel.model import Mode, ResultStatus
from aegis_otel.model import Result as Done
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.telemetry.outbox import Outbox
from aegis_otel.telemetry.resend import Sent, outcome_of, resend
from tests.support.kit import Bench
from tests.support.receiver import Received, attributes, otlp_line, receiving
from tests.support.records import completed, decided

BENCH = Callable[..., Bench]


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Done:
        if action.params.get("fails"):
            raise OSError("boom")
        return Done(action, ResultStatus.SUCCESS)


def never(decision: Any) -> Any:
    return asyncio.sleep(60)


async def decisions(b: Bench, *actions: Action) -> None:
    for action in actions:
        await b.runtime.run_one(action)


def records(audit: Path) -> list[AuditRecord]:
    names = [name for name in AuditRecord.__struct_fields__ if name not in ("stage", "action_params")]
    return [
        AuditRecord(stage="decided", **{name: row[name] for name in names if name in row})
        for row in reversed(AuditLogger(audit).get_log())
    ]


def made_again(audit: Path) -> list[Any]:
    exporter = InMemoryLogRecordExporter()
    *_, done = resend(records(audit), Outbox(exporter))
    found = list(exporter.get_finished_logs())
    assert done.arrived == len(found)
    return found


ASKED = Action("write_x", params={"secret": "hunter2"})
MASKED = "ghp_" + "a1B2c3D4e5" * 3 + "F6g7H8"
"""The id of a user that redaction masks, so `user.hash` cannot be made of what the row has."""
CASES: dict[str, tuple[list[Any], dict[str, Any], list[Action], list[str]]] = {
    "allowed, blocked and failed": (
        [],
        {},
        [Action("search", "web"), Action("delete_x"), Action("search", params={"fails": True})],
        ["allowed", "blocked", "allowed"],
    ),
    "approved, denied, no answer that counts": (
        [True, False, "yes", OSError("503")],
        {},
        [ASKED] * 4,
        ["approved", "denied", "denied", "denied"],
    ),
    "for somebody": (
        [True],
        {},
        [Action("write_x", subject=Subject("alice", "acme")), Action("search", subject=Subject(MASKED))],
        ["approved", "allowed"],
    ),
    "expired": ([never], {"timeout": 0.05}, [ASKED], ["expired"]),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_sent_again_is_what_was_sent(case: str, bench: BENCH, tmp_path: Path) -> None:
    """Every attribute, the severity, the span it belongs to, and its time, which is that of the answer."""
    answers, options, actions, outcomes = CASES[case]
    b = bench(*answers, executor=Executor(), **options)
    await decisions(b, *actions)
    first = b.telemetry.logs("aegis.tool.decision")
    again = made_again(b.audit)
    assert [each.log_record.attributes["aegis.decision.outcome"] for each in again] == outcomes
    assert [said(each) for each in again] == [said(each) | {"aegis.decision.resent": True} for each in first]
    for one, other in zip(first, again, strict=True):
        assert abs(one.log_record.timestamp - other.log_record.timestamp) < 500_000_000
    assert "hunter2" not in repr(again)


def said(event: Any) -> dict[str, Any]:
    record = event.log_record
    return {
        **record.attributes,
        "name": record.event_name,
        "severity": (record.severity_number, record.severity_text),
        "span": (record.trace_id, record.span_id),
    }


async def test_of_monitor_mode_too(bench: BENCH) -> None:
    """Everything ran, and the event says what would have been."""
    b = bench(executor=Executor(), mode=Mode.MONITOR.value)
    await decisions(b, Action("delete_x"), ASKED, Action("search"))
    assert [event["aegis.decision.outcome"] for event in b.telemetry.events("aegis.tool.decision")] == [
        each.log_record.attributes["aegis.decision.outcome"] for each in made_again(b.audit)
    ]


async def test_approved_and_then_blocked(bench: BENCH) -> None:
    holder: list[Bench] = []

    def swap(decision: Any) -> bool:
        rule = {"name": "now_blocked", "risk_level": "critical", "approval": "block"}
        holder[0].runtime.update_policy(Policy.from_dict({"rules": [rule]}))
        return True

    b = bench(swap, executor=Executor())
    holder.append(b)
    await decisions(b, ASKED)
    (event,) = made_again(b.audit)
    assert event.log_record.attributes["aegis.decision.outcome"] == "blocked"
    assert event.log_record.severity_text == "ERROR"


async def test_what_failed_by_governance_says_so(bench: BENCH) -> None:
    """The arguments were changed while a human was asked."""
    action = Action("write_x", params={"a": [1]})

    def change(decision: Any) -> bool:
        list.append(decision.action.params["a"], 2)
        return True

    b = bench(change, executor=Executor())
    await decisions(b, action)
    (event,) = made_again(b.audit)
    (first,) = b.telemetry.events("aegis.tool.decision")
    assert dict(event.log_record.attributes) == first | {"aegis.decision.resent": True}
    assert event.log_record.attributes["error.type"] == "arguments_changed"


async def test_a_call_cancelled_while_asking_has_expired(bench: BENCH) -> None:
    b = bench(never, executor=Executor())
    task = asyncio.ensure_future(b.runtime.run_one(ASKED))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = made_again(b.audit)
    (first,) = b.telemetry.events("aegis.tool.decision")
    assert (
        event.log_record.attributes["aegis.decision.outcome"] == first["aegis.decision.outcome"] == "expired"
    )


async def test_what_was_never_decided_has_no_event(bench: BENCH) -> None:
    """A skipped action of a plan, and a call that waits for a human."""
    b = bench(executor=Executor())
    runtime = b.runtime
    await runtime.execute(runtime.plan([Action("search", params={"fails": True}), Action("search")]))
    AuditLogger(b.audit).append(decided(decision_id="waits", result_status="pending"))
    assert len(b.telemetry.events("aegis.tool.decision")) == 1
    exporter = InMemoryLogRecordExporter()
    assert list(resend(records(b.audit), Outbox(exporter))) == [Sent(1, 2)]
    assert [outcome_of(each) for each in records(b.audit)].count(None) == 2


# --- the command ---


@pytest.fixture
def receiver() -> Iterator[Received]:
    with receiving() as received:
        yield received


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Twelve hundred calls of three services, an hour apart from noon on."""
    logger = AuditLogger(tmp_path / "audit")
    for n in range(1_200):
        day, hour = divmod(n, 24)
        at = f"2026-01-{day % 28 + 1:02d}T{hour:02d}:{day // 28:02d}:00+00:00"
        service = ("web", "jobs", None)[n % 3]
        logger.append(decided(decision_id=f"{n:04d}", timestamp=at, service=service, host="h"))
        logger.append(completed(decision_id=f"{n:04d}"))
    logger.close()
    return logger.path


def command(audit: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", "--path", str(audit), "resend", *arguments])


def ids(receiver: Received) -> list[str]:
    return [attributes(log)["aegis.decision.id"] for log in receiver.logs()]


def test_all_of_it_arrives_by_its_service_and_time(audit: Path, receiver: Received) -> None:
    ran = command(audit, "--endpoint", receiver.endpoint + "/")
    assert (ran.exit_code, ran.output) == (0, "sent 1200 of 1200 decisions\n")
    assert sorted(ids(receiver)) == [f"{n:04d}" for n in range(1_200)]
    assert receiver.services() == {"web", "jobs", "unknown_service"}
    (last,) = [log for log in receiver.logs() if attributes(log)["aegis.decision.id"] == "0025"]
    assert last.time_unix_nano == 1_767_315_600_000_000_000  # 2026-01-02T01:00:00Z


def test_filters_choose(audit: Path, receiver: Received) -> None:
    ran = command(
        audit, "--endpoint", receiver.endpoint, "--since", "2026-01-28T00:00Z", "--until", "2026-01-28T02:00Z"
    )
    assert (ran.exit_code, ran.output) == (0, "sent 2 of 2 decisions\n")


def test_only_what_is_missing(audit: Path, receiver: Received, tmp_path: Path) -> None:
    """What the collector's file has is left out, and what it has not is sent."""
    command(audit, "--endpoint", receiver.endpoint, "--until", "2026-01-28T00:00Z")
    seen = set(ids(receiver))
    assert 0 < len(seen) < 1_200
    file = tmp_path / "decisions.jsonl"
    file.write_text("".join(map(otlp_line, receiver.requests["logs"])) + "torn {")
    receiver.requests["logs"].clear()
    ran = command(audit, "--endpoint", receiver.endpoint, "--missing-from", str(file))
    assert ran.output.splitlines() == [
        "1 lines are no OTLP/JSON, or cut off, and were passed over",
        f"sent {1_200 - len(seen)} of 1200 decisions; {len(seen)} are there already",
    ]
    assert set(ids(receiver)) == {f"{n:04d}" for n in range(1_200)} - seen


def test_a_dry_run_sends_nothing(audit: Path) -> None:
    ran = command(audit, "--dry-run")
    assert (ran.exit_code, ran.output) == (0, "would send 1200 of 1200 decisions\n")


def test_an_endpoint_that_refuses(audit: Path, receiver: Received) -> None:
    """One line with what arrived, and the exit code."""
    receiver.status = 401
    ran = command(audit, "--endpoint", receiver.endpoint)
    assert ran.exit_code == 1
    assert ran.output.startswith(
        "Error: the endpoint did not take a batch of 500 decisions; 0 arrived before it"
    )
    assert ids(receiver) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no endpoint: set OTEL_EXPORTER_OTLP_ENDPOINT, or give `--endpoint URL`"),
        (["--endpoint", "localhost:4318"], "`localhost:4318` in --endpoint is no URL"),
        (["--since", "soon"], "`since` is `soon`"),
        (["--missing-from", "nowhere"], "File 'nowhere' does not exist"),
    ],
)
def test_wrong_usage(audit: Path, arguments: list[str], complaint: str) -> None:
    ran = command(audit, *arguments)
    assert ran.exit_code == 2
    assert complaint in ran.output


def test_the_endpoint_may_come_from_the_environment(
    audit: Path, receiver: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    assert command(audit, "--since", "2026-01-28T20:00Z").exit_code == 0
    assert len(ids(receiver)) > 0
