"""`mode: monitor` and `message` of a rule: what runs, what is recorded, what the model reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aegis_otel import Action, Policy, Result, ResultStatus, semconv
from aegis_otel.errors import AuditError
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.plan import BaseExecutor
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
HINT = "Use archive_x instead."


def policy(*, mode: str = "monitor", default: str = "auto") -> dict[str, Any]:
    names = {"delete_x": "block", "write_x": "approve", "read_x": "auto"}
    rules = [
        {"name": f"{name}_rule", "match": {"type": name}, "approval": approval, "mode": mode, "message": HINT}
        for name, approval in names.items()
    ]
    return {"version": "1", "defaults": {"approval": default, "risk_level": "low"}, "rules": rules}


class Executor(BaseExecutor):
    def __init__(self) -> None:
        self.ran: list[str] = []

    async def execute(self, action: Action) -> Result:
        self.ran.append(action.type)
        return Result(action, ResultStatus.SUCCESS)


def refuse_lines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no line be written."""

    def fail(record: object) -> None:
        raise AuditError("disk full")

    monkeypatch.setattr(bench.runtime.audit, "append", fail)


@pytest.mark.parametrize(
    ("kind", "approval", "outcome"),
    [("delete_x", "block", "blocked"), ("write_x", "approve", "allowed"), ("read_x", "auto", "allowed")],
)
async def test_a_monitored_rule_stops_nothing_and_asks_nobody(
    bench: BENCH, kind: str, approval: str, outcome: str
) -> None:
    """Row, event, span and count say what would have been, and that the mode is monitor."""
    executor = Executor()
    b = bench(policy=policy(), executor=executor)
    result = await b.runtime.run_one(Action(kind, params={"n": 1}))
    assert (executor.ran, result.status) == ([kind], ResultStatus.SUCCESS)
    row = b.row()
    assert (row["mode"], row["approval"], row["outcome"], row["matched_rule"], row["result_status"]) == (
        *("monitor", approval, outcome),
        *(f"{kind}_rule", "success"),
    )
    assert (row["human_decision"], row["result_error"]) == (None, None)
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert (event["aegis.enforcement.mode"], event["aegis.decision.outcome"]) == ("monitor", outcome)
    (span,) = b.telemetry.spans("govern_tool")
    assert span.attributes["aegis.enforcement.mode"] == "monitor"
    (labels,) = [dict(key) for key, n in b.telemetry.points("aegis.decisions").items() if n]
    assert (labels["aegis.enforcement.mode"], labels["aegis.decision.outcome"]) == ("monitor", outcome)
    assert b.heard.decisions == [f"{kind}_rule"]
    assert b.approver.asked == []  # type: ignore[attr-defined]


async def test_other_calls_of_the_same_program_are_enforced(bench: BENCH) -> None:
    """The mode stands on each row; series of both modes begin at zero."""
    executor = Executor()
    rules = policy()
    rules["rules"].append({"name": "drops", "match": {"type": "drop_x"}, "approval": "block"})
    b = bench(policy=rules, executor=executor)
    labels = [dict(key) for key in b.telemetry.points("aegis.decisions")]
    modes = {each[semconv.POLICY_RULE_NAME]: each["aegis.enforcement.mode"] for each in labels}
    assert (modes["delete_x_rule"], modes["drops"]) == ("monitor", "enforce")
    await b.runtime.run_one(Action("drop_x"))
    await b.runtime.run_one(Action("delete_x"))
    assert executor.ran == ["delete_x"]
    assert [(row["action_type"], row["mode"], row["outcome"]) for row in b.rows()] == [
        ("drop_x", "enforce", "blocked"),
        ("delete_x", "monitor", "blocked"),
    ]
    counted = [dict(key) for key, n in b.telemetry.points("aegis.decisions").items() if n]
    assert [each for each in counted if each not in labels] == []


async def test_what_the_rest_of_the_policy_says_is_enforced(bench: BENCH) -> None:
    executor = Executor()
    b = bench(False, policy=policy(default="approve"), executor=executor)
    result = await b.runtime.run_one(Action("delete_x"))
    assert (executor.ran, result.status) == ([], ResultStatus.DENIED)
    row = b.row()
    assert (row["mode"], row["matched_rule"], row["outcome"]) == ("enforce", "<default>", "denied")
    assert row["reason"] == "no rule matched; rule `delete_x_rule` (monitored) says block"


async def test_an_audit_that_cannot_be_written_stops_a_monitored_call(
    bench: BENCH, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the rule says is not enforced: no side effect without a record."""
    executor = Executor()
    b = bench(policy=policy(), executor=executor)
    refuse_lines(b, monkeypatch)
    result = await b.runtime.run_one(Action("delete_x"))
    assert (executor.ran, result.status) == ([], ResultStatus.BLOCKED)
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert (event["aegis.enforcement.mode"], event["aegis.decision.outcome"]) == ("enforce", "error")


async def test_a_yes_counts_where_the_rule_is_only_monitored_by_then(bench: BENCH) -> None:
    """The row keeps the question that the human said yes to."""
    executor = Executor()
    made: list[Bench] = []

    def approve(decision: object) -> bool:
        made[0].runtime.update_policy(Policy.from_dict(policy()))
        return True

    b = bench(approve, policy=policy(mode="enforce"), executor=executor)
    made.append(b)
    await b.runtime.run_one(Action("write_x"))
    assert executor.ran == ["write_x"]
    row = b.row()
    assert (row["mode"], row["approval"], row["outcome"], row["human_decision"]) == (
        *("enforce", "approve"),
        *("approved", "approved"),
    )


async def test_a_plan_shows_what_would_run(bench: BENCH) -> None:
    b = bench(policy=policy(), executor=Executor())
    plan = b.runtime.plan([Action("delete_x"), Action("write_x")])
    assert (plan.has_blocked, plan.requires_approval, plan.auto_only) == (False, False, True)
    line = "[  BLOCK] Action(delete_x -> default)  (risk=MEDIUM, rule=delete_x_rule, only monitored)"
    assert line in plan.summary()
    assert [each["mode"] for each in plan.to_dict()["decisions"]] == ["monitor", "monitor"]
    assert [each.is_allowed for each in plan] == [True, True]
    results = await b.runtime.dry_run([Action("delete_x"), Action("write_x")])
    assert [each.status for each in results] == [ResultStatus.WOULD_RUN] * 2


def test_a_decision_that_a_program_logs_itself(bench: BENCH) -> None:
    b = bench(policy=policy())
    for kind in ("delete_x", "write_x"):
        AuditLogger(b.audit).log("session", b.runtime.policy.evaluate(Action(kind)))
    assert [(row["mode"], row["outcome"], row["result_status"]) for row in b.rows()] == [
        ("monitor", "blocked", None),
        ("monitor", "allowed", None),
    ]


@pytest.mark.parametrize(
    ("kind", "answers", "read"),
    [
        ("delete_x", [], "[AEGIS BLOCKED] Action blocked by policy rule: delete_x_rule"),
        ("write_x", [False], "[AEGIS DENIED] Action denied by human operator"),
        ("write_x", ["yes"], "[AEGIS DENIED] Approval could not be obtained"),
    ],
)
async def test_the_model_reads_the_message_after_a_refusal(
    bench: BENCH, kind: str, answers: list[Any], read: str
) -> None:
    """Only the model: the row has the fixed text."""
    b = bench(*answers, policy=policy(mode="enforce"), executor=Executor())
    call = await b.runtime.governor.authorize(Action(kind))
    assert call.refusal == f"{read}\n{HINT}"
    assert b.row()["result_error"].startswith(read.partition("] ")[2])
    assert HINT not in str(b.rows())


async def test_the_message_stands_before_advice(bench: BENCH) -> None:
    rule = {"conditions": {"param_gt": {"n": 1}}, "approval": "block", "message": HINT, "name": "r"}
    b = bench(policy={"rules": [rule]})
    call = await b.runtime.governor.authorize(Action("t", params={"n": "5"}))
    assert call.refusal == (
        f"[AEGIS BLOCKED] Action blocked by policy rule: r\n{HINT}\n"
        "The policy could not read parameter `n`: expected a number."
    )


async def test_a_failure_of_governance_has_no_message(bench: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench(policy=policy(mode="enforce"))
    refuse_lines(b, monkeypatch)
    call = await b.runtime.governor.authorize(Action("read_x"))
    assert call.refusal == "[AEGIS ERROR] Action not run: governance is unavailable"
