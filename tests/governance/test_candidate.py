"""A candidate policy: it is asked about every call for the record alone, and its failures change nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Policy, Runtime
from aegis_otel.model import Result, ResultStatus
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.plan import BaseExecutor
from aegis_otel.runtime.policy_reload import CandidateFiles, CandidateWatchThread
from tests.support.kit import Bench, ScriptedApprover, make_bench

LOOSER: dict[str, Any] = {
    "version": "1",
    "defaults": {"risk_level": "low", "approval": "auto"},
    "rules": [
        {
            "name": "large",
            "match": {"type": "write_*"},
            "conditions": {"param_gt": {"amount": 100}},
            "approval": "block",
        },
    ],
}
TEXT = 'version: "1"\ndefaults: {approval: %s}\n'


class Doing(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = make_bench(tmp_path / "audit", True, True, executor=Doing())
    made.runtime.update_candidate(Policy.from_dict(LOOSER))
    yield made
    made.telemetry.close()


def run(bench: Bench, *actions: Action) -> list[str]:
    async def go() -> list[str]:
        return [(await bench.runtime.run_one(action)).status.value for action in actions]

    return asyncio.run(go())


def candidates(bench: Bench) -> list[tuple[Any, ...]]:
    return [(row["approval"], row["candidate_approval"], row["candidate_rule"]) for row in bench.rows()]


def test_the_candidate_is_on_the_row_and_decides_nothing(bench: Bench) -> None:
    calls = [Action("search"), Action("write_it", params={"amount": 500}), Action("delete_it")]
    assert run(bench, *calls) == ["success", "success", "blocked"]
    assert candidates(bench) == [
        ("auto", "auto", "<default>"),
        ("approve", "block", "large"),
        ("block", "auto", "<default>"),
    ]
    assert {row["policy_digest"] for row in bench.rows()} == {bench.runtime.policy.digest}


def test_the_event_and_the_metric_say_it(bench: Bench) -> None:
    run(bench, Action("delete_it"), Action("delete_it"))
    events = bench.telemetry.events("aegis.tool.decision")
    assert [(each["aegis.candidate.approval"], each["aegis.candidate.rule.name"]) for each in events] == [
        ("auto", "<default>")
    ] * 2
    counts = bench.runtime.recorder._counts.read("aegis.candidate.decisions")
    assert counts["block", "auto", "<default>"] == 2
    assert {labels for labels, count in counts.items() if not count} >= {("approve", "block", "large")}


def test_without_a_candidate_nothing_is_said(tmp_path: Path) -> None:
    bench = make_bench(tmp_path / "audit", executor=Doing())
    run(bench, Action("search"))
    assert candidates(bench) == [("auto", None, None)]
    (event,) = bench.telemetry.events("aegis.tool.decision")
    assert not [key for key in event if key.startswith("aegis.candidate")]
    assert bench.runtime.recorder._counts.read("aegis.candidate.decisions") == {}
    bench.telemetry.close()


def test_a_candidate_that_raises_changes_nothing_and_is_said_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    assert bench.runtime.candidate is not None
    broken = bench.runtime.candidate.compiled
    monkeypatch.setattr(broken, "plan", fail)
    with caplog.at_level(logging.WARNING, "aegis_otel"):
        assert run(bench, Action("search"), Action("search_it")) == ["success", "success"]
    assert candidates(bench) == [("auto", None, None)] * 2
    assert [each.message for each in caplog.records if "candidate" in each.message] == [
        "the candidate policy could not be asked about a call, which changes nothing: "
        "the policy could not be evaluated: MemoryError"
    ]
    assert bench.runtime.recorder._counts.read("aegis.candidate.errors") == {(): 2}


def test_a_call_that_is_decided_anew_after_an_answer_has_what_the_candidate_says_then(tmp_path: Path) -> None:
    """The policy and the candidate are replaced while a human is asked."""

    class Replacing(ScriptedApprover):
        async def request_approval(self, decision: Any) -> Any:
            bench.runtime.update_candidate(Policy.from_text(TEXT % "block"))
            return await super().request_approval(decision)

    bench = make_bench(tmp_path / "audit", approver=Replacing(True), executor=Doing())
    bench.runtime.update_candidate(Policy.from_text(TEXT % "auto"))
    assert run(bench, Action("write_it")) == ["success"]
    assert candidates(bench) == [("approve", "block", "<default>")]
    bench.telemetry.close()


def test_what_is_no_policy_is_no_candidate(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`candidate` is a `dict`"):
        bench.runtime.update_candidate({})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`candidate` is a `str`"):
        Runtime(
            policy=bench.runtime.policy,
            candidate="new.yaml",  # type: ignore[arg-type]
            audit_logger=AuditLogger(tmp_path / "other"),
        )
    bench.runtime.update_candidate(None)
    run(bench, Action("search"))
    assert candidates(bench) == [("auto", None, None)]


def test_a_candidate_that_is_refused_leaves_the_one_before_it(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new.yaml"
    files = CandidateFiles(path, 1.0)

    def settle() -> None:
        files.poll(files.in_force(bench.runtime))
        change = files.poll(files.in_force(bench.runtime))
        assert change is not None
        files.take(change, bench.runtime)

    path.write_text(TEXT % "block")
    files.load(bench.runtime)
    files.begin(files.in_force(bench.runtime))
    path.write_text("version: [")
    settle()
    assert bench.runtime.candidate == Policy.from_text(TEXT % "block")
    assert f"candidate policy `{path}` was refused, which changes no verdict" in caplog.text
    path.write_text(TEXT % "approve")
    settle()
    assert bench.runtime.candidate == Policy.from_text(TEXT % "approve")
    assert bench.runtime.recorder._counts.read("aegis.candidate.errors") == {(): 1}
    assert sum(bench.runtime.recorder._counts.read("aegis.policy.reloads").values()) == 0


def test_a_candidate_that_is_not_there_is_used_once_it_is(bench: Bench, tmp_path: Path) -> None:
    bench.runtime.update_candidate(None)
    path = tmp_path / "new.yaml"
    watch = CandidateWatchThread(bench.runtime, path, 0.02)
    watch.start()
    try:
        assert bench.runtime.candidate is None
        path.write_text(TEXT % "block")

        async def until_used() -> None:
            while bench.runtime.candidate is None:
                await asyncio.sleep(0.01)

        asyncio.run(asyncio.wait_for(until_used(), 10))
    finally:
        watch.stop()
    assert bench.runtime.candidate == Policy.from_text(TEXT % "block")
    assert bench.runtime.recorder._counts.read("aegis.candidate.errors") == {(): 1}
