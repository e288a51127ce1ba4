"""Arguments that the tool has not validated: no form of the call is judged as if the body got them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy
from aegis_otel.model import Result, ResultStatus
from aegis_otel.runtime.plan import BaseExecutor
from tests.support.kit import ScriptedApprover, make_bench

ASKS = Policy.from_text('version: "1"\ndefaults: {approval: approve}\n')
BLOCKS_LARGE = Policy.from_text("""
version: "1"
defaults: {approval: approve}
rules:
  - {name: large, match: {type: pay}, conditions: {param_gt: {amount: 500}}, approval: block}
""")


class Doing(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS)


def unvalidated(*names: str) -> Action:
    first, *others = (Action(name, params={"amount": 5}) for name in names)
    return first.qualify(others).leave_unvalidated()


NAMES = pytest.mark.parametrize("names", [("pay",), ("p\uff41y", "pay"), ("pay", "p\uff41y")])


@NAMES
def test_a_policy_that_reads_arguments_once_a_human_said_yes_blocks_what_may_match(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    class Replacing(ScriptedApprover):
        async def request_approval(self, decision: Any) -> Any:
            bench.runtime.update_policy(BLOCKS_LARGE)
            return await super().request_approval(decision)

    bench = make_bench(tmp_path / "audit", approver=Replacing(True), executor=Doing(), policy=ASKS)
    assert asyncio.run(bench.runtime.run_one(unvalidated(*names))).status is ResultStatus.BLOCKED
    (row,) = bench.rows()
    assert (row["matched_rule"], row["arguments_reading"]) == ("large", "unvalidated")
    bench.telemetry.close()


@NAMES
def test_a_candidate_that_reads_them_says_block_and_leaves_the_call_as_it_is(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    bench = make_bench(tmp_path / "audit", approver=ScriptedApprover(True), executor=Doing(), policy=ASKS)
    bench.runtime.update_candidate(BLOCKS_LARGE)
    action = unvalidated(*names)
    assert asyncio.run(bench.runtime.run_one(action)).status is ResultStatus.SUCCESS
    (row,) = bench.rows()
    assert (row["candidate_approval"], row["candidate_rule"]) == ("block", "large")
    assert [each.doubt for each in (action, *action.forms)] == [None] * len(names)
    bench.telemetry.close()
