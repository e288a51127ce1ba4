"""The public test kit: what a run shows, and what its failures say."""

from __future__ import annotations

import asyncio
import os
import unittest
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import Action, Instrumentation, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.errors import ConfigError, PolicyNotFound
from aegis_otel.model import PolicyDecision
from aegis_otel.testing import (
    GovernedRun,
    assert_allowed,
    assert_asked,
    assert_blocked,
    assert_not_called,
    governed,
)
from tests.support.kit import POLICY

NIGHT = {
    "rules": [
        {
            "name": "closed_at_night",
            "conditions": {"time_after": "22:00", "time_before": "06:00"},
            "risk_level": "high",
            "approval": "block",
        },
        {"name": "open", "risk_level": "low", "approval": "auto"},
    ]
}


class Echo(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS, data=dict(action.params))


def act(run: GovernedRun, *types: str) -> None:
    for each in types:
        asyncio.run(run.runtime.run_one(Action(each, params={"n": 1})))


def ran(*types: str, policy: Any = POLICY, **options: Any) -> GovernedRun:
    with governed(policy, executor=Echo(), instrument=False, **options) as run:
        act(run, *types)
    return run


@function_tool
async def search(query: str) -> str:
    """Search."""
    return query


async def test_the_agents_inside_are_governed() -> None:
    """And nothing is in force afterwards."""
    model = ScriptedModel(
        [[function_call("search", {"query": "x"}, call_id="c")], [assistant_message("done")]]
    )
    agent = Agent(name="Clerk", tools=[search])
    with governed(POLICY) as run:
        await Runner.run(agent, "go", run_config=RunConfig(model=model, tracing_disabled=True))
    assert Instrumentation.current is None
    assert_allowed(run, "search", rule="search_auto")
    assert [row["agent_name"] for row in run.rows] == ["Clerk"]


async def test_a_run_that_the_sdk_interrupts() -> None:
    """The question was asked; the call waits."""
    model = ScriptedModel([[function_call("search", {"query": "x"}, call_id="c")]])
    agent = Agent(name="Clerk", tools=[search])
    with governed({"defaults": {"approval": "approve"}}, approvals="sdk") as run:
        paused = await Runner.run(agent, "go", run_config=RunConfig(model=model, tracing_disabled=True))
    assert len(paused.interruptions) == 1
    assert_asked(run, "search")
    assert "`search` was asked about and left waiting by rule" in failure(assert_allowed, run, "search")


def test_what_a_run_shows() -> None:
    """During the run and after it, when its directory is gone."""
    with governed(POLICY, answers=[True], executor=Echo(), instrument=False) as run:
        act(run, "search_web", "write_x", "delete_y")
        during = run.rows
        audit = run.runtime.audit.path
        assert sum(run.signals.points("aegis.decisions").values()) == 3
    assert not audit.exists()
    assert run.rows == during
    assert [(row["action_type"], row["result_status"]) for row in run.rows] == [
        ("search_web", "success"),
        ("write_x", "success"),
        ("delete_y", "blocked"),
    ]
    assert [decision.matched_rule for decision in run.decisions] == [
        "search_auto",
        "write_asks",
        "block_deletes",
    ]
    assert run.approver.asked == [run.decisions[1]]
    assert len(run.signals.spans("govern_tool")) == len(run.signals.events("aegis.tool.decision")) == 3
    assert_allowed(run, "search_web")
    assert_asked(run, "write_x", answer="approved", rule="write_asks")
    assert_blocked(run, "delete_y")
    assert_not_called(run, "send_mail")


def test_nothing_of_the_machine_reaches_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_MODE", "monitor")
    monkeypatch.setenv("AEGIS_AUDIT_DIR", "/nowhere")
    before = dict(os.environ)
    assert_blocked(ran("delete_x"))
    assert dict(os.environ) == before
    assert not list(Path.cwd().iterdir())


def test_monitor_mode_shows_what_would_be_stopped() -> None:
    run = ran("delete_x", mode="monitor")
    assert_blocked(run)
    assert [row["result_status"] for row in run.rows] == ["success"]


@pytest.mark.parametrize("policy", [Policy.from_dict(POLICY), POLICY, "policy.yaml", Path("policy.yaml")])
def test_a_policy_may_be_given_in_each_form(policy: Any) -> None:
    Path("policy.yaml").write_text("rules: [{name: block_deletes, match: {type: delete_*}, approval: block}]")
    assert_blocked(ran("delete_x", policy=policy), rule="block_deletes")


@pytest.mark.parametrize(
    ("hour", "check"), [(3, assert_blocked), (12, assert_allowed)], ids=["at night", "by day"]
)
@pytest.mark.parametrize("zone", [UTC, None])
def test_the_clock_is_the_tests(hour: int, check: Any, zone: Any) -> None:
    """For a policy by itself and in a run, whose rows begin then."""
    now = datetime(2026, 1, 5, hour, 0, tzinfo=zone)
    check(Policy.from_dict(NIGHT).evaluate(Action("x"), now=now))
    run = ran("x", policy=NIGHT, now=now)
    check(run, "x")
    assert (run.rows[0]["timestamp"] or "").startswith(f"2026-01-05T{hour:02}:00:0")


async def later(decision: PolicyDecision) -> bool:
    return decision.action.type == "write_x"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(True, "approved"), (False, "denied"), (later, "approved"), (RuntimeError("no phone"), "denied")],
)
def test_answers_of_every_kind(answer: Any, outcome: str) -> None:
    assert_asked(ran("write_x", answers=[answer]), answer=outcome)


def failure(check: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    return str(caught.value)


def test_a_question_without_an_answer_fails_the_test() -> None:
    """At the end, for governance takes what an approver raises for a no."""
    said = failure(ran, "write_x", "write_y", "other", answers=[True])
    assert said == "no answer was left for `write_y`, `other`: give more `answers`"


def test_a_failure_of_the_test_itself_comes_first() -> None:
    def run_and_fail() -> None:
        with governed(POLICY, executor=Echo()) as run:
            act(run, "write_x")
            raise KeyError

    with pytest.raises(KeyError):
        run_and_fail()
    assert Instrumentation.current is None


def test_failures_say_what_a_policy_says() -> None:
    decision = Policy.from_dict(POLICY).evaluate(Action("search_web"))
    was = "but `search_web` was allowed by rule `search_auto` (rule `search_auto` matched)"
    assert failure(assert_blocked, decision) == f"expected the call to be blocked, {was}"
    assert failure(assert_asked, decision) == f"expected the call to be asked about, {was}"
    said = failure(assert_allowed, decision, rule="other")
    assert said == f"expected the call to be allowed by rule `other`, {was}"
    assert failure(assert_allowed, decision, "x") == f"expected `x` to be allowed, {was}"


def test_failures_say_what_happened_in_a_run() -> None:
    run = ran("search_web", "write_x", "delete_y", answers=[False])
    calls = (
        "of 3 calls:\n"
        "  `search_web` was allowed by rule `search_auto` (rule `search_auto` matched)\n"
        "  `write_x` was asked about and denied by rule `write_asks` (rule `write_asks` matched)\n"
        "  `delete_y` was blocked by rule `block_deletes` (rule `block_deletes` matched)"
    )
    assert failure(assert_allowed, run, "write_x") == f"expected `write_x` to be allowed, but {calls}"
    assert failure(assert_blocked, run) == f"expected the call to be blocked, but {calls}"
    said = failure(assert_asked, run, "write_x", answer="approved")
    assert said == f"expected `write_x` to be approved, but {calls}"
    assert failure(assert_allowed, run, "send_mail") == f"expected `send_mail` to be allowed, but {calls}"
    assert failure(assert_not_called, run, "delete_y") == f"expected no call of `delete_y`, but {calls}"


def test_a_run_without_calls_says_so() -> None:
    assert failure(assert_allowed, ran(), "x") == "expected `x` to be allowed, but there was no call"
    assert_not_called(ran(), "x")


def test_each_call_of_the_tool_is_meant() -> None:
    """Not only the first, or one of them."""
    run = ran("search_a", "delete_b", "search_a")
    assert_allowed(run, "search_a")
    with pytest.raises(AssertionError, match="expected the call to be allowed"):
        assert_allowed(run)


def test_what_is_wrong_with_the_settings_is_said() -> None:
    with pytest.raises(PolicyNotFound), governed("missing.yaml"):
        pass
    with pytest.raises(TypeError, match="unknown setting `target`"), governed(POLICY, target={}):
        pass
    with governed(POLICY), pytest.raises(ConfigError, match="governed already"), governed(POLICY):
        pass
    assert Instrumentation.current is None


def test_unittest_shows_the_message_and_none_of_the_kits_own_frames() -> None:
    class OfAUser(unittest.TestCase):
        def setUp(self) -> None:
            self.governed = self.enterContext(governed(POLICY, executor=Echo(), instrument=False))

        def runTest(self) -> None:
            act(self.governed, "search_web")
            assert_blocked(self.governed, "search_web")

    result = unittest.TestResult()
    OfAUser().run(result)
    ((_, shown),) = result.failures
    assert "expected `search_web` to be blocked, but `search_web` was allowed" in shown
    assert "aegis_otel/testing.py" not in shown
    assert result.errors == []


def test_a_rule_that_is_only_monitored_blocks_nothing() -> None:
    """Neither a decision nor a run counts as blocked or asked about where the body runs."""
    rules = [
        {"name": "deletes", "match": {"type": "delete"}, "approval": "block", "mode": "monitor"},
        {"name": "writes", "match": {"type": "write"}, "approval": "approve", "mode": "monitor"},
        {"name": "rest", "approval": "auto"},
    ]
    run = ran("delete", "write", policy={"rules": rules})
    for tool, rule in (("delete", "deletes"), ("write", "writes")):
        (decision,) = [each for each in run.decisions if each.action.type == tool]
        assert_allowed(decision, rule=rule)
        assert_allowed(run, tool, rule=rule)
        with pytest.raises(AssertionError):
            assert_blocked(decision)
        with pytest.raises(AssertionError):
            assert_blocked(run, tool)
    monitored = ran("delete", policy={"rules": rules}, mode="monitor")
    assert_blocked(monitored, "delete")  # what enforcement would have done
