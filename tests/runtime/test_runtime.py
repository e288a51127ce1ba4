"""Runtime, plans and hooks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import (
    Action,
    Approval,
    AuditError,
    ConfigError,
    ExecutionPlan,
    Policy,
    Result,
    ResultStatus,
    RiskLevel,
    Runtime,
    RuntimeHooks,
)
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.journal.policy_changes import read_changes
from aegis_otel.audit.journal.writer import LOOK_S
from aegis_otel.audit.verify.verify import verify
from aegis_otel.runtime.approval import ApprovalHandler, NoTerminal
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import POLICY, Bench, ScriptedApprover

BENCH = Callable[..., Bench]


class Executor(BaseExecutor):
    """Does what it is told for each action type; remembers what it was given."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.did: list[Action] = []
        self.lived: list[str] = []

    async def execute(self, action: Action) -> Result:
        self.did.append(action)
        answer = self.answers.get(action.type, {"ok": True})
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Result):
            return answer
        return Result(action=action, status=ResultStatus.SUCCESS, data=answer)

    async def verify(self, action: Action, result: Result) -> bool:
        return result.ok and action.params.get("verified", True)

    async def setup(self) -> None:
        self.lived.append("setup")

    async def teardown(self) -> None:
        self.lived.append("teardown")


async def test_execute_gives_one_result_per_action(bench: BENCH) -> None:
    """Inventory 54, 36, 37: results in the plan's order, with status, data and the audit's id."""
    b = bench(True, executor=Executor(search={"n": 1}))
    plan = b.runtime.plan([Action("search"), Action("write_x"), Action("delete_x")])
    results = await b.runtime.execute(plan)
    assert [(r.action.type, r.status, r.ok) for r in results] == [
        ("search", ResultStatus.SUCCESS, True),
        ("write_x", ResultStatus.SUCCESS, True),
        ("delete_x", ResultStatus.BLOCKED, False),
    ]
    assert results[0].data == {"n": 1}
    assert [str(r) for r in results] == [
        "[OK] search -> default",
        "[OK] write_x -> default",
        "[BLOCKED] delete_x -> default",
    ]
    assert results[2].error == "Action blocked by policy rule: block_deletes"
    assert [row["action_type"] for row in b.rows()] == ["search", "write_x", "delete_x"]
    assert results[2].decision_id == b.rows()[2]["decision_id"]


async def test_inventory_55_b36_dry_run(bench: BENCH) -> None:
    """A dry run has outcomes of its own, runs nothing, asks nobody and leaves no row."""
    executor = Executor()
    b = bench(executor=executor)
    plan = b.runtime.plan([Action("search"), Action("write_x"), Action("delete_x")])
    results = await b.runtime.execute(plan, dry_run=True)
    assert [r.status for r in results] == [
        ResultStatus.WOULD_RUN,
        ResultStatus.WOULD_ASK,
        ResultStatus.WOULD_BLOCK,
    ]
    assert not any(r.ok for r in results)
    assert executor.did == []
    assert not b.audit.exists()
    assert [r.status for r in await b.runtime.dry_run([Action("search")])] == [ResultStatus.WOULD_RUN]
    assert (await b.runtime.run_one(Action("delete_x"), dry_run=True)).status is ResultStatus.WOULD_BLOCK


async def test_inventory_57_fail_fast(bench: BENCH) -> None:
    """FAILED and DENIED skip the rest, with rows; BLOCKED does not stop the plan."""
    b = bench(executor=Executor(search_fails=RuntimeError("no")))
    actions = [Action("delete_x"), Action("search_fails"), Action("search"), Action("delete_y")]
    results = await b.runtime.execute(b.runtime.plan(actions))
    assert [r.status.value for r in results] == ["blocked", "failed", "skipped", "skipped"]
    assert results[2].error == "Skipped due to prior failure"
    assert [row["result_status"] for row in b.rows()] == ["blocked", "failed", "skipped", "skipped"]
    assert len(b.telemetry.spans("govern_tool")) == 2

    denied = bench(False, executor=Executor(), audit=b.audit.with_name("denied"))
    results = await denied.runtime.execute(denied.runtime.plan([Action("write_x"), Action("search")]))
    assert [r.status.value for r in results] == ["denied", "skipped"]


async def test_inventory_56_parallel(bench: BENCH) -> None:
    """All at once: each waits for the others to have begun."""
    barrier = asyncio.Barrier(3)

    class Meets(BaseExecutor):
        async def execute(self, action: Action) -> Result:
            await asyncio.wait_for(barrier.wait(), 5)
            return Result(action, ResultStatus.SUCCESS)

    b = bench(executor=Meets())
    results = await b.runtime.execute(b.runtime.plan([Action("search")] * 3), parallel=True)
    assert [r.ok for r in results] == [True, True, True]


async def test_inventory_58_59_run_one_and_lifecycle(bench: BENCH) -> None:
    """`async with` sets the executor up and tears it down."""
    executor = Executor()
    b = bench(executor=executor)
    async with b.runtime as runtime:
        assert (await runtime.run_one(Action("search"))).ok
    assert executor.lived == ["setup", "teardown"]


async def test_inventory_60_update_policy(bench: BENCH) -> None:
    """Swapped at once; a body that runs goes on."""
    holder: list[Runtime] = []

    class Swaps(BaseExecutor):
        async def execute(self, action: Action) -> Result:
            holder[0].update_policy(Policy.from_dict({"version": "1", "defaults": {"approval": "block"}}))
            return Result(action, ResultStatus.SUCCESS)

    b = bench(executor=Swaps())
    holder.append(b.runtime)
    assert (await b.runtime.run_one(Action("search"))).ok
    assert (await b.runtime.run_one(Action("search"))).status is ResultStatus.BLOCKED
    digests = [row["policy_digest"] for row in b.rows()]
    assert len(set(digests)) == 2


def test_inventory_61_attributes(bench: BENCH) -> None:
    """audit, approval, policy and session_id are there to be read."""
    b = bench()
    assert isinstance(b.runtime.audit, AuditLogger)
    assert b.runtime.approval is b.approver
    assert b.runtime.policy.evaluate(Action("delete_x")).approval is Approval.BLOCK
    assert b.runtime.session_id == "session"


def test_inventory_62_to_69_plan(bench: BENCH) -> None:
    """Summary, flags, filters and container behaviour of a plan."""
    plan = bench().runtime.plan(
        [Action("search", "web", {"q": 1}, "Looks"), Action("write_x"), Action("delete_x")]
    )
    assert plan.summary().splitlines() == [
        "  1. [   AUTO] Action(search -> web)  (risk=LOW, rule=search_auto)",
        "  2. [APPROVE] Action(write_x -> default)  (risk=HIGH, rule=write_asks)",
        "  3. [  BLOCK] Action(delete_x -> default)  (risk=CRITICAL, rule=block_deletes)",
    ]
    assert (plan.has_blocked, plan.requires_approval, plan.auto_only) == (True, True, False)
    assert plan.to_dict()["decisions"][0] == {
        "action_type": "search",
        "action_target": "web",
        "params": {"q": 1},
        "description": "Looks",
        "risk_level": "low",
        "approval": "auto",
        "matched_rule": "search_auto",
        "is_allowed": True,
    }
    assert [d.action.type for d in plan.filter(allowed_only=True)] == ["search", "write_x"]
    assert [d.action.type for d in plan.filter(approval=Approval.BLOCK)] == ["delete_x"]
    assert [d.action.type for d in plan.filter(risk_level=RiskLevel.HIGH)] == ["write_x"]
    assert isinstance(plan.filter(approval=Approval.AUTO), ExecutionPlan)
    assert plan.filter(approval=Approval.AUTO).auto_only
    assert (len(plan), plan[2].action.type, [d.action.type for d in plan[:1]]) == (3, "delete_x", ["search"])
    assert list(plan) == list(plan.decisions)


async def test_inventory_70_71_executor(bench: BENCH) -> None:
    """Its failures, its exceptions and a failed verification are FAILED results with rows."""
    bad = Result(Action("search_bad"), ResultStatus.FAILED, error="token=abcdef123456 refused")
    b = bench(executor=Executor(search_bad=bad, search_odd=OSError("disk")))
    assert (await b.runtime.run_one(Action("search_bad"))).status is ResultStatus.FAILED
    result = await b.runtime.run_one(Action("search", params={"verified": False}))
    assert (result.status, result.error) == (
        ResultStatus.FAILED,
        "RuntimeError: Post-execution verification failed",
    )
    assert (await b.runtime.run_one(Action("search_odd"))).error == "OSError: disk"
    assert [row["result_status"] for row in b.rows()] == ["failed"] * 3
    assert "abcdef123456" not in str(b.rows())


async def test_b35_executor_raises(bench: BENCH) -> None:
    """An exception of the executor is a FAILED result and a row, never an exception out of run_one."""
    b = bench(executor=Executor(search=RuntimeError("boom")))
    result = await b.runtime.run_one(Action("search"))
    assert (result.status, result.error) == (ResultStatus.FAILED, "RuntimeError: boom")
    assert b.row()["result_status"] == "failed"


async def test_execute_needs_an_executor(bench: BENCH) -> None:
    """Inventory 52: clear words instead of an AttributeError."""
    b = bench()
    with pytest.raises(ConfigError, match="executor="):
        await b.runtime.run_one(Action("search"))


async def test_b28_handler_raises(bench: BENCH) -> None:
    """Denied, audited with the reason, nothing raised."""
    b = bench(ConnectionError("503"), executor=Executor())
    result = await b.runtime.run_one(Action("write_x"))
    assert (result.status, result.error) == (ResultStatus.DENIED, "Approval could not be obtained")
    assert (b.row()["result_status"], b.row()["reason"]) == ("denied", "approval_error")


async def test_b31_the_approver_cannot_change_what_runs(bench: BENCH) -> None:
    """Parameters are frozen; what runs is what was asked for."""
    executor = Executor()
    tried: list[BaseException] = []

    def tamper(decision: Any) -> bool:
        for change in (
            lambda: decision.action.params.update(to=["evil"]),
            lambda: decision.action.params["to"].append("evil"),
            lambda: setattr(decision.action, "params", {}),
        ):
            try:
                change()
            except (TypeError, AttributeError) as error:
                tried.append(error)
        return True

    b = bench(tamper, executor=executor)
    recipients = ["me"]
    action = Action("write_mail", params={"to": recipients})
    recipients.append("evil")
    await b.runtime.run_one(action)
    assert len(tried) == 3
    assert executor.did[0].params == {"to": ["me"]}


async def test_b31_an_object_changed_behind_our_back_is_refused(bench: BENCH) -> None:
    """What cannot be frozen is hashed: a change between the question and the answer refuses the call."""

    class Mail:
        def __init__(self) -> None:
            self.to = "me"

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    mail = Mail()

    def tamper(decision: Any) -> bool:
        mail.to = "evil"
        return True

    executor = Executor()
    b = bench(tamper, executor=executor)
    result = await b.runtime.run_one(Action("write_mail", params={"mail": mail}))
    assert (result.status, executor.did) == (ResultStatus.BLOCKED, [])
    assert b.row()["reason"] == "arguments_changed"


async def test_b32_a_plan_is_decided_anew_when_it_runs(bench: BENCH) -> None:
    """A plan made under another policy gives nobody a right."""
    executor = Executor()
    b = bench(executor=executor)
    plan = b.runtime.plan([Action("search")])
    b.runtime.update_policy(Policy.from_dict({"version": "1", "defaults": {"approval": "block"}}))
    (result,) = await b.runtime.execute(plan)
    assert (result.status, executor.did) == (ResultStatus.BLOCKED, [])


@pytest.mark.parametrize("kind", ["sync", "async", "raising", "async raising"])
async def test_b34_hooks_are_isolated(kind: str, bench: BENCH) -> None:
    """Sync or async, raising or not: the action runs, its row is there, errors are counted."""
    told: list[str] = []

    def sync(name: str) -> Callable[..., None]:
        def hook(*args: Any) -> None:
            told.append(name)
            if "raising" in kind:
                raise ValueError(name)

        return hook

    def make(name: str) -> Callable[..., Any]:
        hook = sync(name)
        if "async" not in kind:
            return hook

        async def asynchronous(*args: Any) -> None:
            hook(*args)

        return asynchronous

    hooks = RuntimeHooks(make("decision"), make("approval"), make("execute"))
    b = bench(True, executor=Executor(), hooks=hooks)
    assert (await b.runtime.run_one(Action("write_x"))).ok
    assert told == ["decision", "approval", "execute"]
    assert b.row()["result_status"] == "success"
    errors = sum(b.telemetry.points("aegis.hook.errors").values())
    assert errors >= (3 if "raising" in kind else 0)


def test_b11_a_runtime_writes_nothing_until_it_records(tmp_path: Path) -> None:
    """Constructing a Runtime, even where nothing can be written, makes no file and raises nothing."""
    before = sorted(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    runtime = Runtime(policy=Policy.from_dict(POLICY), audit_logger=AuditLogger(tmp_path / "file" / "audit"))
    runtime.plan([Action("search")])
    Runtime(policy=Policy.from_dict(POLICY))
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "file"])


async def test_without_a_terminal_nobody_is_asked(
    bench: BENCH, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a call is denied, no human is said to have decided, and the log says what to do."""
    monkeypatch.setattr(sys, "stdin", None)
    approver = Runtime(policy=Policy.from_dict(POLICY)).approval
    assert isinstance(approver, NoTerminal)
    b = bench(approver=approver, executor=Executor())
    assert (await b.runtime.run_one(Action("write_x"))).status is ResultStatus.DENIED
    assert (b.row()["human_decision"], b.row()["reason"]) == (None, "approval_error")
    (said,) = [each for each in caplog.messages if "an `approval_handler`" in each]
    assert said.startswith(f"call of `write_x`, decision {b.row()['decision_id']} denied: ")


class Sync(ApprovalHandler):
    def request_approval(self, decision: Any) -> Any:
        return True


class Late(ApprovalHandler):
    async def request_approval(self, decision: Any) -> bool:
        time.sleep(0.1)
        return True


class Cancels(ApprovalHandler):
    async def request_approval(self, decision: Any) -> bool:
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("approver", "human_decision", "error"),
    [
        (Sync(), None, "Approval could not be obtained"),
        (Late(), "expired", "Approval timed out"),
        (Cancels(), None, "Approval could not be obtained"),
    ],
    ids=["not async", "holds the loop beyond its time", "cancels itself"],
)
async def test_faulty_handlers_deny(
    approver: ApprovalHandler, human_decision: str | None, error: str, bench: BENCH
) -> None:
    """Whatever a handler does wrong, the call is denied and its row is closed."""
    executor = Executor()
    b = bench(approver=approver, executor=executor, timeout=0.05)
    result = await b.runtime.run_one(Action("write_x"))
    assert (result.status, result.error, executor.did) == (ResultStatus.DENIED, error, [])
    assert (b.row()["result_status"], b.row()["human_decision"]) == ("denied", human_decision)


@pytest.mark.parametrize("measured", ["off", "on"])
async def test_how_long_the_policy_took(measured: str, bench: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where it is asked for, once a decision, without the time of the human."""
    monkeypatch.setenv("AEGIS_EVALUATION_DURATION", measured)
    b = bench(lambda decision: asyncio.sleep(0.2, True), executor=Executor())
    await b.runtime.run_one(Action("write_x"))
    await b.runtime.run_one(Action("delete_x"))
    points = b.telemetry.data_points("aegis.policy.evaluation.duration")
    assert len(points) == (2 if measured == "on" else 0)
    for point in points:
        assert point.count == 1
        assert 0 < point.sum < 0.1


async def test_a_fault_of_ours_while_asking_refuses_the_call(bench: BENCH) -> None:
    """What nobody foresaw is a recorded refusal as well: here a channel that cannot be read."""

    class Broken(ScriptedApprover):
        @property
        def channel(self) -> str:
            raise RuntimeError("ours")

    executor = Executor()
    b = bench(approver=Broken(True), executor=executor)
    result = await b.runtime.run_one(Action("write_x"))
    assert (result.status, result.error) == (
        ResultStatus.BLOCKED,
        "Action not run: governance is unavailable",
    )
    assert (b.row()["result_status"], executor.did) == ("blocked", [])
    (event,) = b.telemetry.events("aegis.tool.decision")
    assert event["aegis.decision.outcome"] == "error"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "policy.yaml"}, "`policy` is a `str`: pass Policy.from_yaml"),
        ({"approval_handler": Sync}, "pass an instance of a subclass"),
        (
            {"approval_handler": lambda _: True},
            "is a `function` and no ApprovalHandler: wrap a function in `Call",
        ),
        ({"approval_timeout": 0}, "`approval_timeout` is `0`: expected a number of seconds above 0"),
        ({"approval_timeout": float("inf")}, "`approval_timeout` is `inf`"),
        ({"approval_timeout": "soon"}, "`approval_timeout` is `soon`"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    """A newcomer's mistakes are answered with what to pass."""
    with pytest.raises(ConfigError, match=message):
        Runtime(**{"policy": Policy.from_dict(POLICY), **arguments})


def test_a_plan_is_made_of_actions(bench: BENCH) -> None:
    """A name is no action."""
    with pytest.raises(ConfigError, match="a plan is made of Actions, not of `str`"):
        bench().runtime.plan(["search"])  # type: ignore[list-item]


async def test_hooks_hear_of_an_executors_failed_result(bench: BENCH) -> None:
    """A FAILED result is an end like any other."""
    bad = Result(Action("search"), ResultStatus.FAILED, error="no")
    b = bench(executor=Executor(search=bad))
    await b.runtime.run_one(Action("search"))
    assert b.heard.results == [("search", "failed")]


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable environment variable is refused with its name and what is expected."""
    monkeypatch.setenv("AEGIS_APPROVAL_TIMEOUT", "soon")
    with pytest.raises(
        ConfigError, match=r"`AEGIS_APPROVAL_TIMEOUT` is `soon`: expected a number of seconds"
    ):
        Runtime(policy=Policy.from_dict(POLICY))


KILLED_IN_THE_BODY = """
    import asyncio, os, signal
    from agents import Agent, Runner, set_tracing_disabled
    from agents.testing import ScriptedModel, function_call
    from aegis_otel import Policy, Runtime
    from aegis_otel.adapters.openai_agents import governed_tool

    set_tracing_disabled(True)
    runtime = Runtime(policy=Policy.from_dict({"version": "1", "defaults": {"approval": "auto"}}))

    @governed_tool(runtime=runtime, action_type="charge")
    async def charge(amount: int) -> str:
        print("charged", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    model = ScriptedModel([[function_call("charge", {"amount": 5}, call_id="c1")]])
    asyncio.run(Runner.run(Agent(name="A", model=model, tools=[charge]), "go"))
"""


def test_b37_kill_in_the_body_leaves_a_row_shown_as_unknown(tmp_path: Path) -> None:
    """kill -9 after the side effect: the decided row is there, and says that nobody knows how it ended."""
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_IN_THE_BODY)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert child.stdout == "charged\n"
    (row,) = AuditLogger(tmp_path / "aegis_audit").get_log()
    assert (row["action_type"], row["result_status"], row["action_params"]) == (
        "charge",
        "unknown",
        {"amount": 5},
    )


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_exception_without_text_is_recorded_by_its_name(bench: BENCH) -> None:
    """Whatever the body raises, its row is closed as failed."""
    b = bench(executor=Executor(search=Unprintable()))
    result = await b.runtime.run_one(Action("search"))
    assert (result.status, result.error) == (ResultStatus.FAILED, "Unprintable")
    assert (b.row()["result_status"], b.row()["result_error"]) == ("failed", "Unprintable")


async def test_a_long_error_is_cut(bench: BENCH) -> None:
    """A megabyte of error text is neither stored nor read through."""
    b = bench(executor=Executor(search=RuntimeError("password=hunter2 " * 60_000)))
    result = await b.runtime.run_one(Action("search"))
    assert len(result.error or "") == len(b.row()["result_error"]) <= 2_000
    assert "hunter2" not in b.row()["result_error"]


async def test_executors_results_are_ours(bench: BENCH) -> None:
    """Its data is kept; status, redacted error and decision id are what the audit says."""
    odd = Result(Action("other"), ResultStatus.WOULD_RUN, error="password=hunter22")
    b = bench(executor=Executor(search={"n": 1}, search_odd=odd))
    fine = await b.runtime.run_one(Action("search"))
    assert (fine.data, fine.decision_id) == ({"n": 1}, b.row()["decision_id"])
    bad = await b.runtime.run_one(Action("search_odd"))
    assert (bad.status, bad.error) == (ResultStatus.FAILED, "password=[REDACTED 8 chars]")
    assert bad.decision_id == b.rows()[1]["decision_id"]


async def test_secrets_in_names_reach_nothing(bench: BENCH, caplog: pytest.LogCaptureFixture) -> None:
    """Type, target and agent are redacted in row, span and event; hooks' and handlers' errors in the log."""

    def raising(*args: Any) -> None:
        raise ValueError(f"{args} password=hunter2hunter2")

    b = bench(
        OSError("https://u:hunter2hunter2@hooks"),
        executor=Executor(),
        hooks=RuntimeHooks(on_decision=raising),
    )
    secret = "postgres://admin:hunter2hunter2@db/x"
    action = Action("write_x", secret, {"password": "hunter2hunter2"}, agent=f"agent {secret}")
    await b.runtime.run_one(action)
    (journal,) = (b.audit / "journal").iterdir()
    spans = [span.to_json() for span in b.telemetry.spans()]
    events = b.telemetry.events("aegis.tool.decision")
    for place in (journal.read_text(), str(spans), str(events)):
        assert "admin" in place
        assert "hunter2hunter2" not in place
    assert "hunter2hunter2" not in caplog.text
    assert "password" not in repr(action)


async def test_update_policy_refuses_what_is_no_policy(bench: BENCH) -> None:
    """And the policy in force stays."""
    b = bench(executor=Executor())
    with pytest.raises(ConfigError, match="`policy` is a `dict`"):
        b.runtime.update_policy({"version": "1"})  # type: ignore[arg-type]
    assert (await b.runtime.run_one(Action("delete_x"))).status is ResultStatus.BLOCKED


@pytest.mark.parametrize("hook", ["on_decision", "on_execute"])
async def test_a_hook_that_cancels_itself_cancels_no_call(hook: str, bench: BENCH) -> None:
    """A CancelledError of a hook's own is its failure, not the call's."""

    async def cancels(*args: Any) -> None:
        raise asyncio.CancelledError

    b = bench(executor=Executor(), hooks=RuntimeHooks(**{hook: cancels}))
    assert (await b.runtime.run_one(Action("search"))).ok


async def test_the_answer_is_on_disk_before_the_hook_hears_of_it(bench: BENCH) -> None:
    """A hook that hangs must not keep a human's yes from the audit."""
    seen: list[Any] = []
    b = bench(True, executor=Executor(), hooks=RuntimeHooks(on_approval=lambda *_: seen.append(b.row())))
    await b.runtime.run_one(Action("write_x"))
    assert (seen[0]["human_decision"], seen[0]["approver"]) == ("approved", "someone")


async def test_a_yes_that_cannot_be_recorded_runs_nothing(
    bench: BENCH, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit fails between the question and the answer: no row of the yes, no call."""
    executor = Executor()
    holder: list[Bench] = []

    def yes(decision: Any) -> bool:
        (journal,) = (holder[0].audit / "journal").iterdir()
        journal.unlink()
        (holder[0].audit / "journal").rmdir()
        (holder[0].audit / "journal").write_text("in the way")
        time.sleep(LOOK_S)
        return True

    b = bench(yes, executor=executor)
    holder.append(b)
    result = await b.runtime.run_one(Action("write_x"))
    assert (result.status, executor.did) == (ResultStatus.BLOCKED, [])
    assert result.error == "Action not run: governance is unavailable"


class TestPolicyChanges:
    """What a Runtime writes to the log of changes of policy."""

    def test_nothing_is_written_before_the_first_record(self, tmp_path: Path) -> None:
        audit = AuditLogger(tmp_path / "audit")
        policy = Policy.from_text("rules: []")
        runtime = Runtime(policy=policy, audit_logger=audit, session_id="s")
        runtime.update_policy(Policy.from_text("rules: [{approval: block}]"))
        assert not (tmp_path / "audit").exists()
        audit.log("s", policy.evaluate(Action("x")))
        runtime.policy_refused(["bad.yaml"], "line 1: password=hunter2hunter2")
        runtime.governance_stopped()
        changes = list(read_changes(tmp_path / "audit"))
        assert [each.change for each in changes] == ["started", "reloaded", "refused", "stopped"]
        assert {each.session_id for each in changes} == {"s"}
        assert changes[2].sources == "bad.yaml"
        assert "hunter2" not in str(changes[2].problem)
        assert audit.count() == 1

    def test_a_call_is_refused_where_they_cannot_be_written(self, tmp_path: Path) -> None:
        audit = AuditLogger(tmp_path / "audit")
        audit.check()
        (tmp_path / "audit" / "policies").write_text("in the way")
        policy = Policy.from_text("rules: []")
        Runtime(policy=policy, audit_logger=audit)
        for _ in range(2):
            with pytest.raises(AuditError, match="policies"):
                audit.log("s", policy.evaluate(Action("x")))
        (tmp_path / "audit" / "policies").unlink()
        audit.log("s", policy.evaluate(Action("x")))
        assert [each.change for each in read_changes(tmp_path / "audit")] == ["started"]

    @pytest.mark.parametrize(
        ("settings", "ends"),
        [
            ({}, "blocked"),
            ({"mode": "monitor"}, "success"),
            ({"on_audit_failure": "allow"}, "success"),
        ],
    )
    async def test_the_row_of_a_call_is_written_where_they_cannot_be(
        self, tmp_path: Path, settings: dict[str, Any], ends: str
    ) -> None:
        """And it says how the call ended: one that was refused is not open for ever."""
        audit = AuditLogger(tmp_path / "audit")
        audit.check()
        os.mkfifo(tmp_path / "audit" / "policies")
        executor = Executor()
        policy = Policy.from_text("rules: [{approval: auto}]")
        runtime = Runtime(policy=policy, executor=executor, audit_logger=audit, **settings)
        result = await runtime.run_one(Action("x"))
        (row,) = audit.get_log()
        assert (row["result_status"], result.ok, len(executor.did)) == (
            ends,
            ends == "success",
            ends == "success",
        )
        assert row["outcome"] == ("error" if ends == "blocked" else "allowed")

    @pytest.mark.parametrize("approval", ["auto", "approve", "block"])
    async def test_no_call_is_left_open_where_they_cannot_be_written(
        self, tmp_path: Path, approval: str
    ) -> None:
        """No question waits for an answer, and the lines are those of a call that was refused."""
        audit = AuditLogger(tmp_path / "audit")
        audit.check()
        os.mkfifo(tmp_path / "audit" / "policies")
        executor = Executor()
        policy = Policy.from_text(f"rules: [{{approval: {approval}}}]")
        runtime = Runtime(
            policy=policy, executor=executor, audit_logger=audit, approval_handler=ScriptedApprover(True)
        )
        assert not (await runtime.run_one(Action("x"))).ok
        (row,) = audit.get_log()
        assert (row["result_status"], executor.did) == ("blocked", [])
        (tmp_path / "audit" / "policies").unlink()
        audit.check()
        assert verify(tmp_path / "audit").findings == []
